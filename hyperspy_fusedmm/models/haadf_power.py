"""Scale and exponent of the HAADF image as a sum of powers of the maps."""

from dataclasses import replace

import numpy as np

from ..solver import calibrate_haadf
from ..solver.haadf_regression import GAMMA_RANGE
from ..solver.smoothing import chosen_blur

# Exponents that are tried; between them the best is interpolated.
TRIED = np.linspace(*GAMMA_RANGE, 9)
BLOCKS = 8


def power_scale(counts, haadf, ratios, setup, *, weights, offset, gamma):
    """Gain, offset and noise of ``sum_i (c_i x_i)**gamma`` with given ratios of the ``c_i``.

    A power of noisy counts is not the power of their mean, so it is formed from blurred maps.

    Parameters
    ----------
    counts : (E, R, C) array
    haadf : (R, C) array
    ratios : (E,) array
        ``c_i`` up to a factor.
    setup : dict
        ``fidelity``, ``background`` and ``noise``.
    weights : (E,) array or None
        Known ``c_i``.
    offset : float or None
        Known offset.
    gamma : float or None
        Known exponent; None to find it between 4/3 and 2.

    Returns
    -------
    Calibration
        Standard errors of the weights are those of their common factor.
    """
    terms = _terms(counts, ratios if weights is None else weights, setup)
    error = 0.0
    if gamma is None:
        gamma, error = _fitted_gamma(terms, haadf, offset)
    signal = (terms**gamma).sum(axis=0)
    found = calibrate_haadf(
        signal[np.newaxis],
        haadf,
        [1.0],
        fidelity="gaussian",
        noise=0.0,
        weights=None if weights is None else [1.0],
        offset=offset,
        fixed_ratios=True,
    )
    elements = len(ratios)
    scale, slope = np.asarray(weights if weights is not None else ratios, dtype=float), 0.0
    if weights is None:
        gain = float(found.weights[0])
        slope = gain ** (1 / gamma - 1) / gamma if gain > 0 else 0.0
        change, scale = slope * scale, gain ** (1 / gamma) * scale
    else:
        change = np.zeros(elements)
    columns = np.zeros((elements + 1, 2))
    columns[:-1, 0], columns[-1, 1] = change, 1.0
    covariance = np.where(np.isfinite(found.covariance), found.covariance, 0.0)
    covariance = columns @ covariance @ columns.T
    return replace(
        found,
        weights=scale,
        weights_error=np.sqrt(np.diag(covariance))[:-1],
        covariance=covariance,
        gamma=float(gamma),
        gamma_error=error,
        data_share=np.ones(elements),
    )


def _terms(counts, ratios, setup):
    """Blurred maps less their background, times their ratios."""
    background, noise = (_per_voxel(setup[name]) for name in ("background", "noise"))
    terms = []
    for i, entry in enumerate(setup["fidelity"]):
        variance = None if entry == "poisson" else float(np.mean(noise[i] ** 2))
        pilot, _ = chosen_blur(counts[i], variance)
        terms.append(ratios[i] * np.maximum(pilot - background[i], 0))
    return np.array(terms)


def _per_voxel(values):
    return values[:, np.newaxis, np.newaxis] if values.ndim == 1 else values


def _fitted_gamma(terms, haadf, offset):
    """Exponent of least squares and its standard error, from leaving out blocks of the image."""
    typical = max(float(terms.max(initial=0.0)), np.finfo(float).tiny)
    values = np.asarray(haadf, dtype=float) - (haadf.mean() if offset is None else offset)
    moments = np.array(
        [_block_moments(((terms / typical) ** g).sum(axis=0), values) for g in TRIED]
    )
    total = moments.sum(axis=1)
    best = _least(total, offset is not None)
    blocks = moments.shape[1]
    without = np.array([_least(total - moments[:, k], offset is not None) for k in range(blocks)])
    error = np.sqrt(((without - without.mean()) ** 2).sum() * (blocks - 1) / blocks)
    return best, float(error)


def _block_moments(signal, image):
    """Sums of products of (1, signal, image) over blocks, shape (B, 3, 3)."""
    stack = np.stack([np.ones_like(image), signal, image])
    pieces = [
        part
        for band in np.array_split(stack, min(BLOCKS, image.shape[0]), axis=1)
        for part in np.array_split(band, min(BLOCKS, image.shape[1]), axis=2)
    ]
    return np.array([p.reshape(3, -1) @ p.reshape(3, -1).T for p in pieces])


def _least(moments, through_zero):
    """Exponent at which a straight line leaves least, by a parabola through the three best tried."""
    costs = []
    for m in moments:
        variance, product, size = m[2, 2], m[1, 2], m[1, 1]
        if not through_zero:
            variance -= m[0, 2] ** 2 / m[0, 0]
            product -= m[0, 1] * m[0, 2] / m[0, 0]
            size -= m[0, 1] ** 2 / m[0, 0]
        costs.append(variance - (max(product, 0.0) ** 2 / size if size > 0 else 0.0))
    place = int(np.argmin(costs))
    if place in (0, len(costs) - 1):
        return float(TRIED[place])
    low, middle, high = costs[place - 1 : place + 2]
    bend = low - 2 * middle + high
    shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    return float(TRIED[place] + shift * (TRIED[1] - TRIED[0]))
