"""The coarse problem is the same problem, and starting from its solution helps where it should."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_fusedmm.solver import FusionProblem, multiresolution, solve
from hyperspy_fusedmm.solver.multiresolution import (
    coarsened,
    multiresolution_start,
    refined,
)


def smooth_problem(shape=(96, 128), forward="linear", **options):
    """Maps so smooth that neighbouring pixels hardly differ."""
    rng = np.random.default_rng(0)
    truth = [gaussian_filter(rng.normal(size=shape), 12) for _ in range(2)]
    truth = np.stack([8 + 2 * (t - t.mean()) / t.std() for t in truth])
    weights = np.array([0.5, 0.2])
    exponent = 1.7 if forward == "power" else 1.0
    haadf = 3 + ((weights[:, None, None] * truth) ** exponent).sum(axis=0)
    settings = {"haadf_offset": 3.0, "haadf_noise": 0.2, "lambda_tv": [0.2, 0.4]}
    problem = FusionProblem(
        rng.poisson(truth), haadf, weights, forward=forward, gamma=1.7, **{**settings, **options}
    )
    return problem, truth


class TestCoarsened:
    def test_counts_add_and_images_are_averaged(self):
        maps = np.arange(12).reshape(1, 3, 4)
        problem = FusionProblem(
            maps, np.arange(12.0).reshape(3, 4), [2.0], background=0.5, haadf_noise=0.4,
            lower_bound=0.01,
        )
        coarse = coarsened(problem)
        np.testing.assert_array_equal(coarse.maps, [[[10, 18], [34, 42]]])
        np.testing.assert_array_equal(coarse.haadf, [[2.5, 4.5], [8.5, 10.5]])
        np.testing.assert_array_equal(coarse.background, [[[2.0]]])
        assert coarse.lower_bound == 0.04
        assert (coarse.weights, coarse.haadf_noise, coarse.lambda_tv) == (0.5, 0.2, 0.05)

    def test_variances_of_gaussian_maps_add(self):
        noise = np.random.default_rng(0).uniform(1, 2, (1, 6, 8))
        problem = FusionProblem(np.ones((1, 6, 8)), fidelity="gaussian", noise=noise)
        found = coarsened(problem).noise
        np.testing.assert_allclose(found[0, 1, 2] ** 2, (noise[0, 2:4, 4:6] ** 2).sum())
        assert coarsened(replace(problem, noise=3.0)).noise == 6.0

    def test_pixels_that_are_left_out_stay_out(self):
        noise = np.full((4, 4), 0.2)
        noise[:2, :2] = np.inf
        noise[0, 2] = np.inf
        haadf = np.ones((4, 4))
        haadf[np.isinf(noise)] = 1e6
        coarse = coarsened(FusionProblem(np.ones((1, 4, 4)), haadf, [1.0], haadf_noise=noise))
        np.testing.assert_array_equal(coarse.haadf, [[0, 1], [1, 1]])
        np.testing.assert_allclose(coarse.haadf_noise, [[np.inf, 0.2 / np.sqrt(3)], [0.1, 0.1]])

    def test_nothing_is_changed(self):
        problem, _ = smooth_problem()
        before = problem.maps.copy(), problem.haadf.copy(), problem.weights.copy()
        coarsened(problem)
        for array, kept in zip((problem.maps, problem.haadf, problem.weights), before):
            np.testing.assert_array_equal(array, kept)

    @pytest.mark.parametrize("forward", ["linear", "power"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"background": 0.7},
            {"fidelity": "gaussian", "noise": 2.0},
            {"regularization_weights": np.full((2, 96, 128), 1.5)},
        ],
    )
    def test_the_objective_of_smooth_maps_changes_alike(self, forward, options):
        """The noise adds a constant to it, so what counts is the difference of two maps."""
        problem, truth = smooth_problem(forward=forward, **options)
        coarse = coarsened(problem)
        other = 0.9 * truth + 0.2
        binned, binned_other = (x.reshape(2, 48, 2, 64, 2).sum(axis=(2, 4)) for x in (truth, other))
        fine = problem.objective(other), problem.objective(truth)
        found = coarse.objective(binned_other), coarse.objective(binned)
        for name in ("haadf", "chem", "regularization"):
            expected = fine[0][name] - fine[1][name]
            assert found[0][name] - found[1][name] == pytest.approx(expected, rel=0.02), name


class TestRefined:
    def test_planes_come_back(self):
        """Away from the border, where there is nothing to interpolate with."""
        rows, columns = np.indices((12, 16))
        plane = 3.0 + 0.5 * rows - 0.2 * columns
        binned = plane.reshape(1, 6, 2, 8, 2).sum(axis=(2, 4))
        found = refined(binned, (12, 16))
        np.testing.assert_allclose(found[0, 1:-1, 1:-1], plane[1:-1, 1:-1])

    def test_counts_are_kept(self):
        maps = np.random.default_rng(0).random((2, 5, 6))
        np.testing.assert_allclose(refined(maps, (10, 12)).sum(axis=(1, 2)), maps.sum(axis=(1, 2)))

    @pytest.mark.parametrize("shape", [(7, 9), (8, 9), (7, 10), (1, 5)])
    def test_odd_sizes(self, shape):
        maps = np.full((2,) + shape, 3.0)
        coarse = coarsened(FusionProblem(maps))
        assert coarse.maps.shape[1:] == (-(-shape[0] // 2), -(-shape[1] // 2))
        np.testing.assert_allclose(refined(coarse.maps, shape), maps)


class TestStart:
    @pytest.mark.parametrize(
        "shape, levels",
        [
            ((31, 200), 0),
            ((63, 63), 0),
            ((64, 200), 1),
            ((130, 130), 2),
            ((500, 500), 3),
            ((9, 2000), 0),
        ],
    )
    def test_levels(self, shape, levels):
        seen = []

        def solved(problem, initial):
            seen.append((problem.maps.shape[1:], initial is None))
            return problem.maps

        start = multiresolution_start(FusionProblem(np.ones((1,) + shape)), solved)
        assert len(seen) == levels
        if not levels:
            assert start is None
            return
        np.testing.assert_allclose(start, 1.0)
        assert [first for _, first in seen] == [True] + [False] * (levels - 1)
        assert seen[-1][0] == (-(-shape[0] // 2), -(-shape[1] // 2))

    def test_the_optimum_of_the_linear_model_stays(self):
        problem, _ = smooth_problem()
        options = {"tolerance": 1e-6, "max_iterations": 20000}
        plain, coarse = (
            solve(problem, **options),
            solve(problem, initial="multiresolution", **options),
        )
        total = problem.objective(plain.maps)["total"]
        bound = plain.gap + coarse.gap
        assert problem.objective(coarse.maps)["total"] == pytest.approx(total, abs=bound)
        np.testing.assert_allclose(coarse.maps, plain.maps, atol=0.05)

    @pytest.mark.parametrize("regularization", ["tv", "tgv"])
    def test_it_starts_closer(self, regularization):
        problem, _ = smooth_problem(regularization=regularization)
        measured, coarse = (
            solve(problem, tolerance=0, max_iterations=0, initial=initial).history["total"][0]
            for initial in ("measured", "multiresolution")
        )
        best = solve(problem).history["total"][-1]
        assert coarse - best < 0.05 * (measured - best)

    def test_images_too_small_to_be_binned_start_as_ever(self):
        problem, _ = smooth_problem(shape=(40, 60))
        plain, coarse = solve(problem), solve(problem, initial="multiresolution")
        np.testing.assert_array_equal(coarse.maps, plain.maps)

    def test_gradient_descent_can_start_from_it(self):
        problem, _ = smooth_problem(background=2.0, lambda_haadf=0.01)
        options = {"method": "gradient-descent", "max_iterations": 0}
        found = solve(problem, initial="multiresolution", **options)
        other = solve(problem, initial="measured", **options)
        assert found.history["total"][0] < other.history["total"][0]

    def test_an_exception_of_the_callback_ends_it(self):
        def callback(iteration, max_iterations, relative_gap):
            assert (iteration, max_iterations) == (0, 77)
            raise KeyboardInterrupt

        problem, _ = smooth_problem()
        with pytest.raises(KeyboardInterrupt):
            solve(problem, max_iterations=77, initial="multiresolution", callback=callback)

    def test_other_names_are_refused(self):
        with pytest.raises(ValueError, match="initial must be maps or one of .*'coarse'"):
            solve(smooth_problem()[0], initial="coarse")


def test_docstring_examples():
    result = doctest.testmod(multiresolution)
    assert result.attempted and not result.failed
