"""Weights, offset and noise of the HAADF image from the maps."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver import calibrate_haadf
from hyperspy_fusedmm.solver.smoothing import blur

WEIGHTS = np.array([0.5, 0.2, 1.0])
OFFSET, NOISE = 5.0, 0.1


def patches(elements, seed, size=128, counts=0.5):
    """Maps of independent square patches, ``counts`` per pixel on average."""
    rng = np.random.default_rng(seed)
    truth = rng.random((elements, 8, 8)).repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    return counts * truth / truth.mean(axis=(1, 2), keepdims=True)


def image(truth, weights, seed, noise=NOISE):
    rng = np.random.default_rng(seed + 1)
    return OFFSET + np.tensordot(weights, truth, 1) + noise * rng.normal(size=truth.shape[1:])


def counted(truth, seed):
    return np.random.default_rng(seed + 2).poisson(truth)


def collinear(seed, counts=2.0):
    """A third map that is the sum of the other two."""
    first, second = patches(2, seed, counts=counts)
    return np.stack([first, second, first + second])


@pytest.fixture(scope="module")
def fits():
    """Calibrations of 25 simulated recordings at 0.5 counts per pixel."""
    found = []
    for seed in range(0, 75, 3):
        truth = patches(3, seed)
        found.append(calibrate_haadf(counted(truth, seed), image(truth, WEIGHTS, seed), [1, 1, 1]))
    return found


def test_weights_and_offset_are_found_without_attenuation(fits):
    assert all(fit.identified for fit in fits)
    weights = np.array([fit.weights for fit in fits])
    error = weights.std(axis=0) / np.sqrt(len(fits))
    np.testing.assert_array_less(
        np.abs(weights.mean(axis=0) - WEIGHTS), 3.5 * error + 0.01 * WEIGHTS
    )
    offsets = np.array([fit.offset for fit in fits])
    assert abs(offsets.mean() - OFFSET) <= 3.5 * offsets.std() / np.sqrt(len(fits)) + 0.01


def test_plain_least_squares_would_be_attenuated():
    """What the correction is for: at these counts the noise of the maps lowers the slopes."""
    ratios = []
    for seed in range(0, 30, 3):
        truth = patches(3, seed)
        maps = np.stack([blur(m, 2.0) for m in counted(truth, seed)]).reshape(3, -1)
        haadf = blur(image(truth, WEIGHTS, seed), 2.0).ravel()
        slopes = np.linalg.lstsq(
            np.vstack([maps, np.ones(maps.shape[1])]).T, haadf, rcond=None
        )[0][:3]  # fmt: skip
        ratios.append(slopes[[0, 2]] / WEIGHTS[[0, 2]])
    assert (np.mean(ratios, axis=0) < 0.95).all()


def test_standard_errors_are_those_of_repeated_measurements(fits):
    weights = np.array([(fit.weights - WEIGHTS) / fit.weights_error for fit in fits])
    offsets = np.array([(fit.offset - OFFSET) / fit.offset_error for fit in fits])
    for scores in (*weights.T, offsets):
        assert 0.6 < np.sqrt((scores**2).mean()) < 1.6


def test_standard_errors_fall_with_counts():
    errors = []
    for counts in (0.5, 5.0, 50.0):
        truth = patches(3, 0, counts=counts)
        fit = calibrate_haadf(counted(truth, 0), image(truth, WEIGHTS / counts, 0), [1, 1, 1])
        errors.append(fit.weights_error * counts)
    assert (errors[0] > 1.5 * errors[1]).all() and (errors[1] > 1.5 * errors[2]).all()


def test_noise_is_the_detectors_where_the_model_holds(fits):
    noise = np.array([fit.noise for fit in fits])
    assert abs(np.median(noise) - NOISE) < 0.1 * NOISE


def test_noise_includes_the_error_of_the_model():
    truth = patches(2, 4, counts=5.0)
    missing = 0.5 * (patches(1, 400, counts=1.0)[0] - 1)
    haadf = image(truth, WEIGHTS[:2], 4) + missing
    fit = calibrate_haadf(counted(truth, 4), haadf, [1, 1])
    # Patches that the maps explain by chance only are left over, but for the blurred edges.
    expected = np.hypot(NOISE, missing.std())
    assert 0.75 * expected < fit.noise < 1.05 * expected


def test_exact_maps_give_exact_weights():
    truth = patches(3, 5, counts=1e6)
    fit = calibrate_haadf(
        truth, 5 + np.tensordot(WEIGHTS, truth, 1), [1, 1, 1], fidelity="gaussian", noise=0.0
    )
    assert fit.identified
    np.testing.assert_allclose(fit.weights, WEIGHTS, rtol=1e-4)
    assert fit.offset == pytest.approx(5, abs=1e-4 * 1e6)


@pytest.mark.parametrize("known", [True, False])
def test_gaussian_maps(known):
    rng = np.random.default_rng(6)
    truth = patches(3, 6, counts=1.0)
    sigma = np.array([0.5, 1.0, 0.8])
    maps = truth + sigma[:, None, None] * rng.normal(size=truth.shape)
    fit = calibrate_haadf(
        maps,
        image(truth, WEIGHTS, 6),
        [1, 1, 1],
        fidelity="gaussian",
        noise=sigma if known else None,
    )
    assert fit.identified
    np.testing.assert_array_less(np.abs(fit.weights - WEIGHTS), 4 * fit.weights_error)
    assert (fit.weights_error < 0.2).all()


def test_mixed_fidelity():
    rng = np.random.default_rng(7)
    truth = patches(2, 7, counts=1.0)
    maps = np.stack([counted(truth[0], 7), truth[1] + 0.7 * rng.normal(size=truth[1].shape)])
    fit = calibrate_haadf(
        maps, image(truth, WEIGHTS[:2], 7), [1, 1], fidelity=("poisson", "gaussian")
    )
    np.testing.assert_array_less(np.abs(fit.weights - WEIGHTS[:2]), 4 * fit.weights_error)


@pytest.mark.parametrize("form", ["number", "per element", "map"])
def test_background_counts_make_no_haadf_signal(form):
    truth = patches(2, 8, counts=2.0)
    rows = np.linspace(0, 2, 128)[:, None]
    background = {
        "number": np.asarray(1.5),
        "per element": np.array([0.5, 2.0]),
        # Where the background is known per pixel, it may vary as it likes.
        "map": np.stack([np.broadcast_to(rows, (128, 128)), np.broadcast_to(rows.T, (128, 128))]),
    }[form]
    column = background[:, None, None] if background.ndim == 1 else background
    maps = counted(truth + column, 8)
    haadf = image(truth, WEIGHTS[:2], 8)
    fit = calibrate_haadf(maps, haadf, [1, 1], background=background)
    np.testing.assert_array_less(np.abs(fit.weights - WEIGHTS[:2]), 4 * fit.weights_error)
    assert abs(fit.offset - OFFSET) < 4 * fit.offset_error
    # Gross counts taken for net ones would be blamed on the offset.
    gross = calibrate_haadf(maps, haadf, [1, 1])
    assert gross.offset < fit.offset - 0.2


def test_collinear_maps_leave_the_weights_to_the_prior():
    truth, prior = collinear(9), np.array([1.0, 3.0, 2.0])
    gain = 0.15
    fit = calibrate_haadf(counted(truth, 9), image(truth, gain * prior, 9), prior)
    assert not fit.identified
    assert "do not determine" in fit.message and "Z^gamma / sensitivity" in fit.message
    # What the maps tell is what adding up is worth; how it is shared out is the prior's, and uncertain.
    np.testing.assert_allclose(fit.weights, gain * prior, rtol=0.05)
    sums = fit.weights[:2] + fit.weights[2]
    np.testing.assert_allclose(sums, gain * (prior[:2] + prior[2]), rtol=0.02)
    spread = np.array([1.0, 0, 1.0]) @ fit.covariance[:-1, :-1] @ np.array([1.0, 0, 1.0])
    assert np.sqrt(spread) < 0.02 * sums[0]
    assert (fit.weights_error > 0.2 * gain).all()
    assert fit.offset == pytest.approx(OFFSET, abs=0.05)


def test_proportional_maps_are_collinear():
    truth = patches(1, 10, counts=3.0)
    fit = calibrate_haadf(
        counted(np.concatenate([truth, 2 * truth]), 10), image(truth, [1.0], 10), [1.0, 1.0]
    )
    assert not fit.identified
    np.testing.assert_allclose(fit.weights, 1 / 3, rtol=0.03)


def test_too_few_counts_leave_the_weights_to_the_prior():
    truth = patches(3, 11, size=64, counts=0.002)
    fit = calibrate_haadf(counted(truth, 11), image(truth, WEIGHTS, 11), [1.0, 2.0, 3.0])
    assert not fit.identified
    np.testing.assert_allclose(fit.weights * [6, 3, 2], fit.weights[0] * 6, rtol=1e-3)
    assert (fit.weights_error > 0.5 * fit.weights).all()


def test_the_prior_takes_over_smoothly():
    """From maps of which one is the sum of the others to maps of their own."""
    first, second, other = patches(3, 21, counts=2.0)
    prior, shares, weights = np.array([1.0, 3.0, 2.0]), [], []
    for own in np.linspace(0, 1, 6) ** 2:
        truth = np.stack([first, second, (1 - own) * (first + second) + 2 * own * other])
        fit = calibrate_haadf(counted(truth, 21), image(truth, WEIGHTS, 21), prior)
        shares.append(fit.data_share)
        weights.append(np.abs(fit.weights - WEIGHTS))
        assert fit.identified == (fit.data_share > 0.5).all()
    assert (np.diff(shares, axis=0) > -0.05).all()
    assert (shares[0] < 0.95).all() and shares[0].min() < 0.4 and shares[-1].min() > 0.99
    assert (weights[-1] < 0.1 * WEIGHTS).all()


@pytest.mark.parametrize("fixed_ratios", [False, True])
def test_a_given_offset_is_used_for_the_weights(fixed_ratios):
    errors, free = [], []
    for seed in range(0, 30, 3):
        truth = patches(3, seed)
        maps, haadf = counted(truth, seed), image(truth, WEIGHTS, seed)
        fit = calibrate_haadf(maps, haadf, WEIGHTS, offset=OFFSET, fixed_ratios=fixed_ratios)
        assert (fit.offset, fit.offset_error) == (OFFSET, 0.0)
        errors.append((fit.weights - WEIGHTS) / fit.weights_error)
        other = calibrate_haadf(maps, haadf, WEIGHTS, fixed_ratios=fixed_ratios)
        free.append(other.weights_error / fit.weights_error)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.5
    assert np.mean(free) > 1.2


def test_some_given_weights_are_kept_and_the_others_found():
    truth = patches(3, 22)
    maps, haadf = counted(truth, 22), image(truth, WEIGHTS, 22)
    fit = calibrate_haadf(maps, haadf, [1, 1, 1], weights=[0.5, np.nan, np.nan])
    assert (fit.weights[0], fit.weights_error[0]) == (0.5, 0.0)
    np.testing.assert_array_less(np.abs(fit.weights - WEIGHTS)[1:], 4 * fit.weights_error[1:])
    free = calibrate_haadf(maps, haadf, [1, 1, 1])
    assert (fit.weights_error <= 1.05 * free.weights_error).all()
    # What is given tells the factor of the prior as well.
    truth = collinear(22)
    prior = np.array([1.0, 3.0, 2.0])
    maps, haadf = counted(truth, 22), image(truth, 0.15 * prior, 22)
    fit = calibrate_haadf(maps, haadf, prior, weights=[np.nan, 0.45, np.nan])
    assert fit.identified
    np.testing.assert_allclose(fit.weights, 0.15 * prior, rtol=0.15)


def test_gamma_is_found_from_the_weights():
    numbers, gamma = np.array([8.0, 27.0, 66.0]), 1.6
    scores = []
    for seed in range(0, 30, 3):
        truth = patches(3, seed, counts=2.0)
        weights = 2e-3 * numbers**gamma
        fit = calibrate_haadf(
            counted(truth, seed), image(truth, weights, seed), [1, 1, 1], atomic_numbers=numbers
        )
        np.testing.assert_allclose(
            fit.weights / fit.weights[0], (numbers / 8) ** fit.gamma, rtol=1e-9
        )
        scores.append((fit.gamma - gamma) / fit.gamma_error)
        assert fit.gamma_error < 0.1
    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 1.6


@pytest.mark.parametrize("gamma, bound", [(1.0, 4 / 3), (2.4, 2.0)])
def test_gamma_ends_at_the_bounds(gamma, bound):
    numbers, truth = np.array([8.0, 27.0, 66.0]), patches(3, 23, counts=2.0)
    haadf = image(truth, 1e-3 * numbers**gamma, 23)
    fit = calibrate_haadf(counted(truth, 23), haadf, [1, 1, 1], atomic_numbers=numbers)
    assert fit.gamma == pytest.approx(bound, abs=1e-3)


@pytest.mark.parametrize("numbers", [[26, 26, 26], [26.0, 27.0, 26.5]])
def test_gamma_that_the_maps_do_not_tell_is_kept(numbers):
    truth = patches(3, 24)
    haadf = image(truth, [0.5, 0.5, 0.5], 24)
    fit = calibrate_haadf(
        counted(truth, 24), haadf, [1, 1, 1], atomic_numbers=np.array(numbers, float), gamma=1.65
    )
    assert fit.gamma == 1.65
    assert fit.gamma_error == pytest.approx((2 - 4 / 3) / np.sqrt(12))


def test_fixed_ratios():
    truth = patches(3, 12)
    haadf = image(truth, WEIGHTS, 12)
    fit = calibrate_haadf(counted(truth, 12), haadf, 40 * WEIGHTS, fixed_ratios=True)
    np.testing.assert_allclose(fit.weights, fit.weights[0] * WEIGHTS / WEIGHTS[0], rtol=1e-10)
    np.testing.assert_allclose(fit.weights, WEIGHTS, rtol=0.03)
    assert "ratios of the weights were given" in fit.message
    # Even where they are not the true ones.
    other = calibrate_haadf(counted(truth, 12), haadf, [1, 1, 1], fixed_ratios=True)
    assert np.ptp(other.weights) == 0 and other.noise > fit.noise


def test_the_factor_of_the_prior_does_not_matter():
    truth = collinear(13)
    maps, haadf = counted(truth, 13), image(truth, WEIGHTS, 13)
    first = calibrate_haadf(maps, haadf, [1.0, 2.0, 3.0])
    second = calibrate_haadf(maps, haadf, [1e-6, 2e-6, 3e-6])
    np.testing.assert_allclose(first.weights, second.weights, rtol=1e-6)


def test_given_weights_are_kept_and_the_offset_found():
    truth = patches(3, 14)
    fit = calibrate_haadf(counted(truth, 14), image(truth, WEIGHTS, 14), [1, 1, 1], weights=WEIGHTS)
    np.testing.assert_array_equal(fit.weights, WEIGHTS)
    np.testing.assert_allclose(fit.weights_error, 0, atol=1e-12)
    assert abs(fit.offset - OFFSET) < 4 * fit.offset_error
    assert fit.noise == pytest.approx(NOISE, rel=0.15)
    assert fit.identified and "given" in fit.message
    wrong = calibrate_haadf(
        counted(truth, 14), image(truth, WEIGHTS, 14), [1, 1, 1], weights=3 * WEIGHTS
    )
    assert wrong.noise > 2 * fit.noise


def test_weights_are_never_negative():
    truth = patches(3, 15)
    haadf = image(truth, np.array([1.0, -0.6, 0.5]), 15)
    fit = calibrate_haadf(counted(truth, 15), haadf, [1, 1, 1])
    assert (fit.weights >= 0).all() and fit.weights[1] == 0
    down = calibrate_haadf(counted(truth, 15), -haadf, [1, 1, 1], fixed_ratios=True)
    assert (down.weights == 0).all()
    assert down.offset == pytest.approx(-haadf.mean(), rel=1e-3)


def test_scaling_and_permuting():
    truth = patches(3, 16, counts=5.0)
    maps, haadf = counted(truth, 16), image(truth, WEIGHTS, 16)
    fit = calibrate_haadf(maps, haadf, [1, 1, 1])
    brighter = calibrate_haadf(maps, 7 * haadf + 3, [1, 1, 1])
    np.testing.assert_allclose(brighter.weights, 7 * fit.weights, rtol=1e-3)
    assert brighter.offset == pytest.approx(7 * fit.offset + 3, rel=1e-3)
    assert brighter.noise == pytest.approx(7 * fit.noise, rel=1e-2)
    order = [2, 0, 1]
    permuted = calibrate_haadf(maps[order], haadf, [1, 1, 1])
    np.testing.assert_allclose(permuted.weights, fit.weights[order], rtol=1e-5)


def test_an_empty_map_gets_no_weight():
    truth = patches(3, 17, counts=3.0)
    truth[1] = 0
    fit = calibrate_haadf(counted(truth, 17), image(truth, WEIGHTS, 17), [1, 1, 1])
    assert fit.weights[1] == 0
    np.testing.assert_allclose(fit.weights[[0, 2]], WEIGHTS[[0, 2]], rtol=0.05)


def test_a_constant_map_tells_nothing_of_its_weight():
    truth = patches(2, 18, counts=5.0)
    truth[1] = 20.0
    maps = np.stack([counted(truth[0], 18), np.full(truth[1].shape, 20)])
    fit = calibrate_haadf(maps, image(truth, WEIGHTS[:2], 18), [1, 1])
    assert np.isfinite(fit.weights).all() and (fit.weights >= 0).all()
    assert np.isfinite([fit.offset, fit.noise]).all()


@pytest.mark.parametrize(
    "maps, haadf",
    [
        (np.zeros((2, 16, 16)), np.random.default_rng(0).random((16, 16))),
        (np.ones((2, 16, 16)), np.full((16, 16), 3.0)),
        (np.random.default_rng(0).poisson(2.0, (2, 16, 16)), np.full((16, 16), 3.0)),
        (np.full((1, 1, 1), 4.0), np.full((1, 1), 9.0)),
        (np.random.default_rng(0).poisson(2.0, (2, 1, 30)), np.arange(30.0)[None]),
        (np.random.default_rng(0).poisson(2.0, (2, 30, 1)), np.arange(30.0)[:, None]),
        (np.random.default_rng(0).poisson(2.0, (5, 3, 3)), np.arange(9.0).reshape(3, 3)),
    ],
)
def test_hardly_any_data_give_numbers_all_the_same(maps, haadf):
    fit = calibrate_haadf(maps, haadf, np.ones(len(maps)))
    assert fit.weights.shape == (len(maps),) and np.isfinite(fit.weights).all()
    assert (fit.weights >= 0).all()
    assert np.isfinite(fit.offset) and fit.noise >= 0 and np.isfinite(fit.noise)
    assert isinstance(fit.message, str) and fit.message.endswith(".")


def test_empty_maps_are_reported():
    haadf = np.random.default_rng(0).normal(7, 1, (16, 16))
    fit = calibrate_haadf(np.zeros((2, 16, 16)), haadf, [1, 1])
    assert not fit.identified and "empty" in fit.message
    assert (fit.weights == 0).all() and fit.offset == pytest.approx(haadf.mean(), rel=1e-6)


def test_inputs_are_not_changed():
    truth = patches(3, 19)
    maps, haadf, prior = counted(truth, 19), image(truth, WEIGHTS, 19), np.ones(3)
    before = maps.copy(), haadf.copy(), prior.copy()
    calibrate_haadf(maps, haadf, prior, background=np.zeros(3), noise=np.ones(3))
    for now, then in zip((maps, haadf, prior), before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_the_type_of_the_numbers_does_not_matter(dtype):
    truth = patches(2, 20, counts=3.0)
    maps, haadf = counted(truth, 20), np.round(20 * image(truth, WEIGHTS[:2], 20))
    expected = calibrate_haadf(maps, haadf, [1, 1], background=0.5)
    found = calibrate_haadf(maps.astype(dtype), haadf.astype(dtype), [1, 1], background=0.5)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-4)
    assert found.offset == pytest.approx(expected.offset, rel=1e-4)
