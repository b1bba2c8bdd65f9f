"""Form and strength of the regularization, and weight of the HAADF image, chosen from the data.

Every candidate is fitted to the measured maps and to maps from which some counts were taken,
which tells its error (see `hyperspy_fusedmm.solver.risk`). What is searched, in this order:

1. For every form (which regularization, guided or not, with the HAADF image or without) one
   common factor of the strengths, from strong to weak; each element takes its own best one.
2. For the best form each strength, and the weight of the HAADF image, by itself.

Fits are short and start where the nearest one before ended.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from .representative import representative_tiles
from .risk import disturbed, risk
from .solve import solve

__all__ = ["FORMS", "Form", "Selection", "choose"]

# Iterations of the first fit of a form and of those that go on from another one. Twice as
# many chose alike.
FIRST_ITERATIONS, ITERATIONS = 150, 60
# Factors of the strengths that follow from the noise: for the first form, and relative to its
# best for the others.
FACTORS, NEAR = np.log([8.0, 4.0, 2.0, 1.0, 0.5]), np.log([2.0, 1.0, 0.5])
STRONGEST, WEAKEST = np.log(300.0), np.log(0.02)
# Steps of the logarithms in the passes over single strengths; for the weight of the HAADF image
# they are longer, as it decides less.
STEPS, HAADF_STEP = (0.8, 0.4), 2.5
# The squared error of an element relative to its squares is not taken to be smaller, and is
# taken from as many of its best fits: a single one may be the best by chance.
LEAST_SHARE, BEST_FITS = 1e-3, 3
# Fewer counts than this in a map do not tell its strength.
FEWEST_COUNTS = 100


@dataclass(frozen=True)
class Form:
    """One form of the problem.

    Attributes
    ----------
    regularization : {"tv", "tgv"}
    guided : bool
        Whether the HAADF image steers the regularization.
    with_haadf : bool
        Whether the HAADF term counts.
    """

    regularization: str
    guided: bool
    with_haadf: bool


# Tried where nothing is fixed. The first is the best or nearly so for most simulated specimens.
FORMS = (
    Form("tgv", False, True),
    Form("tgv", True, True),
    Form("tv", True, True),
    Form("tgv", False, False),
)


@dataclass(frozen=True)
class Selection:
    """What was chosen, and everything that was tried.

    Attributes
    ----------
    form : Form
    lambda_tv : (E,) array
    lambda_haadf : float
        0 where the HAADF image was left out.
    undecided : (E,) bool array
        Elements with too few counts to tell; their strength follows from the noise.
    tried : list of dict
        For every candidate ``form`` (its number in ``forms``), ``lambda_tv`` (E,), ``lambda_haadf``,
        ``error`` (E,), the estimated squared error of each map relative to its squares, less
        that of the chosen candidate, ``deviance`` (E,), the estimated half deviance of new counts
        less that of the chosen candidate in nats, and ``score``, which the chosen one has the least of.
    forms : list of Form
    tiles : list of tuple of slice
        The parts of the image that were fitted.
    """

    form: Form
    lambda_tv: np.ndarray
    lambda_haadf: float
    undecided: np.ndarray
    tried: list
    forms: list
    tiles: list


def choose(
    problem,
    guide=None,
    *,
    forms=FORMS,
    fixed=(),
    seed=0,
    num_workers=None,
    callback=None,
    tiles=None,
):
    """Choose the form of the problem and its weights.

    Parameters
    ----------
    problem : FusionProblem
        Its ``lambda_tv`` and ``lambda_haadf`` are where the search starts.
    guide : (2, R, C) array, optional
        What guided forms are guided by.
    forms : sequence of Form
    fixed : collection of {"lambda_tv", "lambda_haadf"}
        Weights that stay as they are.
    seed : int, default 0
        Seed of the draws; each tile has its own, so that they do not depend on each other.
    num_workers : int, optional
        Threads.
    callback : callable, optional
        Called as ``callback(done, expected)`` with the number of fits after each; an exception
        it raises ends the search.
    tiles : list of tuple of slice, optional
        Where to look, by default `representative_tiles`.

    Returns
    -------
    Selection
    """
    tiles = representative_tiles(problem.maps) if tiles is None else tiles
    search = _Search(problem, guide, forms, fixed, tiles, seed, num_workers, callback)
    search.compare_forms()
    search.refine()
    return search.selection()


def _lowest(positions, values):
    """Where a parabola through the least value and its neighbours is lowest."""
    order = np.argsort(positions)
    x, y = np.asarray(positions)[order], np.asarray(values)[order]
    k = int(y.argmin())
    if 0 < k < len(x) - 1:
        a, b, _ = np.polyfit(x[k - 1 : k + 2], y[k - 1 : k + 2], 2)
        if a > 0:
            return float(np.clip(-b / (2 * a), x[k - 1], x[k + 1]))
    return float(x[k])


@dataclass
class _Candidates:
    """Fits of one form; ``at`` holds the logarithms of the factors of its weights (E + 1,)."""

    form: Form
    pairs: list  # measured and disturbed problem of each tile
    disturbances: list
    at: list = field(default_factory=list)
    risks: list = field(default_factory=list)
    states: list = field(default_factory=list)


class _Search:
    def __init__(self, problem, guide, forms, fixed, tiles, seed, num_workers, callback):
        self.problem, self.tiles, self.fixed = problem, tiles, fixed
        self.num_workers, self.callback, self.fits = num_workers, callback, 0
        elements = len(problem.maps)
        poisson = np.array([f == "poisson" for f in problem.fidelity])
        counts = np.array([m.sum(dtype=float) for m in problem.maps])
        self.undecided = poisson & (counts < FEWEST_COUNTS)
        self.decided = np.flatnonzero(~self.undecided)
        measured = [_crop(problem, tile) for tile in tiles]
        drawn = [
            disturbed(part, np.random.default_rng([seed, tile[0].start, tile[1].start]))
            for part, tile in zip(measured, tiles)
        ]
        self.candidates = []
        for form in forms:
            pairs = []
            for part, (other, _), tile in zip(measured, drawn, tiles):
                changes = {
                    "regularization": form.regularization,
                    "guide": np.ascontiguousarray(guide[(...,) + tile]) if form.guided else None,
                    "lambda_haadf": part.lambda_haadf if form.with_haadf else 0.0,
                }
                pairs.append((replace(part, **changes), replace(other, **changes)))
            self.candidates.append(_Candidates(form, pairs, [change for _, change in drawn]))
        self.start = np.zeros(elements + 1)
        self.expected = self._expected(elements)

    def _expected(self, elements):
        """About how many fits there will be."""
        if "lambda_tv" in self.fixed:
            sweep = len(self.candidates)
        else:
            sweep = len(FACTORS) + 2 + (len(NEAR) + 1) * (len(self.candidates) - 1)
        free = elements * ("lambda_tv" not in self.fixed) + ("lambda_haadf" not in self.fixed)
        return sweep + len(STEPS) * 2 * free

    # Trying

    def risk(self, candidates, at):
        """Sums over the tiles of one candidate."""
        at = np.asarray(at, dtype=float)
        for known, found in zip(candidates.at, candidates.risks):
            if np.allclose(known, at, rtol=0, atol=1e-9):
                return found
        states = None
        if candidates.at:
            distances = [np.abs(known - at).sum() for known in candidates.at]
            states = candidates.states[int(np.argmin(distances))]
        factors = np.exp(at)
        total, ends = None, []
        for k, (pair, disturbance) in enumerate(zip(candidates.pairs, candidates.disturbances)):
            solutions = []
            for j, part in enumerate(pair):
                part = replace(
                    part,
                    lambda_tv=part.lambda_tv * factors[:-1],
                    lambda_haadf=part.lambda_haadf * factors[-1],
                )
                solutions.append(
                    solve(
                        part,
                        tolerance=0,
                        max_iterations=ITERATIONS if states else FIRST_ITERATIONS,
                        state=states[k][j] if states else None,
                        num_workers=self.num_workers,
                    )
                )
            found = risk(pair[0], solutions[0].maps, solutions[1].maps, disturbance)
            total = found if total is None else total + found
            ends.append([solution.state for solution in solutions])
        candidates.at.append(at)
        candidates.risks.append(total)
        candidates.states.append(ends)
        self.fits += 1
        self.expected = max(self.expected, self.fits)
        if self.callback is not None:
            self.callback(self.fits, self.expected)
        return total

    def common(self, logarithm):
        """The same factor for every element that is decided."""
        at = self.start.copy()
        at[self.decided] = logarithm
        return at

    def compare_forms(self):
        """Try each form at its own best strengths."""
        if "lambda_tv" in self.fixed or not self.decided.size:
            for candidates in self.candidates:
                self.risk(candidates, self.start)
        else:
            first = self.candidates[0]
            best = self.sweep(first, [self.common(f) for f in FACTORS])
            for candidates in self.candidates[1:]:
                shifts = [self.common(f) for f in NEAR]
                self.sweep(candidates, [best + shift for shift in shifts])
        self.weigh()
        scores = [min(map(self.score, c.risks)) for c in self.candidates]
        self.chosen = self.candidates[int(np.argmin(scores))]

    def sweep(self, candidates, points):
        """Best strengths (E + 1,) along a line from strong to weak, prolonged while that helps."""
        errors = [self.risk(candidates, at).error for at in points]
        while self.prolongs(errors, 0) and points[0].max() < STRONGEST:
            points.insert(0, points[0] + self.common(np.log(2)))
            errors.insert(0, self.risk(candidates, points[0]).error)
        while self.prolongs(errors, -1) and points[-1].min() > WEAKEST:
            points.append(points[-1] - self.common(np.log(2)))
            errors.append(self.risk(candidates, points[-1]).error)
        errors, points = np.array(errors), np.array(points)
        best = self.start.copy()
        for e in self.decided:
            best[e] = _lowest(points[:, e], errors[:, e])
        self.risk(candidates, best)
        return best

    def prolongs(self, errors, end):
        """Whether some element is best at an end of the line."""
        best = np.argmin(errors, axis=0)[self.decided]
        return bool((best == (0 if end == 0 else len(errors) - 1)).any())

    def weigh(self):
        """Weights that make squared errors of the elements a sum of relative errors."""
        risks = [r for c in self.candidates for r in c.risks]
        self.weights = np.zeros(len(self.problem.maps))
        for e in self.decided:
            best = sorted(risks, key=lambda r: r.error[e])[:BEST_FITS]
            energy = max(np.mean([r.energy[e] for r in best]), 1e-300)
            share = max(np.mean([r.covariance[e] for r in best]) / energy, LEAST_SHARE)
            self.weights[e] = 1 / (energy * np.sqrt(share))

    def score(self, found):
        return float(self.weights @ found.error)

    def refine(self):
        """Move each weight of the chosen form by itself."""
        chosen = self.chosen
        best = chosen.at[int(np.argmin([self.score(r) for r in chosen.risks]))].copy()
        free = [] if "lambda_tv" in self.fixed else list(self.decided)
        if "lambda_haadf" not in self.fixed and chosen.form.with_haadf:
            free.append(len(best) - 1)
        for step in STEPS:
            for k in free:
                length = step * (HAADF_STEP if k == len(best) - 1 else 1.0)
                shifts = np.array([length, 0.0, -length])
                points = [best + shift * (np.arange(len(best)) == k) for shift in shifts]
                best[k] += _lowest(shifts, [self.score(self.risk(chosen, at)) for at in points])
        self.risk(chosen, best)

    # Telling

    def selection(self):
        """The candidate of the least score, and all others."""
        chosen = self.chosen
        k = int(np.argmin([self.score(r) for r in chosen.risks]))
        reference, factors = chosen.risks[k], np.exp(chosen.at[k])
        energy = np.maximum(reference.energy, 1e-300)
        tried = []
        for number, candidates in enumerate(self.candidates):
            for at, found in zip(candidates.at, candidates.risks):
                own = self.problem.lambda_haadf if candidates.form.with_haadf else 0.0
                tried.append({
                    "form": number,
                    "lambda_tv": self.problem.lambda_tv * np.exp(at[:-1]),
                    "lambda_haadf": float(own * np.exp(at[-1])),
                    "error": (found.error - reference.error) / energy,
                    "deviance": found.deviance - reference.deviance,
                    "score": self.score(found) - self.score(reference),
                })  # fmt: skip
        own = self.problem.lambda_haadf if chosen.form.with_haadf else 0.0
        return Selection(
            form=chosen.form,
            lambda_tv=self.problem.lambda_tv * factors[:-1],
            lambda_haadf=float(own * factors[-1]),
            undecided=self.undecided,
            tried=tried,
            forms=[candidates.form for candidates in self.candidates],
            tiles=self.tiles,
        )


def _crop(problem, tile):
    """The problem of a part of the image; what follows from the whole image must be given."""
    whole = problem.maps.shape[1:]
    pixelwise = {
        name: np.ascontiguousarray(value[(...,) + tile])
        for name in (
            "maps", "haadf", "haadf_noise", "background", "noise", "guide", "regularization_weights"
        )
        if np.shape(value := getattr(problem, name))[-2:] == whole
    }  # fmt: skip
    return replace(problem, **pixelwise)
