"""Form and strength of the regularization, and weight of the HAADF image, chosen from the data.

Every candidate is fitted to the measured maps and to maps from which some counts were taken,
which tells its error (see `hyperspy_fusedmm.solver.risk`). What is searched, in this order:

1. For every form (which regularization, guided or not, relative to the HAADF image or not, with it or without) one
   common factor of the strengths, from strong to weak; each element takes its own best one. The first form, and those
   relative to the image, are tried with less weight of the image, too, which may be described badly by its model.
2. For the best form each strength, and the weight of the HAADF image, by itself, in long steps and then shorter
   ones; the same for forms that are not evidently worse, as long as they are not. Then the best of these is taken.

Fits are short and start where the nearest one before ended.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from .reference import reference_scale
from .representative import cropped, representative_tiles
from .risk import disturbed, draws_of, mean_risk
from .solve import solve

__all__ = ["FORMS", "Form", "Selection", "choose"]

# Trial fits end here. At three times the tolerance those with strong regularization, which converge last,
# seemed better than they were.
TOLERANCE, ITERATIONS = 3e-3, 300
# Factors of the strengths that follow from the noise: for the first form, and relative to its
# best for the others.
FACTORS, NEAR = np.log([8.0, 4.0, 2.0, 1.0, 0.5]), np.log([2.0, 1.0, 0.5])
# Of relative forms: maps that are a multiple of the image are as strongly regularized as can be.
FROM_THE_IMAGE = np.log([16.0, 4.0, 1.0])
STRONGEST, WEAKEST = np.log(100.0), np.log(0.02)
# Steps of the logarithms in the passes over single strengths; for the weight of the HAADF image
# they are longer, as it decides less. No weight moves by more than so many steps at once.
STEPS, HAADF_STEP, LONGEST = (1.2, 0.8, 0.4), 2.5, 1.5
# Strengths of up to so many elements are moved one by one.
ONE_BY_ONE = 4
# Logarithm below which the weight of the HAADF image is not lowered further.
WEAKEST_HAADF = -12.0
# Standard deviation of the logarithms of best strengths from their mean over the elements, and of the
# best weight of the HAADF image from what is expected of it.
SPREAD, HAADF_SPREAD, HAADF_EXPECTED = 0.8, 1.2, np.log(0.3)
# How much the logarithm of a strength off by 1 adds to the squared error, at least.
LEAST_CURVATURE = 0.05
# Variance of a difference of estimated errors over sum(variance of the data * squared difference of the
# fits): for the noise of the data, and about as much for one draw.
SCATTER = 4
# Common factor that is expected, and how surely; only few counts leave it to that.
EXPECTED, COMMON_SPREAD = np.log(3.0), 1.0
# A map has at least so many degrees of freedom.
LEAST_FREEDOM = 10
# States that are kept to go on from, for each form.
STATES = 4
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
    relative : bool, default False
        Whether the regularization is relative to the HAADF image, see `hyperspy_fusedmm.solver.reference`.
    """

    regularization: str
    guided: bool
    with_haadf: bool
    relative: bool = False


# Tried where nothing is fixed. The first is the best or nearly so for most simulated specimens.
FORMS = (
    Form("tgv", False, True),
    Form("tgv", True, True),
    Form("tv", True, True),
    Form("tgv", False, True, True),
    Form("tv", True, True, True),
    Form("tgv", False, False),
)


# The forms that are usually best, at few counts and else; others must be better by so many standard deviations.
FEW_COUNTS, MORE_COUNTS, CAUTION = Form("tv", True, True), Form("tgv", True, True), 1.0
# Counts are few that leave the difference of these two open by more than this part of the squared error, and
# where half of the maps have less than this.
FEW, CERTAINLY_FEW = 0.05, 1000.0
# A form is evidently worse than another by so many standard deviations, whose weights are not refined then; by so
# many once both were refined. Smaller parts of the squared error do not matter.
EVIDENT, EVIDENT_REFINED, SLIGHT = 2.0, 1.0, 0.02
# The weights of at most so many forms are refined; at few counts, where the best one is told apart last, of those
# that are not relative to the image, and that are.
CONTENDERS, CONTENDERS_AT_FEW_COUNTS = 2, {False: 2, True: 1}


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
        less that of the chosen candidate in nats, and ``score``, the sum of the errors, each relative to
        its own size. The chosen one is where the scores seem to be least once their noise is taken into
        account; single ones may be below it.
    chosen : int
        Which of those tried was chosen.
    forms : list of Form
    tiles : list of tuple of slice
        The parts of the image that were fitted.
    state : State or None
        Where the chosen fit ended, if it was of the whole image: a start for a better one.
    """

    form: Form
    lambda_tv: np.ndarray
    lambda_haadf: float
    undecided: np.ndarray
    tried: list
    chosen: int
    forms: list
    tiles: list
    state: object = None


def choose(
    problem,
    guide=None,
    reference=None,
    *,
    forms=FORMS,
    fixed=(),
    seed=0,
    num_workers=None,
    callback=None,
    tiles=None,
    keep_counts=False,
):
    """Choose the form of the problem and its weights.

    Parameters
    ----------
    problem : FusionProblem
        Its ``lambda_tv`` and ``lambda_haadf`` are where the search starts.
    guide : (2, R, C) array, optional
        What guided forms are guided by.
    reference : (R, C) array, optional
        What the regularization of relative forms is relative to.
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
    keep_counts : bool, default False
        Whether each map keeps its counts, see `hyperspy_fusedmm.solver.count_keeper`.

    Returns
    -------
    Selection
    """
    tiles = representative_tiles(problem.maps) if tiles is None else tiles
    search = _Search(
        problem, guide, reference, forms, fixed, tiles, seed, num_workers, callback, keep_counts
    )
    search.compare_forms()
    if search.decided.size:
        search.refine_contenders()
    return search.selection()


def _related(problems, references):
    """Problems of each tile, measured and disturbed ones, with the reference and its scale for their maps."""
    scales = [reference_scale(list(parts), references) for parts in zip(*problems)]
    return [
        [
            replace(part, reference=np.ascontiguousarray(reference), reference_scale=scale)
            for part, scale in zip(parts, scales)
        ]
        for parts, reference in zip(problems, references)
    ]


def _start(problem):
    """Where the first fit starts: of a relative form where regularization leads; None for the measured maps."""
    if problem.reference is None:
        return None
    net = problem.maps.mean(axis=(1, 2), dtype=float) - problem.background.mean(axis=(1, 2), dtype=float)
    detail = problem.reference - problem.reference.mean(dtype=float)
    return np.maximum(net[:, None, None] + problem.reference_scale[:, None, None] * detail, 0)


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


def _step(length, scores, variance, expected, spread, least_curvature):
    """How far to go along a weight whose least score is to be found.

    The scores are noisy and, far from many counts, their lowest point is an accident. That of a
    parabola through them is weighed against what is expected, each by its precision.

    Parameters
    ----------
    length : float
        Scores are known at +length, 0 and -length.
    scores : sequence of three floats
    variance : float
        Of the first score less the last.
    expected, spread : float
        Where the lowest point is expected, and how surely.
    least_curvature : float
        Half the second derivative of the score, at least.
    """
    above, here, below = scores
    curvature = max((above + below - 2 * here) / (2 * length**2), least_curvature)
    lowest = -(above - below) / (2 * length) / (2 * curvature)
    precision = (2 * curvature * 2 * length) ** 2 / max(variance, 1e-300)
    share = precision / (precision + spread**-2.0)
    step = share * lowest + (1 - share) * expected
    return float(np.clip(step, -LONGEST * length, LONGEST * length))


@dataclass
class _Candidates:
    """Fits of one form; ``at`` holds the logarithms of the factors of its weights (E + 1,)."""

    form: Form
    problems: list  # measured and disturbed ones of each tile
    disturbances: list
    at: list = field(default_factory=list)
    risks: list = field(default_factory=list)
    fits: list = field(default_factory=list)  # of the measured maps, one array per tile
    states: dict = field(default_factory=dict)  # of the last few
    best: np.ndarray | None = None  # where it is best
    typical: float = 0.0  # mean logarithm of its strengths before each was moved by itself

    def number(self, at):
        """Which one is there, None if none is."""
        for k, known in enumerate(self.at):
            if np.allclose(known, at, rtol=0, atol=1e-9):
                return k
        return None


class _Search:
    def __init__(
        self, problem, guide, reference, forms, fixed, tiles, seed, num_workers, callback, keep_counts
    ):
        self.problem, self.tiles, self.fixed = problem, tiles, fixed
        self.keep_counts = keep_counts
        self.num_workers, self.callback, self.fits = num_workers, callback, 0
        elements = len(problem.maps)
        poisson = np.array([f == "poisson" for f in problem.fidelity])
        counts = np.array([m.sum(dtype=float) for m in problem.maps])
        self.undecided = poisson & (counts < FEWEST_COUNTS)
        self.decided = np.flatnonzero(~self.undecided)
        self.measured = [cropped(problem, tile) for tile in tiles]
        seen = sum(part.maps.sum(axis=(1, 2), dtype=float) for part in self.measured)
        pixels = sum(part.maps[0].size for part in self.measured)
        counted = seen[poisson & ~self.undecided]
        self.draws = draws_of(counted, pixels)
        self.certainly_few = counted.size > 0 and np.median(counted) < CERTAINLY_FEW
        drawn = []
        for part, tile in zip(self.measured, tiles):
            rng = np.random.default_rng([seed, tile[0].start, tile[1].start])
            drawn.append([disturbed(part, rng) for _ in range(self.draws)])
        problems = [[part, *(p for p, _ in others)] for part, others in zip(self.measured, drawn)]
        changes = [[change for _, change in others] for others in drawn]
        related = problems
        if any(form.relative for form in forms):
            related = _related(problems, [reference[tile] for tile in tiles])
        self.candidates = []
        for form in forms:
            of_form = []
            for parts, tile in zip(related if form.relative else problems, tiles):
                options = {
                    "regularization": form.regularization,
                    "guide": np.ascontiguousarray(guide[(...,) + tile]) if form.guided else None,
                    "lambda_haadf": problem.lambda_haadf if form.with_haadf else 0.0,
                }
                of_form.append([replace(part, **options) for part in parts])
            self.candidates.append(_Candidates(form, of_form, changes))
        self.start = np.zeros(elements + 1)
        self.expected = self._expected()
        self.weights = np.zeros(elements)

    def _expected(self):
        """About how many fits there will be, if every form may be the best."""
        if "lambda_tv" in self.fixed:
            sweep = len(self.candidates)
        else:
            sweep = len(FACTORS) + 1 + (len(NEAR) + 1) * (len(self.candidates) - 1)
        refined = sum(self.fits_to_refine(candidates.form) for candidates in self.candidates)
        return sweep + len(STEPS) * refined

    def fits_to_refine(self, form):
        """About how many fits each `refine` makes."""
        elements = len(self.decided)
        if not elements:
            return 0
        free = (elements if elements <= ONE_BY_ONE else 1) * ("lambda_tv" not in self.fixed)
        return 2 * (free + self.weighs_haadf(form))

    def weighs_haadf(self, form):
        """Whether the weight of the HAADF image is to be found for a form."""
        return "lambda_haadf" not in self.fixed and form.with_haadf

    # Trying

    def risk(self, candidates, at):
        """Sums over the tiles of one candidate."""
        return candidates.risks[self.number(candidates, at)]

    def number(self, candidates, at):
        """Number of the candidate there, fitted if it was not."""
        at = np.asarray(at, dtype=float)
        known = candidates.number(at)
        if known is not None:
            return known
        states = None
        if candidates.states:
            distances = {k: np.abs(candidates.at[k] - at).sum() for k in candidates.states}
            nearest = min(distances, key=distances.get)
            states = candidates.states[nearest]
        factors = np.exp(at)
        total, ends, fits = None, [], []
        for k, (problems, disturbances) in enumerate(zip(candidates.problems, candidates.disturbances)):
            solutions = []
            for j, part in enumerate(problems):
                part = replace(
                    part,
                    lambda_tv=part.lambda_tv * factors[:-1],
                    lambda_haadf=part.lambda_haadf * factors[-1],
                )
                solutions.append(
                    solve(
                        part,
                        tolerance=TOLERANCE,
                        max_iterations=ITERATIONS,
                        initial=None if states else _start(part),
                        state=states[k][j] if states else None,
                        num_workers=self.num_workers,
                        keep_counts=self.keep_counts,
                    )
                )
            found = mean_risk(problems[0], [s.maps for s in solutions], disturbances)
            total = found if total is None else total + found
            fits.append(solutions[0].maps)
            ends.append([solution.state for solution in solutions])
        number = len(candidates.at)
        candidates.at.append(at)
        candidates.risks.append(total)
        candidates.fits.append(fits)
        candidates.states[number] = ends
        while len(candidates.states) > STATES:
            del candidates.states[min(candidates.states)]
        self.fits += 1
        self.expected = max(self.expected, self.fits)
        if self.callback is not None:
            self.callback(self.fits, self.expected)
        return number

    def common(self, logarithm):
        """The same factor for every element that is decided."""
        at = self.start.copy()
        at[self.decided] = logarithm
        return at

    # Comparing

    def weigh(self, found):
        """Weights that make squared errors of the elements a sum of relative errors."""
        self.weights = np.zeros(len(self.problem.maps))
        self.errors = np.zeros(len(self.problem.maps))
        for e in self.decided:
            energy = max(found.energy[e], 1e-300)
            # About as much of the error is noise as is bias.
            self.errors[e] = 2 * max(found.covariance[e], LEAST_FREEDOM * self.mean_variance(e))
            self.weights[e] = 1 / np.sqrt(energy * self.errors[e])

    def mean_variance(self, e):
        """Mean variance of the noise of an element over the tiles."""
        sums = [(v.sum(dtype=float), v.size) for v in (self.variance(p, e) for p in self.measured)]
        return sum(total for total, _ in sums) / sum(size for _, size in sums)

    @staticmethod
    def variance(part, e):
        """Variance of every pixel, for counts the counts themselves, which are right on average."""
        if part.fidelity[e] == "poisson":
            return part.maps[e]
        return np.broadcast_to(part.noise[e] ** 2, part.maps[e].shape)

    def score(self, found):
        return float(self.weights @ found.error)

    def scatter(self, candidates, one, other, of=None):
        """Variance of the difference of two candidates' errors of each element, owed to the data's noise."""
        scatter = np.zeros(len(self.problem.maps))
        of = candidates if of is None else of
        share = SCATTER * (1 + 1 / self.draws)
        for part, first, second in zip(self.measured, candidates.fits[one], of.fits[other]):
            for e in self.decided:
                square = (first[e] - second[e]) ** 2
                scatter[e] += share * float((self.variance(part, e) * square).sum(dtype=float))
        return scatter

    def compare_forms(self):
        """Try each form at its own best strengths."""
        if "lambda_tv" in self.fixed or not self.decided.size:
            for candidates in self.candidates:
                candidates.best = self.start
                self.risk(candidates, self.start)
            self.weigh(self.candidates[0].risks[0])
        else:
            first = self.candidates[0]
            points = [self.common(f) for f in FACTORS]
            self.weigh([self.risk(first, at) for at in points][len(points) // 2])
            self.sweep(first, points)
            self.weigh(self.risk(first, first.best))
            if self.weighs_haadf(first.form):
                self.weaken_haadf(first)
            for candidates in self.candidates[1:]:
                start = first.best if candidates.form.with_haadf else self.unweighted(first.best)
                factors = FROM_THE_IMAGE if candidates.form.relative else NEAR
                self.sweep(candidates, [start + self.common(f) for f in factors])
                # An image that its model describes badly may still tell how the maps are.
                if candidates.form.relative and self.weighs_haadf(candidates.form):
                    self.weaken_haadf(candidates)
        self.chosen = self.candidates[self.preferred()]

    def preferred(self):
        """Number of the best form; noise does not speak against the usual one.

        Nor does a slight gain speak for an image.
        """
        scores = [self.best_score(k) for k in range(len(self.candidates))]
        usual = self.usual(int(np.argmin(scores)))
        if usual is not None:
            with_haadf = self.candidates[usual].form.with_haadf
            # Relative forms gain a factor or nothing: against the others they need no caution.
            related = self.usual_relative()
            for k in set(range(len(scores))) - {usual}:
                relative = self.candidates[k].form.relative
                doubt = self.doubt(k, related if relative else usual)
                least = self.slight() if relative or not with_haadf else 0.0
                scores[k] += max(CAUTION * doubt, least)
        best = int(np.argmin(scores))
        for k, candidates in enumerate(self.candidates):
            if self.candidates[best].form.with_haadf and not candidates.form.with_haadf:
                gain = self.best_score(k) - self.best_score(best)
                if gain + self.doubt(k, best) < self.slight():
                    return k
        return best

    def usual(self, best):
        """Number of the form that is expected to be best, None if the usual ones were not tried.

        Where the HAADF image had to be given little weight, that is the form without it, unless that is
        evidently worse.
        """
        forms = [candidates.form for candidates in self.candidates]
        weakened = self.candidates[0].best[-1] <= -HAADF_STEP
        for k, form in enumerate(forms):
            if weakened and not form.with_haadf and not self.evidently_worse(k, best):
                return k
        if FEW_COUNTS not in forms:
            return None
        few = forms.index(FEW_COUNTS)
        return few if MORE_COUNTS not in forms or self.has_few_counts() else forms.index(MORE_COUNTS)

    def has_few_counts(self):
        """Whether the choice between the forms that are usually best is open; no if they were not tried."""
        forms = [candidates.form for candidates in self.candidates]
        if not {FEW_COUNTS, MORE_COUNTS} <= set(forms):
            return False
        few, more = forms.index(FEW_COUNTS), forms.index(MORE_COUNTS)
        return self.certainly_few or self.doubt(few, more) > FEW * self.total_error()

    def usual_relative(self):
        """Number of the form relative to the image that is expected to be the best of them, None without any."""
        forms = [candidates.form for candidates in self.candidates]
        found = [k for k, form in enumerate(forms) if form.relative]
        wanted = "tv" if self.has_few_counts() else "tgv"
        return next((k for k in found if forms[k].regularization == wanted), found[0] if found else None)

    def best_score(self, k):
        """Score of a form at its best weights."""
        candidates = self.candidates[k]
        return self.score(self.risk(candidates, candidates.best))

    def doubt(self, k, other):
        """Standard deviation of the difference of the best scores of two forms."""
        one, other = self.candidates[k], self.candidates[other]
        at = self.number(one, one.best), self.number(other, other.best)
        return float(np.sqrt(self.weights**2 @ self.scatter(one, *at, other)))

    def evidently_worse(self, k, than, deviations=EVIDENT):
        """Whether a form is worse than another beyond doubt."""
        worse = self.best_score(k) - self.best_score(than)
        return k != than and worse > max(deviations * self.doubt(k, than), self.slight())

    def total_error(self):
        """About the score of the error itself, of which scores leave out what is common to all."""
        return float(self.weights @ self.errors)

    def slight(self):
        """A difference of scores that does not matter."""
        return SLIGHT * self.total_error()

    def weaken_haadf(self, candidates):
        """Lower the weight of the HAADF image while that helps: its model may describe it badly."""
        best = candidates.best
        while best[-1] > WEAKEST_HAADF:
            other = best - HAADF_STEP * (np.arange(len(best)) == len(best) - 1)
            if self.score(self.risk(candidates, other)) >= self.score(self.risk(candidates, best)):
                break
            best = other
        candidates.best = best

    def unweighted(self, at):
        """The same with the HAADF image at its own weight, which does not count where it is left out."""
        return np.append(at[:-1], self.start[-1])

    def sweep(self, candidates, points):
        """Best strengths near a line of common factors from strong to weak, prolonged while that helps."""
        points, middle = list(points), points[len(points) // 2]
        expected = EXPECTED - float(middle[self.decided].mean())
        numbers = [self.number(candidates, at) for at in points]
        scatter = float(self.weights**2 @ self.scatter(candidates, numbers[0], numbers[-1]))

        def place(at):
            return float((at - middle)[self.decided].mean())

        slope = scatter / (place(points[0]) - place(points[-1])) ** 2
        curvature = LEAST_CURVATURE * self.total_error()
        doubt = slope / (4 * curvature * COMMON_SPREAD**2)

        def score(at):
            return self.score(self.risk(candidates, at)) + doubt * (place(at) - expected) ** 2

        scores = [score(at) for at in points]
        while np.argmin(scores) == 0 and points[0][self.decided].mean() < STRONGEST:
            points.insert(0, points[0] + self.common(np.log(2)))
            scores.insert(0, score(points[0]))
        while np.argmin(scores) == len(scores) - 1 and points[-1][self.decided].mean() > WEAKEST:
            points.append(points[-1] - self.common(np.log(2)))
            scores.append(score(points[-1]))
        k = int(np.argmin(scores))
        between = middle + self.common(_lowest([place(at) for at in points], scores))
        tried = [points[k], between]
        if len(self.decided) > 1 and 0 < k < len(points) - 1:
            tried.append(self.apart(candidates, points[k - 1 : k + 2], between))
        candidates.best = min(tried, key=score)

    def apart(self, candidates, points, best):
        """Strengths that suit each element, from fits with common factors from strong to weak."""
        numbers = [self.number(candidates, at) for at in points]
        scatter = self.scatter(candidates, numbers[0], numbers[2])
        apart = points[1].copy()
        for e in self.decided:
            errors = [candidates.risks[j].error[e] for j in numbers]
            apart[e] += _step(
                (points[0] - points[2])[e] / 2, errors, scatter[e], best[e] - apart[e], SPREAD,
                LEAST_CURVATURE * self.errors[e],
            )  # fmt: skip
        return apart

    def refine_contenders(self):
        """Find the weights of every form that may be the best, and decide between them then."""
        first = self.candidates.index(self.chosen)
        others = [k for k in range(len(self.candidates)) if not self.evidently_worse(k, first)]
        ranked = [first, *sorted(set(others) - {first}, key=self.best_score)]
        contenders = ranked[:CONTENDERS]
        if self.has_few_counts():
            contenders = []
            for relative, most in CONTENDERS_AT_FEW_COUNTS.items():
                contenders += [k for k in ranked if self.candidates[k].form.relative == relative][:most]
        for candidates in self.candidates:
            candidates.typical = float(np.mean(candidates.best[self.decided]))
        for number, step in enumerate(STEPS):
            per_pass = sum(self.fits_to_refine(self.candidates[k].form) for k in contenders)
            self.expected = self.fits + (len(STEPS) - number) * per_pass
            for k in contenders:
                self.refine(self.candidates[k], step)
            self.weigh(self.risk(self.chosen, self.chosen.best))
            best = min(contenders, key=self.best_score)
            contenders = [k for k in contenders if not self.evidently_worse(k, best, EVIDENT_REFINED)]
        self.chosen = self.candidates[self.preferred()]

    def refine(self, candidates, step):
        """Move each weight of a form by itself; those of many elements all at once."""
        self.weigh(self.risk(candidates, candidates.best))
        free = [] if "lambda_tv" in self.fixed else list(self.decided)
        if len(free) > ONE_BY_ONE:
            self.move_together(candidates, step)
        else:
            for e in free:
                curvature = LEAST_CURVATURE * self.weights[e] * self.errors[e]
                self.move(candidates, e, step, candidates.typical, SPREAD, curvature)
        if self.weighs_haadf(candidates.form):
            curvature = LEAST_CURVATURE / HAADF_STEP**2 * self.total_error()
            self.move(candidates, -1, HAADF_STEP * step, HAADF_EXPECTED, HAADF_SPREAD, curvature)

    def around(self, candidates, direction, length):
        """Numbers of the candidates at +length, 0 and -length from the best one."""
        return [self.number(candidates, candidates.best + x * direction) for x in (length, 0.0, -length)]

    def move(self, candidates, k, length, expected, spread, curvature):
        """Move one weight to where the score is least."""
        direction = np.zeros_like(self.start)
        direction[k] = 1.0
        numbers = self.around(candidates, direction, length)
        scatter = float(self.weights**2 @ self.scatter(candidates, numbers[0], numbers[2]))
        scores = [self.score(candidates.risks[j]) for j in numbers]
        away = expected - candidates.best[k]
        step = _step(length, scores, scatter, away, spread, curvature)
        candidates.best = candidates.best + direction * step

    def move_together(self, candidates, length):
        """Move all strengths at once, each to where the error of its own map is least."""
        numbers = self.around(candidates, self.common(1.0), length)
        scatter = self.scatter(candidates, numbers[0], numbers[2])
        best = candidates.best.copy()
        for e in self.decided:
            errors = [candidates.risks[j].error[e] for j in numbers]
            away = candidates.typical - best[e]
            best[e] += _step(length, errors, scatter[e], away, SPREAD, LEAST_CURVATURE * self.errors[e])
        found = [self.score(self.risk(candidates, at)) for at in (candidates.best, best)]
        if found[1] < found[0]:
            candidates.best = best

    # Telling

    def selection(self):
        """The candidate of the least score, and all others."""
        chosen = self.chosen
        k = self.number(chosen, chosen.best)
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
            chosen=k + sum(len(c.at) for c in self.candidates[: self.candidates.index(chosen)]),
            forms=[candidates.form for candidates in self.candidates],
            tiles=self.tiles,
            state=self.state(),
        )

    def state(self):
        """Where the chosen fit to the measured maps ended, None if that was on parts of the image."""
        whole = self.measured[0].maps.shape == self.problem.maps.shape
        number = self.number(self.chosen, self.chosen.best)
        if len(self.tiles) > 1 or not whole or number not in self.chosen.states:
            return None
        return self.chosen.states[number][0][0]
