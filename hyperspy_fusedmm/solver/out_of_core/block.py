"""Advance one chunk with its halo, and evaluate the pixels that are its own."""

from dataclasses import dataclass

import numpy as np

from ..certificate import (
    FAINT,
    HIGHEST,
    ROUNDING,
    STEEPEST,
    dual_sum,
    must_bound,
    primal_sums,
)
from ..primal_dual import Scaled, certified_iteration
from ..tile_engine import TileEngine
from .lazy_problem import LazyProblem, WholeImage
from .scratch import Scratch

__all__ = ["Block", "Plan", "certificate_of"]

# Parts by which the dual fields are scaled down to find the best bound, where maps must be bounded; in
# memory it follows from the gap, which no chunk knows.
SHRINKAGES = (1e-4, 1e-3, 1e-2)
# Numbers of every chunk that are not one per element.
SINGLE = 7 + len(SHRINKAGES)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a task must know besides its arrays.

    ``row_ends`` and ``column_ends`` are the ends of the chunks, ``sweeps`` as `grid.sweeps`
    has them: for the power model with what `power_block.segments_of` tells in place of Newton steps. An image of one chunk has no sweeps: it is solved to ``tolerance``. ``topic`` is what
    the work is reported under.
    """

    shape: tuple
    names: tuple
    constants: dict
    whole: WholeImage
    row_ends: tuple
    column_ends: tuple
    sweeps: list
    halo: int
    tolerance: float
    max_iterations: int
    num_workers: int | None = 1
    scratch: Scratch | None = None
    topic: str = ""

    @property
    def iterations(self):
        """Iterations of all sweeps; those that lead to the start of the power model do not count."""
        return sum(
            n
            for segments in self.sweeps
            for n, what, _ in segments
            if not (isinstance(what, tuple) and what[0] == "linear")
        )

    def core(self, i, j):
        return (
            self.row_ends[i], self.row_ends[i + 1], self.column_ends[j], self.column_ends[j + 1]
        )  # fmt: skip

    def bounds(self, i, j):
        """The chunk with its halo, cut at the borders of the image."""
        row, row_end, column, column_end = self.core(i, j)
        return (
            max(row - self.halo, 0),
            min(row_end + self.halo, self.shape[1]),
            max(column - self.halo, 0),
            min(column_end + self.halo, self.shape[2]),
        )

    def neighbours(self, i, j):
        """Chunks that reach into the halo, and the chunk itself."""
        row, row_end, column, column_end = self.bounds(i, j)
        return [
            (k, m)
            for k in range(len(self.row_ends) - 1)
            if self.row_ends[k] < row_end and self.row_ends[k + 1] > row
            for m in range(len(self.column_ends) - 1)
            if self.column_ends[m] < column_end and self.column_ends[m + 1] > column
        ]


class Block:
    """A chunk with its halo in the units of the solver.

    Parameters
    ----------
    plan : Plan
    i, j : int
        Its number along rows and columns.
    pieces : dict of arrays
        Those of the problem.
    state : array, optional
        As `kept_state` had it before.
    sweep : int, default 0
        Number of the sweep that is to come.
    """

    def __init__(self, plan, i, j, pieces, state=None, sweep=0):
        self.plan = plan
        whole = plan.whole
        self.problem = LazyProblem.part(plan, pieces)
        self.scaled = Scaled(
            self.problem, whole.map_scale, whole.haadf_scale, whole.typical_strength
        )
        self.steps = self.scaled.steps(whole.balance, None)
        core, bounds = plan.core(i, j), plan.bounds(i, j)
        self.core = tuple(c - b for c, b in zip(core, (bounds[0],) * 2 + (bounds[2],) * 2))
        borders = (
            bounds[0] == 0, bounds[1] == plan.shape[1], bounds[2] == 0, bounds[3] == plan.shape[2]
        )  # fmt: skip
        self._set_up(state, sweep, borders)

    def _set_up(self, state, sweep, borders):
        """The engine, at the measured maps or at a state."""
        self.data = self.scaled.data()
        if state is None:
            state = self.scaled.initial_state(None, None)
        self.engine = TileEngine(
            self.data, self.problem.regularization, state, self.plan.num_workers, borders=borders
        )

    def advance(self, segments):
        for iterations, newton, finish in segments:
            self.engine.advance(self.steps._replace(newton=newton), iterations, finish)

    def solve(self):
        """Solve to the tolerance, as in memory; number of iterations."""
        records, _ = certified_iteration(
            self.engine, self.scaled, self.plan.whole.balance, tolerance=self.plan.tolerance,
            max_iterations=self.plan.max_iterations, callback=None,
        )  # fmt: skip
        return records[-1][0]

    def kept_state(self):
        """What the next sweep goes on from."""
        return self.engine.state

    def own(self, array):
        row, row_end, column, column_end = self.core
        return array[..., row:row_end, column:column_end]

    def maps(self):
        """Maps of the chunk's own pixels, in the caller's units."""
        own = np.maximum(self.own(self.engine.state[: self.plan.shape[0]]), 0)
        maps = own * self.plan.whole.map_scale[:, None, None].astype(np.float32)
        maps += self.scaled.lower_bound[:, None, None].astype(np.float32)
        return maps

    def result(self, iterations):
        """Maps of the chunk, and the numbers from which `certificate_of` has the whole image's."""
        return self._with_maps(self._certificate(iterations))

    def _with_maps(self, certificate):
        maps = self.maps()
        totals = maps.sum(axis=(1, 2), dtype=float)
        return maps, np.concatenate([certificate, totals])[None, None]

    def _limits(self, highest):
        """Values that the maps do not exceed; ``highest`` (E,) are those found in the chunk."""
        whole = self.plan.whole
        highest = np.maximum(highest, whole.highest)
        return np.where(np.isfinite(whole.bounds), whole.bounds, HIGHEST * highest)

    def _certificate(self, iterations):
        sums, (highest, steepest) = primal_sums(self.engine, self.steps, self.core)
        limits = self._limits(highest)
        scale = np.full(self.plan.shape[0], ROUNDING)

        def dual(part=0.0, use_bounds=False):
            shrunk = (1.0 - part) * scale
            return dual_sum(self.engine, self.steps, self.core, shrunk, limits, use_bounds)

        raised, apart = dual()
        weights = np.array([image.max() for image in self.data.weights])
        bounded = raised
        if ((weights > 0) & (weights < FAINT * weights.max())).any():
            bounded, _ = dual(use_bounds=True)
        # Every chunk tries the same: the dual fields go on from one to the next.
        shrunk = [dual(part)[0] for part in SHRINKAGES]
        values = [
            *sums, iterations, must_bound(self.data), raised, bounded, *shrunk, *apart, *steepest
        ]  # fmt: skip
        return np.array(values, dtype=float)


def certificate_of(parts, elements):
    """Terms, gap and iterations of the image from what its chunks have.

    Parameters
    ----------
    parts : (rows of chunks, columns of chunks, SINGLE + 3 E) array
    elements : int

    Returns
    -------
    dict
        ``haadf``, ``divergence``, ``regularization``, ``total``, ``gap`` and ``iterations``,
        ``totals``, the sums of the fused maps, and ``gaps`` (rows of chunks, columns of chunks), which
        add up to the gap: what each chunk has of it.
    """
    cells = np.asarray(parts)
    parts = cells.reshape(-1, cells.shape[-1])
    sums, largest = parts.sum(axis=0), parts.max(axis=0)
    haadf, divergence, regularization = sums[:3].tolist()
    apart = sums[SINGLE : SINGLE + elements]
    steepest = largest[SINGLE + elements : SINGLE + 2 * elements]
    # Where the dual fields of TGV do not agree is charged at the steepest slope of the whole image.
    cost = float((apart * STEEPEST * steepest).sum())
    total = haadf + divergence + regularization
    best = 5 + int(np.argmax(sums[5:SINGLE] if largest[4] else sums[5:7]))
    dual = max(float(sums[best]) - cost, 0.0)
    gaps = cells[..., :3].sum(axis=-1)
    if dual > 0:
        gaps = gaps - cells[..., best]
        gaps += (cells[..., SINGLE : SINGLE + elements] * STEEPEST * steepest).sum(axis=-1)
    return {
        "haadf": haadf,
        "divergence": divergence,
        "regularization": regularization,
        "total": total,
        "gap": max(total - dual, 0.0),
        "iterations": int(largest[3]),
        "totals": sums[SINGLE + 2 * elements :],
        "gaps": gaps,
    }
