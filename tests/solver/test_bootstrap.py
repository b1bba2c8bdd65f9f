"""Errors from refits: reproducible, of the right size, and finite where nothing was counted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_fusedmm.solver import (
    FusionProblem,
    bootstrap,
    hessian_variance,
    solve,
    upper_limit,
)
from hyperspy_fusedmm.solver.bootstrap import PILOT_STRENGTHS
from hyperspy_fusedmm.solver.smoothing import BLUR_WIDTHS, kernel_energy
from hyperspy_fusedmm.solver.upper_limit import poisson_limit

SHAPE = (2, 24, 20)


def make_problem(forward="linear", fidelity="poisson", **options):
    rng = np.random.default_rng(3)
    rows, columns = np.indices(SHAPE[1:])
    truth = np.stack([3.0 + 2.0 * (rows > 10), 1.0 + 0.1 * columns])
    settings = {
        "weights": np.array([0.2, 0.4]),
        "haadf_noise": 0.2,
        "lambda_tv": 0.4,
        "noise": 0.7,
        **options,
    }
    counts = rng.poisson(truth) if fidelity == "poisson" else rng.normal(truth, 0.7)
    model = FusionProblem(truth, truth[0], **{**settings, "forward": forward})
    haadf = model.haadf_model(truth) + 0.2 * rng.normal(size=SHAPE[1:])
    return FusionProblem(counts, haadf, fidelity=fidelity, forward=forward, **settings)


@pytest.fixture(scope="module")
def problem():
    return make_problem()


@pytest.fixture(scope="module")
def maps(problem):
    return solve(problem).maps


@pytest.fixture(scope="module")
def errors(problem, maps):
    return bootstrap(problem, maps, replicates=6)


def test_any_number_of_workers_gives_the_same_numbers(problem, maps, errors):
    for workers in (1, 3):
        again = bootstrap(problem, maps, replicates=6, num_workers=workers)
        np.testing.assert_array_equal(again.errors, errors.errors)


def test_replicates_depend_on_seed_and_number_alone(problem, maps, errors):
    fewer = bootstrap(problem, maps, replicates=3)
    np.testing.assert_array_equal(fewer.errors, errors.errors[:3])
    other = bootstrap(problem, maps, replicates=3, seed=1)
    assert (other.errors != fewer.errors).any(axis=(1, 2, 3)).all()


def test_nothing_of_the_callers_is_changed(problem, maps, errors):
    before = problem.maps.copy(), problem.haadf.copy(), maps.copy()
    bootstrap(problem, maps, replicates=2)
    for old, new in zip(before, (problem.maps, problem.haadf, maps)):
        np.testing.assert_array_equal(old, new)


def test_without_regularization_or_image_the_variance_is_that_of_counts():
    counts = np.full((1, 40, 40), 5.0)
    problem = FusionProblem(counts, lambda_tv=0.0, background=1.0)
    found = bootstrap(problem, counts - 1.0, replicates=10)
    # Variance of counts: their mean. 16000 draws tell it to about 1 %.
    assert found.variance.mean() == pytest.approx(5.0, rel=0.05)
    assert abs(found.bias.mean()) < 0.06
    assert (found.standard_error**2).mean() == pytest.approx(5.0, rel=0.05)


def test_without_regularization_it_agrees_with_the_hessian():
    problem = make_problem(lambda_tv=0.0, background=20.0)
    maps = np.broadcast_to(np.array([10.0, 10.0])[:, None, None], SHAPE)
    problem = FusionProblem(
        maps + 20.0, problem.haadf_model(maps), weights=problem.weights, haadf_noise=1.0,
        lambda_tv=0.0, background=20.0,
    )  # fmt: skip
    found = bootstrap(problem, maps, replicates=20, tolerance=1e-5)
    expected = hessian_variance(problem, maps, "expected")
    np.testing.assert_allclose(
        found.variance.mean(axis=(1, 2)), expected.mean(axis=(1, 2)), rtol=0.1
    )


def test_more_replicates_change_the_error_little(problem, maps, errors):
    more = bootstrap(problem, maps, replicates=40, seed=9)
    ratio = errors.standard_error.mean(axis=(1, 2)) / more.standard_error.mean(axis=(1, 2))
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)


def test_variance_and_bias_make_the_standard_error(errors):
    count = len(errors.errors)
    flat = np.mean(errors.errors**2, axis=0)
    parts = errors.errors.var(axis=0, ddof=1) * (1 - 1 / count) + errors.bias**2
    np.testing.assert_allclose(flat, parts, rtol=1e-3, atol=1e-6)
    total = (errors.standard_error**2 - errors.misfit**2).sum()
    assert flat.sum() == pytest.approx(total, rel=0.1)


def test_covariance_is_symmetric_semidefinite_with_the_variances_on_its_diagonal(errors):
    covariance = errors.covariance()
    np.testing.assert_array_equal(covariance, covariance.swapaxes(0, 1))
    diagonal = np.einsum("iirc->irc", covariance)
    np.testing.assert_allclose(diagonal, errors.standard_error**2, rtol=1e-4)
    lowest = np.linalg.eigvalsh(np.moveaxis(covariance, (0, 1), (2, 3)))[..., 0]
    assert (lowest >= -1e-5 * diagonal.max()).all()


def test_error_of_a_region_is_that_of_its_mean(errors):
    mask = np.zeros(SHAPE[1:], bool)
    mask[2:9, 3:12] = True
    one = np.zeros_like(mask)
    one[4, 5] = True
    region = errors.region_error(mask)
    assert (region < errors.standard_error[:, mask].mean(axis=1)).all()
    rms = np.sqrt((errors.errors[:, :, 4, 5] ** 2).mean(axis=0))
    agreed = replace(errors, residual=np.zeros_like(errors.residual))
    # Of Student's t with 5 degrees of freedom 68.27 % are within 1.1105.
    np.testing.assert_allclose(agreed.region_error(one), 1.1105 * rms, rtol=1e-3)


@pytest.mark.parametrize("deviations, excess", [(0.0, 0.0), (1.9, 0.0), (3.0, 5.0), (-10.0, 96.0)])
def test_counts_that_contradict_the_mean_of_a_region_widen_its_error(errors, deviations, excess):
    """A mean of counts scatters by chance: only what is beyond two standard deviations says something."""
    mask = np.zeros(SHAPE[1:], bool)
    mask[2:9, 3:12] = True
    variance = errors.noise[:, mask].mean(axis=1) / mask.sum()

    def with_residual(size):
        residual = mask * size[:, None, None].astype(np.float32)
        return replace(errors, residual=residual).region_error(mask)

    found = with_residual(deviations * np.sqrt(variance))
    expected = np.sqrt(with_residual(0 * variance) ** 2 + excess * variance)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_counts_that_contradict_the_map_everywhere_widen_the_error_of_a_region(errors, scale):
    """By the mean over all places of a region of this shape, less one standard deviation of that."""
    rng = np.random.default_rng(3)
    corner = np.array([[True, True], [True, False]])
    mask = np.zeros(SHAPE[1:], bool)
    mask[5:7, 4:6] = corner
    noise = errors.noise + rng.uniform(0, 1, SHAPE).astype(np.float32)
    residual = (scale * np.sqrt(noise) * rng.normal(size=SHAPE)).astype(np.float32)
    residual[:, mask] = 0.0
    agreed = replace(errors, noise=noise, residual=np.zeros_like(noise)).region_error(mask)
    found = replace(errors, noise=noise, residual=residual).region_error(mask)
    for e in range(SHAPE[0]):
        squares, variances = [], []
        for r in range(SHAPE[1] - 1):
            for c in range(SHAPE[2] - 1):
                place = (e, slice(r, r + 2), slice(c, c + 2))
                squares.append(residual[place][corner].mean() ** 2)
                variances.append(noise[place][corner].sum() / 9)
        doubt = np.sqrt(2 * np.mean(np.square(variances)) * 3 / len(squares))
        excess = max(np.mean(squares) - np.mean(variances) - doubt, 0.0)
        excess *= noise[e][mask].sum() / 9 / np.mean(variances)
        assert found[e] == pytest.approx(np.sqrt(agreed[e] ** 2 + excess), rel=1e-4)
        assert (excess > 0) == (scale > 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0, 9.0])
def test_the_pilot_is_rougher_than_the_maps(smoothing):
    """But no rougher than the truth would be if smoothing were linear."""
    kept = np.mean([1 / (1 + strength * smoothing) for strength in PILOT_STRENGTHS])
    assert (1 + smoothing) ** -1.0 <= kept <= (1 + smoothing) ** -0.5
    assert smoothing == 0 or kept > 1.03 / (1 + smoothing)


def test_the_maps_to_draw_from_can_be_given(problem, maps, errors):
    given = bootstrap(problem, maps, replicates=6, pilot=errors.pilot)
    np.testing.assert_array_equal(given.errors, errors.errors)
    other = bootstrap(problem, maps, replicates=6, pilot=2 * errors.pilot)
    np.testing.assert_array_equal(other.pilot, 2 * errors.pilot)
    with pytest.raises(ValueError, match="pilot must have the shape"):
        bootstrap(problem, maps, pilot=maps[:1])
    with pytest.raises(ValueError, match="pilot must be finite; 960 of its values are not"):
        bootstrap(problem, maps, pilot=np.full(SHAPE, np.nan))


@pytest.mark.parametrize("regularization, strength", [("tv", 1.0), ("tgv", 1.5)])
def test_detail_that_was_smoothed_away_is_in_the_error(regularization, strength):
    """At the strength of about the least error."""
    ratios = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = gaussian_filter(rng.normal(size=(48, 48)), 3.0, mode="wrap")
        truth = np.exp(0.7 * truth / truth.std())[None]
        problem = FusionProblem(
            rng.poisson(truth), lambda_tv=strength, regularization=regularization
        )
        maps = solve(problem, keep_counts=True).maps
        found = bootstrap(problem, maps, replicates=8, keep_counts=True).standard_error
        ratios.append(np.sqrt((found**2).mean() / ((maps - truth) ** 2).mean()))
    assert 0.95 < np.mean(ratios) < 1.5


def test_weights_that_are_not_well_known_make_the_error_larger(problem, maps, errors):
    relative = 0.1
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = relative**2 * np.outer(problem.weights, problem.weights)
    found = bootstrap(problem, maps, replicates=40, weights_covariance=covariance)
    before = bootstrap(problem, maps, replicates=40)
    # All weights too large by a part make the maps that the image determines too small by the same.
    determined = np.tensordot(problem.weights, maps, 1).mean()
    spread = [np.tensordot(problem.weights, b.errors.mean(axis=(2, 3)).T, 1).std() for b in (before, found)]
    assert np.sqrt(spread[1] ** 2 - spread[0] ** 2) == pytest.approx(relative * determined, rel=0.35)
    nothing = bootstrap(problem, maps, replicates=6, weights_covariance=np.zeros((3, 3)))
    np.testing.assert_array_equal(nothing.errors, errors.errors)


def test_covariance_of_the_weights_of_another_shape_is_refused(problem, maps):
    with pytest.raises(ValueError, match=r"weights_covariance must have the shape \(3, 3\)"):
        bootstrap(problem, maps, weights_covariance=np.eye(2))


def test_maps_that_the_counts_contradict_have_larger_errors(problem, maps, errors):
    shifted = maps.copy()
    shifted[1] += 1.0
    found = bootstrap(problem, shifted, replicates=3)
    assert (errors.misfit.mean(axis=(1, 2)) < 0.1).all()
    assert found.misfit[0].mean() < 0.1 and found.misfit[1].mean() == pytest.approx(1.0, abs=0.2)
    assert (found.standard_error[1] >= found.misfit[1]).all()
    assert found.region_error(np.ones(SHAPE[1:], bool))[1] == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("forward", ["linear", "power"])
@pytest.mark.parametrize("fidelity", ["poisson", "gaussian"])
def test_both_forward_models_and_likelihoods(forward, fidelity):
    problem = make_problem(forward, fidelity)
    found = bootstrap(problem, solve(problem).maps, replicates=3)
    assert np.isfinite(found.standard_error).all() and (found.standard_error > 0).all()
    assert (found.standard_error < 2.5).all()


def test_no_counts_anywhere_give_small_finite_errors():
    problem = FusionProblem(np.zeros(SHAPE), np.eye(24, 20), weights=np.zeros(2))
    found = bootstrap(problem, np.zeros(SHAPE), replicates=3)
    assert np.isfinite(found.standard_error).all()
    np.testing.assert_allclose(found.pilot, 0.5 / 480, rtol=1e-6)
    np.testing.assert_allclose(upper_limit(problem), 2.9957 / 480, rtol=1e-4)


def test_pixels_the_image_leaves_out_are_drawn_all_the_same():
    problem = make_problem(haadf_noise=np.where(np.eye(24, 20) > 0, np.inf, 0.2))
    assert np.isfinite(bootstrap(problem, solve(problem).maps, replicates=2).errors).all()


def test_progress_is_told_and_an_exception_ends_the_work(problem, maps):
    told = []
    bootstrap(problem, maps, replicates=3, callback=lambda *values: told.append(values))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done, replicates):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap(problem, maps, replicates=50, callback=stop)


@pytest.mark.parametrize(
    "wrong", [{"replicates": 1}, {"seed": -1}, {"num_workers": 0}, {"replicates": 2.5}]
)
def test_wrong_arguments_are_named(problem, maps, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number"):
        bootstrap(problem, maps, **wrong)


def test_maps_of_another_shape_are_refused(problem, maps):
    with pytest.raises(ValueError, match="maps must have the shape"):
        bootstrap(problem, maps[:1])


@pytest.mark.parametrize("counts, limit", [(0, 2.996), (1, 4.744), (5, 10.513)])
def test_limits_without_background_are_the_classical_ones(counts, limit):
    assert float(poisson_limit(counts, 0.0)) == pytest.approx(limit, abs=2e-3)


def test_limit_with_background_is_the_posterior_quantile():
    s = np.linspace(0, 60, 200001)
    density = np.exp(-(s + 3.0)) * (s + 3.0) ** 4
    cumulative = np.cumsum(density) / density.sum()
    assert float(poisson_limit(4, 3.0)) == pytest.approx(
        s[np.searchsorted(cumulative, 0.95)], abs=2e-3
    )


def test_limits_hold_as_often_as_they_say():
    rng = np.random.default_rng(0)
    limits = poisson_limit(rng.poisson(2.0 + 1.0, 20000), 1.0)
    assert (limits > 2.0).mean() >= 0.95


def test_gaussian_limit_of_a_map_far_from_zero_is_the_gaussian_quantile():
    # A flat map is averaged over the widest blur there is.
    problem = FusionProblem(np.full((1, 64, 64), 100.0), fidelity="gaussian", noise=1.0)
    expected = 100.0 + 1.6449 * kernel_energy(BLUR_WIDTHS[-1]) ** 0.5
    np.testing.assert_allclose(upper_limit(problem), expected, rtol=1e-5)


def test_confidence_out_of_range_is_refused(problem):
    with pytest.raises(ValueError, match="confidence must lie within"):
        upper_limit(problem, 1.0)
