"""Peak memory of a fusion above its inputs, in units of the maps as float32.

Every case is a process of its own, which loads its inputs from files, solves a small problem so that
everything is imported and compiled, and only then counts. The resident memory is read from Linux'
/proc. ``solve`` is the solver on plain arrays, with the strengths per pixel among the inputs;
``fuse`` is all that ``maps.fuse(haadf)`` does. With ``--stages``, the peak of every stage instead.

    python benchmarks/solver_memory.py
    python benchmarks/solver_memory.py --stages
"""

import argparse
import functools
import json
import os
import tempfile
import time

import numpy as np
from solver_support import (
    add_common,
    machine,
    peak_memory,
    regularized,
    report,
    reset_peak,
    resident_memory,
    run_case,
    simulated,
    threads_environment,
    tiled,
)

# Pixels along the side of the simulated image that larger ones repeat.
SIDE = 256
ITERATIONS = 40
CASES = [
    ("solve", "tv, uniform strength", {"pilot": False}, "float32"),
    ("solve", "tv", {}, "float32"),
    ("solve", "tv", {}, "uint16"),
    ("solve", "tv, guided", {"guided": True}, "float32"),
    ("solve", "tv, gaussian", {"fidelity": "gaussian"}, "float32"),
    ("solve", "tv, power", {"forward": "power"}, "float32"),
    ("solve", "tgv", {"regularization": "tgv"}, "float32"),
    ("solve", "tgv, guided", {"regularization": "tgv", "guided": True}, "float32"),
    ("fuse", "tv", {}, "float32"),
    ("fuse", "tgv", {"regularization": "tgv"}, "float32"),
]
# Where the memory of each stage is asked for: module of the package, and the name in it.
STAGES = (
    ("models.haadf_scale", "calibrate_haadf"),
    ("models.fused_multi_modal", "pilot_weights"),
    ("models.fused_multi_modal", "default_strength"),
    ("models.fused_multi_modal", "haadf_guide"),
    ("solver.problem", "FusionProblem.__post_init__"),
    ("solver.primal_dual", "Scaled.__init__"),
    ("solver.primal_dual", "Scaled.data"),
    ("solver.primal_dual", "typical_strength"),
    ("solver.primal_dual", "Scaled.initial_state"),
    ("solver.primal_dual", "project_dual"),
    ("solver.tile_engine", "TileEngine.__init__"),
    ("solver.tile_engine", "TileEngine.advance"),
    ("solver.primal_dual", "certify"),
    ("solver.primal_dual", "Scaled.history"),
    ("solver.primal_dual", "Scaled.solution"),
    ("solver.problem", "FusionProblem.objective"),
)


def main():
    parser = add_common(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--elements", type=int, default=4)
    parser.add_argument("--stages", action="store_true", help="the peak of every stage")
    parser.add_argument(
        "--only", default="", help="cases whose name holds this, such as 'fuse tgv'"
    )
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case)))
        return
    environment = threads_environment(arguments.threads, MPLBACKEND="agg")
    rows, unit = [], arguments.elements * arguments.side**2 * 4
    with tempfile.TemporaryDirectory() as folder:
        for entrance, kind, options, dtype in CASES:
            name = f"{entrance} {kind}"
            if arguments.only not in name:
                continue
            store(folder, arguments, entrance, options, dtype)
            case = {"folder": folder, "entrance": entrance, "threads": arguments.threads}
            case |= {"regularization": options.get("regularization", "tv")}
            found = run_case(
                __file__, {**case, "stages": arguments.stages}, environment=environment
            )
            rows += table_rows(name, dtype, found, unit, arguments.stages)
            print(".", end="", flush=True)
    print("\n")
    columns = ["case", "type of maps", "peak (MB)", "peak / maps", "kept / maps"]
    if arguments.stages:
        columns = ["case", "stage", "before / maps", "peak / maps", "after / maps", "time (s)"]
    notes = [
        machine() + f"; {arguments.side}^2 pixels, {arguments.elements} elements, maps of "
        f"{unit / 1e6:.0f} MB as float32, {arguments.threads} threads, {ITERATIONS} iterations.",
        "Above the inputs. Kept: what is in memory at the end, the result among it. "
        "Targets: at most 8 (tv), 14 (tgv).",
    ]
    report(columns, rows, arguments.output, notes)


def table_rows(name, dtype, found, unit, stages):
    if not stages:
        peak, kept = found["peak"], found["kept"]
        return [[name, dtype, f"{peak / 1e6:.0f}", f"{peak / unit:.2f}", f"{kept / unit:.2f}"]]
    return [
        [name, stage, *(f"{value / unit:.2f}" for value in memory), f"{seconds:.3f}"]
        for stage, *memory, seconds in found["stages"]
    ]


def store(folder, arguments, entrance, options, dtype):
    """Write the arrays of a case to files of their own, its numbers to another."""
    options = dict(options)
    made = {name: options.pop(name) for name in ("fidelity", "forward") if name in options}
    inputs = simulated((SIDE, SIDE), arguments.elements, **made)
    inputs = tiled(regularized(inputs, **options), arguments.side)
    inputs["maps"] = inputs["maps"].astype(dtype)
    if entrance == "fuse":
        inputs = {name: inputs[name] for name in ("maps", "haadf")}
    for name in os.listdir(folder):
        os.remove(os.path.join(folder, name))
    for name, value in inputs.items():
        if value is not None:
            np.save(os.path.join(folder, name), value)


def load(folder):
    inputs = {}
    for file in os.listdir(folder):
        value = np.load(os.path.join(folder, file))
        inputs[file[: -len(".npy")]] = value if value.ndim else value.item()
    return inputs


def run(case):
    """Memory of one case above that before it, in bytes."""
    fusion = {"solve": fuse_arrays, "fuse": fuse_signals}[case["entrance"]](case)
    fusion(cut(load(case["folder"]), SIDE // 2))
    inputs = load(case["folder"])
    stages = follow_stages() if case["stages"] else []
    before = resident_memory()
    reset_peak()
    result = fusion(inputs)
    found = {"peak": peak_memory() - before, "kept": resident_memory() - before}
    del result
    found["stages"] = [
        (name, *(value - before for value in memory), seconds)
        for name, *memory, seconds in merged(stages)
    ]
    return found


def cut(inputs, side):
    """The same problem on fewer pixels."""
    shape = inputs["haadf"].shape
    return {
        name: value[..., :side, :side].copy() if np.shape(value)[-2:] == shape else value
        for name, value in inputs.items()
    }


def fuse_arrays(case):
    from hyperspy_fusedmm.solver import FusionProblem, solve

    def fusion(inputs):
        return solve(
            FusionProblem(**inputs),
            tolerance=1e-12,
            max_iterations=ITERATIONS,
            num_workers=case["threads"],
        )

    return fusion


def fuse_signals(case):
    import warnings

    import hyperspy.api as hs

    import hyperspy_fusedmm as fmm

    names = ("Co", "S", "O", "Au", "Pd", "Cu", "Ti", "Si", "N", "Ba", "Sr", "C")

    def fusion(inputs):
        maps = fmm.element_maps(inputs["maps"], elements=names[: len(inputs["maps"])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return maps.fuse(
                hs.signals.Signal2D(inputs["haadf"]),
                regularization=case["regularization"],
                tolerance=1e-12,
                max_iterations=ITERATIONS,
                num_workers=case["threads"],
                show_progressbar=False,
            )

    return fusion


def follow_stages():
    """Make the functions of `STAGES` note memory before, peak, memory after, and time."""
    import importlib

    found = []
    for module, path in STAGES:
        try:
            holder = importlib.import_module(f"hyperspy_fusedmm.{module}")
            *outer, name = path.split(".")
            holder = functools.reduce(getattr, outer, holder)
            function = getattr(holder, name)
        except (ImportError, AttributeError):
            print(f"There is no {module}.{path} any more: it is left out.")
            continue
        setattr(holder, name, noted(function, path, found))
    return found


def noted(function, name, found):
    @functools.wraps(function)
    def call(*arguments, **options):
        before, begin = resident_memory(), time.perf_counter()
        reset_peak()
        result = function(*arguments, **options)
        seconds = time.perf_counter() - begin
        found.append((name, before, peak_memory(), resident_memory(), seconds))
        return result

    return call


def merged(stages):
    """One entry for all calls of a stage, in the order of their first ones."""
    entries = {}
    for name, before, peak, after, seconds in stages:
        if name in entries:
            first = entries[name]
            before, peak = max(first[1], before), max(first[2], peak)
            seconds += first[4]
        entries[name] = (name, before, peak, after, seconds)
    return list(entries.values())


if __name__ == "__main__":
    main()
