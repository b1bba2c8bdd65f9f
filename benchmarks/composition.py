"""Is the composition right, and are its error bars? Simulated specimens, whose truth is known.

Two tables. The first tells how well fused maps keep the stoichiometry: of one element, in atomic percent,
the truth, that of all counts of the specimen together (no map needed for it), that of all fused maps
together, the peak of the histogram of the pixels with its spread, and the share of the pixels that are
within 15 % of the truth (relative), raw and fused. The second tells how many of the 95 % and 68 % intervals
hold the truth: of pixels of the specimen, those that ``confidence`` gives, and 1.96 and 1 standard errors; and of
square regions of 16 x 16 pixels of which it fills more than half. Specimens are fused with their sensitivities given
and all else left to the defaults, and with the seeds below, which no constant was chosen on.

    python benchmarks/composition.py                      # both tables, 128 x 128, seeds 201 and 202
    python benchmarks/composition.py --doses 1 --size 64
"""

import argparse
import warnings

import numpy as np
from error_coverage import OBJECT, coverage, drawing_from, regions

import hyperspy_fusedmm as fmm

SPECIMENS = {
    "particles": (fmm.data.core_shell_particles, {}, "Co"),
    "film": (fmm.data.gallium_oxide_film, {}, "Ga"),
    "film, power": (fmm.data.gallium_oxide_film, {"forward": "power"}, "Ga"),
    "lattice": (fmm.data.perovskite_lattice, {}, "O"),
}
STOICHIOMETRY_DOSES = (0.1, 0.3, 1.0, 3.0, 10.0)
COVERAGE_DOSES = (1.0, 10.0)
# A composition that is right to so many atomic percent, by rounding, needs no error.
ROUNDING = 1e-3
CONFIDENCES = (0.95, 0.6827)


def fitted(specimen):
    """Model of a specimen, with the forward model that it was simulated with."""
    model = specimen.maps.create_model(
        specimen.haadf, forward=specimen.forward, sensitivities=specimen.sensitivities
    )
    model.fit(show_progressbar=False)
    return model


def fractions(counts, sensitivities):
    """Atomic percent of counts (E, ...)."""
    atoms = counts / np.reshape(sensitivities, (-1,) + (1,) * (counts.ndim - 1))
    with np.errstate(invalid="ignore"):
        return 100 * atoms / atoms.sum(axis=0)


def stoichiometry(name, dose, size, seed):
    """Composition of one element, in at. %, by several ways, and the share of good pixels."""
    simulate, options, element = SPECIMENS[name]
    specimen = simulate(shape=(size, size), dose=dose, seed=seed, **options)
    e, sensitivities = specimen.elements.index(element), list(specimen.sensitivities.values())
    truth, fused = specimen.truth.data.astype(float), fitted(specimen).fused
    inside = truth.sum(axis=0) > OBJECT * truth.sum(axis=0).max()
    true = fractions(truth, sensitivities)[e]
    percent = fused.atomic_percent()
    (peaks,) = percent.composition_phases([element]).values()
    highest = max(peaks, key=lambda phase: phase.share, default=None)
    raw = fractions(specimen.maps.data.astype(float), sensitivities)[e]

    def near(values):
        return 100 * np.mean(np.abs(values[inside] - true[inside]) <= 0.15 * true[inside])

    return {
        "truth": fractions(truth[:, inside].sum(axis=1), sensitivities)[e],
        "counts": fractions(specimen.maps.data[:, inside].sum(axis=1, dtype=float), sensitivities)[e],
        "fused": fractions(fused.data[:, inside].sum(axis=1, dtype=float), sensitivities)[e],
        "peak": np.nan if highest is None else highest.mean,
        "spread": np.nan if highest is None else highest.spread,
        "good raw": near(raw),
        "good fused": near(percent.data[e]),
    }  # fmt: skip


def deviations(name, dose, size, seed, ideal):
    """True deviations and their standard errors, per element: of pixels and of regions.

    For pixels also half the width of the intervals of 95 and 68 %.
    """
    simulate, options, _ = SPECIMENS[name]
    specimen = simulate(shape=(size, size), dose=dose, seed=seed, **options)
    sensitivities = list(specimen.sensitivities.values())
    truth = specimen.truth.data.astype(float)
    inside = truth.sum(axis=0) > OBJECT * truth.sum(axis=0).max()
    model = fitted(specimen)
    with drawing_from(truth if ideal else None):
        percent, *errors = model.atomic_percent(return_error=True, show_progressbar=False)
        for confidence in CONFIDENCES:
            _, half = model.atomic_percent(
                return_error=True, confidence=confidence, show_progressbar=False
            )
            errors.append(half)
    deviation = percent.data - fractions(truth, sensitivities)
    pixels = {}
    of_regions = {element: [] for element in specimen.elements}
    for e, element in enumerate(specimen.elements):
        shown = inside & np.isfinite(deviation[e])
        pixels[element] = [deviation[e][shown]] + [error.data[e][shown] for error in errors]
    for mask in regions(inside):
        found = model.region_composition(mask, show_progressbar=False)
        true = fractions(truth[:, mask].sum(axis=1), sensitivities)
        for e, element in enumerate(specimen.elements):
            of_regions[element].append((found.percent[e] - true[e], found.standard_error[e]))
    return pixels, {element: np.transpose(values) for element, values in of_regions.items()}


def print_stoichiometry(chosen):
    print("Stoichiometry: atomic percent of one element")
    print("                           truth  counts   fused   peak ± spread   pixels within 15 %")
    print("specimen     el.    dose                                           raw  fused")
    for name in chosen.specimens:
        element = SPECIMENS[name][2]
        for dose in chosen.doses or STOICHIOMETRY_DOSES:
            lines = [stoichiometry(name, dose, chosen.size, seed) for seed in chosen.seeds]
            mean = {key: np.mean([line[key] for line in lines]) for key in lines[0]}
            print(
                f"{name:12s} {element:3s} {dose:7g}  {mean['truth']:6.1f}  {mean['counts']:6.1f}  "
                f"{mean['fused']:6.1f}  {mean['peak']:6.1f} ± {mean['spread']:<5.1f}  "
                f"{mean['good raw']:6.0f} {mean['good fused']:6.0f}",
                flush=True,
            )


def print_coverage(chosen):
    print("\nShare (in %) of intervals that hold the truth; they should hold 95 and 68")
    print("                            pixels   by standard errors         regions")
    print("specimen     el.    dose    95  68    95  68  error  deviation   95  68  error  deviation")
    for name in chosen.specimens:
        for dose in chosen.doses or COVERAGE_DOSES:
            found = [deviations(name, dose, chosen.size, seed, chosen.ideal) for seed in chosen.seeds]
            for element in found[0][0]:
                cells = []
                for kind in (0, 1):
                    deviation, error, *halves = np.hstack([of_seed[kind][element] for of_seed in found])
                    for half in halves:
                        cells.append("{:3.0f} ".format(coverage(deviation, np.maximum(half, ROUNDING))[1]))
                    cells.append(
                        "   {:3.0f} {:3.0f}  {:5.2f}  {:5.2f}".format(
                            *coverage(deviation, np.maximum(error, ROUNDING)),
                            np.sqrt(np.mean(error**2)),
                            np.sqrt(np.mean(deviation**2)),
                        )
                    )
                print(f"{name:12s} {element:3s} {dose:7g}   " + "".join(cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specimens", nargs="+", choices=SPECIMENS, default=list(SPECIMENS))
    parser.add_argument("--doses", nargs="+", type=float)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", nargs="+", type=int, default=[201, 202])
    parser.add_argument("--tables", nargs="+", choices=("stoichiometry", "coverage"),
                        default=["stoichiometry", "coverage"])  # fmt: skip
    parser.add_argument("--ideal", action="store_true",
                        help="errors from a bootstrap that draws from the truth")  # fmt: skip
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if "stoichiometry" in chosen.tables:
        print_stoichiometry(chosen)
    if "coverage" in chosen.tables:
        print_coverage(chosen)


if __name__ == "__main__":
    main()
