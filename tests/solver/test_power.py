"""The power model: monotone, stationary at the end, and the linear model at gamma = 1."""

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, haadf_guide, solve


def make_problem(seed=0, shape=(24, 28), dose=4.0, gamma=1.6, **options):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    truth = dose * np.stack([
        0.6 + 0.5 * np.sin(columns / 4) * np.cos(rows / 5),
        0.2 + 1.0 * (np.hypot(rows - 12, columns - 14) < 7),
    ])  # fmt: skip
    weights = np.array([1.0, 0.5])
    haadf = 3 + ((weights[:, None, None] * truth) ** gamma).sum(axis=0)
    haadf += 0.3 * rng.normal(size=shape)
    options = {"lambda_tv": 0.3, "background": 0.1} | options
    return FusionProblem(
        rng.poisson(truth), haadf, weights, 3.0, 0.3, forward="power", gamma=gamma, **options
    )


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("start", ["default", "measured", "constant"])
def test_objective_never_rises(regularization, guided, start):
    problem = make_problem(regularization=regularization)
    if guided:
        problem = replace(problem, guide=haadf_guide(problem.haadf))
    initial = {
        "default": None,
        "measured": problem.maps,
        "constant": np.ones(problem.maps.shape),
    }[start]
    solution = solve(problem, tolerance=1e-5, max_iterations=400, initial=initial)
    total = solution.history["total"]
    assert len(total) > 5
    assert (np.diff(total) <= 0).all()
    assert total[-1] < total[0]
    if regularization == "tv":
        assert total[-1] == pytest.approx(problem.objective(solution.maps)["total"], rel=1e-6)


def test_no_gap_is_reported():
    solution = solve(make_problem(), tolerance=1e-3)
    assert np.isnan(solution.gap) and np.isnan(solution.relative_gap)
    assert "gap" not in solution.history
    assert solution.converged and solution.stationarity <= 1e-3


def test_gradient_vanishes_or_points_inwards_without_regularization():
    problem = make_problem(lambda_tv=0.0)
    solution = solve(problem, tolerance=1e-7, max_iterations=3000)
    x = solution.maps.astype(float)
    rng = np.random.default_rng(1)
    scale = 1 / np.sqrt(problem.maps.mean())
    for _ in range(60):
        i = tuple(rng.integers(n) for n in x.shape)
        step = 1e-4 * max(x[i], 0.1)
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] = max(down[i] - step, 0)
        rise = problem.objective(up)["total"] - problem.objective(down)["total"]
        slope = rise / (up[i] - down[i])
        assert slope > -0.02 * scale
        if x[i] > 0.05:
            assert slope < 0.02 * scale


@pytest.mark.parametrize("regularization", ["tv"])
def test_no_small_step_lowers_the_objective(regularization):
    problem = make_problem(regularization=regularization, guide=None)
    solution = solve(problem, tolerance=1e-6, max_iterations=4000)
    x = solution.maps.astype(float)
    total = problem.objective(x)["total"]
    rng = np.random.default_rng(2)
    raw = problem.objective(np.asarray(problem.maps, float))["total"]
    for k in range(40):
        other = solve(
            replace(problem, maps=rng.poisson(problem.maps + 0.1)), tolerance=1e-2
        ).maps if k < 8 else np.maximum(x + rng.normal(size=x.shape), 0)  # fmt: skip
        moved = x + 1e-3 * (other - x)
        # The directional derivative towards any other maps is not negative.
        slope = (problem.objective(moved)["total"] - total) / 1e-3
        assert slope > -2e-3 * (raw - total)


def test_gamma_one_is_the_linear_model():
    power = make_problem(gamma=1.0)
    linear = replace(power, forward="linear")
    expected = solve(linear, tolerance=1e-6, max_iterations=3000)
    found = solve(power, tolerance=1e-6, max_iterations=3000, initial=power.maps)
    lowest = linear.objective(expected.maps)["total"]
    scale = expected.gap / expected.relative_gap
    assert linear.objective(found.maps)["total"] - lowest <= 1e-4 * scale
    np.testing.assert_allclose(found.maps, expected.maps, atol=0.02 * expected.maps.max())


def test_gaussian_maps():
    problem = make_problem(fidelity="gaussian", noise=1.5, background=0.0)
    solution = solve(problem, tolerance=1e-3, max_iterations=2000)
    assert solution.converged
    assert (np.diff(solution.history["total"]) <= 0).all()


def test_scaling_the_counts_scales_the_result():
    problem = make_problem()
    larger = replace(
        problem, maps=4.0 * problem.maps, weights=problem.weights / 4, background=0.4,
        lambda_chem=problem.lambda_chem / 4, lambda_tv=problem.lambda_tv / 4,
    )  # fmt: skip
    one = solve(problem, tolerance=0, max_iterations=150, initial=problem.maps)
    other = solve(larger, tolerance=0, max_iterations=150, initial=larger.maps)
    np.testing.assert_allclose(other.maps, 4 * one.maps, rtol=1e-3, atol=1e-3 * other.maps.max())


def test_empty_maps_stay_empty():
    problem = make_problem()
    problem = replace(problem, maps=np.zeros(problem.maps.shape), haadf=np.full((24, 28), 3.0))
    solution = solve(problem, max_iterations=100)
    assert solution.maps.max() == 0
