"""How often each composition occurs, with the phases found in it."""

from dataclasses import replace

import numpy as np

from ..signals.composition import phases_of, require_percent
from ..solver.mixture import density
from .overlay import choose_colors, choose_elements

LARGEST_COLUMNS = 4
BINS = 100
# A bin is never narrower, in atomic percent: flat specimens are to look flat.
NARROWEST_BIN = 0.05
# Share of the values left out of the range at either end: outliers would squeeze all the rest.
OUTSIDE = 0.001
# A bin this many times as high as any not beside it is cut off.
SPIKE = 5.0


def plot_composition_histogram(percent, elements=None, phases="auto", colors=None, axes=None):
    """Plot histograms of atomic percent, and the Gaussians fitted to them, up to four in a row.

    Every pixel that has a composition counts once. The legend of each element gives mean, standard
    deviation and share of its phases; ``percent.composition_phases()`` returns these numbers.

    Parameters
    ----------
    percent : ElementMaps
        Atomic percent, as ``atomic_percent()`` returns it; lazy maps are computed.
    elements : list of str, optional
        Elements to draw; all by default.
    phases : "auto", int, or dict of element to these, default "auto"
        Number of Gaussians; see :meth:`ElementMaps.composition_phases`.
    colors : list or dict of matplotlib colours, optional
        One per element.
    axes : sequence of matplotlib Axes, optional
        Where to draw, one per element; by default a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the maps are not atomic percent, an element is not among them, or there are not as many axes as
        elements.

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> from hyperspy_fusedmm.drawing import plot_composition_histogram
    >>> film = fmm.data.gallium_oxide_film(shape=(32, 32), dose=10)
    >>> fused = film.maps.fuse(
    ...     film.haadf, sensitivities=film.sensitivities, show_progressbar=False
    ... )
    >>> figure = plot_composition_histogram(fused.atomic_percent())
    """
    import matplotlib.pyplot as plt

    require_percent(percent)
    elements = choose_elements(percent, elements)
    colors = [_on_white(c) for c in choose_colors(choose_elements(percent), elements, colors)]
    if axes is not None and len(np.ravel(axes)) != len(elements):
        raise ValueError(
            f"axes: found {len(np.ravel(axes))} for {len(elements)} elements "
            f"({', '.join(elements)}); one per element is needed."
        )
    found = phases_of(percent, elements, phases)
    if axes is None:
        rows = -(-len(elements) // LARGEST_COLUMNS)
        columns = -(-len(elements) // rows)
        size = (3.1 * columns + 0.3, 3.0 * rows)
        _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        for unused in grid.flat[len(elements) :]:
            unused.remove()
        axes = grid.flat[: len(elements)]
    axes = list(np.ravel(axes))
    for ax, element, color in zip(axes, elements, colors):
        values = np.asarray(percent.get_map(element).data).ravel()
        _draw(ax, values[np.isfinite(values)], found[element], color)
        ax.set_xlabel(f"{element} (at. %)")
        place = ax.get_subplotspec()
        if place is None or place.is_first_col():
            ax.set_ylabel("Pixels")
    return axes[0].figure


def histogram_edges(values):
    """Edges of the bins shown: the range of the values without outliers.

    Parameters
    ----------
    values : (N,) array
        Finite.

    Returns
    -------
    (B + 1,) array
        Rising.
    """
    if not values.size:
        return np.linspace(0, 100, BINS + 1)
    low, high = np.quantile(values, (OUTSIDE, 1 - OUTSIDE)).astype(float)
    middle, half = (low + high) / 2, max((high - low) / 2 * 1.05, NARROWEST_BIN * BINS / 2)
    return np.linspace(middle - half, middle + half, BINS + 1)


def _draw(ax, values, phases, color):
    edges = histogram_edges(values)
    heights, _, _ = ax.hist(values, bins=edges, color=color, alpha=0.35, histtype="stepfilled")
    # Each phase at the height that its share of the pixels has in bins of this width.
    width = edges[1] - edges[0]
    position = np.linspace(edges[0], edges[-1], 10 * BINS + 1)
    curves = [values.size * width * _binned_density(position, p, width) for p in phases]
    for phase, curve in zip(phases, curves):
        ax.plot(position, curve, color=color, linewidth=1.5, label=str(phase))
    ax.set_xlim(edges[0], edges[-1])
    _cut_spike(ax, heights, edges)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if phases:
        ax.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, handlelength=1.0,
            fontsize="small", borderaxespad=0.2,
        )  # fmt: skip


def _cut_spike(ax, heights, edges):
    """Cut off a bin that towers over all else, such as pixels without any of an element, and say so."""
    tallest = int(heights.argmax())
    others = np.delete(heights, slice(max(tallest - 2, 0), tallest + 3))
    highest = others.max(initial=0.0)
    if not 0 < SPIKE * highest < heights[tallest]:
        return
    ax.set_ylim(0, 1.5 * highest)
    place = (edges[tallest] + edges[tallest + 1]) / 2
    on_left = place < (edges[0] + edges[-1]) / 2
    ax.annotate(
        f"to {heights[tallest]:,.0f}", (place, 1), xycoords=("data", "axes fraction"),
        xytext=(6 if on_left else -6, -2), textcoords="offset points", fontsize="small",
        ha="left" if on_left else "right", va="top",
    )  # fmt: skip


def _binned_density(position, phase, width):
    """Density of a phase as bins of this width show it: peaks narrower than a bin are spread over it."""
    # The variance of a bin is that of a uniform distribution.
    spread = float(np.hypot(phase.spread, width / np.sqrt(12)))
    return density(position, [replace(phase, spread=spread)])[0]


def _on_white(color):
    """A colour that is dark enough to be seen on white."""
    # Colours of overlays are made for black.
    brightness = float(np.dot(color, (0.3, 0.59, 0.11)))
    return tuple(np.array(color) * min(1.0, 0.55 / max(brightness, 1e-6)))
