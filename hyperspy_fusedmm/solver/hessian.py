"""How well the counts and the HAADF image of one pixel alone determine its maps.

At every pixel the Hessian of HAADF term and likelihood is a diagonal matrix, the curvature of the
likelihood, plus a matrix of rank one, that of the HAADF term, so its inverse has a closed form
(Sherman & Morrison). By the inequality of Cramer and Rao the diagonal of the inverse of the Fisher
information bounds the variance of every unbiased estimate from that pixel alone [1]_. Regularization,
which shares information among pixels, is left out: fused maps may be, and should be, far better.

References
----------
.. [1] Schwartz et al., npj Comput. Mater. 8, 16 (2022).
"""

import numpy as np
from numba import njit

from ._rows import GAUSSIAN, POISSON

__all__ = ["INFORMATION", "hessian_covariance", "hessian_variance"]

INFORMATION = ("observed", "expected")
# Stands for the infinite variance of a likelihood without curvature. Squares of it and of the
# precision of any HAADF image stay finite in double precision.
UNKNOWN = 1e60


@njit(nogil=True, cache=True, error_model="numpy")
def _slopes(x, weight, gamma, power):
    """Change of the HAADF intensity with each map at one row, (C,)."""
    slopes = np.full(x.shape[0], weight)
    if power:
        for c in range(x.shape[0]):
            slopes[c] *= gamma * (weight * max(x[c], 0.0)) ** (gamma - 1.0)
    return slopes


@njit(nogil=True, cache=True, error_model="numpy")
def _row_terms(
    r, x, counts, background, noise, poisson, chem, weights, gamma, power, precision, observed
):
    """Slopes of the HAADF image and variances by the likelihood alone at one row, (E, C) each."""
    elements, columns = x.shape[0], x.shape[2]
    slopes, variances = np.empty((elements, columns)), np.empty((elements, columns))
    # 1 per element that only the HAADF image determines, 2 if not even that does.
    free = np.zeros(columns, np.int64)
    rho = precision[min(r, precision.shape[0] - 1)]
    for e in range(elements):
        slopes[e] = _slopes(x[e, r], weights[e], gamma, power)
        if not poisson[e]:
            level = noise[e, min(r, noise.shape[1] - 1)]
            for c in range(columns):
                variances[e, c] = level[c] ** 2 / chem
        else:
            level = background[e, min(r, background.shape[1] - 1)]
            for c in range(columns):
                mean = max(x[e, r, c], 0.0) + level[c]
                found = np.float64(counts[e, r, c])
                if observed:
                    nothing = found == 0
                    variances[e, c] = UNKNOWN if nothing else mean * mean / (found * chem)
                    unseen = rho[c] * slopes[e, c] ** 2 == 0
                    free[c] += nothing * (1 + unseen)
                else:
                    variances[e, c] = mean / chem
    if observed:
        for c in range(columns):
            if free[c] > 1:
                for e in range(elements):
                    if poisson[e]:
                        level = background[e, min(r, background.shape[1] - 1)]
                        mean = max(x[e, r, c], 0.0) + level[c]
                        variances[e, c] = mean / chem
    return slopes, variances


@njit(nogil=True, cache=True, error_model="numpy")
def _variance(
    x, counts, background, noise, poisson, chem, weights, gamma, power, precision, observed, out
):
    elements, columns = x.shape[0], x.shape[2]
    shares, others = np.empty((elements, columns)), np.empty(columns)
    for r in range(x.shape[1]):
        slopes, variances = _row_terms(
            r, x, counts, background, noise, poisson, chem, weights, gamma, power, precision,
            observed,
        )  # fmt: skip
        rho = precision[min(r, precision.shape[0] - 1)]
        for e in range(elements):
            for c in range(columns):
                shares[e, c] = rho[c] * slopes[e, c] ** 2 * variances[e, c]
        for e in range(elements):
            # Not the sum over all less its own, which may be infinitely larger than the rest.
            others[:] = 1.0
            for j in range(elements):
                if j != e:
                    for c in range(columns):
                        others[c] += shares[j, c]
            for c in range(columns):
                out[e, r, c] = variances[e, c] * (others[c] / (others[c] + shares[e, c]))


@njit(nogil=True, cache=True, error_model="numpy")
def _covariance(
    x, counts, background, noise, poisson, chem, weights, gamma, power, precision, observed, out
):
    elements, columns = x.shape[0], x.shape[2]
    for r in range(x.shape[1]):
        slopes, variances = _row_terms(
            r, x, counts, background, noise, poisson, chem, weights, gamma, power, precision,
            observed,
        )  # fmt: skip
        rho = precision[min(r, precision.shape[0] - 1)]
        for c in range(columns):
            q = rho[c]
            total = 1.0
            for e in range(elements):
                total += q * slopes[e, c] ** 2 * variances[e, c]
            for i in range(elements):
                for j in range(i + 1, elements):
                    shared = q * slopes[i, c] * variances[i, c] * slopes[j, c] / total
                    out[i, j, r, c] = out[j, i, r, c] = -shared * variances[j, c]


def _arguments(problem, maps, information):
    """Arrays of the kernels: what is the same for all rows keeps one."""
    if information not in INFORMATION:
        raise ValueError(f"information must be one of {INFORMATION}; it is {information!r}.")
    maps = np.asarray(maps)
    if maps.shape != problem.maps.shape:
        raise ValueError(
            f"maps must have the shape {problem.maps.shape} of the measured maps; "
            f"their shape is {maps.shape}."
        )
    fidelity = [{"poisson": POISSON, "gaussian": GAUSSIAN}[f] for f in problem.fidelity]
    precision = problem.lambda_haadf / np.atleast_2d(np.asarray(problem.haadf_noise, float)) ** 2
    background, noise, precision = (
        np.ascontiguousarray(np.broadcast_to(a, a.shape[:-1] + maps.shape[-1:]), dtype=float)
        for a in (problem.background, problem.noise, precision)
    )
    return (
        maps,
        problem.maps,
        background,
        noise,
        np.array(fidelity) == POISSON,
        float(problem.lambda_chem),
        np.asarray(problem.weights, dtype=float),
        float(problem.gamma),
        problem.forward == "power",
        precision,
        information == "observed",
    )


def hessian_variance(problem, maps, information="observed"):
    """Variance of each map at each pixel by the counts and the HAADF image of that pixel.

    Parameters
    ----------
    problem : FusionProblem
    maps : (E, R, C) array
        Where the Hessian is taken: the solution.
    information : {"observed", "expected"}, default "observed"
        "observed" is the Hessian of the two terms as they stand in the objective, with their
        weights, the curvature of the power model's HAADF term without its misfit (Gauss and
        Newton). Where it is singular, which it is at pixels without counts of two elements, or of
        one the image does not show, "expected" takes its place: the Fisher information, with
        the expected counts in place of those that were found.

    Returns
    -------
    (E, R, C) float32 array
        Finite; 0 where a Poisson map without background is 0.

    Raises
    ------
    ValueError
        If `maps` has another shape than the measured maps, or `information` is unknown.

    References
    ----------
    Schwartz et al., npj Comput. Mater. 8, 16 (2022).

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem, hessian_variance
    >>> counts = np.full((1, 2, 2), 7.0)
    >>> hessian_variance(FusionProblem(counts), counts)[0, 0, 0]
    np.float32(7.0)
    """
    arguments = _arguments(problem, maps, information)
    out = np.empty(problem.maps.shape, np.float32)
    _variance(*arguments, out)
    return out


def hessian_covariance(problem, maps, information="observed"):
    """As `hessian_variance`, with the covariances between elements.

    Parameters
    ----------
    problem, maps, information
        As `hessian_variance`.

    Returns
    -------
    (E, E, R, C) float32 array
        Symmetric and positive semidefinite at every pixel.
    """
    arguments = _arguments(problem, maps, information)
    elements = problem.maps.shape[0]
    out = np.empty((elements,) + problem.maps.shape, np.float32)
    _covariance(*arguments, out)
    out[np.arange(elements), np.arange(elements)] = hessian_variance(problem, maps, information)
    return out
