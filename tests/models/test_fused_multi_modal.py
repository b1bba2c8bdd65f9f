"""What must hold of a fusion, whatever is fused."""

import doctest
import importlib

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.models import fitting


def snapshot(signal):
    return (
        np.array(signal.data),
        signal.data.dtype,
        signal.metadata.as_dictionary(),
        signal.original_metadata.as_dictionary(),
        signal.axes_manager.as_dictionary(),
        type(signal),
    )


def same_axes(signal, reference):
    return signal.axes_manager.as_dictionary() == reference.axes_manager.as_dictionary()


class TestResult:
    def test_one_line(self, small, as_asked, lazy):
        maps, haadf = as_asked(small.maps), as_asked(small.haadf)
        fused = maps.fuse(haadf, tolerance=1e-3)
        assert type(fused) is (fmm.LazyElementMaps if lazy else fmm.ElementMaps)
        assert isinstance(fused.data, da.Array if lazy else np.ndarray)
        assert fused.elements == ["Co", "S", "O"]
        values = np.asarray(fused.data)
        assert np.isfinite(values).all() and values.min() >= 0
        raw_error = abs(small.maps.data - small.truth).mean(axis=(1, 2))
        assert (abs(values - small.truth).mean(axis=(1, 2)) < 0.6 * raw_error).all()

    def test_lazy_gives_the_numbers_of_eager(self, small):
        options = {**PLAIN, "count_slope": "auto", "tolerance": 1e-3}
        eager = small.maps.fuse(small.haadf, **options)
        lazy = small.maps.as_lazy().fuse(small.haadf.as_lazy(), **options)
        np.testing.assert_array_equal(np.asarray(lazy.data), eager.data)

    def test_inputs_are_bit_for_bit_unchanged(self, small, as_asked):
        maps, haadf = as_asked(small.maps), as_asked(small.haadf)
        haadf.change_dtype("float32")
        background, sensitivities = np.full((3, 24, 30), 0.1), {"Co": 1.0, "S": 2.0, "O": 1.5}
        initial = np.ones((3, 24, 30), np.float32)
        before = snapshot(maps), snapshot(haadf)
        fused, model = maps.fuse(
            haadf,
            background=background,
            sensitivities=sensitivities,
            initial=initial,
            max_iterations=30,
            tolerance=0,
            return_model=True,
            **PLAIN,
        )
        model.haadf_residual.data[:] = 0
        fused.metadata.General.title = "changed"
        fused.axes_manager["x"].scale = 9.0
        for signal, (data, *rest) in zip((maps, haadf), before):
            np.testing.assert_array_equal(np.array(signal.data), data)
            assert list(snapshot(signal))[1:] == rest
        assert (background == 0.1).all() and (initial == 1).all()
        assert sensitivities == {"Co": 1.0, "S": 2.0, "O": 1.5}

    def test_axes_and_metadata_are_those_of_the_input(self, small, as_asked):
        maps, haadf = as_asked(small.maps), as_asked(small.haadf)
        haadf.axes_manager["x"].offset = -5.0
        fused, model = maps.fuse(haadf, return_model=True, tolerance=0, max_iterations=10, **PLAIN)
        assert same_axes(fused, maps)
        kept = fused.metadata.as_dictionary()
        assert kept.pop("FusedMultiModal")
        kept["General"]["title"] = maps.metadata.General.title
        assert kept == maps.metadata.as_dictionary()
        for image in (model.haadf_fit, model.haadf_residual):
            assert type(image) is hs.signals.Signal2D
            assert same_axes(image, haadf)
            kept = image.metadata.as_dictionary()
            kept["General"]["title"] = haadf.metadata.General.title
            assert kept == haadf.metadata.as_dictionary()
        assert fused.metadata.General.title == "Element maps (fused)"
        assert model.haadf_fit.metadata.General.title == "HAADF fit"

    def test_fit_and_residual_add_up_to_the_haadf(self, fitted, small):
        predicted = small.offset + np.tensordot(small.weights, fitted.fused.data, 1)
        np.testing.assert_allclose(fitted.haadf_fit.data, predicted, rtol=1e-6)
        np.testing.assert_allclose(
            fitted.haadf_fit.data + fitted.haadf_residual.data, small.haadf.data, rtol=1e-6
        )
        assert abs(fitted.haadf_residual.data).std() < 2 * small.noise

    def test_single_map_without_element_axis(self, small, as_asked):
        one = as_asked(small.maps).inav[0]
        fused = one.fuse(small.haadf, tolerance=1e-3, **PLAIN)
        assert same_axes(fused, one) and fused.data.shape == (24, 30)
        assert fused.elements == ["Co"]
        stacked = small.maps.inav[:1].fuse(small.haadf, tolerance=1e-3, **PLAIN)
        np.testing.assert_array_equal(np.asarray(fused.data), stacked.data[0])

    def test_what_is_returned(self, small):
        options = {"tolerance": 0, "max_iterations": 5, **PLAIN}
        assert isinstance(small.maps.fuse(small.haadf, **options), fmm.ElementMaps)
        fused, model = small.maps.fuse(small.haadf, return_model=True, **options)
        assert isinstance(fused, fmm.ElementMaps) and isinstance(model, fmm.FusedMultiModal)
        np.testing.assert_array_equal(model.fused.data, fused.data)

    def test_counts_alone(self, small, as_asked):
        fused, model = as_asked(small.maps).fuse(None, return_model=True, tolerance=1e-3)
        assert model.haadf is None and model.converged
        assert (model.weights == 0).all() and model.lambda_haadf == 0
        assert model.objective()["haadf"] == 0
        values = np.asarray(fused.data)
        assert abs(values - small.truth).mean() < abs(small.maps.data - small.truth).mean()
        with pytest.raises(RuntimeError, match="no HAADF image: pass one"):
            model.haadf_fit


class TestCertificate:
    """Of the form that has most to be bounded, its weights given."""

    form = {
        "regularization": "tgv", "guided": True, "lambda_haadf": 0.5, "lambda_tv": "noise",
    }  # fmt: skip

    @pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
    def test_gap_is_at_most_the_tolerance(self, small, tolerance):
        model = small.maps.create_model(small.haadf, **small.scale)
        model.fit(tolerance=tolerance, max_iterations=5000, **self.form)
        assert model.converged
        assert -1e-9 <= model.relative_gap <= tolerance
        assert model.gap >= -1e-9 * abs(model.objective()["total"])

    def test_the_gap_bounds_what_a_longer_run_gains(self, small):
        model = small.maps.create_model(small.haadf, **small.scale)
        model.fit(tolerance=1e-2, **self.form)
        coarse, bound = model.objective()["total"], model.gap
        model.fit(tolerance=1e-5, max_iterations=5000, **self.form)
        fine = model.objective()["total"]
        assert fine <= coarse + 1e-9 * abs(coarse)
        assert coarse - fine <= bound * (1 + 1e-6)

    def test_tolerance_that_was_not_reached_is_warned_of(self, small):
        model = small.maps.create_model(small.haadf, **small.scale)
        with pytest.warns(UserWarning, match="max_iterations=3 .*above the tolerance of 1e-09"):
            model.fit(tolerance=1e-9, max_iterations=3, **self.form)
        assert not model.converged and model.iterations == 3

    def test_tolerance_zero_runs_every_iteration(self, small, recwarn):
        model = small.maps.create_model(small.haadf, **small.scale)
        model.fit(tolerance=0, max_iterations=17, **self.form)
        assert model.iterations == 17
        assert not [w for w in recwarn if "tolerance" in str(w.message)]


class TestObjective:
    def recomputed(self, model, x):
        """The objective from public attributes alone."""
        x = np.asarray(x, dtype=float)
        b = np.asarray(model.maps.data, dtype=float)
        predicted = model.haadf_offset + np.tensordot(model.weights, x, 1)
        misfit = (predicted - model.haadf.data) / model.haadf_noise
        background = np.asarray(model.background)
        background = background if background.ndim == 3 else background[:, None, None]
        chem = np.sum(model.count_slope * x.sum(axis=(1, 2)))
        counted = b > 0
        chem -= np.sum(b[counted] * np.log((x + background)[counted]))
        rows, columns = np.zeros_like(x), np.zeros_like(x)
        rows[:, :-1], columns[:, :, :-1] = np.diff(x, axis=1), np.diff(x, axis=2)
        strength = model.lambda_tv[:, None, None] * model.regularization_weights
        terms = {
            "haadf": model.lambda_haadf / 2 * np.sum(misfit**2),
            "chem": model.lambda_chem * chem,
            "regularization": np.sum(strength * np.hypot(rows, columns)),
        }
        return {**terms, "total": sum(terms.values())}

    @pytest.mark.parametrize("regularization_weights", ["uniform", "pilot"])
    def test_it_can_be_recomputed_from_public_attributes(self, small, regularization_weights):
        model = small.maps.create_model(
            small.haadf, background={"S": 0.2, "Co": 0.1, "O": 0.3}, haadf_noise=2.0
        )
        model.fit(
            lambda_haadf=0.7,
            lambda_chem=1.3,
            lambda_tv={"Co": 0.1, "S": 0.2, "O": 0.3},
            regularization_weights=regularization_weights,
            tolerance=1e-3,
        )
        other = small.truth + 0.1
        for x, found in ((model.fused.data, model.objective()), (other, model.objective(other))):
            for name, value in self.recomputed(model, x).items():
                assert found[name] == pytest.approx(value, rel=1e-5), name
        np.testing.assert_array_equal(model.lambda_tv, [0.1, 0.2, 0.3])

    def test_maps_may_be_a_signal(self, fitted):
        found = fitted.objective(fitted.fused)
        assert found["total"] == pytest.approx(fitted.objective()["total"], rel=1e-6)
        assert fitted.objective(fitted.fused.as_lazy()) == found

    def test_wrong_shape(self, fitted):
        with pytest.raises(ValueError, match=r"maps: found .*\(24, 30\).*\(3, 24, 30\) is needed"):
            fitted.objective(np.ones((24, 30)))

    @pytest.mark.parametrize(
        "name", ["fused", "haadf_fit", "haadf_residual", "history", "gap", "lambda_tv", "converged"]
    )
    def test_nothing_is_reported_before_the_fit(self, small, name):
        model = small.maps.create_model(small.haadf, **small.scale)
        with pytest.raises(RuntimeError, match="not fitted yet: call fit"):
            getattr(model, name)
        with pytest.raises(RuntimeError, match="not fitted yet"):
            model.objective()


class TestLimitsAndSymmetries:
    """Exact cases and invariances of the optimum; fixed settings, so that nothing else changes."""

    fixed = {
        "lambda_haadf": 1.0, "lambda_tv": 0.3, "regularization": "tv", "guided": False,
        "tolerance": 1e-6,
    }  # fmt: skip

    def solved(self, maps, haadf, scale, **options):
        model = maps.create_model(haadf, **scale)
        model.fit(max_iterations=20000, **{**self.fixed, **options})
        return model.fused.data

    def test_without_haadf_and_regularization_the_counts_come_back(self, small):
        background = np.array([0.5, 1.0, 2.0])
        model = small.maps.create_model(small.haadf, background=background, **small.scale)
        model.fit(lambda_haadf=0, lambda_tv=0, lower_bound=0, tolerance=1e-8, max_iterations=5000)
        expected = np.maximum(small.maps.data - background[:, None, None], 0)
        np.testing.assert_allclose(model.fused.data, expected, rtol=0.02, atol=2e-3)

    def test_scaling_the_counts_scales_the_result(self, small):
        """With the likelihood k times as large, so is the weight of the HAADF term."""
        plain = self.solved(small.maps, small.haadf, small.scale, lower_bound=0.01)
        scale = {**small.scale, "weights": small.weights / 3}
        tripled = self.solved(small.maps * 3, small.haadf, scale, lambda_haadf=3.0, lower_bound=0.03)
        np.testing.assert_allclose(tripled, 3 * plain, atol=0.03, rtol=0.01)

    def test_scaling_the_haadf_changes_nothing(self, small):
        plain = self.solved(small.maps, small.haadf, small.scale)
        scale = {
            "weights": small.weights * 7,
            "haadf_offset": small.offset * 7,
            "haadf_noise": small.noise * 7,
        }
        np.testing.assert_allclose(
            self.solved(small.maps, small.haadf * 7, scale), plain, atol=0.03, rtol=0.01
        )

    def test_transposing_the_images_transposes_the_result(self, small):
        plain = self.solved(small.maps, small.haadf, small.scale)
        maps = small.maps.swap_axes("x", "y")
        haadf = small.haadf.swap_axes("x", "y")
        transposed = self.solved(maps, haadf, small.scale)
        np.testing.assert_allclose(transposed.swapaxes(1, 2), plain, atol=0.03, rtol=0.01)

    def test_permuting_the_elements_permutes_the_result(self, small):
        plain = self.solved(small.maps, small.haadf, small.scale)
        scale = {**small.scale, "weights": small.weights[::-1]}
        reversed_ = self.solved(small.maps.inav[::-1], small.haadf, scale)
        np.testing.assert_allclose(reversed_[::-1], plain, atol=0.03, rtol=0.01)

    def test_flipping_flips_the_result_without_regularization(self, small):
        options = {"lambda_tv": 0, "tolerance": 2e-5}
        plain = self.solved(small.maps, small.haadf, small.scale, **options)
        maps, haadf = small.maps.deepcopy(), small.haadf.deepcopy()
        maps.data, haadf.data = maps.data[:, ::-1, ::-1].copy(), haadf.data[::-1, ::-1].copy()
        flipped = self.solved(maps, haadf, small.scale, **options)
        np.testing.assert_allclose(flipped[:, ::-1, ::-1], plain, atol=0.03, rtol=0.01)

    def test_the_start_does_not_change_the_end(self, small):
        plain = self.solved(small.maps, small.haadf, small.scale)
        start = small.maps._deepcopy_with_new_data(np.full((3, 24, 30), 4.0))
        other = self.solved(small.maps, small.haadf, small.scale, initial=start)
        np.testing.assert_allclose(other, plain, atol=0.05, rtol=0.02)


class TestFit:
    def test_it_can_be_repeated(self, fitted, plain):
        first = fitted.fused.data.copy()
        fitted.fit(**{**plain, "lambda_tv": 1.0}, tolerance=1e-2)
        assert abs(fitted.fused.data - first).max() > 0.1
        fitted.fit(tolerance=1e-3, initial="measured", **plain)
        np.testing.assert_array_equal(fitted.fused.data, first)

    def test_interrupted_it_leaves_the_model_as_it_was(self, fitted, plain, monkeypatch):
        before, history = fitted.fused.data.copy(), fitted.history

        def interrupt(*args, callback, **kwargs):
            callback(1, 10, np.nan)
            raise KeyboardInterrupt

        monkeypatch.setattr(fitting, "solve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fitted.fit(**{**plain, "lambda_tv": 5.0})
        np.testing.assert_array_equal(fitted.fused.data, before)
        assert fitted.lambda_tv.max() < 5.0
        assert history.keys() == fitted.history.keys()

    def test_interrupted_before_any_result_it_stays_unfitted(self, small, monkeypatch):
        model = small.maps.create_model()

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(fitting, "solve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit()
        with pytest.raises(RuntimeError, match="not fitted"):
            model.fused

    @pytest.mark.parametrize("show", [True, False, None])
    def test_progress_is_shown_where_asked_for(self, small, capfd, show):
        model = small.maps.create_model()
        model.fit(tolerance=0, max_iterations=20, show_progressbar=show, **PLAIN)
        assert ("Fusing" in capfd.readouterr().err) is (show is True)

    def test_history(self, fitted):
        history = fitted.history
        assert set(history) == {"iteration", "haadf", "chem", "tv", "total", "gap"}
        assert len({len(values) for values in history.values()}) == 1
        assert history["iteration"][-1] == fitted.iterations
        assert history["gap"][-1] == pytest.approx(fitted.gap, rel=1e-6)
        total = history["haadf"] + history["chem"] + history["tv"]
        np.testing.assert_allclose(total, history["total"], rtol=1e-6)
        assert history["total"][-1] == pytest.approx(fitted.objective()["total"], rel=1e-4)

    def test_infinite_haadf_noise_leaves_pixels_out(self, small, plain):
        """Spoilt pixels of the image change nothing where they are excluded."""
        noise = np.full((24, 30), small.noise)
        noise[5:9, 5:9] = np.inf
        spoilt = small.haadf.deepcopy()
        spoilt.data[5:9, 5:9] = 1e4
        scale = {**small.scale, "haadf_noise": noise}
        results = []
        for haadf in (small.haadf, spoilt):
            model = small.maps.create_model(haadf, **scale)
            model.fit(tolerance=3e-5, max_iterations=10000, **plain)
            results.append(model.fused.data)
        np.testing.assert_allclose(*results, atol=0.03)

    def test_pixels_left_out_do_not_spoil_the_calibration(self, small):
        noise = np.full((24, 30), small.noise)
        noise[5:9, 5:9] = np.inf
        spoilt = small.haadf.deepcopy()
        spoilt.data[5:9, 5:9] = 1e4
        plain = small.maps.create_model(small.haadf)
        spared = small.maps.create_model(spoilt, haadf_noise=noise)
        np.testing.assert_allclose(spared.weights, plain.weights, rtol=0.1)
        assert spared.haadf_offset == pytest.approx(plain.haadf_offset, abs=1)


class TestChoices:
    def test_integers_are_poisson_and_fractions_gaussian(self, small, as_asked):
        mixed = small.maps.deepcopy()
        mixed.change_dtype("float64")
        mixed.data[1] /= 7
        mixed.data[2] -= 1
        assert as_asked(mixed).create_model().fidelity == ["poisson", "gaussian", "gaussian"]
        assert small.maps.create_model().fidelity == ["poisson"] * 3
        assert small.maps.create_model(fidelity="gaussian").fidelity == ["gaussian"] * 3
        chosen = small.maps.create_model(fidelity={"S": "gaussian"}).fidelity
        assert chosen == ["poisson", "gaussian", "poisson"]
        assert small.maps.create_model(fidelity=["auto", "gaussian", "auto"]).fidelity == chosen

    def test_noise_comes_from_the_variance_in_the_metadata(self, small):
        variance = small.maps + 1.0
        small.maps.set_noise_variance(variance)
        model = small.maps.create_model(fidelity={"S": "gaussian"})
        np.testing.assert_allclose(model.noise[1], np.sqrt(variance.data[1]))
        assert (model.noise[[0, 2]] == 1).all()
        small.maps.set_noise_variance(4.0)
        np.testing.assert_array_equal(
            small.maps.create_model(fidelity="gaussian").noise, [2.0, 2.0, 2.0]
        )

    def test_noise_is_estimated_or_given(self, small):
        rng = np.random.default_rng(0)
        noisy = small.maps._deepcopy_with_new_data(
            small.truth + rng.normal(0, 2, small.truth.shape)
        )
        np.testing.assert_allclose(noisy.create_model().noise, 2.0, rtol=0.15)
        np.testing.assert_array_equal(noisy.create_model(noise=3.0).noise, [3, 3, 3])
        given = noisy.create_model(noise={"Co": 1.0, "S": 2.0, "O": 3.0})
        np.testing.assert_array_equal(given.noise, [1, 2, 3])

    def test_smoothed_maps_need_their_noise_told(self, small):
        flat = small.maps._deepcopy_with_new_data(np.full((3, 24, 30), 0.5))
        with pytest.raises(ValueError, match="map of Co shows no noise to estimate.*pass noise="):
            flat.create_model()

    def test_weights_offset_and_noise_are_fitted(self, small, as_asked):
        model = as_asked(small.maps).create_model(as_asked(small.haadf))
        np.testing.assert_allclose(model.weights, small.weights, rtol=0.25)
        assert model.haadf_offset == pytest.approx(small.offset, abs=5)
        assert 0.5 * small.noise < model.haadf_noise < 5 * small.noise

    def test_sensitivities_leave_only_the_gain_to_be_fitted(self, small):
        numbers = np.array([27.0, 16.0, 8.0])
        sensitivities = np.array([2.0, 3.0, 5.0])
        for gamma in (1.5, 1.7):
            model = small.maps.create_model(small.haadf, gamma=gamma, sensitivities=sensitivities)
            ratio = model.weights / (numbers**gamma / sensitivities)
            np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
        equal = small.maps.create_model(small.haadf, sensitivities=2.0)
        np.testing.assert_allclose(equal.weights, small.weights, rtol=0.2)
        assert equal.haadf_offset == pytest.approx(small.offset, abs=5)

    def test_given_weights_are_obeyed(self, small):
        model = small.maps.create_model(small.haadf, weights=small.weights)
        np.testing.assert_array_equal(model.weights, small.weights)
        assert model.haadf_offset == pytest.approx(small.offset, abs=3)
        assert 0.5 * small.noise < model.haadf_noise < 5 * small.noise
        named = dict(zip(["O", "Co", "S"], small.weights[[2, 0, 1]]))
        model = small.maps.create_model(
            small.haadf, weights=named, haadf_offset=1.0, haadf_noise=2.0
        )
        np.testing.assert_array_equal(model.weights, small.weights)
        assert (model.haadf_offset, model.haadf_noise) == (1.0, 2.0)

    def test_given_offset_is_obeyed(self, small):
        model = small.maps.create_model(small.haadf, haadf_offset=small.offset)
        assert model.haadf_offset == small.offset
        np.testing.assert_allclose(model.weights, small.weights, rtol=0.25)
        lower = small.maps.create_model(small.haadf, haadf_offset=small.offset - 10)
        explained = lower.weights @ small.maps.data.mean(axis=(1, 2))
        assert explained + lower.haadf_offset == pytest.approx(small.haadf.data.mean(), rel=0.02)
        assert lower.haadf_noise > model.haadf_noise
        with pytest.raises(ValueError, match="haadf_offset: found 1000, but the mean"):
            small.maps.create_model(small.haadf, haadf_offset=1000)

    def test_wrong_offset_and_weights_show_in_the_noise(self, small):
        right = small.maps.create_model(small.haadf, weights=small.weights)
        wrong = small.maps.create_model(
            small.haadf, weights=small.weights, haadf_offset=small.offset + 20
        )
        assert right.haadf_noise < 2 * small.noise
        assert wrong.haadf_noise == pytest.approx(20, rel=0.1)

    def test_exact_images_keep_some_noise(self, small):
        exact = np.tensordot(small.weights, small.truth, 1)
        maps = small.maps._deepcopy_with_new_data(np.rint(small.truth * 1e6))
        model = maps.create_model(exact, haadf_offset=0.0)
        assert model.haadf_noise >= 1e-3 * exact.std()
        assert model.haadf_noise <= 2e-2 * exact.std()

    def test_an_image_that_falls_where_counts_rise_is_warned_of(self, small):
        with pytest.warns(UserWarning, match="does not get brighter.*dark-field"):
            model = small.maps.inav[:1].create_model(small.haadf * -1.0)
        assert not model.weights.any()

    @pytest.mark.parametrize("weights", ["auto", "given"])
    def test_power_model_is_calibrated(self, weights):
        specimen = fmm.data.core_shell_particles(
            shape=(64, 64), dose=20.0, forward="power", haadf_offset=0.5, haadf_gain=2.0
        )
        options = {"sensitivities": specimen.sensitivities}
        if weights == "given":
            options = {"weights": specimen.weights}
        model = specimen.maps.create_model(specimen.haadf, forward="power", **options)
        np.testing.assert_allclose(model.weights, specimen.weights, rtol=0.15)
        assert model.haadf_offset == pytest.approx(specimen.haadf_offset, abs=0.1)
        assert 0.5 * specimen.haadf_noise < model.haadf_noise < 8 * specimen.haadf_noise

    def test_background_makes_no_haadf_signal(self, small):
        """Counts of a known background are told apart from those of the element."""
        background = np.array([4.0, 2.0, 3.0])
        counts = np.random.default_rng(5).poisson(small.truth + background[:, None, None])
        maps = small.maps._deepcopy_with_new_data(counts)
        model = maps.create_model(small.haadf, background=background)
        np.testing.assert_allclose(model.weights[:2], small.weights[:2], rtol=0.3)
        assert model.haadf_offset == pytest.approx(small.offset, abs=5)
        image = maps.create_model(
            small.haadf, background=np.broadcast_to(background[:, None, None], counts.shape)
        )
        np.testing.assert_allclose(image.weights, model.weights)
        assert image.haadf_offset == pytest.approx(model.haadf_offset)

    def test_collinear_maps_are_warned_of(self):
        specimen = fmm.data.core_shell_particles(shape=(48, 48), dose=2.0)
        with pytest.warns(UserWarning, match="weights: .*sensitivities"):
            model = specimen.maps.create_model(specimen.haadf)
        assert model.weights_rule == "prior"
        # Of the light element the maps tell nothing: its weight is about that of equal k-factors.
        share = dict(zip(specimen.maps.elements, model.weights_data_share))
        assert share["Co"] > 0.9 and share["O"] < 0.3
        assert model.weights_error[2] > 0.25 * model.weights[2]
        prior = np.array([27.0, 16.0, 8.0]) ** 1.7 / [58.93, 32.06, 16.0]
        np.testing.assert_allclose(model.weights / prior, model.weights[0] / prior[0], rtol=0.4)

    def test_unsummed_lines_share_the_atoms_of_their_element(self):
        rng = np.random.default_rng(0)
        counts = rng.poisson(5, (3, 16, 16))
        maps = fmm.element_maps(
            {"Fe_Ka": counts[0], "Fe_La": counts[1], "O_Ka": counts[2]}, sum_lines=False
        )
        model = maps.create_model(
            rng.normal(size=(16, 16)), sensitivities={"Fe_Ka": 1.0, "Fe_La": 2.0, "O": 1.0}
        )
        fe_ka, fe_la, oxygen = model.weights
        assert fe_ka == pytest.approx(2 * fe_la)
        assert fe_ka / oxygen == pytest.approx((26 / 8) ** 1.7 / 2)


@pytest.mark.parametrize(
    "module",
    [
        "models.fitting",
        "models.fused_multi_modal",
        "models.outcome",
        "models.presets",
        "signals.element_maps",
    ],
)
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(f"hyperspy_fusedmm.{module}"))
    assert result.attempted and not result.failed
