"""Maps that were quantified before they are fused."""

import warnings

import numpy as np
import pytest

import hyperspy_fusedmm as fmm

LINES = ["Co_Ka", "S_Ka", "O_Ka"]
FACTORS = [1.3, 0.95, 1.9]


@pytest.fixture(scope="module")
def specimen():
    return fmm.data.core_shell_particles(shape=(32, 32), dose=5.0, spectrum_image=True)


@pytest.fixture(scope="module")
def intensities(specimen):
    return specimen.spectrum.get_lines_intensity(LINES)


@pytest.mark.parametrize("units", ["atomic", "weight"])
def test_results_of_exspy_are_recognised(specimen, intensities, units):
    found = specimen.spectrum.quantification(intensities, "CL", FACTORS, composition_units=units)
    maps = fmm.element_maps(found)
    quantity = f"{units.capitalize()} percent (%)"
    assert maps.elements == ["Co", "S", "O"] and maps.metadata.Signal.quantity == quantity
    with pytest.warns(UserWarning, match=rf"^maps: they are called '{units.capitalize()} percent"):
        maps.create_model(specimen.haadf)
    # One of them alone does not add up to anything.
    with pytest.warns(UserWarning, match="not counts.*quantify the fused maps afterwards"):
        maps.inav[:1].create_model(specimen.haadf)


@pytest.mark.parametrize("whole", [1.0, 100.0])
def test_fractions_without_any_metadata(specimen, whole):
    counts = specimen.maps.data.astype(float)
    fractions = whole * counts / np.maximum(counts.sum(axis=0), 1)
    assert (fractions.sum(axis=0) == 0).any()
    maps = fmm.element_maps(dict(zip(("Co", "S", "O"), fractions.round(4))))
    with pytest.warns(UserWarning, match=f"^maps: they add up to {whole:g} at every pixel"):
        maps.create_model(specimen.haadf.data)


def test_our_own_percent(specimen):
    percent = specimen.truth.atomic_percent(specimen.sensitivities)
    percent.data = np.nan_to_num(percent.data)
    with pytest.warns(UserWarning, match="Atomic percent"):
        percent.create_model(specimen.haadf)


def test_nothing_else_is_called_quantified(specimen, intensities):
    windows = specimen.spectrum.estimate_background_windows(xray_lines=LINES)
    net = specimen.spectrum.get_lines_intensity(LINES, background_windows=windows)
    rng = np.random.default_rng(0)
    hardly_any = {"Co": rng.poisson(0.005, (32, 32)), "O": rng.poisson(0.005, (32, 32))}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="maps: they")
        for source in (intensities, net, hardly_any):
            fmm.element_maps(source).create_model(specimen.haadf.data)
        specimen.truth.create_model(specimen.haadf)
        (specimen.maps / specimen.maps.data.max()).create_model(specimen.haadf)


def test_published_settings_take_fractions(specimen):
    counts = specimen.maps.data.astype(float)
    maps = specimen.maps._deepcopy_with_new_data(counts / np.maximum(counts.sum(axis=0), 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="maps: they")
        maps.create_model(specimen.haadf, preset="schwartz2022")
