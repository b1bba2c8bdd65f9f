"""Every event is counted once, where it belongs; and nothing a stream holds can do harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_fusedmm.io import _event_stream
from hyperspy_fusedmm.io._event_stream import (
    NEXT_PIXEL,
    ChannelWindows,
    decode_frames,
    locate_frames,
    read_pieces,
)

N_CHANNELS = 64
WINDOWS = [[(3, 9)], [(9, 20)], [(5, 7), (30, 40)]]


def random_frames(rng, n_frames, n_pixels, mean=4):
    """Frames as a list of spectra per pixel."""
    return [
        [rng.integers(0, N_CHANNELS, rng.poisson(mean)) for _ in range(n_pixels)]
        for _ in range(n_frames)
    ]


def as_stream(frames, last_separator=True):
    pieces = [np.append(events, NEXT_PIXEL) for frame in frames for events in frame]
    stream = np.concatenate(pieces).astype(np.uint16)
    return stream if last_separator else stream[:-1]


def as_table(frames):
    lengths = [sum(len(events) + 1 for events in frame) for frame in frames]
    return np.cumsum([0, *lengths[:-1]])


def expected_counts(frames, windows):
    """What counting with NumPy alone gives, shape (F, W, P)."""
    counts = np.zeros((len(frames), len(windows), len(frames[0])), dtype=int)
    for f, frame in enumerate(frames):
        for p, events in enumerate(frame):
            for w, ranges in enumerate(windows):
                for first, last in ranges:
                    counts[f, w, p] += np.sum((events >= first) & (events < last))
    return counts


def decode(stream, n_pixels, table=None, first=0, last=None, per_frame=True, windows=WINDOWS):
    boundaries = locate_frames(stream, n_pixels, table)
    last = boundaries.n_whole if last is None else last
    windows = ChannelWindows(windows, N_CHANNELS)
    counts = np.zeros((last - first if per_frame else 1, windows.n_rows, n_pixels), np.int32)
    spectrum = np.zeros(N_CHANNELS, np.int64)
    decode_frames(stream, boundaries, first, last, n_pixels, windows, counts, spectrum)
    return counts, spectrum


@pytest.mark.parametrize("with_table", [False, True])
@pytest.mark.parametrize("last_separator", [False, True])
@pytest.mark.parametrize("n_frames, n_pixels", [(1, 1), (1, 12), (5, 1), (4, 35)])
def test_counts_are_those_of_numpy(n_frames, n_pixels, last_separator, with_table):
    frames = random_frames(np.random.default_rng(n_pixels), n_frames, n_pixels)
    # A last pixel without events and separator does not exist in the stream.
    frames[-1][-1] = np.array([5])
    stream = as_stream(frames, last_separator)
    table = as_table(frames) if with_table else None
    counts, spectrum = decode(stream, n_pixels, table)
    np.testing.assert_array_equal(counts, expected_counts(frames, WINDOWS))
    every_event = np.concatenate([events for frame in frames for events in frame])
    np.testing.assert_array_equal(spectrum, np.bincount(every_event, minlength=N_CHANNELS))


def test_summing_in_one_plane_is_the_sum_of_the_frames():
    stream = as_stream(random_frames(np.random.default_rng(1), 5, 20))
    single, spectrum = decode(stream, 20)
    summed, spectrum_of_sum = decode(stream, 20, per_frame=False)
    np.testing.assert_array_equal(summed[0], single.sum(axis=0))
    np.testing.assert_array_equal(spectrum_of_sum, spectrum)


@pytest.mark.parametrize("first, last", [(0, 1), (1, 3), (2, 5), (0, 5)])
def test_a_range_of_frames(first, last):
    frames = random_frames(np.random.default_rng(2), 5, 20)
    counts, _ = decode(as_stream(frames), 20, first=first, last=last)
    np.testing.assert_array_equal(counts, expected_counts(frames[first:last], WINDOWS))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_size_of_the_pieces_does_not_matter(monkeypatch, size):
    frames = random_frames(np.random.default_rng(3), 3, 10)
    stream = as_stream(frames)
    monkeypatch.setattr(_event_stream, "EVENTS_PER_PIECE", size)
    counts, _ = decode(stream, 10)
    np.testing.assert_array_equal(counts, expected_counts(frames, WINDOWS))
    counts, _ = decode(stream, 10, first=1, last=2)
    np.testing.assert_array_equal(counts, expected_counts(frames[1:2], WINDOWS))


def test_pieces_begin_at_multiples_of_their_size():
    stream = np.arange(100)
    pieces = list(read_pieces(stream, 17, 95, size=20))
    assert [position for position, _ in pieces] == [17, 20, 40, 60, 80]
    np.testing.assert_array_equal(np.concatenate([events for _, events in pieces]), stream[17:95])


def test_a_channel_in_two_ranges_of_one_row_counts_twice():
    stream = as_stream([[np.array([4, 4, 8])]])
    counts, _ = decode(stream, 1, windows=[[(4, 5), (3, 9)], [(4, 5)], []])
    assert counts[0, :, 0].tolist() == [5, 2, 0]


def test_what_was_there_is_added_to():
    stream = as_stream([[np.array([4])]])
    windows = ChannelWindows([[(0, 9)]], N_CHANNELS)
    counts = np.full((1, 1, 1), 7, np.int32)
    spectrum = np.ones(N_CHANNELS, np.int64)
    decode_frames(stream, locate_frames(stream, 1), 0, 1, 1, windows, counts, spectrum)
    assert counts.item() == 8
    assert spectrum[4] == 2 and spectrum.sum() == N_CHANNELS + 1


@pytest.mark.parametrize("kept", [1, 9, 19])
def test_a_last_frame_that_is_cut_short_is_told(kept):
    """Only the separator after the very last pixel may be missing."""
    frames = random_frames(np.random.default_rng(4), 3, 20)
    whole = frames[:2]
    stream = np.concatenate([as_stream(whole), as_stream([frames[2][:kept]])])
    boundaries = locate_frames(stream, 20)
    assert boundaries.n_frames == 3
    assert boundaries.n_whole == (3 if kept == 19 else 2)
    counts, _ = decode(stream, 20, last=2)
    np.testing.assert_array_equal(counts, expected_counts(whole, WINDOWS))
    counts, _ = decode(stream, 20, last=3)
    np.testing.assert_array_equal(
        counts[2, :, :kept], expected_counts([frames[2][:kept]], WINDOWS)[0]
    )
    assert counts[2, :, kept:].sum() == 0


def test_an_empty_stream_has_no_frame():
    boundaries = locate_frames(np.empty(0, np.uint16), 20, np.array([0]))
    assert boundaries.n_frames == boundaries.n_whole == 0


@pytest.mark.parametrize(
    "table",
    [
        [],
        [5],
        [0, 0, 0, 0],
        [0, 40, 20],
        [0, 7, 9, 11],
        [0, 10**9],
        [-1, 5],
        [0.0, 1.5],
        [np.iinfo(np.uint64).max],
    ],
)
def test_a_table_that_makes_no_sense_is_not_used(table):
    frames = random_frames(np.random.default_rng(5), 4, 20)
    # In the other cases the entries must not happen to follow a separator.
    frames[0][0] = np.arange(1, 30)
    counts, _ = decode(as_stream(frames), 20, np.array(table))
    np.testing.assert_array_equal(counts, expected_counts(frames, WINDOWS))


def test_a_table_that_ends_early_is_completed():
    frames = random_frames(np.random.default_rng(6), 4, 20)
    counts, _ = decode(as_stream(frames), 20, as_table(frames)[:2])
    np.testing.assert_array_equal(counts, expected_counts(frames, WINDOWS))


@pytest.mark.parametrize("change", ["lost", "added"])
def test_a_separator_too_few_or_too_many_is_an_error(change):
    """Without it every pixel that follows would move, silently."""
    frames = random_frames(np.random.default_rng(7), 3, 20)
    frames[1][4] = np.array([5, 6])
    stream, table = as_stream(frames), as_table(frames)
    position = table[1] + np.flatnonzero(stream[table[1] :] == NEXT_PIXEL)[4]
    stream[position if change == "lost" else position - 1] = 5 if change == "lost" else NEXT_PIXEL
    with pytest.raises(ValueError, match="corrupt: frame 1 must end at event"):
        decode(stream, 20, table)


def test_a_channel_that_does_not_exist_is_an_error():
    stream = as_stream([[np.array([1, N_CHANNELS])]])
    with pytest.raises(ValueError, match=f"event 1 is in channel {N_CHANNELS}, but .* 64 channels"):
        decode(stream, 1)


@pytest.mark.parametrize("shape", [(2, 3, 20), (1, 2, 20), (1, 3, 19)])
def test_results_of_the_wrong_shape_are_refused(shape):
    stream = as_stream(random_frames(np.random.default_rng(8), 1, 20))
    windows = ChannelWindows(WINDOWS, N_CHANNELS)
    spectrum = np.zeros(N_CHANNELS, np.int64)
    with pytest.raises(ValueError, match="counts must have the shape"):
        decode_frames(
            stream,
            locate_frames(stream, 20),
            0,
            1,
            20,
            windows,
            np.zeros(shape, np.int32),
            spectrum,
        )
    counts = np.zeros((1, 3, 20), np.int32)
    with pytest.raises(ValueError, match="spectrum must have the shape"):
        decode_frames(
            stream, locate_frames(stream, 20), 0, 1, 20, windows, counts, spectrum[:-1].copy()
        )


mutations = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "repeat", "cut"]),
        st.integers(0, 10**6),
        st.sampled_from([0, 5, N_CHANNELS - 1, N_CHANNELS, 4096, 65534, NEXT_PIXEL]),
    ),
    max_size=8,
)


def mutated(stream, changes):
    for kind, where, value in changes:
        if stream.size == 0:
            break
        where = where % stream.size
        if kind == "set":
            stream = stream.copy()
            stream[where] = value
        elif kind == "delete":
            stream = np.delete(stream, slice(where, where + 3))
        elif kind == "repeat":
            stream = np.concatenate([stream[:where], stream[max(where - 9, 0) :]])
        else:
            stream = stream[:where]
    return stream


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 9),
    changes=mutations,
    table=st.sampled_from(["none", "right", "random"]),
    n_pixels=st.sampled_from([1, 6, 30]),
    per_frame=st.booleans(),
)
def test_whatever_a_stream_holds_nothing_outside_the_result_is_written(
    seed, changes, table, n_pixels, per_frame
):
    """The result lies between guards; what is inside stays consistent, or an error is raised."""
    rng = np.random.default_rng(seed)
    frames = random_frames(rng, 4, n_pixels)
    stream = mutated(as_stream(frames), changes)
    table = {
        "none": None,
        "right": as_table(frames),
        "random": np.sort(rng.integers(0, 200, 5)),
    }[table]
    boundaries = locate_frames(stream, n_pixels, table)
    assert boundaries.starts[0] == 0 and boundaries.starts[-1] <= max(len(stream), 0)
    assert np.all(np.diff(boundaries.starts) > 0)
    assert boundaries.n_frames - 1 <= boundaries.n_whole <= boundaries.n_frames
    if boundaries.n_frames == 0:
        return
    windows = ChannelWindows(WINDOWS, N_CHANNELS)
    n_planes = boundaries.n_frames if per_frame else 1
    guard = 1000
    size = n_planes * windows.n_rows * n_pixels
    memory = np.full(size + 2 * guard, -7, np.int32)
    counts = memory[guard:-guard].reshape(n_planes, windows.n_rows, n_pixels)
    counts[:] = 0
    spectrum_memory = np.full(N_CHANNELS + 2 * guard, -7, np.int64)
    spectrum = spectrum_memory[guard:-guard]
    spectrum[:] = 0
    try:
        decode_frames(
            stream, boundaries, 0, boundaries.n_frames, n_pixels, windows, counts, spectrum
        )
    except ValueError as error:
        assert "corrupt" in str(error)
    else:
        events = stream[: boundaries.starts[-1]]
        events = events[events != NEXT_PIXEL]
        np.testing.assert_array_equal(spectrum, np.bincount(events, minlength=N_CHANNELS))
        assert counts[:, 0].sum() == np.sum((events >= 3) & (events < 9))
    for guarded in (memory, spectrum_memory):
        assert np.all(guarded[:guard] == -7) and np.all(guarded[-guard:] == -7)


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=400),
    n_pixels=st.integers(1, 9),
    table=st.lists(st.integers(-5, 250), max_size=6),
)
def test_arbitrary_bytes_do_no_harm(data, n_pixels, table):
    stream = np.frombuffer(data[: len(data) // 2 * 2], dtype=np.uint16)
    boundaries = locate_frames(stream, n_pixels, np.array(table, dtype=int))
    if boundaries.n_frames == 0:
        return
    windows = ChannelWindows(WINDOWS, N_CHANNELS)
    counts = np.zeros((1, windows.n_rows, n_pixels), np.int32)
    spectrum = np.zeros(N_CHANNELS, np.int64)
    try:
        decode_frames(
            stream, boundaries, 0, boundaries.n_frames, n_pixels, windows, counts, spectrum
        )
    except ValueError as error:
        assert "corrupt" in str(error)
    assert spectrum.min() >= 0 and counts.min() >= 0
