"""How counts become HAADF intensity: weights, offset and noise, given or fitted."""

import numpy as np

from ..signals.warning import warn_caller
from ..solver import calibrate_haadf
from ..solver.haadf_regression import GAMMA_RANGE
from ..solver.smoothing import fill_left_out
from . import checks
from .haadf_power import power_scale
from .sensitivities import atomic_weights

# Least noise that is believed, in units of the image's own standard deviation: an image that the maps
# explain without any misfit would otherwise decide everything.
SMALLEST_NOISE = 1e-3
# Standard errors within which a stored offset must be of the one that is fitted.
DISAGREEMENT = 3.0
# What stands for gamma where the data do not tell it.
USUAL_GAMMA = 1.7


def haadf_scale(counts, image, numbers, empty, setup, *, weights, offset, noise, stored=None):
    """Weights, offset and noise of the HAADF image, obeying what is given and fitting the rest.

    Parameters
    ----------
    counts : (E, R, C) array
        Measured maps.
    image : (R, C) array or None
        HAADF image.
    numbers : (E,) array
        Atomic numbers.
    empty : (E,) array of bool
        Maps that are zero everywhere; their weight is zero.
    setup : dict
        ``names``, ``elements``, ``gamma`` (None to fit it), ``forward``, ``fidelity``, ``background`` and
        ``sensitivities``.
    weights, offset, noise
        As :meth:`ElementMaps.create_model`.
    stored : float, optional
        Offset that the file of the image states. It is used where it agrees with the one that is fitted.

    Returns
    -------
    dict
        ``weights`` (E,), ``haadf_offset`` float, ``haadf_noise`` float or (R, C) array, ``gamma`` float, the
        standard errors ``weights_error`` (E,), ``haadf_offset_error``, ``haadf_noise_error`` and
        ``gamma_error``, ``weights_covariance`` (E + 1, E + 1) of the weights and the offset,
        ``weights_data_share`` (E,), ``haadf_offset_rule``: "given", "stored", "fitted" or "none", and
        ``weights_rule``: "given", "fitted", "prior" (the maps did not
        determine them), "sensitivities" or "none" (without an image).

    Raises
    ------
    ValueError

    Warns
    -----
    UserWarning
        If the maps do not tell how much each element adds to the image, or not the gamma that was to be fitted.
    """
    names, sensitivities = setup["names"], setup["sensitivities"]
    if image is None:
        _refuse_without_image(weights, offset, noise, sensitivities, setup["gamma"])
        return _nothing(len(names), setup["gamma"])
    weights = _given_weights(weights, names, sensitivities)
    _check_gamma(setup, weights, numbers)
    offset = None if _is_auto(offset, "haadf_offset") else checks.number(offset, "haadf_offset")
    noise = None if _is_auto(noise, "haadf_noise") else _given_noise(noise, image.shape)
    haadf = _usable(image, noise)
    if offset is not None and (weights is None or np.isnan(weights).any()):
        _check_offset(offset, haadf)
    fit = _linear if setup["forward"] == "linear" else _power
    found = fit(counts, haadf, numbers, setup, weights, offset)
    offset_rule = "fitted" if offset is None else "given"
    if offset is None and stored is not None and _agrees(stored, found):
        offset, offset_rule = stored, "stored"
        found = fit(counts, haadf, numbers, setup, weights, offset)
    if not empty.all():
        _warn(found, setup, weights, empty)
    noise_error = 0.0
    if noise is None:
        noise = max(found.noise, SMALLEST_NOISE * float(haadf.std()))
        noise_error = found.noise_error
    fitted_gamma = setup["gamma"] is None
    return {
        "weights": np.where(empty, 0.0, found.weights),
        "weights_error": np.where(empty, 0.0, found.weights_error),
        "weights_rule": _rule(weights, sensitivities, found),
        "weights_data_share": found.data_share,
        "weights_covariance": found.covariance,
        "haadf_offset": found.offset if offset is None else offset,
        "haadf_offset_error": found.offset_error,
        "haadf_offset_rule": offset_rule,
        "haadf_noise": noise,
        "haadf_noise_error": float(noise_error),
        "gamma": float(found.gamma if fitted_gamma else setup["gamma"]),
        "gamma_error": float(found.gamma_error) if fitted_gamma else 0.0,
    }


def _nothing(elements, gamma):
    return {
        "weights": np.zeros(elements),
        "weights_error": np.zeros(elements),
        "weights_rule": "none",
        "weights_data_share": np.zeros(elements),
        "weights_covariance": np.zeros((elements + 1, elements + 1)),
        "haadf_offset": 0.0,
        "haadf_offset_error": 0.0,
        "haadf_offset_rule": "none",
        "haadf_noise": 1.0,
        "haadf_noise_error": 0.0,
        "gamma": float(gamma),
        "gamma_error": 0.0,
    }


def _usable(haadf, noise):
    """The image with pixels that infinite noise leaves out replaced by their nearest neighbours."""
    return fill_left_out(haadf, np.isinf(noise)) if isinstance(noise, np.ndarray) else haadf


def _linear(counts, haadf, numbers, setup, weights, offset):
    """Weights, offset and noise of the weighted sum of the maps."""
    fitted_gamma = setup["gamma"] is None
    gamma = USUAL_GAMMA if fitted_gamma else setup["gamma"]
    prior = prior_weights(numbers, {**setup, "gamma": 0.0 if fitted_gamma else gamma})
    return calibrate_haadf(
        counts,
        haadf,
        prior,
        fidelity=tuple(setup["fidelity"]),
        noise=setup["noise"],
        background=setup["background"],
        weights=weights,
        offset=offset,
        fixed_ratios=setup["sensitivities"] is not None,
        atomic_numbers=numbers if fitted_gamma else None,
        gamma=gamma,
    )


def _power(counts, haadf, numbers, setup, weights, offset):
    """Weights, offset and noise of the sum of powers of the maps, with the ratios of the prior."""
    if weights is not None and np.isnan(weights).any():
        raise ValueError(
            "weights: found 'auto' for some elements; with forward='power' give all of them, or none."
        )
    ratios = prior_weights(numbers, setup)
    return power_scale(
        counts, haadf, ratios, setup, weights=weights, offset=offset, gamma=setup["gamma"]
    )


def _agrees(stored, found):
    """Whether a stored offset may be the offset of this image; warns if not.

    Values that were summed, scaled or cut since are no longer those of the file.
    """
    # Misfit of the model shifts the offset as well, by about what it leaves of the image.
    if abs(stored - found.offset) <= DISAGREEMENT * np.hypot(found.offset_error, found.noise):
        return True
    warn_caller(
        f"haadf_offset: the file of the image states {stored:g} for no intensity, but the maps ask for "
        f"{found.offset:g} +- {found.offset_error:.2g}, which was used. Pass haadf_offset to decide yourself."
    )
    return False


def _check_gamma(setup, weights, numbers):
    """Refuse to fit gamma where nothing can tell it."""
    if setup["gamma"] is not None or setup["forward"] == "power":
        return
    if weights is not None:
        raise ValueError(
            "gamma: found 'auto' together with weights, which leave nothing to find it from; pass sensitivities "
            "instead of weights."
        )
    if setup["sensitivities"] is None:
        raise ValueError(
            "gamma: found 'auto', but no sensitivities: the weights are Z**gamma over the counts one atom "
            "yields, and tell gamma only where these are known. Pass sensitivities, or a number such as 1.7."
        )
    if len(set(numbers)) < 2:
        raise ValueError(
            f"gamma: found 'auto', but maps of {setup['elements'][0]} only; at least two elements are needed to "
            "find how the intensity depends on the atomic number. Pass a number such as 1.7."
        )


def _check_offset(offset, haadf):
    mean = float(haadf.mean())
    if offset >= mean:
        raise ValueError(
            f"haadf_offset: found {offset:g}, but the mean of the image is only {mean:g}; the "
            "intensity without specimen must be lower."
        )


def _warn(found, setup, weights, empty):
    """Say what the data did not tell."""
    free = np.ones(len(empty), dtype=bool) if weights is None else np.isnan(weights)
    if not free.any():
        return
    if not found.weights.any():
        warn_caller(
            "haadf: the image does not get brighter where any of the elements is, so it cannot help "
            "them; check that it is a HAADF (dark-field) image and aligned with the maps.",
        )
    elif not found.identified and setup["sensitivities"] is None:
        warn_caller(
            f"weights: {found.message} Pass sensitivities, the counts one atom of each element yields, "
            "or weights, to decide yourself.",
        )
    if setup["gamma"] is None:
        _warn_of_gamma(found.gamma, found.gamma_error)


def _warn_of_gamma(gamma, error):
    low, high = GAMMA_RANGE
    if min(gamma - low, high - gamma) < 1e-3:
        warn_caller(
            f"gamma: the data ask for a value beyond {gamma:.3g}, the bound of what is known of HAADF images "
            "(4/3 to 2), where it was left; the sensitivities, or an element that is not mapped, may be the "
            "reason."
        )
    elif not error < (high - low) / 4:
        warn_caller(
            f"gamma: the maps hardly tell it; {gamma:.3g} was taken, with a standard error of {error:.2g}."
        )


def _rule(weights, sensitivities, found):
    if weights is not None and not np.isnan(weights).any():
        return "given"
    if sensitivities is not None:
        return "sensitivities"
    return "fitted" if found.identified else "prior"


def _refuse_without_image(weights, offset, noise, sensitivities, gamma):
    given = {"weights": weights, "haadf_offset": offset, "haadf_noise": noise}
    for name, value in given.items():
        if not _is_auto(value, name):
            raise ValueError(
                f"{name}: found {value!r}, but there is no HAADF image to use it with; pass haadf, or "
                f"leave {name}='auto'."
            )
    if gamma is None:
        raise ValueError(
            "gamma: found 'auto', but there is no HAADF image to find it from; pass haadf, or leave gamma out."
        )
    if sensitivities is not None:
        raise ValueError(
            "sensitivities: found values, but there is no HAADF image to use them with; pass haadf, or "
            "leave sensitivities=None."
        )


def _is_auto(value, name):
    return isinstance(value, str) and checks.choice(value, ("auto",), name) == "auto"


def _given_weights(weights, names, sensitivities):
    """Weights that are known, NaN for those to find; None where all are to be found."""
    if _is_auto(weights, "weights"):
        return None
    if sensitivities is not None:
        raise ValueError(
            "weights: found together with sensitivities, which say the same in another way; give one of "
            "them."
        )
    if isinstance(weights, dict):
        weights = checks.from_dict(weights, names, "weights", None)
    wanted = np.zeros(len(names), dtype=bool)
    if isinstance(weights, (list, tuple)) and len(weights) == len(names):
        wanted = np.array([isinstance(entry, str) and entry == "auto" for entry in weights])
        weights = [0.0 if auto else entry for entry, auto in zip(weights, wanted)]
    found = checks.per_element(weights, names, "weights")
    if wanted.all():
        return None
    found[wanted] = np.nan
    return found


def _given_noise(noise, shape):
    """A number, or an image in which infinity leaves pixels out."""
    found = checks.values_of(noise)
    if found.ndim == 0:
        return checks.number(noise, "haadf_noise", positive=True)
    if found.shape != shape or found.dtype.kind not in "uif":
        raise ValueError(
            f"haadf_noise: found an array of shape {found.shape} and type {found.dtype}; a number, or "
            f"an image of shape {shape}, is needed."
        )
    if not (found > 0).all() or not np.isfinite(found).any():
        raise ValueError(
            f"haadf_noise: found {int((~(found > 0)).sum())} values that are not > 0; all must be, and "
            "infinite ones leave pixels out."
        )
    return np.array(found, dtype=float)


def prior_weights(numbers, setup):
    """HAADF intensity per count that the atomic numbers suggest, up to one factor.

    ``Z**gamma / sensitivity`` for the linear model and ``Z / sensitivity`` for the power model, whose
    exponent applies to the whole term. Several lines of one element share its atoms. Where the sensitivities
    are not known, those of equal k-factors stand for counts, the atomic weights: k-factors of mapped lines lie
    within a factor of two or three of one another, counts per atom do not. Other maps are taken for atoms.

    Parameters
    ----------
    numbers : (E,) array
        Atomic numbers.
    setup : dict
        ``elements``, ``gamma``, ``forward``, ``fidelity`` and ``sensitivities``.

    Returns
    -------
    (E,) array
    """
    exponent = setup["gamma"] if setup["forward"] == "linear" else 1.0
    sensitivities = setup["sensitivities"]
    if sensitivities is None:
        counted = np.array([entry == "poisson" for entry in setup["fidelity"]])
        sensitivities = np.where(counted, atomic_weights(setup["elements"]), 1.0)
        if not counted.all():
            sensitivities = np.ones(len(numbers))
    maps_of_element = np.array([setup["elements"].count(element) for element in setup["elements"]])
    return numbers**exponent / sensitivities / maps_of_element
