"""Pixelwise strength of the regularization of maps that are not in memory."""

import dask
import dask.array as da
import numpy as np

from ..smoothing import BLUR_WIDTHS, TRUNCATE, _kernel, blur
from ..strength import LOWEST_PILOT
from .grid import working_grid

__all__ = ["lazy_pilot_weights"]

REACH = int(TRUNCATE * max(BLUR_WIDTHS) + 0.5)
CHUNK = 1024


def lazy_pilot_weights(maps, fidelity="poisson", chunk=CHUNK):
    """Relative strength of the regularization at every pixel, as `pilot_weights` has it.

    The width of the blur is chosen from the whole image in one pass over it; the weights
    themselves stay lazy.

    Parameters
    ----------
    maps : (E, R, C) dask array
    fidelity : str or sequence of E str, default "poisson"
    chunk : int, default 1024
        Rows and columns to work on at a time.

    Returns
    -------
    (E, R, C) float32 dask array

    Examples
    --------
    >>> import dask.array as da
    >>> lazy_pilot_weights(da.ones((1, 64, 64), chunks=32)).compute().max()
    np.float32(1.0)
    """
    elements = maps.shape[0]
    fidelity = (fidelity,) * elements if isinstance(fidelity, str) else tuple(fidelity)
    poisson = tuple(entry == "poisson" for entry in fidelity)
    maps = maps.rechunk(working_grid(maps.shape, max(chunk, 2 * REACH)))
    widths = [w for w in BLUR_WIDTHS if TRUNCATE * w <= max(maps.shape[1:])]
    padded = da.overlap.overlap(maps, {0: 0, 1: REACH, 2: REACH}, {0: "none", 1: "none", 2: "none"})
    blocks = padded.to_delayed()[0]
    measure = dask.delayed(_measure, pure=True)
    parts = [
        measure(blocks[i, j], _trims(blocks.shape, i, j), poisson, widths)
        for i in range(blocks.shape[0])
        for j in range(blocks.shape[1])
    ]
    # (E, widths + 1, 2): risk without the counts' own share, and sum of the blurred counts.
    sums = dask.delayed(_add)(parts).compute()
    chosen = []
    for e in range(elements):
        total = sums[e, 0, 1]
        centres = [float(_kernel(w).max() ** 2) for w in widths]
        risks = [np.inf] + [sums[e, k + 1, 0] + 2 * c * total for k, c in enumerate(centres)]
        best = int(np.argmin(risks))
        mean = sums[e, best, 1] / (maps.shape[1] * maps.shape[2])
        width = widths[best - 1] if best else 0.0
        chosen.append((width, mean) if poisson[e] and total > 0 else (None, 1.0))
    return da.map_overlap(
        _weights, maps, depth={0: 0, 1: REACH, 2: REACH}, boundary="none", dtype=np.float32,
        chosen=chosen, meta=np.zeros((0, 0, 0), np.float32),
    )  # fmt: skip


def _add(parts):
    return np.sum(parts, axis=0)


def _trims(count, i, j):
    """Which part of a padded block is its own."""
    return tuple(
        slice(REACH if k > 0 else 0, -REACH if k < n - 1 else None) for k, n in zip((i, j), count)
    )


def _measure(block, trims, poisson, widths):
    sums = np.zeros((len(block), len(widths) + 1, 2))
    for e, counts in enumerate(block):
        if not poisson[e]:
            continue
        counts = np.asarray(counts, dtype=np.float32)
        data = counts[trims]
        sums[e, 0, 1] = data.sum(dtype=float)
        for k, width in enumerate(widths):
            smooth = blur(counts, width)[trims]
            sums[e, k + 1, 0] = (smooth * (smooth - 2 * data)).sum(dtype=float)
            sums[e, k + 1, 1] = smooth.sum(dtype=float)
    return sums


def _weights(block, chosen):
    weights = np.ones(block.shape, np.float32)
    for e, (width, mean) in enumerate(chosen):
        if width is not None:
            pilot = blur(block[e], width) if width else np.asarray(block[e], np.float32)
            relative = pilot / mean
            np.maximum(relative, LOWEST_PILOT, out=relative)
            weights[e] = relative**-0.5
    return weights
