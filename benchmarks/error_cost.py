"""What standard errors cost: the bootstrap in fits, the Hessian bound in iterations.

A fit is one with the settings that were chosen from the data, from the measured maps to the default
tolerance. Times of the clock, the least of some repeats; core-shell particles, three elements.

    python benchmarks/error_cost.py
    python benchmarks/error_cost.py --sides 256 1024 --doses 0.3 3 30
"""

import argparse
import warnings
from dataclasses import replace
from itertools import product
from timeit import repeat

import solver_support as support

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver import hessian_variance, solve

CHOSEN = ("lambda_haadf", "lambda_tv", "regularization", "guided")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[256])
    parser.add_argument("--doses", type=float, nargs="+", default=[0.3, 3.0, 30.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(support.machine())
    measured(64, 3.0, 0, 1)  # compiles
    head = ["side", "dose", "chosen", "iterations", "fit (s)", "bootstrap (s)", "in fits",
            "iteration (ms)", "Hessian bound (ms)", "in iterations", "as a signal (ms)"]  # fmt: skip
    rows = []
    for side, dose in product(arguments.sides, arguments.doses):
        rows.append(measured(side, dose, arguments.seed, arguments.repeats))
        print("  ".join(rows[-1]), flush=True)
    print(support.as_rst(head, rows))


def measured(side, dose, seed, repeats):
    """One line of the table."""
    specimen = fmm.data.core_shell_particles(shape=(side, side), dose=dose, seed=seed)
    chosen = specimen.maps.create_model(specimen.haadf)
    chosen.fit(show_progressbar=False)
    settings = {name: getattr(chosen, name) for name in CHOSEN}

    def fitted():
        model = specimen.maps.create_model(specimen.haadf)
        model.fit(show_progressbar=False, initial="measured", **settings)
        return model

    fit = least_time(fitted, repeats)
    model = fitted()
    # Refits are kept for the same seed.
    bootstrap = min(
        least_time(lambda: model.standard_error(seed=k, show_progressbar=False), 1)
        for k in range(repeats)
    )
    problem = model._solved_problem()
    maps = model.fused.data
    short, long = (
        least_time(lambda: solve(problem, tolerance=0.0, max_iterations=n), repeats)
        for n in (100, 500)
    )
    iteration = (long - short) / 400
    plain = replace(problem, guide=None)
    bound = least_time(lambda: hessian_variance(plain, maps), 20 * repeats)
    signal = least_time(lambda: model.standard_error("hessian"), 20 * repeats)
    form = f"{model.regularization}{', guided' if model.guided else ''}"
    return [
        str(side), f"{dose:g}", form, str(model.iterations), f"{fit:.2f}", f"{bootstrap:.2f}",
        f"{bootstrap / fit:.1f}", f"{1e3 * iteration:.2f}", f"{1e3 * bound:.2f}",
        f"{bound / iteration:.2f}", f"{1e3 * signal:.1f}",
    ]  # fmt: skip


def least_time(function, repeats):
    """Seconds of the fastest of some calls."""
    return min(repeat(function, number=1, repeat=repeats))


if __name__ == "__main__":
    main()
