"""Write simulated recordings in the layout of Velox files, of any size.

The layout is the one of version 11: every detector's X-rays as a stream of
events, the HAADF image as a stack of frames, and the metadata as JSON beside
each. Settings of the Velox program itself are left out.
"""

import json
import os
import uuid

import numba
import numpy as np

NEXT_PIXEL = 65535
N_CHANNELS = 4096
CHANNEL_WIDTH = 0.01  # keV
BEAM_ENERGY = 200.0  # keV
# Velox stores its streams in chunks of this many events.
EVENTS_PER_CHUNK = 8192
# Events drawn at a time, roughly: what is held in memory does not depend on the size of the file.
EVENTS_PER_BLOCK = 2_000_000
# Brightest pixel of one HAADF frame, in a type that ends at 65535.
BRIGHTEST = 40000


def write_velox(
    path,
    specimen,
    *,
    n_frames=1,
    n_detectors=4,
    n_events=None,
    compression=None,
    seed=0,
    show_progressbar=None,
):
    """Write a simulated specimen as a Velox EMD file with event streams.

    X-rays of all lines of the elements and bremsstrahlung are drawn anew, pixel by
    pixel and frame by frame, from the specimen's ``truth``; they are not those of its
    ``maps``. The HAADF frames share the specimen's image, noise included, so that
    their sum is that image, scaled and rounded.

    Parameters
    ----------
    path : str or os.PathLike
        File to write, replaced only once the new one is complete.
    specimen : Specimen
        For example from :func:`hyperspy_fusedmm.data.core_shell_particles`.
    n_frames : int
        Number of frames the counts are spread over.
    n_detectors : int
        Number of detectors the counts are spread over, with a stream each.
    n_events : float, optional
        Expected number of X-rays in the file. By default the mapped lines have the
        specimen's counts.
    compression : str, optional
        HDF5 filter for the streams, for example ``"gzip"``. Velox uses none.
    seed : int
        Seed of the X-rays.
    show_progressbar : bool, optional
        By default as set in HyperSpy's preferences.

    Returns
    -------
    str
        The path.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> import os, tempfile
    >>> import hyperspy_fusedmm as fmm
    >>> specimen = fmm.data.core_shell_particles(shape=(32, 32), dose=2)
    >>> path = os.path.join(tempfile.mkdtemp(), "particles.emd")
    >>> path = fmm.data.write_velox(path, specimen, n_frames=3)
    >>> maps, haadf = fmm.load_velox(path)
    >>> maps.elements
    ['Co', 'S', 'O']
    """
    for name, value in (("n_frames", n_frames), ("n_detectors", n_detectors)):
        if int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
    if n_events is not None and not n_events > 0:
        raise ValueError(f"n_events must be a positive number, not {n_events!r}.")
    rates, profiles = _photon_rates(specimen)
    if n_events is not None:
        rates *= n_events / rates.sum()
    rates /= n_frames * n_detectors
    tables = _alias_tables(profiles)
    frames = _split_into_frames(np.asarray(specimen.haadf.data, dtype=float), n_frames)
    streams = {
        f"SuperXG2{k + 1}": _draw_stream(rates, tables, n_frames, [seed, k])
        for k in range(n_detectors)
    }
    axis = specimen.haadf.axes_manager.signal_axes[0]
    with _progressbar(show_progressbar, n_detectors * n_frames, "Writing frames") as bar:
        write_velox_layout(
            path,
            streams,
            {"HAADF": frames},
            elements=specimen.elements,
            pixel_size=axis.scale * 1e-9,
            compression=compression,
            progress=bar.update,
        )
    return os.fspath(path)


def write_velox_layout(
    path,
    streams,
    images,
    *,
    elements=(),
    shape=None,
    n_channels=N_CHANNELS,
    dispersion=1e3 * CHANNEL_WIDTH,
    offset=0.0,
    pixel_size=1e-9,
    frame_tables=True,
    n_frames_selected=None,
    compression=None,
    events_per_chunk=EVENTS_PER_CHUNK,
    progress=None,
):
    """Write streams and images that exist already in the layout of Velox.

    Parameters
    ----------
    path : str or os.PathLike
    streams : dict of str to iterable of list of numpy.ndarray
        For each detector the frames, each a list of ``uint16`` arrays. Two streams of
        one detector are written by keys that differ in trailing spaces.
    images : dict of str to numpy.ndarray of shape (F, R, C)
        Frames of each image by the name of its detector, with the same rule.
    elements : sequence of str
        Elements selected for quantification in Velox.
    shape : tuple of int, optional
        Rows and columns of the scan, by default of the first image.
    n_channels : int
    dispersion, offset : float
        Width of a channel and energy of the first one in eV.
    pixel_size : float
        In metres.
    frame_tables : bool
        Whether the first event of each frame is written, as newer files do.
    n_frames_selected : int, optional
        Frames of Velox's own spectrum image, by default all.
    compression, events_per_chunk
        Of the streams; ``events_per_chunk=None`` stores them in one piece.
    progress : callable, optional
        Called with 1 after each frame of each stream.
    """
    import h5py

    path = os.fspath(path)
    shape = next(iter(images.values())).shape[1:] if shape is None else shape
    detectors = [name.strip() for name in (*images, *streams)]
    common = _metadata(detectors, shape, dispersion, offset, pixel_size)
    # Beside the target, so that renaming it is one step.
    unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with h5py.File(unfinished, "w") as file:
            _write_json(file, "Version", {"version": "11", "format": "Velox"})
            for name, frames in images.items():
                _write_image(file, name.strip(), np.asarray(frames), common)
            n_frames = 0
            for name, frames in streams.items():
                group = _new_group(file, "Data/SpectrumStream")
                settings = {
                    "encoding": "uint16",
                    "bincount": str(n_channels),
                    "StreamEncoding": "uint16",
                    "RasterScanDefinition": {"Width": str(shape[1]), "Height": str(shape[0])},
                }
                _write_json(group, "AcquisitionSettings", settings)
                starts = _write_stream(group, frames, compression, events_per_chunk, progress)
                n_frames = max(n_frames, len(starts))
                _write_metadata(group, _metadata_of(common, name.strip()), len(starts))
                if frame_tables:
                    group["FrameLocationTable"] = np.array(starts, dtype=np.uint64)[:, None]
            _write_spectrum_image(file, n_frames_selected or n_frames, common)
            _write_selection(file, elements)
        os.replace(unfinished, path)
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


def _photon_rates(specimen):
    """Expected photons by kind and pixel, and the channels each kind falls into.

    Returns
    -------
    rates : numpy.ndarray of shape (K, R * C)
    profiles : numpy.ndarray of shape (K, channels)
        Probabilities; every row sums to 1.
    """
    from .specimen import atomic_number
    from .spectrum import (
        BREMSSTRAHLUNG,
        bremsstrahlung_profile,
        line_profile,
        other_lines_profile,
    )

    truth = np.asarray(specimen.truth.data, dtype=float)
    truth = truth.reshape(truth.shape[0], -1)
    lines = specimen.truth.metadata.Sample.xray_lines
    energies = CHANNEL_WIDTH * np.arange(N_CHANNELS)
    photons = [line_profile(line, energies) + other_lines_profile(line, energies) for line in lines]
    scattering = sum(
        atomic_number(element) ** 2 * counts / sensitivity
        for (element, sensitivity), counts in zip(specimen.sensitivities.items(), truth)
    )
    continuum = scattering * (BREMSSTRAHLUNG * truth.sum() / scattering.sum())
    profiles = np.stack([*photons, bremsstrahlung_profile(energies)])
    seen = profiles.sum(axis=1, keepdims=True)
    return np.concatenate([truth, continuum[None]]) * seen, profiles / seen


def _split_into_frames(image, n_frames):
    """Whole-numbered frames that sum to the scaled and rounded image."""
    brightest = max(float(image.max()), np.finfo(float).tiny)
    total = np.rint(np.maximum(image, 0) * (BRIGHTEST * n_frames / brightest)).astype(np.int64)
    frames = np.empty((n_frames, *image.shape), dtype=np.uint16)
    for k in range(n_frames):
        frames[k] = (k + 1) * total // n_frames - k * total // n_frames
    return frames


def _draw_stream(rates, tables, n_frames, seed):
    """Yield the frames of one detector, each in blocks of pixels."""
    rng = np.random.default_rng(seed)
    n_pixels = rates.shape[1]
    total = rates.sum(axis=0)
    cumulative = np.ascontiguousarray(
        np.cumsum(rates / np.where(total > 0, total, 1), axis=0).T, dtype=np.float32
    )
    n_blocks = int(np.ceil((total.sum() + n_pixels) / EVENTS_PER_BLOCK))
    edges = np.linspace(0, n_pixels, n_blocks + 1).astype(int)
    for _ in range(n_frames):
        yield (
            _draw_events(rng.poisson(total[a:b]), cumulative[a:b], *tables, rng)
            for a, b in zip(edges[:-1], edges[1:])
        )


def _alias_tables(profiles):
    """Tables to draw from each distribution in constant time.

    A. J. Walker, ACM Trans. Math. Softw. 3, 253 (1977).
    """
    n_kinds, n_channels = profiles.shape
    keep = np.ones((n_kinds, n_channels), dtype=np.float32)
    alias = np.tile(np.arange(n_channels, dtype=np.uint16), (n_kinds, 1))
    for kind in range(n_kinds):
        share = profiles[kind] * n_channels
        poor = list(np.flatnonzero(share < 1))
        rich = list(np.flatnonzero(share >= 1))
        while poor and rich:
            taker, giver = poor.pop(), rich[-1]
            keep[kind, taker], alias[kind, taker] = share[taker], giver
            share[giver] -= 1 - share[taker]
            if share[giver] < 1:
                poor.append(rich.pop())
    return keep, alias


@numba.njit(nogil=True, cache=True)
def _draw_events(photons, cumulative, keep, alias, rng):
    """Events of some pixels, each pixel's followed by the separator."""
    n_kinds, n_channels = keep.shape
    events = np.empty(photons.sum() + photons.size, dtype=np.uint16)
    position = 0
    for pixel in range(photons.size):
        for _ in range(photons[pixel]):
            u = rng.random()
            kind = 0
            while kind < n_kinds - 1 and u >= cumulative[pixel, kind]:
                kind += 1
            v = rng.random() * n_channels
            channel = int(v)
            if v - channel >= keep[kind, channel]:
                events[position] = alias[kind, channel]
            else:
                events[position] = channel
            position += 1
        events[position] = NEXT_PIXEL
        position += 1
    return events


def _write_stream(group, frames, compression, events_per_chunk, progress):
    """Append the frames to the stream's dataset; return where each begins."""
    starts = []
    position = 0
    if events_per_chunk is None:
        # Contiguous storage cannot grow.
        frames = [list(frame) for frame in frames]
        size = sum(block.size for frame in frames for block in frame)
        data = group.create_dataset("Data", (size, 1), np.uint16)
    else:
        data = group.create_dataset(
            "Data",
            (0, 1),
            np.uint16,
            maxshape=(None, 1),
            chunks=(events_per_chunk, 1),
            compression=compression,
        )
    for frame in frames:
        starts.append(position)
        for block in frame:
            block = np.asarray(block, dtype=np.uint16)
            if events_per_chunk is not None:
                data.resize(position + block.size, axis=0)
            data[position : position + block.size, 0] = block
            position += block.size
        if progress is not None:
            progress(1)
    return starts


def _write_image(file, detector, frames, common):
    group = _new_group(file, "Data/Image")
    n_frames, n_rows, n_columns = frames.shape
    data = group.create_dataset(
        "Data", (n_rows, n_columns, n_frames), frames.dtype, chunks=(n_rows, n_columns, 1)
    )
    for k, frame in enumerate(frames):
        data[:, :, k] = frame
    group["FrameLookupTable"] = np.arange(n_frames, dtype=np.uint32)
    _write_metadata(group, _metadata_of(common, detector), n_frames)
    reference = _new_name("/SharedProperties/ImageSeriesDataReference")
    _write_json(file, reference, {"dataPath": group.name, "frameIndex": 0})
    display = {"data": reference, "id": detector, "title": detector}
    _write_json(file, _new_name("/Displays/ImageDisplay"), display)


def _write_spectrum_image(file, n_frames, common):
    group = _new_group(file, "Data/SpectrumImage")
    settings = {"startFramePosition": "1", "endFramePosition": str(n_frames)}
    _write_json(group, "SpectrumImageSettings", settings)
    _write_metadata(group, common, 1)


def _write_selection(file, elements):
    from .specimen import atomic_number

    selection = {"elementSelection": [str(atomic_number(element)) for element in elements]}
    _write_json(file, _new_name("/SharedProperties/EDSSpectrumQuantificationSettings"), selection)
    image_filter = {"enabled": False, "filter": "Mean", "kernelSize": 3}
    _write_json(file, _new_name("/SharedProperties/UnaryImageFilterSettings"), image_filter)
    file.require_group("Features")


def _metadata(detectors, shape, dispersion, offset, pixel_size):
    """What every image and stream of one recording has in common."""
    described = {}
    for k, name in enumerate(dict.fromkeys(detectors)):
        described[f"Detector-{k}"] = {"DetectorName": name, "DetectorType": "ScanningDetector"}
        if name.startswith("SuperX"):
            described[f"Detector-{k}"] = {
                "DetectorName": name,
                "DetectorType": "AnalyticalDetector",
                "ElevationAngle": "0.31415926999999999",
                "AzimuthAngle": str(np.pi / 4 + k * np.pi / 2),
                "CollectionAngle": "0.175",
                "Dispersion": str(dispersion),
                "OffsetEnergy": str(offset),
            }
    return {
        "Instrument": {"InstrumentClass": "Simulated"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1600000000"}},
        "Optics": {"AccelerationVoltage": str(1e3 * BEAM_ENERGY), "CameraLength": "0.1"},
        "Stage": {"AlphaTilt": "0", "BetaTilt": "0", "Position": {"x": "0", "y": "0", "z": "0"}},
        "Scan": {
            "ScanSize": {"width": str(shape[1]), "height": str(shape[0])},
            "ScanArea": {"left": "0", "top": "0", "right": "1", "bottom": "1"},
            "DwellTime": "1e-05",
            "FrameTime": str(1e-5 * shape[0] * shape[1]),
        },
        "Detectors": described,
        "BinaryResult": {
            "PixelSize": {"width": str(pixel_size), "height": str(pixel_size)},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "Offset": {"x": "0", "y": "0"},
        },
        "CustomProperties": {},
    }


def _metadata_of(common, detector):
    index = [d["DetectorName"] for d in common["Detectors"].values()].index(detector)
    result = {**common["BinaryResult"], "Detector": detector, "DetectorIndex": str(index)}
    return {**common, "BinaryResult": result}


def _write_metadata(group, metadata, n_frames):
    text = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
    size = -(-text.size // 1024) * 1024
    data = group.create_dataset(
        "Metadata", (size, n_frames), np.uint8, chunks=(size, 1), compression="gzip"
    )
    padded = np.zeros(size, dtype=np.uint8)
    padded[: text.size] = text
    for k in range(n_frames):
        data[:, k] = padded


def _write_json(parent, name, content):
    import h5py

    text = json.dumps(content)
    parent.create_dataset(name, data=[text.encode()], dtype=h5py.string_dtype("ascii"))


def _new_group(file, parent):
    return file.create_group(_new_name(parent))


def _new_name(parent):
    return f"{parent}/{uuid.uuid4().hex}"


def _progressbar(show_progressbar, total, description):
    from hyperspy.defaults_parser import preferences
    from tqdm.auto import tqdm

    if show_progressbar is None:
        show_progressbar = preferences.General.show_progressbar
    return tqdm(total=total, desc=description, disable=not show_progressbar)
