"""Models of lazy maps that are fused chunk by chunk."""

import dask
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.models.lazy_fused_multi_modal import REFUSED, LazyFusedMultiModal
from hyperspy_fusedmm.signals import lazy_fusion
from hyperspy_fusedmm.solver.out_of_core import tasks

SHAPE = (60, 70)
FIT = {
    "lambda_tv": 0.4, "lambda_haadf": 1.0, "regularization": "tv", "guided": False, "tolerance": 0,
    "max_iterations": 20, "initial": "measured", "count_slope": 0.9, "show_progressbar": False,
}  # fmt: skip
TO_COME = ("gap", "relative_gap", "converged", "iterations", "history", "kept_counts", "gap_by_chunk")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(lazy_fusion, "CHUNK", 32)


@pytest.fixture
def scan(larger):
    """Maps in memory, lazy maps, and what goes with them."""
    lazy = larger.maps.as_lazy()
    lazy.data = lazy.data.rechunk((1, 25, 40))
    return larger.maps, lazy, larger.haadf, larger.scale


@pytest.fixture
def sweeps(monkeypatch):
    """Chunks and sweeps that were worked on."""
    done, original = [], tasks._sweep

    def counted(plan, k, i, j):
        done.append((k, i, j))
        return original(plan, k, i, j)

    monkeypatch.setattr(tasks, "_sweep", counted)
    return done


def close(one, two):
    one, two = (np.asarray(values) for values in (one, two))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 * np.abs(two).max())


def both(scan, **options):
    maps, lazy, haadf, scale = scan
    models = [maps.create_model(haadf, **scale), lazy.create_model(haadf.as_lazy(), **scale)]
    for model in models:
        model.fit(**{**FIT, **options})
    return models


def test_same_model_in_chunks(scan):
    eager, lazy = both(scan)
    assert isinstance(lazy, LazyFusedMultiModal) and isinstance(lazy, fmm.FusedMultiModal)
    assert "not computed" in repr(lazy)
    for name in ("weights", "haadf_offset", "haadf_noise", "lambda_haadf", "lambda_tv", "fidelity"):
        np.testing.assert_array_equal(getattr(lazy, name), getattr(eager, name))
    for name in ("fused", "haadf_fit", "haadf_residual"):
        found, expected = getattr(lazy, name), getattr(eager, name)
        assert found._lazy and found.metadata.General.title == expected.metadata.General.title
        assert found.axes_manager.signal_axes[0].scale == 0.4
        close(found.data, expected.data)
    close(lazy.as_signal().data, eager.as_signal().data)
    close(lazy.haadf_influence().data, eager.haadf_influence().data)
    assert lazy.regularization_weights.shape == eager.regularization_weights.shape


def test_counts_are_kept_in_chunks(scan):
    """The slopes are found on a part of the image, here all of it, before anything is fused."""
    options = {"count_slope": "auto", "tolerance": 5e-4, "max_iterations": 2000, "lambda_tv": 1.5}
    eager, lazy = both(scan, **options)
    assert lazy.history is None
    np.testing.assert_allclose(lazy.count_slope, eager.count_slope, atol=0.1)
    lazy.fused.compute()
    np.testing.assert_allclose(lazy.kept_counts, 1, atol=0.03)
    np.testing.assert_allclose(lazy.fused.data.sum((1, 2)), eager.fused.data.sum((1, 2)), rtol=0.01)
    told = lazy.fused.metadata.FusedMultiModal
    assert told.keeps_counts and told.count_slope == lazy.count_slope.tolist()


@pytest.mark.parametrize("how", ["compute", "save"])
def test_outcome_is_known_afterwards(scan, tmp_path, how):
    eager, lazy = both(scan)
    assert all(getattr(lazy, name) is None for name in TO_COME) and lazy.objective() is None
    with pytest.raises(RuntimeError, match="compute or save"):
        lazy.plot_convergence()
    if how == "compute":
        lazy.fused.compute()
    else:
        lazy.fused.save(tmp_path / "fused.zspy")
    assert lazy.iterations == 20 and lazy.converged == eager.converged and "not" not in repr(lazy)
    assert 0.99 * eager.gap < lazy.gap < 1.01 * eager.gap
    assert lazy.gap_by_chunk.shape == (2, 3)
    assert lazy.gap_by_chunk.sum() == pytest.approx(lazy.gap)
    np.testing.assert_allclose(lazy.kept_counts, eager.kept_counts, rtol=1e-5)
    for name, value in eager.objective().items():
        assert lazy.objective()[name] == pytest.approx(value, rel=1e-4)
    assert lazy.history["total"][-1] == pytest.approx(eager.history["total"][-1], rel=1e-4)
    assert lazy.plot_convergence() is not None
    assert lazy.fused.metadata.FusedMultiModal.gap == lazy.gap
    told, expected = (model.fused.metadata.FusedMultiModal.as_dictionary() for model in (lazy, eager))
    assert set(told) == {*expected, "chosen_on", "gap_by_chunk"}
    close(lazy.fused.data, eager.fused.data)


def test_computed_maps_are_not_solved_again(scan, sweeps):
    _, model = both(scan)
    model.fused.compute()
    done = len(sweeps)
    model.fused.compute()
    model.haadf_residual.compute()
    np.asarray(model.standard_error("hessian").data)
    assert len(sweeps) == done > 0


@pytest.mark.parametrize("fidelity", ["poisson", "gaussian"])
def test_bound_and_covariance(scan, fidelity):
    maps, lazy, haadf, scale = scan
    rng = np.random.default_rng(0)
    given = {**scale, "fidelity": fidelity, "haadf_noise": rng.uniform(1, 2, SHAPE)}
    if fidelity == "gaussian":
        given["noise"] = rng.uniform(1, 2, maps.data.shape)
    models = [signal.create_model(haadf, **given) for signal in (maps, lazy)]
    for model in models:
        model.fit(**FIT)
    eager, chunked = (model.standard_error("hessian") for model in models)
    assert chunked._lazy and chunked.metadata.General.title == eager.metadata.General.title
    assert chunked.metadata.FusedMultiModal.standard_error.method == "hessian"
    close(chunked.data, eager.data)
    eager, chunked = (model.covariance("hessian") for model in models)
    assert chunked._lazy and chunked.axes_manager.shape == eager.axes_manager.shape
    close(chunked.data, eager.data)


def test_everything_from_one_graph(scan, sweeps):
    eager, model = both(scan)
    fused, error, residual = model.fused, model.standard_error("hessian"), model.haadf_residual
    values = dask.compute(fused.data, error.data, residual.data)
    assert len(sweeps) == len(set(sweeps)) == 6 * len(model._solution.plan.sweeps)
    expected = eager.fused.data, eager.standard_error("hessian").data, eager.haadf_residual.data
    for found, wanted in zip(values, expected):
        close(found, wanted)


def test_compute_together(scan, sweeps):
    _, model = both(scan)
    fused, error, residual = model.fused, model.standard_error("hessian"), model.haadf_residual
    fmm.compute_together(fused, error, residual)
    assert len(sweeps) == len(set(sweeps)) > 0
    assert type(fused) is type(error) is fmm.ElementMaps and not residual._lazy
    assert fused.metadata.FusedMultiModal.gap == error.metadata.FusedMultiModal.gap == model.gap > 0
    # What is in memory stays as it is.
    fmm.compute_together(fused, error)


def test_save_together(scan, sweeps, tmp_path):
    _, model = both(scan)
    outputs = {
        tmp_path / "fused.zspy": model.fused,
        tmp_path / "error.hspy": model.standard_error("hessian"),
        tmp_path / "residual.zspy": model.haadf_residual,
        tmp_path / "haadf.zspy": scan[2],
    }
    fmm.save_together(outputs)
    assert len(sweeps) == len(set(sweeps)) > 0
    assert sorted(tmp_path.iterdir()) == sorted(outputs)
    read = {path.stem: hs.load(path) for path in outputs}
    assert read["fused"].metadata.FusedMultiModal.gap == model.gap > 0
    close(read["error"].data, model.standard_error("hessian").data)
    close(read["residual"].data, model.haadf_residual.data)
    np.testing.assert_array_equal(read["haadf"].data, scan[2].data)
    with pytest.raises(FileExistsError, match="overwrite"):
        fmm.save_together(outputs)


def test_bad_input_is_refused_before_anything_is_computed(scan, sweeps, tmp_path):
    fused = both(scan)[1].fused
    with pytest.raises(TypeError, match="signals: found 3; signals of HyperSpy"):
        fmm.compute_together(fused, 3)
    wrong = [
        ([fused], TypeError, "signals: found list; a dict of path to signal"),
        ({1: fused}, TypeError, "signals: found 1 as a path; a string or a Path"),
        ({tmp_path / "a.zspy": 3}, TypeError, "signals: found 3; signals of HyperSpy"),
        ({tmp_path / "a.foo": fused}, ValueError, r"filename: found the extension '.foo' of 'a.foo'"),
        # Read by RosettaSciIO, but not written.
        ({tmp_path / "a.emd": fused, tmp_path / "a.dm3": fused}, ValueError, "extension '.dm3'"),
        ({tmp_path / "a": fused, tmp_path / "a.hspy": fused}, ValueError, "a.hspy' twice"),
        ({tmp_path / "none" / "a.zspy": fused}, FileNotFoundError, "make it first"),
    ]
    for signals, error, match in wrong:
        with pytest.raises(error, match=match):
            fmm.save_together(signals)
    assert not sweeps and fused._lazy and not list(tmp_path.iterdir())


def test_a_file_without_extension_is_an_hspy(scan, tmp_path):
    fused = both(scan)[1].fused
    fmm.save_together({str(tmp_path / "fused"): fused})
    assert [path.name for path in tmp_path.iterdir()] == ["fused.hspy"]
    assert type(hs.load(tmp_path / "fused.hspy")) is fmm.ElementMaps


def test_results_of_two_fits_are_not_mixed(scan):
    models = [both(scan)[1] for _ in range(2)]
    with pytest.raises(ValueError, match="2 different fits"):
        fmm.compute_together(*(model.fused for model in models))


def test_fuse_returns_model_and_bound(scan):
    maps, lazy, haadf, scale = scan
    options = {**FIT, **scale}
    fused, error, model = lazy.fuse(haadf, return_model=True, standard_error="hessian", **options)
    assert isinstance(model, LazyFusedMultiModal) and fused._lazy and error._lazy
    expected, bound = maps.fuse(haadf, standard_error="hessian", **options)
    fmm.compute_together(fused, error)
    close(fused.data, expected.data)
    close(error.data, bound.data)
    assert model.gap > 0


def test_standard_error_of_large_maps_tells_its_method(scan):
    _, lazy, haadf, scale = scan
    with pytest.warns(UserWarning, match="standard_error: .*'hessian'"):
        _, error = lazy.fuse(haadf, standard_error=True, **FIT, **scale)
    assert error.metadata.FusedMultiModal.standard_error.method == "hessian"
    with pytest.raises(ValueError, match="standard_error: found 'jackknife'"):
        lazy.fuse(haadf, standard_error="jackknife", **FIT, **scale)


def test_a_new_fit_takes_the_place_of_the_last(scan):
    _, model = both(scan)
    before = model.fused
    model.fit(**{**FIT, "lambda_tv": 1.5})
    before.compute()
    assert model.gap is None and before.metadata.FusedMultiModal.gap > 0
    assert model.fused.metadata.FusedMultiModal.lambda_tv == [1.5] * 3


def test_without_image_and_with_pilot(scan):
    maps, lazy, *_ = scan
    models = [signal.create_model() for signal in (maps, lazy)]
    for model in models:
        model.fit(**{**FIT, "lambda_haadf": 0.0, "regularization_weights": "pilot"})
    close(models[1].fused.data, models[0].fused.data)
    close(models[1].regularization_weights, models[0].regularization_weights)
    with pytest.raises(RuntimeError, match="no HAADF image"):
        models[1].haadf_fit
    assert models[1].haadf is None


def test_relative_to_the_image(scan):
    maps, lazy, haadf, scale = scan
    models = [signal.create_model(haadf, **scale) for signal in (maps, lazy)]
    for model in models:
        model.fit(**{**FIT, "relative": True})
    close(models[1].fused.data, models[0].fused.data)
    close(models[1].reference_scale, models[0].reference_scale)
    assert models[1].relative and models[1].reference_scale.all()
    assert models[1].fused.metadata.FusedMultiModal.relative is True
    models[0].fit(**FIT)
    assert not models[0].reference_scale.any()
    assert np.abs(models[0].fused.data - np.asarray(models[1].fused.data)).max() > 0.01


def test_pixels_of_the_image_that_are_left_out_guide_nothing(scan):
    maps, lazy, haadf, scale = scan
    noise, haadf = np.full(SHAPE, 1.5), haadf.deepcopy()
    noise[10:40, 20:35], noise[5], haadf.data[15, 25] = np.inf, np.inf, 1e6
    fused = [
        signal.fuse(haadf, **{**FIT, **scale, "haadf_noise": noise, "guided": True, "relative": True})
        for signal in (maps, lazy)
    ]
    close(fused[1].data, fused[0].data)


@pytest.mark.parametrize("initial", ["auto", "measured"])
def test_power_model(scan, initial):
    maps, lazy, haadf, _ = scan
    known = {"forward": "power", "haadf_offset": 40.0}
    models = [signal.create_model(haadf, **known) for signal in (maps, lazy)]
    for model in models:
        model.fit(**{**FIT, "initial": initial, "max_iterations": 30})
    eager, chunked = models
    assert isinstance(chunked, LazyFusedMultiModal) and chunked.stationarity is None
    fused, residual, bound = chunked.fused, chunked.haadf_residual, chunked.standard_error("hessian")
    fmm.compute_together(fused, residual, bound)
    close(fused.data, eager.fused.data)
    close(residual.data, eager.haadf_residual.data)
    close(bound.data, eager.standard_error("hessian").data)
    assert chunked.iterations == 30 and np.isnan(chunked.gap)
    assert eager.stationarity / 2 < chunked.stationarity < 2 * eager.stationarity
    assert chunked.objective()["total"] == pytest.approx(eager.objective()["total"], rel=1e-4)
    assert chunked.history["stationarity"] == [chunked.stationarity]
    told, expected = (m.fused.metadata.FusedMultiModal.as_dictionary() for m in (chunked, eager))
    assert set(told) == {*expected, "chosen_on", "gap_by_chunk", "steps_chosen_on"}
    assert told["initial"] == expected["initial"]
    assert chunked.plot_convergence() is not None


def test_steps_of_the_power_model_come_from_tiles_of_a_large_image(scan, monkeypatch):
    monkeypatch.setattr("hyperspy_fusedmm.signals.sampling.SAMPLE", 48)
    maps, lazy, haadf, _ = scan
    known = {"forward": "power", "haadf_offset": 40.0, "weights": [13.0, 5.6, 1.7], "haadf_noise": 30.0}
    fit = {**FIT, "initial": "auto", "tolerance": 1e-2, "max_iterations": 300}
    eager, chunked = maps.fuse(haadf, **known, **fit), lazy.fuse(haadf, **known, **fit)
    chunked.compute()
    told, expected = chunked.metadata.FusedMultiModal, eager.metadata.FusedMultiModal
    assert told.steps_chosen_on == "8 x 8 tiles"
    assert told.stationarity < 0.05
    assert told.objective.total == pytest.approx(expected.objective.total, rel=0.01)


def test_atomic_percent(scan):
    eager, lazy = both(scan)
    lazy.fused.compute()
    found, expected = (
        model.atomic_percent([1.0, 2.0, 3.0], return_error=True, method="hessian")
        for model in (lazy, eager)
    )
    for one, two in zip(found, expected):
        assert one._lazy
        close(one.data, two.data)


def test_single_map(scan):
    maps, lazy, *_ = scan
    model = lazy.inav[0].create_model()
    model.fit(**{**FIT, "lambda_haadf": 0.0})
    fused = model.fused
    fused.compute()
    assert fused.data.shape == SHAPE and model.gap == fused.metadata.FusedMultiModal.gap > 0
    close(fused.data, maps.inav[0].fuse(None, **{**FIT, "lambda_haadf": 0.0}).data)
    assert model.fused.data.shape == SHAPE


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_memory_says_what_to_do(scan, name):
    _, model = both(scan)
    with pytest.raises(NotImplementedError, match=rf"{name}\(\) .*isig"):
        getattr(model, name)()


def test_what_else_needs_memory(scan):
    maps, lazy, haadf, scale = scan
    _, model = both(scan)
    with pytest.raises(NotImplementedError, match="'hessian'"):
        model.standard_error()
    with pytest.raises(NotImplementedError, match="mean_standard_error"):
        model.mean_standard_error
    with pytest.raises(NotImplementedError, match="compute"):
        model.objective(maps)
    with pytest.raises(ValueError, match="solver: found 'gradient-descent'"):
        model.fit(solver="gradient-descent")
    with pytest.raises(ValueError, match="initial: found 'multiresolution'"):
        model.fit(initial="multiresolution")
    with pytest.warns(UserWarning, match="preset: .*loaded into memory"):
        assert not isinstance(lazy.create_model(haadf, preset="schwartz2022"), LazyFusedMultiModal)


def test_refused_fit_leaves_the_model(scan, tmp_path):
    _, model = both(scan)
    before = model.fused
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="scratch"):
        model.fit(**{**FIT, "lambda_tv": 2.0}, scratch=tmp_path / "file" / "below")
    assert model.lambda_tv[0] == 0.4 and model.fused.data.name == before.data.name


@pytest.mark.parametrize("shape", [(60, 71), (59, 70)])
def test_wrong_image(scan, shape):
    with pytest.raises(ValueError, match="haadf: .*rows x columns"):
        scan[1].create_model(np.random.default_rng(0).normal(size=shape))


def test_warnings_are_those_of_maps_in_memory(scan):
    _, lazy, haadf, scale = scan
    lazy.metadata.Signal.quantity = "Atomic percent (%)"
    with pytest.warns(UserWarning, match="maps: they are called 'Atomic percent"):
        lazy.create_model(haadf, **scale)
    moved = haadf.deepcopy()
    moved.axes_manager.signal_axes[0].offset += 2.0
    with pytest.warns(UserWarning, match="haadf: the first pixel lies at"):
        lazy.create_model(moved, **scale)


@pytest.mark.parametrize("where", ["maps", "haadf"])
def test_not_finite_outside_of_the_part_that_is_looked_at(scan, monkeypatch, where):
    maps, _, haadf, scale = scan
    monkeypatch.setattr("hyperspy_fusedmm.signals.sampling.SAMPLE", 32)
    maps, haadf = maps.deepcopy(), haadf.deepcopy()
    maps.change_dtype(float)
    (maps if where == "maps" else haadf).data[..., 5, 5] = np.nan
    model = maps.as_lazy().create_model(haadf, fidelity="poisson", **scale)
    assert model._setup["chosen_on"] == "8 x 8 tiles"
    with pytest.raises(ValueError, match=f"{where}: found NaN"):
        model.fit(**FIT)


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("computed", [False, True])
def test_store_and_restore(scan, tmp_path, extension, computed):
    _, lazy, haadf, scale = scan
    model = lazy.create_model(haadf, **{**scale, "haadf_noise": np.full(SHAPE, scale["haadf_noise"])})
    fit = {**FIT, "guided": True, "relative": True, "regularization_weights": "pilot"}
    model.fit(**fit)
    expected = np.asarray(model.fused.data)
    if computed:
        model.fused.compute()
    model.store("mine")
    path = tmp_path / f"maps.{extension}"
    lazy.save(path)
    read = hs.load(path, lazy=True)
    restored = read.models.restore("mine")
    assert isinstance(restored, LazyFusedMultiModal)
    assert restored.gap == model.gap and restored.haadf._lazy
    close(restored.fused.data, expected)
    restored.fit(**fit)
    close(restored.fused.data, expected)
    # In memory it has to be fitted again.
    again = hs.load(path).models.restore("mine")
    assert type(again) is fmm.FusedMultiModal
    again.fit(**fit)
    close(again.fused.data, expected)
