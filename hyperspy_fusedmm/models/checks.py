"""Checks of arguments: every error names the argument, what was found and what is needed."""

import difflib
import numbers

import numpy as np


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


def _is_real(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


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
    if not (_is_real(value) and np.isfinite(value) and minimum <= value <= maximum) or (
        positive and value <= 0
    ):
        needed = f"a number from {minimum:g} to {maximum:g}"
        if np.isinf(maximum):
            needed = "a finite number" if np.isinf(minimum) else f"a finite number >= {minimum:g}"
        needed = "a finite number > 0" if positive else needed
        raise ValueError(f"{name}: found {value!r}; {needed} is needed.")
    return float(value)


def confidence(value):
    """A probability that is neither 0 nor 1.

    Parameters
    ----------
    value : float

    Returns
    -------
    float

    Raises
    ------
    ValueError
    """
    if not (_is_real(value) and 0 < value < 1):
        raise ValueError(f"confidence: found {value!r}; a number above 0 and below 1 is needed.")
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
        value = from_dict(value, names, name, missing)
    try:
        found = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: found {value!r}; {_needed(names)} is needed.") from None
    if found.ndim and found.shape != (len(names),):
        raise ValueError(
            f"{name}: found an array of shape {found.shape}; {_needed(names)} is needed."
        )
    found = np.array(np.broadcast_to(found, (len(names),)))
    if not np.isfinite(found).all() or (found < 0).any() or (positive and (found == 0).any()):
        raise ValueError(
            f"{name}: found {', '.join(f'{n}: {v:g}' for n, v in zip(names, found))}; finite numbers "
            f"{'> 0' if positive else '>= 0'} are needed."
        )
    return found


def _needed(names):
    count = f"{len(names)} numbers" if len(names) > 1 else "a list of one"
    return f"a number, or {count} or a dict for {', '.join(names)},"


def from_dict(value, names, name, missing):
    """Values of a dict in the order of the maps.

    Parameters
    ----------
    value : dict
        Element to value.
    names : list of str
    name : str
        What the error calls the argument.
    missing : object
        Value of elements that are left out; None if there must be none.

    Returns
    -------
    list

    Raises
    ------
    ValueError
    """
    unknown = [str(key) for key in value if key not in names]
    absent = [entry for entry in names if entry not in value]
    if unknown or (absent and missing is None):
        problem = (
            f"unknown {', '.join(unknown)}" if unknown else f"no value for {', '.join(absent)}"
        )
        raise ValueError(f"{name}: found {problem}; the maps are of {', '.join(names)}.")
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
            f"{name}: found an array of shape {data.shape}; {_needed(names)} or an array of shape "
            f"{shape} like the maps is needed."
        )
    return not_negative(data, name, positive)


def not_negative(data, name, positive=False):
    """A copy, as floats, of finite values >= 0.

    Parameters
    ----------
    data : array
    name : str
        What the error calls the argument.
    positive : bool
        Whether zero is refused as well.

    Returns
    -------
    array

    Raises
    ------
    ValueError
    """
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
