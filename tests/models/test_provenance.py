"""How maps were fused stays with them: through files, slices and arithmetic."""

import hyperspy.api as hs
import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm

TOLD = {
    "version",
    "elements",
    "forward",
    "gamma",
    "preset",
    "map_offset",
    "map_scale",
    "image_offset",
    "image_scale",
    "fidelity",
    "sensitivities",
    "background",
    "weights",
    "weights_rule",
    "weights_error",
    "weights_covariance",
    "weights_data_share",
    "haadf_offset",
    "haadf_offset_error",
    "haadf_offset_rule",
    "haadf_noise",
    "haadf_noise_error",
    "gamma_rule",
    "gamma_error",
    "lambda_haadf",
    "lambda_chem",
    "count_slope",
    "keeps_counts",
    "lower_bound",
    "lambda_tv",
    "regularization",
    "guided",
    "relative",
    "reference_scale",
    "regularization_weights",
    "chosen_from_data",
    "seed",
    "noise_rule",
    "solver",
    "initial",
    "tolerance",
    "tv_iterations",
    "iterations",
    "kept_counts",
    "converged",
    "gap",
    "relative_gap",
    "stationarity",
    "objective",
    "history",
}


def check(told, model):
    assert set(told) == TOLD
    assert told["version"] == fmm.__version__
    assert list(told["elements"]) == ["Co", "S", "O"]
    assert list(told["fidelity"]) == ["poisson"] * 3
    np.testing.assert_array_equal(told["weights"], model.weights)
    np.testing.assert_array_equal(told["lambda_tv"], model.lambda_tv)
    for name in ("haadf_offset", "haadf_noise", "gamma", "gap", "relative_gap", "iterations"):
        assert told[name] == getattr(model, name)
    assert told["converged"] is True and told["guided"] is False
    assert told["sensitivities"] is None
    assert dict(told["objective"]) == model.objective()
    for name, values in model.history.items():
        np.testing.assert_array_equal(told["history"][name], values)


def test_everything_that_decided_the_result_is_told(fitted):
    check(fitted.fused.metadata.FusedMultiModal.as_dictionary(), fitted)


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("read_lazily", [False, True], ids=["read eagerly", "read lazily"])
def test_it_survives_a_file(fitted, tmp_path, extension, read_lazily):
    fitted.fused.save(tmp_path / f"fused.{extension}")
    read = hs.load(tmp_path / f"fused.{extension}", lazy=read_lazily)
    check(read.metadata.FusedMultiModal.as_dictionary(), fitted)
    assert read.plot_convergence() is not None
    assert read.inav[1:].isig[:5, :5].plot_convergence() is not None


def test_images_survive_a_file(small, tmp_path):
    background = np.full((3, 24, 30), 0.25)
    noise = np.full((24, 30), 1.5)
    fused = small.maps.fuse(
        small.haadf, background=background, haadf_noise=noise, tolerance=0, max_iterations=5,
        **PLAIN,
    )
    fused.save(tmp_path / "fused.hspy")
    told = hs.load(tmp_path / "fused.hspy").metadata.FusedMultiModal
    np.testing.assert_array_equal(told.background, background)
    np.testing.assert_array_equal(told.haadf_noise, noise)


def test_it_survives_slices_and_arithmetic(fitted):
    fused = fitted.fused
    for derived in (fused.inav[0], fused.isig[:4, :4], fused * 2, fused.deepcopy()):
        check(derived.metadata.FusedMultiModal.as_dictionary(), fitted)


def test_convergence_is_plotted_from_what_was_recorded(fitted):
    assert fitted.plot_convergence() is not None
    assert fitted.fused.plot_convergence() is not None
    assert fitted.fused.inav[0].plot_convergence() is not None


def test_maps_are_plotted(fitted):
    assert fitted.plot_maps() is not None
    assert fitted.plot_maps(elements=["Co"]) is not None
    assert fitted.fused.plot_overlay(elements=["Co", "O"]) is not None
