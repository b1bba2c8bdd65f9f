"""Do the standard errors cover? Simulated specimens, whose truth is known, over dose.

Every specimen is fused, and the difference from the truth divided by the standard error. Of 95 %
intervals (1.96 standard errors) 95 % should hold the truth, of 68 % intervals (1 standard error) 68 %.
Counted are pixels of the specimen (truth above 5 % of its maximum), and the means of square regions of
16 x 16 pixels of which the specimen fills more than half. The bootstrap was developed on the specimens of
the package's default settings, seeds 11, 31 and 101; those used here have other settings (fewer and larger particles,
finer pixels and wider columns, a rougher film) and seeds that were never looked at before. Form and weights
are those of a plain fit, chosen from the data, unless --regularization is given. With --ideal the bootstrap draws
from the truth in place of the maps that stand for it: how close intervals come to what they should hold then
is what one recording, with errors that are alike over many pixels, allows.

    python benchmarks/error_coverage.py                       # all doses, 96 x 96
    python benchmarks/error_coverage.py --doses 0.3 3 --size 64
    python benchmarks/error_coverage.py --ideal
    python benchmarks/error_coverage.py --real                # frames of quantum dots that were not fused

The last needs the data sets, see accuracy_real.py.
"""

import argparse
import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
from accuracy_real import quantum_dots, some_frames

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.models import uncertainty

SPECIMENS = {
    "particles": partial(fmm.data.core_shell_particles, n_particles=7, radius=(4.0, 10.0)),
    "lattice": partial(
        fmm.data.perovskite_lattice, pixel_size=0.02, column_width=0.06, thickness=30.0
    ),
    "film": partial(fmm.data.gallium_oxide_film, roughness=0.5, pixel_size=0.8),
}
DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
OBJECT = 0.05
BLOCK = 16
# Shares (in %) that intervals of 1.96 and of 1 standard error should hold.
WANTED = ((93, 97), (64, 72))


def fitted(specimen, known, **options):
    """Model of a specimen, its HAADF scale given ("known") or fitted to the data."""
    scale = {"sensitivities": specimen.sensitivities}
    if known:
        scale = {
            "weights": specimen.weights,
            "haadf_offset": specimen.haadf_offset,
            "haadf_noise": specimen.haadf_noise,
        }
    model = specimen.maps.create_model(specimen.haadf, **scale)
    model.fit(show_progressbar=False, **options)
    return model


def coverage(deviation, error):
    """Shares (in %) of deviations within 1.96 and within 1 standard error."""
    ratio = np.abs(deviation) / np.maximum(error, 1e-30)
    return 100 * np.mean(ratio < 1.96), 100 * np.mean(ratio < 1.0)


def regions(inside):
    """Masks of the square regions that the specimen fills by more than half."""
    rows, columns = inside.shape
    for r in range(0, rows - BLOCK + 1, BLOCK):
        for c in range(0, columns - BLOCK + 1, BLOCK):
            mask = np.zeros_like(inside)
            mask[r : r + BLOCK, c : c + BLOCK] = True
            if inside[mask].mean() > 0.5:
                yield mask


@contextmanager
def drawing_from(truth):
    """Within, models draw the measurements of their bootstrap from these maps, if any are given."""
    if truth is None:
        yield
        return
    draw = uncertainty.bootstrap

    def drawn(problem, maps, **options):
        # Maps of counts are in the units of the objective as they are.
        return draw(problem, maps, pilot=truth, **options)

    uncertainty.bootstrap = drawn
    try:
        yield
    finally:
        uncertainty.bootstrap = draw


def study(model, truth, replicates, ideal):
    """Per element: coverage of pixels and of regions, mean standard error and true error."""
    fused = model.fused.data
    with drawing_from(truth if ideal else None):
        bootstrap = model.standard_error(replicates=replicates, show_progressbar=False).data
    hessian = model.standard_error("hessian").data
    for e, name in enumerate(model.maps.elements):
        inside = truth[e] > OBJECT * truth[e].max()
        deviation = fused[e] - truth[e]
        masks = list(regions(inside))
        means = np.array([deviation[mask].mean() for mask in masks])
        errors = np.array(
            [
                model.region_error(mask, replicates=replicates, show_progressbar=False)[e]
                for mask in masks
            ]
        )
        yield {
            "element": name,
            "bootstrap": coverage(deviation[inside], bootstrap[e][inside]),
            "hessian": coverage(deviation[inside], hessian[e][inside]),
            "regions": coverage(means, errors) if masks else (np.nan, np.nan),
            "rmse": np.sqrt((deviation[inside] ** 2).mean()),
            "mean": bootstrap[e][inside].mean(),
            "hessian mean": hessian[e][inside].mean(),
        }


def held_out_frames(count, seed, replicates):
    """Mean square, per element, of standardised differences of sums over regions of frames that were not fused.

    The difference is divided by the root of the squared error of the fused sum and the variance of the
    counts that were held out: mean squares of 1 are right, smaller ones are errors that are too large. The
    variance is that of Poisson counts whose mean is found from all frames; that of the fused maps would
    call any count impossible where these are zero. Regions in which no frame has a count tell nothing and are left
    out. The same for the measured counts in place of the fused ones, whose errors are known, shows how
    far from 1 so many regions may be by chance.
    """
    maps, images = quantum_dots()
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    recording = some_frames(maps, images, chosen)
    model = recording.maps.create_model(recording.haadf)
    model.fit(show_progressbar=False)
    fused, scale = model.fused.data, recording.scale
    squares, raw = [], []
    for mask in regions(np.ones(fused.shape[1:], bool)):
        found = fused[:, mask].sum(axis=1, dtype=float)
        measured = recording.maps.data[:, mask].sum(axis=1)
        held_out = recording.held_out[:, mask].sum(axis=1)
        error = mask.sum() * model.region_error(
            mask, replicates=replicates, show_progressbar=False
        )
        # Of the frames that were fused, and variances in their units.
        expected = (measured + held_out) / (1 + scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            squares.append((held_out / scale - found) ** 2 / (error**2 + expected / scale))
            raw.append((held_out / scale - measured) ** 2 / (expected + expected / scale))
    counted = np.isfinite(raw)
    squares, raw = (
        np.mean(values, axis=0, where=counted) for values in (np.array(squares), np.array(raw))
    )
    return model.maps.elements, squares, raw, counted.sum(axis=0)


def real(counts, seeds, replicates):
    """Print the table of the frames that were held out."""
    print("frames seed | mean square of standardised differences per element (of the counts; regions)")
    for count in counts:
        for seed in seeds:
            found = zip(*held_out_frames(count, seed, replicates))
            line = "  ".join(f"{name} {fused:.2f} ({raw:.2f}; {n})" for name, fused, raw, n in found)
            print(f"{count:6d} {seed:4d} | {line}", flush=True)


def print_means(cases):
    """Means over elements and doses, and how many of these lie where they should."""
    for kind in ("bootstrap", "regions", "hessian"):
        shares = np.array([case[kind] for case in cases])
        shares = shares[np.isfinite(shares).all(axis=1)]
        if not len(shares):
            continue
        within = [np.mean((shares[:, k] >= low) & (shares[:, k] <= high)) for k, (low, high) in
                  enumerate(WANTED)]  # fmt: skip
        print(
            f"{kind:9s} mean {shares[:, 0].mean():.1f} {shares[:, 1].mean():.1f} %, from "
            f"{shares[:, 0].min():.0f} to {shares[:, 0].max():.0f} and "
            f"{shares[:, 1].min():.0f} to {shares[:, 1].max():.0f}; within "
            + " and ".join(f"{low}-{high}" for low, high in WANTED)
            + f": {100 * within[0]:.0f} and {100 * within[1]:.0f} % of {len(shares)} cases"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specimens", nargs="+", choices=SPECIMENS, default=list(SPECIMENS))
    parser.add_argument("--doses", nargs="+", type=float, default=DOSES)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", nargs="+", type=int, default=[401, 402])
    parser.add_argument("--replicates", type=int, default=15)
    parser.add_argument("--regularization", choices=("auto", "tv", "tgv"), default="auto")
    parser.add_argument("--ideal", action="store_true", help="bootstrap from the truth")
    parser.add_argument("--known", action="store_true", help="give weights, offset and noise")
    parser.add_argument("--real", action="store_true", help="held-out frames of quantum dots")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.real:
        return real((2, 8), chosen.seeds, chosen.replicates)
    print("specimen   dose element | bootstrap 95 68 | regions 95 68 | Hessian 95 68 | mean error / RMSE")
    of_all = []
    for name in chosen.specimens:
        found = {}
        for dose in chosen.doses:
            lines = {}
            for seed in chosen.seeds:
                shape = (chosen.size, chosen.size)
                specimen = SPECIMENS[name](shape=shape, dose=dose, seed=seed)
                model = fitted(specimen, chosen.known, regularization=chosen.regularization)
                for line in study(model, specimen.truth.data, chosen.replicates, chosen.ideal):
                    lines.setdefault(line["element"], []).append(line)
            for element, of_seeds in lines.items():
                mean = {
                    key: np.nanmean([line[key] for line in of_seeds], axis=0)
                    for key in of_seeds[0]
                    if key != "element"
                }
                found.setdefault(element, []).append(mean)
                print(
                    f"{name:10s} {dose:4g} {element:7s} |      "
                    + " | ".join(
                        "{:7.0f} {:3.0f}".format(*mean[kind])
                        for kind in ("bootstrap", "regions", "hessian")
                    )
                    + f" | {mean['mean']:.3g} / {mean['rmse']:.3g}",
                    flush=True,
                )
        of_name = [case for cases in found.values() for case in cases]
        of_all += of_name
        print(f"{name}, all doses:")
        print_means(of_name)
        if len(chosen.doses) > 2:
            for element, lines in found.items():
                rmse, mean, bound = (
                    [line[key] for line in lines] for key in ("rmse", "mean", "hessian mean")
                )
                print(
                    f"{name} {element}: correlation of mean error with RMSE over dose: bootstrap "
                    f"{np.corrcoef(mean, rmse)[0, 1]:.3f} (of logarithms "
                    f"{np.corrcoef(np.log(mean), np.log(rmse))[0, 1]:.3f}), Hessian "
                    f"{np.corrcoef(bound, rmse)[0, 1]:.3f}"
                )
    print("All:")
    print_means(of_all)


if __name__ == "__main__":
    main()
