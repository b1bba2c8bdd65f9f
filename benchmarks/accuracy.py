"""How close fused maps come to the truth, beside other methods whose settings are chosen with the truth.

Studies:

accuracy   error of every method on simulated specimens, over dose and HAADF signal-to-noise ratio
forms      which form of the problem is best where, each with its strengths chosen with the truth
spoilt     automatic fusion with a spoilt HAADF image, over fusion without any
real       Poisson deviance of what was kept of real recordings
claims     numbers beside those that were published
cost       processor time of an automatic fit over that of one with the chosen settings, four elements

Errors are root-mean-square errors over the root mean square of the truth. Deviances are per count. Results
go to a JSON file one by one; run again with the same file, a study goes on where it ended.

    python benchmarks/accuracy.py accuracy --quick
    python benchmarks/accuracy.py accuracy --specimens particles --doses 0.1 1 --snrs 20 --seeds 5
    python benchmarks/accuracy.py cost --size 512 --doses 0.1 1 10
    python benchmarks/accuracy.py tables --results accuracy.json --methods raw blur automatic oracle

Means are over the seeds that all methods of a table have: name fewer methods for more seeds.
"""

import argparse
import time
import warnings
from itertools import product

import accuracy_methods as methods
import numpy as np
from accuracy_cases import (
    SPECIMENS,
    deviances,
    has_contrast,
    relative_errors,
    simulated,
    spoilt,
)
from accuracy_claims import claims
from accuracy_cost import costs
from accuracy_oracle import (
    ALONE,
    FORMS,
    OFFERED,
    POWER_FORMS,
    calibrated,
    tuned,
    tuned_alone,
)
from accuracy_package import package_fusion
from accuracy_real import real_recordings
from accuracy_store import Store
from accuracy_tables import print_tables

METHODS = {
    "raw": methods.raw,
    "blur": methods.blurred,
    "tv": methods.total_variation,
    "nlm": methods.non_local_means,
    "pca": methods.principal_components,
    "poisson tv": methods.poisson_total_variation,
    "package": None,
    "alone": methods.automatic_alone,
    "automatic": methods.automatic,
    "automatic, sensitivities": methods.automatic_sensitivities,
    "oracle": None,
}
REAL_METHODS = ("raw", "blur", "tv", "nlm", "poisson tv", "alone", "automatic", "oracle")
SPOILT_METHODS = ("alone", "automatic")
STUDIES = ("accuracy", "forms", "spoilt", "real", "claims", "cost", "tables")
FULL = {"size": 256, "seeds": 5, "doses": (0.03, 0.1, 0.3, 1, 3, 10, 30), "snrs": (20.0,)}
QUICK = {"size": 128, "seeds": 2, "doses": (0.1, 0.3, 1, 10), "snrs": (20.0,)}


def main():
    chosen = parsed()
    warnings.simplefilter("ignore")
    store = Store(chosen.results)
    if chosen.study == "claims":
        claims(chosen.size, chosen.seeds)
    elif chosen.study == "cost":
        print(costs(chosen.size, chosen.doses))
    elif chosen.study == "real":
        real_study(store, chosen)
    elif chosen.study != "tables":
        study = {"accuracy": accuracy_study, "forms": forms_study, "spoilt": spoilt_study}
        for cell in cells(chosen):
            study[chosen.study](store, cell, chosen)
    print_tables(store.records, chosen.methods)


def parsed():
    """Options; what is not given is that of the quick or of the full study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--quick", action="store_true", help="128 x 128, two seeds, four doses")
    parser.add_argument("--specimens", nargs="+", choices=SPECIMENS, default=list(SPECIMENS))
    parser.add_argument("--doses", nargs="+", type=float)
    parser.add_argument("--snrs", nargs="+", type=float)
    parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument("--size", type=int)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--calibration", choices=("known", "sensitivities", "auto"))
    parser.add_argument("--results", default="accuracy.json", help="file of results")
    parser.add_argument("--environment", help="folder of the package's virtual environment")
    chosen = parser.parse_args()
    for name, value in (QUICK if chosen.quick else FULL).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    return chosen


def cells(chosen):
    """Identity of every simulated recording; all specimens of a seed before the next seed."""
    for seed, dose, snr, name in product(
        range(chosen.seeds), chosen.doses, chosen.snrs, chosen.specimens
    ):
        yield {"specimen": name, "dose": dose, "snr": snr, "seed": seed, "size": chosen.size}


def specimen_of(cell, spectrum_image=False):
    """The specimen of a cell."""
    options = {name: cell[name] for name in ("dose", "snr", "seed", "size")}
    return simulated(cell["specimen"], spectrum_image=spectrum_image, **options)


def accuracy_study(store, cell, chosen):
    """Every method on one specimen."""
    missing = [
        name for name in chosen.methods if store.find(study="accuracy", method=name, **cell) is None
    ]
    if not missing:
        return
    # The spectra take most of the time of a specimen, and one method needs them.
    specimen = specimen_of(cell, spectrum_image="pca" in missing)
    for name in missing:
        run = method_of(name, specimen, chosen)
        record = {"study": "accuracy", **cell, "method": name}
        store.add(record | measured(run, specimen))
        report(store)


def method_of(name, specimen, chosen):
    """What is called for a method."""
    if name == "package":
        from solver_package import package_environment

        python = package_environment(chosen.environment)
        return lambda _, loss: package_fusion(specimen, loss, specimen.truth.data, python)
    if name == "oracle":
        return lambda _, loss: oracle(specimen, loss, chosen.calibration or "auto")
    return METHODS[name]


def oracle(specimen, loss, calibration):
    """The best of the forms that an automatic fit chooses from, at its best strengths."""
    scale = calibrated(specimen, "linear", calibration)
    found = [tuned(specimen, form, scale, loss) for form in OFFERED]
    best = min([*found, tuned_alone(specimen, ALONE, loss)], key=_total)
    return best.maps, chosen_of(best)


def _total(found):
    return found.losses.sum()


def chosen_of(found):
    """Settings that the search with the truth has found."""
    return {
        "form": found.form.name if found.lambda_haadf else f"{found.form.name} alone",
        "factors": found.factors,
        "lambda_haadf": found.lambda_haadf,
    }


def measured(run, specimen):
    """Error, deviance, settings and time of a method on a specimen."""
    truth = np.asarray(specimen.truth.data, dtype=float)
    begin = time.perf_counter()
    maps, setting = run(specimen, lambda maps: relative_errors(maps, truth))
    return {
        "elements": specimen.elements,
        "contrast": has_contrast(specimen),
        "errors": relative_errors(maps, truth),
        "deviances": deviances(maps, truth),
        "setting": setting,
        "seconds": time.perf_counter() - begin,
    }


def forms_study(store, cell, chosen):
    """Every form of the problem on one specimen, its strengths chosen with the truth."""
    specimen = specimen_of(cell)
    calibration = chosen.calibration or "sensitivities"
    for form in FORMS + POWER_FORMS:
        record = {"study": "forms", **cell, "method": form.name, "calibration": calibration}
        if store.find(**record):
            continue

        def run(specimen, loss, form=form):
            scale = calibrated(specimen, form.forward, calibration)
            found = tuned(specimen, form, scale, loss)
            return found.maps, chosen_of(found)

        store.add(record | measured(run, specimen))
        report(store)


def spoilt_study(store, cell, chosen):
    """Automatic fusion with the image as it is and spoilt in every way, and without any."""
    for name, specimen in spoilt(specimen_of(cell)).items():
        for method in SPOILT_METHODS:
            record = {"study": "spoilt", **cell, "spoilt": name, "method": method}
            if store.find(**record):
                continue
            # Without the image it does not matter how it is spoilt.
            same = {**record, "spoilt": "as it is", "elements": specimen.elements}
            known = store.find(**same) if method == "alone" else None
            store.add(
                {**known, **record} if known else record | measured(METHODS[method], specimen)
            )
            report(store)


def real_study(store, chosen):
    """Deviance of what was kept of real recordings."""
    for seed in range(chosen.seeds):
        for name, level, recording in real_recordings(seed):
            for method in REAL_METHODS:
                record = {"study": "real", "specimen": name, "level": level, "seed": seed}
                record["method"] = method
                if store.find(**record) or method not in chosen.methods:
                    continue
                run = method_of(method, recording, chosen)
                begin = time.perf_counter()
                maps, setting = run(recording, recording.loss)
                record |= {
                    "elements": recording.maps.elements,
                    "deviances": recording.loss(maps),
                    "setting": setting,
                    "seconds": time.perf_counter() - begin,
                }
                store.add(record)
                report(store)


def report(store):
    """One line on the last result, so that one sees it go on."""
    record = store.records[-1]
    where = [
        str(record[name]) for name in ("specimen", "dose", "snr", "level", "seed") if name in record
    ]
    values = record.get("errors", record["deviances"])
    print(
        f"{record['study']} {' '.join(where)} {record.get('spoilt', '')} {record['method']}: "
        f"{np.round(values, 4)} mean {np.mean(values):.4f}, {record['seconds']:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
