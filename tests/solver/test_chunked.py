"""Maps solved in chunks against the whole image in memory."""

import os

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_fusedmm.solver import (
    FusionProblem,
    haadf_guide,
    haadf_reference,
    pilot_weights,
    solve,
)
from hyperspy_fusedmm.solver.out_of_core import (
    LazyProblem,
    ScratchError,
    guide_scale,
    lazy_haadf_guide,
    lazy_haadf_reference,
    lazy_pilot_weights,
    solve_chunked,
)
from hyperspy_fusedmm.solver.out_of_core import chunked as chunked_module
from hyperspy_fusedmm.solver.out_of_core.grid import largest_sweep, sweeps, working_grid

SHAPE = (131, 157)
PIXELWISE = ("haadf", "guide", "reference", "regularization_weights")


def specimen(
    fidelity="poisson", regularization="tv", guided=False, with_haadf=True, relative=False
):
    rng = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    truth = np.stack(
        [3 + 2 * np.sin(columns / 17) * np.cos(rows / 23), 1.5 + np.sin(rows / 11)]
    )
    counts = rng.poisson(truth).astype(float)
    given = {"maps": counts, "lambda_tv": [0.4, 0.5], "regularization": regularization}
    if fidelity == "gaussian":
        given["maps"] = truth + 0.7 * rng.normal(size=truth.shape)
        given |= {"fidelity": "gaussian", "noise": 0.7}
    given["regularization_weights"] = pilot_weights(given["maps"], fidelity)
    if with_haadf:
        haadf = 5 + np.tensordot([1.0, 2.0], truth, 1) + 0.3 * rng.normal(size=SHAPE)
        given |= {"haadf": haadf, "weights": [1.0, 2.0], "haadf_offset": 5.0, "haadf_noise": 0.3}
        if guided:
            given["guide"] = haadf_guide(haadf)
        if relative:
            given["reference"] = haadf_reference(haadf)
            given["reference_scale"] = [0.3, -0.1]
    return given


def as_lazy(given, chunks=(40, 60)):
    lazy = {
        name: da.from_array(value, chunks=(-1,) * (value.ndim - 2) + chunks)
        if name in (*PIXELWISE, "maps")
        else value
        for name, value in given.items()
    }
    return LazyProblem(**lazy)


def computed(solution):
    maps, parts = dask.compute(solution.maps, solution.parts, num_workers=2)
    return maps, solution.certificate(parts)


def assert_same(given, chunk, iterations, **options):
    whole = solve(FusionProblem(**given), tolerance=0, max_iterations=iterations)
    solution = solve_chunked(as_lazy(given), 0, iterations, chunk=chunk, **options)
    maps, found = computed(solution)
    np.testing.assert_allclose(maps, whole.maps, rtol=0, atol=1e-5 * whole.maps.max())
    assert found["gap"] >= whole.gap - 1e-6 * found["total"]
    assert found["gap"] <= (1 + 1e-3) * whole.gap + 1e-6 * found["total"]
    assert found["iterations"] == iterations
    return solution


@pytest.mark.parametrize("fidelity", ["poisson", "gaussian"])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("guided", [False, True])
def test_chunks_give_the_numbers_of_the_whole(fidelity, regularization, guided):
    solution = assert_same(specimen(fidelity, regularization, guided), 60, 33)
    assert len(solution.plan.sweeps) > 1


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_chunks_of_a_regularization_relative_to_the_image(regularization, guided):
    assert_same(specimen("poisson", regularization, guided, relative=True), 60, 33)


@pytest.mark.parametrize(
    "chunk",
    [
        50,
        37,
        ((2,), (131,), (11, 90, 56)),
        ((2,), (3, 60, 4, 64), (157,)),
        ((2,), (131,), (1,) * 4 + (153,)),
    ],
    ids=["50", "37", "columns", "smaller than the halo", "single columns"],
)
def test_any_chunks(chunk):
    assert_same(specimen(), chunk, 25)


def test_one_pass_where_the_halo_is_small_needs_no_scratch():
    solution = assert_same(specimen(), ((2,), (131,), (80, 77)), 5)
    assert len(solution.plan.sweeps) == 1 and solution.plan.scratch is None


def test_without_haadf():
    given = specimen(with_haadf=False)
    solution = solve_chunked(as_lazy(given), 0, 40, chunk=60)
    whole = solve(FusionProblem(**given), tolerance=0, max_iterations=40)
    maps, found = computed(solution)
    np.testing.assert_allclose(maps, whole.maps, rtol=0, atol=1e-5 * whole.maps.max())
    assert 0 < found["gap"] < 2 * whole.gap


def test_an_image_of_one_chunk_is_solved_as_in_memory():
    given = specimen()
    whole = solve(FusionProblem(**given), tolerance=1e-3)
    maps, found = computed(solve_chunked(as_lazy(given), 1e-3, chunk=400))
    np.testing.assert_array_equal(maps, whole.maps)
    assert found["gap"] <= 1e-3 * found["total"] and found["iterations"] == whole.iterations


def test_iterations_of_tiles_meet_the_tolerance_of_the_whole(monkeypatch):
    monkeypatch.setattr(chunked_module, "TILE", 48)
    maps, found = computed(solve_chunked(as_lazy(specimen()), 3e-3, chunk=80))
    assert found["gap"] <= 3e-3 * found["total"]
    assert found["iterations"] < 1000


@pytest.mark.parametrize("chunks", [(131, 157), (40, 60), (7, 150)])
def test_pilot_weights(chunks):
    counts = specimen()["maps"]
    lazy = lazy_pilot_weights(da.from_array(counts, chunks=(1,) + chunks), chunk=64)
    np.testing.assert_allclose(lazy.compute(), pilot_weights(counts), rtol=1e-6)


def test_interrupted_work_is_resumed(tmp_path, monkeypatch):
    given, calls = specimen(), []
    original = chunked_module.sweep

    def failing(plan, k, i, j, *done):
        calls.append(k)
        if k == 2:
            raise KeyboardInterrupt
        return original(plan, k, i, j, *done)

    monkeypatch.setattr(chunked_module, "sweep", failing)
    folder = tmp_path / "scratch"
    solution = solve_chunked(as_lazy(given), 0, 33, chunk=60, scratch=folder)
    with pytest.raises(KeyboardInterrupt):
        dask.compute(solution.maps, scheduler="single-threaded")
    assert not list(folder.glob("*.part"))
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("state*")}
    assert finished

    monkeypatch.setattr(chunked_module, "sweep", original)
    assert_same(given, 60, 33, resume=folder)
    # What was finished was not done again.
    for path in folder.glob("state*"):
        assert path.stat().st_mtime_ns == finished.get(path.name, path.stat().st_mtime_ns)


def test_lost_tasks_can_be_run_again():
    solution = solve_chunked(as_lazy(specimen()), 0, 33, chunk=60)
    first = solution.maps.compute(num_workers=2)
    np.testing.assert_array_equal(solution.maps.compute(scheduler="single-threaded"), first)


def test_other_work_in_the_scratch_folder_is_refused(tmp_path):
    solve_chunked(as_lazy(specimen()), 0, 33, chunk=60, scratch=tmp_path)
    with pytest.raises(ScratchError, match="resume="):
        solve_chunked(as_lazy(specimen()), 0, 33, chunk=60, scratch=tmp_path)
    with pytest.raises(ScratchError, match="iterations"):
        solve_chunked(as_lazy(specimen()), 0, 34, chunk=60, resume=tmp_path)
    with pytest.raises(ScratchError, match="no unfinished work"):
        solve_chunked(as_lazy(specimen()), 0, 33, chunk=60, resume=tmp_path / "other")


def test_scratch_folders_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScratchError, match="cannot be written"):
        solve_chunked(as_lazy(specimen()), 0, 33, chunk=60, scratch=tmp_path / "file" / "below")
    with pytest.raises(ScratchError, match="not empty"):
        solve_chunked(as_lazy(specimen()), 0, 33, chunk=60, scratch=tmp_path)
    usage = chunked_module.Scratch.__init__.__globals__["shutil"].disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ScratchError, match="GB left"):
        solve_chunked(as_lazy(specimen()), 0, 33, chunk=60, scratch=tmp_path / "new")


def test_temporary_scratch_vanishes():
    solution = solve_chunked(as_lazy(specimen()), 0, 33, chunk=60)
    folder = solution.plan.scratch.folder
    computed(solution)
    assert os.path.isdir(folder)
    solution.plan.scratch._finalizer()
    assert not os.path.exists(folder)


def test_nonsense_is_refused():
    problem = as_lazy(specimen())
    with pytest.raises(ValueError, match="chunk"):
        solve_chunked(problem, chunk=0)
    with pytest.raises(ValueError, match="add up"):
        solve_chunked(problem, chunk=((2,), (100,), (157,)))
    with pytest.raises(ValueError, match="schedule must be given"):
        solve_chunked(LazyProblem(problem.arrays["maps"], forward="power"))
    with pytest.raises(ValueError, match="haadf must have"):
        LazyProblem(problem.arrays["maps"], haadf=np.ones((3, 4)))


def test_sweeps_hold_all_iterations_and_finish_each_segment_once():
    plan = sweeps([(20, 3), (81, 1)], 17)
    parts = [part for segments in plan for part in segments]
    assert all(sum(n for n, *_ in segments) <= 17 for segments in plan)
    assert sum(n for n, newton, _ in parts if newton == 3) == 20
    assert sum(n for n, newton, _ in parts if newton == 1) == 81
    assert [newton for _, newton, finish in parts if finish] == [3, 1]


def test_grid_covers_the_image_and_bounds_the_overhead():
    chunks = working_grid((2, 1000, 777), 300)
    assert (sum(chunks[1]), sum(chunks[2])) == (1000, 777) and max(chunks[1] + chunks[2]) <= 300
    halo = largest_sweep(chunks) + 2
    assert (1 + 2 * halo / min(chunks[1] + chunks[2])) ** 2 <= 1.4


@pytest.mark.parametrize("chunks", [(131, 157), (40, 60), (7, 150)])
def test_guide(chunks):
    haadf = specimen()["haadf"]
    lazy = lazy_haadf_guide(da.from_array(haadf, chunks=chunks), guide_scale([haadf]), chunk=64)
    np.testing.assert_allclose(lazy.compute(), haadf_guide(haadf), rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunks", [(131, 157), (40, 60)])
@pytest.mark.parametrize("left_out", [False, True])
def test_reference(chunks, left_out):
    haadf = specimen()["haadf"]
    noise = np.full(haadf.shape, 0.3)
    if left_out:
        noise[40:60, 30:80], noise[100] = np.inf, np.inf
        haadf = np.where(np.isinf(noise), 1e5, haadf)
    lazy = lazy_haadf_reference(
        da.from_array(haadf, chunks=chunks), guide_scale([haadf], left_out=[np.isinf(noise)]), noise,
        chunk=64,
    )  # fmt: skip
    np.testing.assert_allclose(lazy.compute(), haadf_reference(haadf, noise), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunk", [64, 100, 1024])
@pytest.mark.parametrize("where", ["pixels", "band", "corner"])
def test_guide_does_not_look_where_the_noise_is_infinite(where, chunk):
    rng = np.random.default_rng(3)
    rows, columns = np.indices((300, 260))
    haadf = 90 + 20 * np.sin(rows / 17) * np.sin(columns / 23) + 30 * (columns > 110)
    haadf += 2 * rng.normal(size=haadf.shape)
    left_out = {
        "pixels": rng.random(haadf.shape) < 0.2,
        "band": abs(rows - columns - 20) < 9,
        # Farther from what is looked at than any blur reaches.
        "corner": (rows < 190) & (columns > 70) | (rng.random(haadf.shape) < 0.01),
    }[where]
    noise = np.where(left_out, np.inf, 2.0)
    haadf[left_out] = rng.uniform(0, 1e6, left_out.sum())
    expected = haadf_guide(haadf, noise)
    assert abs(expected).max() > 0.5
    guide = lazy_haadf_guide(
        da.from_array(haadf, chunks=77), guide_scale([haadf], left_out=[left_out]),
        da.from_array(noise, chunks=50), chunk=chunk,
    ).compute()  # fmt: skip
    assert not guide[:, left_out].any()
    np.testing.assert_allclose(guide, expected, rtol=0, atol=1e-6)


def test_totals():
    given = specimen()
    maps, found = computed(solve_chunked(as_lazy(given), 0, 25, chunk=60))
    np.testing.assert_allclose(found["totals"], maps.sum(axis=(1, 2), dtype=float), rtol=1e-6)
    whole = as_lazy(given | {"background": [0.25, 0.5]}).measure()
    expected = given["maps"].sum(axis=(1, 2)) - np.array([0.25, 0.5]) * maps[0].size
    np.testing.assert_allclose(whole.net, expected)


def test_guide_from_tiles_is_as_blurred_as_that_of_the_whole():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((512, 512))
    haadf = 90 + 20 * np.sin(rows / 37) * np.sin(columns / 53) + 5 * rng.normal(size=(512, 512))
    tiles = [haadf[r : r + 128, c : c + 128] for r in range(0, 512, 128) for c in (0, 384)]
    noise, width = guide_scale(tiles, (True, True))
    whole = guide_scale([haadf])
    assert width == whole[1] > guide_scale(tiles)[1]
    assert noise == pytest.approx(whole[0], rel=0.02)
    # A tile of which nothing may be looked at does not count.
    spoilt, nothing = [*tiles, 1e6 * tiles[0]], [np.zeros((128, 128), bool)] * len(tiles)
    left_out = [*nothing, np.ones((128, 128), bool)]
    assert guide_scale(spoilt, (True, True), left_out) == (noise, width)
