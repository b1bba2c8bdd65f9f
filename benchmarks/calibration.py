"""Is the HAADF calibrated right, and do the standard errors cover? Simulated specimens over dose.

Every specimen is calibrated many times, with new counts, new noise and a new geometry, once with the
sensitivities known ("known": a factor common to all weights and the offset are found) and once with nothing given
("auto": every weight is, the atomic numbers deciding what the maps do not). The gain is the slope of the signal
that the weights make of the true maps over the true signal, 1 if right. The film has no vacuum and one
composition: its gain and offset can hardly be told apart. Of 95 % intervals (1.96 standard errors) 95 %
should hold the truth, of 68 % intervals (1 standard error) 68 %; with 40 seeds that is measured to 3 and 7 %.

With ``--misfit`` the image is multiplied by a random field of that standard deviation, smooth over 4 pixels, as
channelling may; the noise that is found should hold it.

    python benchmarks/calibration.py                            # 40 seeds, 128 x 128
    python benchmarks/calibration.py --size 256 --seeds 100 --specimens lattice
    python benchmarks/calibration.py --misfit 0.03
    python benchmarks/calibration.py --time 512 4               # how long it takes, how much memory
"""

import argparse
import time
import tracemalloc
import warnings

import numpy as np
from scipy.ndimage import gaussian_filter

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver import calibrate_haadf

SPECIMENS = {
    "particles": fmm.data.core_shell_particles,
    "lattice": fmm.data.perovskite_lattice,
    "film": fmm.data.gallium_oxide_film,
}
DOSES = (0.1, 0.5, 2.0)


def recorded(specimen, misfit, seed):
    """The HAADF image, with the misfit put on its signal."""
    image = specimen.haadf.data.astype(float)
    if not misfit:
        return image
    field = gaussian_filter(np.random.default_rng([7, seed]).standard_normal(image.shape), 4.0)
    return image + misfit * field / field.std() * (image - specimen.haadf_offset)


def study(make, dose, chosen, known):
    """Errors of gain, offset and weights, in shares of their true values and in standard errors."""
    found = {"gain": [], "offset": [], "noise": []}
    for seed in range(chosen.seeds):
        specimen = make(shape=(chosen.size, chosen.size), dose=dose, seed=seed)
        options = {"sensitivities": specimen.sensitivities} if known else {}
        model = specimen.maps.create_model(recorded(specimen, chosen.misfit, seed), **options)
        truth = specimen.truth.data.reshape(len(specimen.weights), -1).astype(float)
        signal = specimen.weights @ truth
        signal -= signal.mean()
        # The gain is linear in the weights: these are its coefficients.
        slope = truth @ signal / (signal @ signal)
        covariance = model.weights_covariance[:-1, :-1]
        gain = slope @ model.weights - 1
        found["gain"].append((gain, gain / np.sqrt(slope @ covariance @ slope)))
        offset = model.haadf_offset - specimen.haadf_offset
        found["offset"].append((offset / specimen.haadf_offset, offset / model.haadf_offset_error))
        found["noise"].append((model.haadf_noise / specimen.haadf_noise, 0.0))
        if not known:
            for element, weight, truth_of, error in zip(
                specimen.elements, model.weights, specimen.weights, model.weights_error
            ):
                entry = (weight / truth_of - 1, (weight - truth_of) / error)
                found.setdefault(f"w {element}", []).append(entry)
    return {name: np.array(values) for name, values in found.items()}


def line(values):
    error, score = values.T
    inside = [100 * np.mean(np.abs(score) < limit) for limit in (1.0, 1.96)]
    return (
        f"{100 * error.mean():7.2f} {100 * error.std() / np.sqrt(len(error)):6.2f} "
        f"{100 * error.std():7.2f} {inside[0]:6.0f} {inside[1]:4.0f}"
    )


def time_and_memory(size, elements):
    """How long a calibration takes and how much memory beside its input, in copies of the maps."""
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.standard_normal((elements, size, size)), (0, 5, 5))
    truth = np.maximum(1 + truth / truth.std(), 0)
    maps = rng.poisson(truth).astype(np.float32)
    haadf = (5 + truth.sum(axis=0) + 0.1 * rng.standard_normal((size, size))).astype(np.float32)
    calibrate_haadf(maps[:, :64, :64], haadf[:64, :64], np.ones(elements))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        calibrate_haadf(maps, haadf, np.ones(elements))
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    calibrate_haadf(maps, haadf, np.ones(elements))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"{size} x {size} x {elements}: {min(seconds):.2f} s, {peak / 1e6:.0f} MB, "
        f"{peak / maps.nbytes:.2f} copies of the float32 maps"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specimens", nargs="+", choices=SPECIMENS, default=list(SPECIMENS))
    parser.add_argument("--doses", nargs="+", type=float, default=DOSES)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--misfit", type=float, default=0.0)
    parser.add_argument("--weights", action="store_true", help="print single weights as well")
    parser.add_argument("--time", nargs=2, type=int, metavar=("SIZE", "ELEMENTS"))
    chosen = parser.parse_args()
    if chosen.time:
        time_and_memory(*chosen.time)
        return
    warnings.simplefilter("ignore")
    print("Errors in % of the true value; the bias with its standard error; coverage in %.")
    print("specimen   dose given  what   |    bias    +-  scatter    68   95 | noise / detector")
    for name in chosen.specimens:
        for dose in chosen.doses:
            for known in (True, False):
                found = study(SPECIMENS[name], dose, chosen, known)
                noise = np.median(found.pop("noise")[:, 0])
                for what, values in found.items():
                    if what.startswith("w ") and not chosen.weights:
                        continue
                    print(
                        f"{name:10s} {dose:4g} {'known' if known else 'auto':6s} {what:6s} | "
                        f"{line(values)} | {noise:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
