"""What a Velox file holds: its images, its event streams, and their calibration.

Only the layout is read here, never the events. Calibrated signals and their
metadata are made by RosettaSciIO, from a small copy of the file that holds one
frame of one image and an empty event stream: so they are those that ``hs.load``
gives, without the spectrum image being made.
"""

import json
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass

import h5py
import numpy as np

from ._event_stream import EVENTS_PER_PIECE, NEXT_PIXEL, locate_frames

_WANTED = "A Velox EMD file with an EDS event stream and a HAADF image is needed"
# What HDF5, JSON and a missing or misplaced entry raise.
_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    UnicodeError,
    json.JSONDecodeError,
)
# Groups that hold settings and references between the data sets.
_SETTINGS = ("Version", "Info", "Displays", "Operations", "SharedProperties", "Features")


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

    def __str__(self):
        rows, columns = self.shape
        name = self.title if self.title == self.detector else f"{self.title} of {self.detector}"
        return f"{name} ({rows} rows x {columns} columns, {self.n_frames} frames)"


class EventDataset:
    """A stream in an open HDF5 file, read in slices."""

    def __init__(self, dataset):
        if dataset.ndim != 2 or dataset.shape[1] != 1 or dataset.dtype.kind != "u":
            raise ValueError(
                f"the event stream {dataset.name} has the shape {dataset.shape} and the type "
                f"{dataset.dtype}; one column of uint16 is needed."
            )
        if dataset.dtype.itemsize != 2:
            raise ValueError(
                f"the event stream {dataset.name} is encoded as {dataset.dtype}; "
                "only uint16 can be decoded."
            )
        _check_complete(dataset)
        self._dataset = dataset
        # A compressed chunk can only be unpacked whole.
        chunk = dataset.chunks[0] if dataset.chunks else 1
        self.events_per_piece = -(-EVENTS_PER_PIECE // chunk) * chunk

    def __len__(self):
        return self._dataset.shape[0]

    def __getitem__(self, piece):
        return self._dataset[piece, 0].astype(np.uint16, copy=False)


def _check_complete(dataset):
    """Refuse a stream with holes: HDF5 fills them with zeros, which are X-rays in channel 0."""
    if dataset.chunks is None:
        found, needed, what = dataset.id.get_storage_size(), dataset.nbytes, "bytes"
    else:
        found, what = dataset.id.get_num_chunks(), "chunks"
        needed = -(-dataset.shape[0] // dataset.chunks[0])
    if found < needed:
        raise ValueError(
            f"the event stream {dataset.name} is incomplete: {found} of its {needed} {what} are in "
            "the file; all are needed."
        )


class VeloxFile:
    """The layout of one Velox file.

    Parameters
    ----------
    path : str or os.PathLike

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is not HDF5, not a Velox file, or holds no event stream.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise FileNotFoundError(f"path: there is no file {self.path!r}. {_WANTED}.")
        if not h5py.is_hdf5(self.path):
            raise ValueError(f"path: {self.path!r} is not an HDF5 file. {_WANTED}.")
        with self.open() as file:
            self.version = _velox_version(file, self.path)
            self.images = _list_images(file)
            self.streams = _list_streams(file, self.path, [image.shape for image in self.images])
            self.n_frames_selected = _frames_selected_in_velox(file)

    @contextmanager
    def open(self):
        """The open HDF5 file; what cannot be read in it is told with its path."""
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except (PermissionError, BlockingIOError):
            raise  # the file is not to blame
        except _DAMAGE as error:
            raise ValueError(
                f"path: {self.path!r} is damaged or was not copied to its end "
                f"({type(error).__name__}: {error}). {_WANTED}."
            ) from error

    def choose_streams(self, detectors=None):
        """The streams of the detectors named or numbered, or of all detectors.

        Raises
        ------
        ValueError
            When a name or number is not in the file, when one is given twice,
            or when the streams cannot be added: several spectrum images, or
            different calibrations.
        """
        if detectors is None:
            chosen = list(self.streams)
        else:
            if isinstance(detectors, (str, int, np.integer)):
                detectors = [detectors]
            chosen = [self._stream_called(detector) for detector in detectors]
        if not chosen:
            raise ValueError(f"detectors: none given. {self._streams_listed()}.")
        if len({stream.key for stream in chosen}) < len(chosen):
            raise ValueError(f"detectors: one is given twice in {detectors!r}.")
        self._check_can_be_added(chosen)
        return chosen

    def choose_haadf(self, shape, haadf=None):
        """The image with the name or number given, or the HAADF image on the grid.

        Raises
        ------
        ValueError
            When there is none, when several fit, or when the shape differs.
        """
        if haadf is None:
            # An element map of a detector is no image of the beam current; its title differs.
            found = [
                i
                for i in self.images
                if "HAADF" in i.title.upper() or "HAADF" in i.detector.upper()
            ]
            what = "no HAADF image"
        elif isinstance(haadf, (int, np.integer)):
            found = [self.images[haadf]] if 0 <= haadf < len(self.images) else []
            what = f"no image number {haadf}"
        else:
            found = [i for i in self.images if haadf in (i.title, i.detector)]
            what = f"no image called {haadf!r}"
        fitting = [image for image in found if image.shape == tuple(shape)]
        if len(fitting) == 1:
            return fitting[0]
        if not found:
            problem = f"the file holds {what}"
        elif not fitting:
            problem = (
                f"{' and '.join(map(str, found))} does not lie on the grid of the spectrum image, "
                f"{shape[0]} rows x {shape[1]} columns"
            )
        else:
            problem = f"{len(fitting)} images fit"
        raise ValueError(
            f"haadf: {problem}. {self._images_listed()}. "
            "Give the name or the number of one on that grid."
        )

    def locate_frames(self, file, stream, progress=None):
        """Frame boundaries of one stream; `file` is the open file."""
        group = file["Data/SpectrumStream"][stream.key]
        table = group["FrameLocationTable"][:] if "FrameLocationTable" in group else None
        events = EventDataset(group["Data"])
        return locate_frames(events, int(np.prod(stream.shape)), table, progress)

    def image_signal(self, image):
        """Frame 0 of an image as RosettaSciIO's ``Signal2D``."""
        return self._signals_of_skeleton("images", image=image)[0]

    def spectrum_signal(self, streams):
        """RosettaSciIO's ``EDSTEMSpectrum`` of one empty pixel of the first of these streams."""
        return self._signals_of_skeleton("spectrum_image", stream=streams[0])[-1]

    def _signals_of_skeleton(self, select_type, image=None, stream=None):
        import hyperspy.api as hs

        with tempfile.TemporaryDirectory(prefix="hyperspy_fusedmm_") as folder:
            skeleton = os.path.join(folder, os.path.basename(self.path))
            with self.open() as source, h5py.File(skeleton, "w") as copy:
                _write_skeleton(source, copy, image, stream)
            # Not summing detectors spares a remark that there is only one.
            options = {"select_type": select_type, "sum_EDS_detectors": False}
            try:
                loaded = hs.load(skeleton, file_format="EMD", **options)
            except Exception as error:
                raise ValueError(
                    f"path: RosettaSciIO cannot read the metadata of {self.path!r} "
                    f"({type(error).__name__}: {error}). {_WANTED}."
                ) from error
        loaded = loaded if isinstance(loaded, list) else [loaded]
        folder, filename = os.path.split(os.path.abspath(self.path))
        stem, extension = os.path.splitext(filename)
        for signal in loaded:
            signal.tmp_parameters.folder = folder
            signal.tmp_parameters.filename = stem
            signal.tmp_parameters.extension = extension
        return loaded

    def _stream_called(self, detector):
        if isinstance(detector, (int, np.integer)) and not isinstance(detector, bool):
            if 0 <= detector < len(self.streams):
                return self.streams[detector]
            raise ValueError(f"detectors: no detector number {detector}. {self._streams_listed()}.")
        found = [stream for stream in self.streams if stream.detector == detector]
        if len(found) == 1:
            return found[0]
        problem = f"{len(found)} streams are called" if found else "no stream is called"
        raise ValueError(f"detectors: {problem} {detector!r}. {self._streams_listed()}.")

    def _check_can_be_added(self, streams):
        for what, values in (
            ("detector names", [stream.detector for stream in streams]),
            ("grids", [stream.shape for stream in streams]),
            ("energy calibrations", [stream.calibration for stream in streams]),
        ):
            n_different = len(set(values))
            if what == "detector names":
                fine = n_different == len(values)
                problem = "a detector occurs several times: there are several spectrum images"
            else:
                fine = n_different == 1
                problem = f"the {what} differ: {sorted(set(values), key=str)}"
            if not fine:
                raise ValueError(
                    f"detectors: the streams cannot be added, {problem}. "
                    f"{self._streams_listed()}. Give the numbers of those that belong together."
                )

    def _streams_listed(self):
        listed = ", ".join(f"{k}: {stream}" for k, stream in enumerate(self.streams))
        return f"The event streams in the file are {listed}"

    def _images_listed(self):
        listed = ", ".join(f"{k}: {image}" for k, image in enumerate(self.images))
        return f"The images in the file are {listed}"


def _velox_version(file, path):
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
    raise ValueError(f"path: {path!r} {found}. {_WANTED}.{advice}")


def _list_images(file):
    images = []
    titles = _image_titles(file)
    group = file.get("Data/Image", {})
    for key in group:
        data = group[key]["Data"]
        detector = _metadata(group[key]).get("BinaryResult", {}).get("Detector", "unknown")
        n_frames = data.shape[2] if data.ndim == 3 else 1
        title = titles.get(key, detector)
        images.append(VeloxImage(key, title, detector, tuple(data.shape[:2]), n_frames))
    return sorted(images, key=lambda image: _natural_order(image.title))


def _list_streams(file, path, image_shapes):
    group = file.get("Data/SpectrumStream", {})
    if len(group) == 0:
        held = sorted(file.get("Data", {}))
        raise ValueError(
            f"path: {path!r} holds no EDS event stream (it holds {held}). {_WANTED}; files "
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


def _frames_selected_in_velox(file):
    """Number of frames that Velox's own spectrum image is made of, or None."""
    for group in file.get("Data/SpectrumImage", {}).values():
        try:
            return int(_parse_json(group["SpectrumImageSettings"][0])["endFramePosition"])
        except (KeyError, ValueError, IndexError):
            continue
    return None


def _write_skeleton(source, copy, image, stream):
    """Copy everything that RosettaSciIO reads except the data.

    One image has its first frame, or a single pixel where only the spectrum is
    wanted; the stream holds one empty pixel.
    """
    for name in _SETTINGS:
        if name in source:
            source.copy(name, copy)
    if "Presentation/Displays" in source:
        source.copy("Presentation/Displays", copy.create_group("Presentation"))
    images = source["Data/Image"]
    key = image.key if image is not None else next(iter(images))
    target = copy.create_group(f"Data/Image/{key}")
    data = images[key]["Data"]
    target["Data"] = data[:, :, :1] if image is not None else np.zeros((1, 1, 1), np.uint16)
    target["Metadata"] = images[key]["Metadata"][:, :1]
    for key, group in source.get("Data/SpectrumImage", {}).items():
        target = copy.create_group(f"Data/SpectrumImage/{key}")
        group.copy("SpectrumImageSettings", target)
        target["Metadata"] = group["Metadata"][:, :1]
    if stream is not None:
        group = source["Data/SpectrumStream"][stream.key]
        target = copy.create_group(f"Data/SpectrumStream/{stream.key}")
        group.copy("AcquisitionSettings", target)
        target["Metadata"] = group["Metadata"][:, :1]
        target["Data"] = np.full((1, 1), NEXT_PIXEL, dtype=np.uint16)


def _metadata(group):
    """Metadata of the first frame of an image or a stream."""
    return _parse_json(group["Metadata"][:, 0].tobytes())


def _parse_json(text):
    if isinstance(text, bytes):
        text = text.split(b"\0")[0].decode("utf-8")
    return json.loads(text)


def _natural_order(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
