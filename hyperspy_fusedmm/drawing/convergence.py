"""How the terms of the objective and its distance to the optimum went down."""

import numpy as np

TERMS = {
    "haadf": ("HAADF", "#3b6fb6"),
    "chem": ("counts", "#c44e52"),
    "tv": ("regularization", "#4f9d69"),
    "regularization": ("regularization", "#4f9d69"),
    "total": ("total", "black"),
}

# What tells how far the end is: a bound for the convex problem, a residual for the other.
DISTANCES = {"gap": "duality gap", "stationarity": "stationarity residual"}


def plot_convergence(history, ax=None):
    """Plot each term of the objective, their total, and the duality gap against the iteration.

    The likelihood of the counts has no natural zero and is often negative, and the terms differ
    in size. So each is shown as what it has left to go: its value less its last value, on one
    axis that is logarithmic on both sides of 0 and linear close to it, where a change no longer
    counts (about a ten-thousandth of the largest term). The last values stand in the legend.
    Terms may rise while the total falls. The gap has a logarithmic axis of its own.

    Parameters
    ----------
    history : dict of array_like
        Of equal lengths: ``"iteration"``, and any of ``"haadf"``, ``"chem"``, ``"tv"``,
        ``"total"`` (terms), ``"gap"`` or ``"stationarity"``. Terms that are NaN throughout, or
        absent, are left out, and so are single iterations at which the gap was not computed.
    ax : matplotlib Axes, optional
        Where to draw; it is split in two where there is a gap. By default a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the history has no iterations, no terms, or arrays of different lengths.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.drawing import plot_convergence
    >>> iteration = np.arange(10, 200, 10)
    >>> decay = np.exp(-iteration / 30)
    >>> figure = plot_convergence({"iteration": iteration, "total": 5 + decay, "gap": decay})
    """
    from matplotlib.ticker import MaxNLocator

    history = check_history(history)
    distance = next((name for name in DISTANCES if name in history), None)
    terms_ax, distance_ax = _axes(ax, distance is not None)
    _plot_terms(terms_ax, history)
    lowest_ax = terms_ax
    if distance is not None:
        _plot_distance(distance_ax, history["iteration"], history[distance], DISTANCES[distance])
        terms_ax.tick_params(labelbottom=False)
        lowest_ax = distance_ax
    lowest_ax.set_xlabel("Iteration")
    lowest_ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return terms_ax.figure


def check_history(history):
    """The history as arrays, without what holds no finite value.

    Parameters
    ----------
    history : dict of array_like
        See `plot_convergence`.

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    ValueError
        See `plot_convergence`.
    """
    known = ["iteration", *TERMS, *DISTANCES]
    arrays = {
        name: np.atleast_1d(np.asarray(history[name], dtype=float))
        for name in known
        if name in history
    }
    lengths = {name: values.size for name, values in arrays.items()}
    if not lengths.get("iteration"):
        raise ValueError(f"history: found {list(history)}; iterations are needed.")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"history: found arrays of different lengths, {lengths}.")
    finite = {name: values for name, values in arrays.items() if np.any(np.isfinite(values))}
    if not any(name in finite for name in TERMS):
        raise ValueError(f"history: found {list(history)}; one of {list(TERMS)} is needed.")
    return finite


def _axes(ax, with_distance):
    import matplotlib.pyplot as plt

    if ax is None:
        rows = 2 if with_distance else 1
        _, axes = plt.subplots(
            rows,
            1,
            sharex=True,
            squeeze=False,
            figsize=(6, 2 + 1.8 * rows),
            height_ratios=(3, 2)[:rows],
            layout="constrained",
        )
        return axes[0, 0], axes[-1, 0]
    if not with_distance:
        return ax, ax
    return ax, _split(ax)


def _split(ax):
    """Shrink axes to their upper part and return new ones below."""
    place = ax.get_subplotspec()
    if place is None:
        from mpl_toolkits.axes_grid1 import make_axes_locatable

        return make_axes_locatable(ax).append_axes("bottom", size="67%", pad=0.1, sharex=ax)
    # Layouts like "constrained" know of axes in a grid only.
    upper, lower = place.subgridspec(2, 1, height_ratios=(3, 2), hspace=0.1)
    ax.set_subplotspec(upper)
    return ax.figure.add_subplot(lower, sharex=ax)


def _plot_terms(ax, history):
    iteration = history["iteration"]
    for name, (label, color) in TERMS.items():
        if name not in history:
            continue
        last = history[name][np.isfinite(history[name])][-1]
        ax.plot(
            iteration,
            history[name] - last,
            color=color,
            linewidth=2 if name == "total" else 1.5,
            label=f"{label}  ({readable(last)})",
            marker="o" if iteration.size == 1 else None,
        )
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set_yscale("symlog", linthresh=negligible_change(history))
    ax.set_ylabel("Objective less its last value")
    ax.legend(title="last value in brackets", title_fontsize="small", fontsize="small")


def negligible_change(history):
    """Change of the objective that no longer counts: about a ten-thousandth of its largest term.

    Parameters
    ----------
    history : dict of str to numpy.ndarray
        As `check_history` returns it.

    Returns
    -------
    float
        Positive.
    """
    sizes = [
        np.abs(history[name][np.isfinite(history[name])][-1]) for name in TERMS if name in history
    ]
    largest = float(max(sizes))
    # A power of ten, where the axis has its ticks.
    return 10.0 ** np.floor(np.log10(1e-4 * largest)) if largest > 0 else 1.0


def readable(value):
    """A number to four digits, without an exponent unless it takes one: ``"-15,030"``."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


def _plot_distance(ax, iteration, values, label):
    # Zero, as the gap may be to rounding, has no place on a logarithmic axis.
    shown = np.isfinite(values) & (values > 0)
    ax.plot(
        iteration[shown],
        values[shown],
        color="black",
        linewidth=1.5,
        marker="o" if shown.sum() < 30 else None,
        markersize=3,
    )
    ax.set_yscale("log")
    ax.set_ylabel(label.capitalize())
    ax.grid(True, which="major", color="0.9")
