"""Decode a stream of X-ray events into counts in windows of channels.

A stream is a one-dimensional ``uint16`` array: a value below 65535 is one
X-ray in that channel, and 65535 says that the next pixel begins. Pixels come
row by row and frame after frame. This is how RosettaSciIO's reader, and the
Velox files themselves, describe it. Nothing here knows HDF5: a stream is
anything that has a length and can be read in slices.
"""

from dataclasses import dataclass

import numba
import numpy as np

NEXT_PIXEL = 65535

# Two mebibytes: one piece stays in the second-level cache between being read and
# being decoded, and the peak memory does not notice it.
EVENTS_PER_PIECE = 1 << 20


@dataclass(frozen=True)
class FrameBoundaries:
    """Where the frames of a stream lie.

    Attributes
    ----------
    starts : numpy.ndarray of int64, shape (n_frames + 1,)
        Frame k is ``stream[starts[k]:starts[k + 1]]``.
    n_whole : int
        Frames that hold every pixel: all of them, or all but the last.
    n_pixels_in_last : int
        Pixels that the last frame holds: all of them where it is whole.
    """

    starts: np.ndarray
    n_whole: int
    n_pixels_in_last: int

    @property
    def n_frames(self):
        return self.starts.size - 1


class ChannelWindows:
    """Which rows of the result each channel is counted in.

    Parameters
    ----------
    windows : list of list of (int, int)
        For each row, the half-open channel ranges that are summed. A channel
        that occurs in two ranges of one row is counted twice.
    n_channels : int
        Length of a spectrum. A range beyond it is cut.
    """

    def __init__(self, windows, n_channels):
        rows_of_channel = [[] for _ in range(n_channels)]
        for row, ranges in enumerate(windows):
            for first, last in ranges:
                for channel in range(max(first, 0), min(last, n_channels)):
                    rows_of_channel[channel].append(row)
        self.n_rows = len(windows)
        self.n_channels = n_channels
        # compressed rows: channel c is counted in rows[offsets[c]:offsets[c + 1]]
        self.offsets = np.zeros(n_channels + 1, dtype=np.int64)
        self.offsets[1:] = np.cumsum([len(rows) for rows in rows_of_channel])
        self.rows = np.array([row for rows in rows_of_channel for row in rows], dtype=np.int64)


def locate_frames(stream, n_pixels, table=None, progress=None):
    """Find where the frames of a stream begin.

    Parameters
    ----------
    stream : array-like of uint16, shape (n_events,)
        Anything with a length and slices.
    n_pixels : int
        Pixels in one frame.
    table : array-like of int, optional
        First event of every frame, as the file states it. Where it makes
        sense, only what follows its last entry is read; otherwise everything
        is. The decoder verifies it.
    progress : callable, optional
        Called with the number of events read since the last call.

    Returns
    -------
    FrameBoundaries
    """
    known = _usable_table(stream, table)
    starts = [known]
    pixel = 0
    # A piece of n events cannot complete more frames than this.
    found = np.empty(EVENTS_PER_PIECE // n_pixels + 2, dtype=np.int64)
    for position, events in read_pieces(stream, int(known[-1]), len(stream)):
        if found.size < events.size // n_pixels + 2:
            found = np.empty(events.size // n_pixels + 2, dtype=np.int64)
        pixel, n_found = _find_frame_ends(events, position, pixel, n_pixels, found)
        starts.append(found[:n_found].copy())
        if progress is not None:
            progress(events.size)
    starts = np.concatenate(starts)
    return _close_last_frame(starts, pixel, len(stream), n_pixels)


def decode_frames(
    stream, boundaries, first, last, n_pixels, windows, counts, spectrum, progress=None
):
    """Add the events of some consecutive frames to counts and spectrum.

    Parameters
    ----------
    stream : array-like of uint16, shape (n_events,)
    boundaries : FrameBoundaries
    first, last : int
        The frames ``first <= k < last``.
    n_pixels : int
        Pixels in one frame.
    windows : ChannelWindows
    counts : numpy.ndarray of int32, shape (last - first or 1, n_rows, n_pixels)
        Added to in place. With one plane all frames are summed in it.
    spectrum : numpy.ndarray of int64, shape (n_channels,)
        Added to in place: the events of these frames by channel.
    progress : callable, optional
        Called with the number of events read since the last call.

    Raises
    ------
    ValueError
        When an event lies in a channel that does not exist, or when a frame
        does not hold `n_pixels` pixels.
    """
    n_frames = last - first
    expected_shape = (windows.n_rows, n_pixels)
    if counts.shape[1:] != expected_shape or counts.shape[0] not in (1, n_frames):
        raise ValueError(
            f"counts must have the shape ({n_frames} or 1, {windows.n_rows}, {n_pixels}), "
            f"found {counts.shape}."
        )
    if spectrum.shape != (windows.n_channels,):
        raise ValueError(
            f"spectrum must have the shape ({windows.n_channels},), found {spectrum.shape}."
        )
    ends = boundaries.starts[first + 1 : last + 1]
    found_ends = np.full(n_frames, -1, dtype=np.int64)
    begin, end = int(boundaries.starts[first]), int(boundaries.starts[last])
    pixel = frame = 0
    for position, events in read_pieces(stream, begin, end):
        pixel, frame, bad = _count_events(
            events,
            position,
            pixel,
            frame,
            windows.offsets,
            windows.rows,
            counts,
            spectrum,
            found_ends,
        )
        if bad >= 0:
            raise ValueError(
                f"the event stream is corrupt: event {position + bad} is in channel {events[bad]}, "
                f"but a spectrum has {windows.n_channels} channels."
            )
        if progress is not None:
            progress(events.size)
    _check_frame_ends(found_ends, ends, first, boundaries)


def read_pieces(stream, begin, end, size=None):
    """Yield ``(position, events)`` for pieces of ``stream[begin:end]``.

    The pieces after the first begin at multiples of `size`, so that a chunk of a
    compressed HDF5 dataset is unpacked once.
    """
    size = getattr(stream, "events_per_piece", EVENTS_PER_PIECE) if size is None else size
    position = begin
    while position < end:
        stop = min((position // size + 1) * size, end)
        yield position, stream[position:stop]
        position = stop


def _usable_table(stream, table):
    """The frame starts that the file states, or only 0 where they cannot be right."""
    from_the_beginning = np.zeros(1, dtype=np.int64)
    if table is None:
        return from_the_beginning
    table = np.asarray(table).ravel()
    if table.size == 0 or table.dtype.kind not in "iu" or table[0] != 0:
        return from_the_beginning
    # Of a stream that was cut short, the entries beyond its end mean nothing.
    table = table[table < len(stream)].astype(np.int64)
    if table.size == 0 or np.any(np.diff(table) <= 0):
        return from_the_beginning
    for start in table[1:]:
        if stream[int(start) - 1 : int(start)][0] != NEXT_PIXEL:
            return from_the_beginning
    return table


def _close_last_frame(starts, pixel, n_events, n_pixels):
    """Boundaries from the frame starts found and the pixels after the last one."""
    n_left_over = n_events - int(starts[-1])
    if n_left_over == 0:
        return FrameBoundaries(starts, starts.size - 1, n_pixels)
    starts = np.append(starts, n_events)
    n_frames = starts.size - 1
    # The last pixel of a stream need not be followed by a separator.
    if pixel == n_pixels - 1:
        return FrameBoundaries(starts, n_frames, n_pixels)
    return FrameBoundaries(starts, n_frames - 1, pixel)


def _check_frame_ends(found, expected, first, boundaries):
    last_is_open = first + expected.size == boundaries.n_frames
    for k in range(expected.size):
        if found[k] == expected[k]:
            continue
        if last_is_open and k == expected.size - 1 and found[k] == -1:
            continue
        where = "nowhere" if found[k] == -1 else f"at event {found[k]}"
        raise ValueError(
            f"the event stream is corrupt: frame {first + k} must end at event {expected[k]} "
            f"by the table of frame locations, but its last pixel ends {where}."
        )


@numba.njit(nogil=True, cache=True)
def _find_frame_ends(events, position, pixel, n_pixels, ends):
    """Write the positions after each frame's last separator into `ends`."""
    n_found = 0
    for i in range(events.size):
        if events[i] == NEXT_PIXEL:
            pixel += 1
            if pixel == n_pixels:
                pixel = 0
                ends[n_found] = position + i + 1
                n_found += 1
    return pixel, n_found


@numba.njit(nogil=True, cache=True)
def _count_events(events, position, pixel, frame, offsets, rows, counts, spectrum, ends):
    """Add one piece of a stream; return the pixel, frame and first bad event.

    Every index is bounded here, whatever the stream holds: `pixel` is reset at
    ``counts.shape[2]``, `frame` ends the loop at ``ends.size``, and a channel
    beyond the spectrum ends it with an error.
    """
    n_channels = spectrum.size
    n_frames = ends.size
    n_planes, _, n_pixels = counts.shape
    for i in range(events.size):
        if frame >= n_frames:
            break
        channel = np.int64(events[i])
        if channel == NEXT_PIXEL:
            pixel += 1
            if pixel == n_pixels:
                pixel = 0
                ends[frame] = position + i + 1
                frame += 1
        elif channel >= n_channels:
            return pixel, frame, i
        else:
            spectrum[channel] += 1
            plane = frame if n_planes > 1 else 0
            for k in range(offsets[channel], offsets[channel + 1]):
                counts[plane, rows[k], pixel] += 1
    return pixel, frame, -1
