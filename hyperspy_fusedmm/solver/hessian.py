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
# Stands for the infinite variance of a likelihood without curvature where covariances are found. Squares of
# it and of the precision of any HAADF image stay finite in double precision.
UNKNOWN = 1e60


@njit(nogil=True, cache=True, error_model="numpy")
def _row_terms(
    r, x, counts, background, noise, poisson, chem, weights, gamma, power, precision, observed,
    slopes, information, free,
):  # fmt: skip
    """Slopes of the HAADF image and information of the likelihood alone at one row, (E, C) each.

    ``free`` (C,) is 1 per element that only the HAADF image determines, 2 if not even that does.
    """
    elements, columns = x.shape[0], x.shape[2]
    zero, one, two = np.float32(0), np.float32(1), np.float32(2)
    rho = precision[min(r, precision.shape[0] - 1)]
    free[:] = zero
    for e in range(elements):
        weight, slope, values, known = weights[e], slopes[e], x[e, r], information[e]
        slope[:] = weight
        if power:
            for c in range(columns):
                slope[c] *= gamma * (weight * max(values[c], zero)) ** (gamma - one)
        if not poisson[e]:
            level = noise[e, min(r, noise.shape[1] - 1)]
            for c in range(columns):
                known[c] = chem / (level[c] * level[c])
        elif observed:
            level, found = background[e, min(r, background.shape[1] - 1)], counts[e, r]
            for c in range(columns):
                mean = max(values[c], zero) + level[c]
                nothing = found[c] == zero
                known[c] = zero if nothing else found[c] * chem / (mean * mean)
                unseen = two if rho[c] * slope[c] * slope[c] == zero else one
                free[c] += unseen if nothing else zero
        else:
            level = background[e, min(r, background.shape[1] - 1)]
            for c in range(columns):
                known[c] = chem / (max(values[c], zero) + level[c])
    if observed:
        for e in range(elements):
            if poisson[e]:
                level, values = background[e, min(r, background.shape[1] - 1)], x[e, r]
                known = information[e]
                for c in range(columns):
                    expected = chem / (max(values[c], zero) + level[c])
                    known[c] = expected if free[c] > one else known[c]


@njit(nogil=True, cache=True, error_model="numpy")
def _variance(
    x, counts, background, noise, poisson, chem, weights, gamma, power, precision, observed, out
):
    elements, columns = x.shape[0], x.shape[2]
    slopes = np.empty((elements, columns), np.float32)
    information, shares = np.empty_like(slopes), np.empty_like(slopes)
    free, others = np.empty(columns, np.float32), np.empty(columns, np.float32)
    zero, one = np.float32(0), np.float32(1)
    for r in range(x.shape[1]):
        _row_terms(
            r, x, counts, background, noise, poisson, chem, weights, gamma, power, precision,
            observed, slopes, information, free,
        )  # fmt: skip
        rho = precision[min(r, precision.shape[0] - 1)]
        for e in range(elements):
            # The information of the image, and over that of the counts, which may be none.
            slope, known, share = slopes[e], information[e], shares[e]
            for c in range(columns):
                slope[c] = rho[c] * slope[c] * slope[c]
                share[c] = zero if slope[c] == zero else slope[c] / known[c]
        for e in range(elements):
            # Not the sum over all less its own, which may be infinitely larger than the rest.
            others[:] = one
            for j in range(elements):
                if j != e:
                    for c in range(columns):
                        others[c] += shares[j, c]
            by_image, known, found = slopes[e], information[e], out[e, r]
            for c in range(columns):
                found[c] = one / (known[c] + by_image[c] / others[c])


@njit(nogil=True, cache=True, error_model="numpy")
def _covariance(
    x, counts, background, noise, poisson, chem, weights, gamma, power, precision, observed, out
):
    elements, columns = x.shape[0], x.shape[2]
    slopes = np.empty((elements, columns), np.float32)
    information, free = np.empty_like(slopes), np.empty(columns, np.float32)
    variance = np.empty(elements)
    for r in range(x.shape[1]):
        _row_terms(
            r, x, counts, background, noise, poisson, chem, weights, gamma, power, precision,
            observed, slopes, information, free,
        )  # fmt: skip
        rho = precision[min(r, precision.shape[0] - 1)]
        for c in range(columns):
            q = np.float64(rho[c])
            total = 1.0
            for e in range(elements):
                known = np.float64(information[e, c])
                variance[e] = UNKNOWN if known == 0 else 1 / known
                total += q * slopes[e, c] * slopes[e, c] * variance[e]
            for i in range(elements):
                for j in range(i + 1, elements):
                    shared = q * slopes[i, c] * variance[i] * slopes[j, c] / total
                    out[i, j, r, c] = out[j, i, r, c] = -shared * variance[j]


def _arguments(problem, maps, information):
    """Arrays of the kernels: what is the same for all rows keeps one."""
    if information not in INFORMATION:
        raise ValueError(f"information must be one of {INFORMATION}; it is {information!r}.")
    maps = np.asarray(maps, dtype=np.float32)
    if maps.shape != problem.maps.shape:
        raise ValueError(
            f"maps must have the shape {problem.maps.shape} of the measured maps; "
            f"their shape is {maps.shape}."
        )
    fidelity = [{"poisson": POISSON, "gaussian": GAUSSIAN}[f] for f in problem.fidelity]
    precision = problem.lambda_haadf / np.atleast_2d(np.asarray(problem.haadf_noise, float)) ** 2
    background, noise, precision = (
        np.ascontiguousarray(np.broadcast_to(a, a.shape[:-1] + maps.shape[-1:]), dtype=np.float32)
        for a in (problem.background, problem.noise, precision)
    )
    return (
        maps,
        problem.maps,
        background,
        noise,
        np.array(fidelity) == POISSON,
        np.float32(problem.lambda_chem),
        np.asarray(problem.weights, dtype=np.float32),
        np.float32(problem.gamma),
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
    >>> counts = np.full((1, 2, 2), 4.0)
    >>> hessian_variance(FusionProblem(counts), counts)[0, 0, 0]
    np.float32(4.0)
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
