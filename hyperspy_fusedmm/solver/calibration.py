"""Weights and offset of the HAADF image from regression on the element maps.

The maps are noisy regressors. Ordinary least squares takes their noise for signal and finds weights that are too
small. So the maps, and the image, are multiplied with *instruments* instead, which share their structure
and not their noise: the means of map and image over the neighbourhood of each pixel, without the pixel
itself [1]_. There are more of these than unknowns; they are combined by the generalised method of moments
[2]_, pixels weighted with the inverse of their variance.

References
----------
.. [1] Fuller, Measurement Error Models, Wiley (1987), section 2.4.
.. [2] Hansen, Econometrica 50, 1029 (1982).
"""

from dataclasses import dataclass

import numpy as np

from .haadf_moments import HaadfMoments
from .haadf_regression import HaadfRegression
from .smoothing import estimate_noise

__all__ = ["Calibration", "calibrate_haadf"]

# A weight is the data's where they say more of it than the prior does.
IDENTIFIED = 0.5


@dataclass(frozen=True)
class Calibration:
    """How the HAADF image follows from the maps.

    Standard errors hold the noise of maps and image, what the model does not describe of the image, and, where
    the maps do not decide, the spread of the prior. They are 0 for what was given.

    Attributes
    ----------
    weights : (E,) array
        HAADF intensity per unit of each map, >= 0.
    weights_error : (E,) array
        Standard errors of the weights.
    offset, offset_error : float
        HAADF intensity without specimen, and its standard error.
    covariance : (E + 1, E + 1) array
        Covariance of the weights and, last, the offset.
    noise, noise_error : float
        Standard deviation of the image about its model at one pixel, detector noise and model error together,
        and its standard error.
    gamma, gamma_error : float
        Exponent of the atomic number and its standard error; NaN unless it was to be fitted.
    data_share : (E,) array
        How much of each weight the data decided: 1 all, 0 nothing (then it is the prior's).
    identified : bool
        Whether the data say more of every weight than the prior does.
    message : str
        One sentence on how the weights were found.
    """

    weights: np.ndarray
    weights_error: np.ndarray
    offset: float
    offset_error: float
    covariance: np.ndarray
    noise: float
    noise_error: float
    gamma: float
    gamma_error: float
    data_share: np.ndarray
    identified: bool
    message: str


def calibrate_haadf(
    maps,
    haadf,
    prior,
    *,
    fidelity="poisson",
    noise=None,
    background=0.0,
    weights=None,
    offset=None,
    fixed_ratios=False,
    atomic_numbers=None,
    gamma=1.7,
):
    """Find how the HAADF image follows linearly from the element maps.

    Parameters
    ----------
    maps : (E, R, C) array
        Measured maps, counts for Poisson maps.
    haadf : (R, C) array
    prior : (E,) array
        Expected weights up to a common factor, Z^gamma / s. They decide as far as the maps do
        not: when one map is a combination of the others, or there are too few counts.
    fidelity : str or sequence of E str, default "poisson"
        Likelihood of the maps; Poisson maps have a variance equal to the counts.
    noise : float, (E,) or (E, R, C) array, optional
        Standard deviation of Gaussian maps; estimated if not given.
    background : float, (E,) or (E, R, C) array, default 0
        Expected background counts, which make no HAADF signal.
    weights : (E,) array, optional
        Known weights, NaN for those that are to be found.
    offset : float, optional
        Known offset.
    fixed_ratios : bool, default False
        Take the ratios of the weights from ``prior`` and find only their common factor.
    atomic_numbers : (E,) array, optional
        Find gamma, too, between 4/3 and 2: the ratios of the weights are ``prior * atomic_numbers**gamma``.
    gamma : float, default 1.7
        Where the data do not tell gamma.

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
    maps, haadf = np.asarray(maps), np.asarray(haadf)
    fidelity = (fidelity,) * len(maps) if isinstance(fidelity, str) else tuple(fidelity)
    given = np.full(len(maps), np.nan) if weights is None else np.array(weights, dtype=float)
    present = np.array([bool(values.any()) for values in maps])
    # Only maps that are not empty can be regressed on.
    ratios = np.array(prior, dtype=float)
    if atomic_numbers is not None:
        atomic_numbers = np.asarray(atomic_numbers, dtype=float)[present]
        ratios[present] *= atomic_numbers**gamma
    # Before the instruments take their memory.
    detector = detector_noise(haadf)
    moments = HaadfMoments(
        [values for values, there in zip(maps, present) if there],
        haadf,
        _of_present(background, present),
        _variances(maps, fidelity, noise, background)[:, present],
    )
    regression = HaadfRegression(
        moments,
        detector,
        given=given[present],
        offset=offset,
        ratios=ratios[present],
        fixed=fixed_ratios or atomic_numbers is not None,
    )
    if atomic_numbers is None:
        regression.fit()
    else:
        regression.fit_gamma(atomic_numbers, gamma)
    return _calibration(regression, present, given)


def _of_present(background, present):
    """Background of the maps that are present: a number or array for each."""
    values = np.asarray(background, dtype=float)
    if values.ndim == 0:
        return np.full(int(present.sum()), float(values))
    return [entry for entry, there in zip(values, present) if there]


def _variances(maps, fidelity, noise, background):
    """Variance of every map: the part that is constant, and that per unit of signal (2, E)."""
    level = estimate_noise(maps) if noise is None else np.asarray(noise, dtype=float)
    if level.ndim < 2:
        level = np.broadcast_to(level, (len(maps),))
    background = np.asarray(background, dtype=float)
    if background.ndim < 2:
        background = np.broadcast_to(background, (len(maps),))
    counts = np.array([entry == "poisson" for entry in fidelity])
    constant = [
        np.mean(b) if poisson else np.mean(np.square(n))
        for n, b, poisson in zip(level, background, counts)
    ]
    return np.array([constant, counts], dtype=float)


def _calibration(regression, present, given):
    """What the regression found, with the maps that are empty in their places."""
    places = np.append(np.flatnonzero(present), len(present))
    covariance = np.zeros((len(present) + 1, len(present) + 1))
    covariance[np.ix_(places, places)] = regression.covariance
    weights = np.where(np.isnan(given), 0.0, given)
    weights[present] = regression.theta[:-1]
    share = np.ones(len(present))
    share[present] = regression.share
    errors = np.sqrt(np.diag(covariance))
    identified = bool(present.any() and (share > IDENTIFIED).all())
    return Calibration(
        weights=weights,
        weights_error=errors[:-1],
        offset=float(regression.theta[-1] + regression.moments.centre),
        offset_error=float(errors[-1]),
        covariance=covariance,
        noise=regression.noise,
        noise_error=regression.noise_error,
        gamma=regression.gamma,
        gamma_error=regression.gamma_error,
        data_share=share,
        identified=identified,
        message=_message(regression, present, identified),
    )


def _message(regression, present, identified):
    if not present.any():
        return "All maps are empty; the HAADF image tells nothing of them."
    if not regression.free.any():
        return "The weights were given."
    if regression.fixed:
        return (
            "The ratios of the weights were given, and their common factor was found by regression."
        )
    if identified:
        return "The weights were found by regression of the HAADF image on the maps."
    return (
        "The maps do not determine the HAADF weight of each element, because one is nearly a combination of "
        "the others or they hold too few counts; as far as they do not, weights proportional to Z^gamma / "
        "sensitivity were used, with a common factor found by regression."
    )


def detector_noise(image):
    """Standard deviation of white noise in an image with fine structure, such as columns of atoms.

    From the median modulus of its second differences along rows and columns at once [1]_, which a smooth peak
    hardly has; less where there are too few pixels.

    References
    ----------
    .. [1] Immerkaer, Comput. Vis. Image Underst. 64, 300 (1996).
    """
    if min(image.shape) < 3:
        return float(estimate_noise(image[np.newaxis])[0])
    fine = np.diff(np.diff(np.asarray(image, dtype=float), 2, axis=0), 2, axis=1) / 6
    level = 1.4826 * np.median(np.abs(fine))
    return float(level if level > 0 else max(np.sqrt((fine**2).mean()), np.finfo(float).tiny))
