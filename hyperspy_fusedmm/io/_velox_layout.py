"""What the groups of a Velox file say: its images, its event streams, their calibration."""

import json
import re
from dataclasses import dataclass

import h5py

from ._event_stream import NEXT_PIXEL

WANTED = "A Velox EMD file with an EDS event stream and a HAADF image is needed"


@dataclass(frozen=True)
class VeloxStream:
    """One detector's event stream, as the file describes it."""

    key: str
    detector: str
    shape: tuple
    n_channels: int
    calibration: tuple
    n_frames_stated: int

    def __str__(self):
        rows, columns = self.shape
        return (
            f"{self.detector} ({rows} rows x {columns} columns, {self.n_frames_stated} frames, "
            f"{self.n_channels} channels)"
        )


@dataclass(frozen=True)
class VeloxImage:
    """One image or stack of images, as the file describes it."""

    key: str
    title: str
    detector: str
    shape: tuple
    n_frames: int
    is_real: bool

    def __str__(self):
        rows, columns = self.shape
        name = self.title if self.title == self.detector else f"{self.title} of {self.detector}"
        return f"{name} ({rows} rows x {columns} columns, {self.n_frames} frames)"


def velox_version(file, path):
    """Version of the Velox layout, after making sure that it is one."""
    if "Version" in file and isinstance(file["Version"], h5py.Dataset):
        try:
            version = _parse_json(file["Version"][0])
            if version["format"] in ("Velox", "DevelopersKit"):
                return int(version["version"])
        except (ValueError, KeyError, TypeError, IndexError):
            pass
    groups = [file] + [group for group in file.values() if isinstance(group, h5py.Group)]
    if any("version_major" in group.attrs or "emd_group_type" in group.attrs for group in groups):
        found = "is an EMD file of the Berkeley (NCEM) kind, which holds no event stream"
        advice = " Open it with hyperspy.api.load and give the signals to element_maps."
    else:
        found = f"is an HDF5 file, not a Velox EMD file (it holds {sorted(file)[:8]})"
        advice = ""
    raise ValueError(f"path: {path!r} {found}. {WANTED}.{advice}")


def list_images(file):
    images = []
    titles = _image_titles(file)
    group = file.get("Data/Image", {})
    for key in group:
        data = group[key]["Data"]
        detector = _metadata(group[key]).get("BinaryResult", {}).get("Detector", "unknown")
        n_frames = data.shape[2] if data.ndim == 3 else 1
        title = titles.get(key, detector)
        # Fourier transforms and DPC images are stored as pairs of real and imaginary part.
        is_real = data.dtype.kind in "iuf"
        images.append(VeloxImage(key, title, detector, tuple(data.shape[:2]), n_frames, is_real))
    return sorted(images, key=lambda image: _natural_order(image.title))


def list_streams(file, path, image_shapes):
    group = file.get("Data/SpectrumStream", {})
    if len(group) == 0:
        held = sorted(file.get("Data", {}))
        raise ValueError(
            f"path: {path!r} holds no EDS event stream (it holds {held}). {WANTED}; files "
            "that were pruned in Velox, and images or spectra saved alone, have none."
        )
    streams = [_describe_stream(group[key], key, image_shapes) for key in group]
    return sorted(streams, key=lambda stream: _natural_order(stream.detector))


def _describe_stream(group, key, image_shapes):
    metadata = _metadata(group)
    settings = _parse_json(group["AcquisitionSettings"][0])
    detector = metadata.get("BinaryResult", {}).get("Detector", key)
    calibration = next(
        (
            (float(d["Dispersion"]), float(d["OffsetEnergy"]))
            for d in metadata.get("Detectors", {}).values()
            if detector in d.get("DetectorName", "") and "Dispersion" in d
        ),
        None,
    )
    if calibration is None:
        raise ValueError(
            f"the event stream of {detector} has no energy calibration in the file: "
            "Dispersion and OffsetEnergy of its detector are needed."
        )
    n_channels = int(settings["bincount"])
    if not 0 < n_channels <= NEXT_PIXEL:
        raise ValueError(
            f"the event stream of {detector} is said to have {n_channels} channels; "
            f"1 to {NEXT_PIXEL} can be encoded."
        )
    return VeloxStream(
        key=key,
        detector=detector,
        shape=_grid(metadata, settings, image_shapes, detector),
        n_channels=n_channels,
        calibration=(*calibration, n_channels),
        n_frames_stated=group["Metadata"].shape[1],
    )


def _grid(metadata, settings, image_shapes, detector):
    """Rows and columns of a stream: the part of the scan that was recorded.

    Images of other sizes may lie in the same file, so the scan decides, and the
    images only where the scan is not described.
    """
    scan = metadata.get("Scan", {})
    try:
        size, area = scan["ScanSize"], scan["ScanArea"]
        height = float(area["bottom"]) - float(area["top"])
        width = float(area["right"]) - float(area["left"])
        shape = (
            round(float(size["height"]) * height),
            round(float(size["width"]) * width),
        )
    except (KeyError, TypeError, ValueError):
        raster = settings.get("RasterScanDefinition", {})
        shape = (int(raster.get("Height", 0)), int(raster.get("Width", 0)))
    if shape in image_shapes:
        return shape
    if len(set(image_shapes)) == 1:
        return image_shapes[0]
    raise ValueError(
        f"the grid of the event stream of {detector} cannot be told: its scan is described as "
        f"{shape[0]} rows x {shape[1]} columns, and the images have the shapes "
        f"{sorted(set(image_shapes))}; one image on the same grid is needed."
    )


def _image_titles(file):
    """Titles that Velox shows for the images, by the key of the image."""
    titles = {}
    for display in file.get("Displays/ImageDisplay", {}).values():
        settings = _parse_json(display[0])
        reference = settings.get("data")
        if reference is not None and reference in file:
            target = _parse_json(file[reference][0]).get("dataPath", "")
            titles[target.split("/")[-1]] = settings.get("id", settings.get("title", ""))
    for display in file.get("Presentation/Displays/ImageDisplay", {}).values():
        settings = _parse_json(display[0])
        label = settings.get("display", {}).get("label")
        if label is not None:
            titles[settings.get("dataPath", "").split("/")[-1]] = label
    return titles


def frames_selected_in_velox(file):
    """Number of frames that Velox's own spectrum image is made of, or None."""
    for group in file.get("Data/SpectrumImage", {}).values():
        try:
            return int(_parse_json(group["SpectrumImageSettings"][0])["endFramePosition"])
        except (KeyError, ValueError, IndexError):
            continue
    return None


def _metadata(group):
    """Metadata of the first frame of an image or a stream."""
    return _parse_json(group["Metadata"][:, 0].tobytes())


def _parse_json(text):
    if isinstance(text, bytes):
        text = text.split(b"\0")[0].decode("utf-8")
    return json.loads(text)


def _natural_order(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
