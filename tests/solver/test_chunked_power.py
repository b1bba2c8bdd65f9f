"""The power model solved in chunks along a schedule, against the whole image in memory."""

import dask
import dask.array as da
import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, haadf_guide, solve
from hyperspy_fusedmm.solver.out_of_core import LazyProblem, solve_chunked
from hyperspy_fusedmm.solver.power import AFTER

SHAPE = (70, 83)


def specimen(**options):
    rng = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    truth = np.stack([3 + 2 * np.sin(columns / 17) * np.cos(rows / 23), 1.5 + np.sin(rows / 11)])
    truth[1] *= np.hypot(rows - 30, columns - 45) < 27
    weights, gamma = np.array([1.0, 0.5]), 1.6
    haadf = 3 + ((weights[:, None, None] * truth) ** gamma).sum(axis=0) + 0.3 * rng.normal(size=SHAPE)
    if options.pop("guided", False):
        options["guide"] = haadf_guide(haadf)
    return {
        "maps": rng.poisson(truth), "haadf": haadf, "weights": weights, "haadf_offset": 3.0,
        "haadf_noise": 0.3, "forward": "power", "gamma": gamma, "lambda_tv": [0.4, 0.3],
        "background": 0.1, **options,
    }  # fmt: skip


def in_chunks(given, schedule, chunk, **options):
    lazy = {
        name: da.from_array(value, chunks=(-1,) * (value.ndim - 2) + (50, 30))
        if np.ndim(value) > 1
        else value
        for name, value in given.items()
    }
    solution = solve_chunked(LazyProblem(**lazy), chunk=chunk, schedule=schedule, **options)
    maps, parts = dask.compute(solution.maps, solution.parts, num_workers=1)
    return solution.plan, maps, solution.certificate(parts)


@pytest.mark.parametrize("chunk", [30, 64, 200])
@pytest.mark.parametrize(
    "options", [{}, {"regularization": "tgv", "guided": True}], ids=["tv", "guided tgv"]
)
@pytest.mark.parametrize("from_measured", [False, True])
def test_numbers_of_the_whole_image(chunk, options, from_measured):
    given = specimen(**options)
    eager = solve(
        FusionProblem(**given), 0, 30, initial="measured" if from_measured else None, num_workers=1
    )
    plan, maps, found = in_chunks(given, eager.schedule, chunk, from_measured=from_measured)
    assert len(plan.sweeps) > 1 or chunk == 200
    np.testing.assert_allclose(maps, eager.maps, rtol=0, atol=1e-5 * eager.maps.max())
    assert found["iterations"] == eager.iterations == 30
    assert found["haadf"] == pytest.approx(eager.history["haadf"][-1], rel=1e-4)
    assert found["regularization"] == pytest.approx(eager.history["tv"][-1], rel=1e-4)
    assert eager.stationarity / 2 < found["gap"] / found["total"] < 2 * eager.stationarity


def test_steps_that_were_taken_back():
    given = specimen(regularization="tgv")
    steps = [(10, 0.5, "keep"), (5, 0.5, "go on"), (10, 2.0, "take back"), (6, 2.0, "keep")]
    schedule = [(n, near, AFTER.index(after)) for n, near, after in steps]
    results = [in_chunks(given, schedule, chunk)[1] for chunk in (32, 200)]
    np.testing.assert_allclose(*results, rtol=0, atol=1e-5 * results[1].max())
    # The ten iterations that were taken back left the maps as they had been.
    schedule[-1] = (6, 2.0, AFTER.index("go on"))
    once = in_chunks(given, schedule[:1], 200)[1]
    np.testing.assert_array_equal(in_chunks(given, schedule, 200)[1], once)


def test_pixelwise_values_and_gaussian_maps():
    rng = np.random.default_rng(1)
    given = specimen(
        fidelity=("poisson", "gaussian"), noise=rng.uniform(0.5, 1.5, (2, *SHAPE)),
        background=np.stack([rng.uniform(0.1, 0.5, SHAPE), np.zeros(SHAPE)]),
        haadf_noise=np.where(rng.random(SHAPE) < 0.02, np.inf, 0.3),
        regularization_weights=rng.uniform(0.5, 2, (2, *SHAPE)),
    )  # fmt: skip
    eager = solve(FusionProblem(**given), 0, 45, num_workers=1)
    _, maps, found = in_chunks(given, eager.schedule, 40)
    np.testing.assert_allclose(maps, eager.maps, rtol=0, atol=1e-5 * eager.maps.max())
    assert found["haadf"] == pytest.approx(eager.history["haadf"][-1], rel=1e-4)


def test_interrupted_run_of_another_schedule_is_refused(tmp_path):
    given = specimen()
    eager = solve(FusionProblem(**given), 0, 30, num_workers=1)
    _, expected, _ = in_chunks(given, eager.schedule, 32, scratch=tmp_path)
    _, resumed, _ = in_chunks(given, eager.schedule, 32, resume=tmp_path)
    np.testing.assert_array_equal(resumed, expected)
    with pytest.raises(OSError, match="iterations"):
        in_chunks(given, eager.schedule[:-1], 32, resume=tmp_path)
