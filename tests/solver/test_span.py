"""Part of a row as an array of its own."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from hyperspy_fusedmm.solver._span import ring_span, span


@njit
def write(array, plane, row, first, count):
    part = span(array, plane, row, first, count)
    for c in range(part.shape[0]):
        part[c] += c + 1
    return part.size


@njit
def write_in_ring(array, plane, row, first, count):
    part = ring_span(array, plane, row, first, count)
    for c in range(part.shape[0]):
        part[c] += c + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_a_view_of_the_pixels_asked_for(dtype):
    array = np.arange(2 * 3 * 8, dtype=dtype).reshape(2, 3, 8)
    expected = array.copy()
    expected[1, 2, 3:7] += [1, 2, 3, 4]
    assert write(array, 1, 2, 3, 4) == 4
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("row, place", [(0, 0), (3, 3), (4, 0), (7, 3), (1006, 2)])
def test_rows_of_a_ring_take_turns_and_its_last_is_not_used(row, place):
    array = np.zeros((2, 5, 4))
    write_in_ring(array, 1, row, 1, 2)
    expected = np.zeros((2, 5, 4))
    expected[1, place, 1:3] = [1, 2]
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("row", [0, 1, 4, 17])
def test_one_row_stands_for_all(row):
    array = np.zeros((2, 1, 5))
    write_in_ring(array, 1, row, 0, 5)
    np.testing.assert_array_equal(array, [[[0] * 5], [[1, 2, 3, 4, 5]]])


def test_no_pixels():
    array = np.zeros((1, 1, 4))
    assert write(array, 0, 0, 2, 0) == 0
    np.testing.assert_array_equal(array, 0)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 8))[:, :, ::2], np.zeros((3, 8))])
def test_only_for_contiguous_arrays_of_three_dimensions(array):
    with pytest.raises(TypingError):
        write(array, 0, 0, 0, 2)
