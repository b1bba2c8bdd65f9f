"""How much of a fused value comes from the HAADF image, and how far the weights move a composition."""

from dataclasses import replace

import numpy as np

from .composition import atomic_fractions, kept_counts
from .representative import cropped, representative_tiles
from .solve import solve

__all__ = ["composition_moves", "haadf_influence"]

# Changes are a tenth too small at 1e-3 and right within a hundredth at 1e-4.
TOLERANCE = 3e-4
MAX_ITERATIONS = 600
# Pixels with less than this part of the atoms of a typical pixel of the specimen have no composition.
LEAST_ATOMS = 0.05


def haadf_influence(problem, maps):
    r"""Share of the information on every fused value that the HAADF image brings.

    At every pixel, with the slope :math:`s_i` of the image with map i and its noise :math:`\sigma`,

    .. math::

        \frac{\lambda_H s_i^2 / \sigma^2}{\lambda_H s_i^2 / \sigma^2 + \lambda_c / (x_i + \epsilon_i)}

    the diagonal of the Fisher information of the HAADF term over that of both terms, all other maps taken
    for known. Gaussian maps have :math:`1 / n_i^2` in place of :math:`1 / (x_i + \epsilon_i)`.

    Parameters
    ----------
    problem : FusionProblem
    maps : (E, R, C) array
        Its solution.

    Returns
    -------
    (E, R, C) float32 array
        From 0, the counts alone, to 1, the image alone.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem
    >>> counts, image = np.full((1, 2, 2), 4.0), np.full((2, 2), 8.0)
    >>> problem = FusionProblem(counts, haadf=image, weights=[2.0], haadf_noise=2.0)
    >>> round(float(haadf_influence(problem, counts)[0, 0, 0]), 3)    # 1 of 1 + 1/4
    0.8
    """
    precision = problem.lambda_haadf / np.square(problem.haadf_noise)
    share = np.empty(np.shape(maps), np.float32)
    for e, (values, weight) in enumerate(zip(maps, problem.weights)):
        values = np.maximum(np.asarray(values, dtype=float), 0.0)
        slope = weight
        if problem.forward == "power":
            slope = problem.gamma * weight * (weight * values) ** (problem.gamma - 1)
        variance = problem.noise[e] ** 2
        if problem.fidelity[e] == "poisson":
            variance = values + problem.background[e]
        # Information over that of the counts, which is infinite where nothing is expected.
        relative = precision * slope**2 * variance / problem.lambda_chem
        share[e] = relative / (1 + relative)
    return share


def composition_moves(
    problem, maps, sensitivities, uncertainty, *, keep_totals=True, num_workers=None, callback=None
):
    """How far the composition moves when a HAADF weight does.

    Each weight is made larger, and smaller, while all else stays, and the maps are fitted again.

    Parameters
    ----------
    problem : FusionProblem
    maps : (E, R, C) array
        Its solution, where the fits start.
    sensitivities : (E,) array
        Counts that one atom yields, up to one factor.
    uncertainty : float
        Relative change of the weights.
    keep_totals : bool, default True
        Scale maps to the totals of the counts first.
    num_workers : int, optional
        Threads.
    callback : callable, optional
        Called as ``callback(done, expected)`` after each fit.

    Returns
    -------
    (E, E) array
        Root mean square, over the pixels in proportion to their atoms, of the change of the atomic percent of
        each element (last axis) by each weight (first axis), the larger one of both directions.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem
    >>> counts = np.random.default_rng(0).poisson(9.0, (2, 16, 16))
    >>> problem = FusionProblem(counts, haadf=np.full((16, 16), 12.0), weights=[1, 1 / 3], haadf_noise=0.1)
    >>> moves = composition_moves(problem, solve(problem).maps, [1, 1], 0.06)
    >>> moves.shape, bool((moves > 0).all())
    ((2, 2), True)
    """
    elements = range(len(problem.maps))
    tiles = representative_tiles(problem.maps)
    sums, atoms, done = np.zeros((len(problem.maps), 2, len(problem.maps))), 0.0, 0
    for tile in tiles:
        part, start = cropped(problem, tile), np.asarray(maps[(...,) + tile])

        def fractions(weights, start=start, part=part):
            found = solve(
                replace(part, weights=weights), tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS,
                initial=start, num_workers=num_workers,
            ).maps.astype(float)  # fmt: skip
            if keep_totals:
                found /= kept_counts(found, part.maps - part.background)[:, None, None]
            return found, atomic_fractions(found, sensitivities)

        unmoved, before = fractions(part.weights)
        of_pixel = (unmoved / np.reshape(sensitivities, (-1, 1, 1))).sum(axis=0)
        of_pixel[of_pixel < LEAST_ATOMS * _typical(of_pixel)] = 0.0
        atoms += of_pixel.sum()
        for e in elements:
            for k, factor in enumerate((1 + uncertainty, 1 - uncertainty)):
                weights = np.where(np.arange(len(part.weights)) == e, factor, 1.0) * part.weights
                _, after = fractions(weights, unmoved.astype(np.float32))
                square = np.where(of_pixel > 0, np.nan_to_num(after - before) ** 2, 0.0)
                sums[e, k] += (of_pixel * square).sum(axis=(1, 2))
                done += 1
                if callback is not None:
                    callback(done, 2 * len(elements) * len(tiles))
    return 100 * np.sqrt(sums.max(axis=1) / max(atoms, 1e-300))


def _typical(atoms):
    """Atoms of a pixel as an atom sees it: the mean over the atoms, not the pixels."""
    return float((atoms**2).sum() / max(atoms.sum(), 1e-300))
