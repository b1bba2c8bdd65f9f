"""Atomic percent of element maps, eager and lazy, and the phases in its distribution."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver.out_of_core import solution_of

SENSITIVITIES = {"Ga": 5.0, "O": 1.25}


@pytest.fixture
def film(calibrated):
    """Ga2O3 of varying thickness beside vacuum."""
    thickness = np.add.outer(np.linspace(1, 3, 20), np.linspace(0, 2, 16))
    thickness = np.concatenate([thickness, np.zeros((20, 8))], axis=1)
    images = [calibrated(2 * 5.0 * thickness, "Ga_Ka"), calibrated(3 * 1.25 * thickness, "O_Ka")]
    images[0].metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    for image in images:
        image.metadata.Signal.quantity = "X-rays (Counts)"
    return fmm.element_maps(images)


def values(signal):
    return np.asarray(signal.data)


@pytest.mark.parametrize("given", [SENSITIVITIES, [5.0, 1.25], np.array([400.0, 100.0])])
def test_known_stoichiometry(film, as_asked, given):
    percent = as_asked(film).atomic_percent(given)
    np.testing.assert_allclose(values(percent)[0, :, :16], 40, rtol=1e-6)
    np.testing.assert_allclose(values(percent)[1, :, :16], 60, rtol=1e-6)


def test_factors_of_quantification_are_sensitivities(film):
    """k-factors relate weight fractions to counts, cross sections atoms."""
    weights = {"Ga": 69.723, "O": 15.999}
    factors = {element: weights[element] / SENSITIVITIES[element] for element in weights}
    for given in (
        {"method": "CL", "factors": factors},
        {"method": "cross_section", "factors": SENSITIVITIES},
        fmm.sensitivities_from_factors(factors),
    ):
        percent = film.atomic_percent(given).data
        np.testing.assert_allclose(percent[0, :, :16], 40, rtol=1e-3)


def test_it_is_like_the_maps(film, as_asked, lazy):
    maps = as_asked(film)
    maps.metadata.set_item("Background.counts", film.deepcopy())
    before = values(maps).copy()
    percent = maps.atomic_percent(SENSITIVITIES)
    assert isinstance(percent, fmm.ElementMaps) and percent._lazy is lazy
    assert percent.elements == ["Ga", "O"]
    assert percent.metadata.Sample.xray_lines == ["Ga_Ka", "O_Ka"]
    assert percent.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    assert percent.metadata.Signal.quantity == "Atomic percent (%)"
    assert percent.metadata.General.title == "Element maps (atomic percent)"
    assert not percent.metadata.has_item("Background")
    for axis, other in zip(percent.axes_manager._axes, maps.axes_manager._axes):
        assert axis.get_axis_dictionary() == other.get_axis_dictionary()
    told = percent.metadata.FusedMultiModal.atomic_percent
    assert told.sensitivities == [5.0, 1.25] and told.sensitivities_source == "given"
    # The maps are what they were.
    np.testing.assert_array_equal(values(maps), before)
    assert maps.metadata.Signal.quantity == "X-rays (Counts)"
    assert maps.metadata.has_item("Background.counts")
    assert not maps.metadata.has_item("FusedMultiModal")


def test_lazy_and_eager_are_the_same_numbers(film):
    noisy = film._deepcopy_with_new_data(np.random.default_rng(0).poisson(film.data))
    eager = noisy.atomic_percent(SENSITIVITIES)
    lazy = noisy.as_lazy()
    lazy.data = lazy.data.rechunk((1, 7, 9))
    lazy = lazy.atomic_percent(SENSITIVITIES)
    assert hasattr(lazy.data, "dask")
    lazy.compute(show_progressbar=False)
    np.testing.assert_allclose(lazy.data, eager.data, rtol=1e-6)


def test_vacuum_has_no_composition(film, as_asked):
    film.data = film.data + np.random.default_rng(0).uniform(0, 0.05, film.data.shape)
    percent = values(as_asked(film).atomic_percent(SENSITIVITIES))
    assert np.isnan(percent[:, :, 16:]).all() and np.isfinite(percent[:, :, :16]).all()


def test_threshold_is_of_the_counts_of_all_elements(film, as_asked):
    total = film.data.sum(axis=0)
    least = float(np.median(total[:, :16]))
    percent = values(as_asked(film).atomic_percent(SENSITIVITIES, minimum_counts=least))
    np.testing.assert_array_equal(np.isfinite(percent[0]), total >= least)


def test_more_vacuum_does_not_change_the_threshold(film):
    larger = np.concatenate([film.data, np.zeros((2, 20, 500))], axis=2)
    larger = fmm.element_maps({"Ga": larger[0], "O": larger[1]})
    told = [
        maps.atomic_percent(SENSITIVITIES).metadata.FusedMultiModal.atomic_percent.minimum_counts
        for maps in (film, larger)
    ]
    assert told[0] == pytest.approx(told[1]) and told[0] > 0


def test_nothing_anywhere_has_no_composition(as_asked):
    maps = as_asked(fmm.element_maps({"Ga": np.zeros((5, 5)), "O": np.zeros((5, 5))}))
    for least in ("auto", 0):
        assert np.isnan(values(maps.atomic_percent([1, 1], minimum_counts=least))).all()


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
def test_files_keep_it(film, as_asked, lazy, extension, tmp_path):
    percent = as_asked(film).atomic_percent(SENSITIVITIES)
    percent.save(tmp_path / f"percent.{extension}")
    loaded = hs.load(tmp_path / f"percent.{extension}", lazy=lazy)
    assert isinstance(loaded, fmm.ElementMaps)
    np.testing.assert_array_equal(values(loaded), values(percent))
    assert loaded.metadata.FusedMultiModal.atomic_percent.sensitivities == [5.0, 1.25]
    assert loaded.composition_phases(["Ga"])["Ga"][0].mean == pytest.approx(40, abs=1e-3)


def test_frames_have_a_composition_each(film):
    data = np.stack([film.data, 2 * film.data[:, ::-1]])
    frames = hs.signals.Signal2D(data)
    frames.metadata.set_item("Sample.elements", ["Ga", "O"])
    frames.set_signal_type("ElementMaps")
    for axis, name in zip(frames.axes_manager.navigation_axes, ("Element", "Frame")):
        axis.name = name
    percent = frames.atomic_percent(SENSITIVITIES)
    assert percent.data.shape == (2, 2, 20, 24)
    np.testing.assert_allclose(percent.data[:, 0, :, :16], 40, rtol=1e-6)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"Ga": 5.0}, "sensitivities: found no value for O"),
        ({"Ga": 5.0, "O": 1.0, "Fe": 2.0}, "sensitivities: found unknown Fe"),
        ([1.0, 2.0, 3.0], "sensitivities: found an array of shape \\(3,\\)"),
        ([1.0, 0.0], "sensitivities: found Ga: 1, O: 0; finite numbers > 0"),
        ([1.0, np.nan], "sensitivities"),
        ("Ga", "sensitivities"),
        (None, "these maps were not fused"),
    ],
)
def test_wrong_sensitivities_are_named(film, given, message):
    with pytest.raises(ValueError, match=message):
        film.atomic_percent(given)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"minimum_counts": -1}, "minimum_counts: found -1"),
        ({"minimum_counts": "most"}, "minimum_counts: found 'most'"),
        ({"keep_totals": "yes"}, "keep_totals: found 'yes'"),
        ({"sensitivities_error": -0.1}, "sensitivities_error"),
        ({"sensitivities_error": {"Fe": 0.1}}, "sensitivities_error: found unknown Fe"),
        ({"return_error": True}, "estimate_poissonian_noise_variance"),
        ({"return_error": True, "covariance": np.ones((2, 2))}, "covariance: found an array"),
    ],
)
def test_wrong_options_are_named(film, wrong, message):
    with pytest.raises(ValueError, match=message):
        film.atomic_percent(SENSITIVITIES, **wrong)


def test_one_map_has_no_composition(film):
    with pytest.raises(ValueError, match="at least two"):
        film.inav[:1].atomic_percent([1.0])
    with pytest.raises(ValueError, match="at least two"):
        film.get_map("Ga").atomic_percent([1.0])


def test_lines_of_one_element_are_refused():
    maps = fmm.element_maps(
        [np.ones((4, 4))] * 3, elements=["Fe_Ka", "Fe_La", "O_Ka"], sum_lines=False
    )
    with pytest.raises(ValueError, match="several maps of Fe"):
        maps.atomic_percent([1, 1, 1])
    assert maps.inav[1:].atomic_percent([1, 1]).data.shape == (2, 4, 4)


def test_percent_of_percent_is_refused(film):
    with pytest.raises(ValueError, match="atomic percent already"):
        film.atomic_percent(SENSITIVITIES).atomic_percent(SENSITIVITIES)


def test_measured_counts_have_errors_of_counting(film, as_asked, lazy):
    """For two elements of equal sensitivity, the error of a share: sqrt(p (1 - p) / n)."""
    maps = as_asked(film)
    maps.estimate_poissonian_noise_variance()
    percent, error = maps.atomic_percent([1, 1], return_error=True)
    assert error._lazy is lazy and error.elements == ["Ga", "O"]
    total = film.data.sum(axis=0)[:, :16]
    share = film.data[0, :, :16] / total
    expected = 100 * np.sqrt(share * (1 - share) / total)
    np.testing.assert_allclose(values(error)[0, :, :16], expected, rtol=1e-5)
    np.testing.assert_allclose(values(error)[1], values(error)[0], rtol=1e-5)
    assert np.isnan(values(error)[:, :, 16:]).all()
    assert error.metadata.Signal.quantity == "Atomic percent (%)"
    if not lazy:
        np.testing.assert_allclose(percent.get_noise_variance().data, error.data**2, equal_nan=True)


def test_variance_of_the_counts_is_not_that_of_the_percentages(film):
    film.set_noise_variance(4.0)
    assert film.atomic_percent(SENSITIVITIES).get_noise_variance() is None
    assert film.get_noise_variance() == 4.0


def test_covariance_given_and_errors_of_sensitivities(film):
    variance = np.zeros((2, 2) + film.data.shape[1:])
    _, error = film.atomic_percent(
        SENSITIVITIES, return_error=True, covariance=variance, sensitivities_error=[0.06, 0.08]
    )
    # 100 p (1 - p) times the relative error of the ratio.
    np.testing.assert_allclose(error.data[:, :, :16], 24 * 0.1, rtol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_maps_of_measured_totals(film, as_asked, known):
    """Half of the oxygen lost makes no difference where the totals are kept."""
    fused = film.deepcopy()
    fused.data[1] /= 2
    if known:
        fused.metadata.set_item("FusedMultiModal.elements", ["O", "Ga"])
        fused.metadata.set_item("FusedMultiModal.kept_counts", [0.5, 1.0])
    fused, measured = as_asked(fused), as_asked(film)
    percent = fused.atomic_percent(SENSITIVITIES, keep_totals=True if known else measured)
    np.testing.assert_allclose(values(percent)[0, :, :16], 40, rtol=1e-5)
    plain = fused.atomic_percent(SENSITIVITIES, keep_totals=False)
    np.testing.assert_allclose(values(plain)[0, :, :16], 100 * 2 / 3.5, rtol=1e-5)
    # Of a part of the maps, the share is that of the whole.
    if known:
        part = fused.isig[:8, :8].atomic_percent(SENSITIVITIES)
        np.testing.assert_allclose(values(part)[0], 40, rtol=1e-5)


def test_measured_maps_are_taken_less_their_background(film):
    measured = film + 2.0
    measured.metadata.set_item("Background.counts", film * 0 + 2.0)
    percent = film.atomic_percent(SENSITIVITIES, keep_totals=measured)
    np.testing.assert_allclose(percent.data[0, :, :16], 40, rtol=1e-5)
    with pytest.raises(ValueError, match="keep_totals: found maps of O of shape"):
        film.atomic_percent(SENSITIVITIES, keep_totals=measured.inav[1:])


def test_maps_that_lost_most_counts_are_warned_of(film):
    film.metadata.set_item("FusedMultiModal.elements", ["Ga", "O"])
    film.metadata.set_item("FusedMultiModal.kept_counts", [1.0, 0.2])
    with pytest.warns(UserWarning, match="O: 20 % of its counts"):
        film.atomic_percent(SENSITIVITIES)


@pytest.mark.filterwarnings("ignore:weights")
def test_maps_fused_in_chunks(monkeypatch):
    """They are solved once, when the percentages are computed, and do not know their totals."""
    monkeypatch.setattr("hyperspy_fusedmm.signals.lazy_fusion.CHUNK", 32)
    film = fmm.data.gallium_oxide_film(shape=(48, 48), dose=5)
    weights = {"lambda_tv": "noise", "lambda_haadf": 0.5, "regularization": "tv", "guided": True}
    fused = film.maps.as_lazy().fuse(film.haadf, sensitivities=film.sensitivities, **weights)
    assert solution_of(fused.data) is not None
    assert not fused.metadata.has_item("FusedMultiModal.kept_counts")
    percent = fused.atomic_percent(keep_totals=film.maps.as_lazy())
    assert percent._lazy
    percent.compute(show_progressbar=False)
    fused.compute(show_progressbar=False)
    again = fused.atomic_percent(keep_totals=film.maps)
    np.testing.assert_allclose(percent.data, again.data, rtol=1e-4)
    assert abs(np.nanmean(percent.data[0]) - 40) < 2


class TestPhases:
    @pytest.fixture
    def percent(self):
        rng = np.random.default_rng(0)
        gallium = rng.normal(40, 1, (60, 60))
        gallium[:, :20] = rng.normal(70, 2, (60, 20))
        maps = fmm.element_maps({"Ga": 10 * gallium, "O": 10 * (100 - gallium)})
        return maps.atomic_percent([1, 1])

    def test_known_phases(self, percent, as_asked):
        found = as_asked(percent).composition_phases()
        assert list(found) == ["Ga", "O"]
        for phases, means in ((found["Ga"], (40, 70)), (found["O"], (30, 60))):
            np.testing.assert_allclose([phase.mean for phase in phases], means, atol=0.3)
        np.testing.assert_allclose([p.share for p in found["Ga"]], [2 / 3, 1 / 3], atol=0.01)
        np.testing.assert_allclose([p.spread for p in found["Ga"]], [1, 2], rtol=0.1)

    def test_elements_and_numbers(self, percent):
        assert list(percent.composition_phases(["O"])) == ["O"]
        found = percent.composition_phases(phases={"O": 1})
        assert len(found["O"]) == 1 and len(found["Ga"]) == 2
        assert len(percent.composition_phases("Ga", phases=3)["Ga"]) == 3

    @pytest.mark.parametrize(
        "wrong, message",
        [
            ({"elements": ["Fe"]}, "elements: 'Fe' found"),
            ({"phases": 0}, "phases: found 0"),
            ({"phases": "two"}, "phases: found 'two'"),
            ({"phases": {"Fe": 1}}, "phases: found unknown Fe"),
        ],
    )
    def test_wrong_options_are_named(self, percent, wrong, message):
        with pytest.raises(ValueError, match=message):
            percent.composition_phases(**wrong)

    def test_counts_have_none(self, film):
        for ask in (film.composition_phases, film.plot_composition_histogram):
            with pytest.raises(ValueError, match="call atomic_percent\\(\\) first"):
                ask()
