"""The layout of Velox files, version 11: streams of events, stacks of frames, metadata as JSON.

Settings of the Velox program itself are left out.
"""

import json
import os
import uuid

import numpy as np

NEXT_PIXEL = 65535
N_CHANNELS = 4096
CHANNEL_WIDTH = 0.01  # keV
BEAM_ENERGY = 200.0  # keV
# Velox stores its streams in chunks of this many events.
EVENTS_PER_CHUNK = 8192


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
