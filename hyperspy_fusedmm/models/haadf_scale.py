"""How counts become HAADF intensity: weights, offset and noise, given or fitted."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from ..signals.warning import warn_caller
from ..solver import calibrate_haadf
from ..solver.smoothing import chosen_blur
from . import checks

# Least noise that is believed, in units of the image's own standard deviation: an image that the maps
# explain without any misfit would otherwise decide everything.
SMALLEST_NOISE = 1e-3


def haadf_scale(counts, image, numbers, empty, setup, *, weights, offset, noise):
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
        ``names``, ``elements``, ``gamma``, ``forward``, ``fidelity``, ``background`` and
        ``sensitivities``.
    weights, offset, noise
        As :meth:`ElementMaps.create_model`.

    Returns
    -------
    dict
        ``weights`` (E,), ``haadf_offset`` float, ``haadf_noise`` float or (R, C) array, and
        ``weights_rule``: "given", "fitted", "prior" (the maps did not determine them), "sensitivities" or
        "none" (without an image).

    Raises
    ------
    ValueError

    Warns
    -----
    UserWarning
        If the maps do not tell how much each element adds to the image.
    """
    names, sensitivities = setup["names"], setup["sensitivities"]
    if image is None:
        _refuse_without_image(weights, offset, noise, sensitivities)
        return {
            "weights": np.zeros(len(names)),
            "haadf_offset": 0.0,
            "haadf_noise": 1.0,
            "weights_rule": "none",
        }
    weights = _given_weights(weights, names, sensitivities)
    offset = None if _is_auto(offset, "haadf_offset") else checks.number(offset, "haadf_offset")
    noise = None if _is_auto(noise, "haadf_noise") else _given_noise(noise, image.shape)
    haadf = _usable(image, noise)
    found = _calibrated(counts, haadf, prior_weights(numbers, setup), setup, weights)
    if weights is None and not empty.all():
        _warn(found, sensitivities)
    scale = np.where(empty, 0.0, found.weights)
    if weights is None and offset is not None:
        scale = _with_offset(scale, offset, counts, haadf, setup)
        found = _calibrated(counts, haadf, scale, setup, scale)
    if offset is None:
        offset = found.offset
    if noise is None:
        # A given offset that is off adds to the misfit of every pixel.
        noise = float(np.hypot(found.noise, found.offset - offset))
        noise = max(noise, SMALLEST_NOISE * float(haadf.std()))
    return {
        "weights": scale,
        "haadf_offset": float(offset),
        "haadf_noise": noise,
        "weights_rule": _rule(weights, sensitivities, found),
    }


def _usable(haadf, noise):
    """The image with pixels that infinite noise leaves out replaced by their nearest neighbours."""
    if not isinstance(noise, np.ndarray) or np.isfinite(noise).all():
        return haadf
    nearest = distance_transform_edt(np.isinf(noise), return_distances=False, return_indices=True)
    return haadf[tuple(nearest)]


def _calibrated(counts, haadf, prior, setup, weights):
    options = {
        "fidelity": tuple(setup["fidelity"]),
        "noise": setup["noise"],
        "background": setup["background"],
    }
    if setup["forward"] == "linear":
        return calibrate_haadf(
            counts,
            haadf,
            prior,
            weights=weights,
            fixed_ratios=setup["sensitivities"] is not None,
            **options,
        )
    return _power_calibrated(counts, haadf, prior if weights is None else weights, setup, weights)


def _power_calibrated(counts, haadf, prior, setup, weights):
    """Gain, offset and noise of ``sum_i (c_i x_i)**gamma``, with the ratios of the prior.

    A power of noisy counts is not the power of their mean, so it is formed from blurred maps.
    """
    background = _per_voxel(setup["background"])
    noise = _per_voxel(setup["noise"])
    signal = np.zeros(haadf.shape)
    for i, entry in enumerate(setup["fidelity"]):
        variance = None if entry == "poisson" else float(np.mean(noise[i] ** 2))
        pilot, _ = chosen_blur(counts[i], variance)
        signal += (prior[i] * np.maximum(pilot - background[i], 0)) ** setup["gamma"]
    found = calibrate_haadf(
        signal[np.newaxis],
        haadf,
        [1.0],
        fidelity="gaussian",
        noise=0.0,
        weights=None if weights is None else [1.0],
    )
    gain = float(found.weights[0]) ** (1 / setup["gamma"])
    return replace(found, weights=prior if weights is not None else gain * np.asarray(prior))


def _per_voxel(values):
    return values[:, np.newaxis, np.newaxis] if values.ndim == 1 else values


def _with_offset(weights, offset, counts, haadf, setup):
    """Scale weights so that, with the given offset, the mean of the image is met."""
    signal = weights[:, np.newaxis, np.newaxis] * (counts - _per_voxel(setup["background"]))
    exponent = 1.0 if setup["forward"] == "linear" else setup["gamma"]
    explained = float((np.maximum(signal.mean(axis=(1, 2)), 0) ** exponent).sum())
    wanted = float(haadf.mean()) - offset
    if wanted <= 0:
        raise ValueError(
            f"haadf_offset: found {offset:g}, but the mean of the image is only {haadf.mean():g}; the "
            "intensity without specimen must be lower."
        )
    return weights if explained == 0 else weights * (wanted / explained) ** (1 / exponent)


def _warn(found, sensitivities):
    if not found.weights.any():
        warn_caller(
            "haadf: the image does not get brighter where any of the elements is, so it cannot help "
            "them; check that it is a HAADF (dark-field) image and aligned with the maps.",
        )
    elif not found.identified and sensitivities is None:
        warn_caller(
            f"weights: {found.message} Pass sensitivities, the counts one atom of each element yields, "
            "or weights, to decide yourself.",
        )


def _rule(weights, sensitivities, found):
    if weights is not None:
        return "given"
    if sensitivities is not None:
        return "sensitivities"
    return "fitted" if found.identified else "prior"


def _refuse_without_image(weights, offset, noise, sensitivities):
    given = {"weights": weights, "haadf_offset": offset, "haadf_noise": noise}
    for name, value in given.items():
        if not _is_auto(value, name):
            raise ValueError(
                f"{name}: found {value!r}, but there is no HAADF image to use it with; pass haadf, or "
                f"leave {name}='auto'."
            )
    if sensitivities is not None:
        raise ValueError(
            "sensitivities: found values, but there is no HAADF image to use them with; pass haadf, or "
            "leave sensitivities=None."
        )


def _is_auto(value, name):
    return isinstance(value, str) and checks.choice(value, ("auto",), name) == "auto"


def _given_weights(weights, names, sensitivities):
    if _is_auto(weights, "weights"):
        return None
    if sensitivities is not None:
        raise ValueError(
            "weights: found together with sensitivities, which say the same in another way; give one of "
            "them."
        )
    return checks.per_element(weights, names, "weights")


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
    exponent applies to the whole term. Several lines of one element share its atoms.

    Parameters
    ----------
    numbers : (E,) array
        Atomic numbers.
    setup : dict
        ``elements``, ``gamma``, ``forward`` and ``sensitivities``.

    Returns
    -------
    (E,) array
    """
    exponent = setup["gamma"] if setup["forward"] == "linear" else 1.0
    sensitivities = 1.0 if setup["sensitivities"] is None else setup["sensitivities"]
    maps_of_element = np.array([setup["elements"].count(element) for element in setup["elements"]])
    return numbers**exponent / sensitivities / maps_of_element
