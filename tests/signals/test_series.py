"""Fusion of frames and tilts: one after the other, each with its own image."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.signals import lazy_fusion

FRAMES, SHAPE = 3, (40, 48)
OPTIONS = {
    "weights": [1.0, 2.0], "haadf_noise": 0.3, "lambda_tv": 0.4, "regularization": "tv",
    "guided": False, "lambda_haadf": 1.0, "tolerance": 0, "max_iterations": 10,
    "initial": "measured", "show_progressbar": False,
}  # fmt: skip


@pytest.fixture(params=[False, True], ids=["eager", "lazy"])
def series(request):
    """Maps of shape (F, E, R, C) and images with another black level in every frame."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    truth = np.stack([3 + 2 * np.sin(columns / 7) * np.cos(rows / 9), 1.5 + np.sin(rows / 5)])
    counts = rng.poisson(truth, (FRAMES, *truth.shape))
    haadf = np.tensordot([1.0, 2.0], truth, 1) + 0.3 * rng.normal(size=(FRAMES, *SHAPE))
    haadf += 5 + 10 * np.arange(FRAMES)[:, None, None]
    axes = [{"name": "Tilt", "size": FRAMES, "scale": 2.0, "units": "deg", "navigate": True}]
    axes += [{"name": "Element", "size": 2, "navigate": True}]
    axes += [{"name": n, "size": s, "scale": 0.2, "units": "nm"} for n, s in zip("yx", SHAPE)]
    maps = fmm.ElementMaps(counts, axes=axes)
    maps.metadata.set_item("Sample.elements", ["Co", "O"])
    images = hs.signals.Signal2D(haadf, axes=[axes[0], *axes[2:]])
    return (maps.as_lazy(), images.as_lazy()) if request.param else (maps, images)


def single(maps, k):
    frame = maps.inav[:, k]
    if frame._lazy:
        frame.compute(show_progressbar=False)
    return frame


def test_every_frame_is_that_of_its_own_fusion(series):
    maps, images = series
    fused = maps.fuse(images, **OPTIONS)
    assert type(fused) is type(maps)
    assert fused.axes_manager.as_dictionary() == maps.axes_manager.as_dictionary()
    told = fused.metadata.FusedMultiModal
    for k in range(FRAMES):
        alone = single(maps, k).fuse(np.asarray(images.data)[k], **OPTIONS)
        np.testing.assert_array_equal(np.asarray(fused.data)[k], alone.data)
        expected = alone.metadata.FusedMultiModal
        assert told.frames.haadf_offset[k] == expected.haadf_offset
        assert told.frames.gap[k] == expected.gap
        assert told.frames.objective.total[k] == expected.objective.total
    np.testing.assert_allclose(told.frames.haadf_offset, [5, 15, 25], atol=0.5)
    assert told.weights == [1.0, 2.0] and told.iterations == 10


def test_order_of_the_axes_does_not_matter(series):
    maps, images = series
    other = maps.transpose(navigation_axes=["Tilt", "Element"])
    np.testing.assert_array_equal(
        np.asarray(other.fuse(images, **OPTIONS).data).swapaxes(0, 1),
        np.asarray(maps.fuse(images, **OPTIONS).data),
    )


def test_what_is_chosen_is_that_of_the_middle(series):
    maps, images = series
    free = {
        name: value
        for name, value in OPTIONS.items()
        if name not in ("lambda_tv", "regularization", "guided", "relative", "lambda_haadf")
    }
    fused, models = maps.fuse(images, return_model=True, **free)
    alone = single(maps, 1).fuse(np.asarray(images.data)[1], **free)
    expected = alone.metadata.FusedMultiModal
    assert len(models) == FRAMES
    for model in models:
        assert model.regularization == expected.regularization
        assert model.guided == expected.guided and model.relative == expected.relative
        assert model.lambda_haadf == expected.lambda_haadf
        np.testing.assert_array_equal(model.lambda_tv, expected.lambda_tv)
    assert fused.metadata.FusedMultiModal.chosen_on_frame == 1


def test_one_image_or_none_for_all(series):
    maps, images = series
    image = images.inav[0]
    fused = maps.fuse(image, haadf_offset=5.0, **OPTIONS)
    alone = single(maps, 2).fuse(np.asarray(image.data), haadf_offset=5.0, **OPTIONS)
    np.testing.assert_array_equal(np.asarray(fused.data)[2], alone.data)
    without = {"lambda_tv": 0.4, "regularization": "tv", "tolerance": 0, "max_iterations": 5}
    fused = maps.fuse(None, show_progressbar=False, **without)
    assert fused.metadata.FusedMultiModal.lambda_haadf == 0


def test_standard_errors_have_the_axes_of_the_maps(series):
    maps, images = series
    maps, images = maps.inav[:, :2], images.inav[:2]
    fused, error = maps.fuse(images, standard_error=True, **OPTIONS)
    assert error.data.shape == fused.data.shape
    assert (np.asarray(error.data) > 0).any()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_saved_and_loaded(series, tmp_path):
    maps, images = series
    fused = maps.fuse(images, **OPTIONS)
    for name in ("fused.hspy", "fused.zspy"):
        fused.save(tmp_path / name)
        read = hs.load(tmp_path / name)
        assert type(read) is fmm.ElementMaps and read.elements == ["Co", "O"]
        np.testing.assert_array_equal(read.data, np.asarray(fused.data))
        told = fused.metadata.FusedMultiModal.frames.haadf_offset
        assert list(read.metadata.FusedMultiModal.frames.haadf_offset) == list(told)


def test_images_that_do_not_fit_are_refused(series):
    maps, images = series
    with pytest.raises(ValueError, match=r"haadf: found an array of shape \(2, 40, 48\)"):
        maps.fuse(images.inav[:2], **OPTIONS)


def test_large_frames_are_solved_when_computed(series, tmp_path, monkeypatch):
    maps, images = series
    expected = maps.fuse(images, **OPTIONS)
    if not maps._lazy:
        return
    monkeypatch.setattr(lazy_fusion, "CHUNK", 24)
    fused = maps.fuse(images, scratch=tmp_path / "scratch", **OPTIONS)
    assert fused._lazy and len(list((tmp_path / "scratch").iterdir())) == FRAMES
    values = np.asarray(expected.data)
    np.testing.assert_allclose(fused.data.compute(), values, rtol=0, atol=1e-5 * values.max())
