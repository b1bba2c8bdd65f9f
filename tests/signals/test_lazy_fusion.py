"""Fusion of maps that are solved when they are computed."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.signals import _lazy_element_maps, lazy_fusion

SHAPE = (90, 110)
OPTIONS = {"weights": [1.0, 2.0], "haadf_offset": 5.0, "haadf_noise": 0.3, "lambda_tv": 0.4}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(lazy_fusion, "CHUNK", 48)


@pytest.fixture
def scan():
    """Lazy maps and their image."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    truth = np.stack([3 + 2 * np.sin(columns / 17) * np.cos(rows / 23), 1.5 + np.sin(rows / 11)])
    haadf = 5 + np.tensordot([1.0, 2.0], truth, 1) + 0.3 * rng.normal(size=SHAPE)
    counts = rng.poisson(truth)
    maps = fmm.element_maps({"Co": counts[0], "O": counts[1]})
    return maps, hs.signals.Signal2D(haadf)


def lazily(maps):
    lazy = maps.as_lazy()
    lazy.data = lazy.data.rechunk((1, 31, 50))
    return lazy


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_numbers_of_eager(scan, regularization):
    maps, haadf = scan
    options = {"tolerance": 0, "max_iterations": 40, "regularization": regularization}
    eager = maps.fuse(haadf, **OPTIONS, **options)
    lazy = lazily(maps).fuse(haadf.as_lazy(), **OPTIONS, **options)
    assert isinstance(lazy, fmm.LazyElementMaps)
    assert lazy.elements == ["Co", "O"]
    lazy.compute()
    assert isinstance(lazy, fmm.ElementMaps) and not lazy._lazy
    np.testing.assert_allclose(lazy.data, eager.data, rtol=0, atol=1e-5 * eager.data.max())
    told, expected = lazy.metadata.FusedMultiModal, eager.metadata.FusedMultiModal
    assert told.gap == pytest.approx(expected.gap, rel=1e-3)
    assert told.iterations == 40
    for name in ("haadf", "chem", "regularization", "total"):
        assert told.objective[name] == pytest.approx(expected.objective[name], rel=1e-4)


def test_what_is_chosen_is_that_of_eager(scan):
    maps, haadf = scan
    options = {"tolerance": 0, "max_iterations": 20}
    eager, lazy = maps.fuse(haadf, **options), lazily(maps).fuse(haadf, **options)
    for name in ("weights", "haadf_offset", "haadf_noise", "lambda_tv"):
        np.testing.assert_allclose(
            lazy.metadata.FusedMultiModal[name], eager.metadata.FusedMultiModal[name], rtol=1e-12
        )
    np.testing.assert_allclose(np.asarray(lazy.data), eager.data, atol=1e-5 * eager.data.max())


def test_tolerance_is_met(scan):
    maps, haadf = scan
    fused = lazily(maps).fuse(haadf, tolerance=3e-3, **OPTIONS)
    assert "gap" not in fused.metadata.FusedMultiModal.as_dictionary()
    fused.compute()
    assert 0 < fused.metadata.FusedMultiModal.relative_gap <= 3e-3
    assert fused.metadata.FusedMultiModal.converged


def test_warns_where_the_tolerance_is_missed(scan):
    maps, haadf = scan
    fused = lazily(maps).fuse(haadf, tolerance=1e-6, max_iterations=20, **OPTIONS)
    with pytest.warns(UserWarning, match="relative gap"):
        fused.compute()


@pytest.mark.parametrize("suffix", ["zspy", "hspy"])
def test_save_solves_once_and_keeps_the_gap(scan, tmp_path, monkeypatch, suffix):
    maps, haadf = scan
    calls, original = [], lazy_fusion.solved
    monkeypatch.setattr(
        _lazy_element_maps, "solved", lambda *a, **k: calls.append(1) or original(*a, **k)
    )
    fused = lazily(maps).fuse(haadf, tolerance=0, max_iterations=30, **OPTIONS)
    path = tmp_path / f"fused.{suffix}"
    fused.save(path)
    assert calls == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    read = hs.load(path)
    assert type(read) is fmm.ElementMaps
    assert read.metadata.FusedMultiModal.gap > 0
    np.testing.assert_array_equal(read.data, np.asarray(fused.data))
    with pytest.raises(FileExistsError, match="overwrite"):
        fused.save(path)


def test_failed_save_leaves_no_file(scan, tmp_path, monkeypatch):
    maps, haadf = scan
    fused = lazily(maps).fuse(haadf, tolerance=0, max_iterations=30, **OPTIONS)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_lazy_element_maps, "solved", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fused.save(tmp_path / "fused.zspy")
    assert not list(tmp_path.iterdir())


def test_copies_and_slices_of_what_is_not_solved_yet(scan):
    maps, haadf = scan
    fused = lazily(maps).fuse(haadf, tolerance=0, max_iterations=30, **OPTIONS)
    one, copy = fused.inav[1], fused.deepcopy()
    copy.compute()
    one.compute()
    assert copy.metadata.FusedMultiModal.gap > 0 and one.elements == ["O"]
    np.testing.assert_array_equal(one.data, copy.data[1])


def test_options_that_need_memory_say_so(scan):
    maps, haadf = scan
    with pytest.warns(UserWarning, match="loaded into memory"):
        fused, model = lazily(maps).fuse(
            haadf, return_model=True, tolerance=0, max_iterations=5, **OPTIONS
        )
    assert model.iterations == 5


def test_scratch_folder_is_used(scan, tmp_path):
    maps, haadf = scan
    options = {"tolerance": 0, "max_iterations": 30, **OPTIONS}
    fused = lazily(maps).fuse(haadf, scratch=tmp_path / "scratch", **options)
    expected = np.asarray(fused.data)
    assert list((tmp_path / "scratch").glob("state*"))
    again = lazily(maps).fuse(haadf, resume=tmp_path / "scratch", **options)
    np.testing.assert_array_equal(np.asarray(again.data), expected)


def test_sample_of_a_large_image_does_not_depend_on_its_chunks(monkeypatch):
    import dask.array as da

    monkeypatch.setattr(lazy_fusion, "SAMPLE", 64)
    values = np.arange(2 * 200 * 50).reshape(2, 200, 50)
    found = [lazy_fusion.sample(da.from_array(values, chunks=c)) for c in (7, 100)]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (2, 64, 50)
    np.testing.assert_array_equal(found[0][:, :8], values[:, :8])
    np.testing.assert_array_equal(found[0][:, -8:], values[:, -8:])


def test_wrong_image_is_refused(scan):
    maps, haadf = scan
    with pytest.raises(ValueError, match="haadf"):
        lazily(maps).fuse(haadf.data[:, :-1])
    with pytest.raises(TypeError, match="no such option"):
        lazily(maps).fuse(haadf, lambda_tvv=1)
