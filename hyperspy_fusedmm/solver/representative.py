"""Parts of an image on which everything that is chosen from the data is chosen."""

from dataclasses import replace

import numpy as np

__all__ = ["cropped", "pixelwise", "representative_tiles"]

# Pixels along a side of a tile, and how many tiles of how many maps there are at most. An image of
# up to as many pixels as the tiles have is taken whole.
TILE, TILES, MAPS = 128, 4, 36


def representative_tiles(maps):
    """Where to look: the whole of a small image, a few tiles of a large one.

    The tiles depend on the image alone, never on how it is chunked. There are four of up to nine
    maps, fewer of more maps. They are those that hold the
    most of every element: each next one adds the most to the sum over the elements of the root of
    the share of its counts that the tiles hold.

    Parameters
    ----------
    maps : (E, R, C) array

    Returns
    -------
    list of tuple of slice
        Rows and columns of each tile.

    Examples
    --------
    >>> import numpy as np
    >>> representative_tiles(np.ones((1, 100, 90)))
    [(slice(0, 100, None), slice(0, 90, None))]
    >>> len(representative_tiles(np.ones((1, 512, 512))))
    4
    """
    elements, rows, columns = maps.shape
    count = min(TILES, max(MAPS // elements, 1))
    if rows * columns <= count * TILE**2:
        return [(slice(0, rows), slice(0, columns))]
    spans = [_spans(rows), _spans(columns)]
    tiles = [(r, c) for r in spans[0] for c in spans[1]]
    totals = np.array([[np.abs(m[tile]).sum(dtype=float) for tile in tiles] for m in maps])
    shares = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1e-300)
    held, chosen = np.zeros((len(maps), 1)), []
    for _ in range(min(count, len(tiles))):
        gain = np.sqrt(held + shares).sum(axis=0)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
        held = held + shares[:, chosen[-1:]]
    return [tiles[k] for k in sorted(chosen)]


def _spans(length):
    """Pieces of an axis of about `TILE` pixels, as equal as whole pixels allow."""
    edges = np.linspace(0, length, max(round(length / TILE), 1) + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in zip(edges, edges[1:])]


def pixelwise(problem):
    """The arrays of a problem that hold a value per pixel, by name.

    Parameters
    ----------
    problem : FusionProblem

    Returns
    -------
    dict
    """
    whole = problem.maps.shape[1:]
    names = (
        "maps", "haadf", "haadf_noise", "background", "noise", "guide", "reference",
        "regularization_weights",
    )  # fmt: skip
    return {n: value for n in names if np.shape(value := getattr(problem, n))[-2:] == whole}


def cropped(problem, tile):
    """The problem of a part of the image; what follows from the whole image must be given.

    Parameters
    ----------
    problem : FusionProblem
    tile : tuple of slice
        Rows and columns.

    Returns
    -------
    FusionProblem
    """
    found = pixelwise(problem)
    return replace(problem, **{n: np.ascontiguousarray(v[(...,) + tile]) for n, v in found.items()})
