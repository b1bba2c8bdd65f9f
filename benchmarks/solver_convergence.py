"""Iterations and time to relative gaps of 1e-3, 1e-4 and 1e-5.

Over dose, number of elements, fidelity and regularization, on simulated core-shell particles with the
strengths that a fit chooses by itself. The gap is a bound on the distance of the objective from its
minimum, relative to the objective with the likelihood as a divergence; the power model, which is not
convex, stops at the same ratio of its stationarity. Times include set-up, from arrays to fused maps,
but no compilation; the best repeat counts.

    python benchmarks/solver_convergence.py
    python benchmarks/solver_convergence.py --side 1024 --repeats 1
"""

import argparse
import json
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

TOLERANCES = (1e-3, 1e-4, 1e-5)
REGULARIZATIONS = {
    "tv, uniform strength": {"pilot": False},
    "tv": {},
    "tv, guided": {"guided": True},
    "tgv": {"regularization": "tgv"},
    "tgv, guided": {"regularization": "tgv", "guided": True},
}
BASE = {"dose": 2.0, "elements": 3, "fidelity": "poisson", "kind": "tv", "forward": "linear"}


def main():
    parser = add_common(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--doses", type=float, nargs="+", default=[0.1, 0.3, 1, 3, 10, 30])
    parser.add_argument("--elements", type=int, nargs="+", default=[2, 3, 4, 6, 8, 12])
    parser.add_argument("--max-iterations", type=int, default=3000)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case)))
        return
    options = {
        "side": arguments.side,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "max_iterations": arguments.max_iterations,
    }
    environment = threads_environment(arguments.threads)
    rows = []
    for case in cases(arguments.doses, arguments.elements):
        found = run_case(__file__, {**case, **options}, environment=environment)
        kind = f"{case['kind']}, power" if case["forward"] == "power" else case["kind"]
        row = [f"{case['dose']:g}", case["elements"], case["fidelity"], kind]
        for result in found:
            reached = result["reached"]
            row.append(result["iterations"] if reached else f"{result['ratio']:.1e}")
            row.append(f"{result['seconds']:.3f}" + ("" if reached else " +"))
        rows.append(row)
        print(".", end="", flush=True)
    print("\n")
    columns = ["dose", "elements", "fidelity", "regularization"]
    for tolerance in TOLERANCES:
        columns += [f"{tolerance:g}: iterations", "time (s)"]
    notes = [
        machine() + f"; {arguments.side}^2 pixels, {arguments.threads} threads, "
        f"best of {arguments.repeats}.",
        "Dose: mean counts per pixel and map. +: not reached within "
        f"{arguments.max_iterations} iterations; the ratio reached stands in their place.",
    ]
    report(columns, rows, arguments.output, notes)


def cases(doses, elements):
    """Every dose for the kinds of problem that depend on it most; all else at one dose."""
    for kind in ("tv", "tgv, guided"):
        yield from ({**BASE, "dose": dose, "kind": kind} for dose in doses)
    for fidelity in ("poisson", "gaussian"):
        yield from ({**BASE, "fidelity": fidelity, "kind": kind} for kind in REGULARIZATIONS)
    yield from ({**BASE, "elements": count} for count in elements)
    yield from ({**BASE, "dose": dose, "forward": "power"} for dose in doses[::2])


def run(case):
    """Iterations, time and ratio reached for every tolerance."""
    from hyperspy_fusedmm.solver import FusionProblem, solve

    shape = (case["side"], case["side"])
    inputs = simulated(shape, case["elements"], case["dose"], case["fidelity"], case["forward"])
    inputs = regularized(inputs, **REGULARIZATIONS[case["kind"]])
    options = {"num_workers": case["threads"]}
    solve(FusionProblem(**inputs), max_iterations=2, **options)
    options["max_iterations"] = case["max_iterations"]
    results = []
    for tolerance in TOLERANCES:
        best = float("inf")
        for _ in range(case["repeats"]):
            begin = time.perf_counter()
            solution = solve(FusionProblem(**inputs), tolerance=tolerance, **options)
            best = min(best, time.perf_counter() - begin)
        power = case["forward"] == "power"
        results.append(
            {
                "iterations": solution.iterations,
                "seconds": best,
                "reached": bool(solution.converged),
                "ratio": float(solution.stationarity if power else solution.relative_gap),
            }
        )
    return results


if __name__ == "__main__":
    main()
