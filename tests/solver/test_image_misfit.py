"""What is wrong with an image: nothing where it is right, and the right thing where it is not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_fusedmm.solver import FusionProblem
from hyperspy_fusedmm.solver.image_misfit import misfit, predicted, saturated_shares

NOISE = 0.05


def specimen(seed=0, side=96, dose=3.0):
    """Two elements with smooth maps, and the image that they make."""
    rng = np.random.default_rng(seed)
    truth = np.stack([gaussian_filter(rng.random((side, side)), 5, mode="wrap") for _ in range(2)])
    truth -= truth.min(axis=(1, 2), keepdims=True)
    truth *= dose / truth.mean(axis=(1, 2), keepdims=True)
    weights = np.array([1.0, 0.4])
    image = 2.0 + np.tensordot(weights, truth, 1)
    return rng, truth, weights, image


def judged(rng, truth, weights, image, offset=2.0, **options):
    noisy = image + NOISE * rng.standard_normal(image.shape)
    problem = FusionProblem(
        rng.poisson(truth), haadf=noisy, weights=weights, haadf_offset=offset, **options
    )
    return misfit(noisy, predicted(problem, truth), NOISE)


def test_a_right_image_is_found_right():
    scores = []
    for seed in range(25):
        found = judged(*specimen(seed))
        scores.append(
            (
                found.bend / found.bend_error,
                found.level / found.level_error,
                found.unexplained / found.unexplained_error,
            )
        )
    scores = np.array(scores)
    assert np.abs(scores).max() < 4
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=0.5)
    assert np.abs(scores.mean(axis=0)).max() < 0.8


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_an_image_that_is_not_linear_is_bent(power):
    rng, truth, weights, image = specimen()
    signal = image - 2.0
    bent = 2.0 + signal.mean() * (signal / signal.mean()) ** power
    found = judged(rng, truth, weights, bent)
    assert abs(found.bend) > 5 * found.bend_error and abs(found.bend) > 0.05
    assert (found.bend > 0) == (power < 1)


def test_the_bend_is_the_sagitta():
    """Of s = t^2 from 0 to 1 the chord is 1/4 too high in the middle."""
    side = 128
    position = np.add.outer(np.linspace(0, 1, side), np.zeros(side))
    problem = FusionProblem(
        1e6 * position[np.newaxis], haadf=position, weights=[1e-6], haadf_offset=0.0
    )
    found = misfit(position**2, predicted(problem, None), 1e-3)
    assert found.bend == pytest.approx(-0.25, abs=0.05)


def test_the_level_is_what_vacuum_is_too_bright_by():
    rng, truth, weights, image = specimen()
    span = np.ptp(image)
    found = judged(rng, truth, weights, image, offset=2.0 - 0.2 * span)
    assert found.level == pytest.approx(0.2, abs=4 * found.level_error + 0.05)
    assert found.level > 5 * found.level_error


def test_what_is_in_no_map_is_missed_and_is_bright():
    rng, truth, weights, image = specimen()
    rows, columns = np.indices(image.shape)
    gold = 8 * sum(np.hypot(rows - r, columns - c) < 5 for r, c in ((20, 20), (60, 40), (70, 80)))
    found = judged(rng, truth, weights, image + gold)
    assert found.unexplained > 0.1
    assert found.unexplained > 4 * found.unexplained_error
    assert found.brightness > 1
    assert found.beyond_curve > 4 * found.unexplained_error


def test_all_of_an_image_without_weights_is_unexplained():
    rng, truth, weights, image = specimen()
    found = judged(rng, truth, 0 * weights, image, offset=image.mean())
    assert found.unexplained == pytest.approx(1, abs=0.15)


def test_few_counts_tell_nothing():
    rng, truth, weights, image = specimen()
    found = judged(rng, 0.001 * truth, 1000 * weights, image)
    assert found.unexplained < 4 * found.unexplained_error
    assert abs(found.bend) < 4 * found.bend_error


def test_pixels_that_are_left_out_do_not_count():
    rng, truth, weights, image = specimen()
    use = np.ones(image.shape, bool)
    use[:, :40] = False
    noisy = image + NOISE * rng.standard_normal(image.shape)
    problem = FusionProblem(rng.poisson(truth), haadf=noisy, weights=weights, haadf_offset=2.0)
    spoilt = np.where(use, noisy, noisy + rng.random(image.shape) * 1e-6)
    first = misfit(noisy, predicted(problem, None), NOISE, use)
    second = misfit(spoilt, predicted(problem, None), NOISE, use)
    assert first.bend == pytest.approx(second.bend, abs=1e-4)


def test_the_power_model_is_expanded_about_maps_that_need_not_be_exact():
    rng, truth, weights, _ = specimen(dose=20.0)
    image = 2.0 + ((weights[:, None, None] * truth) ** 1.5).sum(axis=0)
    counts = rng.poisson(truth)
    problem = FusionProblem(
        counts, haadf=image, weights=weights, haadf_offset=2.0, forward="power", gamma=1.5
    )
    prediction = predicted(problem, 0.9 * truth)
    scatter = (prediction.image - image) / np.sqrt(prediction.variance)
    assert abs(scatter.mean()) < 0.1
    assert scatter.std() == pytest.approx(1, abs=0.15)


def test_the_variance_is_that_of_the_prediction():
    rng, truth, weights, image = specimen()
    counts = rng.poisson(truth + 0.5)
    problem = FusionProblem(
        counts, haadf=image, weights=weights, haadf_offset=2.0, background=0.5
    )
    prediction = predicted(problem, None)
    scatter = (prediction.image - image) / np.sqrt(prediction.variance)
    assert abs(scatter.mean()) < 0.05 and scatter.std() == pytest.approx(1, abs=0.05)
    scaled = FusionProblem(counts / 4.0, haadf=image, weights=4 * weights, background=0.125)
    np.testing.assert_allclose(
        predicted(scaled, None, problem, 4.0).variance, prediction.variance, rtol=1e-5
    )


@pytest.mark.parametrize("whole", [False, True])
def test_piles_at_the_ends_are_saturated(whole):
    image = np.random.default_rng(0).normal(1000, 100, (64, 64))
    image = np.rint(image) if whole else image
    assert saturated_shares(image) == (0.0, 0.0)
    dark, bright = saturated_shares(np.clip(image, 850, 1150))
    assert dark == pytest.approx((image <= 850).mean(), rel=0.01)
    assert bright == pytest.approx((image >= 1150).mean(), rel=0.01)


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.random.default_rng(0).poisson(1.0, (64, 64))])
def test_a_constant_image_and_counts_are_not_saturated(image):
    assert saturated_shares(image) == (0.0, 0.0)
