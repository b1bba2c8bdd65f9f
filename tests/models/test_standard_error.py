"""Errors of fused maps as signals: axes, units, metadata, eager and lazy, regions, limits."""

import hyperspy.api as hs
import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.models.uncertainty import region_mask

QUICK = {"replicates": 3, "show_progressbar": False}
METHODS = pytest.mark.parametrize("method", ["bootstrap", "hessian"])


def options(method):
    return {"method": method, **QUICK}


@METHODS
@pytest.mark.parametrize("lazy", [False, True])
def test_errors_are_like_the_fused_maps(small, method, lazy):
    maps = small.maps.as_lazy() if lazy else small.maps
    maps.metadata.set_item("Background.counts", small.maps.deepcopy())
    model = maps.create_model(small.haadf, background=0.0, **small.scale)
    model.fit(tolerance=1e-2, show_progressbar=False, **PLAIN)
    fused, error = model.fused, model.standard_error(**options(method))
    assert type(error) is type(fused) and error._lazy is lazy
    assert error.elements == fused.elements
    for axis, other in zip(error.axes_manager._axes, fused.axes_manager._axes):
        assert axis.get_axis_dictionary() == other.get_axis_dictionary()
    assert error.metadata.Signal.as_dictionary() == fused.metadata.Signal.as_dictionary()
    assert error.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    assert not error.metadata.has_item("Background")
    assert error.metadata.FusedMultiModal.standard_error.method == method
    assert error.metadata.General.title == "Element maps (standard error)"
    values = np.asarray(error.data)
    assert np.isfinite(values).all() and (values >= 0).all() and values.shape == fused.data.shape


@METHODS
def test_lazy_and_eager_are_the_same_numbers(small, fitted, plain, method):
    lazy = small.maps.as_lazy().create_model(small.haadf, **small.scale)
    lazy.fit(tolerance=1e-3, **plain)
    error = lazy.standard_error(**options(method))
    np.testing.assert_array_equal(
        error.data.compute(), fitted.standard_error(**options(method)).data
    )


def test_the_bootstrap_is_reproducible(fitted):
    first = fitted.standard_error(**QUICK).data
    fitted._bootstrap = None
    again = fitted.standard_error(**QUICK, num_workers=1).data
    np.testing.assert_array_equal(first, again)
    assert (fitted.standard_error(**QUICK, seed=5).data != first).any()


def test_the_refits_are_made_once(fitted, monkeypatch):
    fitted.standard_error(**QUICK)
    monkeypatch.setattr("hyperspy_fusedmm.models.uncertainty.bootstrap", None)
    fitted.covariance(**QUICK)
    fitted.bias(**QUICK)
    fitted.region_error(np.ones((24, 30), bool), **QUICK)


def test_a_new_fit_forgets_the_errors_of_the_last(fitted):
    first = fitted.standard_error(**QUICK).data
    fitted.fit(lambda_tv=3.0, tolerance=1e-3, show_progressbar=False)
    assert (fitted.standard_error(**QUICK).data != first).any()


def test_errors_are_of_the_size_of_the_true_ones(small, fitted):
    error = fitted.standard_error(replicates=8, show_progressbar=False).data
    true = fitted.fused.data - small.truth
    ratio = np.sqrt((error**2).mean(axis=(1, 2)) / (true**2).mean(axis=(1, 2)))
    assert (ratio > 0.6).all() and (ratio < 1.7).all()


def test_the_hessian_bound_is_above_what_regularization_reaches(small, fitted):
    bound = fitted.standard_error("hessian").data
    true = fitted.fused.data - small.truth
    assert (np.sqrt((bound**2).mean(axis=(1, 2))) > np.sqrt((true**2).mean(axis=(1, 2)))).all()


@METHODS
def test_covariance_has_the_variances_on_its_diagonal(fitted, method):
    covariance = fitted.covariance(**options(method))
    assert covariance.data.shape == (3, 3, 24, 30)
    assert covariance.axes_manager.signal_axes[0].units == "nm"
    np.testing.assert_allclose(
        np.einsum("iirc->irc", covariance.data),
        fitted.standard_error(**options(method)).data ** 2,
        rtol=1e-4,
        atol=1e-10,
    )


def test_one_map_needs_no_element_axis(small):
    model = small.maps.get_map("Co").create_model()
    model.fit(tolerance=1e-2, show_progressbar=False)
    assert model.standard_error(**QUICK).data.shape == (24, 30)
    assert model.covariance(**QUICK).data.shape == (1, 1, 24, 30)


def test_errors_scale_with_the_units(small):
    """Gaussian maps in other units have errors in other units."""
    errors = []
    for factor in (1.0, 8.0):
        maps = small.maps * factor
        model = maps.create_model(fidelity="gaussian", noise=2.0 * factor)
        model.fit(tolerance=1e-3, show_progressbar=False)
        errors.append(model.standard_error(**QUICK).data)
    np.testing.assert_allclose(errors[1], 8.0 * errors[0], rtol=1e-3)


def test_a_roi_is_the_mask_of_its_pixels(fitted):
    # Axes: 0.4 nm per pixel from 7 nm on.
    roi = hs.roi.RectangularROI(left=8.2, top=9.0, right=11.4, bottom=13.0)
    mask = np.zeros((24, 30), bool)
    mask[5:15, 3:11] = True
    np.testing.assert_array_equal(
        fitted.region_error(roi, **QUICK), fitted.region_error(mask, **QUICK)
    )


@pytest.mark.parametrize(
    "roi",
    [
        hs.roi.CircleROI(cx=12.0, cy=11.0, r=1.5),
        hs.roi.CircleROI(cx=12.0, cy=11.0, r=1.5, r_inner=0.7),
        hs.roi.PolygonROI([(8.0, 8.0), (15.0, 9.0), (11.0, 14.0)]),
    ],
)
def test_a_roi_takes_the_pixels_that_it_cuts_out_of_the_maps(fitted, roi):
    mask = region_mask(roi, fitted.axes_manager.signal_axes)
    assert 10 < mask.sum() < 400
    cut = roi(fitted.fused).data
    np.testing.assert_allclose(
        np.nanmean(cut, axis=(1, 2)), fitted.fused.data[:, mask].mean(axis=1), rtol=1e-5
    )
    assert np.isfinite(cut[0]).sum() == mask.sum()


def test_the_mean_of_a_region_is_better_known_than_its_pixels(fitted):
    mask = np.ones((24, 30), bool)
    region = fitted.region_error(mask, **QUICK)
    assert region.shape == (3,)
    assert (region < fitted.standard_error(**QUICK).data.mean(axis=(1, 2))).all()


@pytest.mark.parametrize(
    "roi, message",
    [
        (np.zeros((24, 30), bool), "no pixel within"),
        (np.ones((5, 5), bool), "shape \\(5, 5\\)"),
        (np.ones((24, 30)), "float64"),
        (hs.roi.RectangularROI(100, 100, 110, 110), "no pixel within"),
        (hs.roi.Line2DROI(8.0, 8.0, 12.3, 11.1, 0.4), "resamples"),
    ],
)
def test_regions_that_are_none_are_refused(fitted, roi, message):
    with pytest.raises(ValueError, match=message):
        fitted.region_error(roi, **QUICK)


def test_mean_standard_error_is_that_of_the_maps(fitted):
    error = fitted.standard_error(**QUICK)
    np.testing.assert_allclose(fitted.mean_standard_error, error.data.mean(axis=(1, 2)), rtol=1e-6)


def test_nothing_counted_has_finite_errors_and_limits():
    maps = fmm.element_maps({"Co": np.zeros((12, 12)), "O": np.zeros((12, 12))})
    with pytest.warns(UserWarning, match="zero everywhere"):
        model = maps.create_model()
    model.fit(show_progressbar=False)
    for method in ("bootstrap", "hessian"):
        assert np.isfinite(model.standard_error(**options(method)).data).all()
    np.testing.assert_allclose(model.upper_limit().data, 2.9957 / 144, rtol=1e-4)
    np.testing.assert_allclose(model.upper_limit(0.99).data, 4.6052 / 144, rtol=1e-4)


def test_limits_are_given_where_nothing_was_found():
    counts = np.zeros((24, 24))
    counts[:, 12:] = 9.0
    model = fmm.element_maps({"Co": counts}).create_model()
    model.fit(show_progressbar=False)
    limit = model.upper_limit().data[0]
    assert np.isfinite(limit[:, :6]).all() and np.isnan(limit[:, 14:]).all()
    assert (limit[:, :6] > 0).all()


def test_the_fused_maps_carry_their_variance_once_it_is_known(small):
    model = small.maps.create_model(small.haadf, **small.scale)
    small.maps.set_noise_variance(4.0)
    model.fit(tolerance=1e-2, show_progressbar=False)
    # That of the measured maps is not theirs.
    assert model.fused.get_noise_variance() is None
    error = model.standard_error(**QUICK)
    fused = model.fused
    np.testing.assert_allclose(fused.get_noise_variance().data, error.data**2, rtol=1e-5)
    assert fused.inav[1].get_noise_variance().data.shape == (24, 30)
    assert small.maps.get_noise_variance() == 4.0


def test_fused_maps_of_lazy_ones_carry_no_variance(small):
    model = small.maps.as_lazy().create_model(small.haadf, **small.scale)
    model.fit(tolerance=1e-2, show_progressbar=False, **PLAIN)
    model.standard_error(**QUICK)
    assert model.fused.get_noise_variance() is None


def test_fused_maps_and_errors_at_once(small):
    settings = {"tolerance": 1e-2, "show_progressbar": False, **small.scale, **PLAIN}
    fused, error = small.maps.fuse(small.haadf, standard_error=True, **settings)
    np.testing.assert_allclose(fused.get_noise_variance().data, error.data**2, rtol=1e-5)
    results = small.maps.fuse(small.haadf, standard_error=True, return_model=True, **settings)
    np.testing.assert_array_equal(results[1].data, error.data)
    assert isinstance(results[2], fmm.FusedMultiModal)


def test_files_keep_the_variance(small, tmp_path):
    options = {"tolerance": 1e-2, "show_progressbar": False, **small.scale, **PLAIN}
    fused, error = small.maps.fuse(small.haadf, standard_error=True, **options)
    fused.save(tmp_path / "fused.hspy")
    loaded = hs.load(tmp_path / "fused.hspy")
    np.testing.assert_allclose(loaded.get_noise_variance().data, error.data**2, rtol=1e-5)


def test_errors_can_be_drawn(fitted):
    fitted.standard_error(show_progressbar=False)
    assert len(fitted.plot_maps(errors=True).axes) >= 12


def test_a_fit_is_needed_first(small):
    model = small.maps.create_model(small.haadf, **small.scale)
    for ask in (model.standard_error, model.covariance, model.upper_limit, model.bias):
        with pytest.raises(RuntimeError, match="fit"):
            ask()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"method": "jackknife"}, "method"),
        ({"replicates": 1}, "replicates"),
        ({"seed": -1}, "seed"),
        ({"num_workers": 0}, "num_workers"),
    ],
)
def test_wrong_options_are_named(fitted, wrong, message):
    with pytest.raises(ValueError, match=message):
        fitted.standard_error(**wrong)


def test_refits_by_another_solver_are_refused(fitted):
    fitted._result = {**fitted._result, "solver": "gradient-descent"}
    with pytest.raises(ValueError, match="gradient descent"):
        fitted.standard_error()
    assert np.isfinite(fitted.standard_error("hessian").data).all()


def test_interrupted_it_leaves_the_model_as_it_was(fitted, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    before = fitted.standard_error(**QUICK)
    with monkeypatch.context() as patch:
        patch.setattr("hyperspy_fusedmm.models.uncertainty.bootstrap", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted.standard_error(**QUICK, seed=7)
    np.testing.assert_array_equal(fitted.standard_error(**QUICK).data, before.data)
