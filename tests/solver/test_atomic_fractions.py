"""Atomic fractions and their errors: exact cases, invariances, Monte Carlo."""

import dask.array as da
import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, bootstrap, solve
from hyperspy_fusedmm.solver.composition import (
    atomic_fractions,
    fraction_covariance,
    fraction_variance,
    keeping_totals,
    kept_counts,
    region_covariance,
)

SENSITIVITIES = np.array([0.19, 0.14, 0.035])


@pytest.fixture(scope="module")
def case():
    """Counts of three elements at four pixels, and a covariance with correlations at each."""
    rng = np.random.default_rng(0)
    counts = rng.uniform(50, 400, (3, 2, 2))
    roots = rng.normal(size=(3, 3, 2, 2))
    covariance = 2 * np.einsum("ij...,kj...->ik...", roots, roots)
    return counts, covariance


def test_known_stoichiometry_comes_back():
    atoms = np.array([2.0, 3.0])[:, None] * np.array([1.0, 7.0, 1e6])
    found = atomic_fractions(atoms * np.array([[0.3], [11.0]]), [0.3, 11.0])
    np.testing.assert_allclose(found, [[0.4] * 3, [0.6] * 3], rtol=1e-14)


def test_only_ratios_of_sensitivities_matter(case):
    counts, covariance = case
    for function in (
        lambda s: atomic_fractions(counts, s),
        lambda s: fraction_covariance(counts, covariance, s, 0.1),
    ):
        np.testing.assert_allclose(function(SENSITIVITIES), function(1e5 * SENSITIVITIES))


def test_thickness_does_not_matter(case):
    counts, covariance = case
    np.testing.assert_allclose(
        fraction_covariance(9 * counts, 81 * covariance, SENSITIVITIES),
        fraction_covariance(counts, covariance, SENSITIVITIES),
    )


def test_dask_arrays_stay_lazy(case):
    counts, covariance = case
    found = fraction_variance(da.from_array(counts), covariance, SENSITIVITIES, 0.05)
    assert isinstance(found, da.Array)
    np.testing.assert_allclose(
        found, fraction_variance(counts, covariance, SENSITIVITIES, 0.05), rtol=1e-12
    )


def test_covariance_is_that_of_simulated_errors(case):
    counts, covariance = case
    x, spread = counts[:, 0, 0], covariance[:, :, 0, 0]
    drawn = np.random.default_rng(1).multivariate_normal(x, spread, 200_000).T
    simulated = np.cov(atomic_fractions(drawn, SENSITIVITIES))
    found = fraction_covariance(x, spread, SENSITIVITIES)
    np.testing.assert_allclose(found, simulated, atol=0.02 * simulated.max())


def test_errors_of_sensitivities_are_those_of_simulated_ones(case):
    x = case[0][:, 1, 0]
    relative = np.array([[9e-4, 4e-4, 0], [4e-4, 4e-4, 0], [0, 0, 25e-4]])
    drawn = np.random.default_rng(2).multivariate_normal(np.zeros(3), relative, 200_000)
    simulated = np.cov([atomic_fractions(x, SENSITIVITIES * np.exp(d)) for d in drawn[:20_000]], rowvar=False)  # fmt: skip
    found = fraction_covariance(x, np.zeros((3, 3)), SENSITIVITIES, relative)
    np.testing.assert_allclose(found, simulated, atol=0.04 * simulated.max())


def test_variance_is_the_diagonal_of_the_covariance(case):
    counts, covariance = case
    for error in (0.0, [0.1, 0.02, 0.3], np.full((3, 3), 0.01)):
        np.testing.assert_allclose(
            fraction_variance(counts, covariance, SENSITIVITIES, error),
            np.einsum("ii...->i...", fraction_covariance(counts, covariance, SENSITIVITIES, error)),
            rtol=1e-10,
            atol=1e-18,
        )


def test_a_variance_alone_means_independent_errors(case):
    counts, covariance = case
    variance = np.einsum("ii...->i...", covariance)
    alone = np.zeros_like(covariance)
    alone[range(3), range(3)] = variance
    np.testing.assert_allclose(
        fraction_variance(counts, variance, SENSITIVITIES),
        fraction_variance(counts, alone, SENSITIVITIES),
    )


def test_errors_add_up_to_nothing(case):
    """Fractions add up to 1, so their errors add up to 0."""
    found = fraction_covariance(*case, SENSITIVITIES, 0.1)
    assert np.abs(found.sum(axis=0)).max() < 1e-12 * np.abs(found).max()


def test_errors_that_all_elements_share_leave_fractions_alone(case):
    counts = case[0]
    common = 0.04 * counts[:, None] * counts
    found = fraction_variance(counts, common, SENSITIVITIES, np.full((3, 3), 0.09))
    assert found.max() < 1e-14


def test_two_elements_have_the_error_of_a_share():
    counts = np.array([30.0, 70.0])
    found = fraction_variance(counts, counts, [1.0, 1.0])
    np.testing.assert_allclose(found, 0.3 * 0.7 / 100)


def test_kept_counts():
    maps = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 0.5), np.zeros((4, 4))])
    np.testing.assert_allclose(kept_counts(maps, np.ones((3, 4, 4))), [1.0, 0.5, 1.0])
    np.testing.assert_allclose(kept_counts(maps, -np.ones((3, 4, 4))), 1.0)


@pytest.fixture(scope="module")
def refits():
    rng = np.random.default_rng(3)
    rows, columns = np.indices((32, 32))
    truth = 0.3 + 3 * np.exp(-((rows - 16) ** 2 + (columns - 16) ** 2) / 60.0)
    problem = FusionProblem(rng.poisson([truth, truth[::-1] / 3]), lambda_tv=[1.0, 1.5])
    maps = solve(problem).maps
    return problem, maps, bootstrap(problem, maps, replicates=4)


def test_covariance_of_a_region_has_its_errors_on_the_diagonal(refits):
    mask = np.zeros((32, 32), bool)
    mask[8:20, 5:12] = True
    found = region_covariance(refits[2], mask)
    np.testing.assert_allclose(np.sqrt(np.diag(found)), refits[2].region_error(mask))
    assert np.linalg.eigvalsh(found).min() >= 0 and np.allclose(found, found.T)


def test_scaled_refits_have_the_total_of_the_pilot(refits):
    problem, maps, found = refits
    scaled = keeping_totals(found, maps, kept_counts(maps, problem.maps))
    totals = (scaled.pilot + scaled.errors).sum(axis=(2, 3))
    wanted = found.pilot.sum(axis=(1, 2))
    np.testing.assert_allclose(totals, np.broadcast_to(wanted, totals.shape), rtol=1e-4)
    # And the residual has none.
    assert np.abs(scaled.residual.sum(axis=(1, 2))).max() < 1e-3 * problem.maps.sum()


def test_regularization_loses_counts_by_strength_times_variation(refits):
    """What the scaling makes up for: the total of the optimum, without a HAADF image."""
    problem, _, _ = refits
    maps = solve(problem, tolerance=1e-7, max_iterations=20_000).maps.astype(float)
    across = np.diff(maps, axis=1, append=maps[:, -1:])
    along = np.diff(maps, axis=2, append=maps[:, :, -1:])
    variation = np.hypot(across, along).sum(axis=(1, 2))
    lost = problem.maps.sum(axis=(1, 2)) - maps.sum(axis=(1, 2))
    assert (lost > 0).all()
    np.testing.assert_allclose(lost, np.asarray(problem.lambda_tv) * variation, rtol=0.02)
