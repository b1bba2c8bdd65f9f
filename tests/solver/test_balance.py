"""The noise of measured maps, and the balance of primal and dual steps that follows from it."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from hyperspy_fusedmm.solver import (
    FusionProblem,
    default_strength,
    pilot_weights,
    solve,
)
from hyperspy_fusedmm.solver.noise_level import diagonal_squares, noise_level
from hyperspy_fusedmm.solver.out_of_core import LazyProblem
from hyperspy_fusedmm.solver.primal_dual import Scaled


def balance_of(problem):
    scaled = Scaled(problem)
    return scaled.first_balance(scaled.data().strength)


def specimen(shape=(70, 50), dose=2.0, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    truth = dose * (1 + 0.5 * np.stack([np.sin(rows / 9), np.cos(columns / 7)]))
    counts = rng.poisson(truth)
    haadf = truth.sum(axis=0) + 0.3 * rng.normal(size=shape)
    return FusionProblem(
        counts, haadf, [1.0, 0.5], haadf_noise=0.3, lambda_tv=default_strength(counts),
        regularization_weights=pilot_weights(counts),
    )  # fmt: skip


@pytest.mark.parametrize("mean", [0.05, 1.0, 30.0])
def test_noise_of_counts_is_one_over_root_mean(mean):
    counts = np.random.default_rng(0).poisson(mean, (1, 300, 200))
    np.testing.assert_allclose(noise_level(counts), mean**-0.5, rtol=0.03)


def test_noise_of_a_smooth_map_is_left_out():
    rows, columns = np.indices((300, 40))
    affine = (100.0 + rows + 3 * columns)[None]
    np.testing.assert_allclose(noise_level(affine), 0.01)
    noisy = affine + 20 * np.random.default_rng(0).normal(size=affine.shape)
    np.testing.assert_allclose(noise_level(noisy), 20 / affine.mean(), rtol=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (2, 3), (129, 2), (128, 5), (300, 4)])
def test_every_difference_counts_once(shape):
    maps = np.random.default_rng(0).poisson(50.0, (2,) + shape).astype(np.uint16)
    squares, count = diagonal_squares(maps)
    expected = np.sqrt(squares / count) / maps.mean(axis=(1, 2))
    np.testing.assert_allclose(noise_level(maps), expected, rtol=1e-6)
    assert count == max(shape[0] - 1, 1) * max(shape[1] - 1, 1)
    of_chunks, same = diagonal_squares(da.from_array(maps, chunks=(-1, 64, 3)))
    np.testing.assert_allclose(of_chunks.compute(), squares, rtol=1e-6)
    assert same == count


def test_an_empty_map_has_a_balance():
    problem = FusionProblem(np.zeros((1, 8, 8)), lambda_tv=0.5)
    assert np.isfinite(balance_of(problem)).all()
    np.testing.assert_array_equal(noise_level(problem.maps), 1)


def test_the_balance_is_the_same_for_the_image_mirrored_or_transposed():
    problem = specimen()
    expected = balance_of(problem)
    for turn in (lambda a: a[..., ::-1], lambda a: a[..., ::-1, :], lambda a: np.swapaxes(a, -2, -1)):
        turned = replace(
            problem,
            **{k: turn(getattr(problem, k)) for k in ("maps", "haadf", "regularization_weights")},
        )
        np.testing.assert_array_equal(balance_of(turned), expected)


def test_the_balance_does_not_depend_on_units():
    problem = specimen()
    factor = np.array([8.0, 0.25])
    scaled = replace(
        problem, maps=problem.maps * factor[:, None, None], weights=4 * problem.weights / factor,
        haadf=4 * problem.haadf, haadf_noise=1.2,
    )  # fmt: skip
    gaussian = [
        replace(one, fidelity="gaussian", noise=noise, lambda_tv=one.lambda_tv / np.asarray(per))
        for one, noise, per in ((problem, 1.5, 1.0), (scaled, 1.5 * factor, factor))
    ]
    np.testing.assert_array_equal(balance_of(gaussian[0]), balance_of(gaussian[1]))


def test_lazy_and_in_memory_balances_are_the_same():
    problem = specimen()
    background = np.full(problem.maps.shape, 0.1)
    background[:, :35] = 2.0
    given = {
        "maps": problem.maps, "haadf": problem.haadf, "background": background,
        "regularization_weights": problem.regularization_weights,
    }  # fmt: skip
    constants = {
        "weights": [1.0, 0.5], "haadf_noise": 0.3, "lambda_tv": 5 * problem.lambda_tv,
    }  # fmt: skip
    chunks = {name: da.from_array(value, chunks=(-1,) * (value.ndim - 2) + (20, 30))
              for name, value in given.items()}  # fmt: skip
    expected = balance_of(FusionProblem(**given, **constants))
    found = LazyProblem(**chunks, **constants).measure().balance
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dose, share", [(0.05, 0.75), (20.0, 1.05)])
def test_noisy_maps_need_fewer_iterations_than_with_the_balance_of_one_count(
    monkeypatch, dose, share
):
    problem = specimen(dose=dose)
    found = solve(problem, tolerance=3e-4, max_iterations=4000, num_workers=1)
    monkeypatch.setattr("hyperspy_fusedmm.solver.primal_dual.NOISE_EXPONENT", 0.0)
    constant = solve(problem, tolerance=3e-4, max_iterations=4000, num_workers=1)
    assert found.converged
    assert found.iterations <= share * constant.iterations


@pytest.mark.parametrize("strength", [5.0, 50.0])
def test_strengths_that_leave_only_the_mean_are_solved_in_time(strength):
    counts = np.random.default_rng(0).poisson(3.0, (2, 12, 10))
    solution = solve(FusionProblem(counts, lambda_tv=strength), num_workers=1)
    assert solution.converged and solution.iterations < 700
