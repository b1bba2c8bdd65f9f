"""Fusion of maps that are solved when they are computed."""

import errno
import functools
import time

import dask
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.signals import lazy_fusion, sampling, solving, together

SHAPE = (90, 110)
# Everything that would take a search.
OPTIONS = {
    "weights": [1.0, 2.0], "haadf_offset": 5.0, "haadf_noise": 0.3, "lambda_tv": 0.4,
    "regularization": "tv", "guided": False, "lambda_haadf": 1.0, "initial": "measured",
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(lazy_fusion, "CHUNK", 48)


def make_scan():
    """Maps and their image."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    truth = np.stack([3 + 2 * np.sin(columns / 17) * np.cos(rows / 23), 1.5 + np.sin(rows / 11)])
    haadf = 5 + np.tensordot([1.0, 2.0], truth, 1) + 0.3 * rng.normal(size=SHAPE)
    counts = rng.poisson(truth)
    maps = fmm.element_maps({"Co": counts[0], "O": counts[1]})
    return maps, hs.signals.Signal2D(haadf)


@pytest.fixture
def scan():
    return make_scan()


def lazily(maps):
    lazy = maps.as_lazy()
    lazy.data = lazy.data.rechunk((1, 31, 50))
    return lazy


def assert_equal_maps(lazy, eager):
    np.testing.assert_allclose(
        np.asarray(lazy.data), eager.data, rtol=0, atol=1e-5 * eager.data.max()
    )


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("lambda_haadf", [0.0, 0.7])
@pytest.mark.parametrize("rule", ["uniform", "pilot"])
def test_numbers_of_eager(scan, regularization, guided, lambda_haadf, rule):
    maps, haadf = scan
    # Without the image dual fields are scaled down, in chunks by parts that suit the end of a run.
    iterations = 30 if lambda_haadf else 120
    options = OPTIONS | {
        "tolerance": 0, "max_iterations": iterations, "regularization": regularization, "guided": guided,
        "lambda_haadf": lambda_haadf, "regularization_weights": rule,
    }  # fmt: skip
    eager = maps.fuse(haadf, **options)
    lazy = lazily(maps).fuse(haadf.as_lazy(), **options)
    assert isinstance(lazy, fmm.LazyElementMaps)
    assert lazy.elements == ["Co", "O"]
    lazy.compute()
    assert isinstance(lazy, fmm.ElementMaps) and not lazy._lazy
    assert_equal_maps(lazy, eager)
    told, expected = lazy.metadata.FusedMultiModal, eager.metadata.FusedMultiModal
    assert told.iterations == iterations
    np.testing.assert_array_equal(told.count_slope, expected.count_slope)
    assert 0.99 * expected.gap < told.gap < (1.01 if lambda_haadf else 1.1) * expected.gap
    for name in ("haadf", "chem", "regularization", "total"):
        assert told.objective[name] == pytest.approx(expected.objective[name], rel=1e-4, abs=1e-9)
    np.testing.assert_allclose(told.kept_counts, expected.kept_counts, rtol=1e-5)
    assert set(expected.as_dictionary()) <= set(told.as_dictionary())


# From where chunks start, not from what the choice found.
AUTOMATIC = {"tolerance": 0, "max_iterations": 20, "initial": "measured"}


@pytest.fixture(scope="module")
def corner():
    """Part of the maps and of their image, and what comes out of them in memory, by fidelity."""
    maps, haadf = (signal.isig[:70, :60] for signal in make_scan())

    @functools.cache
    def fused(fidelity):
        return maps.fuse(haadf, fidelity=fidelity, **AUTOMATIC)

    return maps, haadf, fused


@pytest.mark.parametrize(
    "chunks, fidelity, lazy_image",
    [
        ((1, 31, 50), "poisson", False),
        ((2, 7, 70), "gaussian", True),
        ((1, 60, 3), "poisson", True),
    ],
)
@pytest.mark.filterwarnings("ignore:weights")
def test_everything_automatic_in_any_chunks(corner, chunks, fidelity, lazy_image):
    maps, haadf, fused = corner
    lazy, eager = maps.as_lazy(), fused(fidelity)
    lazy.data = lazy.data.rechunk(chunks)
    found = lazy.fuse(haadf.as_lazy() if lazy_image else haadf, fidelity=fidelity, **AUTOMATIC)
    told, expected = (signal.metadata.FusedMultiModal for signal in (found, eager))
    for name in ("weights", "haadf_offset", "haadf_noise", "lambda_haadf", "lambda_tv"):
        np.testing.assert_allclose(told[name], expected[name], rtol=1e-12)
    for name in ("regularization", "guided", "relative", "chosen_from_data"):
        assert told[name] == expected[name]
    assert isinstance(found, fmm.LazyElementMaps)
    assert_equal_maps(found, eager)


@pytest.mark.parametrize("where", ["options", "metadata"])
@pytest.mark.filterwarnings("ignore:weights")
def test_values_per_pixel(scan, where):
    maps, haadf = scan
    rng = np.random.default_rng(1)
    values = {
        "background": hs.signals.Signal2D(rng.uniform(0.1, 0.5, maps.data.shape)),
        "noise": hs.signals.Signal2D(rng.uniform(0.5, 1.5, maps.data.shape)),
    }
    values["background"].data[1] = 0
    options = {
        "tolerance": 0, "max_iterations": 20, "fidelity": ["poisson", "gaussian"], **OPTIONS,
        "haadf_noise": rng.uniform(0.2, 0.4, SHAPE),
        "regularization_weights": rng.uniform(0.5, 2, maps.data.shape),
    }  # fmt: skip
    lazy = lazily(maps)
    if where == "options":
        eager = maps.fuse(haadf, **options, **values)
        lazy = lazy.fuse(haadf, **options, **{k: v.as_lazy() for k, v in values.items()})
    else:
        for signal in (maps, lazy):
            signal.metadata.set_item("Background.counts", values["background"])
            signal.set_noise_variance(values["noise"])
        eager, lazy = maps.fuse(haadf, **options), lazy.fuse(haadf, **options)
        assert not lazy.metadata.has_item("Background")
    assert lazy.metadata.FusedMultiModal.haadf_noise == "per pixel"
    lazy.compute()
    assert_equal_maps(lazy, eager)
    kept = [signal.metadata.FusedMultiModal.kept_counts for signal in (lazy, eager)]
    np.testing.assert_allclose(*kept, rtol=1e-5)


def test_stored_black_level_and_calibration_are_kept(scan):
    maps, haadf = scan
    for axis in (*maps.axes_manager.signal_axes, *haadf.axes_manager.signal_axes):
        axis.scale, axis.units = 0.2, "nm"
    stored = "ImageList.TagGroup0.ImageData.Calibrations.Brightness"
    haadf.original_metadata.set_item(f"{stored}.Origin", 5.0)
    haadf.original_metadata.set_item(f"{stored}.Scale", 1.0)
    options = {"tolerance": 0, "max_iterations": 5, **OPTIONS}
    del options["haadf_offset"]
    eager, lazy = maps.fuse(haadf, **options), lazily(maps).fuse(haadf.as_lazy(), **options)
    told, expected = (s.metadata.FusedMultiModal for s in (lazy, eager))
    assert told.haadf_offset == expected.haadf_offset == 5.0
    assert lazy.axes_manager.signal_axes[0].scale == 0.2
    assert lazy.axes_manager.signal_axes[0].units == "nm"


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
    calls, original = [], together.solved
    monkeypatch.setattr(
        together, "solved", lambda *a, **k: calls.append(1) or original(*a, **k)
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

    monkeypatch.setattr(together, "solved", interrupt)
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
    with pytest.warns(UserWarning, match="initial: .*loaded into memory"):
        fused, model = lazily(maps).fuse(
            haadf, return_model=True, tolerance=0, max_iterations=5,
            **{**OPTIONS, "initial": "multiresolution"},
        )  # fmt: skip
    assert fused._lazy and model.iterations == 5


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

    monkeypatch.setattr(sampling, "SAMPLE", 64)
    values = np.arange(2 * 200 * 50).reshape(2, 200, 50)
    found = [sampling.sample(da.from_array(values, chunks=c))[0] for c in (7, 100)]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (2, 64, 50)
    np.testing.assert_array_equal(found[0][:, :8], values[:, :8])
    np.testing.assert_array_equal(found[0][:, -8:], values[:, -8:])
    tiles = sampling.sample_tiles(found[0][0], (200, 50))
    assert [tile.shape for tile in tiles] == [(8, 50)] * 8
    np.testing.assert_array_equal(tiles[-1], values[0, -8:])


def test_wrong_image_is_refused(scan):
    maps, haadf = scan
    with pytest.raises(ValueError, match="haadf"):
        lazily(maps).fuse(haadf.data[:, :-1])
    with pytest.raises(TypeError, match="no such option"):
        lazily(maps).fuse(haadf, lambda_tvv=1)


class Progress:
    """A progress bar that is called; raises after some steps."""

    def __init__(self, monkeypatch, after=np.inf, error=KeyboardInterrupt):
        self.n, self.after, self.error = 0, after, error
        monkeypatch.setattr(solving, "progressbar", self.made)

    def made(self, total, **_):
        self.total = total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, steps):
        self.n += steps
        if self.n == self.after:
            raise self.error


def test_progress_counts_the_chunks_of_all_sweeps(scan, monkeypatch):
    bar = Progress(monkeypatch)
    maps, haadf = scan
    lazily(maps).fuse(haadf, tolerance=0, max_iterations=30, **OPTIONS).compute()
    # 2 x 3 chunks of 45 x 37 pixels and sweeps of no more than 1 iteration.
    assert bar.n == bar.total == 6 * 30


def test_interruption_ends_within_one_chunk_and_leaves_no_file(scan, tmp_path, monkeypatch):
    maps, haadf = scan
    options = {"tolerance": 0, "max_iterations": 30, **OPTIONS}
    bar = Progress(monkeypatch, after=20)
    fused = lazily(maps).fuse(haadf, scratch=tmp_path / "scratch", **options)
    (tmp_path / "results").mkdir()
    with dask.config.set(num_workers=2), pytest.raises(KeyboardInterrupt):
        fused.save(tmp_path / "results" / "fused.zspy")
    assert not list((tmp_path / "results").iterdir())
    # What the other thread was at.
    assert bar.n <= 22
    time.sleep(0.2)
    assert bar.n <= 22
    assert not list((tmp_path / "scratch").glob("*.part"))
    bar.after = np.inf
    resumed = lazily(maps).fuse(haadf, resume=tmp_path / "scratch", **options)
    assert_equal_maps(resumed, maps.fuse(haadf, **options))


def test_full_scratch_folder(scan, tmp_path, monkeypatch):
    maps, haadf = scan
    options = {"tolerance": 0, "max_iterations": 30, **OPTIONS}
    save = np.save

    def full(file, array):
        if np.ndim(array) == 3 and len(array) > 2:
            save(file, array[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array)

    fused = lazily(maps).fuse(haadf, scratch=tmp_path / "scratch", **options)
    temporary = lazily(maps).fuse(haadf, **options)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="scratch: .*No space left.*make room"):
        fused.save(tmp_path / "fused.zspy")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scratch"]
    # Other threads may still be at a write of their own, which fails as well.
    for _ in range(100):
        if not list((tmp_path / "scratch").glob("*.part")):
            break
        time.sleep(0.1)
    assert not list((tmp_path / "scratch").glob("*.part"))
    with pytest.raises(OSError, match="name a folder on a larger disk"):
        temporary.compute()


def test_full_disk_of_the_result(scan, tmp_path, monkeypatch):
    import zarr

    maps, haadf = scan
    fused = lazily(maps).fuse(haadf, tolerance=0, max_iterations=5, **OPTIONS)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(OSError, match="filename: .*make room"):
        fused.save(tmp_path / "fused.zspy")
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(scan, tmp_path):
    maps, haadf = scan
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="scratch: .*cannot be written"):
        lazily(maps).fuse(
            haadf, scratch=tmp_path / "file" / "below", tolerance=0, max_iterations=30, **OPTIONS
        )
    fused = lazily(maps).fuse(haadf, tolerance=0, max_iterations=5, **OPTIONS)
    with pytest.raises(OSError, match="filename"):
        fused.save(tmp_path / "nowhere" / "fused.zspy")
