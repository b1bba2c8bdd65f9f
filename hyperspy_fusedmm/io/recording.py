"""Element maps and HAADF image from whatever files hold them."""

import os
import warnings

from ._line_windows import line_windows
from .velox import load_velox

_NEEDED = (
    "a HAADF image, titled so, and one EDX spectrum image, or element maps titled with their "
    "elements, are needed"
)


def load_recording(paths, elements=None, lines=None, haadf=None, show_progressbar=None):
    """Element maps and HAADF image of one recording.

    Parameters
    ----------
    paths : list of str or os.PathLike
        One Velox file with event streams, or one or more files that HyperSpy opens and
        that together hold a HAADF image and an EDX spectrum image or element maps.
    elements, lines : list of str, optional
        As in :func:`hyperspy_fusedmm.load_velox`; of element maps, those to take.
    haadf : str, optional
        Title of the image to take, by default the one whose title says HAADF.
    show_progressbar : bool, optional
        By default as set in HyperSpy's preferences.

    Returns
    -------
    maps : ElementMaps
        Gross counts where they come from spectra.
    haadf : hyperspy.api.signals.Signal2D

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If the files do not hold what is needed, or more than one of it; the message lists
        what they hold.
    """
    if len(paths) == 1 and _has_event_streams(paths[0]):
        return load_velox(
            paths[0],
            lines=lines,
            elements=elements,
            haadf=haadf,
            show_progressbar=show_progressbar,
        )
    signals = [signal for path in paths for signal in _load(path)]
    haadf = _haadf_among(signals, haadf)
    spectrum_images = [s for s in signals if _is_spectrum_image(s)]
    if len(spectrum_images) > 1:
        raise ValueError(f"there are {len(spectrum_images)} spectrum images; {_what(signals)}.")
    if spectrum_images:
        return _extracted(spectrum_images[0], lines, elements), haadf
    return _stored_maps(signals, haadf, elements, lines), haadf


def _has_event_streams(path):
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "Version" in file and len(file.get("Data/SpectrumStream", ())) > 0


def _load(path):
    """Signals of one file; frames of one image summed."""
    import hyperspy.api as hs

    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    try:
        loaded = hs.load(path, **_options(path))
    except Exception as error:
        raise ValueError(
            f"HyperSpy cannot open {os.fspath(path)!r} ({type(error).__name__}: {error})"
        ) from error
    signals = loaded if isinstance(loaded, list) else [loaded]
    return [
        s.sum("Time") if "Time" in [axis.name for axis in s.axes_manager.navigation_axes] else s
        for s in signals
    ]


def _options(path):
    """Without these the reader of EMD files takes the first frame for the image."""
    is_emd = os.path.splitext(path)[1].lower() == ".emd"
    return {"load_SI_image_stack": True} if is_emd else {}


def _is_spectrum_image(signal):
    manager = signal.axes_manager
    is_eds = str(signal.metadata.Signal.signal_type).startswith("EDS")
    return is_eds and (manager.navigation_dimension, manager.signal_dimension) == (2, 1)


def _is_image(signal):
    manager = signal.axes_manager
    return (manager.navigation_dimension, manager.signal_dimension) == (0, 2)


def _haadf_among(signals, title):
    images = [signal for signal in signals if _is_image(signal)]
    if title is None:
        found = [image for image in images if "HAADF" in image.metadata.General.title.upper()]
        what = "HAADF image"
    else:
        found = [image for image in images if image.metadata.General.title == title]
        what = f"image titled {title!r}"
    if len(found) != 1:
        raise ValueError(
            f"haadf: exactly one {what} is needed, {len(found)} were found; {_what(signals)}."
        )
    return found[0]


def _extracted(spectrum_image, lines, elements):
    """Gross counts of the lines, by eXSpy."""
    from ..signals.element_maps import element_maps

    one = spectrum_image.inav[0, 0]
    chosen = line_windows(one, lines, elements).lines
    return element_maps(spectrum_image.get_lines_intensity(chosen))


def _stored_maps(signals, haadf, elements, lines):
    """Maps that were extracted before: a stack, or images titled with their elements."""
    from ..signals.element_maps import ElementMaps, element_maps
    from ..signals.names import element_from_title

    if lines:
        raise ValueError(
            f"lines: there is no spectrum image to extract them from; {_what(signals)}."
        )
    stacks = [s for s in signals if isinstance(s, ElementMaps)]
    if len(stacks) > 1:
        raise ValueError(f"there are {len(stacks)} stacks of element maps; {_what(signals)}.")
    images = [
        s
        for s in signals
        if s is not haadf and _is_image(s) and element_from_title(s.metadata.General.title)
    ]
    if not stacks and not images:
        raise ValueError(f"there are no element maps; {_what(signals)}.")
    maps = stacks[0] if stacks else element_maps(images)
    _warn_of_filters(images)
    if not elements:
        return maps
    missing = [element for element in elements if element not in maps.elements]
    if missing:
        raise ValueError(f"elements: there is no map of {', '.join(missing)}; {_what(signals)}.")
    return element_maps([maps.get_map(element) for element in elements])


def _warn_of_filters(images):
    """Velox stores its maps as it displays them."""
    for image in images:
        settings = image.original_metadata.get_item("SharedProperties.UnaryImageFilterSettings")
        for applied in settings.as_dictionary().values() if settings else ():
            if applied.get("enabled") in (True, "true"):
                size = applied.get("kernelSize", "?")
                warnings.warn(
                    f"Velox filtered the element maps of this file ({applied.get('filter')}, "
                    f"{size} x {size} pixels): their noise is not that of counts. Maps from a file "
                    "with event streams have the noise of counts.",
                    stacklevel=4,
                )
                return


def _what(signals):
    listed = ", ".join(repr(signal) for signal in signals)
    return f"found {listed}; {_NEEDED}"
