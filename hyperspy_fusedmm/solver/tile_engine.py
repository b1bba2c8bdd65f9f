"""Advance the state of a whole image, tile by tile, on several threads.

A tile is copied with its halo into memory that fits the cache, advanced there by some
iterations and copied back, so that an iteration costs arithmetic rather than memory
traffic. The state is changed in place: the strips along the tile borders, which
neighbours read as halo, are saved before a sweep.
"""

import math
import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from dask.system import CPU_COUNT
from numba import njit

from ._rows import Data, StepFields
from ._span import span
from ._tiles import (
    BLOCK,
    MARGIN,
    Workspace,
    advance_tgv,
    advance_tv,
    aligned_zeros,
    fill_step_fields,
    planes,
)

__all__ = ["TileEngine"]

# Iterations of a visit to a tile, and with them pixels of its halo.
HALO = 16
TILE_BYTES = {"tv": 32 << 20, "tgv": 16 << 20}
TILE_ROWS = (32, 256)
TILE_COLUMNS = (256, 1024)
# Arrays that may hold one row for all rows.
ONE_ROW = ("spread", "strength", "weights", "rho")

# As in `_rows`: counting references of slices would cost more than copying them.
copy_kernel = njit(nogil=True, cache=True, _nrt=False)


@njit(nogil=True, cache=True, _nrt=False, forceinline=True)
def copy(source, target):
    """Copy a row; unlike an assignment to a slice, with vectors."""
    for c in range(target.shape[0]):
        target[c] = source[c]


@njit(nogil=True, cache=True, _nrt=False, forceinline=True)
def clear(target):
    for c in range(target.shape[0]):
        target[c] = np.float32(0)


@copy_kernel
def load(source, row, column, height, width, target):
    """Copy a block of ``source`` into the pixels of a tile and clear the padding around them.

    A ``target`` of one row takes the one row of a ``source`` that is the same for all rows.
    """
    single = target.shape[1] == 1
    rows = 1 if single else height
    start = 0 if single else 1
    length = target.shape[2]
    for plane in range(source.shape[0]):
        if not single:
            clear(span(target, plane, 0, 0, length))
            clear(span(target, plane, height + 1, 0, length))
        for r in range(rows):
            clear(span(target, plane, start + r, 0, MARGIN))
            copy(
                source[plane, 0 if single else row + r, column : column + width],
                span(target, plane, start + r, MARGIN, width),
            )
            clear(span(target, plane, start + r, MARGIN + width, length - MARGIN - width))


@copy_kernel
def load_state(state, row_strips, column_strips, halo, bounds, core, index, target):
    """Copy a tile with its halo; neighbours may have changed the state there already.

    ``bounds`` and ``core`` are (row, row_end, column, column_end) with and without halo,
    ``index`` the number of the tile along rows and columns.
    """
    row, row_end, column, column_end = bounds
    core_row, core_row_end, core_column, core_column_end = core
    height, width, length = row_end - row, column_end - column, target.shape[2]
    before, after = core_column - column, column_end - core_column_end
    inside = width - before - after
    for plane in range(state.shape[0]):
        clear(span(target, plane, 0, 0, length))
        clear(span(target, plane, height + 1, 0, length))
        for r in range(row, row_end):
            to = r - row + 1
            clear(span(target, plane, to, 0, MARGIN))
            clear(span(target, plane, to, MARGIN + width, length - MARGIN - width))
            if r < core_row:
                strip = row_strips[index[0] - 1, plane, r - core_row + halo]
                copy(strip[column:column_end], span(target, plane, to, MARGIN, width))
            elif r >= core_row_end:
                strip = row_strips[index[0], plane, r - core_row_end + halo]
                copy(strip[column:column_end], span(target, plane, to, MARGIN, width))
            else:
                if before:
                    strip = column_strips[index[1] - 1, plane, r]
                    copy(strip, span(target, plane, to, MARGIN, before))
                copy(
                    state[plane, r, core_column:core_column_end],
                    span(target, plane, to, MARGIN + before, inside),
                )
                if after:
                    strip = column_strips[index[1], plane, r, halo:]
                    copy(strip, span(target, plane, to, MARGIN + before + inside, after))


@copy_kernel
def store_state(tile, bounds, core, state):
    """Copy the core of a tile back."""
    start, width = MARGIN + core[2] - bounds[2], core[3] - core[2]
    for plane in range(state.shape[0]):
        for r in range(core[0], core[1]):
            copy(
                span(tile, plane, r - bounds[0] + 1, start, width),
                state[plane, r, core[2] : core[3]],
            )


@copy_kernel
def save_strips(state, row_cuts, column_cuts, halo, row_strips, column_strips, plane, plane_end):
    """Save what lies within ``halo`` pixels of the cuts between tiles."""
    for k in range(plane, plane_end):
        for j in range(len(row_cuts)):
            for r in range(2 * halo):
                copy(state[k, row_cuts[j] - halo + r], row_strips[j, k, r])
        for r in range(state.shape[1]):
            for i in range(len(column_cuts)):
                cut = column_cuts[i]
                copy(state[k, r, cut - halo : cut + halo], column_strips[i, k, r])


def _padded(width):
    return -(-width // BLOCK) * BLOCK


def column_cuts(columns, halo=HALO):
    """Ends of the tiles along columns, chosen so that little is padding or halo."""
    if columns <= TILE_COLUMNS[1]:
        return np.array([0, columns])
    counts = range(-(-columns // TILE_COLUMNS[1]), columns // TILE_COLUMNS[0] + 1)
    cost = {n: n * _padded(-(-columns // n) + 2 * halo) for n in counts}
    return np.linspace(0, columns, min(cost, key=cost.get) + 1).round().astype(int)


def row_cuts(rows, columns, floats_per_pixel, workers, tile_bytes):
    """Ends of the tiles along rows: a tile fits the cache, and there is one for every thread."""
    height = tile_bytes // (4 * floats_per_pixel * _padded(columns))
    height = min(max(height, TILE_ROWS[0]), TILE_ROWS[1])
    count = -(-rows // height)
    if rows >= 2 * TILE_ROWS[0]:
        count = max(count, min(workers, rows // TILE_ROWS[0]))
        count = -(-count // workers) * workers if count * TILE_ROWS[0] >= workers else count
    count = max(1, min(count, rows // (2 * HALO)))
    return np.linspace(0, rows, count + 1).round().astype(int)


class _Scratch:
    """The arrays one thread works in."""

    def __init__(self, data, planes_, height, width):
        padded = _padded(width) + 2 * MARGIN
        self.state = aligned_zeros((planes_, height + 2, padded))
        single = {name: getattr(data, name).shape[1] == 1 for name in ONE_ROW}
        self.data = Data(
            *(
                aligned_zeros((a.shape[0], 1 if single.get(name) else height + 2, padded))
                for name, a in data._asdict().items()
            )
        )
        elements = data.counts.shape[0]
        self.workspace = Workspace.allocate(elements, padded)
        one_row = single["strength"] and not len(data.anchor)
        shape = (elements, 1 if one_row else height + 2, padded)
        nothing = np.zeros((0, 1, 1), np.float32)
        curved = planes_ > 3 * elements + 1
        self.step_fields = StepFields(
            *(
                aligned_zeros(shape) if curved or name in ("primal", "prox", "dual") else nothing
                for name in StepFields._fields
            )
        )


class TileEngine:
    """The state of the primal-dual iteration on one image.

    Parameters
    ----------
    data : Data
        Arrays of the whole image, float32, (N, R or 1, C).
    regularization : {"tv", "tgv"}
    state : (planes, R, C) float32 array, optional
        State to go on from, changed in place; zeros if not given.
    num_workers : int, optional
        Number of threads; all processors if not given.
    tiles : tuple of arrays, optional
        Ends of the tiles along rows and along columns, each from 0 to the image's size.
        Chosen for speed if not given. They do not change the result beyond rounding.
    borders : tuple of bool, default (True, True, True, True)
        Which of the sides top, bottom, left, right of these arrays are borders of the image.
        At the others every iteration spoils one more row or column.

    Attributes
    ----------
    state : (planes, R, C) float32 array
    """

    def __init__(
        self, data, regularization, state=None, num_workers=None, tiles=None, borders=(True,) * 4
    ):
        self.data = data
        self.borders = borders
        elements, rows, columns = data.counts.shape
        self.regularization = regularization
        count = planes(elements, regularization)
        self.state = np.zeros((count, rows, columns), np.float32) if state is None else state
        self.num_workers = max(1, num_workers or CPU_COUNT)
        floats = count + sum(a.shape[0] for a in data if a.shape[1] > 1)
        if tiles is None:
            across = column_cuts(columns)
            widest, room = int(np.diff(across).max()), TILE_BYTES[regularization]
            tiles = row_cuts(rows, widest, floats, self.num_workers, room), across
        self._row_ends, self._column_ends = (np.asarray(t, int) for t in tiles)
        several = len(self._row_ends) > 2 or len(self._column_ends) > 2
        smallest = min(int(np.diff(ends).min()) for ends in (self._row_ends, self._column_ends))
        self._halo = min(HALO, smallest) if several else 0
        self._row_strips = self._strips(len(self._row_ends) - 2, (2 * self._halo, columns))
        self._column_strips = self._strips(len(self._column_ends) - 2, (rows, 2 * self._halo))
        self._scratch = queue.SimpleQueue()
        height = int(np.diff(self._row_ends).max()) + 2 * self._halo
        width = int(np.diff(self._column_ends).max()) + 2 * self._halo
        self._threads = min(self.num_workers, (len(self._row_ends) - 1) * (len(self._column_ends) - 1))
        for _ in range(self._threads):
            self._scratch.put(_Scratch(data, count, min(height, rows), min(width, columns)))
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def _strips(self, cuts, shape):
        return np.zeros((max(cuts, 0), self.state.shape[0]) + shape, np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _map(self, function, items):
        """Run on the threads and wait; an exception waits for what is running, no more."""
        if self._pool is None:
            for item in items:
                function(item)
            return
        futures = [self._pool.submit(function, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def map_rows(self, function, rows_per_band=64):
        """Results of ``function(first_row, end_row)`` for bands of rows, in order."""
        rows = self.state.shape[1]
        bands = max(self._threads, -(-rows // rows_per_band))
        ends = np.linspace(0, rows, min(bands, rows) + 1).round().astype(int)
        spans = list(zip(ends[:-1].tolist(), ends[1:].tolist()))
        if self._pool is None:
            return [function(*span) for span in spans]
        return list(self._pool.map(lambda span: function(*span), spans))

    def advance(self, steps, iterations, finish=True):
        """Advance the state.

        With ``finish`` the last iteration is not over-relaxed: the first planes are then a prox
        point, hence >= 0, and the dual fields lie in their balls. Without, more iterations of
        the same run are to follow.
        """
        visits = math.ceil(iterations / self._halo) if self._halo else min(iterations, 1)
        for visit in range(visits):
            count = iterations * (visit + 1) // visits - iterations * visit // visits
            last = finish and visit == visits - 1
            relaxation = np.float32(1) if last else steps.relaxation
            self._sweep(steps, count, relaxation)

    def _sweep(self, steps, iterations, last_relaxation):
        if self._halo:
            cuts = self._row_ends[1:-1], self._column_ends[1:-1]
            ends = np.linspace(0, len(self.state), self._threads + 1).astype(int).tolist()
            self._map(
                lambda part: save_strips(
                    self.state, *cuts, self._halo, self._row_strips, self._column_strips, *part
                ),
                list(zip(ends[:-1], ends[1:])),
            )
        tiles = [
            (j, i) for j in range(len(self._row_ends) - 1) for i in range(len(self._column_ends) - 1)
        ]
        self._map(lambda tile: self._visit(tile, steps, iterations, last_relaxation), tiles)

    def _visit(self, tile, steps, iterations, last_relaxation):
        rows, columns = self.state.shape[1:]
        row, row_end = (int(self._row_ends[tile[0] + k]) for k in (0, 1))
        column, column_end = (int(self._column_ends[tile[1] + k]) for k in (0, 1))
        core = (row, row_end, column, column_end)
        bounds = (
            max(row - self._halo, 0),
            min(row_end + self._halo, rows),
            max(column - self._halo, 0),
            min(column_end + self._halo, columns),
        )
        height, width = bounds[1] - bounds[0], bounds[3] - bounds[2]
        scratch = self._scratch.get()
        try:
            load_state(
                self.state, self._row_strips, self._column_strips, self._halo, bounds, core,
                tile, scratch.state,
            )  # fmt: skip
            for source, target in zip(self.data, scratch.data):
                if source.shape[0]:
                    load(source, bounds[0], bounds[2], height, width, target)
            fill_step_fields(
                steps, scratch.data, height, width, len(scratch.data.anchor) > 0,
                self.regularization == "tgv", scratch.step_fields,
            )  # fmt: skip
            advance = advance_tv if self.regularization == "tv" else advance_tgv
            advance(
                scratch.state, scratch.data, steps, scratch.step_fields, iterations, last_relaxation,
                height, _padded(width),
                self.borders[0] and bounds[0] == 0,
                self.borders[1] and bounds[1] == rows,
                self.borders[2] and bounds[2] == 0,
                width if self.borders[3] and bounds[3] == columns else 0,
                scratch.workspace,
            )  # fmt: skip
            store_state(scratch.state, bounds, core, self.state)
        finally:
            self._scratch.put(scratch)
