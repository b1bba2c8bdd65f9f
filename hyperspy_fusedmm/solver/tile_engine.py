"""Advance the state of a whole image, tile by tile, on several threads.

In a visit to a tile some iterations follow each other down its rows, in memory that fits the nearer
caches, so that an iteration costs arithmetic rather than memory traffic. The state is changed
in place: the strips along the tile borders, which neighbours read as halo, are saved before a sweep.
"""

import math
import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from dask.system import CPU_COUNT

from ._rows import Data, StepFields
from ._tiles import (
    Workspace,
    advance_tgv,
    advance_tv,
    most_iterations,
    padded,
    planes,
    ring,
)
from ._transfer import Image, Tile, save_strips

__all__ = ["TileEngine"]

# Places for rows in the rings of a tile. With them comes the number of iterations of a visit.
PLACES = 16
# Pixels of a tile along rows and, at most, along columns: what a row costs beyond its pixels tells against
# narrow tiles, the size of the caches against wide ones.
TILE_ROWS = (32, 1024)
TILE_COLUMNS = 1024
# Strips of so many numbers are saved at once rather than by several threads.
FEW = 1 << 18
# Arrays that may hold one row for all rows.
ONE_ROW = ("spread", "strength", "weights", "rho")


def column_cuts(columns, halo):
    """Ends of the tiles along columns, chosen so that little is padding or halo."""
    if columns <= TILE_COLUMNS:
        return np.array([0, columns])
    fewest = -(-columns // TILE_COLUMNS)
    counts = range(fewest, 2 * fewest)
    cost = {n: n * padded(-(-columns // n) + 2 * halo) for n in counts}
    return np.linspace(0, columns, min(cost, key=cost.get) + 1).round().astype(int)


def row_cuts(rows, tiles_across, workers, halo):
    """Ends of the tiles along rows, so that all threads have the same number of tiles."""
    count = -(-rows // TILE_ROWS[1])
    if rows >= 2 * TILE_ROWS[0]:
        share = workers // math.gcd(workers, tiles_across)
        even = -(-count // share) * share
        count = even if even * TILE_ROWS[0] <= rows else max(count, rows // TILE_ROWS[0])
    count = max(1, min(count, rows // (2 * halo)))
    return np.linspace(0, rows, count + 1).round().astype(int)


class _Scratch:
    """The arrays one thread works in."""

    def __init__(self, data, planes_, iterations, width):
        elements = data.counts.shape[0]
        curved = planes_ > 3 * elements + 1
        single = {name: getattr(data, name).shape[1] == 1 for name in ONE_ROW}
        self.state = ring(planes_, PLACES, width)
        self.data = Data(
            *(
                ring(array.shape[0], 1 if single.get(name) else PLACES, width)
                for name, array in data._asdict().items()
            )
        )
        anchored = len(data.anchor) > 0

        def steps(wanted=True):
            places = 1 if single["strength"] and not anchored else PLACES
            return ring(elements if wanted else 0, places, width)

        primal = steps()
        self.step_fields = StepFields(
            primal=primal, prox=steps() if anchored else primal, dual=steps(), slope=steps(curved),
            curvature=steps(curved), scale=steps(),
        )  # fmt: skip
        self.workspace = Workspace.allocate(
            elements, iterations, self.state.shape[2], len(data.guide) > 0, curved
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
    visit_iterations : int
        How many iterations follow each other through a tile.
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
        most = most_iterations(PLACES, regularization)
        if tiles is None:
            across = column_cuts(columns, most)
            tiles = row_cuts(rows, len(across) - 1, self.num_workers, most), across
        self._row_ends, self._column_ends = (np.asarray(t, int) for t in tiles)
        several = len(self._row_ends) > 2 or len(self._column_ends) > 2
        smallest = min(int(np.diff(ends).min()) for ends in (self._row_ends, self._column_ends))
        self._halo = min(most, smallest) if several else 0
        self.visit_iterations = self._halo or most
        self._image = Image(
            self.state,
            self._strips(len(self._row_ends) - 2, (2 * self._halo, columns)),
            self._strips(len(self._column_ends) - 2, (rows, 2 * self._halo)),
        )
        self._scratch = queue.SimpleQueue()
        width = min(int(np.diff(self._column_ends).max()) + 2 * self._halo, columns)
        self._tiles = [
            self._tile(j, i)
            for j in range(len(self._row_ends) - 1)
            for i in range(len(self._column_ends) - 1)
        ]
        self._threads = min(self.num_workers, len(self._tiles))
        for _ in range(self._threads):
            self._scratch.put(_Scratch(data, count, self.visit_iterations, width))
        self._pool = ThreadPoolExecutor(self._threads - 1) if self._threads > 1 else None

    def _strips(self, cuts, shape):
        return np.zeros((max(cuts, 0), self.state.shape[0]) + shape, np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _map(self, function, items):
        """Results of ``function`` of every item, found on all threads, of which the caller's is one.

        An exception waits for what is running, no more.
        """
        if self._pool is None or len(items) == 1:
            return [function(item) for item in items]
        futures = [self._pool.submit(function, item) for item in items[1:]]
        results = [None] * len(items)
        try:
            results[0] = function(items[0])
            # What nobody has begun yet, from the end, where the others come last.
            for k in range(len(items) - 1, 0, -1):
                if futures[k - 1].cancel():
                    results[k] = function(items[k])
                else:
                    results[k] = futures[k - 1].result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return results

    def map_rows(self, function, rows_per_band=64):
        """Results of ``function(first_row, end_row)`` for bands of rows, in order."""
        rows = self.state.shape[1]
        bands = max(self._threads, -(-rows // rows_per_band))
        ends = np.linspace(0, rows, min(bands, rows) + 1).round().astype(int)
        spans = list(zip(ends[:-1].tolist(), ends[1:].tolist()))
        return self._map(lambda span: function(*span), spans)

    def advance(self, steps, iterations, finish=True):
        """Advance the state.

        With ``finish`` the last iteration is not over-relaxed: the first planes are then a prox
        point, hence >= 0, and the dual fields lie in their balls. Without, more iterations of
        the same run are to follow.
        """
        visits = math.ceil(iterations / self.visit_iterations)
        for visit in range(visits):
            count = iterations * (visit + 1) // visits - iterations * visit // visits
            last = finish and visit == visits - 1
            relaxation = np.float32(1) if last else steps.relaxation
            self._sweep(steps, count, relaxation)

    def _sweep(self, steps, iterations, last_relaxation):
        if self._halo:
            cuts, image = (self._row_ends[1:-1], self._column_ends[1:-1]), self._image
            size = image.row_strips.size + image.column_strips.size
            parts = 1 if size < FEW else self._threads
            ends = np.linspace(0, len(self.state), parts + 1).astype(int).tolist()
            self._map(
                lambda part: save_strips(
                    image.state, *cuts, self._halo, image.row_strips, image.column_strips, *part
                ),
                list(zip(ends[:-1], ends[1:])),
            )
        self._map(lambda tile: self._visit(tile, steps, iterations, last_relaxation), self._tiles)

    def _tile(self, row_index, column_index):
        rows, columns = self.state.shape[1:]
        row, row_end = self._row_ends[row_index : row_index + 2].tolist()
        column, column_end = self._column_ends[column_index : column_index + 2].tolist()
        return Tile(
            max(row - self._halo, 0), min(row_end + self._halo, rows),
            max(column - self._halo, 0), min(column_end + self._halo, columns),
            row, row_end, column, column_end, row_index, column_index,
        )  # fmt: skip

    def _visit(self, tile, steps, iterations, last_relaxation):
        rows, columns = self.state.shape[1:]
        top, bottom, left, right = self.borders
        advance = advance_tv if self.regularization == "tv" else advance_tgv
        scratch = self._scratch.get()
        try:
            advance(
                self._image, self.data, tile, steps, iterations, last_relaxation,
                top and tile.row == 0,
                bottom and tile.row_end == rows,
                left and tile.column == 0,
                columns - tile.column if right and tile.column_end == columns else 0,
                scratch.state, scratch.data, scratch.step_fields, scratch.workspace,
            )  # fmt: skip
        finally:
            self._scratch.put(scratch)
