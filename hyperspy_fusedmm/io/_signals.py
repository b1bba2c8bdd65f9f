"""Signals of counts and images, with the axes and the metadata of RosettaSciIO's."""

import os

import numpy as np

from ._counting import ImageFrames, lazy_stack
from ._frames import frame_axis


def describe(spectrum, windows, streams, frames):
    """Write into the metadata of the spectrum what it was made of."""
    metadata = spectrum.metadata
    # Not by `set_elements` and `set_lines`, which sort.
    metadata.set_item("Sample.elements", list(windows.elements))
    metadata.set_item("Sample.xray_lines", list(windows.lines))
    metadata.set_item("Acquisition_instrument.TEM.Detector.EDS.number_of_frames", len(frames))
    metadata.set_item("Velox.detectors", [stream.detector for stream in streams])
    metadata.set_item("Velox.frames", frames.tolist())
    metadata.set_item("Velox.energy_windows", windows.energy_windows)


def wrap_maps(counts, spectrum, pixel, image_signal, frames=None):
    """ElementMaps, lazy where `frames` are given.

    Parameters
    ----------
    counts : array of shape (E, R, C) or (F, E, R, C)
    spectrum : EDSTEMSpectrum
        Gives the metadata.
    pixel : EDSTEMSpectrum
        One pixel of the spectrum image, for the pixel size.
    image_signal : Signal2D
        Gives the number of pixels and the units.
    frames : numpy.ndarray of int, optional
        Numbers of the frames, for a frame axis.
    """
    from ..signals._lazy_element_maps import LazyElementMaps
    from ..signals.element_maps import ElementMaps

    metadata = spectrum.metadata.as_dictionary()
    stem = os.path.splitext(metadata["General"].get("original_filename", ""))[0]
    metadata["General"]["title"] = f"Element maps of {stem}"
    metadata["Signal"] = {"signal_type": "ElementMaps"}
    element_axis = {"name": "Element", "size": counts.shape[-3], "navigate": True}
    axes = [element_axis, *_map_axes(pixel, image_signal)]
    signal_class = ElementMaps
    if frames is not None:
        axes.insert(0, frame_axis(frames))
        signal_class = LazyElementMaps
    return signal_class(
        counts,
        axes=axes,
        metadata=metadata,
        original_metadata=spectrum.original_metadata.as_dictionary(),
    )


def sum_image(velox, image, signal, frames):
    """The signal of an image with the sum of the frames as its data."""
    if image.n_frames == 1:
        return signal
    single_frames = ImageFrames(velox, image, frames, signal.data.dtype)
    kind = signal.data.dtype.kind
    total = np.zeros(image.shape, dtype=np.int64 if kind in "iu" else np.float64)
    for k in range(len(frames)):
        total += single_frames[k : k + 1, :, :][0]
    signal.data = total
    return signal


def stack_image(velox, image, signal, frames, chunks):
    """The frames of an image as a lazy stack; a single image beside many frames as it is."""
    from hyperspy.signals import Signal2D

    if image.n_frames == 1 and len(frames) > 1:
        return signal
    data = lazy_stack(ImageFrames(velox, image, frames, signal.data.dtype), chunks)
    axes = [axis.get_axis_dictionary() for axis in signal.axes_manager.signal_axes[::-1]]
    return Signal2D(
        data,
        axes=[frame_axis(frames), *axes],
        metadata=signal.metadata.as_dictionary(),
        original_metadata=signal.original_metadata.as_dictionary(),
    ).as_lazy()


def attach_background(maps, background, windows):
    """Keep the background with the maps, as a signal so that it is stored with them."""
    from hyperspy.signals import Signal2D

    signal = Signal2D(background, axes=maps.axes_manager._get_axes_dicts())
    signal.metadata.General.title = "Background under the lines"
    maps.metadata.set_item("Background.counts", signal)
    maps.metadata.set_item("Background.windows", windows.background_windows)


def _map_axes(pixel, image_signal):
    """Axes of the spectrum image, in the units of the image."""
    axes = []
    for axis, image_axis in zip(
        pixel.axes_manager.navigation_axes[::-1], image_signal.axes_manager.signal_axes[::-1]
    ):
        axis = axis.copy()
        if _is_length(axis.units) and _is_length(image_axis.units):
            axis.convert_to_units(image_axis.units)
        axes.append({**axis.get_axis_dictionary(), "size": image_axis.size, "navigate": False})
    return axes


def _is_length(units):
    return isinstance(units, str) and units.endswith("m")
