"""Element maps from whatever extraction left behind: lists, dicts, stacks, eager or lazy."""

import copy
from dataclasses import dataclass, field

import numpy as np

from .grid import check_same_grid, check_uniform, has_units, warn_of_other_origin
from .names import element_from_title, lines_of, parse_name, quantity_from_title
from .warning import warn_caller

# Written by HyperSpy for one signal; wrong for a stack of several.
_NOT_CARRIED = ("Signal", "_HyperSpy", "Markers")


@dataclass
class Piece:
    """What one entry of the source contributes: one map, or a stack of them.

    Attributes
    ----------
    where : str
        What errors call the entry.
    data : array
        Shape (n, R, C), NumPy or Dask.
    signal : hyperspy signal or None
        Where calibration and metadata come from; None for a plain array.
    axes : list
        Row and column axis of the signal; empty for a plain array.
    names : list of tuple
        Element and X-ray lines of each map; empty until known.
    """

    where: str
    data: object
    signal: object = None
    axes: list = field(default_factory=list)
    names: list = field(default_factory=list)

    @property
    def lazy(self):
        """Whether the values are yet to be computed."""
        return not isinstance(self.data, np.ndarray)


def assemble(source, elements=None, sum_lines=True):
    """Stack element maps and gather what is known about them.

    Parameters
    ----------
    source, elements, sum_lines
        As in :func:`hyperspy_fusedmm.element_maps`.

    Returns
    -------
    dict
        ``data`` (E, R, C), ``axes``, ``metadata``, ``original_metadata``, as a HyperSpy signal takes
        them, and ``variance`` and ``background``, each (E, R, C) or None.

    Raises
    ------
    TypeError, ValueError
        As :func:`hyperspy_fusedmm.element_maps`.
    """
    pieces = _pieces(source)
    if isinstance(source, dict):
        if elements is not None:
            raise TypeError(
                "elements: a dict already names its elements with its keys; leave elements=None."
            )
        elements = [name for name, piece in zip(source, pieces) for _ in range(len(piece.data))]
    _name(pieces, elements)
    _check_grids(pieces)
    names = [name for piece in pieces for name in piece.names]
    groups = _groups(names, sum_lines)
    _check_sums(names, groups)
    return {
        "data": _stacked([piece.data for piece in pieces], groups),
        "axes": _axes(pieces, len(groups)),
        "metadata": _metadata(pieces, names, groups),
        "original_metadata": _original_metadata(pieces),
        "variance": _variance(pieces, groups),
        "background": _background(pieces, groups),
    }


def _pieces(source):
    from hyperspy.signal import BaseSignal

    if isinstance(source, dict):
        entries = [(f"source[{key!r}]", value) for key, value in source.items()]
    elif isinstance(source, BaseSignal) or (hasattr(source, "ndim") and source.ndim > 1):
        entries = [("source", source)]
    elif isinstance(source, (list, tuple)):
        entries = [(f"source[{i}]", value) for i, value in enumerate(source)]
    else:
        raise TypeError(
            f"source: found {type(source).__name__}; a list of signals, a dict of element to map, or a "
            "stacked signal is needed."
        )
    if not entries:
        raise ValueError("source: no maps were given; at least one is needed.")
    return [_piece(value, where) for where, value in entries]


def _piece(value, where):
    from hyperspy.signal import BaseSignal

    if isinstance(value, (list, tuple)):
        raise TypeError(
            f"{where}: found a {type(value).__name__}; a signal is needed. Where eXSpy's "
            "quantification returns several results, pass the first of them, the list of maps."
        )
    if not isinstance(value, BaseSignal):
        data = value if hasattr(value, "dask") else np.asarray(value)
        return Piece(where, _three_dimensional(data, where, value))
    manager = value.axes_manager
    dimensions = (manager.navigation_dimension, manager.signal_dimension)
    # eXSpy returns intensities as (x, y|): navigation axes only.
    if dimensions not in ((0, 2), (1, 2), (2, 0), (3, 0)):
        raise ValueError(
            f"{where}: found {value!r}; element maps with two signal axes and at most one navigation "
            "axis are needed. A spectrum image has to be reduced to maps first, for example with "
            "eXSpy's get_lines_intensity()."
        )
    data, axes = _in_array_order(value)
    return Piece(where, _three_dimensional(data, where, value), value, axes[-2:])


def _in_array_order(signal):
    """Values and axes of a signal, navigation axes first and rows before columns."""
    manager = signal.axes_manager
    axes = list(manager.navigation_axes[::-1]) + list(manager.signal_axes[::-1])
    return signal.data.transpose([axis.index_in_array for axis in axes]), axes


def _three_dimensional(data, where, value):
    if data.ndim not in (2, 3):
        raise ValueError(
            f"{where}: found {data.ndim} dimension{'s' * (data.ndim != 1)} in {type(value).__name__}; a two-dimensional map "
            "or a stack of them is needed."
        )
    if data.dtype.kind not in "buif":
        raise TypeError(f"{where}: found values of type {data.dtype}; real numbers are needed.")
    return data if data.ndim == 3 else data[np.newaxis]


def _name(pieces, elements):
    """Fill in the names of all pieces, from the argument or from each signal."""
    count = sum(len(piece.data) for piece in pieces)
    if elements is not None:
        elements = [elements] if isinstance(elements, str) else list(elements)
        if len(elements) != count:
            raise ValueError(
                f"elements: found {len(elements)} names ({', '.join(map(str, elements))}) for {count} "
                "maps; one per map is needed."
            )
    for piece in pieces:
        known = _names_from(piece)
        if elements is None:
            if known is None:
                raise ValueError(_nameless(piece))
            piece.names = known
        else:
            given, elements = elements[: len(piece.data)], elements[len(piece.data) :]
            piece.names = [
                _given_name(name, known[i] if known else None, piece.where)
                for i, name in enumerate(given)
            ]


def _nameless(piece):
    title = piece.signal.metadata.General.title if piece.signal is not None else ""
    listed = _listed(piece.signal, "elements") if piece.signal is not None else []
    found = f"its title is {title!r}" + (f" and it lists {', '.join(listed)}" if listed else "")
    what = "map" if len(piece.data) == 1 else f"stack of {len(piece.data)} maps"
    return (
        f"{piece.where}: no element name was found for this {what} ({found}). Pass "
        "elements=['Fe', ...], one per map, or set metadata.Sample.elements of each signal; leave out "
        "signals that are not element maps."
    )


def _given_name(name, known, where):
    element, line = parse_name(name)
    if known is None:
        return element, [line] if line else []
    known_element, known_lines = known
    if known_element != element:
        warn_caller(
            f"elements: {where} is called {name!r}, but its own metadata says {known_element!r}; "
            f"{name!r} is used. Check the order of the names.",
        )
        known_lines = []
    return element, [line] if line else known_lines


def _names_from(piece):
    """Element and lines of each map of a piece, from its metadata, then its title."""
    if piece.signal is None:
        return None
    count = len(piece.data)
    elements, lines = _listed(piece.signal, "elements"), _listed(piece.signal, "xray_lines")
    if len(elements) == count:
        checked = [parse_name(element)[0] for element in elements]
        return [(element, lines_of(checked, lines, [i])) for i, element in enumerate(checked)]
    if len(lines) == count:
        return [(parse_name(line)[0], [line]) for line in lines]
    if count == 1:
        found = element_from_title(piece.signal.metadata.General.title)
        if found is not None:
            return [(found[0], [found[1]] if found[1] else [])]
    return None


def _listed(signal, item):
    value = signal.metadata.get_item(f"Sample.{item}", None)
    if value is None:
        return []
    return [str(value)] if isinstance(value, str) else [str(entry) for entry in value]


def _check_grids(pieces):
    reference = _reference(pieces)
    shape = reference.data.shape[1:]
    if reference.axes:
        check_uniform(reference.axes, reference.where)
    for piece in pieces:
        if piece.axes and reference.axes:
            check_same_grid(piece.axes, reference.axes, piece.where, reference.where)
            warn_of_other_origin(piece.axes, reference.axes, piece.where, reference.where)
        elif piece.data.shape[1:] != shape:
            raise ValueError(
                f"{piece.where}: found a map of shape {piece.data.shape[1:]}, but {reference.where} has "
                f"{shape}; the same shape is needed."
            )


def _reference(pieces):
    """The piece that gives the stack its axes: the first calibrated one."""
    with_axes = [piece for piece in pieces if piece.axes]
    calibrated = [piece for piece in with_axes if all(map(has_units, piece.axes))]
    return (calibrated or with_axes or pieces)[0]


def _groups(names, sum_lines):
    """Which maps go into which entry of the stack."""
    if not sum_lines:
        return [[i] for i in range(len(names))]
    groups = {}
    for i, (element, _) in enumerate(names):
        groups.setdefault(element, []).append(i)
    return list(groups.values())


def _check_sums(names, groups):
    """Different X-ray lines of an element add up; anything else of one element hardly does."""
    for group in groups:
        lines = [line for i in group for line in names[i][1]]
        distinct = len(set(lines)) == len(lines)
        if len(group) > 1 and not (distinct and all(names[i][1] for i in group)):
            warn_caller(
                f"source: found {len(group)} maps of {names[group[0]][0]} that are not different X-ray "
                f"lines ({', '.join(lines) or 'no lines are named'}), and added them. Leave one out, or "
                "pass sum_lines=False to keep them apart."
            )


def _stacked(arrays, groups):
    import dask.array as da

    lazy = any(not isinstance(array, np.ndarray) for array in arrays)
    xp = da if lazy else np
    if lazy:
        # Values in memory take part in one piece per map: a graph of tiny tasks would gain nothing.
        arrays = [
            array if hasattr(array, "dask") else da.from_array(array, chunks=(1, -1, -1))
            for array in arrays
        ]
    if len(arrays) == 1 and len(groups) == len(arrays[0]):
        return arrays[0].copy()
    planes = [array[i] for array in arrays for i in range(len(array))]
    return xp.stack(
        [
            planes[group[0]]
            if len(group) == 1
            else xp.stack([planes[i] for i in group]).sum(axis=0)
            for group in groups
        ]
    )


def _axes(pieces, count):
    element = {"name": "Element", "size": count, "scale": 1.0, "offset": 0.0, "navigate": True}
    reference = _reference(pieces)
    if not reference.axes:
        rows, columns = reference.data.shape[1:]
        image = [{"name": "y", "size": rows}, {"name": "x", "size": columns}]
    else:
        image = [axis.get_axis_dictionary() for axis in reference.axes]
    return [element] + [{**axis, "navigate": False} for axis in image]


def _metadata(pieces, names, groups):
    signals = [piece.signal for piece in pieces if piece.signal is not None]
    metadata = {}
    if signals:
        metadata = copy.deepcopy(signals[0].metadata.as_dictionary())
        metadata = {key: value for key, value in metadata.items() if key not in _NOT_CARRIED}
        if _is_changed(pieces, groups):
            metadata.pop("Background", None)
    metadata.setdefault("General", {})["title"] = _title(signals)
    metadata["Signal"] = {"signal_type": "ElementMaps"}
    quantities = {_quantity(signal) for signal in signals}
    if len(quantities) == 1 and None not in quantities:
        metadata["Signal"]["quantity"] = quantities.pop()
    sample = metadata.setdefault("Sample", {})
    sample["elements"] = [names[group[0]][0] for group in groups]
    lines = [line for group in groups for i in group for line in names[i][1]]
    sample.pop("xray_lines", None)
    if lines:
        sample["xray_lines"] = lines
    return metadata


def _quantity(signal):
    """What the values of a signal are, None where it does not say."""
    # eXSpy's quantification leaves the quantity of the spectrum in place.
    told = quantity_from_title(signal.metadata.General.title)
    return told or signal.metadata.get_item("Signal.quantity", None)


def _title(signals):
    if len(signals) == 1 and element_from_title(signals[0].metadata.General.title) is None:
        return signals[0].metadata.General.title or "Element maps"
    # eXSpy writes "X-ray line intensity of <specimen>: Si_Ka at 1.74 keV".
    titles = {signal.metadata.General.title.rpartition(": ")[0] for signal in signals}
    specimen = titles.pop().removeprefix("X-ray line intensity of ") if len(titles) == 1 else ""
    return f"Element maps of {specimen}" if specimen else "Element maps"


def _original_metadata(pieces):
    """Kept where one signal was given; of several, nobody could tell whose it is."""
    if len(pieces) == 1 and pieces[0].signal is not None:
        return copy.deepcopy(pieces[0].signal.original_metadata.as_dictionary())
    return {}


def _variance(pieces, groups):
    """Noise variance of the stack where every map has one; lazily read variances come back eager."""
    arrays = []
    for piece in pieces:
        variance = piece.signal.get_noise_variance() if piece.signal is not None else None
        if variance is None or piece.lazy:
            return None
        if hasattr(variance, "axes_manager"):
            variance = np.asarray(_in_array_order(variance)[0])
        arrays.append(np.broadcast_to(variance, piece.data.shape))
    return _stacked(arrays, groups)


def _is_changed(pieces, groups):
    """Whether the stack is more than the one signal that was given."""
    return len(pieces) > 1 or len(groups) != len(pieces[0].data)


def _background(pieces, groups):
    """Expected background of maps put together, 0 for those that come without any."""
    kept = [
        None if piece.signal is None else piece.signal.metadata.get_item("Background.counts", None)
        for piece in pieces
    ]
    if not _is_changed(pieces, groups) or all(counts is None for counts in kept):
        return None
    return _stacked(
        [
            np.zeros(piece.data.shape, np.float32)
            if counts is None
            else _in_array_order(counts)[0].reshape(piece.data.shape)
            for piece, counts in zip(pieces, kept)
        ],
        groups,
    )
