"""How an image is cut into chunks, and the iterations into sweeps over them."""

import numpy as np

__all__ = ["largest_sweep", "sweeps", "working_grid"]

# A chunk with its halo has at most this many times the pixels of the chunk alone.
LARGEST_OVERHEAD = 1.4
# A look at the gap needs the neighbours' neighbours of the pixels that count.
MARGIN = 2


def cuts(length, size):
    """Sizes of equal parts of ``length``, the last perhaps smaller, of at most ``size``."""
    # Equal but for the last, as Zarr stores need them.
    part = -(-length // -(-length // size))
    return tuple(min(part, length - start) for start in range(0, length, part))


def working_grid(shape, chunk):
    """Chunks ((E,), rows, columns) of nearly equal size, whatever the image's size."""
    return (shape[0],), cuts(shape[1], chunk), cuts(shape[2], chunk)


def largest_sweep(chunks):
    """Iterations in one sweep whose halo costs no more than `LARGEST_OVERHEAD`."""
    smallest = min(min(c) if len(c) > 1 else np.inf for c in chunks[1:])
    if not np.isfinite(smallest):
        return np.inf
    return max(int(smallest * (np.sqrt(LARGEST_OVERHEAD) - 1) / 2) - MARGIN, 1)


def sweeps(segments, longest):
    """Cut segments (iterations, newton) into sweeps of at most ``longest`` iterations.

    Returns
    -------
    list of list of (iterations, newton, finish)
        ``finish`` where a segment ends, as `TileEngine.advance` takes it.
    """
    total = sum(iterations for iterations, _ in segments)
    count = max(1, int(np.ceil(total / longest)))
    ends = np.linspace(0, total, count + 1).round().astype(int)[1:]
    plan, done = [[]], 0
    for iterations, newton in segments:
        left = iterations
        while left:
            here = min(left, int(ends[len(plan) - 1]) - done)
            left -= here
            done += here
            plan[-1].append((here, newton, left == 0))
            if done == ends[len(plan) - 1] and len(plan) < count:
                plan.append([])
    return plan
