"""X-ray lines and the windows of channels that eXSpy would integrate them over.

Energies, line choice and windows are asked of eXSpy, and an energy becomes a
channel by slicing a spectrum whose values are the channel numbers: so windows and
their edges are those of ``get_lines_intensity``.
"""

from dataclasses import dataclass

import numpy as np

# As in eXSpy's `get_lines_intensity`.
WINDOW_WIDTH = 2.0


@dataclass(frozen=True)
class LineWindows:
    """Windows of some X-ray lines.

    Attributes
    ----------
    elements : list of str, length E
        In the order asked for.
    lines : list of str, length L
        In the order of the elements; an element can have several.
    energy_windows : numpy.ndarray, shape (L, 2)
        In keV.
    background_windows : numpy.ndarray or None, shape (L, 4)
        In keV.
    channels : list of list of (int, int), length E
        Half-open ranges of channels whose counts make up each element's map.
    background_channels : list of list of (int, int), length L
        Two ranges of channels for each line; empty without background windows.
    background_factors : numpy.ndarray, shape (L,)
        What the counts in the background channels are multiplied with.
    """

    elements: list
    lines: list
    energy_windows: np.ndarray
    background_windows: np.ndarray
    channels: list
    background_channels: list
    background_factors: np.ndarray

    def lines_of(self, element):
        """Positions of an element's lines."""
        return [k for k, line in enumerate(self.lines) if line.split("_")[0] == element]


def line_windows(spectrum, lines=None, elements=None, energy_windows=None, background_windows=None):
    """Windows of the lines asked for.

    Parameters
    ----------
    spectrum : exspy.signals.EDSTEMSpectrum
        One spectrum with its energy axis and metadata; its values do not matter.
    lines, elements, energy_windows, background_windows
        As in :func:`hyperspy_fusedmm.load_velox`.

    Returns
    -------
    LineWindows
    """
    lines, elements = _choose_lines(spectrum, lines, elements)
    energy_windows = _energy_windows(spectrum, lines, energy_windows)
    background_windows = _background_windows(spectrum, lines, background_windows)
    channel_numbers = spectrum.deepcopy()
    channel_numbers.data = np.arange(spectrum.axes_manager.signal_axes[0].size)

    taken = {element: set() for element in elements}
    channels = {element: [] for element in elements}
    background_channels, factors = [], []
    for k, line in enumerate(lines):
        element = line.split("_")[0]
        window = _channels(channel_numbers, energy_windows[k], line, "energy_windows")
        # An X-ray in the windows of two lines of one element is one X-ray of that element.
        new = [channel for channel in range(*window) if channel not in taken[element]]
        taken[element].update(new)
        channels[element].extend(_as_ranges(new))
        if background_windows is not None:
            left, right = background_windows[k][:2], background_windows[k][2:]
            ranges = [
                _channels(channel_numbers, side, line, "background_windows")
                for side in (left, right)
            ]
            background_channels.append(ranges)
            factors.append(len(new) / sum(last - first for first, last in ranges))
    return LineWindows(
        elements=elements,
        lines=lines,
        energy_windows=energy_windows,
        background_windows=background_windows,
        channels=[channels[element] for element in elements],
        background_channels=background_channels,
        background_factors=np.array(factors),
    )


def _choose_lines(spectrum, lines, elements):
    """Lines in the order of their elements: those given, then eXSpy's choice for the rest."""
    lines, elements = _as_names(lines), _as_names(elements)
    if not lines and not elements:
        lines = _as_names(spectrum.metadata.get_item("Sample.xray_lines", None))
        elements = _as_names(spectrum.metadata.get_item("Sample.elements", None))
        if not lines and not elements:
            raise ValueError(
                "lines, elements: neither was given, and the file names none (in Velox, none were "
                'selected); for example elements ["Fe", "O"] or lines ["Fe_Ka", "O_Ka"] are needed.'
            )
    table = _xray_lines_of_all_elements()
    given = {}
    for line in lines:
        element, _, name = line.partition("_")
        if element not in table or name not in table[element]:
            known = ", ".join(f"{element}_{n}" for n in table.get(element, {})) or "none"
            raise ValueError(
                f"lines: {line!r} is not an X-ray line; of {element!r} there are {known}."
            )
        _check_in_range(spectrum, line, table[element][name])
        given.setdefault(element, [])
        if line in given[element]:
            raise ValueError(f"lines: {line!r} is given twice.")
        given[element].append(line)
    elements = list(dict.fromkeys([*elements, *given]))
    chosen = []
    for element in elements:
        if element not in table:
            raise ValueError(f"elements: {element!r} is not a chemical symbol.")
        chosen.extend(given.get(element) or _line_of(spectrum, element, table[element]))
    return chosen, elements


def _line_of(spectrum, element, table):
    """The line that eXSpy integrates for an element where none is named."""
    scratch = spectrum.deepcopy()
    if scratch.metadata.has_item("Sample"):
        del scratch.metadata.Sample
    scratch.set_elements([element])
    scratch.set_lines([])
    lines = [str(line) for line in scratch.metadata.get_item("Sample.xray_lines", None) or []]
    if not lines:
        energies = ", ".join(
            f"{element}_{name} at {energy:g} keV" for name, energy in table.items()
        )
        raise ValueError(
            f"elements: {element!r} has no Ka, La or Ma line in the energy range of the file, "
            f"{_energy_range(spectrum)}; its lines are {energies or 'unknown'}."
        )
    return lines


def _check_in_range(spectrum, line, energy):
    axis = spectrum.axes_manager.signal_axes[0]
    beam_energy = spectrum.metadata.get_item("Acquisition_instrument.TEM.beam_energy", np.inf)
    if energy >= beam_energy:
        raise ValueError(
            f"lines: {line} at {energy:g} keV cannot be excited by the beam of {beam_energy:g} keV."
        )
    if not axis.low_value < energy < axis.high_value:
        raise ValueError(
            f"lines: {line} at {energy:g} keV lies beyond the energy range of the file, "
            f"{_energy_range(spectrum)}."
        )


def _energy_range(spectrum):
    axis = spectrum.axes_manager.signal_axes[0]
    return f"{axis.low_value:g} to {axis.high_value:g} {axis.units}"


def _energy_windows(spectrum, lines, windows):
    """Windows in keV, shape (L, 2)."""
    if windows is None:
        windows = WINDOW_WIDTH
    if np.isscalar(windows):
        if not (np.isreal(windows) and windows > 0):
            raise ValueError(
                f"energy_windows: a width must be a positive multiple of the line's FWHM, not {windows!r}."
            )
        return np.array(spectrum.estimate_integration_windows(float(windows), xray_lines=lines))
    if isinstance(windows, dict):
        default = _energy_windows(spectrum, lines, None)
        return _from_dict(windows, lines, 2, default, "energy_windows")
    return _checked_windows(windows, lines, 2, "energy_windows")


def _background_windows(spectrum, lines, windows):
    """Windows in keV, shape (L, 4), or None."""
    if windows is None:
        return None
    if isinstance(windows, str):
        if windows != "auto":
            raise ValueError(
                f"background_windows: found {windows!r}; 'auto', an array (L, 4) or a dict is needed."
            )
        return np.array(spectrum.estimate_background_windows(xray_lines=lines))
    if isinstance(windows, dict):
        default = _background_windows(spectrum, lines, "auto")
        return _from_dict(windows, lines, 4, default, "background_windows")
    return _checked_windows(windows, lines, 4, "background_windows")


def _from_dict(windows, lines, size, default, name):
    unknown = [line for line in windows if line not in lines]
    if unknown:
        raise ValueError(f"{name}: {unknown} are not among the lines {lines}.")
    rows = [windows.get(line, default[k]) for k, line in enumerate(lines)]
    return _checked_windows(rows, lines, size, name)


def _checked_windows(windows, lines, size, name):
    try:
        array = np.array(windows, dtype=float)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (len(lines), size) or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{name}: an array of {len(lines)} rows (for {', '.join(lines)}) of {size} energies in "
            f"keV is needed, found {windows!r}."
        )
    for line, row in zip(lines, array):
        if np.any(row[1::2] <= row[::2]):
            raise ValueError(
                f"{name}: {row.tolist()} for {line} must rise from its left to its right end."
            )
    return array


def _channels(channel_numbers, window, line, name):
    """Half-open range of the channels that HyperSpy slices for a window in keV."""
    try:
        found = channel_numbers.isig[float(window[0]) : float(window[1])].data
    except IndexError:
        found = np.empty(0)
    if found.size == 0:
        raise ValueError(
            f"{name}: {np.asarray(window).tolist()} keV for {line} holds no channel; the energy range of "
            f"the file is {_energy_range(channel_numbers)}."
        )
    return int(found[0]), int(found[-1]) + 1


def _as_ranges(channels):
    """Half-open ranges that cover a sorted list of channels."""
    ranges = []
    for channel in channels:
        if ranges and ranges[-1][1] == channel:
            ranges[-1] = (ranges[-1][0], channel + 1)
        else:
            ranges.append((channel, channel + 1))
    return ranges


def _as_names(names):
    if names is None:
        return []
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _xray_lines_of_all_elements():
    """Energy in keV of every line eXSpy knows, by element and line."""
    from exspy.material import elements

    table = {}
    for symbol, properties in elements.as_dictionary().items():
        if not isinstance(properties, dict):  # the table's own description
            continue
        lines = properties.get("Atomic_properties", {}).get("Xray_lines", {})
        table[symbol] = {name: line["energy (keV)"] for name, line in lines.items()}
    return table
