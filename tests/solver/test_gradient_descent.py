"""The published algorithm does what was published, and its parts are what they are called."""

import doctest
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, gradient_descent, solve
from hyperspy_fusedmm.solver.gradient_descent import (
    haadf_gradient,
    likelihood_gradient,
    total_variation_prox,
)
from hyperspy_fusedmm.solver.operators import gradient, remove_guided

GAMMA = 1.6


def make_problem(forward="power", shape=(12, 15), seed=0, **options):
    """Maps and image in [0, 1], as they are after the published scaling."""
    rng = np.random.default_rng(seed)
    truth = rng.random((3,) + tuple(-(-n // 4) for n in shape))
    truth = truth.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[0], : shape[1]]
    maps = np.clip(truth + 0.1 * rng.normal(size=truth.shape), 0, 1)
    weights = np.array([0.8, 0.5, 0.3])
    exponent = GAMMA if forward == "power" else 1.0
    haadf = ((weights[:, None, None] * truth) ** exponent).sum(axis=0)
    settings = {
        "haadf": haadf + 0.02 * rng.normal(size=shape),
        "weights": weights,
        "background": 0.24,
        "lambda_haadf": 1 / 3,
        "lambda_chem": 0.08,
        "lambda_tv": 0.15,
        "gamma": GAMMA,
        "forward": forward,
    }
    return FusionProblem(maps, **{**settings, **options})


def images(elements=2, shape=(9, 11), seed=0):
    return np.random.default_rng(seed).normal(0.5, 1.0, (elements,) + shape)


def prox_objective(x, b, strength, guide=None):
    field = remove_guided(gradient(x), guide)
    return 0.5 * ((x - b) ** 2).sum() + (strength * np.sqrt((field**2).sum(axis=1))).sum()


class TestTotalVariationProx:
    def test_no_strength_leaves_the_images_without_negative_values(self):
        b = images()
        np.testing.assert_array_equal(
            total_variation_prox(b, np.zeros((2, 1, 1)), 5), np.maximum(b, 0)
        )

    def test_constant_images_stay(self):
        b = np.full((1, 6, 7), 0.3)
        np.testing.assert_allclose(total_variation_prox(b, np.ones((1, 1, 1)), 10), b)

    def test_two_plateaus_approach_each_other(self):
        """By the strength over their widths, until they meet."""
        b = np.zeros((1, 8, 8))
        b[..., 2:] = 1.0
        for strength in (0.1, 0.5, 1.4):
            x = total_variation_prox(b, np.full((1, 1, 1), strength), 3000)
            np.testing.assert_allclose(x[..., :2], strength / 2, atol=1e-6)
            np.testing.assert_allclose(x[..., 2:], 1 - strength / 6, atol=1e-6)
        met = total_variation_prox(b, np.full((1, 1, 1), 10.0), 3000)
        np.testing.assert_allclose(met, 0.75, atol=1e-4)

    @pytest.mark.parametrize("guided", [False, True])
    def test_many_iterations_reach_the_optimum_of_an_independent_solver(self, guided):
        rng = np.random.default_rng(1)
        b, strength = images(1), rng.uniform(0.05, 0.6, (1, 9, 11))
        guide = None
        if guided:
            angle = rng.uniform(0, 2 * np.pi, (9, 11))
            guide = 0.9 * np.stack([np.cos(angle), np.sin(angle)])
        x = total_variation_prox(b, strength, 4000, guide)
        variable = cp.Variable((9, 11), nonneg=True)
        columns, rows = np.zeros((11, 11)), np.zeros((9, 9))
        columns[:-1] = np.eye(11)[1:] - np.eye(11)[:-1]
        rows[:-1] = np.eye(9)[1:] - np.eye(9)[:-1]
        field = [variable @ columns.T, rows @ variable]
        if guided:
            along = sum(cp.multiply(f, a) for f, a in zip(field, guide))
            field = [f - cp.multiply(along, a) for f, a in zip(field, guide)]
        norms = cp.norm(cp.vstack([cp.vec(f, order="C") for f in field]), axis=0)
        objective = 0.5 * cp.sum_squares(variable - b[0]) + norms @ strength.ravel()
        best = cp.Problem(cp.Minimize(objective)).solve(solver=cp.CLARABEL)
        assert prox_objective(x, b, strength, guide) == pytest.approx(best, abs=1e-6)
        np.testing.assert_allclose(x[0], variable.value, atol=2e-4)

    def test_it_agrees_with_the_primal_dual_method(self):
        b = np.abs(images(shape=(20, 17)))
        problem = FusionProblem(b, fidelity="gaussian", lambda_tv=[0.2, 0.5])
        other = solve(problem, tolerance=1e-9, max_iterations=20000)
        x = total_variation_prox(b, problem.strengths(), 3000)
        np.testing.assert_allclose(x, other.maps, atol=2e-3)
        total = problem.objective(x)["total"]
        assert total == pytest.approx(problem.objective(other.maps)["total"], rel=1e-6)

    @pytest.mark.parametrize("iterations", [1, 2, 3, 10])
    def test_a_few_iterations_are_those_of_the_published_algorithm(self, iterations):
        """Algorithm FGP of Beck & Teboulle, as they write it: fields in the unit ball."""
        b, strength = images(1, (5, 4))[0], 0.3

        def adjoint(p, q):
            x = np.zeros(b.shape)
            x[:-1] += p
            x[1:] -= p
            x[:, :-1] += q
            x[:, 1:] -= q
            return x

        p = r = np.zeros((4, 4))
        q = s = np.zeros((5, 3))
        t = 1.0
        for _ in range(iterations):
            x = np.maximum(b - strength * adjoint(r, s), 0)
            p_next = r + (x[:-1] - x[1:]) / (8 * strength)
            q_next = s + (x[:, :-1] - x[:, 1:]) / (8 * strength)
            norm = np.sqrt(
                np.pad(p_next, [(0, 1), (0, 0)]) ** 2 + np.pad(q_next, [(0, 0), (0, 1)]) ** 2
            )
            norm = np.maximum(norm, 1)
            p_next, q_next = p_next / norm[:-1], q_next / norm[:, :-1]
            t_next = (1 + np.sqrt(1 + 4 * t**2)) / 2
            r = p_next + (t - 1) / t_next * (p_next - p)
            s = q_next + (t - 1) / t_next * (q_next - q)
            p, q, t = p_next, q_next, t_next
        expected = np.maximum(b - strength * adjoint(p, q), 0)
        found = total_variation_prox(b[None], np.full((1, 1, 1), strength), iterations)
        np.testing.assert_allclose(found[0], expected, atol=1e-12)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
    def test_thin_images(self, shape):
        b = np.abs(images(1, shape))
        x = total_variation_prox(b, np.full((1, 1, 1), 0.2), 500)
        assert np.isfinite(x).all()
        np.testing.assert_allclose(x.mean(), b.mean())


class TestGradients:
    noise = np.random.default_rng(2).uniform(0.5, 2, (12, 15))

    @pytest.mark.parametrize("forward", ["power", "linear"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"haadf_noise": noise, "haadf_offset": 0.1},
            {"fidelity": "gaussian", "noise": [0.1, 0.2, 0.3], "background": 0.0},
            {"fidelity": ("poisson", "gaussian", "poisson"), "background": [0.24, 0, 0.24]},
        ],
    )
    def test_they_are_the_slopes_of_the_objective(self, forward, options):
        problem = replace(make_problem(forward, **options), lambda_tv=np.zeros(3))
        rng = np.random.default_rng(3)
        x = rng.uniform(0.05, 1.0, problem.maps.shape)
        slopes = {"haadf": haadf_gradient(problem, x), "chem": likelihood_gradient(problem, x)}
        step = 1e-6
        for _ in range(5):
            direction = rng.normal(size=x.shape)
            above = problem.objective(x + step * direction)
            below = problem.objective(x - step * direction)
            for name, slope in slopes.items():
                expected = (above[name] - below[name]) / (2 * step)
                assert (slope * direction).sum() == pytest.approx(expected, rel=1e-6)

    def test_empty_pixels_without_background_pull_down(self):
        problem = FusionProblem(np.zeros((1, 3, 3)), lambda_chem=2.0)
        np.testing.assert_array_equal(likelihood_gradient(problem, np.zeros((1, 3, 3))), 2.0)


class TestSolve:
    def test_iterations_by_hand(self):
        problem = make_problem()
        x = problem.maps
        weights = problem.weights[:, None, None]
        for _ in range(4):
            misfit = ((weights * x) ** GAMMA).sum(axis=0) - problem.haadf
            slope = GAMMA * weights**GAMMA * x ** (GAMMA - 1) * misfit / 3
            slope = slope + 0.08 * (1 - problem.maps / (x + 0.24))
            x = total_variation_prox(np.maximum(x - slope, 0), np.full((3, 1, 1), 0.15), 3)
        found = solve(problem, method="gradient-descent", max_iterations=4)
        np.testing.assert_allclose(found.maps, x, atol=1e-6)
        np.testing.assert_allclose(found.haadf_fit, ((weights * x) ** GAMMA).sum(axis=0), atol=1e-6)

    def test_history_holds_every_iteration_and_the_measured_maps(self):
        problem = make_problem()
        solution = solve(problem, method="gradient-descent", max_iterations=12)
        history = solution.history
        assert set(history) == {"iteration", "haadf", "chem", "tv", "total"}
        np.testing.assert_array_equal(history["iteration"], np.arange(13))
        for maps, k in ((problem.maps, 0), (solution.maps, -1)):
            terms = problem.objective(maps)
            for name, term in (("haadf", "haadf"), ("chem", "chem"), ("tv", "regularization")):
                assert history[name][k] == pytest.approx(terms[term], rel=1e-5)
        assert history["total"][-1] < history["total"][0]
        assert solution.iterations == 12 and not solution.converged
        assert np.isnan([solution.gap, solution.relative_gap, solution.stationarity]).all()

    def test_with_many_inner_iterations_it_ends_at_the_optimum(self):
        """Where nothing is clipped, and where it is, somewhat above it."""
        problem = make_problem("linear")
        bright = replace(problem, maps=problem.maps + 0.5, haadf=problem.haadf + 0.8)
        for case, tolerance in ((bright, 5e-5), (problem, 2e-3)):
            best = solve(case, tolerance=1e-6, max_iterations=20000).maps
            found = solve(case, method="gradient-descent", max_iterations=150, tv_iterations=200)
            total, lowest = (case.objective(x)["total"] for x in (found.maps, best))
            assert lowest * (1 - 1e-6) <= total <= lowest * (1 + tolerance)
            if case is bright:
                np.testing.assert_allclose(found.maps, best, atol=5e-3)

    def test_more_inner_iterations_end_lower(self):
        problem = make_problem()
        few, many = (
            solve(problem, method="gradient-descent", max_iterations=100, tv_iterations=n)
            for n in (1, 30)
        )
        assert many.history["total"][-1] < few.history["total"][-1]

    def test_start(self):
        problem = make_problem()
        start = np.full(problem.maps.shape, 0.5)
        solution = solve(problem, method="gradient-descent", max_iterations=0, initial=start)
        np.testing.assert_array_equal(solution.maps, start.astype(np.float32))
        assert solution.history["total"] == pytest.approx(problem.objective(start)["total"])

    def test_single_precision_is_kept_and_enough(self):
        problem = make_problem()
        single = replace(problem, maps=problem.maps.astype(np.float32))
        options = {"method": "gradient-descent", "max_iterations": 20}
        np.testing.assert_allclose(
            solve(single, **options).maps, solve(problem, **options).maps, atol=1e-5
        )

    def test_inputs_stay_as_they_are(self):
        problem = make_problem()
        before = problem.maps.copy(), problem.haadf.copy()
        solve(problem, method="gradient-descent", max_iterations=3)
        np.testing.assert_array_equal(problem.maps, before[0])
        np.testing.assert_array_equal(problem.haadf, before[1])

    def test_an_exception_of_the_callback_ends_it(self):
        seen = []

        def callback(iteration, max_iterations, relative_gap):
            seen.append((iteration, max_iterations))
            assert np.isnan(relative_gap)
            if iteration == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            solve(make_problem(), method="gradient-descent", max_iterations=9, callback=callback)
        assert seen == [(0, 9), (1, 9), (2, 9), (3, 9)]

    def test_steps_that_are_too_long_are_told(self):
        counts = np.random.default_rng(0).poisson(3.0, (1, 16, 16))
        problem = FusionProblem(counts, haadf=20.0 * counts[0], weights=[20.0], forward="power")
        with pytest.raises(ValueError, match="left the finite numbers at iteration .*primal-dual"):
            solve(problem, method="gradient-descent")

    def test_what_it_does_not_know_is_refused(self):
        with pytest.raises(ValueError, match='"gradient-descent" knows regularization="tv"'):
            solve(make_problem(regularization="tgv"), method="gradient-descent")
        with pytest.raises(ValueError, match="method must be one of .*'newton'"):
            solve(make_problem(), method="newton")
        with pytest.raises(
            ValueError, match="tv_iterations must be a whole number >= 0; it is 1.5"
        ):
            solve(make_problem(), method="gradient-descent", tv_iterations=1.5)
        state = solve(make_problem("linear"), max_iterations=1, tolerance=0).state
        with pytest.raises(ValueError, match="state goes with"):
            solve(make_problem(), method="gradient-descent", state=state)


def test_docstring_examples():
    result = doctest.testmod(gradient_descent)
    assert result.attempted and not result.failed
