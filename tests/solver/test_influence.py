"""Influence of the HAADF image against the Hessian, and moves of a composition."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, hessian_variance, solve
from hyperspy_fusedmm.solver.influence import composition_moves, haadf_influence


def problem(**options):
    rng = np.random.default_rng(0)
    rows, columns = np.indices((24, 24))
    truth = np.stack([2.0 + (rows > 11), 1.0 + (columns > 11)]) * 3
    image = np.tensordot([1.0, 0.3], truth, 1) + 0.2 * rng.standard_normal((24, 24))
    given = {"haadf_noise": 0.2, "weights": [1.0, 0.3], "lambda_tv": 0.5, **options}
    return FusionProblem(rng.poisson(truth), haadf=image, **given)


@pytest.mark.parametrize("forward", ["linear", "power"])
def test_influence_is_the_lost_variance_of_one_element(forward):
    """With one element, the variance with the image is that without times 1 - influence."""
    counts = np.random.default_rng(0).poisson(5.0, (1, 6, 6))
    image = 2.0 * counts[0]
    measured = FusionProblem(
        counts, haadf=image, weights=[2.0], haadf_noise=3.0, background=0.7, lambda_haadf=0.5,
        lambda_chem=2.0, forward=forward, gamma=1.5,
    )  # fmt: skip
    maps = np.full((1, 6, 6), 4.0)
    variance = hessian_variance(measured, maps, "expected")
    alone = (maps + 0.7) / 2.0
    np.testing.assert_allclose(variance, alone * (1 - haadf_influence(measured, maps)), rtol=1e-5)


def test_influence_where_there_is_none():
    maps = solve(problem()).maps
    assert not haadf_influence(problem(lambda_haadf=0.0), maps).any()
    assert not haadf_influence(problem(weights=[1.0, 0.0]), maps)[1].any()
    noise = np.full((24, 24), 0.2)
    noise[:5] = np.inf
    share = haadf_influence(problem(haadf_noise=noise), maps)
    assert not share[:, :5].any() and (share[0, 5:] > 0.5).all()
    assert not haadf_influence(problem(), np.zeros_like(maps)).any()


def test_influence_of_gaussian_maps():
    measured = problem(fidelity="gaussian", noise=[0.5, 2.0])
    share = haadf_influence(measured, np.zeros((2, 24, 24)))
    np.testing.assert_allclose(share[0], 25 / (25 + 4), rtol=1e-5)
    np.testing.assert_allclose(share[1], (0.09 * 25) / (0.09 * 25 + 0.25), rtol=1e-5)


def test_the_composition_moves_in_proportion_to_small_changes():
    measured = problem()
    maps = solve(measured).maps
    small, large = (composition_moves(measured, maps, [1.0, 2.0], u) for u in (0.03, 0.06))
    assert small.shape == (2, 2)
    assert (large[0] > 0.05).all()
    np.testing.assert_allclose(large[0], 2 * small[0], rtol=0.35)
    # Two elements: more of one is less of the other.
    np.testing.assert_allclose(large[:, 0], large[:, 1], rtol=1e-4)


def test_the_composition_rests_where_the_image_does_not_count():
    measured = problem(lambda_haadf=0.0)
    moves = composition_moves(measured, solve(measured).maps, [1.0, 1.0], 0.06)
    assert moves.max() < 0.3
    measured = problem(weights=[1.0, 0.0])
    moves = composition_moves(measured, solve(measured).maps, [1.0, 1.0], 0.06)
    assert moves[1].max() < 0.3
