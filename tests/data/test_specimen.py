"""What holds for every simulated specimen."""

import numpy as np
import pytest

from hyperspy_fusedmm.data import (
    core_shell_particles,
    gallium_oxide_film,
    perovskite_lattice,
)
from hyperspy_fusedmm.data.specimen import atomic_number

SPECIMENS = pytest.mark.parametrize(
    "simulate", [core_shell_particles, perovskite_lattice, gallium_oxide_film]
)


@SPECIMENS
def test_dose_is_the_mean_of_the_truth(simulate):
    for dose in (0.3, 7.0):
        assert simulate(shape=(40, 50), dose=dose).truth.data.mean() == pytest.approx(dose)


@SPECIMENS
def test_dose_only_scales_the_truth(simulate):
    low, high = (simulate(shape=(40, 50), dose=dose, seed=3) for dose in (0.5, 5.0))
    np.testing.assert_allclose(high.truth.data, 10 * low.truth.data, rtol=1e-5)
    np.testing.assert_allclose(high.weights, low.weights / 10)
    np.testing.assert_allclose(high.haadf.data, low.haadf.data, rtol=1e-5)
    for element in low.elements:
        assert high.sensitivities[element] == pytest.approx(10 * low.sensitivities[element])


@SPECIMENS
def test_the_seed_decides(simulate):
    first, again, other = (simulate(shape=(40, 50), seed=seed) for seed in (1, 1, 2))
    for name in ("truth", "maps", "haadf"):
        np.testing.assert_array_equal(getattr(first, name).data, getattr(again, name).data)
        assert np.any(getattr(first, name).data != getattr(other, name).data)


@SPECIMENS
def test_counts_and_image_do_not_depend_on_the_spectrum(simulate):
    without, with_spectrum = (
        simulate(shape=(24, 24), spectrum_image=asked) for asked in (False, True)
    )
    np.testing.assert_array_equal(without.maps.data, with_spectrum.maps.data)
    np.testing.assert_array_equal(without.haadf.data, with_spectrum.haadf.data)
    assert without.spectrum is None and without.background is None


@SPECIMENS
def test_haadf_is_the_linear_model_of_the_truth(simulate):
    specimen = simulate(
        shape=(40, 50), dose=2, haadf_snr=np.inf, haadf_offset=30.0, haadf_gain=200.0
    )
    model = 30.0 + np.tensordot(specimen.weights, specimen.truth.data, axes=1)
    np.testing.assert_allclose(specimen.haadf.data, model, rtol=1e-5)
    assert specimen.haadf.data.mean() == pytest.approx(230.0)
    assert specimen.haadf_noise == 0
    # One atom scatters as Z**gamma.
    per_atom = specimen.weights * list(specimen.sensitivities.values())
    numbers = np.array([atomic_number(element) for element in specimen.elements])
    np.testing.assert_allclose(per_atom / per_atom[0], (numbers / numbers[0]) ** 1.7)


@SPECIMENS
def test_haadf_is_the_power_model_of_the_truth(simulate):
    specimen = simulate(
        shape=(40, 50), haadf_snr=np.inf, haadf_gain=8.0, forward="power", gamma=1.6
    )
    terms = (specimen.weights[:, None, None] * specimen.truth.data) ** 1.6
    np.testing.assert_allclose(specimen.haadf.data, 0.25 + terms.sum(axis=0), rtol=1e-4)
    assert specimen.haadf.data.mean() == pytest.approx(8.25, rel=1e-5)


def test_haadf_noise_is_gaussian_with_the_snr_asked_for():
    options = {"shape": (100, 100), "haadf_gain": 50.0}
    noisy = core_shell_particles(haadf_snr=10, **options)
    clean = core_shell_particles(haadf_snr=np.inf, **options)
    noise = noisy.haadf.data - clean.haadf.data
    assert noisy.haadf_noise == 5.0
    assert noise.std() == pytest.approx(5.0, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=4 * 5.0 / 100)
    inside = clean.truth.data[0] > 0
    assert noise[inside].std() == pytest.approx(noise[~inside].std(), rel=0.05)


@SPECIMENS
def test_counts_are_poisson(simulate):
    specimen = simulate(shape=(120, 120), dose=3)
    truth = specimen.truth.data.astype(float)
    counts = specimen.maps.data
    np.testing.assert_array_equal(counts, np.round(counts))
    assert not counts[truth == 0].any()
    seen = truth > 0.05
    standardised = (counts[seen] - truth[seen]) / np.sqrt(truth[seen])
    n = standardised.size
    assert abs(standardised.mean()) < 4 / np.sqrt(n)
    # The variance of a squared standardised Poisson variable is 2 + 1 / mean.
    spread = np.sqrt(np.mean(2 + 1 / truth[seen]) / n)
    assert abs(np.mean(standardised**2) - 1) < 4 * spread


@SPECIMENS
def test_elements_are_not_equally_visible(simulate):
    sensitivities = simulate(shape=(24, 24)).sensitivities
    assert sensitivities["O"] == min(sensitivities.values())
    assert max(sensitivities.values()) > 2 * sensitivities["O"]


@SPECIMENS
def test_signals_are_calibrated_and_named(simulate):
    specimen = simulate(shape=(24, 30), pixel_size=0.125)
    for signal in (specimen.truth, specimen.maps, specimen.haadf):
        x, y = signal.axes_manager.signal_axes
        assert (x.size, y.size, x.name, y.name) == (30, 24, "x", "y")
        assert (x.scale, y.scale, x.units, y.units) == (0.125, 0.125, "nm", "nm")
        assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 200
    for signal in (specimen.truth, specimen.maps):
        assert list(signal.elements) == specimen.elements
        assert signal.data.dtype == np.float32
        assert not signal._lazy


@SPECIMENS
@pytest.mark.parametrize(
    "options, message",
    [
        ({"shape": (10,)}, r"shape must be two whole numbers \(rows, columns\), not \(10,\)"),
        ({"shape": (10, 0)}, "shape must be"),
        ({"dose": 0}, "dose must be a positive number, not 0"),
        ({"dose": np.nan}, "dose must be"),
        ({"dose": np.inf}, "dose must be"),
        ({"haadf_snr": -3}, "haadf_snr must be"),
        ({"haadf_gain": 0}, "haadf_gain must be"),
        ({"haadf_offset": np.inf}, "haadf_offset must be"),
        ({"gamma": 3}, "gamma must lie between 1 and 2.5, not at 3"),
        ({"forward": "quadratic"}, "forward must be one of .*, not 'quadratic'"),
        ({"pixel_size": 0}, "pixel_size must be"),
    ],
)
def test_bad_settings_are_refused(simulate, options, message):
    with pytest.raises(ValueError, match=message):
        simulate(**options)
