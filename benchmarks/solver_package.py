"""Time and objective beside the public package `multimodal-fusion` 0.6.0, on its own objective.

The package is installed from PyPI into a virtual environment of its own, which is kept. Both sides
get the DyScO3 data, the same number of threads and the settings of the tutorial [1]_: maps and HAADF
image scaled to [0, 1], HAADF = sum_i A_i x_i^1.6 with A_i = Z_i / mean Z, eps = 0.24, lambda_haadf =
1/3, lambda_chem = 0.08, lambda_tv = 0.15. The package keeps A in half precision; those very numbers
are used on both sides, and one piece of code evaluates the objective of all results. Every repeat is
a process of its own, package and this project in turn, and the best repeat counts. Times leave out
imports and, by a first short call, compilation; they include scaling, checks and matrix set-up.

    python benchmarks/solver_package.py

.. [1] Manassa et al., Elemental Microscopy (2024).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product

import numpy as np
from solver_support import (
    add_common,
    find_data,
    machine,
    report,
    run_case,
    threads_environment,
)

REQUIREMENTS = ("multimodal-fusion==0.6.0", "requests", "scikit-image")
GAMMA, EPS, LAMBDA_CHEM, LAMBDA_TV = 1.6, 0.24, 0.08, 0.15
# Iterations and inner iterations of TV: the tutorial's, the package's default number of iterations
# with the tutorial's inner ones, and both as the package has them.
PACKAGE_RUNS = ((30, 3), (50, 3), (50, 15))
# What the times are compared with: the package's default number of iterations, at its fastest.
YARDSTICK = (50, 3)
STARTS = ("measured maps", "default start")
MOST_ITERATIONS = 300


def main():
    parser = add_common(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--environment", help="folder of the package's virtual environment")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case)))
        return
    python = package_environment(arguments.environment)
    environment = threads_environment(arguments.threads, MPLBACKEND="agg")
    with tempfile.TemporaryDirectory() as folder:
        store_data(folder)
        compare(folder, python, environment, arguments)


def package_environment(folder):
    """Python of a virtual environment that has the package; made where it is not there yet."""
    import pooch

    folder = folder or pooch.os_cache("hyperspy_fusedmm") / "multimodal-fusion-0.6.0"
    binaries = "Scripts" if os.name == "nt" else "bin"
    python = os.path.join(folder, binaries, "python")
    ready = os.path.join(folder, "ready")
    if not os.path.exists(ready):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "-qq", *REQUIREMENTS]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(install)} failed:\n{done.stderr}")
        open(ready, "w").close()
    return python


def store_data(folder):
    find_data()
    from hyperspy_fusedmm.data import dysco3

    maps, haadf = dysco3()
    arrays = {element: maps.get_map(element).data for element in maps.elements}
    np.savez(os.path.join(folder, "data.npz"), HAADF=haadf.data, **arrays)


def load_data(folder):
    with np.load(os.path.join(folder, "data.npz")) as data:
        arrays = {name: data[name].astype(float) for name in data.files}
    return arrays, arrays.pop("HAADF")


def compare(folder, python, environment, arguments):
    """Package and this project in turn; the first of this project's processes is not timed."""
    package, fused = [], []
    for repeat in range(arguments.repeats):
        case = {"what": "package", "folder": folder}
        package.append(run_case(__file__, case, python=python, environment=environment))
        case = {"what": "fused", "folder": folder, "threads": arguments.threads}
        if repeat == 0:
            targets = run_case(__file__, {**case, "what": "search"}, environment=environment)
        case["counts"] = targets["counts"]
        fused.append(run_case(__file__, case, environment=environment))
    set_up = min(result["set_up"] for result in package)
    times = {
        name: min(result["set_up"] + result[name] for result in package)
        for name in map(run_name, PACKAGE_RUNS)
    }
    rows = [
        [
            f"package, {run_name(run)}", run[0], f"{1e3 * times[run_name(run)]:.0f}",
            f"{targets['objectives'][run_name(run)]:.2f}", "",
        ]
        for run in PACKAGE_RUNS
    ]  # fmt: skip
    for name in fused[-1]["seconds"]:
        seconds = min(result["seconds"][name] for result in fused)
        run = next((run for run in times if name.endswith(run)), run_name(YARDSTICK))
        rows.append([
            name, fused[-1]["iterations"][name] or "not reached", f"{1e3 * seconds:.1f}",
            f"{fused[-1]['values'][name]:.2f}", f"1 / {times[run] / seconds:.1f}",
        ])  # fmt: skip
    notes = [
        machine() + f"; {arguments.threads} threads, best of {arguments.repeats}.",
        "Package: iterations x inner iterations of TV; 30 x 3 is the tutorial, 50 x 15 its defaults. "
        f"Its times include {1e3 * set_up:.0f} ms of set-up.",
        "Ratio: to the time of the package's run named in the row, otherwise of "
        f"{run_name(YARDSTICK)}. Targets: 1 / 50 (power), 1 / 10 (linear).",
        "Power: the fewest iterations whose maps have a lower objective than the package's run. The "
        "default start is 40 iterations on a linear model, which are timed, not counted.",
        "The linear form, sum_i A_i x_i, is another problem: its objective compares with no other row.",
    ]
    report(["case", "iterations", "time (ms)", "objective", "ratio"], rows, arguments.output, notes)


def run_name(run):
    return f"{run[0]} x {run[1]}"


def run(case):
    if case["what"] == "package":
        return run_package(case["folder"])
    if case["what"] == "search":
        return search(case)
    return run_fused(case)


def run_package(folder):
    """Times of the package; its maps and its matrix are left in ``folder``."""
    from multimodal_fusion import DataFusion

    maps, haadf = load_data(folder)
    # The package scales what it is given in place.
    maps = {element: values.copy() for element, values in maps.items()}
    begin = time.perf_counter()
    fusion = DataFusion(list(maps), gamma=GAMMA)
    fusion.load_chemical_maps(maps, method=1)
    fusion.load_haadf(haadf)
    times = {"set_up": time.perf_counter() - begin}
    results = {"weights": fusion.A.data[: len(maps)].astype(float)}
    for iterations, inner in PACKAGE_RUNS:
        begin = time.perf_counter()
        fusion.run(
            nIter=iterations, lambdaEDS=LAMBDA_CHEM, lambdaTV=LAMBDA_TV, ng=inner, bkg=EPS,
            plot_images=False, plot_convergence=False,
        )  # fmt: skip
        times[run_name((iterations, inner))] = time.perf_counter() - begin
        results[run_name((iterations, inner))] = np.stack(list(fusion.get_results().values()))
    np.savez(os.path.join(folder, "package.npz"), **results)
    return times


def scaled(values):
    return (values - values.min()) / (values.max() - values.min())


def fusion_problem(maps, haadf, weights, forward):
    """The package's problem, or its linear form; counted as set-up."""
    from hyperspy_fusedmm.solver import FusionProblem

    return FusionProblem(
        maps=np.stack([scaled(values) for values in maps.values()]),
        haadf=scaled(haadf),
        # The package's A multiplies x^gamma.
        weights=weights ** (1 / GAMMA) if forward == "power" else weights,
        background=EPS,
        lambda_haadf=1 / len(maps),
        lambda_chem=LAMBDA_CHEM,
        lambda_tv=LAMBDA_TV,
        forward=forward,
        gamma=GAMMA,
    )


def load_package(folder):
    with np.load(os.path.join(folder, "package.npz")) as results:
        return {name: results[name] for name in results.files}


def search(case):
    """Objectives of the package's results, and the fewest iterations that get below each."""
    from hyperspy_fusedmm.solver import solve

    maps, haadf = load_data(case["folder"])
    results = load_package(case["folder"])
    problem = fusion_problem(maps, haadf, results.pop("weights"), "power")
    objectives = {name: problem.objective(x)["total"] for name, x in results.items()}
    counts = {}
    for start in STARTS:
        initial = problem.maps if start == "measured maps" else None
        reached = {}

        def value(iterations):
            if iterations not in reached:
                solution = solve(problem, tolerance=0, max_iterations=iterations, initial=initial)
                reached[iterations] = problem.objective(solution.maps)["total"]
            return reached[iterations]

        for name, target in objectives.items():
            counts[f"power, from {start}, below {name}"] = fewest(lambda n: value(n) < target)
    return {"objectives": objectives, "counts": counts}


def fewest(enough):
    """Smallest number of iterations that is enough, None above the most; by bisection."""
    high = 1
    while high <= MOST_ITERATIONS and not enough(high):
        high *= 2
    if high > MOST_ITERATIONS:
        return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def run_fused(case):
    """Times of this project's solver, with everything from the raw arrays to the fused maps."""
    from hyperspy_fusedmm.solver import solve

    maps, haadf = load_data(case["folder"])
    weights = load_package(case["folder"])["weights"]
    cases = [
        (name, "power", {"tolerance": 0, "max_iterations": count or MOST_ITERATIONS})
        for name, count in case["counts"].items()
    ]
    for forward, tolerance in product(("power", "linear"), (1e-3, 1e-4)):
        name = f"{forward}, to {'stationarity' if forward == 'power' else 'gap'} {tolerance:g}"
        cases.append((name, forward, {"tolerance": tolerance, "max_iterations": 3000}))
    for iterations, inner in PACKAGE_RUNS:
        name = f"published algorithm here, as {run_name((iterations, inner))}"
        options = {"method": "gradient-descent", "tv_iterations": inner}
        cases.append((name, "power", {**options, "max_iterations": iterations}))
    for forward in ("power", "linear"):
        problem = fusion_problem(maps, haadf, weights, forward)
        solve(problem, max_iterations=2, num_workers=case["threads"])
    found = {"iterations": {}, "values": {}, "seconds": {}}
    for name, forward, options in cases:
        begin = time.perf_counter()
        problem = fusion_problem(maps, haadf, weights, forward)
        initial = problem.maps if "measured maps" in name else None
        solution = solve(problem, initial=initial, num_workers=case["threads"], **options)
        found["seconds"][name] = time.perf_counter() - begin
        gradient_descent = options.get("method") == "gradient-descent"
        reached = solution.converged or case["counts"].get(name) or gradient_descent
        found["iterations"][name] = solution.iterations if reached else None
        found["values"][name] = problem.objective(solution.maps)["total"]
    return found


if __name__ == "__main__":
    main()
