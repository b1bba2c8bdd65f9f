"""Atomic fractions of maps, and how errors of the maps become errors of the fractions.

With ``n_i = x_i / s_i`` the atoms that ``x_i`` counts at ``s_i`` counts per atom stand for, the atomic
fraction is ``p_i = n_i / sum_j n_j``. Its derivatives,

    dp_i / dx_j = (delta_ij - p_i) / (s_j sum_k n_k)    and    dp_i / dlog(s_j) = -p_i (delta_ij - p_j),

carry small errors over: the delta method [1]_. Only ratios of the sensitivities matter. Where atoms are few the errors of
the maps are not small; where refits are at hand, `hyperspy_fusedmm.solver.refit_fractions` tells those of pixels.

Regularization takes counts away from faint maps, unless the solver keeps them
(`hyperspy_fusedmm.solver.count_keeper`): scaling a map by a factor shows that its total, where the
objective is least, is that of the counts less ``lambda_tv`` times its variation. So the fractions of fused maps are
biased towards strong elements. The totals of the counts are hardly biased or noisy, and maps scaled to
have them are not either.

References
----------
.. [1] Casella & Berger, Statistical Inference, 2nd ed., section 5.5.4 (2002).
"""

from dataclasses import replace

import numpy as np

__all__ = [
    "atomic_fractions",
    "fraction_covariance",
    "fraction_variance",
    "keeping_totals",
    "kept_counts",
    "region_covariance",
    "relative_covariance",
]


def atomic_fractions(maps, sensitivities):
    """Atomic fractions of maps.

    Parameters
    ----------
    maps : (E, ...) array
        NumPy or Dask.
    sensitivities : (E,) array
        Counts that one atom yields, up to one factor.

    Returns
    -------
    (E, ...) array
        They add up to 1; NaN or infinite where the atoms add up to 0.

    Examples
    --------
    >>> import numpy as np
    >>> atomic_fractions(np.array([4.0, 6.0]), [1.0, 0.5])
    array([0.25, 0.75])
    """
    atoms = maps * _along(1.0 / np.asarray(sensitivities, dtype=float), maps.ndim)
    with np.errstate(divide="ignore", invalid="ignore"):
        return atoms / atoms.sum(axis=0)


def fraction_covariance(maps, covariance, sensitivities, sensitivities_error=0.0):
    """Covariance of the errors of atomic fractions.

    Parameters
    ----------
    maps : (E, ...) array
    covariance : (E, E, ...) array
        Covariance of the errors of the maps.
    sensitivities : (E,) array
        Counts that one atom yields, up to one factor.
    sensitivities_error : float, (E,) or (E, E) array, default 0
        Relative standard errors of the sensitivities where they are independent of each other, or the
        covariance of their relative errors.

    Returns
    -------
    (E, E, ...) array

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.array([40.0, 60.0])
    >>> found = fraction_covariance(counts, np.diag(counts), [1.0, 1.0])
    >>> np.allclose(found[0, 0], 0.4 * 0.6 / 100)    # as of a binomial share
    True
    """
    fractions, by_count, relative = _terms(maps, sensitivities, sensitivities_error)
    slopes = _slopes(fractions)
    of_maps = slopes * by_count
    found = np.einsum("ij...,jk...,lk...->il...", of_maps, covariance, of_maps)
    of_sensitivities = slopes * fractions
    return found + np.einsum("ij...,jk,lk...->il...", of_sensitivities, relative, of_sensitivities)


def fraction_variance(maps, covariance, sensitivities, sensitivities_error=0.0):
    """Variance of the errors of atomic fractions: the diagonal of `fraction_covariance`.

    It needs less memory: no other array of shape (E, E, ...) is made.

    Parameters
    ----------
    maps : (E, ...) array
    covariance : (E, E, ...) or (E, ...) array
        Covariance of the errors of the maps, or their variance where they are independent.
    sensitivities, sensitivities_error
        As `fraction_covariance`.

    Returns
    -------
    (E, ...) array
    """
    fractions, by_count, relative = _terms(maps, sensitivities, sensitivities_error)
    elements = range(len(fractions))
    independent = covariance.ndim == fractions.ndim
    rows = []
    for i in elements:
        slopes = [(float(i == j) - fractions[i]) for j in elements]
        row = np.zeros_like(fractions[i])
        for j, k in np.argwhere(relative):
            row = row + relative[j, k] * slopes[j] * fractions[j] * slopes[k] * fractions[k]
        for j in elements:
            of_map = slopes[j] * by_count[j]
            if independent:
                row = row + of_map**2 * covariance[j]
                continue
            for k in elements:
                row = row + of_map * covariance[j, k] * slopes[k] * by_count[k]
        rows.append(row)
    # Rounding of a covariance that is singular may leave it a little below 0.
    return np.maximum(np.stack(rows), 0.0)


def relative_covariance(error, elements):
    """Covariance (E, E) of relative errors that are a number, independent (E,) or a covariance."""
    error = np.asarray(error, dtype=float)
    if error.ndim == 2:
        return error
    return np.diag(np.broadcast_to(error, (elements,)) ** 2)


def kept_counts(maps, net):
    """Share of the counts of each element that is in its fused map.

    Parameters
    ----------
    maps : (E, R, C) array
        Fused maps; NumPy or Dask.
    net : (E, R, C) array
        Measured maps less the background.

    Returns
    -------
    (E,) array
        1 where the total of either is not above 0.
    """
    found, wanted = (a.sum(axis=(1, 2), dtype=float) for a in (maps, net))
    known = (found > 0) & (wanted > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known, found / wanted, 1.0)


def keeping_totals(errors, maps, kept):
    """Errors of maps that are scaled to the totals that were measured, as those of the refits are.

    What is left out is the noise of the totals themselves.

    Parameters
    ----------
    errors : Bootstrap
        Of the maps as they are.
    maps : (E, R, C) array
        Fused maps.
    kept : (E,) array
        As `kept_counts` returns it.

    Returns
    -------
    Bootstrap
    """
    wanted = errors.pilot.sum(axis=(1, 2), dtype=float)
    scaled = np.empty_like(errors.errors)
    for k, error in enumerate(errors.errors):
        refit = errors.pilot + error
        found = refit.sum(axis=(1, 2), dtype=float)
        factors = np.where((found > 0) & (wanted > 0), wanted / np.where(found > 0, found, 1), 1)
        scaled[k] = refit * factors[:, None, None].astype(np.float32) - errors.pilot
    more = (1 / np.asarray(kept) - 1)[:, None, None] * maps
    return replace(errors, errors=scaled, residual=(errors.residual - more).astype(np.float32))


def region_covariance(errors, mask):
    """Covariance between elements of the errors of the means over a region.

    Its diagonal is the square of :meth:`Bootstrap.region_error`.

    Parameters
    ----------
    errors : Bootstrap
    mask : (R, C) array of bool

    Returns
    -------
    (E, E) array
    """
    means = errors.errors[:, :, mask].mean(axis=2, dtype=float)
    products = means.T @ means
    scale = np.sqrt(np.diag(products))
    correlation = products / np.where(scale > 0, np.outer(scale, scale), 1.0)
    np.fill_diagonal(correlation, 1.0)
    error = errors.region_error(mask)
    return correlation * np.outer(error, error)


def _along(values, dimensions):
    return values.reshape((-1,) + (1,) * (dimensions - 1))


def _terms(maps, sensitivities, sensitivities_error):
    """Fractions, their change with the counts, and the covariance of relative errors (E, E)."""
    inverse = _along(1.0 / np.asarray(sensitivities, dtype=float), maps.ndim)
    atoms = maps * inverse
    total = atoms.sum(axis=0)
    relative = relative_covariance(sensitivities_error, len(maps))
    with np.errstate(divide="ignore", invalid="ignore"):
        return atoms / total, inverse / total, relative


def _slopes(fractions):
    """delta_ij - p_i, (E, E, ...)."""
    elements = len(fractions)
    identity = np.eye(elements).reshape((elements, elements) + (1,) * (fractions.ndim - 1))
    return identity - fractions[:, np.newaxis]
