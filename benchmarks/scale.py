"""Time, memory and traffic of fusing scans chunk by chunk, against fusing them in memory.

Four maps of counts (uint8) and an image (uint16) of growing size lie in a Zarr store, made chunk by
chunk. Each run is a process of its own that reads them, fuses them with the same options and saves
a .zspy, so that its peak memory counts. Run it by hand::

    python benchmarks/scale.py --sizes 1024 2048 4096 --iterations 60 --workers 2
    python benchmarks/scale.py --sizes 2048 --compare-workers
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np

ELEMENTS, WEIGHTS, OFFSET, NOISE = ["Fe", "Co", "S", "O"], (10.0, 7.0, 5.0, 3.0), 50.0, 5.0
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
    return np.concatenate([rng.poisson(truth), np.rint(image)[None]]).astype(np.uint16)


def make(size, folder):
    chunks = ((5,),) + da.core.normalize_chunks(SOURCE_CHUNK, (size, size))
    both = da.map_blocks(specimen, chunks=chunks, dtype=np.uint16)
    with dask.config.set(scheduler="threads", num_workers=2):
        dask.compute(
            both[:4].astype(np.uint8).to_zarr(f"{folder}/maps.zarr", compute=False),
            both[4].to_zarr(f"{folder}/haadf.zarr", compute=False),
        )


def signals(folder, lazy):
    import hyperspy.api as hs

    import hyperspy_fusedmm as fmm

    maps, image = (da.from_zarr(f"{folder}/{name}.zarr") for name in ("maps", "haadf"))
    if not lazy:
        maps, image = dask.compute(maps, image)
    stack = fmm.element_maps({name: maps[i] for i, name in enumerate(ELEMENTS)})
    haadf = hs.signals.Signal2D(image)
    return stack, haadf.as_lazy() if lazy else haadf


def run(options):
    """One measurement, in this process and those of a cluster."""
    cluster = client = None
    if options.processes:
        from distributed import Client, LocalCluster

        cluster = LocalCluster(
            n_workers=options.workers, threads_per_worker=1, processes=True, dashboard_address=None
        )
        client = Client(cluster)
    target = Path(options.target)
    scratch, chunked = target.parent / "scratch", options.run == "chunks"
    given = {"tolerance": 0.0, "max_iterations": options.iterations}
    if not options.automatic:
        given |= {
            "weights": WEIGHTS, "haadf_offset": OFFSET, "haadf_noise": NOISE, "lambda_haadf": 1.0,
            "lambda_tv": 0.4, "regularization": options.regularization, "guided": options.guided,
        }  # fmt: skip
    if chunked:
        given["scratch"] = scratch
    else:
        given |= {"num_workers": options.workers, "show_progressbar": False}
    # Importing takes seconds, whatever the size, and what is not used is not imported.
    import hyperspy_fusedmm as fmm

    fmm.LazyFusedMultiModal
    traffic, cpu = _traffic(), time.process_time()
    watch = _Watch(scratch)
    start = time.perf_counter()
    with dask.config.set(num_workers=options.workers):
        maps, haadf = signals(target.parent, chunked)
        fused = maps.fuse(haadf, **given)
        chosen = time.perf_counter()
        found = {"tasks": len(dict(fused.data.dask))} if chunked else {}
        fused.save(target)
    found["time_s"] = time.perf_counter() - start
    found["cpu_s"] = time.process_time() - cpu
    found["fuse_s"], found["save_s"] = chosen - start, time.perf_counter() - chosen
    found["largest_scratch_gb"] = watch.stop()
    found["relative_gap"] = fused.metadata.FusedMultiModal.relative_gap
    peaks, moved = [_peak()], [np.subtract(_traffic(), traffic)]
    if client is not None:
        peaks += client.run(_peak).values()
        moved += [np.array(found) for found in client.run(_traffic).values()]
        client.close()
        cluster.close()
    found["peaks_gb"] = peaks
    found["read_gb"], found["written_gb"] = np.sum(moved, axis=0).tolist()
    print(json.dumps(found))


class _Watch:
    """The most bytes that a folder held, looked at from time to time."""

    def __init__(self, folder):
        self.folder, self.most, self.done = folder, 0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self):
        while not self.done.wait(2.0):
            try:
                found = sum(entry.stat().st_size for entry in os.scandir(self.folder))
            except OSError:
                continue
            self.most = max(self.most, found)

    def stop(self):
        self.done.set()
        return self.most / 1e9


def _peak():
    """Peak resident memory of this process, in GB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _traffic():
    """What this process has read and written, in GB."""
    io = Path("/proc/self/io").read_text().split()
    return int(io[1]) / 1e9, int(io[3]) / 1e9


def measured(name, folder, options, workers, processes=False):
    """What a run in a process of its own found; its result stays in the folder."""
    target = os.path.join(folder, f"{name}.zspy")
    command = [
        sys.executable, "-W", "ignore", __file__, "--run", name, "--target", target,
        "--iterations", str(options.iterations), "--workers", str(workers),
        "--regularization", options.regularization,
        *(["--guided"] if options.guided else []),
        *(["--automatic"] if options.automatic else []),
        *(["--processes"] if processes else []),
    ]  # fmt: skip
    output = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
    ).stdout  # fmt: skip
    _remove(os.path.join(folder, "scratch"))
    return target, json.loads(output.splitlines()[-1])


def _remove(folder):
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def measure(options):
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            make(size, folder)
            results = {}
            for name in ("memory", "chunks"):
                if name == "memory" and size > options.largest_in_memory:
                    continue
                results[name], found = measured(
                    name, folder, options, options.workers, options.processes and name == "chunks"
                )
                _tell(size, name, found, options.iterations)
            if len(results) == 2:
                one, two = (da.from_zarr(f"{path}/Experiments/{_only(path)}/data") for path in
                            results.values())  # fmt: skip
                difference, largest = dask.compute(abs(one - two).max(), one.max())
                print(f"{'':>6} largest difference {difference / largest:.1e} of the maximum")


def _only(path):
    return next(e.name for e in os.scandir(f"{path}/Experiments") if e.is_dir())


def _tell(size, name, found, iterations):
    voxels = 4 * size * size
    peak = sum(found.pop("peaks_gb"))
    time_s, cpu_s = found.pop("time_s"), found.pop("cpu_s")
    more = "  ".join(f"{key} {value:.4g}" for key, value in found.items())
    print(
        f"{size:>6} {name:>10}  {time_s:.1f} s  {1e9 * time_s / voxels:.0f} ns per voxel  "
        f"{1e9 * time_s / (voxels * iterations):.2f} ns per voxel and iteration "
        f"({1e9 * cpu_s / (voxels * iterations):.2f} of one processor)  peak {peak:.2f} GB  {more}",
        flush=True,
    )


def compare_workers(options):
    """One against two workers, turn by turn, least time of each; threads, then processes."""
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            make(size, folder)
            for kind in ("threads", "processes"):
                best = {1: np.inf, 2: np.inf}
                for _ in range(options.repeats):
                    for workers in best:
                        target, found = measured(
                            "chunks", folder, options, workers, kind == "processes"
                        )
                        _remove(target)
                        best[workers] = min(best[workers], found["save_s"])
                ratio = best[1] / best[2]
                print(
                    f"{size:>6} {kind:>10}  {best[1]:.1f} s with one, {best[2]:.1f} s with two: "
                    f"{ratio:.2f} times as fast", flush=True,
                )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--regularization", choices=["tv", "tgv"], default="tv")
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--automatic", action="store_true", help="choose everything from the data")
    parser.add_argument("--processes", action="store_true", help="workers of a LocalCluster")
    parser.add_argument("--compare-workers", action="store_true", help="one against two")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--largest-in-memory", type=int, default=4096)
    parser.add_argument("--folder", help="where the stores lie; the system's folder if not given")
    for name in ("run", "target"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options)
    elif options.compare_workers:
        compare_workers(options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
