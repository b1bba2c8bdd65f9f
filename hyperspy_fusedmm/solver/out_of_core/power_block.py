"""Advance one chunk of the power model along a schedule that is the same for all chunks."""

import numpy as np

from ..certificate import HIGHEST, explaining_alone, primal_sums
from ..power import (
    AFTER,
    POWER_NEWTON_STEPS,
    START_ITERATIONS,
    PowerModel,
    linear_model,
    project_dual,
)
from ..primal_dual import FIRST_CHECK, FIRST_NEWTON_STEPS, NEWTON_STEPS, Scaled
from ..tile_engine import TileEngine
from .block import Block

__all__ = ["PowerBlock", "segments_of"]


def segments_of(schedule, from_measured):
    """Segments (iterations, what) of a schedule, for `grid.sweeps`.

    Parameters
    ----------
    schedule : (K, 3) array
        As `Solution.schedule`.
    from_measured : bool
        Whether to start from the measured maps; else from some iterations on the linear model.

    Returns
    -------
    list of tuple
        ``what`` is ("linear", Newton steps), or ("power", strength of the proximal term, what
        follows, one of `AFTER`).
    """
    first = min(FIRST_CHECK, START_ITERATIONS)
    start = [(first, ("linear", FIRST_NEWTON_STEPS)), (START_ITERATIONS - first, ("linear", NEWTON_STEPS))]
    steps = [(int(n), ("power", float(near), AFTER[int(after)])) for n, near, after in schedule]
    return ([] if from_measured else start) + steps


class PowerBlock(Block):
    """A chunk with its halo; `model` keeps the maps around which the power is linearised.

    The state between sweeps has, beside that of the iteration, the maps, and slopes of TGV, that are
    kept.
    """

    def _set_up(self, state, sweep, borders):
        plan, elements = self.plan, self.plan.shape[0]
        self.borders, self.kept_planes = borders, elements
        if self.problem.regularization == "tgv":
            self.kept_planes = 3 * elements
        if state is None:
            planes = self.scaled.initial_state(None, None)
        else:
            planes = np.ascontiguousarray(state[: -self.kept_planes])
        self.model = PowerModel(self.problem, self.scaled, planes, plan.num_workers, borders)
        self.engine, self.data = self.model.engine, self.model.data
        self.begun = any(what[0] == "power" for part in plan.sweeps[:sweep] for _, what, _ in part)
        if self.begun:
            kept = state[-self.kept_planes :]
            self.model.restore(kept[:elements], kept[elements:])

    def advance(self, segments):
        linear = None
        for iterations, (model, *what), finish in segments:
            if model == "linear":
                linear = linear or self._linear_engine()
                engine, steps = linear
                engine.advance(steps._replace(newton=what[0]), iterations, finish)
                continue
            if not self.begun:
                linear = None
                project_dual(self.engine.state, self.data, self.problem.regularization)
                self.model.keep()
                self.begun = True
            near, after = what
            steps = self.scaled.steps(self.plan.whole.balance, None, near)
            self.engine.advance(steps._replace(newton=POWER_NEWTON_STEPS), iterations, finish)
            if finish and after == "keep":
                self.model.keep()
            elif finish and after == "take back":
                self.model.take_back()

    def kept_state(self):
        state = self.engine.state
        nothing = np.zeros((self.kept_planes,) + state.shape[1:], np.float32)
        return np.concatenate([state, self.model.kept if self.begun else nothing])

    def result(self, iterations):
        # The bound is that of the last convex model; what is returned are the maps it was made around.
        found = self._certificate(iterations)
        self.model.take_back()
        (_, *terms), _ = primal_sums(self.engine, self.steps, self.core)
        found[:3] = self.model.haadf_term(self.core), *terms[:2]
        return self._with_maps(found)

    def _limits(self, highest):
        """Values that the maps do not exceed, of the convex model."""
        weights = self.own(self.data.weights).max(axis=(1, 2)).astype(float)
        alone = explaining_alone(weights, self.own(self.data.target).max())
        return HIGHEST * np.maximum(np.maximum(highest, self.plan.whole.highest), alone)

    def _linear_engine(self):
        """The linear model that the start is taken from, on the same state."""
        power = self.plan.whole.power
        problem = linear_model(self.problem, power["sums"], power["squares"])
        whole = self.plan.whole
        scaled = Scaled(problem, whole.map_scale, whole.haadf_scale, whole.typical_strength)
        engine = TileEngine(
            scaled.data(), problem.regularization, self.engine.state, self.plan.num_workers,
            borders=self.borders,
        )  # fmt: skip
        return engine, scaled.steps(power["balance"], None)
