"""What the counts resolve, and the least values that follow from it."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, solve
from hyperspy_fusedmm.solver.resolution import (
    LEAST,
    UNSEEN,
    data_widths,
    least_values,
    resolved_pixels,
)
from hyperspy_fusedmm.solver.smoothing import BLUR_WIDTHS, kernel_energy


def test_areas_are_those_of_the_blur_that_suits_the_counts():
    rng = np.random.default_rng(0)
    flat, sharp = rng.poisson(0.5, (64, 64)), np.zeros((64, 64))
    sharp[::7, ::5] = 200
    problem = FusionProblem(np.stack([flat, sharp, np.zeros((64, 64))]))
    widths = data_widths(problem)
    # An empty map is all one area.
    pixels = resolved_pixels(problem, widths)
    assert widths[0] == BLUR_WIDTHS[-1] and widths[1] <= BLUR_WIDTHS[0]
    assert pixels[0] == pytest.approx(1 / kernel_energy(BLUR_WIDTHS[-1]))
    assert 1 <= pixels[1] <= 1 / kernel_energy(BLUR_WIDTHS[0]) and pixels[2] == 64 * 64
    found = least_values(problem.maps, problem.fidelity)
    np.testing.assert_allclose(found, [*(LEAST / pixels[:2]), 0])


def test_gaussian_maps_have_none():
    maps = np.random.default_rng(0).normal(5, 1, (2, 16, 16))
    assert not least_values(maps, ("gaussian", "gaussian")).any()


def test_the_image_does_not_see_them():
    maps = np.random.default_rng(0).poisson(0.5, (3, 64, 64))
    noise = np.full((64, 64), 0.2)
    noise[:9] = np.inf
    alone = least_values(maps, ("poisson",) * 3)
    weights = np.array([1e4, 0.0, 1e-6])
    found = least_values(maps, ("poisson",) * 3, weights, noise)
    np.testing.assert_allclose(found, [UNSEEN * 0.2 / 1e4, *alone[1:]])
    np.testing.assert_array_equal(least_values(maps, ("poisson",) * 3, weights, np.inf), alone)
    np.testing.assert_array_equal(least_values(maps, ("poisson",) * 3, 0 * weights, 0.2), alone)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_nothing_is_zero_where_nothing_was_counted(regularization):
    counts = np.zeros((1, 48, 48), int)
    counts[0, :, :16] = np.random.default_rng(1).poisson(2.0, (48, 16))
    least = least_values(counts, ("poisson",))
    options = {"lambda_tv": 1.0, "regularization": regularization}
    assert not solve(FusionProblem(counts, **options)).maps[0, :, 40:].any()
    bounded = FusionProblem(counts, **options, lower_bound=least)
    found = solve(bounded, tolerance=1e-5, max_iterations=8000, keep_counts=True).maps
    np.testing.assert_allclose(found[0, :, 40:], least[0], rtol=1e-5)
    assert found.sum() == pytest.approx(counts.sum(), rel=0.01)


@pytest.mark.parametrize("options", [{"initial": "measured"}, {"initial": "multiresolution"}, {}])
def test_every_start_ends_there(options):
    rng = np.random.default_rng(2)
    truth = np.outer(np.hanning(64), np.hanning(72))
    problem = FusionProblem(
        rng.poisson([3 * truth, truth]), 4 + truth + 0.02 * rng.normal(size=truth.shape), [0.3, 0.1],
        4.0, 0.02, lambda_tv=0.8, lower_bound=[0.1, 0.05],
    )  # fmt: skip
    found = solve(problem, tolerance=1e-6, max_iterations=8000, **options)
    again = solve(problem, tolerance=1e-6, max_iterations=8000, state=found.state)
    assert found.converged and again.iterations <= 0.2 * found.iterations
    np.testing.assert_allclose(found.maps, again.maps, atol=2e-2)
    assert np.isclose(found.haadf_fit, problem.haadf_model(found.maps), atol=1e-4).all()
    assert (found.maps.min(axis=(1, 2)) >= [0.0999, 0.0499]).all()


def test_bad_input():
    with pytest.raises(ValueError, match="lower_bound must not be negative"):
        FusionProblem(np.ones((1, 4, 4)), lower_bound=-1.0)
    with pytest.raises(ValueError, match="lower_bound must be one number or 1"):
        FusionProblem(np.ones((1, 4, 4)), lower_bound=[1.0, 2.0])
    with pytest.raises(ValueError, match="lower_bound must be 0 for forward"):
        FusionProblem(np.ones((1, 4, 4)), lower_bound=1.0, forward="power")
    with pytest.raises(ValueError, match="lower_bound must be 0 for method"):
        solve(FusionProblem(np.ones((1, 4, 4)), lower_bound=1.0), method="gradient-descent")
