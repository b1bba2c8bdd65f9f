"""Solve the fusion problem to a certified optimum."""

from dataclasses import dataclass

import numpy as np

from ._elementary import fast_log, kernel
from ._rows import GAUSSIAN, POISSON, Data, Steps
from ._tiles import planes
from .certificate import certify
from .count_keeper import CountKeeper
from .noise_level import median_noise, noise_level
from .problem import CURVATURE_RATIO
from .tile_engine import TileEngine

__all__ = ["Scaled", "Solution", "State", "solve_linear"]

RELAXATION = {"tv": 1.9, "tgv": 1.7}
# Newton steps of the prox in the first iterations, up to the first look at the gap, and later,
# when the residual of the last iteration is close to the root.
FIRST_NEWTON_STEPS, NEWTON_STEPS = 3, 1
# Iterations with more Newton steps where a state of a similar problem has a residual.
FIRST_FROM_STATE = 4
# Primal over dual steps at a noise as large as the mean, and the power of the noise that it follows:
# noisy maps move far. Found on simulated specimens from 0.1 to 20 counts per pixel, and on recordings.
BALANCE = {"tv": 0.3, "tgv": 0.14}
NOISE_EXPONENT = 0.75
# Dual fields reach this many times the derivatives of the data terms: those of many pixels add up.
STRONGEST_PULL = 5.0
# The balance is rounded to so many steps per factor of two: how sums are formed does not matter then.
BALANCE_STEPS = 8
# Expected size of the slope field of TGV relative to that of the maps.
SLOPE_UNIT = 2.0
FIRST_CHECK = 20
HISTORY = ("iteration", "haadf", "chem", "tv", "total", "gap")


@dataclass
class State:
    """Where the iteration stands, in the scaled units of the solver."""

    planes: np.ndarray  # (planes, R, C) float32
    regularization: str
    map_scale: np.ndarray  # (E,)
    haadf_scale: float
    count_slope: np.ndarray  # (E,)


@dataclass
class Solution:
    """Fused maps and what is known of them.

    Attributes
    ----------
    maps : (E, R, C) float32 array
        Fused maps in the units of the measured maps, >= 0.
    haadf_fit : (R, C) float32 array or None
        HAADF image that the fused maps predict.
    iterations : int
    count_slope : (E,) array
        That of the problem, or that which keeps the counts of each map.
    converged : bool
        Whether the stopping rule was met.
    gap, relative_gap : float
        Bound on the distance of the objective from its minimum, and its ratio to the
        objective with the likelihood as a Kullback-Leibler divergence. NaN for the
        non-convex power model.
    stationarity : float
        For the power model: how much the convex model of the objective at the solution
        could still fall, relative to the same scale. NaN otherwise.
    schedule : (K, 3) array or None
        For the power model: iterations, strength of the proximal term, and number in
        `hyperspy_fusedmm.solver.power.AFTER` of what followed, of every step that was taken.
    history : dict of arrays
        ``iteration``, ``haadf``, ``chem``, ``tv``, ``total`` and ``gap`` at every check.
    state : State
        Pass it as ``state=`` to start the next solve from here.
    """

    maps: np.ndarray
    haadf_fit: np.ndarray | None
    iterations: int
    converged: bool
    gap: float
    relative_gap: float
    history: dict
    state: State
    count_slope: np.ndarray
    stationarity: float = np.nan
    schedule: np.ndarray | None = None


@kernel
def counts_and_entropy(counts, sums):
    """Sums of b and of b log b."""
    for r in range(counts.shape[0]):
        row = counts[r]
        total, entropy = 0.0, 0.0
        for c in range(row.shape[0]):
            value = np.float64(row[c])
            total += value
            entropy += value * fast_log(max(value, 1e-290))
        sums[0] += total
        sums[1] += entropy


def _power_of_two(value):
    """The power of two nearest to ``value``: scaling by it is exact."""
    return 2.0 ** np.round(np.log2(value)) if value > 0 and np.isfinite(value) else 1.0


def typical_strength(strength):
    """Strength (E,) at pixels where the maps are of the order of their mean.

    Strengths that follow the counts vary as their inverse square root or less.
    """
    typical = np.zeros(len(strength))
    for e, image in enumerate(strength):
        used = image[image > 0]
        if used.size:
            typical[e] = np.mean(used**-2.0, dtype=float) ** -0.5
    return typical


class Scaled:
    """The problem in units in which all numbers are of order one, as float32 arrays.

    Maps less ``lower_bound`` (E,), which are >= 0, are divided by ``map_scale`` (E,), the HAADF image by
    ``haadf_scale``; the objective keeps its value. The bound adds to the background of the counts and to the
    offset of the image.

    ``map_scale``, ``haadf_scale``, ``typical_strength`` and ``noise_level`` (E,) are found from
    the problem unless given: a part of an image takes those of the whole.
    """

    def __init__(
        self, problem, map_scale=None, haadf_scale=None, typical_strength=None, noise_level=None
    ):
        self.problem = problem
        self.noise_level = noise_level
        elements, rows, columns = problem.maps.shape
        self.fidelity = np.array([POISSON if f == "poisson" else GAUSSIAN for f in problem.fidelity])
        mean = np.array([np.abs(m).mean(dtype=float) for m in problem.maps])
        self.map_scale = map_scale
        if map_scale is None:
            self.map_scale = np.array([_power_of_two(m) for m in mean])
        self.typical_strength = typical_strength
        self.haadf_scale = haadf_scale
        if haadf_scale is None:
            self.haadf_scale = _power_of_two(median_noise(problem.haadf_noise))
        self.chem = np.full(elements, problem.lambda_chem, dtype=float)
        self.chem[self.fidelity == POISSON] *= self.map_scale[self.fidelity == POISSON]
        self.count_slope = np.where(self.fidelity == POISSON, problem.count_slope, 1.0)
        self.lower_bound = problem.lower_bound

    def _voxels(self, array, scale):
        """(E, R, C) or (E, 1, C) float32 array, times ``scale`` (E,)."""
        elements, _, columns = self.problem.maps.shape
        if array.shape[1:] == (1, 1):
            array = np.broadcast_to(array, (elements, 1, columns))
        out = np.empty(array.shape, np.float32)
        for e in range(elements):
            np.multiply(array[e], scale[e], out=out[e], casting="unsafe")
        return out

    def data(self, weights=None, target=None, anchor=None, pull=None):
        """Arrays for the `TileEngine`; what is given replaces the linear model's."""
        problem = self.problem
        elements, rows, columns = problem.maps.shape
        spread = np.array(np.broadcast_to(problem.background, np.broadcast_shapes(
            problem.background.shape, problem.noise.shape)), dtype=float)  # fmt: skip
        for e in range(elements):
            if self.fidelity[e] == GAUSSIAN:
                spread[e] = (self.map_scale[e] / problem.noise[e]) ** 2
            else:
                spread[e] = (problem.background[e] + self.lower_bound[e]) / self.map_scale[e]
        nothing = np.zeros((0, 1, 1), np.float32)
        if target is None:
            target = self.target()
        if weights is None:
            weights = self._voxels(
                problem.weights[:, None, None], self.map_scale / self.haadf_scale
            )
        precision = problem.lambda_haadf * (self.haadf_scale / np.asarray(problem.haadf_noise)) ** 2
        if precision.ndim == 0:
            precision = np.broadcast_to(precision, (1, columns))
        guide = problem.guide
        return Data(
            counts=self._counts(),
            spread=self._voxels(spread, np.ones(elements)),
            strength=self._strength(),
            weights=weights,
            target=target,
            rho=np.ascontiguousarray(precision[None], dtype=np.float32),
            guide=nothing if guide is None else np.ascontiguousarray(guide, dtype=np.float32),
            anchor=nothing if anchor is None else anchor,
            pull=nothing if pull is None else pull,
            reference=nothing if problem.reference is None else self._reference(),
        )

    def _reference(self):
        """Image that the regularization is relative to, (1, R, C)."""
        return np.multiply(self.problem.reference, 1 / self.haadf_scale, dtype=np.float32)[None]

    def _counts(self):
        """Measured maps; Gaussian ones less the lower bound."""
        counts = self._voxels(self.problem.maps, 1 / self.map_scale)
        for e in np.flatnonzero((self.fidelity == GAUSSIAN) & (self.lower_bound > 0)):
            counts[e] -= np.float32(self.lower_bound[e] / self.map_scale[e])
        return counts

    def _strength(self):
        """Radius of the dual balls, (E, R, C), or (E, 1, C) where it is the same everywhere."""
        scale = self.problem.lambda_tv * self.map_scale
        weights = self.problem.regularization_weights
        return self._voxels(np.ones((len(scale), 1, 1)) if weights is None else weights, scale)

    def steps(self, balance, strength, nearness=0.0):
        """Constants for the `TileEngine`."""
        return Steps(
            fidelity=self.fidelity.astype(np.int64),
            chem=self.chem.astype(np.float32),
            slope=(self.count_slope * self.chem).astype(np.float32),
            reference_scale=(
                self.problem.reference_scale * self.haadf_scale / self.map_scale
            ).astype(np.float32),
            balance=balance.astype(np.float32),
            typical_strength=self._typical(strength).astype(np.float32),
            nearness=np.float32(nearness),
            curvature_ratio=np.float32(CURVATURE_RATIO),
            slope_unit=np.float32(SLOPE_UNIT),
            relaxation=np.float32(RELAXATION[self.problem.regularization]),
            newton=NEWTON_STEPS,
        )

    def first_balance(self, strength):
        """Expected distance of the maps over that of the dual fields."""
        noise = noise_level(self.problem.maps) if self.noise_level is None else self.noise_level
        maps = BALANCE[self.problem.regularization] * noise**NOISE_EXPONENT
        dual = np.maximum(self._typical(strength), 1e-3 * self.chem)
        # Where the strength is above what the data can pull with, dual fields stay inside their balls.
        balance = maps / np.minimum(dual, STRONGEST_PULL * self._pull(noise))
        return 2.0 ** (np.round(BALANCE_STEPS * np.log2(balance)) / BALANCE_STEPS)

    def _pull(self, noise):
        """Size (E,) of the derivatives of the data terms where maps are off by their noise."""
        problem = self.problem
        background = problem.background.mean(axis=(1, 2), dtype=float) + self.lower_bound
        background = background / self.map_scale
        precision = (self.map_scale / problem.noise.mean(axis=(1, 2), dtype=float)) ** 2
        poisson = self.fidelity == POISSON
        chem = self.chem * noise * np.where(poisson, 1 / (1 + background), precision)
        weights = problem.weights * self.map_scale / self.haadf_scale
        if problem.forward == "power":
            weights = problem.weights * self.map_scale * self.haadf_scale ** (-1 / problem.gamma)
            weights = problem.gamma * weights**problem.gamma
        return np.hypot(chem, problem.lambda_haadf * weights)

    def _typical(self, strength):
        return typical_strength(strength) if self.typical_strength is None else self.typical_strength

    def target(self):
        """HAADF image without its offset and what the maps add to it at their lower bound, (1, R, C) float32."""
        problem = self.problem
        target = np.zeros((1,) + problem.maps.shape[1:], np.float32)
        if problem.haadf is not None:
            least = float(problem.haadf_offset + problem.weights @ self.lower_bound)
            np.subtract(problem.haadf, least, out=target[0], casting="unsafe")
            target /= np.float32(self.haadf_scale)
        return target

    def bounds(self, data):
        """Values the optimal maps less their lower bound do not exceed, inf where no such bound is known.

        Cutting a map at such a value lowers no forward difference's modulus but all norms of
        isotropic TV, so it can only lower the objective.
        """
        problem = self.problem
        elements = problem.maps.shape[0]
        if problem.regularization != "tv" or not (problem.guide is None and problem.reference is None):
            return np.full(elements, np.inf)
        highest = data.counts.max(axis=(1, 2)) / self.count_slope
        weights = data.weights.max(axis=(1, 2)).astype(float)
        used = weights > 0
        highest[used] = np.maximum(highest[used], float(data.target.max()) / weights[used])
        return highest

    def likelihood_sums(self, data):
        """Sums (E, 3) of background, counts b and b log b, of Poisson maps in the units of the objective."""
        found = np.zeros((len(self.chem), 3))
        for e in np.flatnonzero(self.fidelity == POISSON):
            counts = data.counts[e]
            background = data.spread[e].mean(dtype=float) - self.lower_bound[e] / self.map_scale[e]
            background *= counts.size
            sums = np.zeros(2)
            counts_and_entropy(counts, sums)
            # b log b of the caller's counts from that of the scaled ones.
            entropy = sums[1] + np.log(self.map_scale[e]) * sums[0]
            found[e] = self.chem[e] * background, self.chem[e] * sums[0], self.chem[e] * entropy
        return found

    def history(self, records, constant, names=HISTORY):
        """Checks as a dict of arrays, the likelihood as in the objective: less ``constant``, one or several."""
        columns = np.array(records, dtype=float).T
        history = dict(zip(names, columns))
        history["chem"] = history["chem"] - constant
        history["total"] = history["total"] - constant
        return history

    def solution(self, array, **results):
        """A `Solution` in the caller's units."""
        problem = self.problem
        elements = problem.maps.shape[0]
        maps = np.empty(problem.maps.shape, np.float32)
        for e in range(elements):
            # An over-relaxed x could be negative; the last iteration is never over-relaxed,
            # but a state that is returned as it was given may be.
            np.maximum(array[e], 0, out=maps[e])
            maps[e] *= np.float32(self.map_scale[e])
            if self.lower_bound[e]:
                maps[e] += np.float32(self.lower_bound[e])
        fit = None
        if problem.haadf is not None:
            fit = np.full(problem.haadf.shape, problem.haadf_offset, np.float32)
            for e in range(elements):
                signal = np.float32(problem.weights[e]) * maps[e]
                fit += signal ** np.float32(problem.gamma) if problem.forward == "power" else signal
        slope = self.count_slope.copy()
        state = State(array, problem.regularization, self.map_scale, self.haadf_scale, slope)
        return Solution(maps=maps, haadf_fit=fit, state=state, count_slope=slope, **results)

    def initial_state(self, initial, state, overwrite=False):
        problem = self.problem
        elements, rows, columns = problem.maps.shape
        count = planes(elements, problem.regularization)
        if state is not None and initial is None:
            found = state.planes.shape, state.regularization
            needed = (count, rows, columns), problem.regularization
            if found != needed or len(state.map_scale) != elements:
                raise ValueError(
                    f"state is of shape and regularization {found}, but this problem needs "
                    f"{needed} with {elements} elements; start without state=."
                )
            array = state.planes if overwrite else state.planes.copy()
            ratio = state.map_scale / self.map_scale
            shares = [ratio, np.repeat(1 / ratio, 2)]
            if problem.regularization == "tgv":
                shares += [np.repeat(ratio, 2), np.repeat(1 / ratio, 3)]
            # r is a derivative with respect to the scaled HAADF intensity.
            shares.append([self.haadf_scale / state.haadf_scale])
            array *= np.concatenate(shares).astype(np.float32)[:, None, None]
            return array
        array = np.zeros((count, rows, columns), np.float32)
        start = problem.maps if initial is None else initial
        for e in range(elements):
            np.multiply(start[e], 1 / self.map_scale[e], out=array[e], casting="unsafe")
            if self.lower_bound[e]:
                array[e] -= np.float32(self.lower_bound[e] / self.map_scale[e])
            np.maximum(array[e], 0, out=array[e])
        return array


def project_dual(array, data, regularization):
    """Bring the dual fields of a state from other strengths into their balls, in place."""
    elements = data.counts.shape[0]
    fields = [(elements, 2, 1.0)]
    if regularization == "tgv":
        fields.append((5 * elements, 3, CURVATURE_RATIO))
    for start, components, ratio in fields:
        for e in range(elements):
            dual = array[start + components * e : start + components * (e + 1)]
            norm = np.sqrt((dual**2).sum(axis=0))
            radius = ratio * data.strength[e]
            np.multiply(dual, radius / np.maximum(norm, np.maximum(radius, 1e-30)), out=dual)


def _next_check(records, tolerance, maximum):
    """When to look again: where the gap, falling as it did, will have met the tolerance.

    A look costs about ten iterations, so the intervals grow, at most by half.
    """
    iteration = records[-1][0]
    if iteration == 0:
        return min(FIRST_CHECK, maximum)
    longest, shortest = int(1.5 * iteration), int(1.1 * iteration) + 5
    predicted = longest
    if len(records) > 2 and 0 < records[-1][-1] < records[-2][-1]:
        (before, gap_before), (_, gap) = ((r[0], r[-1]) for r in records[-2:])
        rate = np.log(gap_before / gap) / np.log(iteration / before)
        wanted = max(gap / (tolerance * max(records[-1][-2], 1e-300)), 1.0)
        predicted = 1.05 * iteration * np.exp(min(np.log(wanted) / rate, 1.0))
    return int(min(max(predicted, shortest), longest, maximum))


def divergence_less_likelihood(sums, count_slope):
    """What a divergence is above the likelihood, with ``sums`` (E, 3) of `Scaled.likelihood_sums`."""
    background, counts, entropy = np.transpose(sums)
    return float((count_slope * background - counts + entropy - counts * np.log(count_slope)).sum())


def certified_iteration(
    engine, scaled, balance, *, tolerance, max_iterations, callback, first=FIRST_CHECK, keeper=None
):
    """Advance until the relative gap meets the tolerance.

    The first iterations, at most up to the first look at the gap, take more Newton steps.

    Parameters
    ----------
    keeper : CountKeeper, optional
        Moves ``scaled.count_slope`` so that every map keeps its counts, which is then waited for as well.

    Returns
    -------
    records : list of tuple
        Iteration, HAADF term, likelihood as a divergence, regularization, their sum, and
        the gap to the best dual value so far, at every check.
    slopes : list of (E,) array
        ``count_slope`` at every check.
    """
    steps = scaled.steps(balance, engine.data.strength)
    records, slopes, iteration = [], [], 0

    def advance(newton, count):
        nonlocal steps
        stretches = [count] if keeper is None else keeper.stretches(count)
        for k, stretch in enumerate(stretches):
            engine.advance(steps._replace(newton=newton), stretch, finish=k == len(stretches) - 1)
            if keeper is not None and keeper.move(scaled, engine.state):
                steps = scaled.steps(balance, engine.data.strength)

    while True:
        if tolerance > 0 or iteration >= max_iterations:
            if not slopes or (slopes[-1] != scaled.count_slope).any():
                # Bounds hold for these slopes only; all terms are >= 0: until there is a better one, it is 0.
                best_dual, bounds = 0.0, scaled.bounds(engine.data)
            kept = keeper is None or keeper.kept
            found = certify(engine, steps, bounds)
            best_dual = max(best_dual, found.dual)
            # A negative gap is rounding: the primal value never lies below the dual one.
            gap = max(found.total - best_dual, 0.0)
            slopes.append(scaled.count_slope.copy())
            records.append((
                iteration, found.haadf, found.divergence, found.regularization, found.total, gap
            ))  # fmt: skip
            if callback is not None:
                callback(iteration, max_iterations, gap / found.total if found.total else 0.0)
            if (kept and gap <= tolerance * found.total) or iteration >= max_iterations:
                return records, slopes
        following = max_iterations
        if tolerance > 0:
            following = _next_check(records, tolerance, max_iterations)
        if iteration < first:
            count = min(first, following) - iteration
            advance(FIRST_NEWTON_STEPS, count)
            iteration += count
        if following > iteration:
            advance(steps.newton, following - iteration)
        iteration = following


def solve_linear(
    problem, *, tolerance, max_iterations, initial, state, num_workers, callback, keep_counts=False,
    overwrite_state=False,
):  # fmt: skip
    """Solve the convex problem; see `hyperspy_fusedmm.solver.solve`."""
    scaled = Scaled(problem)
    data = scaled.data()
    balance = scaled.first_balance(data.strength)
    sums = scaled.likelihood_sums(data)
    start = scaled.initial_state(initial, state, overwrite_state)
    if state is not None:
        project_dual(start, data, problem.regularization)
    keeper = None
    if keep_counts:
        keeper = CountKeeper(scaled, data, None if state is None else state.count_slope)
    with TileEngine(data, problem.regularization, start, num_workers) as engine:
        records, slopes = certified_iteration(
            engine, scaled, balance, tolerance=tolerance, max_iterations=max_iterations,
            callback=callback, first=FIRST_CHECK if state is None else FIRST_FROM_STATE,
            keeper=keeper,
        )  # fmt: skip
    # The arrays of the problem make room for the maps.
    del engine, data
    iterations, *_, divergence, gap = records[-1]
    kept = keeper is None or keeper.kept
    constants = np.array([divergence_less_likelihood(sums, slope) for slope in slopes])
    return scaled.solution(
        start,
        history=scaled.history(records, constants),
        iterations=iterations,
        converged=bool(kept and gap <= tolerance * divergence),
        gap=gap,
        relative_gap=gap / divergence if divergence > 0 else 0.0,
    )
