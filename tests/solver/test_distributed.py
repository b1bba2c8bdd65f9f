"""Maps solved in chunks by worker processes."""

import os
import signal
import time

import numpy as np
import pytest
from test_chunked import as_lazy, specimen

from hyperspy_fusedmm.solver.out_of_core import solve_chunked

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
