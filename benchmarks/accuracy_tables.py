"""Tables of the accuracy study, from its records."""

from collections import defaultdict

import numpy as np
from solver_support import as_rst

ORACLE, AUTOMATIC, ALONE, BLUR = "oracle", "automatic", "alone", "blur"
# What is no rival: this project's own variants.
SEEDS = "seeds"
OWN = (ORACLE, AUTOMATIC, ALONE, "automatic, sensitivities")


def print_tables(records, methods):
    """Every table that the records of some methods are enough for."""
    records = [r for r in records if r["method"] in methods or r["study"] == "forms"]
    tables = {
        "accuracy": (accuracy_table, elements_table, verdict_table),
        "forms": (forms_table,),
        "spoilt": (spoilt_table,),
        "real": (real_table,),
    }
    for study, makers in tables.items():
        found = [record for record in records if record["study"] == study]
        for make in makers if found else ():
            print(make(found, list(methods)))


def by_cell(records, value, keys=("specimen", "dose", "snr")):
    """Mean over the seeds that all methods of a cell have.

    Returns
    -------
    dict
        ``{cell: {method: (E,) array}}``; the number of seeds is the method `SEEDS`.
    """
    found = defaultdict(lambda: defaultdict(dict))
    for record in records:
        cell = tuple(record[key] for key in keys)
        found[cell][record["method"]][record["seed"]] = record[value]
    means = {}
    for cell, of_methods in found.items():
        seeds = set.intersection(*(set(each) for each in of_methods.values()))
        if seeds:
            means[cell] = {
                method: np.mean([each[seed] for seed in sorted(seeds)], axis=0)
                for method, each in of_methods.items()
            } | {SEEDS: np.array(len(seeds))}
    return dict(sorted(means.items()))


def _present(means, methods):
    return [name for name in methods if any(name in found for found in means.values())]


def accuracy_table(records, methods):
    """Mean error over the elements, a row for each cell and a column for each method."""
    means = by_cell(records, "errors")
    methods = _present(means, methods)
    rows = [
        [cell[0], f"{cell[1]:g}", f"{cell[2]:g}", str(found[SEEDS])]
        + [f"{found[name].mean():.3f}" if name in found else "" for name in methods]
        for cell, found in means.items()
    ]
    head = ["specimen", "dose", "SNR", SEEDS, *methods]
    return _table("Error, mean over the elements", head, rows)


def elements_table(records, methods):
    """Error of every element; those without HAADF contrast in brackets."""
    means = by_cell(records, "errors")
    methods = _present(means, methods)
    names = {r["specimen"]: list(zip(r["elements"], r["contrast"])) for r in records}
    rows = []
    for cell, found in means.items():
        for i, (element, contrast) in enumerate(names[cell[0]]):
            rows.append(
                [cell[0], f"{cell[1]:g}", f"{cell[2]:g}", element if contrast else f"({element})"]
                + [f"{found[name][i]:.3f}" if name in found else "" for name in methods]
            )
    title = "Error per element; in brackets those without HAADF contrast"
    return _table(title, ["specimen", "dose", "SNR", "element", *methods], rows)


def verdict_table(records, methods):
    """The automatic fusion over the oracle and over the best other method.

    "Worst with contrast" is over the elements with HAADF contrast, each over its own best other method; "worst
    without" over the others, each over its best blur.
    """
    means = by_cell(records, "errors")
    contrast = {r["specimen"]: np.array(r["contrast"]) for r in records}
    rivals = [name for name in _present(means, methods) if name not in OWN]
    rows = []
    for cell, found in means.items():
        others = {name: found[name] for name in rivals if name in found}
        if AUTOMATIC not in found or not others:
            continue
        automatic, seen = found[AUTOMATIC], contrast[cell[0]]
        best = min(others, key=lambda name: others[name].mean())
        lowest = np.min(list(others.values()), axis=0)
        faint = (automatic / others[BLUR])[~seen] if BLUR in others else np.array([])
        rows.append([
            cell[0], f"{cell[1]:g}", f"{cell[2]:g}", str(found[SEEDS]),
            _ratio(automatic, found[ORACLE]) if ORACLE in found else "",
            best, _ratio(automatic, others[best]),
            f"{(automatic / lowest)[seen].max():.2f}" if seen.any() else "",
            f"{faint.max():.2f}" if faint.size else "",
        ])  # fmt: skip
    head = [
        "specimen", "dose", "SNR", SEEDS, "automatic / oracle", "best other", "automatic / best other",
        "worst with contrast", "worst without",
    ]  # fmt: skip
    return _table("Automatic fusion in comparison", head, rows)


def _ratio(errors, others):
    return f"{errors.mean() / others.mean():.2f}"


def forms_table(records, methods):
    """Error of each form over that of the best form of the cell, all with strengths chosen with the truth."""
    means = by_cell(records, "errors", ("specimen", "dose", "snr", "calibration"))
    forms = list(dict.fromkeys(record["method"] for record in records))
    ratios = {form: [] for form in forms}
    rows = []
    for cell, found in means.items():
        found = {form: errors for form, errors in found.items() if form != SEEDS}
        best = min(errors.mean() for errors in found.values())
        for form in found:
            ratios[form].append(found[form].mean() / best)
        row = [cell[0], f"{cell[1]:g}", f"{cell[2]:g}", cell[3], f"{best:.3f}"]
        rows.append(row + [f"{ratios[f][-1]:.2f}" if f in found else "" for f in forms])
    rows.append(
        ["mean", "", "", "", ""] + [f"{np.mean(r):.2f}" if r else "" for r in ratios.values()]
    )
    rows.append(
        ["worst", "", "", "", ""] + [f"{np.max(r):.2f}" if r else "" for r in ratios.values()]
    )
    head = ["specimen", "dose", "SNR", "calibration", "best error", *forms]
    return _table("Error of each form over the best", head, rows)


def spoilt_table(records, methods):
    """Error with the spoilt image over that without any image."""
    keys = ("specimen", "dose", "snr", "spoilt")
    means = by_cell(records, "errors", keys)
    ways = list(dict.fromkeys(record["spoilt"] for record in records))
    rows, ratios = [], []
    for cell in dict.fromkeys(cell[:3] for cell in means):
        found = [means.get((*cell, way), {}) for way in ways]
        both = [AUTOMATIC in each and ALONE in each for each in found]
        seeds = min((int(each[SEEDS]) for each, known in zip(found, both) if known), default=0)
        ratios.append([
            each[AUTOMATIC].mean() / each[ALONE].mean() if known else np.nan
            for each, known in zip(found, both)
        ])  # fmt: skip
        row = [cell[0], f"{cell[1]:g}", f"{cell[2]:g}", str(seeds)]
        rows.append(row + [_two_digits(ratio) for ratio in ratios[-1]])
    for name, over in (("mean", np.nanmean), ("worst", np.nanmax)):
        rows.append([name, "", "", ""] + [_two_digits(r) for r in over(ratios, axis=0)])
    head = ["specimen", "dose", "SNR", SEEDS, *ways]
    return _table("Error over that without the image", head, rows)


def _two_digits(ratio):
    return f"{ratio:.2f}" if np.isfinite(ratio) else ""


def real_table(records, methods):
    """Deviance per kept count of real recordings, mean over the elements and the seeds."""
    means = by_cell(records, "deviances", ("specimen", "level"))
    methods = _present(means, methods)
    rows = [
        [cell[0], f"{cell[1]:g}", str(found[SEEDS])]
        + [f"{found[name].mean():.3f}" if name in found else "" for name in methods]
        for cell, found in means.items()
    ]
    title = "Real recordings: deviance per kept count"
    return _table(title, ["recording", "frames or part", SEEDS, *methods], rows)


def _table(title, head, rows):
    rows = [[str(cell) if str(cell) else "-" for cell in row] for row in rows]
    return f"\n{title}\n{'-' * len(title)}\n\n{as_rst(head, rows)}"
