"""Part of a row as an array of its own."""

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from hyperspy_fusedmm.solver._span import span


@njit
def write(array, plane, row, first, count):
    part = span(array, plane, row, first, count)
    for c in range(part.shape[0]):
        part[c] += c + 1
    return part.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_a_view_of_the_pixels_asked_for(dtype):
    array = np.arange(2 * 3 * 8, dtype=dtype).reshape(2, 3, 8)
    expected = array.copy()
    expected[1, 2, 3:7] += [1, 2, 3, 4]
    assert write(array, 1, 2, 3, 4) == 4
    np.testing.assert_array_equal(array, expected)


def test_one_row_stands_for_all():
    array = np.zeros((2, 1, 5))
    write(array, 1, 4, 0, 5)
    np.testing.assert_array_equal(array, [[[0] * 5], [[1, 2, 3, 4, 5]]])


def test_no_pixels():
    array = np.zeros((1, 1, 4))
    assert write(array, 0, 0, 2, 0) == 0
    np.testing.assert_array_equal(array, 0)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 8))[:, :, ::2], np.zeros((3, 8))])
def test_only_for_contiguous_arrays_of_three_dimensions(array):
    with pytest.raises(TypingError):
        write(array, 0, 0, 0, 2)
