"""Bad input: the error names the argument, what was found and what is needed; nothing changes."""

import hyperspy.api as hs
import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm


@pytest.fixture
def refuses(small):
    """Expects an error, and that maps and image are afterwards what they were."""

    def state(signal):
        return (
            np.array(signal.data),
            signal.metadata.as_dictionary(),
            signal.axes_manager.as_dictionary(),
        )

    def expect(match, haadf="own", maps=None, error=ValueError, **options):
        maps = small.maps if maps is None else maps
        haadf = small.haadf if isinstance(haadf, str) else haadf
        signals = [s for s in (maps, haadf) if hasattr(s, "metadata")]
        before = [state(s) for s in signals]
        with pytest.raises(error, match=match):
            maps.fuse(haadf, **options)
        for signal, (data, metadata, axes) in zip(signals, before):
            np.testing.assert_array_equal(np.array(signal.data), data)
            assert signal.metadata.as_dictionary() == metadata
            assert signal.axes_manager.as_dictionary() == axes

    return expect


class TestHaadf:
    def test_shapes_that_differ(self, small, refuses, as_asked):
        other = as_asked(small.haadf.isig[:-1, :])
        refuses(
            "haadf: found 24 x 29 pixels .*24 x 30.*rebin .*interpolate_on_axis",
            other,
            maps=as_asked(small.maps),
        )

    def test_array_of_another_shape(self, small, refuses):
        refuses("haadf: found 30 x 24 pixels", np.array(small.haadf.data).T)

    @pytest.mark.parametrize(
        "scale, units", [(0.405, "nm"), (4.05, "Å"), (0.4, "µm"), (-0.4, "nm")]
    )
    def test_pixel_sizes_that_differ(self, small, refuses, scale, units):
        small.haadf.axes_manager["x"].scale = scale
        small.haadf.axes_manager["x"].units = units
        refuses("haadf: found pixels of .*along 'x'.*0.4 nm.*within 1 %.*rebin", small.haadf)

    @pytest.mark.parametrize(
        "scale, units",
        [(0.4039, "nm"), (4.0, "Å"), (0.0004, "µm"), (4.0e-10, "m"), (1.0, ""), (3.0, "px")],
    )
    def test_pixel_sizes_that_agree(self, small, scale, units):
        for axis in small.haadf.axes_manager.signal_axes:
            axis.scale, axis.units, axis.offset = scale, units, -3.0
        model = small.maps.create_model(small.haadf)
        model.fit(max_iterations=2, tolerance=0, **PLAIN)
        assert model.haadf_fit.axes_manager["x"].scale == scale
        assert model.fused.axes_manager["x"].scale == 0.4

    def test_units_that_are_no_length(self, small, refuses):
        small.haadf.axes_manager["x"].units = "1/nm"
        refuses("units '1/nm' of the axis 'x' cannot be converted into 'nm'", small.haadf)

    def test_non_uniform_axis(self, small, refuses):
        image = hs.signals.Signal2D(
            small.haadf.data, axes=[{"axis": np.arange(24.0) ** 2}, {"size": 30}]
        )
        refuses(r"haadf: the axis .* is not uniform.*interpolate_on_axis\('uniform'", image)

    @pytest.mark.parametrize("shape, dimension", [((3, 24, 30), 2), ((24, 30, 5), 1), ((24,), 1)])
    def test_not_one_image(self, refuses, shape, dimension):
        signal = hs.signals.BaseSignal(np.random.default_rng(0).random(shape))
        refuses("haadf: found .*two-dimensional image", signal.transpose(signal_axes=dimension))

    def test_array_that_is_no_image(self, refuses):
        refuses(r"haadf: found ndarray of shape \(24, 30, 1\)", np.ones((24, 30, 1)))
        refuses("haadf: found list of shape", ["HAADF"])

    def test_complex_image(self, small, refuses):
        refuses("haadf: .*complex128.*real numbers", small.haadf * 1j)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, small, refuses, value, as_asked):
        small.haadf.data[3, 4:6] = value
        refuses("haadf: found 2 NaN or infinite pixels", as_asked(small.haadf))

    def test_constant(self, small, refuses):
        small.haadf.data[:] = 65535
        refuses("haadf: found 65535.* at every pixel; an image with contrast", small.haadf)

    def test_virtual_image_with_navigation_axes_only_is_an_image(self, small):
        model = small.maps.create_model(small.haadf.T)
        np.testing.assert_array_equal(model.haadf.data, small.haadf.data)

    def test_integers_and_arrays_are_images(self, small):
        whole = np.rint(small.haadf.data).astype(np.uint16)
        model = small.maps.create_model(whole)
        assert model.haadf.data.dtype == np.uint16
        assert model.haadf.axes_manager["x"].scale == 0.4


class TestMaps:
    def test_no_names(self, small, refuses):
        del small.maps.metadata.Sample.elements
        refuses("maps: found no element names; set metadata.Sample.elements", maps=small.maps)

    def test_wrong_number_of_names(self, small, refuses):
        small.maps.metadata.Sample.elements = ["Co", "S"]
        refuses(r"found 2 names \(Co, S\) for 3 maps", maps=small.maps)

    def test_unknown_element(self, small, refuses):
        small.maps.metadata.Sample.elements = ["Co", "S", "Ox"]
        refuses("elements: 'Ox' is not the symbol", maps=small.maps)

    def test_non_uniform_axis(self, refuses):
        maps = hs.signals.Signal2D(
            np.ones((1, 4, 3)), axes=[{"size": 1}, {"axis": np.arange(4.0) ** 2}, {"size": 3}]
        )
        maps.set_signal_type("ElementMaps")
        maps.metadata.set_item("Sample.elements", ["Fe"])
        refuses("maps: the axis .* is not uniform", None, maps=maps)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, small, refuses, value, as_asked):
        small.maps.change_dtype("float64")
        small.maps.data[1, 3, 4] = value
        refuses("maps: found 1 NaN or infinite values in the map of S", maps=as_asked(small.maps))

    def test_series_of_maps(self, small):
        """A model is of one frame; fuse() takes series."""
        series = hs.stack([small.maps, small.maps], show_progressbar=False)
        with pytest.raises(ValueError, match=r"maps: found .*\(3, 2\|30, 24\).*Choose one frame"):
            series.create_model(small.haadf)

    def test_negative_values_with_the_poisson_likelihood(self, small, refuses, as_asked):
        small.maps.change_dtype("float64")
        small.maps.data[2, 0, 0] = -0.5
        refuses(
            "maps: found negative values in the map of O .*-0.5.*fidelity='gaussian'",
            maps=as_asked(small.maps),
            fidelity="poisson",
        )

    def test_fractions_with_the_poisson_likelihood_are_warned_of(self, small, as_asked):
        maps = as_asked(small.maps / 500)
        with pytest.warns(
            UserWarning, match="instead of counts .* Co .fractions up to .* S .* O .*variance"
        ):
            maps.create_model(fidelity="poisson")

    def test_filtered_maps_with_the_poisson_likelihood_are_warned_of(self, real_data):
        images = hs.load(real_data("velox/si_16x16_with_maps.emd"))
        stored = [s for s in images if s.metadata.General.title in ("C", "O")]
        with pytest.warns(
            UserWarning, match="multiples of 1/9, as a 3 x 3 mean filter.*Velox.*variance"
        ):
            fmm.element_maps(stored).create_model(fidelity="poisson")

    def test_empty_map_is_warned_of_and_stays_zero(self, small, as_asked):
        small.maps.data[1] = 0
        maps = as_asked(small.maps)
        with pytest.warns(UserWarning, match="the map of S is zero everywhere"):
            fused, model = maps.fuse(small.haadf, return_model=True, tolerance=1e-2)
        assert model.weights[1] == 0
        assert not np.asarray(fused.data[1]).any()
        assert np.asarray(fused.data[0]).any()

    def test_only_empty_maps(self, small):
        small.maps.data[:] = 0
        with pytest.warns(UserWarning, match="the maps of Co, S, O are zero everywhere"):
            fused = small.maps.fuse(small.haadf)
        assert not fused.data.any()


class TestOptions:
    @pytest.mark.parametrize("gamma", [0.99, 2.51, -1, np.nan, np.inf, "1.7", True])
    def test_gamma(self, refuses, gamma):
        refuses("gamma: found .*number from 1 to 2.5 is needed", gamma=gamma)

    @pytest.mark.parametrize("gamma", [1, 2.5, np.float32(1.5)])
    def test_gamma_at_its_limits(self, small, gamma):
        assert small.maps.create_model(small.haadf, gamma=gamma).gamma == gamma

    @pytest.mark.parametrize("weights", [[1, -1, 1], {"Co": 1, "S": 1, "O": -1}, -2])
    def test_negative_weights(self, refuses, weights):
        refuses("weights: found Co: .*finite numbers >= 0", weights=weights)

    @pytest.mark.parametrize(
        "weights, found",
        [
            ([1, 2], r"shape \(2,\).*Co, S, O"),
            ({"Co": 1, "S": 1}, "no value for O"),
            ({"Co": 1, "S": 1, "O": 1, "Fe": 1}, "unknown Fe"),
            ("given", "'given'"),
            ([1, np.nan, 1], "S: nan"),
        ],
    )
    def test_weights_that_do_not_fit(self, refuses, weights, found):
        refuses(f"weights: found .*{found}", weights=weights)

    @pytest.mark.parametrize("value", [0, [1, 0, 1], {"Co": 1, "S": -1, "O": 1}, "auto"])
    def test_sensitivities(self, refuses, value):
        refuses("sensitivities: found", sensitivities=value)

    def test_weights_and_sensitivities(self, refuses):
        refuses("weights: .*sensitivities", weights=[1, 1, 1], sensitivities=[1, 1, 1])

    @pytest.mark.parametrize(
        "option",
        [{"weights": [1, 1, 1]}, {"haadf_offset": 3.0}, {"haadf_noise": 1.0}, {"sensitivities": 1}],
    )
    def test_options_of_the_haadf_without_one(self, refuses, option):
        refuses(f"{next(iter(option))}: .*no HAADF image", None, **option)

    @pytest.mark.parametrize("offset", [np.nan, np.inf, "zero", [1, 2]])
    def test_haadf_offset(self, refuses, offset):
        refuses("haadf_offset: found", haadf_offset=offset)

    @pytest.mark.parametrize("noise", [0, -1, np.nan, "none", np.ones((3, 3)), np.zeros((24, 30))])
    def test_haadf_noise(self, refuses, noise):
        refuses("haadf_noise: found", haadf_noise=noise)

    @pytest.mark.parametrize(
        "fidelity", ["Poisson", ["poisson"], {"Fe": "poisson"}, 3, ["a", "b", "c"]]
    )
    def test_fidelity(self, refuses, fidelity):
        refuses("fidelity: found", fidelity=fidelity)

    def test_misspelt_choices_are_corrected(self, refuses):
        refuses("fidelity: found 'poison'.*Did you mean 'poisson'", fidelity="poison")

    @pytest.mark.parametrize(
        "background", [-1, {"Fe": 1}, np.ones((2, 24, 30)), np.full((3, 24, 30), np.nan), "some"]
    )
    def test_background(self, refuses, background):
        refuses("background: found", background=background)

    def test_background_of_a_gaussian_map(self, refuses):
        refuses(
            "background: found 2 for S, whose likelihood is Gaussian",
            background={"S": 2},
            fidelity={"S": "gaussian"},
        )

    @pytest.mark.parametrize("noise", [0, [1, 1, 0], {"S": 1}, np.zeros((3, 24, 30)), "known"])
    def test_noise(self, refuses, noise):
        refuses("noise: found", noise=noise, fidelity="gaussian")

    def test_noise_of_poisson_maps(self, refuses):
        refuses("noise: found 2, but every map has the Poisson likelihood", noise=2)

    def test_variance_that_is_not_positive(self, small, refuses):
        variance = small.maps * 0.0
        small.maps.set_noise_variance(variance)
        refuses("Noise_properties.variance: found 2160 values", fidelity="gaussian")

    def test_forward_and_preset(self, refuses):
        refuses("forward: found 'cubic'", forward="cubic")
        refuses("preset: found 'best'.*schwartz2022", preset="best")

    @pytest.mark.parametrize(
        "name, values",
        [
            ("lambda_haadf", [-1, np.nan, "one"]),
            ("lambda_chem", [0, -1, np.inf, "one"]),
            ("lambda_tv", [-1, [1, 2], {"Fe": 1}, np.nan, "strong"]),
            ("regularization", ["l1", None]),
            ("guided", ["yes", 1]),
            ("relative", ["yes", 1]),
            ("regularization_weights", ["equal", np.ones((24, 30)), -np.ones((3, 24, 30))]),
            ("solver", ["newton"]),
            ("initial", ["zero", np.ones((24, 30)), np.full((3, 24, 30), np.nan)]),
            ("tolerance", [-1e-3, np.nan, "auto"]),
            ("max_iterations", [0, -1, 2.5, True, "many"]),
            ("tv_iterations", [0, 1.5, "few", 3]),
            ("seed", [-1, 0.5]),
            ("num_workers", [0, -2, 1.5]),
        ],
    )
    def test_options_of_fit(self, refuses, name, values):
        for value in values:
            refuses(f"{name}: found", **{name: value})

    def test_guided_without_a_haadf(self, refuses):
        refuses("guided: found True, but the model has no HAADF", None, guided=True)
        refuses("relative: found True, but the model has no HAADF", None, relative=True)

    def test_relative_where_it_is_not_available(self, refuses):
        refuses("relative: found True with forward='power'", forward="power", relative=True)
        refuses("relative: found True with solver='grad", solver="gradient-descent", relative=True)


class TestScratch:
    @pytest.mark.parametrize("option", [{"scratch": "."}, {"resume": "."}])
    def test_maps_in_memory_need_no_folder(self, refuses, option):
        refuses(
            f"{next(iter(option))}: .*fitted in memory.*Leave it None",
            error=NotImplementedError,
            **option,
        )


def test_warnings_point_to_the_line_of_the_caller(small, recwarn):
    small.maps.data[1] = 0
    small.maps.create_model()
    small.maps.fuse(None, tolerance=1e-2)
    found = [w for w in recwarn if "zero everywhere" in str(w.message)]
    assert len(found) == 2
    assert all(w.filename == __file__ for w in found)


def test_an_unknown_option_lists_close_ones(small):
    with pytest.raises(TypeError, match="lambda_hadf: .*did you mean lambda_haadf"):
        small.maps.fuse(None, lambda_hadf=1.0)
    with pytest.raises(TypeError, match="sensitivity: .*did you mean sensitivities"):
        small.maps.fuse(None, sensitivity=1.0)
    for name in ("dictionary", "image"):
        with pytest.raises(TypeError, match=f"{name}: there is no such option"):
            small.maps.fuse(None, **{name: {}})


@pytest.mark.parametrize("model", ["FusedMultiModal", "LazyFusedMultiModal"])
def test_models_of_what_are_no_maps(small, model):
    for wrong in (3, small.haadf):
        with pytest.raises(TypeError, match="maps: found .*element maps are needed"):
            getattr(fmm, model)(wrong, small.haadf)
