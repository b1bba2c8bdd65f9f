"""A Velox file: choosing among what it holds, and reading its event streams."""

import json
import os
from contextlib import contextmanager

import h5py
import numpy as np

from ._event_stream import EVENTS_PER_PIECE, locate_frames
from ._skeleton import skeleton_signals
from ._velox_layout import (
    WANTED,
    frames_selected_in_velox,
    list_images,
    list_streams,
    velox_version,
)

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
            raise FileNotFoundError(f"path: there is no file {self.path!r}. {WANTED}.")
        if not h5py.is_hdf5(self.path):
            raise ValueError(f"path: {self.path!r} is not an HDF5 file. {WANTED}.")
        with self.open() as file:
            self.version = velox_version(file, self.path)
            self.images = list_images(file)
            self.streams = list_streams(file, self.path, [image.shape for image in self.images])
            self.n_frames_selected = frames_selected_in_velox(file)

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
                f"({type(error).__name__}: {error}). {WANTED}."
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
        if len(fitting) == 1 and fitting[0].is_real:
            return fitting[0]
        if len(fitting) == 1:
            problem = f"{fitting[0]} is complex, and a real image is needed"
        elif not found:
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
        return skeleton_signals(self, "images", image=image)[0]

    def spectrum_signal(self, streams):
        """RosettaSciIO's ``EDSTEMSpectrum`` of one empty pixel of the first of these streams."""
        return skeleton_signals(self, "spectrum_image", stream=streams[0])[-1]

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
