"""What was published, and the same numbers of this project, with nothing chosen by hand.

Claims of J. Schwartz et al., npj Comput. Mater. 8, 16 (2022).
"""

import numpy as np
from accuracy_cases import relative_errors, simulated
from accuracy_methods import automatic, automatic_sensitivities, blurred, raw
from solver_support import as_rst

# A region is uniform where the truth is within this part of one value.
UNIFORM = 0.05
OBJECT = 0.2
STUDY_DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
STUDY_SNRS = (1.0, 2.0, 4.0, 8.0, 16.0, 50.0)
ACCURATE = 0.15


def claims(size, seeds):
    """Print every claim with its number beside it."""
    for table in (signal_to_noise, lower_dose, stoichiometry, accurate_region):
        print(table(size, seeds))


def uniform_region(truth):
    """Pixels whose truth is close to one value, that of the third quartile of the object."""
    level = np.quantile(truth[truth > OBJECT * truth.max()], 0.75)
    return np.abs(truth - level) <= UNIFORM * level


def signal_to_noise_ratios(maps, truth):
    """Mean over standard deviation in the uniform region of each element."""
    regions = [uniform_region(values) for values in truth]
    return np.array([m[r].mean() / m[r].std() for m, r in zip(maps, regions)])


def signal_to_noise(size, seeds, doses=(0.3, 1.0, 3.0)):
    """Gain of the signal-to-noise ratio over the raw maps; 4 to 6 times was published."""
    rows = []
    for name, dose in ((n, d) for n in ("particles", "lattice", "film") for d in doses):
        gains = []
        for seed in range(seeds):
            specimen = simulated(name, dose=dose, snr=20, seed=seed, size=size)
            truth = specimen.truth.data
            fused, counts = (
                signal_to_noise_ratios(method(specimen, None)[0], truth)
                for method in (automatic, raw)
            )
            gains.append(100 * (fused / counts - 1))
        rows.append([name, f"{dose:g}", _elements(specimen, np.mean(gains, axis=0), "{:.0f} %")])
    return as_rst(["specimen", "counts per pixel", "gain of SNR (published: 300 to 500 %)"], rows)


def lower_dose(size, seeds, doses=(1.0, 3.0, 10.0), factor=10):
    """Error of the fused maps with a tenth of the counts, over that of other maps with all of them."""
    rows = []
    for name, dose in ((n, d) for n in ("particles", "lattice", "film") for d in doses):
        errors = []
        for seed in range(seeds):
            many, few = (
                simulated(name, dose=d, snr=20, seed=seed, size=size) for d in (dose, dose / factor)
            )
            compared = ((automatic, few), (raw, many), (blurred, many))
            errors.append([_loss(case)(method(case, _loss(case))[0]) for method, case in compared])
        fused, *others = np.mean(errors, axis=0)
        ratios = [_elements(many, fused / other, "{:.2f}") for other in others]
        rows.append([name, f"{dose:g}", *ratios])
    head = ["specimen", "counts per pixel D", f"fused at D/{factor} over raw at D"]
    return as_rst([*head, "over best blur at D (published: at most 1)"], rows)


def stoichiometry(size, seeds, doses=(0.3, 1.0, 3.0, 10.0)):
    """Gallium in Ga2O3, 40 at% everywhere: mean and scatter over pixels, sensitivities known."""
    rows = []
    for name, dose in ((n, d) for n in ("film", "film-power") for d in doses):
        found = []
        for seed in range(seeds):
            specimen = simulated(name, dose=dose, snr=20, seed=seed, size=size)
            for method in (raw, automatic, automatic_sensitivities):
                share = _atomic_percent(method(specimen, None)[0], specimen)
                found.append([np.nanmean(share), np.nanstd(share)])
        means = np.mean(np.reshape(found, (seeds, 3, 2)), axis=0)
        rows.append([name, f"{dose:g}", *(f"{mean:.1f} +- {spread:.1f}" for mean, spread in means)])
    head = [
        "specimen",
        "counts per pixel",
        "raw (at% Ga)",
        "fused",
        "fused, sensitivities (published: 40 +- 0.4)",
    ]
    return as_rst(head, rows)


def _atomic_percent(maps, specimen):
    """Atoms of the first element in per cent of all, at every pixel that holds any."""
    sensitivities = np.array(list(specimen.sensitivities.values()))
    atoms = maps / sensitivities[:, None, None]
    total = atoms.sum(axis=0)
    return 100 * atoms[0][total > 0] / total[total > 0]


def accurate_region(size, seeds):
    """Error of the CoS/CoO particles over HAADF and chemical signal-to-noise ratio."""
    rows = []
    for snr in STUDY_SNRS:
        cells = []
        for dose in STUDY_DOSES:
            errors = []
            for seed in range(seeds):
                specimen = simulated("particles", dose=dose, snr=snr, seed=seed, size=size)
                truth = specimen.truth.data
                errors.append(relative_errors(automatic(specimen, None)[0], truth).mean())
            cells.append(f"{np.mean(errors):.3f}{'*' if np.mean(errors) <= ACCURATE else ''}")
        rows.append([f"{snr:g}", *cells])
    # Of a Poisson count the signal-to-noise ratio is the root of its mean.
    chemical = [f"{np.sqrt(dose / _covered(size)):.2g}" for dose in STUDY_DOSES]
    table = as_rst(["HAADF SNR \\ chemical SNR", *chemical], rows)
    return (
        table + f"* error of at most {ACCURATE} (published: HAADF SNR >= 4 and chemical SNR >= 2)\n"
    )


def _covered(size):
    """Part of the field that particles cover."""
    truth = simulated("particles", dose=1, snr=20, seed=0, size=size).truth.data[0]
    return float((truth > 0).mean())


def _loss(specimen):
    return lambda maps: relative_errors(maps, specimen.truth.data)


def _elements(specimen, values, form):
    return ", ".join(f"{e} {form.format(v)}" for e, v in zip(specimen.elements, values))
