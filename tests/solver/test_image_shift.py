"""Shifts between image and maps: sign, size, error, lattices, nothing to tell."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from hyperspy_fusedmm.solver.registration import find_shift


def blobs(side=96, seed=0):
    image = gaussian_filter(np.random.default_rng(seed).random((side, side)) ** 8, 3, mode="wrap")
    return (image - image.min()) / np.ptp(image)


@pytest.mark.parametrize("moved", [(0, 0), (3, 0), (0, -2), (-4, 5)])
def test_the_move_takes_the_image_back_to_the_maps(moved):
    """An image that lies 3 rows too far down has to be moved by -3 rows."""
    truth = blobs()
    counts = np.random.default_rng(1).poisson(20 * truth)
    found = find_shift(counts, np.roll(truth, moved, axis=(0, 1)))
    np.testing.assert_allclose(found.move, -np.array(moved), atol=4 * found.error.max())
    assert found.error.max() < 0.2
    assert found.correlation >= found.unmoved_correlation


def test_parts_of_a_pixel_are_found_without_noise():
    truth = blobs()
    found = find_shift(truth, shift(truth, (0.4, -1.3), order=5, mode="wrap"))
    np.testing.assert_allclose(found.move, (-0.4, 1.3), atol=0.02)


def test_the_error_is_that_of_repetitions():
    truth, moves, errors = blobs(64), [], []
    for seed in range(40):
        found = find_shift(np.random.default_rng(seed).poisson(2 * truth), truth)
        moves.append(found.move)
        errors.append(found.error)
    scatter = np.sqrt(np.mean(np.square(moves), axis=0))
    np.testing.assert_allclose(np.median(errors, axis=0), scatter, rtol=0.5)


def test_level_and_gain_of_the_image_do_not_matter():
    truth = blobs()
    counts = np.random.default_rng(1).poisson(3 * truth)
    moved = np.roll(truth, 2, axis=1)
    first, second = find_shift(counts, moved), find_shift(counts, 1e4 + 1e-3 * moved)
    np.testing.assert_allclose(second.move, first.move, atol=1e-3)
    np.testing.assert_allclose(second.error, first.error, rtol=1e-2)


def test_of_equal_shifts_of_a_lattice_the_nearest_is_taken():
    rows, columns = np.indices((96, 96))
    lattice = (2 + np.cos(2 * np.pi * rows / 8) + np.cos(2 * np.pi * columns / 8)) / 4
    counts = np.random.default_rng(0).poisson(2 * lattice)
    found = find_shift(counts, np.roll(lattice, 3, axis=0))
    np.testing.assert_allclose(found.move, (-3, 0), atol=0.3)


def test_a_lattice_that_is_not_quite_regular_stays_where_it_is():
    """Heights that differ from column to column make a shift by a few cells fit better by chance."""
    rng = np.random.default_rng(3)
    rows, columns = np.indices((96, 96))
    sharp = np.exp(3 * (np.cos(2 * np.pi * rows / 12) + np.cos(2 * np.pi * columns / 12)) - 6)
    for _ in range(5):
        heights = 1 + 0.25 * rng.standard_normal((2, 8, 8)).repeat(12, axis=1).repeat(12, axis=2)
        found = find_shift(rng.poisson(20 * np.maximum(heights[0], 0.1) * sharp), heights[1] * sharp)
        assert found.length < 1


def test_an_inverted_image_is_most_unlike_where_it_should_be_alike():
    truth = blobs()
    found = find_shift(np.random.default_rng(0).poisson(20 * truth), 1 - truth)
    assert found.unmoved_correlation < -0.5
    assert found.lowest_correlation == pytest.approx(found.unmoved_correlation, abs=0.02)
    assert found.correlation < -found.lowest_correlation


def test_too_few_counts_leave_the_shift_uncertain():
    truth = blobs()
    counts = np.random.default_rng(0).poisson(0.01 * truth)
    found = find_shift(counts, truth)
    assert found.length < 4 * found.length_error


@pytest.mark.parametrize("case", ["flat image", "no counts", "small", "none inside"])
def test_nothing_is_said_where_there_is_nothing(case):
    truth = blobs()
    counts = np.random.default_rng(0).poisson(truth)
    image = np.ones_like(truth) if case == "flat image" else truth
    counts = np.zeros_like(counts) if case == "no counts" else counts
    if case == "none inside":
        counts = np.zeros_like(counts)
        counts[0, 0] = 3
    side = 8 if case == "small" else 96
    assert find_shift(counts[:side, :side], image[:side, :side]) is None


def test_structure_along_one_direction_tells_that_one():
    stripes = np.tile(np.sin(np.arange(96) / 9.0) + 1, (96, 1))
    found = find_shift(np.random.default_rng(0).poisson(3 * stripes), np.roll(stripes, 2, axis=1))
    assert abs(found.move[1] + 2) < 4 * found.error[1] < 2
    assert found.error[0] > 5 * found.error[1]
