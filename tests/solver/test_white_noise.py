"""Noise that is, and that is not, independent from pixel to pixel."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from hyperspy_fusedmm.solver.white_noise import is_white


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(2, 64, 48))


def test_white_noise_on_smooth_structure(noise):
    rows, columns = np.indices((64, 48))
    structure = 20 * np.exp(-((rows - 30) ** 2 + (columns - 20) ** 2) / 200)
    assert is_white(noise + structure, "gaussian").all()


@pytest.mark.parametrize("spoil", [lambda m: gaussian_filter(m, 0.7), lambda m: zoom(m, 2, order=1)])
def test_filtered_and_resampled_maps(noise, spoil):
    assert not is_white(np.stack([spoil(m) for m in noise]), "gaussian").any()


def test_known_noise_decides_where_structure_is_all_that_is_seen(noise):
    columns = 50 * np.cos(np.indices((64, 48))[1])[None] * np.cos(np.indices((64, 48))[0])[None]
    maps = noise + columns
    assert not is_white(maps, "gaussian").any()
    assert is_white(maps, "gaussian", np.ones(2)).all()
    smooth = np.stack([gaussian_filter(m, 1.0) for m in noise])
    assert not is_white(smooth, "gaussian", np.ones(2)).any()


def test_counts():
    rng = np.random.default_rng(1)
    counts = rng.poisson(3.0, (1, 64, 48)).astype(float)
    assert is_white(counts).all()
    assert is_white(counts + 0.25).all()
    assert not is_white([gaussian_filter(counts[0], 0.8)]).any()
    assert is_white(np.zeros((1, 8, 8))).all() and is_white(np.zeros((1, 8, 8)), "gaussian").all()
