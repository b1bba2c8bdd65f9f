"""The duality gap: never negative, bounding the true distance to the optimum, and closing."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.special import kl_div
from test_independent_solver import (
    REGULARIZERS,
    divergence_scale,
    optimum,
    regularizer,
    specimen,
)

from hyperspy_fusedmm.solver import (
    FusionProblem,
    certificate,
    default_strength,
    haadf_guide,
    solve,
)
from hyperspy_fusedmm.solver._rows import Data
from hyperspy_fusedmm.solver.certificate import certify, nearest_flow_row
from hyperspy_fusedmm.solver.generalized_variation import generalized_variation
from hyperspy_fusedmm.solver.operators import adjoint_gradient, gradient, remove_guided
from hyperspy_fusedmm.solver.primal_dual import Scaled
from hyperspy_fusedmm.solver.problem import CURVATURE_RATIO
from hyperspy_fusedmm.solver.tile_engine import TileEngine

# Single precision of maps and dual fields, relative to the objective as a divergence.
PRECISION = 5e-6


def half_infinite(noise, image):
    """Noise per pixel that leaves the left third of the image out."""
    noise = np.full(image.shape, noise)
    noise[:, : image.shape[1] // 3] = np.inf
    return noise


def conditions(image):
    """What the repair of the dual point must cope with."""
    return {
        "as it is": {},
        "a weight 0": {"weights": [1.0, 0.0]},
        "a tiny weight": {"weights": [1.0, 1e-5]},
        "a small weight": {"weights": [1.0, 1e-2]},
        "both weights 0": {"weights": [0.0, 0.0]},
        "lambda_haadf 0": {"lambda_haadf": 0.0},
        "tiny lambda_haadf": {"lambda_haadf": 1e-6},
        "no haadf": {"haadf": None, "weights": None},
        "haadf_noise infinite in places": {"haadf_noise": half_infinite(0.1, image)},
        "haadf_noise infinite": {"haadf_noise": np.inf},
        "background": {"background": 0.3},
        "slopes": {"background": [0.0, 0.2], "count_slope": [1.7, 0.4]},
        "slopes, a weight 0": {"weights": [1.0, 0.0], "count_slope": [0.6, 0.4]},
        "bounds": {"lower_bound": [0.0, 0.2], "background": [0.2, 0.0]},
        "mixed, weight 0": {"fidelity": ("poisson", "gaussian"), "weights": [0.3, 0.0]},
        "strength 0 of one": {"lambda_tv": [0.0, 0.5]},
        "strong": {"lambda_tv": 3.0},
        "haadf far brighter than the counts": {"weights": [0.05, 0.015], "lambda_tv": 0.01},
        "hardly any counts": {"maps": (np.arange(180).reshape(2, 10, 9) % 37 == 5).astype(int)},
    }


CONDITIONS = list(conditions(np.zeros((10, 9))))


def make_problem(name, condition):
    given = specimen()
    given |= regularizer(name, given["haadf"]) | conditions(given["haadf"])[condition]
    return FusionProblem(**given)


@lru_cache(maxsize=None)
def case(name, condition):
    """Problem, objective at its optimum, and that objective as a divergence."""
    problem = make_problem(name, condition)
    _, total = optimum(problem)
    return problem, total, divergence_scale(problem, total)


def assert_bounds(solution, total, scale):
    assert np.isfinite(solution.gap) and solution.gap >= 0
    distance = solution.history["total"][-1] - total
    assert distance >= -PRECISION * scale
    assert solution.gap >= distance - PRECISION * scale


def starts(problem):
    rng = np.random.default_rng(0)
    shape = problem.maps.shape
    return {
        "measured": None,
        "zero": np.zeros(shape),
        "random": 2 * problem.maps.max() * rng.random(shape),
    }


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_gap_bounds_the_true_distance_at_every_iteration(name, condition):
    problem, total, scale = case(name, condition)
    for initial in starts(problem).values():
        for iterations in (0, 1, 3, 10, 40, 200):
            solution = solve(
                problem, tolerance=0, max_iterations=iterations, initial=initial, num_workers=1
            )
            assert solution.iterations == iterations
            assert_bounds(solution, total, scale)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_gap_is_never_worse_than_that_of_dual_fields_of_zero(name):
    """All terms are >= 0 with the likelihood as a divergence: 0 bounds their sum."""
    for condition in CONDITIONS:
        problem, _, _ = case(name, condition)
        for iterations in (0, 3, 40):
            solution = solve(problem, tolerance=0, max_iterations=iterations, num_workers=1)
            assert solution.relative_gap <= 1 + 1e-6, (condition, iterations)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_gap_closes(name, condition):
    problem, total, scale = case(name, condition)
    for initial in starts(problem).values():
        solution = solve(
            problem, tolerance=1e-4, max_iterations=3000, initial=initial, num_workers=1
        )
        assert solution.converged and solution.relative_gap <= 1e-4
        assert_bounds(solution, total, scale)
        assert abs(solution.history["total"][-1] - total) <= 1.01e-4 * scale


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_gap_closes_without_a_look_at_it_on_the_way(name, condition):
    """A number of iterations asked for leads as close as iterations with checks between."""
    problem, total, scale = case(name, condition)
    solution = solve(problem, tolerance=0, max_iterations=3000, num_workers=1)
    assert_bounds(solution, total, scale)
    assert solution.relative_gap <= 1e-3


@pytest.mark.parametrize("name", REGULARIZERS)
def test_gap_bounds_the_true_distance_from_random_dual_fields(name):
    problem, total, scale = case(name, "as it is")
    ended = solve(problem, tolerance=0, max_iterations=30, num_workers=1).state
    planes = ended.planes
    for seed in range(8):
        rng = np.random.default_rng(seed)
        changed = planes + 10 ** rng.uniform(-4, 1) * rng.normal(size=planes.shape)
        if problem.regularization == "tgv":
            # The slope field has no component across the right and the lower border.
            changed[6:10:2, :, -1] = 0
            changed[7:10:2, -1] = 0
        state = replace(ended, planes=changed.astype(np.float32))
        for iterations in (0, 1, 5):
            solution = solve(
                problem, tolerance=0, max_iterations=iterations, state=state, num_workers=1
            )
            assert_bounds(solution, total, scale)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("iterations", [0, 20, 100, 500])
def test_a_haadf_image_that_does_not_count_leaves_no_trace_in_the_gap(name, iterations):
    """Three ways to say the same."""
    gaps = [
        solve(make_problem(name, same), tolerance=0, max_iterations=iterations, num_workers=1)
        for same in ("no haadf", "lambda_haadf 0", "haadf_noise infinite")
    ]
    for other in gaps[1:]:
        np.testing.assert_allclose(other.maps, gaps[0].maps, rtol=1e-4, atol=1e-5)
        # The bound on the maps may still take the image into account.
        assert other.relative_gap <= 4 * gaps[0].relative_gap + 1e-5


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize(
    "condition", ["no haadf", "lambda_haadf 0", "haadf_noise infinite in places"]
)
def test_gap_closes_on_a_larger_image(name, condition):
    """Where the iteration is far from settled on single precision, repairs must not cost much."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    cone = 4 * np.clip(1 - np.hypot(rows - 24, columns - 24) / 19, 0, None)
    truth = np.stack([cone, 0.5 + 0.5 * (columns > 24)])
    weights = np.array([1.0, 0.3])
    counts = rng.poisson(truth)
    haadf = 2 + np.tensordot(weights, truth, 1) + 0.1 * rng.normal(size=(48, 48))
    given = {
        "maps": counts,
        "haadf": haadf,
        "weights": weights,
        "haadf_offset": 2.0,
        "haadf_noise": 0.1,
        "lambda_tv": default_strength(counts),
    }
    given |= regularizer(name, haadf) | conditions(haadf)[condition]
    solution = solve(FusionProblem(**given), tolerance=1e-3, max_iterations=1500, num_workers=1)
    assert solution.converged, solution.relative_gap


def turning_guide(shape, length=0.95):
    """A guide of all directions, across the borders too, as parts of an image have."""
    rows, columns = np.indices(shape)
    angle = 0.9 * rows + 0.6 * columns
    return length * np.stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_gap_closes_where_the_guide_points_across_the_borders(regularization):
    given = specimen()
    guide = turning_guide(given["haadf"].shape)
    problem = FusionProblem(**given, regularization=regularization, guide=guide)
    total = optimum(problem)[1]
    scale = divergence_scale(problem, total)
    for iterations in (0, 1, 3, 10, 40, 200):
        found = solve(problem, tolerance=0, max_iterations=iterations, num_workers=1)
        assert_bounds(found, total, scale)
    found = solve(problem, tolerance=1e-4, max_iterations=2000, num_workers=1)
    assert found.converged
    assert_bounds(found, total, scale)


def test_second_order_variation_is_found_where_the_guide_points_across_the_borders():
    """Its lower bound meets the value long before the last iteration that it may take."""
    image = np.random.default_rng(0).random((1, 9, 8))
    guide, strength = turning_guide((9, 8)), np.ones((1, 9, 8))
    few = generalized_variation(image, strength, guide, tolerance=1e-4, max_iterations=1000)
    many = generalized_variation(image, strength, guide, tolerance=1e-9, max_iterations=20000)
    assert many <= few <= (1 + 1e-4) * many


def flow_data(strength, guide):
    """Arrays of a problem in which only the strength and the guide matter."""
    nothing = np.zeros((0, 1, 1), np.float32)
    strength = np.asarray(strength, np.float32)[None]
    return Data(*[strength] * 3, *[nothing] * 3, guide.astype(np.float32), *[nothing] * 3)


def test_nearest_flow_is_the_nearest_that_the_ball_allows():
    rng = np.random.default_rng(0)
    shape = (7, 11)
    guide = turning_guide(shape) * np.clip(rng.random(shape) * 1.2 - 0.1, 0, 1)
    strength = rng.uniform(0.5, 2, shape) * (rng.random(shape) > 0.1)
    flow = 1.5 * rng.normal(size=(2,) + shape)
    flow[0, :, -1], flow[1, -1] = 0, 0
    data, near = flow_data(strength, guide), flow.copy()
    moved = [nearest_flow_row(data, 0, r, 0, shape[1], near[0, r], near[1, r]) for r in range(7)]
    distance = np.sqrt(((flow - near) ** 2).sum(axis=0))
    np.testing.assert_allclose(moved, distance.sum(axis=1), rtol=1e-9)
    # All of the ball's boundary; of what crosses the border nothing counts.
    angle = np.linspace(0, 2 * np.pi, 20001)
    circle = np.stack([np.cos(angle), np.sin(angle)])[:, :, None, None]
    exact = guide.astype(np.float32).astype(float)[:, None]
    boundary = strength.astype(np.float32) * remove_guided(np.moveaxis(circle, 0, 1), guide=exact[:, 0])
    boundary = np.moveaxis(boundary, 1, 0)
    boundary[0, :, :, -1], boundary[1, :, -1] = 0, 0
    nearest = np.sqrt(((boundary - flow[:, None]) ** 2).sum(axis=0)).min(axis=0)
    outside = distance > 1e-12
    assert 0.3 < outside.mean() < 1
    np.testing.assert_allclose(distance[outside], nearest[outside], rtol=2e-3, atol=1e-5)
    inner = np.zeros(shape, bool)
    inner[:-1, :-1] = True
    guide = exact[:, 0]
    inverse = flow + (flow * guide).sum(axis=0) / (1 - (guide**2).sum(axis=0)) * guide
    within = np.sqrt((inverse**2).sum(axis=0)) < strength
    np.testing.assert_array_equal(within[inner], ~outside[inner])


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("condition", ["no haadf", "a weight 0", "haadf_noise infinite in places"])
def test_scaled_down_dual_fields_can_only_sharpen_the_bound(monkeypatch, name, condition):
    problem, total, scale = case(name, condition)
    for iterations in (10, 40, 200):
        options = {"tolerance": 0, "max_iterations": iterations, "num_workers": 1}
        found = solve(problem, **options)
        with monkeypatch.context() as patch:
            patch.setattr(certificate, "SHRINKAGE", 0.0)
            assert solve(problem, **options).gap >= found.gap * (1 - 1e-9)
        assert_bounds(found, total, scale)


@pytest.mark.parametrize("seed", [0, 1])
def test_scaled_down_dual_fields_sharpen_the_bound_of_counts_alone(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    cone = 0.8 * np.clip(1 - np.hypot(rows - 24, columns - 24) / 19, 0, None)
    counts = rng.poisson(np.stack([cone, 0.1 + 0.1 * (columns > 24)]))
    problem = FusionProblem(counts, lambda_tv=3 * default_strength(counts), regularization="tgv")
    options = {"tolerance": 0, "max_iterations": 300, "num_workers": 1}
    found = solve(problem, **options)
    monkeypatch.setattr(certificate, "SHRINKAGE", 0.0)
    assert found.gap < solve(problem, **options).gap / 1.5


def advanced(problem, iterations):
    """Certificate and state after some iterations, with what they are in the solver's units."""
    scaled = Scaled(problem)
    data = scaled.data()
    start = scaled.initial_state(None, None)
    steps = scaled.steps(scaled.first_balance(data.strength), data.strength)
    with TileEngine(data, problem.regularization, start, 1) as engine:
        engine.advance(steps._replace(newton=8), iterations)
        return certify(engine, steps, scaled.bounds(data)), engine.state, data, steps


def whole(array, shape):
    return np.broadcast_to(np.asarray(array, dtype=float), shape)


@pytest.mark.parametrize("name", ["tv", "guided tv"])
@pytest.mark.parametrize(
    "condition", ["as it is", "background", "slopes", "mixed, weight 0", "no haadf"]
)
def test_primal_terms_are_the_plain_ones(name, condition):
    problem = make_problem(name, condition)
    found, state, data, steps = advanced(problem, 7)
    maps = state[:2] * Scaled(problem).map_scale[:, None, None]
    terms = problem.objective(maps)
    assert found.haadf == pytest.approx(terms["haadf"], rel=1e-5, abs=1e-6)
    assert found.regularization == pytest.approx(terms["regularization"], rel=1e-5)
    divergence = terms["total"] - terms["haadf"] - terms["regularization"]
    assert found.divergence == pytest.approx(divergence_scale(problem, divergence), rel=1e-5)
    assert found.total == pytest.approx(found.haadf + found.divergence + found.regularization)
    assert found.gap == pytest.approx(found.total - found.dual)


def best_dual_value(state, data, steps):
    """Largest dual value that any r gives with the state's dual fields, in plain NumPy.

    Every element must be Poisson and have a HAADF weight. At each pixel the value is a concave
    function of r, for r so large that every a_i >= 0; its maximum is found by bisection.
    """
    elements, shape = data.counts.shape[0], data.counts.shape
    counts, eps, weights = (whole(a, shape) for a in (data.counts, data.spread, data.weights))
    rho, target = whole(data.rho[0], shape[1:]), whole(data.target[0], shape[1:])
    chem = np.asarray(steps.chem, dtype=float)[:, None, None]
    p = state[elements : 3 * elements].reshape((elements, 2) + shape[1:]).astype(float)
    loss = np.asarray(steps.slope, dtype=float)[:, None, None]
    guide = data.guide.astype(float) if len(data.guide) else None
    y = -adjoint_gradient(remove_guided(p * (1 - 1e-6), guide))

    def maps(r):
        a = np.maximum(loss + weights * r - y, 1e-300)
        return np.maximum(chem * counts / a - eps, 0)

    low = ((y - loss) / weights).max(axis=0) + 1e-12
    high = np.maximum(low, 0) + 1e6
    for _ in range(200):
        middle = (low + high) / 2
        rising = -target - middle / rho + (weights * maps(middle)).sum(axis=0) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    x, a = maps(low), loss + weights * low - y
    inner = (a - loss) * x + chem * kl_div(counts, loss / chem * (x + eps))
    return float((inner.sum(axis=0) - low * target - low**2 / (2 * rho)).sum())


@pytest.mark.parametrize("name", ["tv", "guided tv"])
@pytest.mark.parametrize("condition", ["as it is", "background", "slopes", "a small weight"])
@pytest.mark.parametrize("iterations", [5, 60, 400])
def test_dual_value_is_the_best_for_the_dual_fields(name, condition, iterations):
    problem, total, scale = case(name, condition)
    found, state, data, steps = advanced(problem, iterations)
    best = best_dual_value(state, data, steps)
    assert max(best, found.dual) <= scale * (1 + PRECISION)
    # Scaled-down fields, or a bound on the maps, may do better than these.
    if iterations == 400:
        assert found.dual >= best - 1e-4 * scale


@pytest.mark.parametrize("name", ["tv", "guided tv"])
def test_dual_value_of_counts_alone(name):
    """Without a HAADF image the inner minimum has a closed form; the fields are scaled to allow it."""
    problem, _, scale = case(name, "no haadf")
    found, state, data, steps = advanced(problem, 300)
    counts, eps = (whole(a, data.counts.shape) for a in (data.counts, data.spread))
    chem = np.asarray(steps.chem, dtype=float)[:, None, None]
    p = state[2:6].reshape((2, 2) + counts.shape[1:]).astype(float)
    guide = data.guide.astype(float) if len(data.guide) else None
    y = -adjoint_gradient(remove_guided(p, guide))
    y *= np.minimum(1 - 1e-6, chem * (1 - 1e-9) / y.max(axis=(1, 2), keepdims=True))
    x = np.maximum(chem * counts / (chem - y) - eps, 0)
    value = float((-y * x + chem * kl_div(counts, x + eps)).sum())
    assert value <= scale * (1 + PRECISION)
    assert found.dual >= value - PRECISION * scale


def test_dual_fields_lie_in_their_balls():
    for name in REGULARIZERS:
        problem = make_problem(name, "as it is")
        _, state, data, _ = advanced(problem, 50)
        strength = whole(data.strength, data.counts.shape)
        p = state[2:6].reshape((2, 2) + strength.shape[1:]).astype(float)
        assert (np.sqrt((p**2).sum(axis=1)) <= strength * (1 + 1e-6)).all()
        if problem.regularization == "tgv":
            q = state[10:16].reshape((2, 3) + strength.shape[1:]).astype(float)
            assert (np.sqrt((q**2).sum(axis=1)) <= CURVATURE_RATIO * strength * (1 + 1e-6)).all()


def test_weak_duality_of_the_operators_behind_the_certificate():
    """<grad x, D p> = <x, y'> with the sign that the dual value uses."""
    rng = np.random.default_rng(0)
    x, p = rng.random((9, 8)), rng.normal(size=(2, 9, 8))
    guide = haadf_guide(rng.random((9, 8)))
    left = (remove_guided(gradient(x), guide) * p).sum()
    right = (x * adjoint_gradient(remove_guided(p, guide))).sum()
    assert left == pytest.approx(right, rel=1e-6)
