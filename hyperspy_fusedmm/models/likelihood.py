"""The likelihood of every map: Poisson or Gaussian, its background and its noise."""

import numpy as np

from ..signals.warning import warn_caller
from .checks import choice, from_dict, per_map, values_of

# Maps whose values are multiples of one over these were averaged over windows of 2 x 2 to 7 x 7.
_WINDOWS = {n * n: n for n in (2, 3, 5, 7)}

# Less noise than this, relative to the largest value, is the rounding of numbers.
SMALLEST_MAP_NOISE = 1e-6


def fidelities(fidelity, data, names, default="auto"):
    """Likelihood of every map.

    Parameters
    ----------
    fidelity : {"auto", "poisson", "gaussian"}, or a list or dict of these
    data : (E, R, C) array
        Finite values.
    names : list of str
    default : {"auto", "poisson", "gaussian"}
        What "auto" stands for. Anything but "auto" means that no map is expected to hold counts.

    Returns
    -------
    list of str
        "poisson" or "gaussian" per map.

    Raises
    ------
    ValueError
        If a choice does not exist, or a Poisson map has negative values.

    Warns
    -----
    UserWarning
        If a map is called Poisson and plainly does not hold counts.
    """
    if isinstance(fidelity, dict):
        fidelity = from_dict(fidelity, names, "fidelity", "auto")
    wanted = [fidelity] * len(names) if isinstance(fidelity, str) else fidelity
    if not isinstance(wanted, (list, tuple)) or len(wanted) != len(names):
        raise ValueError(
            f"fidelity: found {fidelity!r}; 'auto', 'poisson' or 'gaussian' is needed, or one of them "
            f"for each of {', '.join(names)}."
        )
    result, not_counts = [], []
    for name, values, entry in zip(names, data, wanted):
        choice(entry, ("auto", "poisson", "gaussian"), "fidelity")
        entry = default if entry == "auto" else entry
        counts = bool((values >= 0).all() and (values == np.rint(values)).all())
        if entry == "auto":
            entry = "poisson" if counts else "gaussian"
        elif entry == "poisson" and not counts:
            _check_not_negative(name, values)
            if default == "auto":
                not_counts.append(f"{name} {_origin(values)}")
        result.append(entry)
    if not_counts:
        warn_caller(
            f"fidelity: instead of counts the maps hold {', '.join(not_counts)}. The Poisson "
            "likelihood takes the value of a pixel for its variance, so its weight against the HAADF "
            "will be wrong: pass the counts themselves, or fidelity='gaussian'."
        )
    return result


def _check_not_negative(name, values):
    if (values < 0).any():
        raise ValueError(
            f"maps: found negative values in the map of {name} (smallest {values.min():g}); the "
            "Poisson likelihood needs counts >= 0. Use fidelity='gaussian', or extract the map "
            "without subtracting the background and pass it as background."
        )


def _origin(values):
    """What values that are not counts look like."""
    for area, n in _WINDOWS.items():
        if np.allclose(values * area, np.rint(values * area), atol=1e-3):
            return (
                f"(multiples of 1/{area}, as a {n} x {n} mean filter leaves them, Velox's for one)"
            )
    return f"(fractions up to {values.max():g})"


def background(value, names, shape, fidelity, maps):
    """Expected background of every Poisson map.

    Parameters
    ----------
    value : "auto", float, (E,), dict, or array or signal of shape (E, R, C)
        Elements that a dict leaves out have none. "auto" takes the background that is kept with the
        maps, if any.
    names : list of str
    shape : tuple of int
        (E, R, C)
    fidelity : list of str
    maps : ElementMaps

    Returns
    -------
    (E,) or (E, R, C) array

    Raises
    ------
    ValueError
    """
    if isinstance(value, str):
        choice(value, ("auto",), "background")
        value = _kept_background(maps, shape)
    found = per_map(value, names, shape, "background", missing=0.0)
    for i, (name, entry) in enumerate(zip(names, fidelity)):
        if entry == "gaussian" and found[i].any():
            raise ValueError(
                f"background: found {np.max(found[i]):g} for {name}, whose likelihood is Gaussian; only "
                "the Poisson likelihood knows a background. Subtract it from the map, or pass "
                f"fidelity={{{name!r}: 'poisson'}} and the counts with their background."
            )
    return found


def _kept_background(maps, shape):
    """What :func:`hyperspy_fusedmm.load_velox` leaves with the maps; 0 where there is nothing."""
    kept = maps.metadata.get_item("Background.counts", None)
    if kept is None:
        return 0.0
    values = values_of(kept)
    if values.size != np.prod(shape) or values.shape[-2:] != shape[-2:]:
        raise ValueError(
            f"background: found an array of shape {values.shape} in metadata.Background.counts of maps "
            f"of shape {shape}: it did not follow what was done to the maps. Pass background, or 0 for "
            "none."
        )
    return values.reshape(shape)


def given_noise(value, names, shape, gaussian):
    """Noise that the caller knows; that of Poisson maps, which nothing uses, is set to 1.

    Parameters
    ----------
    value : float, (E,), dict, or array or signal of shape (E, R, C)
        Elements that a dict leaves out must be Poisson.
    names : list of str
    shape : tuple of int
        (E, R, C)
    gaussian : (E,) array of bool
        Maps with the Gaussian likelihood.

    Returns
    -------
    (E,) or (E, R, C) array

    Raises
    ------
    ValueError
    """
    if not gaussian.any():
        raise ValueError(
            f"noise: found {value!r}, but every map has the Poisson likelihood, whose noise follows from "
            "the counts; leave noise='auto', or pass fidelity='gaussian'."
        )
    if isinstance(value, dict):
        absent = [n for n, needed in zip(names, gaussian) if needed and n not in value]
        if absent:
            raise ValueError(
                f"noise: found no value for {', '.join(absent)}, whose likelihood is Gaussian; one is "
                "needed."
            )
    found = per_map(value, names, shape, "noise", missing=1.0, positive=True)
    found[~gaussian] = 1.0
    return found


def noise_of_variance(variance, shape, gaussian, scale):
    """Noise from the variance that the maps carry in their metadata.

    Parameters
    ----------
    variance : float or signal of shape (E, R, C)
    shape : tuple of int
        (E, R, C)
    gaussian : (E,) array of bool

    Returns
    -------
    (E,) or (E, R, C) array

    Raises
    ------
    ValueError
    """
    name = "metadata.Signal.Noise_properties.variance"
    data = np.asarray(values_of(variance), dtype=float)
    if data.ndim == 0:
        data = np.full(shape[0], data)
    elif data.size == np.prod(shape):
        data = data.reshape(shape)
    else:
        raise ValueError(
            f"{name}: found an array of shape {data.shape}; {shape} is needed. Pass noise= to override "
            "it."
        )
    wrong = int((~(np.isfinite(data[gaussian]) & (data[gaussian] > 0))).sum())
    if wrong:
        raise ValueError(
            f"{name}: found {wrong} values that are not finite and > 0; all must be. Give the variance a "
            "floor, or pass noise= to override it."
        )
    noise = np.ones_like(data)
    scale = scale.reshape((-1,) + (1,) * (data.ndim - 1))
    noise[gaussian] = np.sqrt(data[gaussian]) / scale[gaussian]
    return noise


def estimated_noise(estimate, data, gaussian, names):
    """Noise estimated from the maps, where it is a number that can be used.

    Parameters
    ----------
    estimate : (E,) array
    data : (E, R, C) array
    gaussian : (E,) array of bool
    names : list of str

    Returns
    -------
    (E,) array

    Raises
    ------
    ValueError
        If a map with the Gaussian likelihood shows no noise.
    """
    noise = np.where(gaussian, np.asarray(estimate, dtype=float), 1.0)
    for i, name in enumerate(names):
        if not data[i].any():
            noise[i] = 1.0
        elif gaussian[i] and noise[i] <= SMALLEST_MAP_NOISE * np.abs(data[i]).max():
            raise ValueError(
                f"noise: the map of {name} shows no noise to estimate (found {noise[i]:g}); pass noise=, "
                "its standard deviation, or a map that was not smoothed."
            )
    return noise
