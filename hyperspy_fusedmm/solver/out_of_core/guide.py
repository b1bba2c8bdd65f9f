"""What an image that is not in memory does to the regularization: direction, and reference."""

import dask.array as da
import numpy as np

from ..smoothing import (
    BLUR_WIDTHS,
    TRUNCATE,
    _kernel,
    blur,
    estimate_noise,
    fill_left_out,
)
from ..strength import guide_of
from .grid import working_grid

__all__ = ["guide_scale", "lazy_haadf_guide", "lazy_haadf_reference"]

# The forward difference reaches one pixel farther than the blur.
REACH = int(TRUNCATE * max(BLUR_WIDTHS) + 0.5) + 1
# Of pixels that are left out only those matter that a blur of others reaches, and so from no
# farther than along the diagonal of its square comes what they are filled with.
FILLED_FROM = int(np.ceil(np.sqrt(2) * REACH)) + 1
CHUNK = 1024


def guide_scale(tiles, cut=(False, False), left_out=None):
    """Noise of the image and the blur that its gradient needs, from parts of it.

    Parameters
    ----------
    tiles : list of (r, c) arrays
        The whole image, or tiles that represent it.
    cut : tuple of bool, default (False, False)
        Whether the tiles are cut out of the image along rows and along columns. What lies near
        such an edge does not count: a blur cannot look across it.
    left_out : list of (r, c) bool arrays, optional
        Pixels that are not to be looked at.

    Returns
    -------
    noise : float
    width : float
        Sigma in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(5.0, 1.0, (128, 128))
    >>> noise, width = guide_scale([image])
    >>> print(f"{noise:.1f} {width:.1f}")
    1.0 8.0
    """
    tiles = [np.asarray(tile, dtype=np.float32) for tile in tiles]
    if left_out is not None and not all(mask.all() for mask in left_out):
        tiles = [fill_left_out(tile, mask) for tile, mask in zip(tiles, left_out) if not mask.all()]
    mean = np.mean([tile.mean(dtype=float) for tile in tiles])
    noise = float(np.median([estimate_noise(tile[None])[0] for tile in tiles]))
    tiles = [tile - mean for tile in tiles]
    inner = tuple(
        slice(margin, length - margin)
        for length, margin in (
            (n, min(REACH, (n - 1) // 2) if is_cut else 0) for n, is_cut in zip(tiles[0].shape, cut)
        )
    )
    pixels = sum(tile[inner].size for tile in tiles)
    best = (np.inf, 0.0)
    for width in BLUR_WIDTHS:
        if TRUNCATE * width > max(max(tile.shape) for tile in tiles):
            break
        centre = float(_kernel(width).max() ** 2)
        risk = 2 * centre * noise**2 * pixels
        for tile in tiles:
            smooth = blur(tile, width)[inner]
            risk += float((smooth * (smooth - 2 * tile[inner])).sum(dtype=float))
        best = min(best, (risk, width))
    return noise, best[1]


def lazy_haadf_guide(haadf, scale, haadf_noise=None, chunk=CHUNK):
    """Where and along which direction a lazy image shows an edge, as `haadf_guide` has it.

    The mean of the image is computed at once, in one pass over it.

    Parameters
    ----------
    haadf : (R, C) dask array
    scale : tuple of float
        As `guide_scale` returns it.
    haadf_noise : float or (R, C) array, optional
        Where it is infinite the image is not looked at.
    chunk : int, default 1024
        Rows and columns to work on at a time.

    Returns
    -------
    (2, R, C) float32 dask array

    Examples
    --------
    >>> import dask.array as da
    >>> lazy_haadf_guide(da.ones((64, 64), chunks=32), (0.1, 2.0)).shape
    (2, 64, 64)
    """
    guide, left_out = _of_smooth(haadf, scale, haadf_noise, chunk, _guide, 2)
    return guide if left_out is None else da.where(left_out, np.float32(0), guide)


def lazy_haadf_reference(haadf, scale, haadf_noise=None, chunk=CHUNK):
    """The image that the regularization is relative to, as `haadf_reference` has it, of a lazy image.

    Parameters
    ----------
    haadf, scale, haadf_noise, chunk
        As `lazy_haadf_guide`, which computes the mean of the image at once as well.

    Returns
    -------
    (R, C) float32 dask array

    Examples
    --------
    >>> import dask.array as da
    >>> lazy_haadf_reference(da.ones((64, 64), chunks=32), (0.1, 2.0)).shape
    (64, 64)
    """
    return _of_smooth(haadf, scale, haadf_noise, chunk, _reference, 1)[0][0]


def _of_smooth(haadf, scale, haadf_noise, chunk, function, planes):
    """What a function makes of the image less its mean, (planes, R, C), and the pixels that are left out, if any.

    The function is called as ``function(block, (mean, noise, width))``.
    """
    image = haadf[np.newaxis].astype(np.float32)
    image = image.rechunk(working_grid(image.shape, max(chunk, 2 * FILLED_FROM)))
    left_out, seen = None, image
    if np.ndim(haadf_noise) == 2:
        left_out = da.isinf(da.asarray(haadf_noise))[np.newaxis].rechunk(image.chunks)
        seen = da.where(left_out, np.float32(np.nan), image)
        image = da.map_overlap(
            _filled, image, left_out, depth={0: 0, 1: FILLED_FROM, 2: FILLED_FROM}, boundary="none",
            dtype=np.float32, meta=np.zeros((0, 0, 0), np.float32),
        )  # fmt: skip
    # With another mean the image rounds differently, of which its gradient has most.
    mean = float(da.nanmean(seen, dtype=float).compute())
    depth, boundary = {0: 0, 1: REACH, 2: REACH}, {0: "none", 1: "none", 2: "none"}
    padded = da.overlap.overlap(image, depth, boundary)
    found = padded.map_blocks(
        function, (mean, *scale), chunks=((planes,),) + padded.chunks[1:], dtype=np.float32,
        meta=np.zeros((0, 0, 0), np.float32),
    )  # fmt: skip
    return da.overlap.trim_internal(found, depth, boundary), left_out


def _filled(block, left_out):
    """NaN where there is nothing to fill with: too far off for any pixel that is looked at."""
    if left_out.all():
        return np.full_like(block, np.nan)
    return fill_left_out(block[0], left_out[0])[np.newaxis]


def _guide(block, scale):
    return guide_of(_smooth(block, scale), *scale[1:])


def _reference(block, scale):
    return _smooth(block, scale)[np.newaxis]


def _smooth(block, scale):
    mean, _, width = scale
    # In the precision of the image in memory, so that both agree to the last digit.
    image = (block[0] - np.float64(mean)).astype(np.float32)
    return blur(image, width) if width else image
