"""Cost of an iteration per voxel, over image size, elements, threads and kinds of problem.

Beside it, measured in turn with it and with the same threads: what it costs to move 28 bytes per
voxel through memory, with a sweep a += s * d, b += s * d, c += s * d over arrays far larger than the
caches (four float32 read, three written; 28 bytes are what one plain sweep of the TV iteration must
move: x and two components of p read and written, counts read), and the triad a = b + s * c of STREAM
[1]_. A voxel is one pixel of one map. The best repeat counts. Every case is a process of its own.

    python benchmarks/solver_scaling.py                         # up to 2048^2
    python benchmarks/solver_scaling.py --sides 256 1024 4096 8192

.. [1] McCalpin, IEEE TCCA Newsletter, December 1995.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from solver_support import (
    add_common,
    machine,
    regularized,
    report,
    run_case,
    simulated,
    threads_environment,
    tiled,
)

# Pixels along the side of the simulated image that larger ones repeat.
SIDE = 256
SWEEP_BYTES, TRIAD_BYTES = 28, 12
SWEEP_VOXELS = 1 << 25
# Voxel iterations of a repeat, where the image is not larger: short, so that on a machine that others
# use too, one of many repeats is undisturbed.
WORK = 2e7
KINDS = {
    "tv, uniform strength": {"pilot": False},
    "tv": {},
    "tv, guided": {"guided": True},
    "tv, gaussian": {"fidelity": "gaussian"},
    "tgv": {"regularization": "tgv"},
    "tgv, guided": {"regularization": "tgv", "guided": True},
}


def main():
    parser = add_common(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--elements", type=int, nargs="+", default=[2, 3, 4, 6, 8, 12])
    parser.add_argument(
        "--kinds-at", type=int, default=1024, help="side at which kinds of problem are compared"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="measure for so long a case")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="time of the processors over the threads, not of the clock: for a machine that others "
        "use too, on which threads wait for processors",
    )
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case)))
        return
    threads = sorted({1, arguments.threads})
    cases = [{"side": side, "threads": arguments.threads} for side in arguments.sides]
    for count in threads[:-1]:
        cases += [{"side": side, "threads": count} for side in arguments.sides[::3]]
    middle = {"side": arguments.kinds_at, "threads": arguments.threads}
    cases += [{**middle, "kind": kind} for kind in KINDS if kind != "tv, uniform strength"]
    cases += [{**middle, "elements": n} for n in arguments.elements]
    rows, smallest = [], {}
    for case in cases:
        case = {"kind": "tv, uniform strength", "elements": 3, **case}
        case["repeats"], case["seconds"] = arguments.repeats, arguments.seconds
        case["processor_time"] = arguments.processor_time
        found = run_case(__file__, case, environment=threads_environment(case["threads"]))
        smallest.setdefault(case["threads"], found["iteration"])
        rows.append([
            f"{case['side']}^2", case["elements"], case["kind"], case["threads"],
            f"{found['iteration']:.2f}", f"{found['iteration'] / smallest[case['threads']]:.2f}",
            f"{found['sweep']:.2f}", f"{found['iteration'] / found['sweep']:.2f}",
            f"{SWEEP_BYTES / TRIAD_BYTES * found['triad']:.2f}",
        ])  # fmt: skip
        print(".", end="", flush=True)
    print("\n")
    columns = [
        "pixels", "elements", "problem", "threads", "iteration (ns)", "to first row",
        "28 bytes (ns)", "iteration / 28 bytes", "28 bytes at triad's rate (ns)",
    ]  # fmt: skip
    notes = [
        machine() + f"; ns per voxel and iteration, best of {arguments.repeats} or more repeats.",
        "Time of the processors over the number of threads; the machine was shared."
        if arguments.processor_time
        else "Time of the clock.",
        "The triad's rate is counted as STREAM counts it, without the read of what is written.",
        "Targets: 4096^2 x 3 at most 1.2 times 256^2 x 3 and at most 1.5 times 28 bytes (TV).",
    ]
    report(columns, rows, arguments.output, notes)


def run(case):
    """Nanoseconds per voxel of an iteration, and of the two sweeps, measured in turn."""
    engine, steps = prepare(case)
    voxels = case["elements"] * case["side"] ** 2
    # Whole visits of the tiles, at least two.
    iterations = engine.visit_iterations * max(2, int(WORK / voxels / engine.visit_iterations))
    kernels = memory_kernels()
    arrays = [np.ones(SWEEP_VOXELS, np.float32) for _ in range(4)]
    processors = case["threads"] if case.get("processor_time") else 0

    def spent(function):
        return timed(function, time.process_time) / processors if processors else timed(function)

    best = {"iteration": np.inf, "sweep": np.inf, "triad": np.inf}
    with engine, ThreadPoolExecutor(case["threads"]) as pool:
        engine.advance(steps, iterations)
        repeat, end = 0, time.perf_counter() + case["seconds"]
        while repeat < case["repeats"] or time.perf_counter() < end:
            for name, kernel in kernels.items():
                seconds = spent(lambda: in_parts(pool, case["threads"], kernel, arrays))
                best[name] = min(best[name], 1e9 * seconds / SWEEP_VOXELS)
            seconds = spent(lambda: engine.advance(steps, iterations))
            best["iteration"] = min(best["iteration"], 1e9 * seconds / voxels / iterations)
            repeat += 1
    return best


def prepare(case):
    from hyperspy_fusedmm.solver import FusionProblem
    from hyperspy_fusedmm.solver.primal_dual import Scaled
    from hyperspy_fusedmm.solver.tile_engine import TileEngine

    options = dict(KINDS[case["kind"]])
    fidelity = options.pop("fidelity", "poisson")
    small = simulated((SIDE, SIDE), case["elements"], fidelity=fidelity)
    arguments = tiled(regularized(small, **options), case["side"])
    scaled = Scaled(FusionProblem(**arguments))
    data = scaled.data()
    steps = scaled.steps(scaled.first_balance(data.strength), data.strength)
    state = scaled.initial_state(None, None)
    return TileEngine(data, arguments["regularization"], state, case["threads"]), steps


def memory_kernels():
    from numba import njit

    # Denormals and overflow cannot arise: d is 1 and s is tiny.
    scale = np.float32(1e-9)

    @njit(nogil=True, fastmath=True)
    def sweep(a, b, c, d):
        for i in range(a.shape[0]):
            a[i] += scale * d[i]
            b[i] += scale * d[i]
            c[i] += scale * d[i]

    @njit(nogil=True, fastmath=True)
    def triad(a, b, c, d):
        for i in range(a.shape[0]):
            a[i] = b[i] + scale * c[i]

    return {"sweep": sweep, "triad": triad}


def in_parts(pool, threads, kernel, arrays):
    """Run a kernel on as many parts of the arrays as there are threads."""
    parts = zip(*(np.array_split(array, threads) for array in arrays))
    for future in [pool.submit(kernel, *part) for part in parts]:
        future.result()


def timed(function, clock=time.perf_counter):
    begin = clock()
    function()
    return clock() - begin


if __name__ == "__main__":
    main()
