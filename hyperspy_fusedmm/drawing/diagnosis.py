"""What the HAADF image is worth: its residual, its influence, and its residual against its fit."""

import numpy as np

from .image import (
    add_color_bar,
    add_scale_bar,
    color_limits,
    display_data,
    panel_size,
    show_image,
)
from .overlay import choose_elements

# Side of a square image, least width of a column, size of the graph, and most of the width of a figure, in
# inches.
SIDE, NARROWEST, GRAPH, WIDEST_FIGURE = 2.6, 1.5, (3.1, 2.4), 11.0
# Height over width below which the residual is put below the image instead of beside it.
FLAT = 0.6
# Thickness of the colour bar, in inches.
BAR = 0.1
RESIDUAL_CMAP = "RdBu_r"
INFLUENCE_CMAP = "viridis"
# Limits of the residual, in standard deviations: never so narrow that noise looks like structure.
NARROWEST = 3.0
CLASSES = 20
# Pixels in a class below which its mean says nothing.
FEWEST_PIXELS = 10


def plot_diagnosis(model, elements=None):
    """Plot what the HAADF image is worth.

    Upper row: the HAADF image, its residual, and its residual against its fit, with the mean in classes of
    equal intensity and the parabola through it; both residuals in units of ``model.haadf_noise``. Lower row: the
    influence of the image on each element, from 0 (its counts alone) to 1 (the image alone).

    Parameters
    ----------
    model : FusedMultiModal
        A fitted model with a HAADF image: its `maps`, `haadf`, `haadf_fit`, `haadf_residual`, `haadf_noise` and
        ``haadf_influence()`` are drawn.
    elements : list of str, optional
        Elements to draw; all by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If an element is not among the maps.

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> from hyperspy_fusedmm.drawing import plot_diagnosis
    >>> specimen = fmm.data.core_shell_particles(shape=(32, 32))
    >>> model = specimen.maps.create_model(specimen.haadf, sensitivities=specimen.sensitivities)
    >>> model.fit(lambda_tv="noise", show_progressbar=False)
    >>> figure = plot_diagnosis(model)
    """
    import matplotlib.pyplot as plt

    elements = choose_elements(model.maps, elements)
    width, height = panel_size(model.haadf, SIDE)
    size = width, height, max(width, NARROWEST)
    flat = height < FLAT * width
    across = size[2] * (1 if flat else 2) + GRAPH[0]
    # As many rows as it takes, of about the same length.
    rows = -(-len(elements) // max(1, int(WIDEST_FIGURE / size[2])))
    columns = -(-len(elements) // rows)
    heights = max((2 if flat else 1) * (height + 1.15), GRAPH[1] + 0.7), rows * (height + 0.3) + 0.6
    figure = plt.figure(
        figsize=(max(across + 0.6, size[2] * columns + 0.2), sum(heights)), layout="constrained"
    )
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    image, residual, graph = _upper_axes(upper, size, flat)
    _draw_image(image, model, size)
    _draw_residual(residual, model, size)
    _draw_against_fit(graph, model)
    _draw_influence(lower, model, elements, (rows, columns), height)
    return figure


def _upper_axes(figure, size, flat):
    """Axes of image, residual and graph; images that are wide lie on top of each other."""
    if flat:
        places, widths = [["image", "graph"], ["residual", "graph"]], (size[2], GRAPH[0])
    else:
        places, widths = [["image", "residual", "graph"]], (size[2], size[2], GRAPH[0])
    axes = figure.subplot_mosaic(places, width_ratios=widths)
    # The graph is read best at one shape, whatever that of the images.
    axes["graph"].set_box_aspect(GRAPH[1] / GRAPH[0])
    return axes["image"], axes["residual"], axes["graph"]


def _draw_image(ax, model, size):
    data, extent = display_data(model.haadf)
    low, high = color_limits(data)
    shown = show_image(ax, data, extent, cmap="gray", vmin=low, vmax=high)
    ax.set_title("HAADF image", fontsize="medium")
    add_scale_bar(ax, model.haadf)
    add_color_bar(shown, ax, "Intensity", size)


def _draw_residual(ax, model, size):
    data, extent = display_data(_in_sigma(model))
    # Pixels that the model leaves out have no residual.
    data = np.where(np.isfinite(data), data, np.nan)
    high = max(NARROWEST, color_limits(np.abs(data))[1])
    shown = show_image(ax, data, extent, cmap=RESIDUAL_CMAP, vmin=-high, vmax=high)
    ax.set_facecolor("0.6")
    ax.set_title("image − fit", fontsize="medium")
    add_scale_bar(ax, model.haadf)
    extend = "both" if np.nanmax(np.abs(data)) > high else "neither"
    add_color_bar(shown, ax, "Standard deviations", size, extend)


def _draw_against_fit(ax, model):
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    fit = np.ravel(model.haadf_fit.data).astype(float)
    residual = np.ravel(_in_sigma(model).data)
    used = np.isfinite(residual) & np.isfinite(fit)
    fit, residual = fit[used], residual[used]
    low, high = np.percentile(fit, (0.1, 99.9))
    reach = max(NARROWEST, float(np.percentile(np.abs(residual), 99.8)))
    # Few pixels per cell show nothing.
    bins = int(np.clip(np.sqrt(fit.size) / 3, 20, 100))
    high = high if high > low else low + 1.0
    ax.hist2d(
        fit, residual, bins=bins, range=((low, high), (-reach, reach)), norm=LogNorm(), cmap="Greys"
    )
    ax.axhline(0, color="0.4", linewidth=0.8)
    centres, means, errors = class_means(fit, residual, low, high)
    ax.errorbar(
        centres, means, errors, fmt="o", color="#c44e52", markersize=3.5, elinewidth=1,
        label="mean",
    )  # fmt: skip
    if len(centres) > 3:
        curve = np.polynomial.Polynomial.fit(centres, means, 2, w=1 / np.maximum(errors, 1e-9))
        position = np.linspace(centres[0], centres[-1], 100)
        ax.plot(position, curve(position), color="#c44e52", linewidth=1.2, label="parabola")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_title("image − fit against fit", fontsize="medium")
    ax.set_xlabel("Fitted intensity")
    ax.set_ylabel("Standard deviations")
    ax.legend(frameon=False, fontsize="x-small", loc="upper right", ncols=2, handlelength=1)


def class_means(position, values, low, high, classes=CLASSES):
    """Mean of values in classes of position, and its standard error.

    Parameters
    ----------
    position, values : (N,) array
    low, high : float
        Range of the classes.
    classes : int, default 20

    Returns
    -------
    centres, means, errors : (K,) array
        Of the classes that hold at least 10 values.
    """
    edges = np.linspace(low, high, classes + 1)
    number = np.clip(np.searchsorted(edges, position, side="right") - 1, -1, classes)
    found = []
    for k in range(classes):
        inside = values[number == k]
        if inside.size >= FEWEST_PIXELS:
            error = inside.std(ddof=1) / np.sqrt(inside.size)
            found.append(((edges[k] + edges[k + 1]) / 2, inside.mean(), error))
    return np.array(found).reshape(-1, 3).T


def _draw_influence(figure, model, elements, shape, height):
    influence = model.haadf_influence()
    rows, columns = shape
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[height] * rows + [BAR])
    for number, element in enumerate(elements):
        ax = figure.add_subplot(grid[divmod(number, columns)])
        data, extent = display_data(influence.get_map(element))
        shown = show_image(ax, data, extent, cmap=INFLUENCE_CMAP, vmin=0, vmax=1)
        ax.set_title(element, fontsize="medium")
        if number == 0:
            add_scale_bar(ax, model.maps)
    bar = figure.colorbar(
        shown, cax=figure.add_subplot(grid[rows, :]), orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.ax.set_xticklabels(["0: counts alone", "0.5", "1: image alone"])
    for label, side in zip(bar.ax.get_xticklabels(), ("left", "center", "right")):
        label.set_horizontalalignment(side)
    bar.set_label("Influence of the HAADF image")


def _in_sigma(model):
    """The residual in standard deviations of the image from its model, as a signal."""
    residual = model.haadf_residual
    noise = np.asarray(model.haadf_noise, dtype=float) * model.image_scale
    with np.errstate(invalid="ignore"):
        values = np.where(np.isfinite(noise), residual.data / noise, np.nan)
    return residual._deepcopy_with_new_data(values)
