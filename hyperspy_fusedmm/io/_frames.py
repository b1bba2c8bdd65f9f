"""Which frames of a recording are read, and what is said about the others."""

import warnings

import numpy as np


def choose_frames(frames, streams, boundaries, image, n_selected):
    """Sorted frame numbers, after telling what is left out."""
    n_whole = min(boundary.n_whole for boundary in boundaries)
    # A single image beside many frames of X-rays is a picture of all of them.
    n_images = image.n_frames if image.n_frames > 1 else np.inf
    if frames is None:
        _warn_of_incomplete_streams(streams, boundaries, n_whole)
        if n_images < n_whole:
            warnings.warn(f"{image} ends before the X-rays; {n_images} frames are read.")
        chosen = range(int(min(n_whole, n_images)))
        if n_selected is not None and 0 < n_selected < len(chosen):
            warnings.warn(
                f"{n_selected} of {len(chosen)} frames are selected in Velox and read; "
                f"frames=(0, {len(chosen)}) reads all."
            )
            chosen = chosen[:n_selected]
        if len(chosen) == 0:
            raise ValueError(
                "frames: there is no whole frame, "
                + " and ".join(map(_whole_frames, streams, boundaries))
                + "; at least one is needed, or frames=(0, 1) for what there is."
            )
    else:
        n_frames = min(boundary.n_frames for boundary in boundaries)
        chosen = _as_frame_numbers(frames, int(min(n_frames, n_images)))
        for stream, boundary in zip(streams, boundaries):
            if chosen[-1] >= boundary.n_whole:
                warnings.warn(
                    f"frame {chosen[-1]} is not whole: {_whole_frames(stream, boundary)}. "
                    "It is read as far as it goes."
                )
    if image.n_frames == 1 and len(chosen) > 1:
        warnings.warn(f"{image} is taken as it is for the {len(chosen)} frames of X-rays.")
    return np.array(chosen, dtype=np.int64)


def _warn_of_incomplete_streams(streams, boundaries, n_whole):
    incomplete = [
        _whole_frames(stream, boundary)
        for stream, boundary in zip(streams, boundaries)
        if boundary.n_frames > n_whole or boundary.n_whole < boundary.n_frames
    ]
    if incomplete and n_whole > 0:
        warnings.warn(
            f"{n_whole} whole frames are read: {' and '.join(incomplete)}. "
            f"frames=(0, {min(boundary.n_frames for boundary in boundaries)}) reads as far as the "
            "streams go."
        )


def _whole_frames(stream, boundary):
    text = f"{stream.detector} holds {boundary.n_whole} whole frames"
    if boundary.n_frames > boundary.n_whole:
        n_pixels = int(np.prod(stream.shape))
        text += f" and {boundary.n_pixels_in_last} of {n_pixels} pixels of the next"
    return text


def _as_frame_numbers(frames, n_frames):
    needed = (
        f"(first, last), a slice, a range or a list of different numbers from 0 to {n_frames - 1} "
        "is needed"
    )
    if isinstance(frames, slice):
        frames = range(n_frames)[frames]
    elif isinstance(frames, tuple) and len(frames) == 2:
        first, last = frames
        if first < 0 or last > n_frames or not first < last:
            raise ValueError(
                f"frames: the range {frames} is outside the file, which holds {n_frames} frames; "
                f"{needed}."
            )
        frames = range(first, last)
    elif isinstance(frames, (int, np.integer)):
        frames = [frames]
    chosen = sorted(frames)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"frames: found {list(frames)}; {needed}.")
    if any(int(frame) != frame for frame in chosen) or chosen[0] < 0 or chosen[-1] >= n_frames:
        raise ValueError(
            f"frames: {list(frames)} is outside the file, which holds {n_frames} frames; {needed}."
        )
    return chosen


def consecutive_runs(frames):
    """Half-open ranges of consecutive frame numbers."""
    ends = np.flatnonzero(np.diff(frames) != 1)
    firsts = frames[np.concatenate([[0], ends + 1])]
    lasts = frames[np.concatenate([ends, [len(frames) - 1]])] + 1
    return [(int(first), int(last)) for first, last in zip(firsts, lasts)]


def frame_axis(frames):
    """Navigation axis of the numbers of the frames in the file."""
    axis = {"name": "Frame", "navigate": True}
    steps = np.unique(np.diff(frames))
    if steps.size > 1:
        return {**axis, "axis": frames.astype(float)}
    scale = float(steps[0]) if steps.size else 1.0
    return {**axis, "size": len(frames), "offset": float(frames[0]), "scale": scale}
