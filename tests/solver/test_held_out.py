"""What the HAADF image adds: no gain where it knows nothing, sums over tiles, units, too few counts."""

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, solve
from hyperspy_fusedmm.solver.held_out import (
    FACTORS,
    block_sums,
    counts_alone,
    held_out_gain,
)
from hyperspy_fusedmm.solver.representative import TILE, cropped
from hyperspy_fusedmm.solver.risk import FLOOR


def discs(side, dose):
    """Two elements in discs of different places."""
    rows, columns = np.indices((side, side)) / side
    first = np.hypot(rows - 0.4, columns - 0.4) < 0.25
    second = np.hypot(rows - 0.6, columns - 0.6) < 0.25
    return dose * np.stack([first + 0.02, second + 0.02])


def problem(side=48, dose=2.0, seed=0, noise=0.1, weights=(1.0, 0.3), **options):
    rng, truth = np.random.default_rng(seed), discs(side, dose)
    image = np.tensordot(weights, truth, 1)
    image = image + noise * image.mean() * rng.standard_normal(image.shape)
    return FusionProblem(
        rng.poisson(truth), haadf=image, weights=weights, haadf_noise=noise * image.mean(),
        lambda_tv=0.7, **options,
    ), truth  # fmt: skip


def true_gain(measured, truth):
    """Expected log-likelihood of new counts with the image less that without, each at its best strength."""

    def best(part):
        found = []
        for factor in FACTORS:
            fit = solve(replace(part, lambda_tv=factor * part.lambda_tv), max_iterations=300).maps
            lowest = FLOOR * measured.maps.mean(axis=(1, 2), keepdims=True)
            expected = np.maximum(fit.astype(float), lowest)
            found.append((truth * np.log(expected) - expected).sum(axis=(1, 2)))
        return np.max(found, axis=0)

    return best(measured) - best(counts_alone(measured))


def test_the_gain_is_that_of_new_counts():
    deviations, gains = [], []
    for seed in range(4):
        measured, truth = problem(seed=seed, side=96)
        gain, true = held_out_gain(measured, seed=seed), true_gain(measured, truth)
        assert (true > 0).all()
        gains.append(gain.nats / gain.error)
        deviations.append((gain.nats - true) / gain.error)
    assert (np.sum(gains, axis=0) > 3 * np.sqrt(len(gains))).all()
    assert np.abs(np.mean(deviations, axis=0)).max() < 2
    assert np.abs(deviations).max() < 4


def test_an_element_without_weight_gains_nothing():
    measured, _ = problem(weights=(1.0, 0.0))
    gain = held_out_gain(measured)
    assert abs(gain.nats[1]) < 1e-2
    assert gain.nats[0] > 5
    assert gain.total == pytest.approx(gain.nats.sum())
    assert gain.total_error == pytest.approx(np.hypot(*gain.error))


def test_too_few_counts_are_not_judged():
    measured, _ = problem()
    maps = np.array(measured.maps)
    maps[1] = 0
    maps[1, 5, 5:9] = 3
    gain = held_out_gain(replace(measured, maps=maps))
    assert np.isnan(gain.nats[1]) and np.isnan(gain.error[1]) and np.isfinite(gain.total)


def test_units_do_not_matter():
    measured, _ = problem()
    factor = 8.0
    scaled = replace(
        measured, maps=measured.maps / factor, weights=factor * measured.weights,
        lambda_tv=factor * measured.lambda_tv, lambda_chem=factor, lambda_haadf=1.0,
    )  # fmt: skip
    first = held_out_gain(measured, seed=3)
    second = held_out_gain(scaled, data=measured, scale=factor, seed=3)
    np.testing.assert_allclose(second.nats, first.nats, rtol=0.05, atol=1)
    np.testing.assert_allclose(second.counts, first.counts)


def test_gaussian_maps_gain_too():
    rng, truth = np.random.default_rng(0), discs(48, 1.0)
    noise = np.array([0.5, 0.5])
    image = truth[0] + 0.3 * truth[1]
    measured = FusionProblem(
        truth + 0.5 * rng.standard_normal(truth.shape), haadf=image, weights=[1.0, 0.3],
        haadf_noise=0.02, fidelity="gaussian", noise=noise, lambda_tv=2.0,
    )  # fmt: skip
    gain = held_out_gain(measured)
    assert gain.nats[0] > 3 * gain.error[0]
    assert np.isnan(gain.counts).all()


def test_the_same_seed_and_any_number_of_threads_give_the_same():
    measured, _ = problem(side=32)
    first = held_out_gain(measured, seed=1, num_workers=1)
    np.testing.assert_array_equal(held_out_gain(measured, seed=1, num_workers=2).nats, first.nats)
    assert (held_out_gain(measured, seed=2).nats != first.nats).any()


def test_the_fit_is_that_of_refit_where_it_is_given():
    measured, truth = problem(side=32)
    perfect = held_out_gain(measured, refit=lambda part: truth.astype(np.float32))
    assert perfect.nats.min() > held_out_gain(measured).nats.min() > -5


def test_large_images_are_looked_at_in_tiles(monkeypatch):
    shapes = []

    def refit(part):
        shapes.append(part.maps.shape)
        return np.asarray(part.maps, np.float32)

    monkeypatch.setattr("hyperspy_fusedmm.solver.held_out.FACTORS", (1.0,))
    monkeypatch.setattr("hyperspy_fusedmm.solver.held_out.FIRST_ITERATIONS", 1)
    measured, _ = problem(side=3 * TILE)
    done = []
    gain = held_out_gain(measured, refit=refit, callback=lambda *a: done.append(a))
    assert shapes == [(2, TILE, TILE)] * 8
    assert (gain.counts < measured.maps.sum(axis=(1, 2))).all()
    assert done[-1] == (4, 4)


def test_cropping_keeps_what_is_the_same_everywhere():
    measured, _ = problem(background=[0.1, 0.2], noise=1.0)
    part = cropped(measured, (slice(3, 9), slice(4, 20)))
    assert part.maps.shape == (2, 6, 16) and part.haadf.shape == (6, 16)
    np.testing.assert_array_equal(part.background, measured.background)
    np.testing.assert_array_equal(part.maps, measured.maps[:, 3:9, 4:20])


def test_squares_hold_every_pixel_once():
    values = np.random.default_rng(0).random((37, 21))
    sums = block_sums(values, 16)
    assert sums.shape == (3, 2)
    assert sums[2, 1] == pytest.approx(values[32:, 16:].sum())
    assert sums.sum() == pytest.approx(values.sum())
