"""The published algorithm, for reproduction: gradient steps of unit length and a few steps of TV.

Each iteration takes a gradient step on HAADF term and likelihood together, sets negative values
to zero and takes an inexact proximal step of the total variation of every map [1]_ [2]_. The
unit step suits maps and images scaled to [0, 1], as published. Unlike the primal-dual method it
has no stopping rule and no certificate, and what it converges to is not the minimum of the
objective: values are clipped before, not in, the step of TV, of which a few inner iterations
do not reach the end.

References
----------
.. [1] Schwartz et al., npj Comput. Mater. 8, 16 (2022).
.. [2] Manassa et al., Elemental Microscopy (2024).
"""

import numpy as np

from .operators import adjoint_gradient, gradient, remove_guided
from .primal_dual import Solution

__all__ = [
    "haadf_gradient",
    "likelihood_gradient",
    "solve_gradient_descent",
    "total_variation_prox",
]

HISTORY = ("iteration", "haadf", "chem", "tv", "total")
# Square of the norm of the gradient operator, at most.
GRADIENT_NORM_SQUARE = 8.0


def haadf_gradient(problem, x):
    """Derivative of the HAADF term with respect to the maps.

    Parameters
    ----------
    problem : FusionProblem
    x : (E, R, C) array

    Returns
    -------
    (E, R, C) array
    """
    if problem.haadf is None or problem.lambda_haadf == 0:
        return np.zeros_like(x)
    precision = problem.lambda_haadf / problem.haadf_noise**2
    misfit = (problem.haadf_model(x) - problem.haadf) * precision
    weights = problem.weights[:, None, None].astype(x.dtype)
    slope = weights
    if problem.forward == "power":
        slope = problem.gamma * weights * (weights * x) ** (problem.gamma - 1)
    return (slope * misfit).astype(x.dtype, copy=False)


def likelihood_gradient(problem, x):
    """Derivative of the likelihood of the maps.

    Parameters
    ----------
    problem : FusionProblem
    x : (E, R, C) array

    Returns
    -------
    (E, R, C) array
        Minus infinity where there are counts but none are expected.
    """
    slope = np.empty_like(x)
    for e, measured in enumerate(problem.maps):
        if problem.fidelity[e] == "gaussian":
            slope[e] = (x[e] - measured) / problem.noise[e] ** 2
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = measured / (x[e] + problem.background[e])
        slope[e] = problem.count_slope[e] - np.where(measured > 0, ratio, 0)
    return problem.lambda_chem * slope


def total_variation_prox(images, strength, iterations, guide=None):
    r"""Fast gradient projection [1]_ towards the proximal map of total variation,

    .. math:: \arg\min_{x \ge 0} \frac12 |x - b|^2 + \sum_p \rho(p) |D \nabla x(p)|.

    Parameters
    ----------
    images : (E, R, C) array
        The images b.
    strength : (E, R, C) or (E, 1, 1) array
        Strength rho per pixel or per image, lambda included.
    iterations : int
        Steps on the dual problem, with momentum, from zero.
    guide : (2, R, C) array, optional
        Vector a of D = I - a a'.

    Returns
    -------
    (E, R, C) array
        >= 0; the images themselves, without their negative values, for 0 iterations.

    References
    ----------
    .. [1] Beck & Teboulle, IEEE Trans. Image Process. 18, 2419 (2009), algorithm FGP.

    Examples
    --------
    >>> import numpy as np
    >>> edge = np.array([[[0.0, 0.0, 1.0, 1.0]]])
    >>> total_variation_prox(edge, np.array([[[0.1]]]), iterations=200).round(3)
    array([[[0.05, 0.05, 0.95, 0.95]]])
    """
    strength = strength.astype(images.dtype)
    moving = before = np.zeros(images.shape[:1] + (2,) + images.shape[1:], images.dtype)
    momentum = 1.0

    def primal(field):
        return np.maximum(images - adjoint_gradient(remove_guided(field, guide)), 0)

    for _ in range(iterations):
        ascent = remove_guided(gradient(primal(moving)), guide)
        field = _project(moving + ascent / images.dtype.type(GRADIENT_NORM_SQUARE), strength)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        moving = field + images.dtype.type((momentum - 1) / following) * (field - before)
        before, momentum = field, following
    return primal(before)


def _project(field, radius):
    """Shorten the vectors of a (E, 2, R, C) field to at most ``radius``."""
    norm = np.sqrt((field**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(norm > radius, radius / norm, 1)
    return field * share[:, None].astype(field.dtype, copy=False)


def solve_gradient_descent(problem, *, max_iterations, tv_iterations, initial, callback):
    """Run the published algorithm; see `hyperspy_fusedmm.solver.solve`."""
    if problem.regularization != "tv":
        raise ValueError(
            'method="gradient-descent" knows regularization="tv" only; '
            f"it is {problem.regularization!r}."
        )
    dtype = np.result_type(problem.maps.dtype, np.float32)
    start = problem.maps if initial is None else initial
    x = np.maximum(start, 0).astype(dtype)
    strength = problem.strengths()
    records = []
    for iteration in range(max_iterations + 1):
        if iteration > 0:
            x = x - haadf_gradient(problem, x) - likelihood_gradient(problem, x)
            x = total_variation_prox(np.maximum(x, 0), strength, tv_iterations, problem.guide)
        terms = problem.objective(x)
        if not np.isfinite(terms["total"]):
            raise ValueError(_diverged(iteration))
        records.append((iteration, *terms.values()))
        if callback is not None:
            callback(iteration, max_iterations, np.nan)
    return Solution(
        maps=x.astype(np.float32),
        haadf_fit=None if problem.haadf is None else problem.haadf_model(x).astype(np.float32),
        iterations=max_iterations,
        converged=False,
        gap=np.nan,
        relative_gap=np.nan,
        history=dict(zip(HISTORY, np.array(records, dtype=float).T)),
        state=None,
        count_slope=problem.count_slope,
    )


def _diverged(iteration):
    return (
        f'method="gradient-descent" left the finite numbers at iteration {iteration}: its step of '
        "length 1 suits maps and images scaled to [0, 1] and a background of Poisson maps that is "
        'not small beside 1. Scale them, or use method="primal-dual", which needs neither.'
    )
