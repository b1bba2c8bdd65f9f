"""Element maps straight from the event streams of a Velox file."""

import numpy as np

from ._background import background_maps
from ._counting import EventCounter, MapFrames, lazy_stack
from ._frames import choose_frames
from ._line_windows import line_windows
from ._signals import attach_background, describe, stack_image, sum_image, wrap_maps
from ._velox_file import VeloxFile


def load_velox(
    path,
    lines=None,
    elements=None,
    energy_windows=None,
    background_windows=None,
    frames=None,
    detectors=None,
    chunks="auto",
    show_progressbar=None,
    *,
    haadf=None,
    sum_frames=True,
    smooth_background=True,
    return_spectrum=False,
):
    """Element maps and HAADF image of a Velox EMD file, without the spectrum image.

    The stream of X-ray events is read in pieces and counted straight into the windows
    of the lines. The memory needed is that of the maps, whatever the length of the
    stream. Maps are those of ``hyperspy.api.load`` followed by eXSpy's
    ``get_lines_intensity``; axes and metadata are RosettaSciIO's.

    Parameters
    ----------
    path : str or os.PathLike
        Velox EMD file with EDS event streams.
    lines : list of str, optional
        X-ray lines, for example ``["Fe_Ka", "O_Ka"]``. Several lines of one element are
        added; an X-ray in the windows of two of them is counted once.
    elements : list of str, optional
        Elements; where `lines` names none of theirs, eXSpy's choice is taken. Without
        `lines` and `elements`, those selected in Velox.
    energy_windows : float, (L, 2) array or dict, optional
        Width as a multiple of the line's full width at half maximum, by default 2; or the
        window of each line in keV; or a dict from lines to windows, by default for the rest.
    background_windows : "auto", (L, 4) array or dict, optional
        Two windows beside each line in keV, whose mean counts per channel are taken as
        the background under the line; ``"auto"`` for eXSpy's
        ``estimate_background_windows``. The maps stay gross counts. The background is
        kept in ``metadata.Background.counts``.
    frames : (int, int), slice, range or list of int, optional
        A tuple is a range ``first <= frame < last``; a list names single frames. By default
        every whole frame that all chosen detectors and the HAADF image hold, up to
        the last one selected in Velox.
    detectors : str, int or list, optional
        Names or numbers of the EDS detectors to add; by default all.
    chunks : "auto" or int
        With ``sum_frames=False``, frames in one block of the lazy result; ``"auto"`` for
        blocks of at most 64 MiB.
    show_progressbar : bool, optional
        By default as set in HyperSpy's preferences.
    haadf : str or int, optional
        Name or number of the image to take; by default the one called HAADF that lies on
        the grid of the spectrum image.
    sum_frames : bool
        Whether frames are added. If False, maps and images of every frame, lazy, with the
        navigation axis ``"Frame"``, numbered as in the file.
    smooth_background : bool
        Whether the background is blurred, by as much as its counts allow, into expected
        counts. If False it is that of each pixel, and the maps less the background are
        eXSpy's net intensities; at few counts its noise goes into the fit.
    return_spectrum : bool
        Whether the spectrum of the chosen frames and detectors is returned too.

    Returns
    -------
    maps : ElementMaps
        Gross counts, whole numbers, shape (E, R, C); in the order of `elements`, then of
        `lines`. With ``sum_frames=False`` a ``LazyElementMaps`` of shape (F, E, R, C).
    haadf : hyperspy.api.signals.Signal2D
        Sum of the same frames, shape (R, C), or the frames themselves, lazy, shape (F, R, C).
    spectrum : exspy.signals.EDSTEMSpectrum
        Where asked for: the counts of all pixels by energy.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a Velox file with event streams and the image, if a stream is
        corrupt or holds no whole frame, or if a line, window, frame or detector is not in
        the file. The message says what was found and what is needed.

    Warns
    -----
    UserWarning
        If frames are left out or incomplete: a stream that ends within a frame, detectors
        or images of different length, frames not selected in Velox.

    Notes
    -----
    Velox's own element maps, in the same file, may have been filtered; these are not.

    Where a file is chunked and compressed, a piece is at least one chunk.

    Examples
    --------
    >>> import os, tempfile
    >>> import hyperspy_fusedmm as fmm
    >>> specimen = fmm.data.core_shell_particles(shape=(32, 32), dose=2)
    >>> path = os.path.join(tempfile.mkdtemp(), "particles.emd")
    >>> path = fmm.data.write_velox(path, specimen, n_frames=3, show_progressbar=False)
    >>> maps, haadf = fmm.load_velox(path, elements=["Co", "O"], show_progressbar=False)
    >>> maps
    <ElementMaps, title: Element maps of particles, dimensions: (2|32, 32)>
    >>> haadf
    <Signal2D, title: HAADF, dimensions: (|32, 32)>
    """
    chunks = _checked_chunks(chunks)
    if background_windows is not None and not sum_frames:
        raise ValueError(
            "background_windows: the background of single frames is not estimated; leave it None "
            "with sum_frames=False, or choose frames and sum them."
        )
    velox = VeloxFile(path)
    streams = velox.choose_streams(detectors)
    image = velox.choose_haadf(streams[0].shape, haadf)
    pixel = velox.spectrum_signal(streams)
    spectrum = pixel.inav[0, 0]
    windows = line_windows(spectrum, lines, elements, energy_windows, background_windows)
    with velox.open() as file:
        boundaries = [velox.locate_frames(file, stream) for stream in streams]
    frames = choose_frames(frames, streams, boundaries, image, velox.n_frames_selected)

    events = EventCounter(velox, streams, boundaries, windows)
    if sum_frames or return_spectrum:
        counts, spectrum.data = events.count(frames, show_progressbar)
    describe(spectrum, windows, streams, frames)
    image_signal = velox.image_signal(image)
    if sum_frames:
        n_elements = len(windows.elements)
        maps = wrap_maps(counts[:n_elements], spectrum, pixel, image_signal)
        haadf = sum_image(velox, image, image_signal, frames)
    else:
        stack = lazy_stack(MapFrames(events, frames), chunks)
        maps = wrap_maps(stack, spectrum, pixel, image_signal, frames)
        haadf = stack_image(velox, image, image_signal, frames, chunks)
    if background_windows is not None:
        background = background_maps(counts[n_elements:], windows, smooth_background)
        attach_background(maps, background, windows)
    return (maps, haadf, spectrum) if return_spectrum else (maps, haadf)


def _checked_chunks(chunks):
    if chunks == "auto" or (isinstance(chunks, (int, np.integer)) and chunks > 0):
        return chunks
    raise ValueError(f"chunks: 'auto' or a positive number of frames is needed, found {chunks!r}.")
