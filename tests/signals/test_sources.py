"""Every source that maps come from, eager and lazy, keeps its values, names and calibration."""

import dask.array as da
import exspy  # noqa: F401  registers the spectrum classes
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm


@pytest.fixture
def spectrum_image():
    """X-ray counts of two elements on a 7 x 5 grid, with two lines of iron."""
    rng = np.random.default_rng(1)
    s = hs.signals.Signal1D(rng.poisson(1.0, (7, 5, 1024)).astype(np.uint16))
    s.set_signal_type("EDS_TEM")
    energy = s.axes_manager.signal_axes[0]
    energy.name, energy.scale, energy.units, energy.is_binned = "Energy", 0.01, "keV", True
    for axis, name, offset in zip(s.axes_manager.navigation_axes, "xy", (2.0, -1.0)):
        axis.name, axis.scale, axis.units, axis.offset = name, 0.25, "nm", offset
    s.set_microscope_parameters(beam_energy=200.0, energy_resolution_MnKa=130.0)
    s.metadata.General.title = "particle"
    s.metadata.General.date = "2020-02-02"
    s.metadata.set_item("Sample.description", "on carbon")
    return s


def check_calibration(maps):
    manager = maps.axes_manager
    assert [axis.name for axis in manager.navigation_axes] == ["Element"]
    assert manager.signal_shape == (5, 7)
    assert [axis.name for axis in manager.signal_axes] == ["x", "y"]
    assert [axis.scale for axis in manager.signal_axes] == [0.25, 0.25]
    assert [axis.offset for axis in manager.signal_axes] == [2.0, -1.0]
    assert [axis.units for axis in manager.signal_axes] == ["nm", "nm"]
    assert not any(axis.navigate for axis in manager.signal_axes)


def check_class(maps, lazy):
    assert type(maps) is (fmm.LazyElementMaps if lazy else fmm.ElementMaps)
    assert isinstance(maps.data, da.Array if lazy else np.ndarray)
    assert maps.metadata.Signal.signal_type == "ElementMaps"


def test_lines_intensity(spectrum_image, as_asked, lazy):
    intensities = as_asked(spectrum_image).get_lines_intensity(["O_Ka", "Fe_Ka"])
    maps = fmm.element_maps(intensities)
    check_class(maps, lazy)
    check_calibration(maps)
    assert maps.elements == ["O", "Fe"]
    assert maps.metadata.Sample.xray_lines == ["O_Ka", "Fe_Ka"]
    np.testing.assert_array_equal(
        np.asarray(maps.data), np.stack([np.asarray(i.data) for i in intensities])
    )
    assert maps.metadata.General.title == "Element maps of particle"
    assert maps.metadata.General.date == "2020-02-02"
    assert maps.metadata.Sample.description == "on carbon"
    assert maps.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    assert maps.metadata.Acquisition_instrument.TEM.Detector.EDS.energy_resolution_MnKa == 130.0


def test_two_lines_of_one_element_are_summed(spectrum_image, as_asked, lazy):
    intensities = as_asked(spectrum_image).get_lines_intensity(["Fe_Ka", "O_Ka", "Fe_La"])
    maps = fmm.element_maps(intensities)
    check_class(maps, lazy)
    assert maps.elements == ["Fe", "O"]
    assert maps.metadata.Sample.xray_lines == ["Fe_Ka", "Fe_La", "O_Ka"]
    fe_ka, o_ka, fe_la = (np.asarray(i.data) for i in intensities)
    np.testing.assert_array_equal(np.asarray(maps.data), [fe_ka + fe_la, o_ka])
    assert maps.inav[0].metadata.Sample.xray_lines == ["Fe_Ka", "Fe_La"]


def test_two_lines_stay_apart_on_request(spectrum_image, as_asked):
    intensities = as_asked(spectrum_image).get_lines_intensity(["Fe_Ka", "O_Ka", "Fe_La"])
    maps = fmm.element_maps(intensities, sum_lines=False)
    assert maps.elements == ["Fe", "O", "Fe"]
    assert maps.inav[2].metadata.Sample.xray_lines == ["Fe_La"]
    np.testing.assert_array_equal(
        np.asarray(maps.get_map("Fe_La").data), np.asarray(intensities[2].data)
    )
    with pytest.raises(ValueError, match="several maps of Fe.*Fe_Ka, O, Fe_La"):
        maps.get_map("Fe")


def test_sums_of_small_integers_do_not_wrap():
    maps = fmm.element_maps(
        {"Fe_Ka": np.full((3, 3), 200, "u1"), "Fe_La": np.full((3, 3), 200, "u1")}
    )
    assert (maps.data == 400).all()


@pytest.mark.parametrize("titles", [("Fe", "Fe-EELS"), ("Fe_Ka", "Fe_Ka"), ("Fe_Ka", "Fe L edge")])
def test_adding_maps_that_are_not_lines_is_warned_of(calibrated, titles):
    images = [calibrated(np.ones((4, 4)), title) for title in titles]
    with pytest.warns(UserWarning, match="source: found 2 maps of Fe that are not different"):
        maps = fmm.element_maps(images)
    assert (maps.data == 2).all()
    assert len(fmm.element_maps(images, sum_lines=False).elements) == 2


def test_quantification(spectrum_image):
    intensities = spectrum_image.get_lines_intensity(["O_Ka", "Fe_Ka"])
    fractions = spectrum_image.quantification(intensities, "CL", [1.0, 1.3], show_progressbar=False)
    maps = fmm.element_maps(fractions)
    check_calibration(maps)
    assert maps.elements == ["O", "Fe"]
    np.testing.assert_allclose(maps.data.sum(axis=0), 100)


def test_results_of_zeta_quantification_point_to_the_maps(spectrum_image):
    intensities = spectrum_image.get_lines_intensity(["O_Ka", "Fe_Ka"])
    with pytest.raises(TypeError, match=r"source\[0\].*quantification"):
        fmm.element_maps((intensities, intensities[0]))


@pytest.mark.parametrize(
    "titles", [("Fe L3 edge", "O K edge"), ("Fe_L", "O_K"), ("iron", "Oxygen map")]
)
def test_eels_edge_maps_are_named_by_their_titles(calibrated, as_asked, lazy, titles):
    rng = np.random.default_rng(2)
    edges = [calibrated(rng.normal(size=(4, 6)), title) for title in titles]
    for edge in edges:
        # as HyperSpy carries them over from the spectrum image: one list for all edges
        edge.metadata.set_item("Sample.elements", ["Fe", "O"])
    maps = fmm.element_maps(as_asked(edges))
    check_class(maps, lazy)
    assert maps.elements == ["Fe", "O"]
    assert not maps.metadata.has_item("Sample.xray_lines")
    np.testing.assert_array_equal(np.asarray(maps.data), [edge.data for edge in edges])


def test_velox_maps(real_data):
    images = hs.load(real_data("velox/si_16x16_with_maps.emd"))
    stored = [s for s in images if s.metadata.General.title in ("C", "Ca", "O", "Cu")]
    haadf = next(s for s in images if s.metadata.General.title == "HAADF")
    maps = fmm.element_maps(stored)
    assert maps.elements == ["C", "Ca", "O", "Cu"]
    assert maps.axes_manager.signal_axes[0].units == "nm"
    assert maps.axes_manager.signal_axes[0].scale == haadf.axes_manager["x"].scale
    assert maps.axes_manager["y"].offset == stored[0].axes_manager["y"].offset
    np.testing.assert_array_equal(maps.data, [s.data for s in stored])
    with pytest.raises(ValueError, match="HAADF.*leave out signals that are not element maps"):
        fmm.element_maps(stored + [haadf])


def test_dict_of_signals_and_arrays(calibrated, as_asked, lazy):
    plain = np.arange(24.0).reshape(4, 6)
    signal = calibrated(plain + 1, scale=0.2)
    maps = fmm.element_maps({"Fe_Ka": as_asked(signal), "O": plain})
    check_class(maps, lazy)
    assert maps.elements == ["Fe", "O"]
    assert maps.axes_manager["x"].scale == 0.2
    np.testing.assert_array_equal(np.asarray(maps.data), [plain + 1, plain])


def test_calibration_comes_from_the_first_calibrated_signal(calibrated):
    maps = fmm.element_maps(
        {"Fe": hs.signals.Signal2D(np.ones((4, 6))), "O": calibrated(np.ones((4, 6)), scale=0.2)}
    )
    assert maps.axes_manager["x"].scale == 0.2 and maps.axes_manager["x"].units == "nm"


def test_stack_with_elements_given(calibrated, as_asked, lazy):
    stack = calibrated(np.random.default_rng(3).poisson(2, (3, 4, 6)), "my stack")
    stack.metadata.set_item("Mine.note", "kept")
    stack.original_metadata.set_item("detector", "four segments")
    maps = fmm.element_maps(as_asked(stack), ["Fe", "Co", "Ni"])
    check_class(maps, lazy)
    assert maps.elements == ["Fe", "Co", "Ni"]
    assert maps.axes_manager.navigation_axes[0].name == "Element"
    assert maps.metadata.General.title == "my stack"
    assert maps.metadata.Mine.note == "kept"
    assert maps.original_metadata.detector == "four segments"
    np.testing.assert_array_equal(np.asarray(maps.data), stack.data)


def test_stack_with_elements_in_its_metadata(calibrated):
    stack = calibrated(np.ones((2, 4, 6)))
    stack.metadata.set_item("Sample.elements", ["Fe", "Co"])
    assert fmm.element_maps(stack).elements == ["Fe", "Co"]


def test_stacked_intensities(spectrum_image):
    intensities = spectrum_image.get_lines_intensity(["O_Ka", "Fe_Ka"])
    maps = fmm.element_maps(hs.stack(intensities, show_progressbar=False), ["O_Ka", "Fe_Ka"])
    check_calibration(maps)
    np.testing.assert_array_equal(maps.data, [i.data for i in intensities])


def test_element_maps_can_be_put_together(as_asked):
    one = fmm.element_maps({"Fe_Ka": np.ones((4, 4)), "O": np.zeros((4, 4))})
    other = fmm.element_maps({"Pt": np.full((4, 4), 2.0)})
    maps = fmm.element_maps(as_asked([one, other]))
    assert maps.elements == ["Fe", "O", "Pt"]
    assert maps.metadata.Sample.xray_lines == ["Fe_Ka"]
    again = fmm.element_maps(maps)
    assert again.elements == maps.elements


def test_one_map_has_an_element_axis_too(calibrated, as_asked, lazy):
    maps = fmm.element_maps([as_asked(calibrated(np.ones((4, 6)), "Fe"))])
    check_class(maps, lazy)
    assert maps.data.shape == (1, 4, 6)
    assert maps.axes_manager.navigation_axes[0].name == "Element"


def test_lazy_if_any_input_is_lazy(calibrated):
    eager, other = calibrated(np.ones((4, 6)), "Fe"), calibrated(np.ones((4, 6)), "O")
    assert isinstance(fmm.element_maps([eager, other.as_lazy()]), fmm.LazyElementMaps)
    assert isinstance(fmm.element_maps({"Fe": da.ones((4, 6))}), fmm.LazyElementMaps)
    assert isinstance(fmm.element_maps([eager, other]), fmm.ElementMaps)


def test_noise_variance_is_stacked_and_added(calibrated):
    first, second, other = (calibrated(np.ones((4, 6)), title) for title in ("Fe_Ka", "Fe_La", "O"))
    first.set_noise_variance(calibrated(np.full((4, 6), 2.0)))
    second.set_noise_variance(3.0)
    other.set_noise_variance(5.0)
    maps = fmm.element_maps([first, second, other])
    np.testing.assert_array_equal(
        maps.get_noise_variance().data, [np.full((4, 6), 5.0), np.full((4, 6), 5.0)]
    )
    np.testing.assert_array_equal(maps.inav[1].get_noise_variance().data, np.full((4, 6), 5.0))


def test_background_is_put_together(as_asked):
    """Gross counts stay gross counts with a known background."""
    one = fmm.element_maps({"Fe_Ka": np.full((4, 6), 3), "O": np.full((4, 6), 2)})
    one.metadata.set_item("Background.counts", one * 0.5)
    one.metadata.set_item("Background.windows", [1, 2])
    other = fmm.element_maps({"Fe_La": np.full((4, 6), 7)})
    other.metadata.set_item("Background.counts", other * 0.0 + 1.0)
    plain = fmm.element_maps({"Pt": np.full((4, 6), 9)})
    maps = fmm.element_maps(as_asked([one, other, plain]))
    assert maps.elements == ["Fe", "O", "Pt"]
    np.testing.assert_array_equal(
        np.asarray(maps.metadata.Background.counts.data)[:, 0, 0], [2.5, 1, 0]
    )
    np.testing.assert_array_equal(maps.create_model().background[:, 3, 3], [2.5, 1, 0])
    same = fmm.element_maps(as_asked(one))
    assert same.metadata.Background.windows == [1, 2]
    np.testing.assert_array_equal(np.asarray(same.metadata.Background.counts.data), one.data / 2)


def test_inputs_are_untouched(calibrated, as_asked):
    signals = [calibrated(np.arange(24).reshape(4, 6) + i, t) for i, t in enumerate(("Fe", "O"))]
    before = [
        (s.data.copy(), s.metadata.as_dictionary(), s.axes_manager.as_dictionary()) for s in signals
    ]
    maps = fmm.element_maps(as_asked(signals))
    maps.data = maps.data + 1
    maps.metadata.General.title = "changed"
    maps.axes_manager["x"].scale = 7.0
    eager = fmm.element_maps(signals)
    eager.data += 1
    for s, (data, metadata, axes) in zip(signals, before):
        np.testing.assert_array_equal(s.data, data)
        assert s.metadata.as_dictionary() == metadata
        assert s.axes_manager.as_dictionary() == axes
    stack = calibrated(np.ones((2, 4, 6)))
    fmm.element_maps(stack, ["Fe", "O"]).data[:] = 0
    assert (stack.data == 1).all()


class TestBadInput:
    def test_no_element_name(self, calibrated):
        with pytest.raises(
            ValueError, match=r"source\[1\].*title is 'map 7'.*elements=\['Fe', ...\]"
        ):
            fmm.element_maps(
                [calibrated(np.ones((4, 4)), "Fe"), calibrated(np.ones((4, 4)), "map 7")]
            )

    def test_ambiguous_metadata_is_not_guessed(self, calibrated):
        image = calibrated(np.ones((4, 4)), "signal")
        image.metadata.set_item("Sample.elements", ["Fe", "O"])
        with pytest.raises(ValueError, match="it lists Fe, O"):
            fmm.element_maps([image])

    def test_array_without_a_name(self):
        with pytest.raises(ValueError, match="no element name"):
            fmm.element_maps([np.ones((4, 4))])

    def test_unknown_element(self):
        with pytest.raises(ValueError, match="elements: 'Qq' is not the symbol"):
            fmm.element_maps({"Qq": np.ones((4, 4))})

    def test_wrong_number_of_names(self):
        with pytest.raises(ValueError, match=r"elements: found 1 names \(Fe\) for 2 maps"):
            fmm.element_maps([np.ones((4, 4)), np.ones((4, 4))], ["Fe"])

    def test_name_that_contradicts_the_metadata(self, calibrated):
        with pytest.warns(UserWarning, match=r"source\[0\] is called 'O'.*says 'Fe'"):
            maps = fmm.element_maps([calibrated(np.ones((4, 4)), "Fe")], ["O"])
        assert maps.elements == ["O"]

    def test_dict_and_elements(self):
        with pytest.raises(TypeError, match="elements: a dict already names"):
            fmm.element_maps({"Fe": np.ones((4, 4))}, ["Fe"])

    def test_shapes_that_differ(self, calibrated):
        with pytest.raises(ValueError, match=r"source\[1\]: found 4 x 5 .* 4 x 4 in source\[0\]"):
            fmm.element_maps([calibrated(np.ones((4, 4)), "Fe"), calibrated(np.ones((4, 5)), "O")])
        with pytest.raises(ValueError, match=r"\(4, 5\).*\(4, 4\)"):
            fmm.element_maps({"Fe": np.ones((4, 4)), "O": np.ones((4, 5))})

    def test_pixel_sizes_that_differ(self, calibrated):
        with pytest.raises(ValueError, match="0.52 nm.*0.5 nm.*within 1 %"):
            fmm.element_maps(
                [calibrated(np.ones((4, 4)), "Fe"), calibrated(np.ones((4, 4)), "O", scale=0.52)]
            )

    def test_offsets_and_units_may_differ(self, calibrated):
        images = [
            calibrated(np.ones((4, 4)), "Fe"),
            calibrated(np.ones((4, 4)), "O", scale=5.001, units="Å", offset=0.0),
        ]
        with pytest.warns(UserWarning, match=r"source\[1\]: the first pixel lies at"):
            maps = fmm.element_maps(images)
        assert maps.axes_manager["x"].units == "nm"

    def test_spectrum_image(self, spectrum_image):
        with pytest.raises(ValueError, match="spectrum image.*get_lines_intensity"):
            fmm.element_maps([spectrum_image], ["Fe"])

    def test_non_uniform_axis(self):
        stack = hs.signals.Signal2D(
            np.ones((4, 5)),
            axes=[{"axis": np.array([0, 1, 2, 4.0])}, {"size": 5, "name": "x"}],
        )
        with pytest.raises(ValueError, match="not uniform.*interpolate_on_axis"):
            fmm.element_maps([stack], ["Fe"])

    @pytest.mark.parametrize("source", [None, 3, "Fe"])
    def test_no_source(self, source):
        with pytest.raises(TypeError, match="source: found"):
            fmm.element_maps(source)

    @pytest.mark.parametrize("source", [[], {}])
    def test_empty_source(self, source):
        with pytest.raises(ValueError, match="source: no maps"):
            fmm.element_maps(source)

    def test_complex_values(self):
        with pytest.raises(TypeError, match="complex128.*real numbers"):
            fmm.element_maps({"Fe": np.ones((4, 4), complex)})

    def test_vector(self):
        with pytest.raises(ValueError, match="found 1 dimension in ndarray"):
            fmm.element_maps({"Fe": np.ones(4)})
