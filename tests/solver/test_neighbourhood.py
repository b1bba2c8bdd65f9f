"""Means over the neighbours of a pixel, without the pixel."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver.neighbourhood import neighbourhood_mean


@pytest.mark.parametrize("width", [1.0, 3.0])
@pytest.mark.parametrize("shape", [(40, 70), (3, 50), (1, 9), (7, 7)])
def test_the_pixel_itself_has_no_part_in_it(width, shape):
    image = np.random.default_rng(0).random(shape)
    before = neighbourhood_mean(image, width)
    for place in [(0, 0), (shape[0] - 1, shape[1] // 2), (shape[0] // 2, shape[1] // 3)]:
        changed = image.copy()
        changed[place] += 100
        after = neighbourhood_mean(changed, width)
        assert after[place] == pytest.approx(before[place], abs=1e-3)
        assert (np.abs(after - before) > 1e-2).any()


def test_a_constant_stays_one():
    np.testing.assert_allclose(neighbourhood_mean(np.full((20, 30), 7.0), 3.0), 7.0, rtol=1e-5)


def test_noise_is_not_in_its_product_with_the_pixel():
    noise = np.random.default_rng(1).standard_normal((400, 400))
    product = (noise * neighbourhood_mean(noise, 1.0)).mean()
    assert abs(product) < 4 * 0.3 / 400


def test_a_pixel_without_neighbours():
    assert neighbourhood_mean(np.array([[4.0]]), 1.0) == 0
