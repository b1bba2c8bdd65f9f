"""What the benchmarks of the solver share: simulated inputs, processes, memory and tables."""

import csv
import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

# Elements of the simulated specimens, in threes: Co, S, O, and so on in turn.
ATOMIC_NUMBERS = (27, 16, 8, 79, 46, 29, 22, 14, 7, 56, 38, 6)
HAADF_SNR = 20.0
GAMMA = 1.7
DATA_FOLDER_VARIABLE = "HYPERSPY_FUSEDMM_DATA"


def simulated(shape, elements=3, dose=2.0, fidelity="poisson", forward="linear", seed=0):
    """Maps and HAADF image of core-shell particles, three elements to a set of particles.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    elements : int
        Number of maps, at most 12.
    dose : float
        Mean counts per pixel and map.
    fidelity : {"poisson", "gaussian"}
        Counts, or the expected counts with Gaussian noise of the same mean variance.
    forward : {"linear", "power"}
        How the maps make the HAADF image; gamma is 1.7.

    Returns
    -------
    dict
        Arguments of `FusionProblem`: maps, haadf, weights, haadf_noise, fidelity, noise, forward and gamma.
    """
    from hyperspy_fusedmm.data.core_shell import particle_atoms, place_particles

    side = min(shape)
    truth = []
    for group in range(-(-elements // 3)):
        particles = place_particles(
            shape, 1.0, 12, (0.06 * side, 0.18 * side), np.random.default_rng([seed, group])
        )
        truth.extend(particle_atoms(shape, 1.0, *particles))
    truth = np.stack(truth[:elements])
    truth *= dose / truth.mean()
    numbers = np.array(ATOMIC_NUMBERS[:elements], dtype=float)
    if forward == "linear":
        weights = numbers**GAMMA
        weights /= np.tensordot(weights, truth, axes=1).mean()
        haadf = np.tensordot(weights, truth, axes=1)
    else:
        signal = (numbers[:, None, None] * truth) ** GAMMA
        weights = numbers / signal.sum(axis=0).mean() ** (1 / GAMMA)
        haadf = ((weights[:, None, None] * truth) ** GAMMA).sum(axis=0)
    rng = np.random.default_rng([seed, 1000])
    haadf += rng.standard_normal(shape) / HAADF_SNR
    noise = np.sqrt(truth.mean(axis=(1, 2)))
    if fidelity == "poisson":
        maps = rng.poisson(truth)
    else:
        maps = truth + noise[:, None, None] * rng.standard_normal(truth.shape)
    return {
        "maps": maps.astype(np.float32),
        "haadf": haadf.astype(np.float32),
        "weights": weights,
        "haadf_noise": 1 / HAADF_SNR,
        "fidelity": fidelity,
        "noise": noise,
        "forward": forward,
        "gamma": GAMMA,
    }


def tiled(inputs, side):
    """Inputs repeated to ``side`` x ``side`` pixels; what an iteration costs stays the same."""
    rows, columns = inputs["haadf"].shape
    count = -(-side // rows)

    def repeat(value):
        if np.shape(value)[-2:] != (rows, columns):
            return value
        return np.tile(value, (1,) * (np.ndim(value) - 2) + (count, count))[..., :side, :side]

    return {
        name: np.ascontiguousarray(repeat(value)) if isinstance(value, np.ndarray) else value
        for name, value in inputs.items()
    }


def regularized(inputs, regularization="tv", guided=False, pilot=True):
    """Inputs of `simulated` with the strengths that a fit chooses by itself."""
    from hyperspy_fusedmm.solver import default_strength, haadf_guide, pilot_weights

    maps, fidelity = inputs["maps"], inputs["fidelity"]
    return {
        **inputs,
        "regularization": regularization,
        "lambda_tv": default_strength(maps, fidelity, inputs["noise"]),
        "guide": haadf_guide(inputs["haadf"]) if guided else None,
        "regularization_weights": pilot_weights(maps, fidelity) if pilot else None,
    }


def find_data():
    """Let the data sets be read from a folder beside the project where none is named."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if DATA_FOLDER_VARIABLE not in os.environ and beside.is_dir():
        os.environ[DATA_FOLDER_VARIABLE] = str(beside)


def threads_environment(threads, **more):
    """Environment of a process whose libraries use so many threads."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR")
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
    return {**os.environ, **limits, **more}


def run_case(script, case, *, python=sys.executable, environment=None):
    """Run ``script --case JSON`` in a process of its own; its last line is JSON again."""
    command = [str(python), str(script), "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{case} failed ({done.returncode}):\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine():
    """One line on what was measured on."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.split(":")[1].strip() for line in lines if line[:10] == "model name")
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} processors, Python {platform.python_version()}"


def _status(name):
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith(name):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    raise SystemExit("Memory is read from /proc, which only Linux has.")


def resident_memory():
    """Resident memory of this process, in bytes."""
    return _status("VmRSS")


def peak_memory():
    """Largest resident memory of this process since `reset_peak`, in bytes."""
    return _status("VmHWM")


def reset_peak():
    """Forget the largest resident memory so far."""
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")


def as_rst(columns, rows):
    """A table in reStructuredText, which is also good to read in a terminal."""
    cells = [columns, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    bar = "  ".join("=" * width for width in widths)

    def line(row):
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()

    return "\n".join([bar, line(columns), bar, *map(line, rows), bar]) + "\n"


def as_csv(columns, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def report(columns, rows, output=None, notes=()):
    """Print a table and notes below it; write the table to ``output`` (.rst or .csv)."""
    rows = [[str(cell) if str(cell).strip() else "-" for cell in row] for row in rows]
    print(as_rst(columns, rows))
    for note in notes:
        print(note)
    if output is None:
        return
    path = Path(output)
    text = as_csv(columns, rows) if path.suffix == ".csv" else as_rst(columns, rows)
    if path.suffix != ".csv" and notes:
        text += "\n" + "\n".join(f"| {note}" for note in notes) + "\n"
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def add_common(parser):
    """Options that every script has."""
    import argparse

    parser.add_argument("--output", help="file to write the table to, .rst or .csv")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    return parser
