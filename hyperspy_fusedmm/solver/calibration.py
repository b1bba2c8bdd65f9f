"""Weights and offset of the HAADF image from regression on the element maps.

The maps are noisy regressors, and ordinary least squares would take their noise for
signal and find weights that are too small. The variance of counts is known, so it is
subtracted from the moments; what is left is unbiased [1]_.

References
----------
.. [1] Fuller, Measurement Error Models, Wiley (1987).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from .smoothing import blur, estimate_noise, kernel_energy

__all__ = ["Calibration", "calibrate_haadf"]

BLUR = 2.0
BLOCKS = 8
# An eigenvalue of the maps' correlation matrix this small, or smaller than this many of its
# own standard errors, is taken for zero.
SMALLEST_EIGENVALUE = 0.01
SIGNIFICANCE = 3.0


@dataclass(frozen=True)
class Calibration:
    """How the HAADF image follows from the maps.

    Attributes
    ----------
    weights : (E,) array
        HAADF intensity per unit of each map, >= 0.
    weights_error : (E,) array
        Standard errors of the weights, from leaving out blocks of the image. Where the
        weights are the prior's, that of the gain alone.
    offset, offset_error : float
        HAADF intensity without specimen, and its standard error.
    noise : float
        Standard deviation of the image about its model at one pixel: detector noise and
        model error together.
    identified : bool
        Whether the maps determine every weight.
    message : str
        One sentence on how the weights were found.
    """

    weights: np.ndarray
    weights_error: np.ndarray
    offset: float
    offset_error: float
    noise: float
    identified: bool
    message: str


class _Moments:
    """Sums over blocks of the image, from which moments without any block can be formed."""

    def __init__(self, regressors, variances, response):
        elements, rows, columns = regressors.shape
        tiles = [
            (slice(r, e), slice(c, f))
            for r, e in _spans(rows, min(BLOCKS, rows))
            for c, f in _spans(columns, min(BLOCKS, columns))
        ]
        self.count = np.zeros(len(tiles))
        self.first = np.zeros((len(tiles), elements + 1))
        self.second = np.zeros((len(tiles), elements + 1, elements + 1))
        self.variance = np.zeros((len(tiles), elements))
        # Differences from the overall means, so that sums of squares do not cancel.
        self.centre = np.append(regressors.mean(axis=(1, 2)), response.mean())
        for k, tile in enumerate(tiles):
            values = np.concatenate(
                [regressors[(slice(None),) + tile], response[tile][None]], dtype=float
            ).reshape(elements + 1, -1)
            values -= self.centre[:, None]
            self.count[k] = values.shape[1]
            self.first[k] = values.sum(axis=1)
            self.second[k] = values @ values.T
            self.variance[k] = variances[(slice(None),) + tile].sum(axis=(1, 2), dtype=float)

    def covariance(self, left_out=None):
        """Covariance of maps and image, free of the maps' noise, and their means."""
        keep = np.arange(len(self.count)) != (-1 if left_out is None else left_out)
        count = self.count[keep].sum()
        mean = self.first[keep].sum(axis=0) / count
        covariance = self.second[keep].sum(axis=0) / count - np.outer(mean, mean)
        noise = self.variance[keep].sum(axis=0) / count
        covariance[:-1, :-1] -= np.diag(noise)
        return covariance, mean + self.centre

    def jackknife(self, function):
        """Value of ``function(covariance, mean)`` and its standard error."""
        value = np.asarray(function(*self.covariance()))
        blocks = len(self.count)
        if blocks < 2:
            return value, np.full_like(value, np.inf, dtype=float)
        without = np.array([function(*self.covariance(k)) for k in range(blocks)])
        spread = ((without - without.mean(axis=0)) ** 2).sum(axis=0) * (blocks - 1) / blocks
        return value, np.sqrt(spread)


def _spans(length, pieces):
    ends = np.linspace(0, length, pieces + 1).round().astype(int)
    return zip(ends[:-1], ends[1:])


def _correlation(maps):
    """Correlation matrix of the maps and their spreads.

    A map without spread beyond its noise has an infinite one, so that it correlates with
    nothing, not even itself, and gets no weight.
    """
    variance = np.diag(maps)
    varies = variance > 1e-12 * variance.max(initial=0.0)
    scale = np.where(varies, np.sqrt(np.where(varies, variance, 1.0)), np.inf)
    return maps / np.outer(scale, scale), scale


def _eigenvalue(covariance, _):
    """Smallest eigenvalue of the correlation matrix of the maps."""
    return np.linalg.eigvalsh(_correlation(covariance[:-1, :-1])[0])[0]


def _free_fit(covariance, mean):
    """Non-negative weights and the offset."""
    maps, cross = covariance[:-1, :-1], covariance[:-1, -1]
    correlation, scale = _correlation(maps)
    eigenvalues, vectors = np.linalg.eigh(correlation)
    root = np.sqrt(np.maximum(eigenvalues, 1e-6))
    weights = nnls(root[:, None] * vectors.T, (vectors.T @ (cross / scale)) / root)[0] / scale
    return np.append(weights, mean[-1] - weights @ mean[:-1])


def _gain_fit(prior):
    def fit(covariance, mean):
        maps, cross = covariance[:-1, :-1], covariance[:-1, -1]
        power = prior @ maps @ prior
        gain = max(prior @ cross / power, 0.0) if power > 0 else 0.0
        return np.append(gain * prior, mean[-1] - gain * prior @ mean[:-1])

    return fit


def _offset_fit(weights):
    def fit(_, mean):
        return np.append(weights, mean[-1] - weights @ mean[:-1])

    return fit


def calibrate_haadf(
    maps,
    haadf,
    prior,
    *,
    fidelity="poisson",
    noise=None,
    background=0.0,
    weights=None,
    fixed_ratios=False,
):
    """Find how the HAADF image follows linearly from the element maps.

    Parameters
    ----------
    maps : (E, R, C) array
        Measured maps, counts for Poisson maps.
    haadf : (R, C) array
    prior : (E,) array
        Expected weights up to a common factor, Z^gamma / s. They decide where the maps do
        not: when one map is a combination of the others.
    fidelity : str or sequence of E str, default "poisson"
        Likelihood of the maps; Poisson maps have a variance equal to the counts.
    noise : float, (E,) or (E, R, C) array, optional
        Standard deviation of Gaussian maps; estimated if not given.
    background : float, (E,) or (E, R, C) array, default 0
        Expected background counts, which make no HAADF signal.
    weights : (E,) array, optional
        Known weights; only the offset and the noise are found.
    fixed_ratios : bool, default False
        Take the ratios of the weights from ``prior`` and find only their common factor.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = 20 * rng.random((2, 8, 8)).repeat(16, axis=1).repeat(16, axis=2)
    >>> haadf = 5 + 0.5 * truth[0] + 0.2 * truth[1]
    >>> found = calibrate_haadf(rng.poisson(truth), haadf, prior=[1, 1])
    >>> found.identified
    True
    >>> np.allclose(found.weights, [0.5, 0.2], rtol=0.05)
    True
    """
    maps, haadf = np.asarray(maps), np.asarray(haadf, dtype=float)
    prior = np.asarray(prior, dtype=float)
    fidelity = (fidelity,) * len(maps) if isinstance(fidelity, str) else tuple(fidelity)
    voxels = (-1, 1, 1)
    background = np.asarray(background, dtype=float)
    background = background.reshape(voxels) if background.ndim == 1 else background
    level = estimate_noise(maps) if noise is None else np.asarray(noise, dtype=float)
    level = level.reshape(voxels) if level.ndim == 1 else level
    level = np.broadcast_to(level, maps.shape)
    energy = kernel_energy(BLUR)
    net = np.broadcast_to(maps - background, maps.shape)
    smooth = np.stack([blur(m, BLUR) for m in net])
    variances = np.stack([
        blur(m, BLUR) if f == "poisson" else level[e] ** 2
        for e, (m, f) in enumerate(zip(maps, fidelity))
    ])  # fmt: skip
    image = blur(haadf - haadf.mean(), BLUR).astype(float)
    detector = float(estimate_noise(haadf[None])[0])
    present = np.array([m.any() for m in maps])
    prior = np.where(present, prior, 0.0)

    # Only maps that are not empty can be regressed on.
    moments = _Moments(smooth[present], energy * variances[present], image)
    message, identified = "The weights were given.", True
    if not present.any() or not (prior > 0).any():
        values = errors = np.zeros(int(present.sum()) + 1)
        values[-1] = image.mean()
        identified, message = False, "All maps are empty; the HAADF image tells nothing of them."
    elif weights is not None:
        values, errors = moments.jackknife(_offset_fit(np.asarray(weights, float)[present]))
    else:
        smallest, error = moments.jackknife(_eigenvalue)
        identified = bool(smallest > max(SMALLEST_EIGENVALUE, SIGNIFICANCE * error))
        if identified and not fixed_ratios:
            values, errors = moments.jackknife(_free_fit)
            message = "The weights were found by regression of the HAADF image on the maps."
        else:
            values, errors = moments.jackknife(_gain_fit(prior[present]))
            message = (
                "The ratios of the weights were given, and their common factor was found by "
                "regression."
                if fixed_ratios
                else "The maps do not determine the HAADF weight of each element, because one is "
                "nearly a combination of the others or they hold too few counts; weights "
                "proportional to Z^gamma / sensitivity were used, with a common factor found by "
                "regression."
            )
    found, found_errors = np.zeros(len(maps)), np.zeros(len(maps))
    found[present], found_errors[present] = values[:-1], errors[:-1]
    if weights is not None:
        found = np.asarray(weights, dtype=float)
    covariance, _ = moments.covariance()
    residual = np.append(-found[present], 1.0)
    model_error = residual @ covariance @ residual - energy * detector**2
    spread = np.sqrt(detector**2 + max(model_error, 0.0))
    return Calibration(
        weights=found,
        weights_error=found_errors,
        offset=float(values[-1] + haadf.mean()),
        offset_error=float(errors[-1]),
        noise=float(max(spread, np.finfo(float).tiny)),
        identified=identified,
        message=message,
    )
