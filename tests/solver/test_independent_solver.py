"""Whole problems against CVXPY with an interior-point conic solver (Clarabel)."""

import numpy as np
import pytest
from scipy.sparse import diags, eye, kron

from hyperspy_fusedmm.solver import FusionProblem, haadf_guide, pilot_weights, solve
from hyperspy_fusedmm.solver.problem import CURVATURE_RATIO

cp = pytest.importorskip("cvxpy")


def difference(size, entries):
    """Matrix of value minus the value before at ``entries`` of an axis, zero elsewhere."""
    chosen = np.zeros(size)
    chosen[entries] = 1
    return diags(chosen) - diags(chosen[1:], -1, shape=(size, size))


def forward_difference(size):
    chosen = np.ones(size)
    chosen[-1] = 0
    return diags(chosen[:-1], 1, shape=(size, size)) - diags(chosen)


def along_columns(matrix, shape):
    return kron(eye(shape[0]), matrix).tocsr()


def along_rows(matrix, shape):
    return kron(matrix, eye(shape[1])).tocsr()


def total_norm(strength, *components):
    return cp.sum(cp.multiply(strength, cp.norm(cp.vstack(components), 2, axis=0)))


def unguided(components, guide):
    if guide is None:
        return components
    along = sum(cp.multiply(a, field) for a, field in zip(guide, components))
    return [field - cp.multiply(a, along) for a, field in zip(guide, components)]


def variation(image, shape, strength, guide, regularization):
    """The regularization of one image as a CVXPY expression, and the constraints it needs."""
    slopes = [
        along_columns(forward_difference(shape[1]), shape) @ image,
        along_rows(forward_difference(shape[0]), shape) @ image,
    ]
    if regularization == "tv":
        return total_norm(strength, *unguided(slopes, guide)), []
    v = cp.Variable((2, image.size))
    rows, columns = np.divmod(np.arange(image.size), shape[1])
    no_slope = np.stack([columns == shape[1] - 1, rows == shape[0] - 1]).astype(float)
    has_columns, has_rows = (diags(1 - n) for n in no_slope)
    middle = slice(1, -1)
    xx = along_columns(difference(shape[1], middle), shape) @ v[0]
    yy = along_rows(difference(shape[0], middle), shape) @ v[1]
    xy = has_columns @ along_rows(difference(shape[0], slice(1, None)), shape) @ v[0]
    yx = has_rows @ along_columns(difference(shape[1], slice(1, None)), shape) @ v[1]
    value = total_norm(strength, *unguided([slopes[0] - v[0], slopes[1] - v[1]], guide))
    value += CURVATURE_RATIO * total_norm(strength, xx, yy, (xy + yx) / np.sqrt(2))
    return value, [cp.multiply(no_slope, v) == 0]


def likelihood(problem, e, x):
    counts = np.asarray(problem.maps[e], dtype=float)
    if problem.fidelity[e] == "gaussian":
        noise = np.broadcast_to(problem.noise[e], counts.shape).ravel()
        return 0.5 * cp.sum_squares(cp.multiply(1 / noise, x - counts.ravel()))
    background = np.broadcast_to(problem.background[e], counts.shape).ravel()
    counted = counts.ravel() > 0
    value = problem.count_slope[e] * cp.sum(x)
    if counted.any():
        log = cp.log(x[counted] + background[counted])
        value -= cp.sum(cp.multiply(counts.ravel()[counted], log))
    return value


def optimum(problem):
    """Optimal maps (E, R, C) and objective of a linear problem, independently of the package."""
    elements, *shape = problem.maps.shape
    x = cp.Variable((elements, shape[0] * shape[1]), nonneg=True)
    cost, constraints = 0, [x >= problem.lower_bound[:, None]]
    if problem.haadf is not None:
        noise = np.broadcast_to(problem.haadf_noise, shape).ravel()
        image = np.asarray(problem.haadf, dtype=float).ravel() - problem.haadf_offset
        misfit = cp.multiply(1 / noise, problem.weights @ x - image)
        cost += 0.5 * problem.lambda_haadf * cp.sum_squares(misfit)
    strengths = np.broadcast_to(problem.strengths(), problem.maps.shape)
    guide = None if problem.guide is None else np.asarray(problem.guide, float).reshape(2, -1)
    for e in range(elements):
        cost += problem.lambda_chem * likelihood(problem, e, x[e])
        image = x[e]
        if problem.reference is not None:
            image = image - problem.reference_scale[e] * problem.reference.ravel()
        value, needed = variation(image, shape, strengths[e].ravel(), guide, problem.regularization)
        cost += value
        constraints += needed
    convex = cp.Problem(cp.Minimize(cost), constraints)
    accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-7)
    convex.solve(solver="CLARABEL", **accuracy)
    assert convex.status == "optimal"
    return np.maximum(x.value, 0).reshape(problem.maps.shape), float(convex.value)


def divergence_scale(problem, total):
    """The objective with the likelihood as a divergence: what tolerances are relative to."""
    constant = 0.0
    for e, counts in enumerate(np.asarray(problem.maps, dtype=float)):
        if problem.fidelity[e] == "poisson":
            slope, background = problem.count_slope[e], problem.background[e]
            logs = counts[counts > 0] * np.log(counts[counts > 0] / slope)
            constant += slope * np.broadcast_to(background, counts.shape).sum()
            constant += logs.sum() - counts.sum()
    return total + problem.lambda_chem * constant


def specimen(shape=(10, 9), dose=1.0, seed=0):
    """A cone and a step, their counts and HAADF image."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(rows - 0.45 * shape[0], columns - 0.45 * shape[1])
    truth = np.stack([
        np.clip(3 - radius, 0, None), 0.5 + 0.4 * (columns > shape[1] // 2)
    ])  # fmt: skip
    weights = np.array([1.0, 0.3])
    haadf = 2 + np.tensordot(weights, truth, 1) + 0.1 * rng.normal(size=shape)
    return {
        "maps": rng.poisson(dose * truth),
        "haadf": haadf,
        "weights": weights / dose,
        "haadf_offset": 2.0,
        "haadf_noise": 0.1,
        "lambda_tv": np.array([0.3, 0.5]) / np.sqrt(dose),
    }


REGULARIZERS = ["tv", "guided tv", "tgv", "guided tgv", "relative tv", "relative guided tgv"]


def regularizer(name, haadf):
    return {
        "regularization": name.split()[-1],
        "guide": haadf_guide(haadf) if "guided" in name else None,
        **(reference(haadf) if "relative" in name else {}),
    }


def reference(haadf):
    """As it is: smooth images are easier. The second map is the darker where the image is brighter."""
    return {"reference": haadf - haadf.mean(), "reference_scale": np.array([0.8, -0.3])}


def assert_same_optimum(problem, tolerance=1e-5, iterations=4000):
    """Objective within 1e-5 of the independent optimum's, and maps close to its maps."""
    maps, total = optimum(problem)
    solution = solve(problem, tolerance=1e-7, max_iterations=iterations, num_workers=1)
    scale = divergence_scale(problem, total)
    # The solver's own account of its total: for TGV with its own slope field, not a search
    # for the best one.
    found = solution.history["total"][-1]
    assert abs(found - total) <= tolerance * scale
    assert solution.gap >= found - total - 1e-6 * scale
    mean = np.maximum(np.abs(maps).mean(axis=(1, 2)), 1e-3)
    distance = np.abs(solution.maps - maps).max(axis=(1, 2)) / mean
    assert (distance <= 0.02).all(), distance
    return solution, maps, total, scale


FIDELITIES = {
    "poisson": {},
    "background": {"background": 0.3},
    "gaussian": {"fidelity": "gaussian", "noise": 0.7},
    "slopes": {"background": [0.2, 0.0], "count_slope": [0.4, 1.7]},
    "bounds": {"background": [0.2, 0.0], "count_slope": [1.0, 1.7], "lower_bound": [0.1, 0.3]},
    "gaussian, bounds": {"fidelity": "gaussian", "noise": 0.7, "lower_bound": [0.2, 0.5]},
    "mixed": {"fidelity": ("poisson", "gaussian"), "noise": 0.7, "background": [0.2, 0.0]},
}


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_whole_problem(name, fidelity):
    given = specimen()
    given |= FIDELITIES[fidelity] | regularizer(name, given["haadf"])
    assert_same_optimum(FusionProblem(**given))


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("fidelity", ["poisson", "mixed"])
def test_strength_noise_and_background_per_pixel(name, fidelity):
    given = specimen(seed=1)
    rng = np.random.default_rng(2)
    given |= FIDELITIES[fidelity] | regularizer(name, given["haadf"])
    given["regularization_weights"] = pilot_weights(given["maps"])
    background = 0.5 * rng.random(given["maps"].shape)
    background[np.broadcast_to(given.get("fidelity", "poisson"), len(background)) == "gaussian"] = 0.0
    given["background"] = background
    given["noise"] = rng.uniform(0.5, 2, given["maps"].shape)
    given["haadf_noise"] = rng.uniform(0.1, 0.5, given["haadf"].shape)
    assert_same_optimum(FusionProblem(**given))


@pytest.mark.parametrize("dose", [0.1, 30.0])
def test_doses(dose):
    assert_same_optimum(FusionProblem(**specimen(dose=dose, seed=3)))


@pytest.mark.parametrize("shape", [(1, 12), (12, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_thin_images(shape, name):
    given = specimen(shape, dose=3.0)
    given |= regularizer(name, given["haadf"]) | {"guide": None}
    if "guided" in name:
        given["guide"] = 0.6 * np.ones((2,) + shape)
    assert_same_optimum(FusionProblem(**given))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_weights_of_the_terms(name):
    given = specimen(seed=4) | {"lambda_haadf": 0.3, "lambda_chem": 2.5}
    given |= regularizer(name, given["haadf"])
    assert_same_optimum(FusionProblem(**given))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_counts_alone(name):
    given = specimen(seed=5)
    given = {"maps": given["maps"], "lambda_tv": 0.8} | regularizer(name, given["haadf"])
    assert_same_optimum(FusionProblem(**given))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_one_element_without_weight_and_one_without_strength(name):
    given = specimen(seed=6) | {"weights": [1.0, 0.0], "lambda_tv": [0.0, 0.5]}
    given |= regularizer(name, given["haadf"])
    assert_same_optimum(FusionProblem(**given))


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_objective_agrees_with_the_independent_value(name, fidelity):
    given = specimen() | {"regularization_weights": pilot_weights(specimen()["maps"])}
    given |= FIDELITIES[fidelity] | regularizer(name, given["haadf"])
    problem = FusionProblem(**given)
    maps, total = optimum(problem)
    terms = problem.objective(maps)
    assert terms["total"] == pytest.approx(terms["haadf"] + terms["chem"] + terms["regularization"])
    # TGV is a minimum over slope fields, found to a tolerance.
    allowed = 1e-7 if problem.regularization == "tv" else 1e-5
    assert abs(terms["total"] - total) <= allowed * divergence_scale(problem, total)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_history_ends_at_the_objective_of_the_solution(name):
    given = specimen()
    problem = FusionProblem(**(given | regularizer(name, given["haadf"])))
    solution = solve(problem, tolerance=1e-6, max_iterations=3000, num_workers=1)
    terms = problem.objective(solution.maps)
    scale = divergence_scale(problem, terms["total"])
    for ours, theirs in (("haadf", "haadf"), ("chem", "chem"), ("regularization", "tv")):
        assert abs(terms[ours] - solution.history[theirs][-1]) <= 2e-5 * scale
    assert solution.history["gap"][-1] == solution.gap
    assert solution.relative_gap == pytest.approx(solution.gap / scale, rel=1e-3, abs=1e-9)
