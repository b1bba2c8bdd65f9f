"""A model kept with its maps comes back as it was."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm

# Everything given; the objective of TGV takes seconds to evaluate.
FIT = {
    "tolerance": 1e-3, "regularization": "tv", "guided": True, "lambda_haadf": 0.5,
    "lambda_tv": "noise", "count_slope": [0.95, 0.9, 1.0],
}  # fmt: skip


def check(model, original, maps):
    assert type(model) is fmm.FusedMultiModal
    assert model.signal is maps
    assert (model.forward, model.gamma, model.fidelity) == (
        original.forward,
        original.gamma,
        original.fidelity,
    )
    for name in ("weights", "background", "noise", "haadf_noise", "sensitivities"):
        np.testing.assert_array_equal(getattr(model, name), getattr(original, name))
    assert model.haadf_offset == original.haadf_offset
    assert isinstance(model.haadf, hs.signals.Signal2D) and not model.haadf._lazy
    np.testing.assert_array_equal(model.haadf.data, original.haadf.data)
    assert model.haadf.axes_manager.as_dictionary() == original.haadf.axes_manager.as_dictionary()
    assert model.haadf.metadata.General.title == "HAADF"


def check_fit(model, original):
    np.testing.assert_array_equal(np.asarray(model.fused.data), np.asarray(original.fused.data))
    np.testing.assert_array_equal(model.haadf_fit.data, original.haadf_fit.data)
    for name in ("lambda_tv", "regularization_weights"):
        np.testing.assert_array_equal(getattr(model, name), getattr(original, name))
    for name in (
        "lambda_haadf", "lambda_chem", "gap", "relative_gap", "iterations", "converged",
        "regularization", "guided", "relative", "chosen_from_data",
    ):  # fmt: skip
        assert getattr(model, name) == getattr(original, name)
    np.testing.assert_array_equal(model.count_slope, original.count_slope)
    np.testing.assert_array_equal(model.reference_scale, original.reference_scale)
    for name, values in original.history.items():
        np.testing.assert_array_equal(model.history[name], values)
    assert model.objective() == original.objective()
    x = np.asarray(original.fused.data) + 0.1
    assert model.objective(x)["total"] == pytest.approx(original.objective(x)["total"], rel=1e-9)


def stored(small, maps, **fit):
    model = maps.create_model(small.haadf, background={"S": 0.1}, sensitivities=[1.0, 2.0, 3.0])
    model.fit(**fit)
    model.store("mine")
    return model


def test_in_memory(small, as_asked):
    maps = as_asked(small.maps)
    model = stored(small, maps, **FIT)
    restored = maps.models.restore("mine")
    check(restored, model, maps)
    check_fit(restored, model)
    restored.fit(**FIT | {"lambda_tv": 1.0, "tolerance": 1e-2})
    assert (restored.lambda_tv == 1).all() and not (model.lambda_tv == 1).any()
    check_fit(maps.models.mine.restore(), model)


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("read_lazily", [False, True], ids=["read eagerly", "read lazily"])
def test_through_a_file(small, as_asked, tmp_path, extension, read_lazily):
    maps = as_asked(small.maps)
    model = stored(small, maps, **FIT)
    maps.save(tmp_path / f"maps.{extension}")
    read = hs.load(tmp_path / f"maps.{extension}", lazy=read_lazily)
    restored = read.models.restore("mine")
    check(restored, model, read)
    check_fit(restored, model)
    assert restored.plot_convergence() is not None
    restored.fit(**FIT)
    np.testing.assert_allclose(np.asarray(restored.fused.data), np.asarray(model.fused.data))


def test_what_was_chosen_comes_back_and_is_chosen_again(small, tmp_path):
    maps = small.maps.as_lazy()
    model = stored(small, maps, tolerance=1e-3)
    maps.save(tmp_path / "maps.zspy")
    read = hs.load(tmp_path / "maps.zspy", lazy=True)
    restored = read.models.restore("mine")
    check(restored, model, read)
    check_fit(restored, model)
    assert len(restored.chosen_from_data) == 5
    np.testing.assert_array_equal(restored.selection["score"], model.selection["score"])
    restored.fit(tolerance=1e-3)
    np.testing.assert_allclose(np.asarray(restored.fused.data), np.asarray(model.fused.data))


def test_save_writes_maps_and_model(small, tmp_path):
    model = small.maps.create_model(small.haadf, **small.scale)
    model.fit(**FIT)
    model.save(tmp_path / "maps.hspy", name="saved")
    read = hs.load(tmp_path / "maps.hspy")
    check_fit(read.models.restore("saved"), model)


def test_a_model_that_was_not_fitted(small, tmp_path):
    model = small.maps.create_model(small.haadf, **small.scale)
    model.save(tmp_path / "maps.hspy", name="plan")
    read = hs.load(tmp_path / "maps.hspy")
    restored = read.models.restore("plan")
    check(restored, model, read)
    with pytest.raises(RuntimeError, match="not fitted"):
        restored.fused
    restored.fit(**FIT)
    assert restored.converged


def test_a_model_without_haadf(small, tmp_path):
    model = small.maps.create_model()
    model.fit(tolerance=1e-3, regularization="tv", lambda_tv="noise")
    model.save(tmp_path / "maps.hspy", name="counts")
    restored = hs.load(tmp_path / "maps.hspy").models.restore("counts")
    assert restored.haadf is None
    np.testing.assert_array_equal(restored.fused.data, model.fused.data)


def test_as_dictionary_makes_the_same_model(small):
    model = small.maps.create_model(small.haadf, **small.scale)
    model.fit(**FIT)
    again = small.maps.create_model(dictionary=model.as_dictionary())
    check(again, model, small.maps)
    check_fit(again, model)


def test_maps_cropped_since_are_refused(small):
    model = small.maps.create_model(small.haadf, **small.scale)
    model.fit(**FIT)
    model.store("mine")
    small.maps.crop("x", 0, 10)
    with pytest.raises(ValueError, match="dictionary: found a model of maps of shape"):
        small.maps.models.restore("mine")
