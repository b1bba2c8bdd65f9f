"""Maps solved in chunks by worker processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import numpy as np
import pytest
from test_chunked import as_lazy, specimen

from hyperspy_fusedmm.solver.out_of_core import Watch, solve_chunked, steps_of

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        with distributed.Client(cluster) as client:
            yield client


def test_workers_give_the_numbers_of_threads_though_one_is_killed(cluster):
    solution = solve_chunked(as_lazy(specimen()), 0, 60, chunk=40)
    expected = solution.maps.compute(scheduler="threads")
    again = solve_chunked(as_lazy(specimen()), 0, 60, chunk=40)
    maps, parts = cluster.compute([again.maps, again.parts])
    victim = list(cluster.run(os.getpid).values())[0]
    wanted = os.path.join(again.plan.scratch.folder, "state2-0-0.npy")
    deadline = time.monotonic() + 60
    while not os.path.exists(wanted) and not maps.done() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not maps.done()
    os.kill(victim, signal.SIGKILL)
    maps, parts = cluster.gather([maps, parts])
    np.testing.assert_array_equal(maps, expected)
    assert again.certificate(parts)["gap"] == pytest.approx(
        solution.certificate(solution.parts.compute(scheduler="threads"))["gap"]
    )


def test_progress_reaches_the_client(cluster):
    solution, seen = solve_chunked(as_lazy(specimen()), 0, 20, chunk=40), []
    with Watch(solution.plan, seen.append, cluster):
        solution.maps.compute()
        deadline = time.monotonic() + 10
        while len(seen) < steps_of(solution.plan) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert seen == list(range(1, steps_of(solution.plan) + 1))


def test_interruption_releases_the_workers(cluster):
    solution = solve_chunked(as_lazy(specimen()), 0, 200, chunk=40)
    done = []

    def interrupt(count):
        done.append(count)
        if count == 5:
            os.kill(os.getpid(), signal.SIGINT)

    # Processes in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Watch(solution.plan, interrupt, cluster):
            solution.maps.compute()
    finally:
        signal.signal(signal.SIGINT, before)
    # What was under way ends, and nothing else starts.
    deadline = time.monotonic() + 10
    while any(cluster.processing().values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(cluster.processing().values())
    assert len(done) < steps_of(solution.plan) / 2


def test_scheduler_that_has_gone(tmp_path):
    import hyperspy_fusedmm as fmm
    from hyperspy_fusedmm.signals import lazy_fusion

    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="threads"):
        patch.setattr(lazy_fusion, "CHUNK", 48)
        maps = fmm.element_maps(dict(zip(("Co", "O"), specimen()["maps"]))).as_lazy()
        fused = maps.fuse(
            None, tolerance=0, max_iterations=10, lambda_tv=0.4, regularization="tv",
            scratch=tmp_path / "scratch",
        )  # fmt: skip
    command = "from distributed.cli.dask_scheduler import main; main()"
    port = str(_free_port())
    scheduler = subprocess.Popen(
        [sys.executable, "-c", command, "--port", port, "--no-dashboard", "--host", "127.0.0.1"],
        stderr=subprocess.DEVNULL,
    )
    try:
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
            distributed.Client(f"tcp://127.0.0.1:{port}", timeout=30),
        ):
            # There are no workers, so that it waits until the scheduler goes.
            threading.Timer(1.0, scheduler.kill).start()
            with pytest.raises(ConnectionError, match="scheduler .* has gone.*resume="):
                fused.save(tmp_path / "fused.zspy")
        assert [entry.name for entry in tmp_path.iterdir()] == ["scratch"]
    finally:
        scheduler.kill()


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
