"""Errors of atomic fractions of refits."""

import numpy as np
import pytest
from scipy.stats import norm

from hyperspy_fusedmm.solver.bootstrap import Bootstrap
from hyperspy_fusedmm.solver.composition import atomic_fractions, fraction_variance
from hyperspy_fusedmm.solver.refit_fractions import RefitFractions

SENSITIVITIES = np.array([0.19, 0.14, 0.035])


def made(pilot, errors, residual=0.0):
    """Refits as given, of maps that the counts do not contradict but by the residual."""
    pilot, errors = np.asarray(pilot, np.float32), np.asarray(errors, np.float32)
    return Bootstrap(
        pilot, errors, np.ones(len(pilot)), np.full_like(pilot, residual), np.full_like(pilot, 1e-3)
    )


def test_small_errors_of_refits_are_those_to_first_order():
    rng = np.random.default_rng(5)
    pilot = np.ones((3, 24, 24)) * np.array([2000.0, 900.0, 300.0])[:, None, None]
    errors = rng.normal(size=(6, 3, 24, 24)) + rng.normal(size=(6, 1, 24, 24))
    for residual in (0.0, 5.0):
        found = made(pilot, errors, residual)
        expected = fraction_variance(pilot, found.covariance(), SENSITIVITIES)
        # What the counts contradict has no correlation that is known.
        if residual:
            misfit = fraction_variance(pilot, found.misfit**2, SENSITIVITIES)
            expected = fraction_variance(pilot, made(pilot, errors).covariance(), SENSITIVITIES) + misfit
            assert (misfit > 0.1 * expected).any()
        np.testing.assert_allclose(RefitFractions(found, SENSITIVITIES).variance, expected, rtol=0.05)


def test_errors_of_refits_are_no_larger_than_fractions():
    """Nor do those of pixels with hardly an atom spread to their neighbours."""
    pilot = np.full((2, 16, 16), 100.0)
    pilot[:, :, 8:] = 1e-3
    errors = np.zeros((4, 2, 16, 16))
    errors[:, 0, :, 8:] = np.array([0.0, 1.0, 1.0, 0.0])[:, None, None]
    found = np.sqrt(RefitFractions(made(pilot, errors), [1.0, 1.0]).variance)
    assert found[:, :, :8].max() < 0.01
    np.testing.assert_allclose(found[:, :, 13:], np.sqrt(0.5 * 0.5**2), rtol=0.01)
    # Pixels and refits of no atoms at all.
    pilot[:, :4], errors[0] = 0, -pilot
    found = RefitFractions(made(pilot, errors), [1.0, 1.0]).variance
    assert np.isfinite(found).all() and found.max() <= 1


@pytest.mark.parametrize("uneven", [False, True])
def test_intervals_hold_the_errors_of_another_refit(uneven):
    """Also where some pixels are off by much, neighbours or not, and most by little."""
    rng = np.random.default_rng(8)
    pilot = np.full((2, 48, 48), 1e4)
    sizes = np.where(rng.random((48, 48)) < 0.1, 30.0, 3.0) if uneven else 10.0
    errors = sizes * rng.normal(size=(13, 2, 48, 48))
    found, mask = made(pilot, errors[:-1]), np.ones((48, 48), bool)
    expected = atomic_fractions(pilot, [1.0, 1.0])
    ratio = np.abs(atomic_fractions(pilot + errors[-1], [1.0, 1.0]) - expected)
    ratio /= np.sqrt(RefitFractions(found, [1.0, 1.0]).variance)
    for confidence in (0.68, 0.95):
        multiples = RefitFractions(found, [1.0, 1.0]).quantile(confidence, mask)
        held = (ratio <= multiples[:, None, None]).mean()
        assert held == pytest.approx(confidence, abs=0.025)
        normal = norm.ppf((1 + confidence) / 2)
        if not uneven:
            np.testing.assert_allclose(multiples, normal, rtol=0.05)
    if uneven:
        assert (ratio <= 1).mean() > 0.76


def test_intervals_of_no_pixel_or_no_error():
    pilot = np.full((2, 16, 16), 100.0)
    errors = np.random.default_rng(9).normal(size=(3, 2, 16, 16))
    found = RefitFractions(made(pilot, errors), [1.0, 1.0]).quantile(0.95, np.zeros((16, 16), bool))
    np.testing.assert_allclose(found, norm.ppf(0.975))
    found = RefitFractions(made(pilot, 0 * errors), [1.0, 1.0]).quantile(0.95, np.ones((16, 16), bool))
    np.testing.assert_array_equal(found, 0.0)


@pytest.mark.parametrize("size", [0.0, 0.5, 5.0])
def test_bias_of_balanced_refits_is_no_larger_than_their_noise(size):
    rng = np.random.default_rng(10)
    pilot = np.full((2, 64, 64), 1e4)
    texture = size * 10 * rng.normal(size=(2, 64, 64))
    changes = 10 * rng.normal(size=(15, 2, 64, 64))
    # Neither is anything where there is no atom.
    pilot[:, :4], texture[:, :4], changes[:, :, :4] = 0, 0, 0
    found, unbiased = made(pilot, texture + changes), made(pilot, changes)

    def mean(refits):
        return refits.variance[:, 10:].mean()

    raw, balanced = (RefitFractions(found, [1.0, 1.0], balanced) for balanced in (False, True))
    noise = mean(RefitFractions(unbiased, [1.0, 1.0]))
    assert mean(raw) == pytest.approx((1 + size**2) * noise, rel=0.05)
    assert mean(balanced) == pytest.approx((1 + min(size, 1) ** 2) * noise, rel=0.03)
    if size < 1:
        np.testing.assert_array_equal(balanced.variance, raw.variance)
        mask = pilot[0] > 0
        np.testing.assert_array_equal(balanced.quantile(0.95, mask), raw.quantile(0.95, mask))
