"""Time, memory and traffic of fusing scans in chunks, against fusing them in memory.

Maps and image of growing size lie in a Zarr store; each run is a process of its own, so that its
peak memory counts. Run it by hand::

    python benchmarks/scale.py --sizes 1024 2048 4096 --iterations 60 --workers 2
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np

WEIGHTS, OFFSET, NOISE, STRENGTH = (1.0, 0.7, 0.5, 0.3), 50.0, 1.0, 0.4
SOURCE_CHUNK = 512


def specimen(block_info=None):
    """Counts of four elements and the HAADF image of a block; the same whatever the chunks' order."""
    (_, _), (row, row_end), (column, column_end) = block_info[None]["array-location"]
    rng = np.random.default_rng([row, column])
    rows = np.arange(row, row_end)[:, None] / 37
    columns = np.arange(column, column_end)[None] / 53
    particles = 1 + np.sin(rows) * np.sin(columns)
    truth = np.stack([2 * particles, 3 - particles, 1 + np.cos(rows + columns), 0.5 * particles])
    image = OFFSET + np.tensordot(WEIGHTS, truth, 1) + NOISE * rng.normal(size=particles.shape)
    return np.concatenate([rng.poisson(truth), image[None]]).astype(np.float32)


def make(size, path):
    chunks = ((5,),) + da.core.normalize_chunks(SOURCE_CHUNK, (size, size))
    with dask.config.set(scheduler="threads", num_workers=2):
        da.map_blocks(specimen, chunks=chunks, dtype=np.float32).to_zarr(path, overwrite=True)


def in_memory(source, target, options):
    from hyperspy_fusedmm.solver import FusionProblem, pilot_weights, solve

    data = da.from_zarr(source).compute()
    problem = FusionProblem(
        data[:4], haadf=data[4], weights=WEIGHTS, haadf_offset=OFFSET, haadf_noise=NOISE,
        lambda_tv=STRENGTH, regularization_weights=pilot_weights(data[:4]),
    )  # fmt: skip
    found = solve(
        problem, tolerance=0, max_iterations=options.iterations, num_workers=options.workers
    )
    da.from_array(found.maps).to_zarr(target)
    return {"relative_gap": found.relative_gap}


def in_chunks(source, target, options):
    from hyperspy_fusedmm.solver.out_of_core import (
        LazyProblem,
        lazy_pilot_weights,
        solve_chunked,
    )

    data = da.from_zarr(source)
    problem = LazyProblem(
        data[:4], haadf=data[4], weights=WEIGHTS, haadf_offset=OFFSET, haadf_noise=NOISE,
        lambda_tv=STRENGTH, regularization_weights=lazy_pilot_weights(data[:4], chunk=options.chunk),
    )  # fmt: skip
    scratch = Path(target).parent / "scratch"
    solution = solve_chunked(
        problem, 0, options.iterations, chunk=options.chunk, scratch=scratch
    )
    before = time.perf_counter()
    _, parts = dask.compute(solution.maps.to_zarr(target, compute=False), solution.parts)
    found = solution.certificate(parts)
    return {
        "relative_gap": found["gap"] / found["total"],
        "tasks": len(dict(solution.maps.dask)),
        "sweeps": len(solution.plan.sweeps),
        "halo": solution.plan.halo,
        "solve_s": time.perf_counter() - before,
    }


def run(options):
    """One measurement, in this process and those of a cluster."""
    work = {"memory": in_memory, "chunks": in_chunks}[options.run]
    cluster = None
    if options.processes:
        from distributed import Client, LocalCluster

        cluster = LocalCluster(n_workers=options.workers, threads_per_worker=1, processes=True)
        client = Client(cluster)
    start = time.perf_counter()
    with dask.config.set(num_workers=options.workers):
        found = work(options.source, options.target, options)
    found["time_s"] = time.perf_counter() - start
    found["peak_gb"] = _peak()
    if cluster is not None:
        found["worker_peak_gb"] = list(client.run(_peak).values())
        client.close()
        cluster.close()
    io = Path("/proc/self/io").read_text().split()
    found["read_gb"], found["written_gb"] = int(io[1]) / 1e9, int(io[3]) / 1e9
    print(json.dumps(found))


def _peak():
    """Peak resident memory of this process, in GB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(options):
    print(f"{'size':>6} {'run':>8} {'time/s':>8} {'ns/voxel/iter':>14} {'peak/GB':>8} {'gap':>8}  more")
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            source = os.path.join(folder, "maps.zarr")
            make(size, source)
            results = {}
            for name in ("memory", "chunks"):
                if name == "memory" and size > options.largest_in_memory:
                    continue
                results[name] = os.path.join(folder, name + ".zarr")
                command = [
                    sys.executable, __file__, "--run", name, "--source", source,
                    "--target", results[name], "--iterations", str(options.iterations),
                    "--chunk", str(options.chunk), "--workers", str(options.workers),
                ] + (["--processes"] if options.processes and name == "chunks" else [])  # fmt: skip
                output = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True,
                    env={**os.environ, "PYTHONSAFEPATH": "1"},
                ).stdout  # fmt: skip
                found = json.loads(output.splitlines()[-1])
                voxel = 1e9 * found["time_s"] / (4 * size * size * options.iterations)
                more = {k: v for k, v in found.items() if k not in ("time_s", "peak_gb", "relative_gap")}
                print(
                    f"{size:>6} {name:>8} {found['time_s']:>8.1f} {voxel:>14.2f} "
                    f"{found['peak_gb']:>8.2f} {found['relative_gap']:>8.1e}  {more}", flush=True,
                )  # fmt: skip
            if len(results) == 2:
                one, two = (da.from_zarr(path) for path in results.values())
                difference, largest = dask.compute(abs(one - two).max(), one.max())
                print(f"{'':>6} largest difference {difference / largest:.1e} of the maximum")
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder, exist_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--processes", action="store_true", help="workers of a LocalCluster")
    parser.add_argument("--largest-in-memory", type=int, default=4096)
    parser.add_argument("--folder", help="where the stores lie; the system's folder if not given")
    for name in ("run", "source", "target"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    run(options) if options.run else measure(options)


if __name__ == "__main__":
    main()
