"""Raw maps above fused maps: what fusion did, at a glance."""

import numpy as np

from .image import (
    add_caption,
    add_color_bar,
    add_scale_bar,
    color_limits,
    display_data,
    panel_size,
    show_image,
    value_label,
)
from .overlay import choose_elements

# Side of a square map, least width of a column and most of a figure, in inches.
SIDE, NARROWEST, WIDEST_FIGURE = 2.3, 1.3, 14.0

MAPS_CMAP = "inferno"
HAADF_CMAP = "gray"
RESIDUAL_CMAP = "RdBu_r"


def plot_maps(model, elements=None, errors=False):
    """Plot raw maps above fused maps, one column per element, and the HAADF image above its fit.

    Columns that do not fit on a page go on below the others.

    The raw and the fused map of an element share their colour limits, which are robust ones of the
    fused map: single pixels of a noisy raw map may lie far above (the pointed end of the colour
    bar says so).

    Parameters
    ----------
    model : FusedMultiModal
        A fitted model: its `maps`, `fused`, `haadf` and `haadf_fit` are drawn.
    elements : list of str, optional
        Elements to draw; all by default.
    errors : bool, default False
        Add a row with the standard error of the fused maps (``model.standard_error()``) and the
        HAADF residual.

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
    >>> from hyperspy_fusedmm.drawing import plot_maps
    >>> specimen = fmm.data.core_shell_particles(shape=(32, 32))
    >>> fused, model = specimen.maps.fuse(
    ...     specimen.haadf, sensitivities=specimen.sensitivities, return_model=True,
    ...     show_progressbar=False,
    ... )
    >>> figure = plot_maps(model)
    """
    elements = choose_elements(model.maps, elements)
    standard_error = model.standard_error() if errors else None
    with_haadf = model.haadf is not None
    rows = ["Raw", "Fused"] + ["Standard error"] * errors
    size = _panel(model.maps)
    columns = _grid(size, rows, len(elements) + with_haadf)

    # Each is made anew by the model every time it is asked for.
    fused, label = model.fused, value_label(model.maps)
    for axes, element in zip(columns, elements):
        error = standard_error.get_map(element) if errors else None
        _draw_element(axes, model.maps.get_map(element), fused.get_map(element), error, label, size)
        axes[0].set_title(element)
    for axes in columns:
        if axes[0].get_subplotspec().is_first_col():
            for ax, name in zip(axes, rows):
                ax.set_ylabel(name)
    add_scale_bar(columns[0][0], model.maps)
    if with_haadf:
        _draw_haadf(columns[-1], model, size)
    return columns[0][0].figure


def _panel(maps):
    """Width and height of a map, and width of its column, in inches."""
    width, height = panel_size(maps, SIDE)
    return width, height, max(width, NARROWEST)


def _grid(size, rows, count):
    """Axes of each column, top to bottom; columns that are too many for a page go on below."""
    import matplotlib.pyplot as plt

    width, height, column = size
    blocks = -(-count // max(2, int(WIDEST_FIGURE / column)))
    across = -(-count // blocks)
    # Titles, colour bars and their labels need their room as well.
    tall = len(rows) * height + 0.3 + 0.65 * (len(rows) - 1)
    figure, axes = plt.subplots(
        blocks * len(rows),
        across,
        figsize=(column * across + 0.4, blocks * tall),
        squeeze=False,
        # Columns that are wider than their images would be pushed together.
        layout="constrained" if column > width else "compressed",
    )
    columns = [
        axes[block * len(rows) : (block + 1) * len(rows), place]
        for block in range(blocks)
        for place in range(across)
    ]
    for unused in columns[count:]:
        for ax in unused:
            ax.remove()
    return columns[:count]


def _draw_element(axes, raw, fused, error, label, size):
    raw_data, extent = display_data(raw)
    fused_data, _ = display_data(fused)
    low, high = color_limits(fused_data)
    for ax, data in zip(axes, (raw_data, fused_data)):
        shown = show_image(ax, data, extent, cmap=MAPS_CMAP, vmin=low, vmax=high)
    add_color_bar(shown, axes[1], label, size, _extend((raw_data, fused_data), low, high))
    if error is not None:
        data, extent = display_data(error)
        low, high = color_limits(data)
        shown = show_image(axes[2], data, extent, cmap=MAPS_CMAP, vmin=low, vmax=high)
        add_color_bar(shown, axes[2], label, size, _extend((data,), low, high))


def _draw_haadf(axes, model, size):
    haadf, extent = display_data(model.haadf)
    fit, _ = display_data(model.haadf_fit)
    low, high = color_limits(haadf, fit)
    for ax, data, caption in zip(axes, (haadf, fit), ("measured", "fit")):
        shown = show_image(ax, data, extent, cmap=HAADF_CMAP, vmin=low, vmax=high)
        add_caption(ax, caption)
    axes[0].set_title("HAADF")
    add_color_bar(shown, axes[1], "Intensity", size, _extend((haadf, fit), low, high))
    if len(axes) > 2:
        residual, _ = display_data(model.haadf_residual)
        _, high = color_limits(abs(residual))
        shown = show_image(axes[2], residual, extent, cmap=RESIDUAL_CMAP, vmin=-high, vmax=high)
        add_caption(axes[2], "measured minus fit" if size[0] > NARROWEST else "measured\nminus fit")
        add_color_bar(shown, axes[2], "Intensity", size, _extend((residual,), -high, high))


def _extend(images, low, high):
    below = any(np.nanmin(image) < low for image in images)
    above = any(np.nanmax(image) > high for image in images)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
