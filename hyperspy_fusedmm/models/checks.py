"""Checks of what a fusion is given: every error names the argument, what was found, what is needed."""

import difflib
import numbers

import numpy as np

from ..signals.grid import check_same_grid, check_uniform
from ..signals.warning import warn_caller

# Maps whose values are multiples of one over these were averaged over windows of 2 x 2 to 7 x 7.
_WINDOWS = {n * n: n for n in (2, 3, 5, 7)}

# Less noise than this, relative to the largest value, is the rounding of numbers.
SMALLEST_MAP_NOISE = 1e-6


def choice(value, allowed, name):
    """One of a few strings.

    Parameters
    ----------
    value : object
    allowed : sequence of str
    name : str
        What the error calls the argument.

    Returns
    -------
    str

    Raises
    ------
    ValueError
    """
    if value not in allowed:
        close = difflib.get_close_matches(str(value), [str(entry) for entry in allowed], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{name}: found {value!r}; one of {', '.join(map(repr, allowed))} is needed.{hint}"
        )
    return value


def number(value, name, minimum=-np.inf, maximum=np.inf, positive=False):
    """A finite number within its limits.

    Parameters
    ----------
    value : float
    name : str
        What the error calls the argument.
    minimum, maximum : float
    positive : bool
        Whether zero is refused as well.

    Returns
    -------
    float

    Raises
    ------
    ValueError
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and np.isfinite(value) and minimum <= value <= maximum) or (
        positive and value <= 0
    ):
        needed = f"a number from {minimum:g} to {maximum:g}"
        if np.isinf(maximum):
            needed = "a finite number" if np.isinf(minimum) else f"a finite number >= {minimum:g}"
        needed = "a finite number > 0" if positive else needed
        raise ValueError(f"{name}: found {value!r}; {needed} is needed.")
    return float(value)


def whole_number(value, name, minimum):
    """An integer that is not too small.

    Parameters
    ----------
    value : int
    name : str
        What the error calls the argument.
    minimum : int

    Returns
    -------
    int

    Raises
    ------
    ValueError
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name}: found {value!r}; a whole number >= {minimum} is needed.")
    return int(value)


def per_element(value, names, name, *, missing=None, positive=False):
    """One number >= 0 per element.

    Parameters
    ----------
    value : float, sequence of E floats, or dict of element to float
    names : list of str
        Elements in the order of the maps.
    name : str
        What the error calls the argument.
    missing : float, optional
        Value of elements that a dict leaves out; by default all are needed.
    positive : bool
        Whether zero is refused as well.

    Returns
    -------
    (E,) array

    Raises
    ------
    ValueError
    """
    if isinstance(value, dict):
        value = _from_dict(value, names, name, missing)
    try:
        found = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: found {value!r}; {_needed(names)} are needed.") from None
    if found.ndim and found.shape != (len(names),):
        raise ValueError(
            f"{name}: found an array of shape {found.shape}; {_needed(names)} are needed."
        )
    found = np.array(np.broadcast_to(found, (len(names),)))
    if not np.isfinite(found).all() or (found < 0).any() or (positive and (found == 0).any()):
        raise ValueError(
            f"{name}: found {', '.join(f'{n}: {v:g}' for n, v in zip(names, found))}; finite numbers "
            f"{'> 0' if positive else '>= 0'} are needed."
        )
    return found


def _needed(names):
    return f"a number, or {len(names)} numbers (or a dict) for {', '.join(names)}"


def _from_dict(value, names, name, missing):
    unknown = [str(key) for key in value if key not in names]
    absent = [entry for entry in names if entry not in value]
    if unknown or (absent and missing is None):
        problem = (
            f"unknown {', '.join(unknown)}" if unknown else f"no value for {', '.join(absent)}"
        )
        raise ValueError(f"{name}: found {problem}; the maps are {', '.join(names)}.")
    return [value.get(entry, missing) for entry in names]


def per_map(value, names, shape, name, *, missing=None, positive=False):
    """One number >= 0 per element, or one per element and pixel.

    Parameters
    ----------
    value : float, sequence, dict, array or signal of shape (E, R, C)
    names : list of str
    shape : tuple of int
        (E, R, C)
    name : str
        What the error calls the argument.
    missing : float, optional
        Value of elements that a dict leaves out; by default all are needed.
    positive : bool
        Whether zero is refused as well.

    Returns
    -------
    (E,) or (E, R, C) array

    Raises
    ------
    ValueError
    """
    data = None if isinstance(value, dict) else values_of(value)
    if data is None or data.ndim < 2:
        return per_element(value, names, name, missing=missing, positive=positive)
    if data.ndim == 2 and shape[0] == 1:
        data = data[np.newaxis]
    if data.shape != shape:
        raise ValueError(
            f"{name}: found an array of shape {data.shape}; {_needed(names)}, or an array of shape "
            f"{shape} like the maps, are needed."
        )
    return _positive_image(data, name, positive)


def _positive_image(data, name, positive):
    wrong = ~np.isfinite(data) | ((data <= 0) if positive else (data < 0))
    if wrong.any():
        raise ValueError(
            f"{name}: found {int(wrong.sum())} values that are NaN, infinite or "
            f"{'not positive' if positive else 'negative'}; finite numbers "
            f"{'> 0' if positive else '>= 0'} are needed."
        )
    return np.array(data, dtype=float)


def values_of(thing):
    """Values of a signal or of any array, without a copy where they are in memory already.

    Parameters
    ----------
    thing : hyperspy signal or array-like

    Returns
    -------
    numpy.ndarray
    """
    data = thing.data if hasattr(thing, "axes_manager") else thing
    return np.asarray(data.compute() if hasattr(data, "dask") else data)


def haadf_image(haadf, maps):
    """A copy, in memory, of a HAADF image that lies on the grid of the maps.

    Parameters
    ----------
    haadf : Signal2D, or array of shape (R, C)
    maps : ElementMaps

    Returns
    -------
    Signal2D

    Raises
    ------
    ValueError
        If it is not one real image with contrast, or lies on another grid.
    """
    from hyperspy.signal import BaseSignal
    from hyperspy.signals import Signal2D

    grid = maps.axes_manager.signal_axes[::-1]
    if not isinstance(haadf, BaseSignal):
        array = values_of(haadf)
        if array.ndim != 2 or array.dtype.kind not in "buif":
            raise ValueError(
                f"haadf: found {type(haadf).__name__} of shape {array.shape} and type {array.dtype}; "
                "a Signal2D or an array of shape (rows, columns) is needed."
            )
        axes = [axis.get_axis_dictionary() for axis in grid]
        for axis, size in zip(axes, array.shape):
            axis["size"] = size
        haadf = Signal2D(array.copy(), axes=axes)
        haadf.metadata.General.title = "HAADF"
    dimensions = (haadf.axes_manager.navigation_dimension, haadf.axes_manager.signal_dimension)
    if dimensions not in ((0, 2), (2, 0)) or haadf.data.dtype.kind not in "buif":
        raise ValueError(
            f"haadf: found {haadf!r} of type {haadf.data.dtype}; one two-dimensional image of real "
            "numbers is needed. Sum frames with haadf.sum(), or choose one with inav."
        )
    image = haadf.transpose(signal_axes=2) if dimensions == (2, 0) else haadf
    check_same_grid(image.axes_manager.signal_axes[::-1], grid, "haadf", "the element maps")
    image = image._deepcopy_with_new_data(np.array(values_of(image)))
    if image._lazy:
        image._lazy = False
        image._assign_subclass()
    _check_contrast(image.data)
    return image


def _check_contrast(image):
    wrong = int((~np.isfinite(image)).sum())
    if wrong:
        raise ValueError(
            f"haadf: found {wrong} NaN or infinite pixels; finite values are needed. Replace them, and "
            "exclude them with an infinite haadf_noise there."
        )
    if image.min() == image.max():
        raise ValueError(
            f"haadf: found {image.flat[0]} at every pixel; an image with contrast is needed. Pass "
            "haadf=None to use the counts alone."
        )


def named_maps(maps):
    """Names of the maps, after checking that there is one for each and that the grid is regular.

    Parameters
    ----------
    maps : ElementMaps

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
    """
    if maps.axes_manager.signal_dimension != 2 or maps.axes_manager.navigation_dimension > 1:
        raise ValueError(
            f"maps: found {maps!r}; dimensions (Element|x, y) are needed. Choose one frame with inav, "
            "or sum over the other axes."
        )
    if not maps.elements:
        raise ValueError(
            "maps: found no element names; set metadata.Sample.elements, one per map, or use "
            "element_maps(source, elements=[...])."
        )
    check_uniform(maps.axes_manager.signal_axes, "maps")
    return maps._map_names()


def finite_maps(data, names):
    """Refuse NaN and infinite values.

    Parameters
    ----------
    data : (E, R, C) array
    names : list of str

    Raises
    ------
    ValueError
    """
    for name, values in zip(names, data):
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise ValueError(
                f"maps: found {wrong} NaN or infinite values in the map of {name}; finite values are "
                "needed."
            )


def fidelities(fidelity, data, names):
    """Likelihood of every map.

    Parameters
    ----------
    fidelity : {"auto", "poisson", "gaussian"}, or a list or dict of these
    data : (E, R, C) array
        Finite values.
    names : list of str

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
        fidelity = _from_dict(fidelity, names, "fidelity", "auto")
    wanted = [fidelity] * len(names) if isinstance(fidelity, str) else fidelity
    if not isinstance(wanted, (list, tuple)) or len(wanted) != len(names):
        raise ValueError(
            f"fidelity: found {fidelity!r}; 'auto', 'poisson' or 'gaussian' is needed, or one of them "
            f"for each of {', '.join(names)}."
        )
    result, not_counts = [], []
    for name, values, entry in zip(names, data, wanted):
        choice(entry, ("auto", "poisson", "gaussian"), "fidelity")
        counts = bool((values >= 0).all() and (values == np.rint(values)).all())
        if entry == "auto":
            entry = "poisson" if counts else "gaussian"
        elif entry == "poisson" and not counts:
            _check_not_negative(name, values)
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


def empty_maps(data, names):
    """Which maps are zero everywhere; warns about them.

    Parameters
    ----------
    data : (E, R, C) array
    names : list of str

    Returns
    -------
    (E,) array of bool

    Warns
    -----
    UserWarning
    """
    empty = np.array([not values.any() for values in data])
    if empty.any():
        which = ", ".join(name for name, gone in zip(names, empty) if gone)
        warn_caller(
            f"maps: the map of {which} is zero everywhere; it stays zero and gets no weight in the "
            "HAADF image.",
        )
    return empty


def preset(name):
    """Refuse sets of options that do not exist.

    Parameters
    ----------
    name : str or None

    Raises
    ------
    ValueError, NotImplementedError
    """
    if name is None:
        return
    choice(name, ("schwartz2022",), "preset")
    raise NotImplementedError(
        f"preset: {name!r} is not available in this version; give the options one by one."
    )


def finite_values(data, name):
    """Refuse NaN, infinite and negative values.

    Parameters
    ----------
    data : array
    name : str
        What the error calls the argument.

    Returns
    -------
    array
        A copy, as floats.

    Raises
    ------
    ValueError
    """
    return _positive_image(data, name, positive=False)


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


def noise_of_variance(variance, shape, gaussian):
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
    noise[gaussian] = np.sqrt(data[gaussian])
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
