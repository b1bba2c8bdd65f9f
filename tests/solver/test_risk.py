"""The error estimated from the data is the error to the truth, on average."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem
from hyperspy_fusedmm.solver.risk import Risk, disturbed, draws_of, mean_risk, risk
from hyperspy_fusedmm.solver.smoothing import blur


def truth(shape=(48, 40)):
    rows, columns = np.indices(shape)
    return np.stack([3 + 2 * np.sin(rows / 6), 1 + 0.5 * np.cos(columns / 5)])


def smoothed(problem, widths):
    return np.stack([blur(m - b, w) for m, b, w in zip(problem.maps, problem.background, widths)])


def estimated(problem, widths, rng):
    other, disturbance = disturbed(problem, rng)
    return risk(problem, smoothed(problem, widths), smoothed(other, widths), disturbance)


@pytest.mark.parametrize("fidelity", ["poisson", "gaussian"])
@pytest.mark.parametrize("widths", [(0.7, 0.7), (1.5, 3.0)])
def test_error_is_unbiased(fidelity, widths):
    rng, t = np.random.default_rng(1), truth()
    differences = []
    for _ in range(60):
        if fidelity == "poisson":
            problem = FusionProblem(rng.poisson(t + 0.5), background=0.5)
        else:
            maps = t + 0.7 * rng.standard_normal(t.shape)
            problem = FusionProblem(maps, fidelity="gaussian", noise=0.7)
        found = estimated(problem, widths, rng)
        error = ((smoothed(problem, widths) - t) ** 2).sum(axis=(1, 2))
        differences.append(found.error + (t**2).sum(axis=(1, 2)) - error)
    differences = np.array(differences)
    standard_error = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    assert np.all(np.abs(differences.mean(axis=0)) < 4 * standard_error)
    # Without the covariance, as the error to the data, the estimate would have failed.
    covariance = estimated(problem, widths, rng).covariance
    assert np.all(2 * covariance > 4 * standard_error)


def test_error_of_a_fit_that_spikes_at_single_counts():
    """The same spike whether a pixel has its count or more: correlated with counts it passed for good."""
    rng, truth, height = np.random.default_rng(2), 0.05, 0.05
    found, expected = [], []
    for _ in range(40):
        counts = rng.poisson(truth, (1, 64, 64)).astype(np.float32)
        problem = FusionProblem(counts)
        changed, disturbance = disturbed(problem, rng)
        fits = [(height * (maps > 0)).astype(np.float32) for maps in (counts, changed.maps)]
        found.append(risk(problem, *fits, disturbance).error[0] + truth**2 * counts.size)
        expected.append(((fits[0] - truth) ** 2).sum())
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.2)


def test_deviance_tells_the_better_fit():
    rng, t = np.random.default_rng(2), truth()
    gains = []
    for _ in range(20):
        problem = FusionProblem(rng.poisson(t))
        weak, strong = (estimated(problem, (w, w), rng).deviance for w in (0.7, 2.0))
        exact = []
        for width in (0.7, 2.0):
            fit = np.maximum(smoothed(problem, (width, width)), 0.02 * t.mean())
            exact.append((fit - t * np.log(fit)).sum(axis=(1, 2)))
        gains.append(np.array([weak - strong, exact[0] - exact[1]]))
    estimate, exact = np.mean(gains, axis=0)
    np.testing.assert_allclose(estimate, exact, rtol=0.15)


def test_disturbance_has_mean_0_and_the_variance_told():
    counts = np.random.default_rng(0).poisson(4.0, (1, 300, 300))
    problem, disturbance = disturbed(FusionProblem(counts), np.random.default_rng(1))
    change = disturbance.change[0]
    np.testing.assert_allclose(problem.maps[0], counts[0] + change, rtol=1e-6)
    assert abs(change.mean()) < 4 * change.std() / 300
    np.testing.assert_allclose(change.var() * disturbance.scale[0], counts.mean(), rtol=0.03)
    assert problem.maps.min() >= 0


def test_nothing_given_is_changed_and_sums_add_up():
    counts = np.random.default_rng(0).poisson(truth())
    kept = counts.copy()
    problem = FusionProblem(counts)
    one = estimated(problem, (1.0, 1.0), np.random.default_rng(3))
    np.testing.assert_array_equal(counts, kept)
    two = one + one
    assert isinstance(two, Risk)
    np.testing.assert_allclose(two.error, 2 * one.error)


def test_empty_map_has_finite_risk():
    counts = np.zeros((1, 16, 16))
    found = estimated(FusionProblem(counts), (1.0,), np.random.default_rng(0))
    assert all(np.isfinite(getattr(found, name)).all() for name in found.__dataclass_fields__)


def test_mean_of_several_draws_scatters_less():
    rng, t = np.random.default_rng(6), truth() / 20
    problem, widths = FusionProblem(rng.poisson(t)), (1.0, 1.0)
    fit = smoothed(problem, widths)

    def mean_of(draws):
        drawn = [disturbed(problem, rng) for _ in range(draws)]
        fits = [fit, *(smoothed(other, widths) for other, _ in drawn)]
        return mean_risk(problem, fits, [change for _, change in drawn]).covariance

    single, several = (np.array([mean_of(n) for _ in range(60)]) for n in (1, 4))
    assert np.all(several.std(axis=0) < 0.75 * single.std(axis=0))
    error = 4 * single.std(axis=0, ddof=1) / np.sqrt(60)
    assert np.all(np.abs(several.mean(axis=0) - single.mean(axis=0)) < 1.5 * error)


def test_few_counts_are_drawn_more_often_and_large_images_once():
    pixels = 128**2
    assert draws_of(np.array([]), pixels) == draws_of(np.array([4e3, 1e9]), pixels) == 2
    assert draws_of(np.array([0.0, 5.0]), pixels) == draws_of(np.array([100.0]), pixels) == 3
    assert draws_of(np.array([100.0]), 4 * pixels) == 1
