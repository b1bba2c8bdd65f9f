"""What create_model makes of offset, weights, gamma and sensitivities, given or not."""

import exspy
import numpy as np
import pytest
from hyperspy.signals import Signal2D
from plain import PLAIN

import hyperspy_fusedmm as fmm


@pytest.fixture(scope="module")
def lattice():
    return fmm.data.perovskite_lattice(dose=1.0, seed=3, gamma=1.6)


def model_of(specimen, haadf=None, **options):
    return specimen.maps.create_model(specimen.haadf if haadf is None else haadf, **options)


class TestStandardErrors:
    def test_every_estimate_has_one(self, lattice):
        model = model_of(lattice)
        assert model.weights_rule == "fitted" and (model.weights_data_share > 0.5).all()
        np.testing.assert_array_less(
            np.abs(model.weights - lattice.weights), 4 * model.weights_error
        )
        assert abs(model.haadf_offset - lattice.haadf_offset) < 4 * model.haadf_offset_error
        assert abs(model.haadf_noise - lattice.haadf_noise) < 4 * model.haadf_noise_error
        variances = np.diag(model.weights_covariance)
        np.testing.assert_allclose(variances[:-1], model.weights_error**2)
        assert variances[-1] == pytest.approx(model.haadf_offset_error**2)
        assert (model.gamma, model.gamma_error) == (1.7, 0.0)

    def test_what_is_given_has_none(self, lattice):
        model = model_of(lattice, weights=lattice.weights, haadf_offset=0.25, haadf_noise=0.05)
        assert not model.weights_error.any() and not model.weights_covariance.any()
        assert (model.haadf_offset_error, model.haadf_noise_error) == (0, 0)

    def test_without_an_image_there_is_nothing_to_err_about(self, lattice):
        model = lattice.maps.create_model()
        assert not model.weights_error.any() and model.weights_rule == "none"
        assert model.haadf_offset_error == 0

    def test_they_stay_with_the_model_and_the_maps(self, lattice, tmp_path):
        model = model_of(lattice)
        model.fit(max_iterations=5, tolerance=0, show_progressbar=False, **PLAIN)
        told = model.fused.metadata.FusedMultiModal
        assert told.haadf_offset_error == model.haadf_offset_error
        np.testing.assert_array_equal(told.weights_error, model.weights_error)
        maps = lattice.maps.deepcopy()
        again = maps.create_model(lattice.haadf)
        again.store("calibrated")
        np.testing.assert_array_equal(
            maps.models.restore("calibrated").weights_error, again.weights_error
        )


class TestWhatIsGiven:
    def test_a_given_offset_makes_the_weights_more_certain(self, lattice):
        free, given = model_of(lattice), model_of(lattice, haadf_offset=0.25)
        assert given.haadf_offset == 0.25
        assert (given.weights_error <= 1.1 * free.weights_error).all()
        assert given.weights_error[-1] < 0.8 * free.weights_error[-1]
        np.testing.assert_array_less(
            np.abs(given.weights - lattice.weights), 4 * given.weights_error
        )

    @pytest.mark.parametrize("form", ["dict", "list"])
    def test_single_weights_may_be_given(self, lattice, form):
        known = float(lattice.weights[0])
        weights = {"Dy": known, "Sc": "auto", "O": "auto"}
        model = model_of(lattice, weights=weights if form == "dict" else list(weights.values()))
        assert model.weights[0] == known and model.weights_error[0] == 0
        assert model.weights_rule == "fitted"
        np.testing.assert_array_less(
            np.abs(model.weights - lattice.weights)[1:], 4 * model.weights_error[1:]
        )

    def test_all_auto_is_auto(self, lattice):
        model = model_of(lattice, weights=["auto"] * 3)
        np.testing.assert_array_equal(model.weights, model_of(lattice).weights)

    def test_the_power_model_takes_all_weights_or_none(self, lattice):
        with pytest.raises(ValueError, match="weights: found 'auto' for some elements"):
            model_of(lattice, weights=[1.0, "auto", "auto"], forward="power")

    def test_the_power_model_honours_an_offset(self):
        specimen = fmm.data.core_shell_particles((64, 64), dose=20.0, forward="power")
        model = specimen.maps.create_model(
            specimen.haadf, forward="power", sensitivities=specimen.sensitivities, haadf_offset=0.2
        )
        assert (model.haadf_offset, model.haadf_offset_error) == (0.2, 0.0)
        np.testing.assert_allclose(model.weights, specimen.weights, rtol=0.15)


class TestGamma:
    def test_it_is_found_with_its_error(self, lattice):
        model = model_of(lattice, gamma="auto", sensitivities=lattice.sensitivities)
        assert 0 < model.gamma_error < 0.1
        assert abs(model.gamma - 1.6) < 3 * model.gamma_error
        numbers = np.array([66.0, 21.0, 8.0])
        expected = numbers**model.gamma / list(lattice.sensitivities.values())
        np.testing.assert_allclose(model.weights / model.weights[0], expected / expected[0])

    @pytest.mark.parametrize("wrong", [3.0, 0.3])
    def test_beyond_the_range_it_ends_at_the_bound(self, lattice, wrong):
        sensitivities = {**lattice.sensitivities, "Dy": wrong * lattice.sensitivities["Dy"]}
        with pytest.warns(UserWarning, match="gamma: the data ask for a value beyond"):
            model = model_of(lattice, gamma="auto", sensitivities=sensitivities)
        assert min(abs(model.gamma - 2), abs(model.gamma - 4 / 3)) < 1e-3

    def test_a_film_of_one_composition_does_not_tell_it(self):
        film = fmm.data.gallium_oxide_film((64, 64), dose=2.0)
        with pytest.warns(UserWarning, match="gamma: the maps hardly tell it; 1.7 was taken"):
            model = film.maps.create_model(
                film.haadf, gamma="auto", sensitivities=film.sensitivities
            )
        assert model.gamma == 1.7 and model.gamma_error > 0.15

    def test_it_needs_sensitivities(self, lattice):
        with pytest.raises(ValueError, match="gamma: found 'auto', but no sensitivities"):
            model_of(lattice, gamma="auto")
        with pytest.raises(ValueError, match="gamma: found 'auto' together with weights"):
            model_of(lattice, gamma="auto", weights=lattice.weights)
        with pytest.raises(ValueError, match="gamma: found 'auto', but there is no HAADF"):
            lattice.maps.create_model(gamma="auto")
        with pytest.raises(ValueError, match="gamma: found 'auto', but the preset"):
            model_of(lattice, gamma="auto", preset="schwartz2022")

    def test_one_element_does_not_tell_it(self, lattice):
        maps = fmm.element_maps({"Dy": lattice.maps.data[0]})
        with pytest.raises(ValueError, match="gamma: found 'auto', but maps of Dy only"):
            maps.create_model(lattice.haadf, gamma="auto", sensitivities=1.0)

    def test_by_default_it_is_what_the_preset_has(self, lattice):
        assert model_of(lattice, preset="schwartz2022").gamma == 1.6
        assert model_of(lattice, preset="schwartz2022", gamma=1.7).gamma == 1.7

    def test_that_of_the_power_model(self):
        specimen = fmm.data.core_shell_particles((96, 96), dose=100.0, forward="power", gamma=1.6)
        model = specimen.maps.create_model(
            specimen.haadf, forward="power", gamma="auto", sensitivities=specimen.sensitivities
        )
        assert model.gamma == pytest.approx(1.6, abs=0.08)
        assert 0 < model.gamma_error < 0.1


class TestSensitivities:
    K = {"Co": 1.3, "S": 0.95, "O": 1.9}

    def test_from_k_factors(self):
        specimen = fmm.data.core_shell_particles((48, 48), dose=2.0)
        # These are the k-factors that the particles were simulated with.
        found = fmm.sensitivities_from_factors(self.K)
        ratio = [found[e] / s for e, s in specimen.sensitivities.items()]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
        direct = specimen.maps.create_model(specimen.haadf, sensitivities=found)
        for factors in (self.K, list(self.K.values()), {f"{e}_Ka": k for e, k in self.K.items()}):
            model = specimen.maps.create_model(
                specimen.haadf, sensitivities={"method": "CL", "factors": factors}
            )
            np.testing.assert_allclose(model.weights, direct.weights)
        assert model.weights_rule == "sensitivities"

    @pytest.mark.parametrize("method", ["CL", "zeta", "cross_section"])
    def test_they_give_the_composition_that_exspy_gives(self, method):
        spectrum = exspy.data.EDS_TEM_FePt_nanoparticles()
        spectrum.set_lines(["Fe_Ka", "Pt_La"])
        factors = {
            "CL": [1.450226, 5.075602],
            "zeta": [1200.0, 3500.0],
            "cross_section": [20.0, 5.0],
        }[method]
        spectrum.set_microscope_parameters(beam_current=0.5, live_time=10.0, probe_area=1.0)
        options = {"probe_area": 1.0} if method == "cross_section" else {}
        intensities = spectrum.get_lines_intensity()
        found = spectrum.quantification(intensities, method, factors, **options)
        found = found if method == "CL" else found[0]
        theirs = np.array([float(np.squeeze(signal.data)) for signal in found])
        ours = fmm.sensitivities_from_factors(factors, method, elements=["Fe_Ka", "Pt_La"])
        atoms = [float(np.squeeze(s.data)) / v for s, v in zip(intensities, ours.values())]
        np.testing.assert_allclose(100 * np.array(atoms) / sum(atoms), theirs, rtol=1e-6)

    @pytest.mark.parametrize(
        "value, found",
        [
            ({"method": "CL", "factors": [1.0, 2.0]}, "factors: found 2 numbers; one for each of the 3"),
            ({"method": "CL", "factors": {"Co": 1, "S": 1, "Fe": 1}}, "factors: found unknown Fe"),
            ({"method": "CL", "factors": {"Co": 1, "S": 1}}, "factors: found no value for O"),
            ({"method": "CL", "factors": [1, 0, 1]}, "factors: found .*> 0 are needed"),
            ({"method": "CL", "factors": [1, np.nan, 1]}, "factors: found .*> 0 are needed"),
            ({"method": "CL", "factors": 1.3}, "factors: found 1.3"),
            ({"method": "ZAF", "factors": [1, 1, 1]}, "method: found 'ZAF'"),
            ({"method": "CL"}, "'factors' and 'method'"),
            ({"factors": [1, 1, 1], "lines": []}, "'factors' and 'method'"),
        ],
    )
    def test_that_do_not_fit(self, value, found):
        specimen = fmm.data.core_shell_particles((16, 16))
        with pytest.raises(ValueError, match=f"^sensitivities: .*{found}"):
            specimen.maps.create_model(specimen.haadf, sensitivities=value)

    def test_bad_input_of_the_function(self):
        with pytest.raises(ValueError, match="elements: found none"):
            fmm.sensitivities_from_factors([1.0, 2.0])
        with pytest.raises(ValueError, match="Xx"):
            fmm.sensitivities_from_factors({"Xx": 1.0})


class TestStoredOffset:
    def image(self, specimen, origin, scale=1.0):
        haadf = Signal2D(specimen.haadf.data.copy())
        haadf.original_metadata.add_dictionary(
            {
                "ImageList": {
                    "TagGroup0": {
                        "ImageData": {
                            "Calibrations": {"Brightness": {"Origin": origin, "Scale": scale}}
                        }
                    }
                }
            }
        )
        return haadf

    def rule(self, model):
        return model._setup["haadf_offset_rule"]

    def test_it_is_used_where_it_agrees(self, lattice):
        model = model_of(lattice, self.image(lattice, 0.26))
        assert (model.haadf_offset, model.haadf_offset_error) == (0.26, 0.0)
        assert self.rule(model) == "stored"

    def test_it_is_not_used_where_the_image_says_otherwise(self, lattice):
        with pytest.warns(UserWarning, match="haadf_offset: the file of the image states 1 "):
            model = model_of(lattice, self.image(lattice, 1.0))
        assert model.haadf_offset == model_of(lattice).haadf_offset
        assert self.rule(model) == "fitted"

    @pytest.mark.parametrize("origin, scale", [(0.0, 1.0), (np.nan, 1.0), (0.26, 0.0), ("a", 1.0)])
    def test_no_calibration_is_none(self, lattice, origin, scale):
        model = model_of(lattice, self.image(lattice, origin, scale))
        assert self.rule(model) == "fitted"

    def test_a_given_one_goes_first(self, lattice):
        model = model_of(lattice, self.image(lattice, 0.26), haadf_offset=0.24)
        assert model.haadf_offset == 0.24 and self.rule(model) == "given"

    def test_settings_of_the_amplifier_are_no_black_level(self, lattice):
        haadf = Signal2D(lattice.haadf.data.copy())
        haadf.original_metadata.add_dictionary(
            {"DetectorMetadata": {"Gain": "24.4", "Offset": "0.26"}}
        )
        haadf.metadata.set_item("Signal.Noise_properties.Variance_linear_model.gain_offset", 0.26)
        assert self.rule(model_of(lattice, haadf)) == "fitted"
