"""Atomic percent of fused maps: from sensitivities and from weights, with errors that fit."""

import hyperspy.api as hs
import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.models.composition import RegionComposition
from hyperspy_fusedmm.solver.refit_fractions import RefitFractions

QUICK = {"replicates": 4, "show_progressbar": False}
EQUAL = [1.0, 1.0, 1.0]
NUMBERS = np.array([27.0, 16.0, 8.0])


@pytest.fixture(scope="module")
def fitted_film():
    specimen = fmm.data.gallium_oxide_film(shape=(48, 48), dose=10)
    model = specimen.maps.create_model(specimen.haadf, sensitivities=specimen.sensitivities)
    model.fit(show_progressbar=False)
    return model


@pytest.fixture
def film(fitted_film):
    """A fitted model of a Ga2O3 film: 40 atomic percent of gallium everywhere."""
    return fitted_film.maps.deepcopy().create_model(dictionary=fitted_film.as_dictionary())


def percentages(maps, sensitivities):
    atoms = maps / np.asarray(sensitivities)[:, None, None]
    return 100 * atoms / atoms.sum(axis=0)


def test_model_and_maps_say_the_same(film):
    np.testing.assert_array_equal(film.atomic_percent().data, film.fused.atomic_percent().data)
    assert film.atomic_percent().metadata.Signal.quantity == "Atomic percent (%)"


def test_totals_are_those_of_the_counts(film):
    kept = np.array(film.fused.metadata.FusedMultiModal.kept_counts)
    np.testing.assert_allclose(
        film.fused.data.sum(axis=(1, 2)) / kept, film.maps.data.sum(axis=(1, 2)), rtol=1e-5
    )
    whole = film.region_composition(np.ones((48, 48), bool), **QUICK)
    atoms = film.maps.data.sum(axis=(1, 2)) / film.sensitivities
    np.testing.assert_allclose(whole.percent, 100 * atoms / atoms.sum(), rtol=1e-5)


def test_totals_are_net_of_the_background(small):
    model = small.maps.create_model(small.haadf, background=[0.2, 0.1, 0.4], **small.scale)
    model.fit(tolerance=1e-2, **PLAIN)
    kept = model.fused.metadata.FusedMultiModal.kept_counts
    net = small.maps.data.sum(axis=(1, 2)) - 24 * 30 * np.array([0.2, 0.1, 0.4])
    np.testing.assert_allclose(kept, model.fused.data.sum(axis=(1, 2)) / net, rtol=1e-5)


def test_sensitivities_of_the_fit_are_the_default(film):
    given = film.atomic_percent(film.sensitivities)
    np.testing.assert_allclose(film.atomic_percent().data, given.data, rtol=1e-5)
    told = film.atomic_percent().metadata.FusedMultiModal.atomic_percent
    assert told.sensitivities_source == "sensitivities of the fit"


@pytest.mark.parametrize("forward", ["linear", "power"])
def test_weights_tell_the_atoms(small, forward):
    """Weights Z**gamma / s (Z / s for the power model) mean the sensitivities s."""
    sensitivities = np.array([3.0, 1.0, 0.5])
    exponent = 1.6 if forward == "linear" else 1.0
    model = small.maps.create_model(
        small.haadf,
        forward=forward,
        gamma=1.6,
        weights=0.01 * NUMBERS**exponent / sensitivities,
        haadf_offset=40.0,
        haadf_noise=2.0,
    )
    model.fit(tolerance=1e-2, max_iterations=300, **PLAIN)
    fused = model.fused
    np.testing.assert_allclose(
        fused.atomic_percent().data, fused.atomic_percent(sensitivities).data, rtol=1e-4
    )
    # And after elements were taken out.
    np.testing.assert_allclose(
        fused.inav[1:].atomic_percent().data,
        fused.inav[1:].atomic_percent(sensitivities[1:]).data,
        rtol=1e-4,
    )
    assert fused.atomic_percent().metadata.FusedMultiModal.atomic_percent.sensitivities_source == (
        "weights"
    )


def test_stoichiometry_from_weights_found_in_the_data():
    """No sensitivity known: maps of separate blobs calibrate the image, and the image the maps."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((64, 80))
    places = ((20, 20), (44, 30), (25, 60))
    atoms = np.stack([np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 200) for r, c in places])
    sensitivities = np.array([60.0, 40.0, 30.0])
    haadf = 40 + np.tensordot(NUMBERS**1.7, atoms, 1) + 2 * rng.normal(size=rows.shape)
    counts = rng.poisson(sensitivities[:, None, None] * atoms)
    model = fmm.element_maps(dict(zip(("Co", "S", "O"), counts))).create_model(haadf)
    model.fit(show_progressbar=False, **PLAIN)
    assert model.fused.metadata.FusedMultiModal.weights_rule == "fitted"
    found = model.region_composition(np.ones((64, 80), bool), **QUICK).percent
    whole = atoms.sum(axis=(1, 2))
    np.testing.assert_allclose(found, 100 * whole / whole.sum(), rtol=0.15)


def retold(fused, **told):
    """Maps that say something else of their fusion."""
    for name, value in told.items():
        fused.metadata.set_item(f"FusedMultiModal.{name}", value)
    return fused


@pytest.mark.parametrize(
    "told, message",
    [
        ({"weights_rule": "prior"}, "the maps did not determine the weights"),
        ({"weights_rule": "none"}, "without a HAADF image"),
        ({"weights_rule": "preset"}, "the preset"),
        ({"preset": "schwartz2022"}, "the preset"),
        ({"weights_rule": "guess"}, "'guess'"),
        ({"weights_rule": "fitted", "forward": "power"}, "only the common factor"),
        ({"gamma_rule": "fitted"}, "gamma was fitted"),
        ({"weights": [1.0, 0.0, 2.0]}, "gives S no weight"),
        ({"elements": ["Co", "Fe", "O"]}, "fused as Co, Fe, O"),
    ],
)
def test_weights_that_tell_nothing_are_refused(fitted, told, message):
    fused = retold(fitted.fused, **told)
    with pytest.raises(ValueError, match=f"sensitivities: found none.*{message}"):
        fused.atomic_percent()
    assert fused.atomic_percent(EQUAL).data.shape == fused.data.shape


@pytest.mark.filterwarnings("ignore:weights")
def test_what_cannot_be_known_is_refused():
    """One composition everywhere: the weights are a guess, and so would the composition be."""
    specimen = fmm.data.gallium_oxide_film(shape=(32, 32), dose=5)
    options = {"tolerance": 1e-2, "show_progressbar": False, **PLAIN}
    fused = specimen.maps.fuse(specimen.haadf, **options)
    with pytest.raises(ValueError, match="sensitivities: found none, and"):
        fused.atomic_percent()
    fused = specimen.maps.fuse(None, **options)
    with pytest.raises(ValueError, match="without a HAADF image"):
        fused.atomic_percent()


def test_a_file_tells_the_composition_as_well(film, tmp_path, lazy):
    film.fused.save(tmp_path / "fused.hspy")
    loaded = hs.load(tmp_path / "fused.hspy", lazy=lazy)
    percent = loaded.atomic_percent()
    assert percent._lazy is lazy
    np.testing.assert_allclose(np.asarray(percent.data), film.atomic_percent().data, rtol=1e-5)


def test_lazy_maps_have_lazy_percentages(film):
    maps = film.maps.as_lazy()
    model = maps.create_model(film.haadf, sensitivities=film.sensitivities)
    model.fit(show_progressbar=False)
    percent, error = model.atomic_percent(return_error=True, **QUICK)
    assert percent._lazy and error._lazy
    eager = film.atomic_percent(return_error=True, **QUICK)
    np.testing.assert_allclose(percent.data.compute(), eager[0].data, rtol=1e-5)
    np.testing.assert_allclose(error.data.compute(), eager[1].data, rtol=1e-4)


@pytest.mark.parametrize("method", ["bootstrap", "hessian"])
@pytest.mark.parametrize("keep_totals", [True, False])
def test_errors_are_like_the_percentages(film, method, keep_totals):
    percent, error = film.atomic_percent(
        return_error=True, method=method, keep_totals=keep_totals, **QUICK
    )
    assert error.elements == ["Ga", "O"] and error.data.shape == percent.data.shape
    assert error.metadata.General.title.endswith("(standard error of atomic percent)")
    assert (error.data > 0).all() and np.isfinite(error.data).all()
    # What one has too much the other has too little.
    np.testing.assert_allclose(error.data[0], error.data[1], rtol=1e-3)
    np.testing.assert_allclose(percent.get_noise_variance().data, error.data**2, rtol=1e-5)


def test_intervals_in_place_of_standard_errors(film, lazy):
    model = film
    if lazy:
        model = film.maps.as_lazy().create_model(film.haadf, sensitivities=film.sensitivities)
        model.fit(show_progressbar=False)
    percent, error = model.atomic_percent(return_error=True, **QUICK)
    halves = {}
    for confidence in (0.68, 0.95):
        same, half = model.atomic_percent(return_error=True, confidence=confidence, **QUICK)
        assert half._lazy is lazy and half.elements == ["Ga", "O"]
        assert half.metadata.General.title.endswith(
            f"(half-width of {100 * confidence:.0f} % interval of atomic percent)"
        )
        assert half.metadata.FusedMultiModal.atomic_percent.confidence == confidence
        np.testing.assert_array_equal(np.asarray(same.data), np.asarray(percent.data))
        if not lazy:
            np.testing.assert_allclose(same.get_noise_variance().data, error.data**2, rtol=1e-5)
        halves[confidence] = np.asarray(half.data)
    np.testing.assert_allclose(halves[0.95][0], halves[0.95][1], rtol=1e-3)
    assert (0 < halves[0.68]).all() and (halves[0.68] < halves[0.95]).all()
    found = np.abs(np.asarray(percent.data)[0] - 40) <= halves[0.95][0]
    assert found.mean() > 0.85


def test_intervals_of_the_bound_are_normal(film):
    options = {"return_error": True, "method": "hessian"}
    error = film.atomic_percent(**options)[1].data[0]
    half = film.atomic_percent(confidence=0.95, **options)[1].data[0]
    # Larger ones are cut off at what can be.
    small = half < 50
    assert small.mean() > 0.9
    np.testing.assert_allclose(half[small], 1.959964 * error[small], rtol=1e-5)


@pytest.mark.parametrize("wrong", [0, 1, -0.5, 95, "95 %", True, np.nan])
def test_wrong_confidence_is_refused(film, wrong):
    message = "confidence: found .*; a number above 0 and below 1 is needed"
    with pytest.raises(ValueError, match=message):
        film.atomic_percent(return_error=True, confidence=wrong)
    with pytest.raises(ValueError, match=message):
        film.upper_limit(wrong)


def test_an_interval_is_asked_for_with_its_errors(film):
    with pytest.raises(ValueError, match="confidence: .*return_error=True"):
        film.atomic_percent(confidence=0.95)


def test_errors_are_of_the_size_of_the_true_ones(film):
    percent, error = film.atomic_percent(return_error=True, replicates=8, show_progressbar=False)
    true = np.sqrt(((percent.data[0] - 40) ** 2).mean())
    assert 0.7 * true < np.sqrt((error.data[0] ** 2).mean()) < 2 * true


@pytest.mark.parametrize("given", [False, True])
def test_bias_is_held_to_the_noise_where_strengths_were_chosen(film, given, monkeypatch):
    if given:
        chosen = {name: getattr(film, name) for name in ("lambda_tv", *film.chosen_from_data[:-1])}
        film.fit(show_progressbar=False, **chosen)
    asked = []

    class Asked(RefitFractions):
        def __init__(self, *arguments, balanced):
            super().__init__(*arguments, balanced=balanced)
            asked.append(balanced)

    monkeypatch.setattr("hyperspy_fusedmm.models.composition.RefitFractions", Asked)
    film.atomic_percent(return_error=True, **QUICK)
    assert asked == [not given]


def test_maps_and_covariance_of_a_model(film):
    """Without the model at hand, what it stored does."""
    covariance = film.covariance("hessian")
    _, error = film.fused.atomic_percent(return_error=True, covariance=covariance)
    _, of_model = film.atomic_percent(return_error=True, method="hessian")
    np.testing.assert_allclose(error.data, of_model.data, rtol=1e-5)
    film.standard_error(**QUICK)
    with pytest.raises(ValueError, match="model.atomic_percent\\(return_error=True\\)"):
        film.fused.atomic_percent(return_error=True)


def test_errors_of_sensitivities_are_part_of_the_error(film):
    options = {"return_error": True, "method": "hessian"}
    without = film.atomic_percent(**options)[1].data
    percent, error = film.atomic_percent(sensitivities_error=0.06, **options)
    share = percent.data[0] / 100
    systematic = 100 * share * (1 - share) * 0.06 * np.sqrt(2)
    # Larger ones are cut off at what can be.
    small = np.hypot(without[0], systematic) < 40
    assert small.mean() > 0.9
    expected = np.hypot(without[0], systematic)[small]
    np.testing.assert_allclose(error.data[0][small], expected, rtol=1e-4)
    assert error.data.max() < 100


def test_errors_of_fitted_weights_are_carried(fitted):
    # The last row and column are the offset's.
    covariance = np.full((4, 4), 1e6)
    covariance[:3, :3] = np.diag((0.06 * fitted.weights) ** 2)
    fitted._setup = {**fitted._setup, "weights_covariance": covariance}
    mask = np.ones((24, 30), bool)
    found = fitted.region_composition(mask, **QUICK)
    by_hand = fitted.region_composition(mask, sensitivities_error=0.06, **QUICK)
    np.testing.assert_allclose(found.sensitivities_error, by_hand.sensitivities_error)
    assert (found.sensitivities_error > 0).all()
    # Of sensitivities given, they say nothing.
    assert not fitted.region_composition(mask, EQUAL, **QUICK).sensitivities_error.any()
    # An error that all weights share cancels.
    covariance[:3, :3] = 0.1 * np.outer(fitted.weights, fitted.weights)
    assert fitted.region_composition(mask, **QUICK).sensitivities_error.max() < 1e-4


class TestRegions:
    def test_a_region_is_the_sum_of_its_atoms(self, small, fitted):
        mask = np.zeros((24, 30), bool)
        mask[5:15, 3:20] = True
        sensitivities = [3.0, 1.0, 0.5]
        found = fitted.region_composition(mask, sensitivities, keep_totals=False, **QUICK)
        atoms = fitted.fused.data[:, mask].sum(axis=1, dtype=float) / sensitivities
        np.testing.assert_allclose(found.percent, 100 * atoms / atoms.sum(), rtol=1e-6)
        assert found.percent.sum() == pytest.approx(100) and found.pixels == 170
        assert found.elements == ["Co", "S", "O"]

    def test_a_roi_is_the_mask_of_its_pixels(self, fitted):
        roi = hs.roi.RectangularROI(left=8.2, top=9.0, right=11.4, bottom=13.0)
        mask = np.zeros((24, 30), bool)
        mask[5:15, 3:11] = True
        by_roi, by_mask = (fitted.region_composition(r, EQUAL, **QUICK) for r in (roi, mask))
        np.testing.assert_array_equal(by_roi.percent, by_mask.percent)
        np.testing.assert_array_equal(by_roi.standard_error, by_mask.standard_error)

    def test_a_region_is_better_known_than_its_pixels(self, film):
        mask = np.zeros((48, 48), bool)
        mask[8:40, 8:40] = True
        region = film.region_composition(mask, **QUICK)
        _, error = film.atomic_percent(return_error=True, **QUICK)
        assert region.standard_error[0] < np.median(error.data[0][mask])
        assert abs(region.percent[0] - 40) < 4 * region.standard_error[0]

    def test_the_whole_has_at_least_the_error_of_the_counts(self, film):
        """Totals are scaled to those of the counts; the noise of these remains."""
        found = film.region_composition(np.ones((48, 48), bool), **QUICK)
        total = film.maps.data.sum(axis=(1, 2), dtype=float)
        share = found.percent[0] / 100
        counting = 100 * share * (1 - share) * np.sqrt((1 / total).sum())
        assert counting <= found.counting_error[0] < 1.5 * counting

    def test_it_prints_as_a_table(self):
        found = RegionComposition(
            ["Ga", "O"], np.array([40.1234, 59.8766]), np.array([0.3, 0.3]), np.zeros(2), 12
        )
        assert str(found).splitlines() == [
            "Composition of 12 pixels in atomic percent, ± one standard error",
            "Ga    40.12 ± 0.30",
            "O     59.88 ± 0.30",
        ]
        both = RegionComposition(
            ["Ga", "O"], np.array([40.0, 60.0]), np.array([3.0, 3.0]), np.array([4.0, 4.0]), 12
        )
        assert repr(both).splitlines()[1:] == [
            "           ± all      counting  sensitivities",
            "Ga    40.0 ± 5.0      3.0       4.0",
            "O     60.0 ± 5.0      3.0       4.0",
        ]

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ((np.zeros((24, 30), bool), EQUAL), "no pixel within"),
            ((np.ones((5, 5), bool), EQUAL), "shape \\(5, 5\\)"),
            ((np.ones((24, 30), bool), [1.0]), "sensitivities"),
        ],
    )
    def test_wrong_arguments_are_named(self, fitted, arguments, message):
        with pytest.raises(ValueError, match=message):
            fitted.region_composition(*arguments, **QUICK)

    @pytest.mark.parametrize("options", [{}, {"lower_bound": 0.0}])
    def test_where_nothing_is_there_is_no_composition(self, options):
        counts = np.zeros((2, 16, 16))
        counts[:, :, 8:] = 9.0
        model = fmm.element_maps({"Co": counts[0], "O": counts[1]}).create_model()
        model.fit(show_progressbar=False, **options)
        empty = np.zeros((16, 16), bool)
        empty[:, :6] = True
        with pytest.raises(ValueError, match="no atoms"):
            model.region_composition(empty, [1, 1], **QUICK)


def test_a_fit_is_needed_first(small):
    model = small.maps.create_model(small.haadf, **small.scale)
    for ask in (model.atomic_percent, lambda: model.region_composition(np.ones((24, 30), bool))):
        with pytest.raises(RuntimeError, match="fit"):
            ask()


def test_a_stored_model_tells_the_same(small, fitted):
    fitted.store("one")
    restored = small.maps.models.restore("one")
    np.testing.assert_array_equal(
        restored.atomic_percent(EQUAL).data, fitted.atomic_percent(EQUAL).data
    )
