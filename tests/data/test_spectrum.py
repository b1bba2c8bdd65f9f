import numpy as np
import pytest

from hyperspy_fusedmm.data import (
    core_shell_particles,
    gallium_oxide_film,
    perovskite_lattice,
)
from hyperspy_fusedmm.data.spectrum import (
    bremsstrahlung_profile,
    draw_row,
    draw_spectra,
    energy_channels,
    gaussian_profile,
    line_profile,
    other_lines_profile,
    resolution,
)


def test_mapped_lines_have_their_energy_width_and_area():
    energies = energy_channels(["Co_Ka"])
    profile = line_profile("Co_Ka", energies)
    assert profile.sum() == pytest.approx(1)
    assert energies @ profile == pytest.approx(6.9303, abs=1e-4)
    sigma = np.sqrt((energies - 6.9303) ** 2 @ profile)
    # Within a channel, positions are lost: variance step**2 / 12.
    expected = np.hypot(resolution(6.9303) / 2.35482, 0.01 / np.sqrt(12))
    assert sigma == pytest.approx(expected, rel=1e-3)


def test_resolution_is_that_of_exspy():
    spectrum = core_shell_particles(shape=(2, 2), spectrum_image=True).spectrum
    lines = {"Mn_Ka": 5.8987, "O_Ka": 0.5249}
    windows = spectrum.estimate_integration_windows(1.0, xray_lines=list(lines))
    for energy, (low, high) in zip(lines.values(), windows):
        assert resolution(energy) == pytest.approx(high - low, rel=1e-6)
    assert resolution(5.8987) == pytest.approx(0.13)


def test_other_lines_follow_their_weights():
    energies = energy_channels(["Co_Ka"])
    k_beta = other_lines_profile("Co_Ka", energies)[energies > 5].sum()
    assert k_beta == pytest.approx(0.1277)
    l_lines = other_lines_profile("Co_Ka", energies)[energies < 5].sum()
    assert l_lines == pytest.approx(0.5 * (1 + 0.0833 + 0.2157 + 0.0238))
    assert other_lines_profile("O_Ka", energies).sum() == 0


def test_bremsstrahlung_falls_with_energy_and_is_absorbed_at_its_low_end():
    energies = energy_channels(["Co_Ka"])
    continuum = bremsstrahlung_profile(energies)
    assert continuum.sum() == pytest.approx(1)
    peak = energies[continuum.argmax()]
    assert 0.2 < peak < 1.0
    assert np.all(np.diff(continuum[energies > peak]) < 0)
    assert continuum[0] < 1e-3 * continuum.max()


def test_channels_reach_beyond_every_mapped_shell():
    assert energy_channels(["Co_Ka", "O_Ka"]).size == 1024
    assert energy_channels(["Ga_Ka"])[-1] > 10.2642 + 2 * resolution(10.2642)


@pytest.mark.parametrize("factor", [1, 100])  # few photons, and many
def test_photons_beyond_the_spectrum_are_lost_and_no_other(factor):
    photons = factor * np.array([[100, 0, 300], [10, 20, 30]])
    inside = gaussian_profile(1.0, np.arange(200) * 0.01)
    outside = gaussian_profile(1.99, np.arange(200) * 0.01)
    spectra = draw_row(photons, np.stack([inside, outside]), np.random.default_rng(0))
    low = spectra[:, :150].sum(axis=1)
    np.testing.assert_array_equal(low, photons[0])
    assert np.all(spectra[:, 150:].sum(axis=1) < photons[1])


@pytest.mark.parametrize("number", [150, 5000])  # drawn by photon, and by channel
def test_photons_follow_their_profile(number):
    profile = np.array([0.5, 0.3, 0.0, 0.15])
    draws = draw_row(np.full((1, 2000), number), profile[None], np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(axis=0), number * profile, rtol=0.02)
    np.testing.assert_allclose(draws.var(axis=0), number * profile * (1 - profile), rtol=0.15)


@pytest.mark.parametrize("simulate", [core_shell_particles, perovskite_lattice, gallium_oxide_film])
def test_exspy_extracts_the_maps(simulate):
    specimen = simulate(shape=(48, 40), dose=20, spectrum_image=True)
    intensities = specimen.spectrum.get_lines_intensity()
    assert [i.metadata.Sample.elements for i in intensities] == [[e] for e in specimen.elements]
    lines = specimen.spectrum.metadata.Sample.xray_lines
    for i, line in enumerate(lines):
        truth, counts = specimen.truth.data[i], specimen.maps.data[i]
        background = specimen.background[i]
        line_share, other_share = own_shares(specimen.spectrum, line)
        extracted = intensities[i].data
        # The sum is right within its counting statistics.
        assert specimen.line_shares[i] == pytest.approx(line_share + other_share)
        expected = specimen.expected_intensities()[i]
        assert abs(extracted.sum() - expected.sum()) < 4 * np.sqrt(expected.sum())
        # The photons are those of the maps: what differs is the background and what is cut off.
        remaining = extracted - line_share * counts
        expected = other_share * truth + background
        variance = expected + line_share * (1 - line_share) * truth
        assert np.var(remaining - expected) == pytest.approx(variance.mean(), rel=0.2)
        assert variance.mean() < 0.2 * truth.mean()


def own_shares(spectrum, line):
    """Counts of a line in its window, and of its element's other lines, per photon of the line."""
    energies = spectrum.axes_manager.signal_axes[0].axis
    low, high = spectrum.estimate_integration_windows(2.0, xray_lines=[line])[0]
    window = (energies > low - 0.005) & (energies < high - 0.005)
    return (
        line_profile(line, energies)[window].sum(),
        other_lines_profile(line, energies)[window].sum(),
    )


def test_expected_intensities_need_a_spectrum():
    with pytest.raises(ValueError, match="spectrum_image=True"):
        core_shell_particles(shape=(8, 8)).expected_intensities()


def test_spectrum_is_told_all_that_exspy_needs():
    specimen = core_shell_particles(shape=(16, 20), spectrum_image=True, pixel_size=0.4)
    spectrum = specimen.spectrum
    assert spectrum.metadata.Signal.signal_type == "EDS_TEM"
    assert spectrum.metadata.Sample.elements == ["Co", "S", "O"]
    assert spectrum.metadata.Sample.xray_lines == ["Co_Ka", "S_Ka", "O_Ka"]
    assert spectrum.metadata.Acquisition_instrument.TEM.beam_energy == 200
    assert spectrum.metadata.Acquisition_instrument.TEM.Detector.EDS.energy_resolution_MnKa == 130
    assert spectrum.data.shape == (16, 20, 1024)
    assert spectrum.data.dtype == np.uint16
    x, y = spectrum.axes_manager.navigation_axes
    assert (x.name, y.name, x.scale, y.units) == ("x", "y", 0.4, "nm")
    energy = spectrum.axes_manager.signal_axes[0]
    assert (energy.scale, energy.offset, energy.units) == (0.01, 0, "keV")


def test_every_photon_of_the_maps_is_in_the_spectrum():
    specimen = core_shell_particles(shape=(16, 20), dose=50, spectrum_image=True)
    others = 0.1277 + 0.5 * 1.3228
    expected = specimen.truth.data.sum(axis=(1, 2)) @ [1 + others, 1 + 0.06525, 1]
    expected += 0.25 * specimen.truth.data.sum()
    assert specimen.spectrum.data.sum() == pytest.approx(expected, rel=0.02)
    assert specimen.spectrum.data.sum() > specimen.maps.data.sum()


@pytest.mark.parametrize("number, dtype", [(60_000, np.uint16), (70_000, np.uint32)])
def test_channels_that_overflow_16_bit_get_32(number, dtype):
    counts = np.full((1, 2, 1), 5)
    counts[0, 1] = number
    profile = np.array([[0.0, 1.0, 0.0]])
    data = draw_spectra(
        counts,
        0 * counts,
        np.zeros((2, 1)),
        profile,
        0 * profile,
        profile[0],
        np.random.default_rng(0),
    )
    assert data.dtype == dtype
    np.testing.assert_array_equal(data[:, 0], [[0, 5, 0], [0, number, 0]])
