"""A start from coarse to fine: the problem is solved on binned maps first.

Binning by 2 x 2 quadruples the counts of a pixel. What few counts leave undecided at full
resolution, such as which element a bright spot belongs to, is decided there and handed on; the
published work starts from a lower resolution against spurious atoms [1]_. The convex linear
model has one optimum, so there the start can only save iterations.

References
----------
.. [1] Schwartz et al., npj Comput. Mater. 8, 16 (2022).
"""

from dataclasses import replace

import numpy as np

__all__ = ["coarsened", "multiresolution_start", "refined"]

# Images are not binned below this many pixels along their shorter side, nor more often.
SMALLEST_SIDE = 32
MOST_LEVELS = 3
# Pixels that are added to one.
BLOCK = 4


def multiresolution_start(problem, solved, levels=None):
    """Maps of the problem from solutions on coarser and coarser grids.

    Parameters
    ----------
    problem : FusionProblem
    solved : callable
        ``solved(problem, initial)`` returns the fused maps of a problem; ``initial`` is None on
        the coarsest grid.
    levels : int, optional
        How often to bin by 2; at most 3 times and to no less than 32 pixels along the shorter
        side if not given.

    Returns
    -------
    (E, R, C) array or None
        None where the images are too small to be binned.
    """
    shape = problem.maps.shape[1:]
    if levels is None:
        levels = int(np.clip(np.log2(min(shape) / SMALLEST_SIDE), 0, MOST_LEVELS))
    if levels == 0:
        return None
    coarse = coarsened(problem)
    start = multiresolution_start(coarse, solved, levels - 1)
    return refined(solved(coarse, start), shape)


def coarsened(problem):
    """The problem on maps binned by 2 x 2.

    Counts and their background are added, HAADF image and strengths are averaged. All weights
    follow from that: the objective of smooth maps is nearly the same on both grids.

    Parameters
    ----------
    problem : FusionProblem

    Returns
    -------
    FusionProblem
        With rows and columns halved, rounded up; the last ones of odd sizes count twice.
    """
    haadf, noise = _coarse_haadf(problem)
    return replace(
        problem,
        maps=_sum(np.asarray(problem.maps, dtype=float)),
        background=_sum(problem.background),
        lower_bound=BLOCK * problem.lower_bound,
        # Variances add.
        noise=np.sqrt(_sum(problem.noise**2)),
        haadf=haadf,
        haadf_noise=noise,
        # One count more in a block is a quarter of one in each of its pixels.
        weights=problem.weights / BLOCK,
        # Half as many pixels along an edge, and four times its height.
        lambda_tv=problem.lambda_tv / 2,
        regularization_weights=_mean_or_none(problem.regularization_weights),
        guide=_mean_or_none(problem.guide),
        reference=_mean_or_none(problem.reference),
        reference_scale=BLOCK * problem.reference_scale,
    )


def _coarse_haadf(problem):
    """Mean of the pixels that are used, and its standard deviation."""
    if problem.haadf is None:
        return None, problem.haadf_noise
    if problem.haadf_noise.ndim == 0:
        return _mean(np.asarray(problem.haadf, dtype=float)), problem.haadf_noise / 2
    used = np.isfinite(problem.haadf_noise)
    number = _sum(used.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        haadf = _sum(np.where(used, problem.haadf, 0.0)) / number
        noise = np.sqrt(_sum(np.where(used, problem.haadf_noise, 0.0) ** 2)) / number
    return np.where(number > 0, haadf, 0.0), np.where(number > 0, noise, np.inf)


def _sum(array):
    """Sum of blocks of 2 x 2 pixels, the last ones of odd sizes repeated; (E, 1, 1) as images."""
    if array.shape[-2:] == (1, 1):
        return BLOCK * array
    odd = [(0, 0)] * (array.ndim - 2) + [(0, size % 2) for size in array.shape[-2:]]
    even = np.pad(array, odd, mode="edge")
    rows, columns = even.shape[-2:]
    blocks = even.reshape(even.shape[:-2] + (rows // 2, 2, columns // 2, 2))
    return blocks.sum(axis=(-3, -1))


def _mean(array):
    return _sum(array) / BLOCK


def _mean_or_none(array):
    return None if array is None else _mean(array)


def refined(maps, shape):
    """Maps on the grid of twice the resolution, by linear interpolation between pixel centres.

    Parameters
    ----------
    maps : (E, r, c) array
        Counts per coarse pixel.
    shape : tuple of int
        Rows and columns wanted; r and c are their halves, rounded up.

    Returns
    -------
    (E, R, C) array
        Counts per fine pixel.

    Examples
    --------
    >>> import numpy as np
    >>> refined(np.array([[[4.0, 8.0]]]), (2, 4))
    array([[[1.  , 1.25, 1.75, 2.  ],
            [1.  , 1.25, 1.75, 2.  ]]])
    """
    fine = _refined_along(_refined_along(maps, 1), 2)
    return fine[:, : shape[0], : shape[1]] / BLOCK


def _refined_along(maps, axis):
    """Centres of fine pixels lie a quarter of a coarse pixel beside those of coarse pixels."""
    maps = np.moveaxis(maps, axis, -1)
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 1) + [(1, 1)], mode="edge")
    before = 0.75 * maps + 0.25 * padded[..., :-2]
    after = 0.75 * maps + 0.25 * padded[..., 2:]
    fine = np.stack([before, after], axis=-1).reshape(maps.shape[:-1] + (-1,))
    return np.moveaxis(fine, -1, axis)
