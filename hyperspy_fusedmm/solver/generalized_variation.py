"""Second-order total generalized variation of given images."""

import numpy as np

from .operators import (
    adjoint_symmetrized_gradient,
    gradient,
    remove_guided,
    symmetrized_gradient,
)
from .problem import CURVATURE_RATIO

__all__ = ["generalized_variation"]

RELAXATION = 1.8


def _norm(field):
    return np.sqrt((field**2).sum(axis=-3))


def _project(field, radius):
    norm = _norm(field)[..., None, :, :]
    return field * np.minimum(1, radius[..., None, :, :] / np.maximum(norm, 1e-300))


def generalized_variation(
    images, strength, guide=None, *, tolerance=1e-6, max_iterations=5000
):
    r"""Sum over images of :math:`\min_v \sum \rho (|D (\nabla x - v)| + \frac12 |E v|)` [1]_.

    The minimum over the slope field v is found by the primal-dual method, with the maps
    fixed, until an iterate is within ``tolerance`` of it, relative to the total variation.

    Parameters
    ----------
    images : (E, R, C) array
    strength : (E, R, C) or (E, 1, 1) array
        The pixelwise strength rho.
    guide : (2, R, C) array, optional
        Vector a of D = I - a a'.
    tolerance : float, default 1e-6
    max_iterations : int, default 5000

    Returns
    -------
    float

    References
    ----------
    .. [1] Bredies, Kunisch & Pock, SIAM J. Imaging Sci. 3, 492 (2010).
    """
    slope = gradient(np.asarray(images, dtype=float))
    scale = np.abs(slope).max(initial=0.0)
    strength = np.broadcast_to(strength, images.shape).astype(float)
    if scale == 0 or not strength.any():
        return 0.0
    slope = slope / scale
    real = np.ones(slope.shape[-3:])
    real[0, :, -1] = 0
    real[1, -1, :] = 0
    primal, dual_slope, dual_curvature = _steps(strength)
    v = slope * real
    p, q = np.zeros_like(slope), np.zeros(slope.shape[:-3] + (3,) + slope.shape[-2:])
    variation = float((strength * _norm(remove_guided(slope, guide))).sum())
    best, lower = variation, 0.0
    for iteration in range(max_iterations):
        flow = remove_guided(p, guide)
        v_next = (v + primal * (flow - adjoint_symmetrized_gradient(q))) * real
        bar = 2 * v_next - v
        p_next = _project(p + dual_slope * remove_guided(slope - bar, guide), strength)
        q_next = _project(
            q + dual_curvature * symmetrized_gradient(bar), CURVATURE_RATIO * strength
        )
        look = iteration % 50 == 0
        relaxation = 1.0 if look else RELAXATION
        v = v + relaxation * (v_next - v)
        p = p + relaxation * (p_next - p)
        q = q + relaxation * (q_next - q)
        if look:
            value = (strength * _norm(remove_guided(slope - v, guide))).sum()
            value += CURVATURE_RATIO * (strength * _norm(symmetrized_gradient(v))).sum()
            best = min(best, float(value))
            lower = max(lower, _lower_bound(slope, strength, guide, q))
            if best - lower <= tolerance * variation:
                break
    return scale * best


def _steps(strength):
    """Step sizes of v, p and q, longer where the strength is low, as in the tile kernels."""
    mean = strength.mean(axis=(1, 2), keepdims=True)
    mean = np.where(mean > 0, mean, 1.0)
    scale = np.clip(strength / mean, 0.1, 10) ** -1.0
    largest = scale.copy()
    largest[:, 1:] = np.maximum(largest[:, 1:], scale[:, :-1])
    largest[:, :, 1:] = np.maximum(largest[:, :, 1:], scale[:, :, :-1])
    primal = scale / ((3 + np.sqrt(2)) * mean)
    return primal[:, None], (mean / scale)[:, None], (mean / (2 * np.sqrt(2) * largest))[:, None]


def _lower_bound(slope, strength, guide, q):
    """Dual value at E'q, scaled down until it is D p with p in its ball."""
    flow = adjoint_symmetrized_gradient(q)
    needed = flow
    if guide is not None:
        along = (flow * guide).sum(axis=-3) / np.maximum(1 - (guide**2).sum(axis=0), 1e-12)
        needed = flow + along[..., None, :, :] * guide
        # Of the last column and the last row only what runs along them counts.
        reach = np.hypot(guide[0] * guide[1], 1 - guide**2).clip(1e-12)
        needed[..., -1] = flow[..., -1] / reach[..., -1]
        needed[..., -1, :] = flow[..., -1, :] / reach[..., -1, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(_norm(needed) > 0, _norm(needed) / strength, 0).max(axis=(1, 2))
    value = (slope * flow).sum(axis=(1, 2, 3))
    return float((value / np.maximum(excess, 1)).sum())
