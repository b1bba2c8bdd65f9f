"""The fusion with strengths chosen with the truth: what an automatic choice can at best reach.

For one form of the problem (forward model, regularization, guided or not, strength uniform or per pixel, relative or not) a
common factor of all strengths is scanned, each element takes its best of the scan, and coordinate descent
goes on from there over the strength of each element and over lambda_haadf.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from hyperspy_fusedmm.solver import (
    FusionProblem,
    default_strength,
    haadf_guide,
    haadf_reference,
    pilot_weights,
    reference_scale,
    solve,
)
from hyperspy_fusedmm.solver.resolution import least_values

# Factors to `default_strength`.
SCAN = (0.1, 0.25, 0.6, 1.5, 4.0, 12.0, 36.0, 108.0)
# Factors tried in turn of one strength at a time.
STEPS = (1.5, 1 / 1.5)
HAADF_STEPS = (3.0, 1 / 3)
MOST_STEPS = 3
ROUNDS = 2
SEARCH = {"tolerance": 2e-3, "max_iterations": 500}
FINAL = {"tolerance": 2e-4, "max_iterations": 2000}


@dataclass(frozen=True)
class Form:
    """One form of the problem."""

    forward: str = "linear"
    regularization: str = "tv"
    guided: bool = False
    pixelwise: bool = True
    relative: bool = False

    @property
    def name(self):
        words = [self.forward, self.regularization]
        words += ["guided"] * self.guided + ["relative"] * self.relative
        words += ["pixelwise" if self.pixelwise else "uniform"]
        return " ".join(words)


FORMS = [
    Form(*choices) for choices in product(("linear",), ("tv", "tgv"), (False, True), (True, False))
]
POWER_FORMS = [
    Form("power", *choices) for choices in product(("tv", "tgv"), (False,), (True, False))
]
# Those that an automatic fit chooses from; beside them it has TGV without the image.
OFFERED = [Form("linear", *choices, False) for choices in (("tgv", False), ("tgv", True), ("tv", True))]
OFFERED += [Form("linear", *choices, False, True) for choices in (("tgv", False), ("tv", True))]
ALONE = Form("linear", "tgv", False, False)


@dataclass(frozen=True)
class Tuned:
    """The best found of one form: its maps, their losses (E,), and the factors that gave them."""

    form: Form
    maps: np.ndarray
    losses: np.ndarray
    factors: np.ndarray
    lambda_haadf: float


def calibrated(specimen, forward, calibration):
    """How the model reads the HAADF image: the arguments of a problem.

    Parameters
    ----------
    specimen : Specimen
    forward : {"linear", "power"}
    calibration : {"known", "sensitivities", "auto"}
        Weights, offset and noise of the simulation, which only its own forward model can use; fitted with
        sensitivities known; or fitted with nothing known.

    Returns
    -------
    dict
    """
    names = ("weights", "haadf_offset", "haadf_noise")
    if calibration == "known" and forward == specimen.forward:
        return {name: getattr(specimen, name) for name in names}
    options = {} if calibration == "auto" else {"sensitivities": specimen.sensitivities}
    model = specimen.maps.create_model(
        specimen.haadf, forward=forward, gamma=specimen.gamma, **options
    )
    return {name: getattr(model, name) for name in names}


def problem_of(specimen, form, scale):
    """The problem of a specimen in one form, with the default strengths; `scale` None for no image."""
    counts = np.asarray(specimen.maps.data)
    problem = FusionProblem(
        maps=counts,
        lambda_tv=default_strength(counts),
        regularization=form.regularization,
        regularization_weights=pilot_weights(counts) if form.pixelwise else None,
    )
    if scale is None:
        return problem
    image = np.asarray(specimen.haadf.data)
    guide = haadf_guide(image, scale["haadf_noise"]) if form.guided else None
    relative = {}
    if form.relative:
        reference = haadf_reference(image, scale["haadf_noise"])
        relative = {"reference": reference, "reference_scale": reference_scale(problem, reference)}
    return replace(
        problem,
        haadf=image,
        **scale,
        # A problem without an image has put it to zero.
        lambda_haadf=1.0,
        guide=guide,
        forward=form.forward,
        gamma=specimen.gamma,
        **relative,
    )


class _Search:
    """Solves one problem at many strengths, each from where the last one ended.

    The linear model has the default likelihood, unless the `published` one is asked for.
    """

    def __init__(self, problem, loss, published=False):
        self.keep_counts = not published and problem.forward == "linear"
        if self.keep_counts:
            least = least_values(
                problem.maps, problem.fidelity, problem.weights, problem.haadf_noise
            )
            problem = replace(problem, lower_bound=least)
        self.problem, self.loss = problem, loss
        self.state = None

    def solve(self, factors, lambda_haadf, options):
        problem = replace(
            self.problem, lambda_tv=self.problem.lambda_tv * factors, lambda_haadf=lambda_haadf
        )
        # The power model is not convex: where it ends must not depend on what was tried before.
        state = None if problem.forward == "power" else self.state
        options = {**options, "keep_counts": self.keep_counts}
        solution = solve(problem, state=state, num_workers=1, **options)
        self.state = solution.state
        return solution.maps

    def losses(self, factors, lambda_haadf):
        return self.loss(self.solve(factors, lambda_haadf, SEARCH))


def tuned(specimen, form, scale, loss):
    """Strengths of least loss, by a scan and coordinate descent.

    Parameters
    ----------
    specimen : Specimen
    form : Form
    scale : dict or None
        Of `calibrated`; None for the counts alone.
    loss : callable
        ``loss(maps)`` gives (E,) numbers, whose sum is to be least.

    Returns
    -------
    Tuned
    """
    search = _Search(problem_of(specimen, form, scale), loss)
    elements = len(specimen.maps.data)
    scanned = np.array([search.losses(np.full(elements, factor), 1.0) for factor in SCAN])
    factors = np.array(SCAN)[scanned.argmin(axis=0)]
    best = search.losses(factors, 1.0).sum()
    common = scanned.sum(axis=1).argmin()
    if scanned[common].sum() < best:
        factors, best = np.full(elements, SCAN[common]), scanned[common].sum()
    point = np.append(factors, 1.0)
    coordinates = range(elements + (scale is not None))

    def total(point):
        return search.losses(point[:-1], point[-1]).sum()

    for _ in range(ROUNDS):
        before = best
        for coordinate in coordinates:
            point, best = _line_search(total, point, best, coordinate)
        if best > 0.99 * before:
            break
    factors, lambda_haadf = point[:-1], float(point[-1])
    maps = search.solve(factors, lambda_haadf, FINAL)
    return Tuned(form, maps, loss(maps), factors, lambda_haadf)


def _line_search(total, point, best, coordinate):
    """Go on along one coordinate, in the direction that gains, while it gains."""
    for step in HAADF_STEPS if coordinate == len(point) - 1 else STEPS:
        gained = False
        for _ in range(MOST_STEPS):
            trial = point.copy()
            trial[coordinate] *= step
            found = total(trial)
            if found >= best:
                break
            point, best, gained = trial, found, True
        if gained:
            break
    return point, best


def tuned_alone(specimen, form, loss, published=False):
    """As `tuned` for the counts alone, where no element depends on another: a fine scan is enough."""
    search = _Search(problem_of(specimen, form, None), loss, published)
    elements = len(specimen.maps.data)
    grid = np.geomspace(SCAN[0], 2 * SCAN[-1], 15)
    scanned = np.array([search.losses(np.full(elements, factor), 0.0) for factor in grid])
    factors = grid[scanned.argmin(axis=0)]
    maps = search.solve(factors, 0.0, FINAL)
    return Tuned(form, maps, loss(maps), factors, 0.0)
