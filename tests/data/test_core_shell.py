import numpy as np
import pytest

from hyperspy_fusedmm.data.core_shell import (
    COO_PER_NM3,
    COS_PER_NM3,
    core_shell_particles,
    particle_atoms,
    place_particles,
    spheres_thickness,
)


def test_thickness_is_the_chord_length():
    thickness = spheres_thickness((41, 61), 0.5, [(10.0, 15.0)], [8.0])
    assert thickness[20, 30] == pytest.approx(16.0)  # through the centre
    assert thickness[20, 30 + 8] == pytest.approx(2 * np.sqrt(64 - 16))  # 4 nm off
    assert thickness[20 + 6, 30 + 8] == pytest.approx(2 * np.sqrt(64 - 25))  # a 3-4-5 triangle
    assert thickness[20, 30 + 16] == 0  # tangent
    assert thickness[20, 30 + 17] == 0


def test_thickness_off_the_pixel_grid():
    rows, columns = np.mgrid[:30, :40] * 0.3
    expected = 2 * np.sqrt(np.maximum(9 - (rows - 4.17) ** 2 - (columns - 6.31) ** 2, 0))
    np.testing.assert_allclose(
        spheres_thickness((30, 40), 0.3, [(4.17, 6.31)], [3.0]), expected, rtol=0, atol=1e-12
    )


def test_spheres_cut_by_the_border_and_outside():
    whole = spheres_thickness((60, 60), 1.0, [(30.0, 30.0)], [12.0])
    cut = spheres_thickness((30, 25), 1.0, [(0.0, 0.0)], [12.0])
    np.testing.assert_allclose(cut[:13, :13], whole[30:43, 30:43])
    assert not spheres_thickness((30, 25), 1.0, [(-20.0, 5.0), (60.0, 5.0)], [12.0, 3.0]).any()


def test_overlapping_spheres_add():
    centres, radii = [(9.0, 9.0), (12.0, 14.0)], [6.0, 5.0]
    both = spheres_thickness((30, 30), 1.0, centres, radii)
    one, other = (
        spheres_thickness((30, 30), 1.0, [centre], [radius])
        for centre, radius in zip(centres, radii)
    )
    np.testing.assert_allclose(both, one + other)
    assert (np.minimum(one, other) > 0).any()


def test_atoms_fill_the_volumes():
    outer, core = 10.0, 6.0
    cobalt, sulphur, oxygen = particle_atoms((120, 120), 0.2, [(12.0, 12.0)], [outer], [core])
    core_volume = 4 / 3 * np.pi * core**3
    shell_volume = 4 / 3 * np.pi * outer**3 - core_volume
    assert sulphur.sum() == pytest.approx(COS_PER_NM3 * core_volume, rel=2e-3)
    assert oxygen.sum() == pytest.approx(COO_PER_NM3 * shell_volume, rel=2e-3)
    np.testing.assert_allclose(cobalt, sulphur + oxygen)


def test_particles_differ_overlap_and_stay_in_the_field():
    shape, pixel_size = (100, 140), 0.5
    centres, outer, core = place_particles(
        shape, pixel_size, 15, (3.0, 9.0), np.random.default_rng(1)
    )
    assert np.all((centres >= 0) & (centres <= (np.array(shape) - 1) * pixel_size))
    assert outer.max() > 1.5 * outer.min()
    assert np.all((outer >= 3) & (outer <= 9) & (core > 0.4 * outer) & (core < 0.8 * outer))
    separate = sum(
        spheres_thickness(shape, pixel_size, [centre], [radius]) > 0
        for centre, radius in zip(centres, outer)
    )
    assert separate.max() >= 2


def test_shape_and_options_are_obeyed():
    specimen = core_shell_particles(shape=(24, 40), n_particles=1, radius=(4.0, 4.0), dose=3)
    assert specimen.elements == ["Co", "S", "O"]
    assert specimen.maps.data.shape == (3, 24, 40)
    # One particle of 4 nm radius covers at most its disc.
    assert np.count_nonzero(specimen.truth.data[0]) * 0.25 < np.pi * 4.3**2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_particles": 0}, "n_particles must be a whole number of at least 1, not 0"),
        ({"n_particles": 2.5}, "n_particles must be"),
        ({"radius": (5, 2)}, "radius must be"),
        ({"radius": (0, 2)}, "radius must be"),
    ],
)
def test_bad_particles_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        core_shell_particles(**options)
