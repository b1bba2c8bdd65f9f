"""Does the verdict cry wolf, and does it see what is wrong? Simulated specimens with right and spoilt images.

Two tables. The first counts how many right images were suspected (serious findings), over dose, HAADF noise,
seeds, and whether the sensitivities were given. "no gain" is told apart: it may be right. The second says what
was found in images that were spoilt, each in one way, and by how much the image helps or harms.

    python benchmarks/diagnosis.py                  # both tables, 96 x 96 pixels, 3 minutes
    python benchmarks/diagnosis.py --seeds 10       # the one in the docs
"""

import argparse
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
from accuracy_cases import simulated, spoilt

SPECIMENS = ("particles", "lattice", "film")
CLEAN_DOSES, SNRS = (0.3, 1.0, 3.0, 10.0), (5.0, 50.0)
SPOILT_DOSES = (0.3, 3.0)


def verdict(specimen, known, offset=None):
    """Verdict on a fit that uses the image, whether it helps or not, with strengths that follow from the noise."""
    options = {"sensitivities": specimen.sensitivities} if known else {}
    if offset is not None:
        options["haadf_offset"] = offset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = specimen.maps.create_model(specimen.haadf, **options)
        model.fit(
            lambda_haadf=1.0, lambda_tv="noise", regularization="tv", guided=False, tolerance=1e-3,
            show_progressbar=False,
        )  # fmt: skip
        return model.diagnose(verbose=False, show_progressbar=False)


def serious(found):
    return [finding.kind for finding in found.findings if finding.serious]


def clean_table(seeds, size, dose_seed=300):
    """Suspicions of right images."""
    print("Right images: how many were suspected of what\n")
    for name in SPECIMENS:
        counted, total, gains = Counter(), 0, Counter()
        for dose in CLEAN_DOSES:
            for snr in SNRS:
                for seed in range(dose_seed, dose_seed + seeds):
                    # One after the other: half of them with sensitivities.
                    found = verdict(
                        simulated(name, dose=dose, snr=snr, seed=seed, size=size), seed % 2 == 0
                    )
                    kinds = serious(found)
                    counted.update(kind for kind in kinds if kind != "no gain")
                    gains["no gain" if not found.helps else "gain"] += 1
                    gains["harms"] += found.harms
                    total += 1
        told = ", ".join(f"{kind} {n}" for kind, n in counted.items()) or "nothing"
        print(
            f"{name:12s} {total} images; helps {gains['gain']}, no gain {gains['no gain']} (of these harms "
            f"{gains['harms']}); suspected: {told}",
            flush=True,
        )  # fmt: skip


def cases(specimen):
    """Spoilt specimens by name, with the offset that is insisted on."""
    image = specimen.haadf.data
    signal = image - specimen.haadf_offset
    mean, sign = signal.mean(), np.sign(signal)
    more = {
        "squared": specimen.haadf_offset + sign * signal**2 / mean,
        "square root": specimen.haadf_offset + sign * np.sqrt(np.abs(signal) * mean),
    }
    found = {name: (spoiled, None) for name, spoiled in spoilt(specimen).items()}
    found["offset +20 %, insisted on"] = (found.pop("offset +20 %")[0], specimen.haadf_offset)
    for name, changed in more.items():
        found[name] = (
            replace(specimen, haadf=specimen.haadf._deepcopy_with_new_data(changed)), None,
        )  # fmt: skip
    return found


def spoilt_table(size, seed=400):
    """Findings of spoilt images."""
    print("\nSpoilt images: serious findings, and gain in standard errors\n")
    for name in SPECIMENS:
        for dose in SPOILT_DOSES:
            print(f"{name}, {dose:g} counts per pixel", flush=True)
            for case, (specimen, offset) in cases(
                simulated(name, dose=dose, snr=20, seed=seed, size=size)
            ).items():
                found = verdict(specimen, known=False, offset=offset)
                gain = found.total_gain / max(found.total_gain_error, 1e-9)
                kinds = ", ".join(kind for kind in serious(found) if kind != "no gain") or "-"
                detail = (
                    f" ({found.shift[1]:+.1f}, {found.shift[0]:+.1f})" if "shifted" in kinds else ""
                )
                print(f"    {case:28s}{gain:+7.1f}  {kinds}{detail}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="rows and columns")
    parser.add_argument("--seeds", type=int, default=2, help="of right images")
    parser.add_argument("--tables", nargs="+", choices=("clean", "spoilt"), default=("clean", "spoilt"))
    given = parser.parse_args()
    if "clean" in given.tables:
        clean_table(given.seeds, given.size)
    if "spoilt" in given.tables:
        spoilt_table(given.size)


if __name__ == "__main__":
    main()
