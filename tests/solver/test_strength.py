"""Strength of the regularization per element and pixel, its direction, noise levels, blurs."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hyperspy_fusedmm.solver import (
    default_strength,
    estimate_noise,
    haadf_guide,
    pilot_weights,
)
from hyperspy_fusedmm.solver.operators import gradient
from hyperspy_fusedmm.solver.smoothing import (
    BLUR_WIDTHS,
    blur,
    chosen_blur,
    gradient_energy,
    kernel_energy,
)


def cone(size=96, height=4.0):
    rows, columns = np.mgrid[:size, :size] - size / 2
    return height * np.clip(1 - np.hypot(rows, columns) / (0.4 * size), 0, None) + 0.05 * height


@pytest.mark.parametrize("factor", [0.01, 0.5, 30.0])
def test_default_strength_falls_with_the_root_of_the_dose(factor):
    maps = np.stack([cone(), 0.3 * cone()])
    np.testing.assert_allclose(
        default_strength(factor * maps), default_strength(maps) / np.sqrt(factor), rtol=1e-6
    )


def test_default_strength_of_every_element_is_its_own():
    maps = np.random.default_rng(0).poisson([[[4.0]], [[1.0]], [[0.25]]], (3, 128, 128))
    strength = default_strength(maps)
    np.testing.assert_allclose(strength / strength[1], [0.5, 1, 2], rtol=0.03)
    np.testing.assert_allclose(default_strength(maps[2:]), strength[2:])


def test_default_strength_of_gaussian_maps_falls_with_their_noise():
    rng = np.random.default_rng(0)
    maps = np.stack([cone(), cone()]) + np.array([0.1, 0.4])[:, None, None] * rng.normal(
        size=(2, 96, 96)
    )
    known = default_strength(maps, "gaussian", [0.1, 0.4])
    assert known[0] / known[1] == pytest.approx(4)
    np.testing.assert_allclose(default_strength(maps, "gaussian"), known, rtol=0.1)
    per_pixel = default_strength(
        maps, "gaussian", np.array([0.1, 0.4])[:, None, None] * np.ones((2, 96, 96))
    )
    np.testing.assert_allclose(per_pixel, known)


def test_default_strength_of_mixed_maps():
    counts = np.random.default_rng(0).poisson(2.0, (2, 64, 64))
    mixed = default_strength(counts, ("poisson", "gaussian"), [9.0, 0.5])
    assert mixed[0] == default_strength(counts)[0]
    assert mixed[1] == default_strength(counts, "gaussian", [9.0, 0.5])[1]


def test_default_strength_is_the_noise_of_the_gradient_of_the_likelihood():
    """The derivative of x - b log x at x = mean counts is 1 - b / x, which varies by 1 / sqrt(x)."""
    counts = np.random.default_rng(0).poisson(3.0, (1, 256, 256))
    slope = 1 - counts / 3.0
    ratio = default_strength(counts)[0] / slope.std()
    assert 0.3 < ratio < 2.0


def test_default_strength_of_an_empty_map_is_finite():
    strength = default_strength(np.zeros((2, 8, 8)))
    assert np.isfinite(strength).all() and (strength > 0).all()
    assert np.isfinite(default_strength(np.full((1, 1, 1), 3))).all()


def test_pilot_weights_are_one_where_maps_are_flat():
    flat = np.random.default_rng(0).poisson(20.0, (1, 64, 64))
    np.testing.assert_allclose(pilot_weights(flat), 1, atol=0.1)
    np.testing.assert_allclose(pilot_weights(np.full((1, 8, 8), 5)), 1, atol=1e-5)


def test_pilot_weights_follow_the_inverse_root_of_the_counts():
    expected = np.ones((64, 64))
    expected[:, 32:] = 9.0
    counts = np.random.default_rng(0).poisson(20 * expected)
    weights = pilot_weights(counts[None])[0]
    inside = weights[8:-8, 8:24].mean() / weights[8:-8, 40:56].mean()
    assert inside == pytest.approx(3, rel=0.05)
    # The inverse square is the pilot over its mean.
    assert (weights**-2.0).mean() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("counts_per_pixel", [0.1, 1.0, 100.0])
def test_pilot_weights_have_limits(counts_per_pixel):
    counts = np.random.default_rng(0).poisson(counts_per_pixel * cone(height=1.0) ** 4)
    weights = pilot_weights(np.stack([counts, counts]))
    assert weights.dtype == np.float32 and weights.shape == (2, 96, 96)
    assert weights.max() <= 0.02**-0.5 * (1 + 1e-5)
    assert weights.min() > 0 and np.isfinite(weights).all()
    # The lower limit of the pilot can only raise its mean.
    assert 1 - 1e-4 <= (weights[0] ** -2.0).mean() <= 1.02
    np.testing.assert_array_equal(weights[0], weights[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_pilot_weights_do_not_depend_on_the_type_of_the_numbers(dtype):
    counts = np.random.default_rng(0).poisson(cone())[None]
    found = pilot_weights(counts.astype(dtype))
    np.testing.assert_array_equal(found, pilot_weights(counts.astype(np.float32)))


def test_pilot_weights_of_other_maps_are_one():
    maps = np.stack([cone(), np.zeros((96, 96)), np.random.default_rng(0).poisson(cone())])
    weights = pilot_weights(maps, ("gaussian", "poisson", "poisson"))
    assert (weights[:2] == 1).all() and np.ptp(weights[2]) > 0.5
    assert (pilot_weights(maps, "gaussian") == 1).all()
    assert pilot_weights(np.full((1, 1, 1), 7)).item() == pytest.approx(1)


def noisy(image, noise, seed=0):
    return image + noise * np.random.default_rng(seed).normal(size=image.shape)


@pytest.mark.parametrize(
    "image",
    [
        cone(),
        np.zeros((12, 10)),
        np.full((1, 1), 3.0),
        np.arange(20.0)[None],
        np.arange(20.0)[:, None],
        1e9 * cone(),
        1e-9 * cone(),
        noisy(cone(), 0.1),
        noisy(np.zeros((40, 40)), 1.0),
    ],
)
def test_guide_is_shorter_than_one(image):
    guide = haadf_guide(image)
    assert guide.shape == (2,) + image.shape and guide.dtype == np.float32
    assert np.isfinite(guide).all()
    assert (guide.astype(float) ** 2).sum(axis=0).max() <= 0.95 + 1e-6
    # No component across the border, where the gradient has none.
    assert not guide[0, :, -1].any() and not guide[1, -1].any()


def test_guide_of_a_constant_image_is_zero():
    assert not haadf_guide(np.full((20, 30), 7.0)).any()


def test_guide_of_noise_is_small():
    shares = [
        (haadf_guide(noisy(np.zeros((96, 96)), 3.0, seed)) ** 2).sum(axis=0).mean()
        for seed in range(6)
    ]
    # Where the gradient is as large as its noise in both directions: 0.95 * 2 / (2 + 4).
    assert np.mean(shares) < 0.3
    edge = (haadf_guide(noisy(10.0 * (cone() > 1), 0.1)) ** 2).sum(axis=0).max()
    assert edge > 3 * np.mean(shares)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 200, 315])
def test_guide_is_along_the_normal_of_an_edge(degrees):
    normal = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    rows, columns = np.mgrid[:80, :80] - 39.5
    distance = normal[0] * columns + normal[1] * rows
    guide = haadf_guide(noisy(10 * np.tanh(distance / 2), 0.3))
    near = np.abs(distance) < 1.5
    near[:8] = near[-8:] = near[:, :8] = near[:, -8:] = False
    vectors = guide[:, near].astype(float)
    length = np.hypot(*vectors)
    assert length.min() > 0.95
    cosine = (normal @ vectors) / length
    assert cosine.min() > np.cos(np.radians(20)) and cosine.mean() > np.cos(np.radians(9))
    far = np.abs(distance) > 20
    assert (guide[:, far] ** 2).sum(axis=0).mean() < 0.3


def test_guide_does_not_depend_on_scale_and_offset():
    image = noisy(cone(), 0.1)
    guide = haadf_guide(image)
    np.testing.assert_allclose(haadf_guide(1e4 * image + 5e4), guide, atol=0.02)
    np.testing.assert_allclose(haadf_guide(-image), -guide, atol=1e-3)
    turned = haadf_guide(image.T)
    np.testing.assert_allclose(turned, guide[::-1].swapaxes(1, 2), atol=1e-4)


@pytest.mark.parametrize("level", [1e-6, 0.3, 1e6])
def test_noise_of_white_noise(level):
    images = level * np.random.default_rng(0).normal(size=(3, 128, 128))
    np.testing.assert_allclose(estimate_noise(images), level, rtol=0.04)


def test_noise_of_several_levels_and_of_thin_images():
    rng = np.random.default_rng(0)
    levels = np.array([0.1, 1.0, 10.0])
    images = levels[:, None, None] * rng.normal(size=(3, 90, 110)) + 50
    np.testing.assert_allclose(estimate_noise(images), levels, rtol=0.05)
    np.testing.assert_allclose(estimate_noise(images[:, :1]), levels, rtol=0.3)


def test_noise_is_hardly_raised_by_structure():
    edges = 20.0 * (cone() > 1) + 5 * (np.mgrid[:96, :96][1] > 50)
    slopes = 0.5 * np.mgrid[:96, :96].sum(axis=0)
    image = noisy(edges + slopes, 0.7)
    assert estimate_noise(image[None])[0] == pytest.approx(0.7, rel=0.1)


def test_noise_is_positive_where_there_is_none():
    images = np.stack([np.zeros((8, 8)), np.full((8, 8), 3.0), np.ones((8, 8))])
    levels = estimate_noise(images)
    assert (levels > 0).all() and (levels < 1e-200).all()
    assert estimate_noise(np.ones((1, 1, 1)))[0] > 0
    few = np.zeros((1, 32, 32))
    few[0, 5, 5] = few[0, 20, 9] = 1
    assert 0.01 < estimate_noise(few)[0] < 0.2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_is_no_noise(dtype):
    """Few counts, shared out over several pixels: exact or rounded, the level is the same."""
    counts = np.random.default_rng(0).poisson(0.05, (96, 96))
    shared = sum(np.roll(counts, s, axis=(0, 1)) for s in ((0, 0), (0, 1), (1, 0), (1, 1)))
    exact = estimate_noise(shared[None].astype(float))[0]
    rounded = (shared / 9).astype(dtype)
    rounded *= 1 + 4 * np.finfo(dtype).eps * np.random.default_rng(1).normal(size=shared.shape)
    assert estimate_noise(rounded[None])[0] == pytest.approx(exact / 9, rel=1e-3)


def test_energies_are_those_of_blurred_noise():
    noise = np.random.default_rng(0).normal(size=(512, 512))
    for width in (0.7, 2.0, 4.0):
        inner = (slice(32, -32),) * 2
        smooth = blur(noise, width)
        assert smooth[inner].var() == pytest.approx(kernel_energy(width), rel=0.15)
        slope = gradient(smooth)[0][inner]
        assert slope.var() == pytest.approx(gradient_energy(width), rel=0.1)


def test_blur_keeps_the_mean_and_mirrors_at_the_border():
    image = np.random.default_rng(0).random((30, 40))
    smooth = blur(image, 2.0)
    assert smooth.mean() == pytest.approx(image.mean(), rel=1e-5)
    np.testing.assert_allclose(smooth, gaussian_filter(image, 2.0), rtol=1e-4)
    np.testing.assert_allclose(blur(np.full((5, 6), 4.0), 3.0), 4.0, rtol=1e-6)


def test_chosen_blur_grows_with_the_noise():
    widths = [
        chosen_blur(noisy(cone(), noise), noise**2)[1] for noise in (0.01, 0.1, 0.5, 2.0, 10.0)
    ]
    assert (np.diff(widths) >= 0).all() and widths[-1] > 2 * widths[0] > 0


def test_chosen_blur_of_counts_grows_as_they_get_fewer():
    widths = [
        chosen_blur(np.random.default_rng(0).poisson(counts * cone()))[1]
        for counts in (1000, 30, 1, 0.1)
    ]
    assert (np.diff(widths) >= 0).all() and widths[-1] > 2 * widths[0]


@pytest.mark.parametrize("counts", [None, 0.3, 3.0])
def test_chosen_blur_is_nearly_the_best(counts):
    truth = cone() if counts is None else counts * cone()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        data = noisy(truth, 0.8, seed) if counts is None else rng.poisson(truth)
        smooth, width = chosen_blur(data, None if counts else 0.64)
        np.testing.assert_array_equal(smooth, blur(data, width))
        errors = [((blur(data, w) - truth) ** 2).mean() for w in BLUR_WIDTHS]
        assert ((smooth - truth) ** 2).mean() <= 1.5 * min(errors)


def test_chosen_blur_of_an_image_without_noise_is_the_least():
    smooth, width = chosen_blur(cone(), 0.0)
    assert width <= BLUR_WIDTHS[0]
    np.testing.assert_allclose(smooth, cone(), atol=0.1)


def test_chosen_blur_of_one_pixel():
    smooth, width = chosen_blur(np.full((1, 1), 3.0), 1.0)
    assert smooth.shape == (1, 1) and width == 0
