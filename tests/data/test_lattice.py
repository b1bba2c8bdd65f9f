import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from hyperspy_fusedmm.data.lattice import (
    DY_DISPLACEMENT,
    LATTICE_CONSTANT,
    gaussian_comb,
    lattice_atoms,
    perovskite_lattice,
    wedge,
)


def test_comb_is_the_sum_of_its_peaks():
    positions = np.linspace(0, 3, 50)
    first, period, width = 0.11, 0.4, 0.07
    peaks = first + period * np.arange(-20, 30)
    expected = np.exp(-0.5 * ((positions[:, None] - peaks) / width) ** 2).sum(axis=1)
    expected /= np.sqrt(2 * np.pi) * width
    np.testing.assert_allclose(gaussian_comb(positions, first, period, width), expected, atol=1e-12)


def test_composition_is_that_of_the_perovskite():
    # 80 pixels are 4 whole cells; what the wedge adds on the thick side is divided out again.
    shape, step = (80, 80), LATTICE_CONSTANT / 20
    atoms = lattice_atoms(shape, step, (0.03, 0.1), 20.0, 0.05) / wedge(shape, 1.0)
    cells = 16 * 20.0 / LATTICE_CONSTANT
    np.testing.assert_allclose(atoms.sum(axis=(1, 2)), [cells, cells, 3 * cells], rtol=1e-6)


def test_columns_are_where_the_sites_are():
    step = LATTICE_CONSTANT / 20
    dysprosium, scandium, oxygen = lattice_atoms((81, 81), step, (0, 0), 20.0, 0.04)
    # Dy at cell corners, displaced to the right and to the left in turn.
    assert _maxima(dysprosium) == {
        (20 * row, 20 * column + round(20 * DY_DISPLACEMENT) * (1 if row % 2 == 0 else -1))
        for row in range(1, 4)
        for column in range(1, 4)
    }
    centres = {(20 * row + 10, 20 * column + 10) for row in range(4) for column in range(4)}
    assert _maxima(scandium) == centres
    # O with Sc, and between two Dy.
    assert centres < _maxima(oxygen)
    assert (20, 10) in _maxima(oxygen) and (10, 20) in _maxima(oxygen)
    assert (20, 20) not in _maxima(oxygen)


def _maxima(image):
    rows, columns = np.nonzero((image == maximum_filter(image, 5)) & (image > 0.3 * image.max()))
    border = 2
    return {
        (int(row), int(column))
        for row, column in zip(rows, columns)
        if border <= row < image.shape[0] - border and border <= column < image.shape[1] - border
    }


def test_the_wedge_is_thicker_on_one_side():
    specimen = perovskite_lattice(shape=(64, 64), dose=5)
    truth = specimen.truth.data
    assert truth[:, 32:, 32:].mean() > 1.1 * truth[:, :32, :32].mean()


@pytest.mark.parametrize("name", ["thickness", "column_width"])
@pytest.mark.parametrize("value", [0, -1.0, np.nan])
def test_bad_lengths_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive number in nm"):
        perovskite_lattice(**{name: value})
