"""Counts and images of chosen frames, summed at once or frame by frame when needed."""

import numpy as np

from ..signals.progress import is_shown
from ._event_stream import ChannelWindows, decode_frames
from ._frames import consecutive_runs
from ._velox_file import EventDataset

# A block of frames that is decoded in one go when maps of single frames are computed.
_BYTES_PER_BLOCK = 64 * 2**20


class EventCounter:
    """The chosen streams of a file and the windows they are counted in.

    Holds no open file, so that it can be sent to another process.
    """

    def __init__(self, velox, streams, boundaries, windows):
        self._velox = velox
        self._streams = streams
        self._boundaries = boundaries
        self.shape = streams[0].shape
        self.n_elements = len(windows.elements)
        self._windows = ChannelWindows(
            windows.channels + windows.background_channels, streams[0].n_channels
        )

    def count(self, frames, show_progressbar=False, per_frame=False):
        """Counts of some frames, and their spectrum.

        Returns
        -------
        counts : numpy.ndarray of int32, shape (W, R, C) or (F, W, R, C)
            The elements' windows, then the background windows of the lines.
        spectrum : numpy.ndarray of int64, shape (channels,)
        """
        n_pixels = int(np.prod(self.shape))
        n_planes = len(frames) if per_frame else 1
        counts = np.zeros((n_planes, self._windows.n_rows, n_pixels), dtype=np.int32)
        spectrum = np.zeros(self._windows.n_channels, dtype=np.int64)
        runs = consecutive_runs(frames)
        n_events = sum(
            int(boundary.starts[min(last, boundary.n_frames)] - boundary.starts[first])
            for boundary in self._boundaries
            for first, last in runs
        )
        with _progressbar(show_progressbar, n_events) as bar, self._velox.open() as file:
            for stream, boundary in zip(self._streams, self._boundaries):
                data = EventDataset(file["Data/SpectrumStream"][stream.key]["Data"])
                plane = 0
                for first, last in runs:
                    planes = slice(plane, plane + last - first) if per_frame else slice(None)
                    decode_frames(
                        data,
                        boundary,
                        first,
                        last,
                        n_pixels,
                        self._windows,
                        counts[planes],
                        spectrum,
                        bar.update,
                    )
                    plane += last - first
        counts = counts.reshape(n_planes, -1, *self.shape)
        return (counts if per_frame else counts[0]), spectrum


class MapFrames:
    """Element maps of single frames, decoded when they are sliced."""

    dtype = np.dtype(np.int32)
    ndim = 4

    def __init__(self, events, frames):
        self._events = events
        self._frames = frames
        self.shape = (len(frames), events.n_elements, *events.shape)

    def __getitem__(self, key):
        chosen, rest = _split_key(key, self._frames)
        counts, _ = self._events.count(chosen, per_frame=True)
        return counts[rest]


class ImageFrames:
    """Frames of an image, read when they are sliced."""

    ndim = 3

    def __init__(self, velox, image, frames, dtype):
        self._velox = velox
        self._key = image.key
        self._frames = frames
        self.dtype = dtype
        self.shape = (len(frames), *image.shape)

    def __getitem__(self, key):
        chosen, rest = _split_key(key, self._frames)
        block = np.empty((len(chosen), *self.shape[1:]), dtype=self.dtype)
        with self._velox.open() as file:
            data = file["Data/Image"][self._key]["Data"]
            for k, frame in enumerate(chosen):
                block[k] = data[:, :, frame]
        return block[rest]


def _split_key(key, frames):
    """Frames that an index asks for, and the index into a stack of these."""
    first, *rest = key
    # Dask merges a later slice into the one that reads: a single number takes its axis away.
    single = isinstance(first, (int, np.integer))
    return np.atleast_1d(frames[first]), (0 if single else slice(None), *rest)


def lazy_stack(frames, chunks):
    import dask.array as da

    if chunks == "auto":
        bytes_per_frame = int(np.prod(frames.shape[1:])) * frames.dtype.itemsize
        chunks = max(1, _BYTES_PER_BLOCK // bytes_per_frame)
    return da.from_array(
        frames, chunks=(min(chunks, frames.shape[0]), *frames.shape[1:]), name=False, asarray=False
    )


def _progressbar(show_progressbar, n_events):
    from hyperspy.external.progressbar import progressbar

    return progressbar(
        desc="Counting X-rays",
        total=n_events,
        unit="event",
        unit_scale=True,
        disable=not is_shown(show_progressbar),
        leave=True,
    )
