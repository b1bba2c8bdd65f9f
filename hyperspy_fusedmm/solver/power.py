"""Solve the power model, HAADF = offset + sum_i (w_i x_i)^gamma, by convex models of it.

Around the present maps x_k the HAADF intensity is replaced by its tangent, which turns the
problem into the linear one with a weight per pixel [1]_. A proximal term keeps the next
maps close enough for the tangent to hold: steps that would raise the true objective are
taken back and tried again with a stronger one, so that it never rises.

At maps where the convex model around themselves can fall no further, the true objective is
stationary. How far the model could still fall at most is its duality gap there; that is the
stopping rule. It is no bound on the distance to the global minimum, for the problem is not
convex.

References
----------
.. [1] Drusvyatskiy & Paquette, Math. Program. 178, 503 (2019), on the prox-linear method.
"""

from dataclasses import replace

import numpy as np

from ._elementary import fast_exp, fast_log, kernel
from .certificate import certify
from .primal_dual import Scaled, divergence_less_likelihood, project_dual, solve_linear
from .tile_engine import TileEngine

__all__ = ["AFTER", "POWER_NEWTON_STEPS", "PowerModel", "linear_model", "solve_power"]

HISTORY = ("iteration", "haadf", "chem", "tv", "total", "stationarity")
# Iterations on one convex model; doubled while they do not make the objective fall.
INNER_ITERATIONS, LONGEST = 10, 160
# Blocks of inner iterations between two looks at the stationarity, and blocks to wait for
# the objective to fall before the proximal term is made stronger.
LOOK_EVERY = 3
PATIENCE = 5
# Iterations on the linear model that the start is taken from; more did not lead to lower objectives.
START_ITERATIONS = 40
# The proximal term is this much stronger after steps that had to be taken back, weaker after
# one that had not. At the strongest, single precision allows no further progress.
STRONGER, WEAKER = 4.0, 0.5
WEAKEST, STRONGEST = 0.5, 1e5
# Signals in units of the HAADF noise below which the curvature of the power is not followed.
SMALLEST_SIGNAL = 0.01
SMALLEST_PULL = 1e-6
DAMPING = 1e-3
# Newton steps of the prox in every iteration.
POWER_NEWTON_STEPS = 2
# What follows the iterations of a step: a new convex model around the present maps, more iterations
# on the same one, or these with a stronger proximal term from the maps that were kept.
AFTER = ("keep", "go on", "take back")


@kernel
def linearize_rows(
    x, power_weights, gamma, measured, rho, row, row_end, total, weights, target, pull
):
    """Tangent of the HAADF model at ``x``, and what it leaves out.

    Fills the weights (E, R, C) and the target of the linear model, and the curvature ``pull``
    of the proximal term: the part of the second derivative of the HAADF term that the tangent
    leaves out, which grows with the misfit, and a little of the part that it keeps.
    """
    for r in range(row, row_end):
        precision = rho[0, min(r, rho.shape[1] - 1)]
        for c in range(total.shape[0]):
            total[c] = 0.0
        for e in range(x.shape[0]):
            w = power_weights[e]
            values, slopes = x[e, r], weights[e, r]
            for c in range(total.shape[0]):
                signal = w * max(np.float64(values[c]), 0.0)
                rise = fast_exp((gamma - 1.0) * fast_log(max(signal, 1e-290)))
                total[c] += signal * rise
                slopes[c] = gamma * w * rise
        for e in range(x.shape[0]):
            w = power_weights[e]
            values, slopes, curvatures = x[e, r], weights[e, r], pull[e, r]
            for c in range(total.shape[0]):
                signal = max(w * np.float64(values[c]), SMALLEST_SIGNAL)
                misfit = abs(total[c] - measured[0, r, c])
                neglected = (gamma - 1.0) * misfit * w / signal + DAMPING * slopes[c]
                curvatures[c] = precision[c] * slopes[c] * neglected + SMALLEST_PULL
        for c in range(total.shape[0]):
            target[0, r, c] = measured[0, r, c] + (gamma - 1.0) * total[c]


@kernel
def haadf_rows(x, power_weights, gamma, measured, rho, row, row_end, total):
    """The true HAADF term of a band of rows."""
    term = 0.0
    for r in range(row, row_end):
        precision = rho[0, min(r, rho.shape[1] - 1)]
        for c in range(total.shape[0]):
            total[c] = -np.float64(measured[0, r, c])
        for e in range(x.shape[0]):
            w = power_weights[e]
            values = x[e, r]
            for c in range(total.shape[0]):
                signal = w * max(np.float64(values[c]), 0.0)
                total[c] += signal * fast_exp((gamma - 1.0) * fast_log(max(signal, 1e-290)))
        for c in range(total.shape[0]):
            term += 0.5 * precision[c] * total[c] * total[c]
    return term


class PowerModel:
    """The engine's linear model, tangent to the power model at the maps that are kept.

    Parameters
    ----------
    problem : FusionProblem
    scaled : Scaled
        Of the problem.
    start : (planes, R, C) float32 array
        State to go on from, changed in place.
    num_workers : int or None
    borders : tuple of bool
        As `TileEngine` takes them.
    """

    def __init__(self, problem, scaled, start, num_workers, borders=(True,) * 4):
        self.gamma = float(problem.gamma)
        self.power_weights = (
            problem.weights * scaled.map_scale * scaled.haadf_scale ** (-1 / problem.gamma)
        )
        shape = problem.maps.shape
        self.measured = scaled.target()
        self.data = scaled.data(
            weights=np.zeros(shape, np.float32),
            target=self.measured.copy(),
            anchor=np.zeros(shape, np.float32),
            pull=np.zeros(shape, np.float32),
        )
        self.engine = TileEngine(
            self.data, problem.regularization, start, num_workers, borders=borders
        )
        self.bounds = np.full(shape[0], np.inf)
        self._maps = start[: shape[0]]
        self._slope = start[3 * shape[0] : 5 * shape[0]]
        self._curved = problem.regularization == "tgv"
        self._kept_slope = None

    def keep(self):
        """Keep the present maps, and slopes of TGV, and take the tangent there."""
        self.restore(self._maps, self._slope if self._curved else None)

    @property
    def kept(self):
        """Maps and, of TGV, slopes that are kept, (E or 3 E, R, C)."""
        return np.concatenate([self.data.anchor, self._kept_slope]) if self._curved else self.data.anchor

    def restore(self, maps, slope):
        """Keep maps (E, R, C), and slopes (2 E, R, C) of TGV, and take the tangent there."""
        self.data.anchor[:] = maps
        if self._curved:
            self._kept_slope = slope.copy()

        def rows(row, row_end):
            linearize_rows(
                self.data.anchor, self.power_weights, self.gamma, self.measured, self.data.rho,
                row, row_end, np.empty(self._maps.shape[2]),
                self.data.weights, self.data.target, self.data.pull,
            )  # fmt: skip

        self.engine.map_rows(rows)

    def take_back(self):
        """Return to the maps that are kept."""
        self._maps[:] = self.data.anchor
        if self._curved:
            self._slope[:] = self._kept_slope

    def haadf_term(self, core=None):
        """True HAADF term at the present maps, of the pixels (row, row_end, column, column_end)."""
        maps, measured, rho = self._maps, self.measured, self.data.rho
        if core is not None:
            maps, measured, rho = (
                np.ascontiguousarray(
                    array[:, slice(*core[:2]) if array.shape[1] > 1 else slice(None), slice(*core[2:])]
                )
                for array in (maps, measured, rho)
            )

        def rows(row, row_end):
            return haadf_rows(
                maps, self.power_weights, self.gamma, measured, rho, row, row_end,
                np.empty(maps.shape[2]),
            )  # fmt: skip

        return sum(self.engine.map_rows(rows)) if core is None else rows(0, maps.shape[1])

    def objective(self, steps):
        """True terms (HAADF, divergence, regularization) at the present maps."""
        other = certify(self.engine, steps, self.bounds, with_dual=False)
        return self.haadf_term(), other.divergence, other.regularization

    def dual_value(self, steps):
        """Lower bound of the convex model around the maps that are kept."""
        return certify(self.engine, steps, self.bounds).dual


def linear_model(problem, sums, squares):
    """The linear problem whose weights are chords of the power model at typical maps.

    Parameters
    ----------
    problem : FusionProblem
        With the power model.
    sums, squares : (E,) array
        Of the moduli of the measured maps of the whole image, and of their squares.

    Returns
    -------
    FusionProblem
    """
    typical = squares / np.where(sums > 0, sums, 1)
    chords = problem.weights**problem.gamma * typical ** (problem.gamma - 1)
    return replace(problem, forward="linear", weights=chords)


def _linear_start(problem, num_workers):
    """State of the linear model after some iterations."""
    maps = np.asarray(problem.maps)
    sums = np.array([np.abs(m).sum(dtype=float) for m in maps])
    squares = np.array([np.square(m, dtype=float).sum() for m in maps])
    return solve_linear(
        linear_model(problem, sums, squares), tolerance=0, max_iterations=START_ITERATIONS, initial=None, state=None,
        num_workers=num_workers, callback=None,
    ).state  # fmt: skip


def solve_power(problem, *, tolerance, max_iterations, initial, state, num_workers, callback):
    """Find a stationary point; see `hyperspy_fusedmm.solver.solve`."""
    scaled = Scaled(problem)
    if initial is None and state is None:
        state = _linear_start(problem, num_workers)
    start = scaled.initial_state(initial, state)
    # The linear model's state makes room.
    del state
    model = PowerModel(problem, scaled, start, num_workers)
    project_dual(start, model.data, problem.regularization)
    balance = scaled.first_balance(model.data.strength)
    constant = divergence_less_likelihood(scaled.likelihood_sums(model.data), scaled.count_slope)
    nearness, failures, iteration, blocks = WEAKEST, 0, 0, 0
    inner = INNER_ITERATIONS
    records, schedule = [], []

    def record(terms, stationarity):
        records.append((iteration, *terms, sum(terms), stationarity))
        if callback is not None:
            callback(iteration, max_iterations, stationarity)

    with model.engine as engine:
        steps = scaled.steps(balance, model.data.strength, nearness)
        model.keep()
        present, lowest = model.objective(steps), -np.inf
        record(present, np.nan)
        while iteration < max_iterations and nearness < STRONGEST:
            count, near, after = min(inner, max_iterations - iteration), nearness, "go on"
            engine.advance(steps._replace(newton=POWER_NEWTON_STEPS), count)
            iteration += count
            blocks += 1
            found = model.objective(steps)
            if sum(found) <= sum(present):
                present, lowest, failures = found, -np.inf, 0
                nearness = max(nearness * WEAKER, WEAKEST)
                inner = max(inner // 2, INNER_ITERATIONS)
                after = "keep"
                model.keep()
            else:
                # The convex model may only not be solved well enough yet.
                inner = min(2 * inner, LONGEST)
                failures += 1
                if failures == PATIENCE:
                    after = "take back"
                    model.take_back()
                    nearness, failures = nearness * STRONGER, 0
            schedule.append((count, near, AFTER.index(after)))
            steps = scaled.steps(balance, model.data.strength, nearness)
            stationarity = np.nan
            if iteration >= max_iterations or (tolerance > 0 and blocks % LOOK_EVERY == 0):
                lowest = max(lowest, model.dual_value(steps))
                stationarity = max(sum(present) - lowest, 0.0) / max(sum(present), 1e-300)
            record(present, stationarity)
            if stationarity <= tolerance and tolerance > 0:
                break
        model.take_back()
    # The arrays of the model make room for the maps.
    del engine, model
    looks = [line[-1] for line in records if np.isfinite(line[-1])]
    stationarity = looks[-1] if looks else np.nan
    return scaled.solution(
        start,
        history=scaled.history(records, constant, HISTORY),
        iterations=iteration,
        converged=bool(stationarity <= tolerance),
        gap=np.nan,
        relative_gap=np.nan,
        stationarity=float(stationarity),
        schedule=np.array(schedule, dtype=float).reshape(-1, 3),
    )
