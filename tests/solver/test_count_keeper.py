"""Slopes of the likelihood with which each map keeps its counts."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from hyperspy_fusedmm.data import core_shell_particles, perovskite_lattice
from hyperspy_fusedmm.solver import FusionProblem, haadf_guide, solve
from hyperspy_fusedmm.solver.count_keeper import (
    AGAINST_IMAGE,
    LIMITS,
    SLIGHT,
    UNNOTICED,
    WEIGHT,
    CountKeeper,
)


def problem_of(specimen, **options):
    image = specimen.haadf.data
    given = {
        "haadf": image, "weights": specimen.weights, "haadf_offset": specimen.haadf_offset,
        "haadf_noise": specimen.haadf_noise, "lambda_tv": 1.5,
    }  # fmt: skip
    given |= options
    background = np.broadcast_to(given.get("background", 0.0), specimen.maps.data.shape)
    counts = specimen.maps.data + np.random.default_rng(1).poisson(background)
    return FusionProblem(counts, **given)


@pytest.fixture(scope="module")
def particles():
    return core_shell_particles(shape=(48, 56), dose=0.5, haadf_snr=20, seed=3)


def net_counts(problem, maps):
    """What the likelihood asks for as the total of each map."""
    share = maps / np.maximum(maps + problem.background, 1e-30)
    return (problem.maps * share).sum(axis=(1, 2))


def expected_excess(problem, totals, slope):
    """How much more than its counts a map of this slope may have."""
    w = problem.weights
    along = w * (w * totals @ (slope - 1)) / max(w**2 @ totals, 1e-300)
    return (slope - 1 - along) / WEIGHT + along / AGAINST_IMAGE


def allowed(totals):
    return np.maximum(UNNOTICED / np.sqrt(totals), SLIGHT)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("background", [0.0, 0.2, "per pixel"])
@pytest.mark.parametrize("image", [True, False])
def test_each_map_keeps_its_counts(particles, regularization, background, image):
    if background == "per pixel":
        background = np.random.default_rng(0).uniform(0, 0.3, particles.maps.data.shape)
    options = {"regularization": regularization, "background": background}
    if not image:
        options |= {"haadf": None, "weights": None}
    problem = problem_of(particles, **options)
    kept = solve(problem, max_iterations=4000, keep_counts=True)
    assert kept.converged and kept.relative_gap <= 1e-4
    totals = net_counts(problem, kept.maps)
    excess = kept.maps.sum(axis=(1, 2)) / totals - 1
    assert (np.abs(excess - expected_excess(problem, totals, kept.count_slope)) <= 1.5 * allowed(totals)).all()
    free = solve(problem, max_iterations=4000)
    before = free.maps.sum(axis=(1, 2)) / net_counts(problem, free.maps) - 1
    assert np.abs(before).max() > 0.05 and np.abs(excess).max() < 0.06
    np.testing.assert_array_equal(free.count_slope, 1)
    # The slopes are part of a convex problem, whose certified optimum the maps are.
    given = replace(problem, count_slope=kept.count_slope)
    again = solve(given, tolerance=1e-5, max_iterations=8000)
    assert again.history["total"][-1] >= kept.history["total"][-1] - kept.gap
    if regularization == "tv":
        assert given.objective(kept.maps)["total"] == pytest.approx(
            kept.history["total"][-1], rel=1e-5
        )


def test_counts_alone_are_scaled_maps_of_other_strength(particles):
    """Without an image kappa x is the solution for the strength over kappa."""
    problem = problem_of(particles, haadf=None, weights=None)
    kept = solve(problem, tolerance=1e-5, max_iterations=8000, keep_counts=True)
    slope = kept.count_slope
    other = solve(replace(problem, lambda_tv=1.5 / slope), tolerance=1e-5, max_iterations=8000)
    expected = other.maps / slope[:, None, None]
    scale = np.sqrt((expected**2).mean(axis=(1, 2), keepdims=True))
    assert np.abs((kept.maps - expected) / scale).max() < 0.05
    np.testing.assert_allclose(kept.maps.sum((1, 2)), expected.sum((1, 2)), rtol=2e-3)


def test_the_minimum_is_that_with_a_weight_on_the_totals():
    """One pixel value for all: the strength is so large that the map is constant but for the constraint."""
    counts = np.random.default_rng(0).poisson(0.5, (1, 12, 12))
    image = np.full((12, 12), 1.0)
    problem = FusionProblem(
        counts, haadf=image, weights=[1.0], haadf_noise=0.5, lambda_tv=50.0, lambda_haadf=3.0
    )
    kept = solve(problem, tolerance=1e-6, max_iterations=8000, keep_counts=True)
    total = counts.sum()

    def objective(level):
        sum_ = 144 * level
        likelihood = sum_ - total * np.log(level)
        misfit = 0.5 * 3.0 * 144 * ((level - 1.0) / 0.5) ** 2
        return likelihood + misfit + AGAINST_IMAGE / 2 * total * (sum_ / total - 1) ** 2

    level = minimize_scalar(objective, bounds=(0.1, 2), method="bounded", options={"xatol": 1e-10}).x
    assert kept.maps.mean() == pytest.approx(level, rel=2 * allowed(total))
    assert np.ptp(kept.maps) < 1e-3


@pytest.mark.parametrize("background", [0.0, 0.2])
def test_counts_are_kept_above_a_lower_bound(particles, background):
    problem = problem_of(particles, background=background)
    problem = replace(problem, lower_bound=0.1 * problem.maps.mean(axis=(1, 2)))
    kept = solve(problem, max_iterations=4000, keep_counts=True)
    assert kept.converged
    assert (kept.maps.min(axis=(1, 2)) >= 0.9999 * problem.lower_bound).all()
    totals = net_counts(problem, kept.maps)
    excess = kept.maps.sum(axis=(1, 2)) / totals - 1
    assert (np.abs(excess - expected_excess(problem, totals, kept.count_slope)) <= 1.5 * allowed(totals)).all()
    assert np.abs(excess).max() < 0.06
    assert problem.objective(kept.maps)["haadf"] == pytest.approx(kept.history["haadf"][-1], rel=1e-3)
    given = replace(problem, count_slope=kept.count_slope)
    total = given.objective(kept.maps)["total"]
    assert total == pytest.approx(kept.history["total"][-1], abs=2 * kept.gap)


def test_a_map_of_fewer_counts_than_its_lower_bound_holds_nothing_up(particles):
    problem = problem_of(particles)
    maps = problem.maps.copy()
    maps[2] = 0
    maps[2, 5, 6] = 6
    problem = replace(problem, maps=maps, lower_bound=np.array([0.0, 0.0, 41 / maps[2].size]))
    found = solve(problem, tolerance=3e-3, max_iterations=400, keep_counts=True)
    assert found.converged and found.count_slope[2] == 1
    totals = net_counts(problem, found.maps)[:2]
    excess = found.maps.sum(axis=(1, 2))[:2] / totals - 1
    assert (np.abs(excess) < 0.1).all() and (found.count_slope[:2] != 1).any()


@pytest.mark.parametrize("num_workers", [1, 3])
def test_slopes_do_not_depend_on_tiles_and_threads(num_workers):
    specimen = perovskite_lattice(shape=(160, 72), dose=1, haadf_snr=20, seed=1)
    problem = problem_of(specimen, guide=haadf_guide(specimen.haadf.data))
    options = {"tolerance": 0, "max_iterations": 100, "keep_counts": True}
    one = solve(problem, num_workers=2, **options)
    other = solve(problem, num_workers=num_workers, **options)
    np.testing.assert_array_equal(one.count_slope, other.count_slope)
    np.testing.assert_allclose(one.maps, other.maps, rtol=1e-4, atol=1e-4)


def test_a_state_remembers_its_slopes(particles):
    problem = problem_of(particles)
    first = solve(problem, max_iterations=4000, keep_counts=True)
    again = solve(problem, max_iterations=4000, keep_counts=True, state=first.state)
    assert again.iterations <= 0.6 * first.iterations
    np.testing.assert_allclose(again.count_slope, first.count_slope, atol=0.15)


def test_gaussian_and_empty_maps_are_left_alone():
    rng = np.random.default_rng(1)
    maps = np.stack([rng.normal(2, 1, (20, 20)), np.zeros((20, 20)), rng.poisson(0.4, (20, 20))])
    problem = FusionProblem(
        maps, fidelity=("gaussian", "poisson", "poisson"), noise=[1.0, 1, 1], lambda_tv=2.0
    )
    found = solve(problem, keep_counts=True)
    assert (found.count_slope[:2] == 1).all() and np.isfinite(found.maps).all()
    assert found.maps[2].sum() == pytest.approx(maps[2].sum(), rel=0.05)
    assert not found.maps[1].any()


def test_an_image_that_contradicts_the_counts_ends():
    """Ten times too bright: slopes end at a limit or the image is kept from adding counts."""
    rng = np.random.default_rng(2)
    problem = FusionProblem(
        rng.poisson(1.0, (1, 24, 24)), haadf=np.full((24, 24), 10.0), weights=[1.0],
        haadf_noise=0.01, lambda_tv=0.5,
    )  # fmt: skip
    found = solve(problem, keep_counts=True, max_iterations=2000)
    assert np.isfinite(found.maps).all() and found.gap >= 0
    assert LIMITS[0] <= found.count_slope[0] <= LIMITS[1]


def test_the_objective_has_the_slopes():
    counts = np.random.default_rng(0).poisson(2.0, (2, 5, 6))
    problem = FusionProblem(counts, count_slope=[0.5, 2.0], lambda_tv=0.0)
    x = counts + 0.5
    expected = (np.array([0.5, 2.0])[:, None, None] * x - counts * np.log(x)).sum()
    assert problem.objective(x)["chem"] == pytest.approx(expected)
    # Without regularization each pixel is its count over the slope.
    found = solve(problem, tolerance=1e-6).maps
    np.testing.assert_allclose(found[0], counts[0] / 0.5, atol=0.02)
    np.testing.assert_allclose(found[1], counts[1] / 2.0, atol=0.02)


def test_bad_input():
    counts = np.ones((2, 4, 4))
    for value in (0, -1, [1, 0], np.nan, [1, 2, 3]):
        with pytest.raises(ValueError, match="count_slope"):
            FusionProblem(counts, count_slope=value)
    for options in ({"method": "gradient-descent"}, {}):
        forward = "linear" if options else "power"
        problem = FusionProblem(
            counts, haadf=counts[0], weights=[1.0, 1.0], forward=forward
        )
        with pytest.raises(ValueError, match="keep_counts"):
            solve(problem, keep_counts=True, **options)


def test_iterations_between_moves():
    for count in (1, 15, 16, 17, 100):
        parts = CountKeeper.stretches(count)
        assert sum(parts) == count and max(parts) <= 16 and min(parts) >= 1
