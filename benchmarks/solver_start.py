"""Time from a fresh process to a running fit: importing, the first solve, and the ones after it.

The first process finds no compiled code (the cache is a new, empty folder), later ones find what it
kept on disk. Importing is timed to where everything that the case needs is imported; what the first
solve takes longer than the best of three more of the same is what it takes to compile or to load
compiled code. Every line is a process of its own; of later processes the best of the repeats counts.

    python benchmarks/solver_start.py
"""

import argparse
import json
import os
import tempfile
import time

from solver_support import (
    add_common,
    machine,
    regularized,
    report,
    run_case,
    simulated,
    threads_environment,
)

SHAPE = (256, 256)
CASES = {
    "solve tv": {},
    "solve tv, guided": {"guided": True},
    "solve tgv": {"regularization": "tgv"},
    "solve tv, power": {"forward": "power"},
    "fuse": {},
}


def main():
    parser = add_common(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case)))
        return
    rows = []
    for name, options in CASES.items():
        case = {"name": name, "options": options, "threads": arguments.threads}
        with tempfile.TemporaryDirectory() as cache:
            environment = threads_environment(
                arguments.threads, NUMBA_CACHE_DIR=cache, MPLBACKEND="agg"
            )
            first = run_case(__file__, case, environment=environment)
            kept = sum(
                os.path.getsize(os.path.join(folder, file))
                for folder, _, files in os.walk(cache)
                for file in files
            )
            later = [
                run_case(__file__, case, environment=environment) for _ in range(arguments.repeats)
            ]
        rows.append(row(name, "first", [first], ""))
        rows.append(row(name, "later", later, f"{kept / 1e6:.1f}"))
        print(".", end="", flush=True)
    print("\n")
    columns = [
        "case", "process", "import (s)", "first solve (s)", "next solves (s)",
        "compile or load (s)", "kept on disk (MB)",
    ]  # fmt: skip
    notes = [
        machine()
        + f"; {SHAPE[0]}^2 pixels, 3 elements, 20 iterations, {arguments.threads} threads.",
        "Target: a later process starts fitting within 0.5 s of importing.",
    ]
    report(columns, rows, arguments.output, notes)


def row(name, process, found, kept):
    best = {key: min(result[key] for result in found) for key in found[0]}
    return [
        name, process, f"{best['import']:.2f}", f"{best['first']:.3f}", f"{best['next']:.3f}",
        f"{best['overhead']:.3f}", kept,
    ]  # fmt: skip


def run(case):
    """Seconds to import, of the first solve, and of the best of three more."""
    begin = time.perf_counter()
    fusion = fuse_signals() if case["name"] == "fuse" else fuse_arrays()
    imported = time.perf_counter() - begin
    options = dict(case["options"])
    inputs = simulated(SHAPE, forward=options.pop("forward", "linear"))
    if case["name"] != "fuse":
        inputs = regularized(inputs, **options)
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        fusion(inputs, case["threads"])
        seconds.append(time.perf_counter() - begin)
    following = min(seconds[1:])
    return {
        "import": imported,
        "first": seconds[0],
        "next": following,
        "overhead": seconds[0] - following,
    }


def fuse_arrays():
    from hyperspy_fusedmm.solver import FusionProblem, solve

    def fusion(inputs, threads):
        problem = FusionProblem(**inputs)
        solve(problem, tolerance=1e-12, max_iterations=20, num_workers=threads)

    return fusion


def fuse_signals():
    import warnings

    # Both packages import most of themselves at the first use, and so does this one.
    import exspy.material  # noqa: F401
    import hyperspy.api as hs

    import hyperspy_fusedmm as fmm

    make_maps, make_image = fmm.element_maps, hs.signals.Signal2D
    fmm.FusedMultiModal

    def fusion(inputs, threads):
        maps = make_maps(inputs["maps"], elements=["Co", "S", "O"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            maps.fuse(
                make_image(inputs["haadf"]),
                # Without the choice of weights, which is many fits.
                regularization="tv",
                guided=False,
                lambda_haadf=1.0,
                lambda_tv=0.4,
                tolerance=1e-12,
                max_iterations=20,
                num_workers=threads,
                show_progressbar=False,
            )

    return fusion


if __name__ == "__main__":
    main()
