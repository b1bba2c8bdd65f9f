"""The part of an image on which everything that is chosen from the data is chosen."""

import dask
import numpy as np

__all__ = ["TILES", "is_sampled", "sample", "sample_tiles"]

# At most this many rows and columns: the whole image if it is not larger, else this many tiles
# along each axis, spread evenly over it, whatever its chunks.
SAMPLE, TILES = 1024, 8


def is_sampled(shape):
    """Whether an image (R, C) is too large to be looked at as a whole."""
    return max(shape) > SAMPLE


def sample(*arrays):
    """Parts of images (..., R, C) of the same size, loaded together.

    Parameters
    ----------
    *arrays : NumPy or Dask arrays

    Returns
    -------
    list of arrays
        The tiles side by side, in the types of the arrays.
    """
    tiles = [
        [[array[..., r, c] for c in _spans(array.shape[-1])] for r in _spans(array.shape[-2])]
        for array in arrays
    ]
    return [np.block(found) for found in dask.compute(*tiles)]


def sample_tiles(image, shape):
    """What `sample` put side by side.

    Parameters
    ----------
    image : (r, c) array
    shape : tuple of int
        Rows and columns of the image it was taken from.

    Returns
    -------
    list of arrays
    """
    edges = [np.cumsum([s.stop - s.start for s in _spans(n)])[:-1] for n in shape]
    return [tile for band in np.split(image, edges[0]) for tile in np.split(band, edges[1], axis=1)]


def _spans(length):
    if length <= SAMPLE:
        return [slice(0, length)]
    size = SAMPLE // TILES
    starts = np.linspace(0, length - size, TILES).round().astype(int)
    return [slice(int(start), int(start) + size) for start in starts]
