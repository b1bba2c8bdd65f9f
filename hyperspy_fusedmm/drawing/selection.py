"""What an automatic choice of the weights tried, and how it scored."""

import numpy as np

FORMS = {
    # regularization, guided, with the HAADF image, relative to it
    ("tv", False, True, False): ("TV", "#e0a030", "s"),
    ("tv", True, True, False): ("TV, guided", "#c44e52", "s"),
    ("tgv", False, True, False): ("TGV", "#4f9d69", "o"),
    ("tgv", True, True, False): ("TGV, guided", "#3b6fb6", "o"),
    ("tv", False, False, False): ("TV, without HAADF", "0.6", "s"),
    ("tgv", False, False, False): ("TGV, without HAADF", "0.4", "o"),
    ("tv", True, False, False): ("TV, guided only", "#e5a9ab", "s"),
    ("tgv", True, False, False): ("TGV, guided only", "#a9c0e0", "o"),
    ("tv", False, True, True): ("TV, relative", "#8c6d31", "^"),
    ("tv", True, True, True): ("TV, guided, relative", "#7b2d3b", "^"),
    ("tgv", False, True, True): ("TGV, relative", "#8e5bb5", "D"),
    ("tgv", True, True, True): ("TGV, guided, relative", "#1f3b73", "D"),
    ("tv", False, False, True): ("TV, relative only", "#cdb98a", "^"),
    ("tv", True, False, True): ("TV, guided and relative only", "#c99aa4", "^"),
    ("tgv", False, False, True): ("TGV, relative only", "#cdb5e0", "D"),
    ("tgv", True, False, True): ("TGV, guided and relative only", "#8f9fc4", "D"),
}
SCORE = "Estimated error less that of the chosen"
COLUMNS = 4
# Where an axis has labels, within a factor of ten, by the largest of its values over the smallest.
LABELLED = ((6.0, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (30.0, (1.0, 2.0, 5.0)), (np.inf, (1.0,)))
# Scores further above the best than this many times the median are cut off.
CUT = 4.0


def plot_selection(selection, names):
    """Plot the score of every candidate against each of the weights that were varied.

    The score is the estimated squared error of the maps, each relative to its own, summed over the
    elements, less that of the chosen candidate: lower is better. Candidates differ in several weights at
    once, so that the lower edge of the points is what counts. It need not be smooth, as noise is left in
    the scores; for that reason the chosen one need not be the lowest, which may be so by accident. Far worse
    candidates are not shown. Where all weights were given, the score of every form is shown.

    Parameters
    ----------
    selection : dict
        :attr:`FusedMultiModal.selection`.
    names : list of str
        Names of the maps.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.drawing import plot_selection
    >>> selection = {
    ...     "regularization": ["tv", "tgv"], "guided": [False, False], "relative": [False, False],
    ...     "lambda_haadf": np.ones(2), "lambda_tv": np.array([[0.5], [1.0]]),
    ...     "score": np.array([0.2, 0.0]), "chosen": 1, "undecided": [False],
    ... }
    >>> figure = plot_selection(selection, ["Co"])
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    scores = np.asarray(selection["score"], dtype=float)
    strengths = np.asarray(selection["lambda_tv"], dtype=float)
    haadf = np.asarray(selection["lambda_haadf"], dtype=float)
    panels = [
        (f"Strength of {name}, $\\lambda_\\mathrm{{TV}}$", strengths[:, e])
        for e, name in enumerate(names)
        if not selection["undecided"][e] and len(np.unique(strengths[:, e])) > 1
    ]
    if len(np.unique(haadf[haadf > 0])) > 1:
        panels.append(("Weight of the image, $\\lambda_\\mathrm{HAADF}$", haadf))
    if not panels:
        return _plot_forms(selection)
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.2 + 2.6 * columns, 0.9 + 2.6 * rows), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    lowest, highest = _limits(scores)
    forms = _forms(selection)
    for number, (label, values) in enumerate(panels):
        ax = axes.flat[number]
        for form, (text, color, marker) in FORMS.items():
            used = np.array([own == form for own in forms]) & (values > 0)
            if used.any():
                ax.scatter(
                    values[used], scores[used], 18, color=color, marker=marker, alpha=0.75,
                    linewidths=0, label=text,
                )  # fmt: skip
        chosen = selection["chosen"]
        if values[chosen] > 0:
            ax.scatter(
                values[chosen], scores[chosen], 110, facecolors="none", edgecolors="black",
                linewidths=1.3, label="chosen", zorder=3,
            )  # fmt: skip
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set_xscale("log")
        shown = values[values > 0]
        span = shown.max() / shown.min()
        subs = next(subs for widest, subs in LABELLED if span < widest)
        ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(label)
        ax.set_ylim(lowest, highest)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    figure.supylabel(SCORE, fontsize="medium")
    handles = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(handles), columns + 1, 4),
        fontsize="small", frameon=False,
    )  # fmt: skip
    return figure


def _forms(selection):
    """Key of `FORMS` of every candidate."""
    haadf = np.asarray(selection["lambda_haadf"], dtype=float)
    told = (map(bool, selection[name]) for name in ("guided", "relative"))
    return [
        (regularization, guided, bool(weight > 0), relative)
        for regularization, guided, relative, weight in zip(selection["regularization"], *told, haadf)
    ]


def _plot_forms(selection):
    """Score of every form, where they differ in nothing else."""
    import matplotlib.pyplot as plt

    names, colors, markers = zip(*(FORMS[form] for form in _forms(selection)))
    figure, ax = plt.subplots(figsize=(4.6, 0.9 + 0.35 * len(names)), layout="constrained")
    scores = np.asarray(selection["score"], dtype=float)
    for row, (score, color, marker) in enumerate(zip(scores, colors, markers)):
        ax.scatter(score, row, 30, color=color, marker=marker, linewidths=0)
    chosen = selection["chosen"]
    ax.scatter(
        scores[chosen], chosen, 110, facecolors="none", edgecolors="black", linewidths=1.3, label="chosen"
    )
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.margins(y=0.2)
    ax.set_xlabel(SCORE)
    ax.legend(fontsize="small", frameon=False)
    return figure


def _limits(scores):
    """Range of the scores that is shown."""
    lowest = min(float(scores.min()), 0.0)
    highest = min(float(scores.max()), lowest + CUT * max(float(np.median(scores)) - lowest, 1e-12))
    margin = 0.06 * max(highest - lowest, 1e-12)
    return lowest - margin, highest + margin
