"""Raw maps above fused maps: what fusion did, at a glance."""

import numpy as np

from .image import (
    add_caption,
    add_scale_bar,
    aspect_of,
    color_limits,
    display_data,
    show_image,
    value_label,
)
from .overlay import choose_elements

# Inches per column; the height follows from the shape of the field.
COLUMN_WIDTH = 2.3

MAPS_CMAP = "inferno"
HAADF_CMAP = "gray"
RESIDUAL_CMAP = "RdBu_r"


def plot_maps(model, elements=None, errors=False):
    """Plot raw maps above fused maps, one column per element, and the HAADF image above its fit.

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
    figure, axes = _grid(model.maps, rows, len(elements) + with_haadf)

    # Each is made anew by the model every time it is asked for.
    fused, label = model.fused, value_label(model.maps)
    for column, element in zip(axes.T, elements):
        error = standard_error.get_map(element) if errors else None
        _draw_element(column, model.maps.get_map(element), fused.get_map(element), error, label)
        column[0].set_title(element)
    for ax, name in zip(axes[:, 0], rows):
        ax.set_ylabel(name)
    add_scale_bar(axes[0, 0], model.maps)
    if with_haadf:
        _draw_haadf(axes[:, -1], model)
    return figure


def _grid(maps, rows, n_columns):
    import matplotlib.pyplot as plt

    # Colour bars and titles need their room as well.
    height = len(rows) * COLUMN_WIDTH * aspect_of(maps) + 1.0 + 0.6 * (len(rows) - 2)
    return plt.subplots(
        len(rows),
        n_columns,
        figsize=(COLUMN_WIDTH * n_columns + 0.4, height),
        squeeze=False,
        layout="compressed",
    )


def _draw_element(axes, raw, fused, error, label):
    raw_data, extent = display_data(raw)
    fused_data, _ = display_data(fused)
    low, high = color_limits(fused_data)
    for ax, data in zip(axes, (raw_data, fused_data)):
        shown = show_image(ax, data, extent, cmap=MAPS_CMAP, vmin=low, vmax=high)
    _add_color_bar(shown, axes[:2], label, _extend((raw_data, fused_data), low, high))
    if error is not None:
        data, extent = display_data(error)
        low, high = color_limits(data)
        shown = show_image(axes[2], data, extent, cmap=MAPS_CMAP, vmin=low, vmax=high)
        _add_color_bar(shown, axes[2:], label, _extend((data,), low, high))


def _draw_haadf(axes, model):
    haadf, extent = display_data(model.haadf)
    fit, _ = display_data(model.haadf_fit)
    low, high = color_limits(haadf, fit)
    for ax, data, caption in zip(axes, (haadf, fit), ("measured", "fit")):
        shown = show_image(ax, data, extent, cmap=HAADF_CMAP, vmin=low, vmax=high)
        add_caption(ax, caption)
    axes[0].set_title("HAADF")
    _add_color_bar(shown, axes[:2], "Intensity", _extend((haadf, fit), low, high))
    if len(axes) > 2:
        residual, _ = display_data(model.haadf_residual)
        _, high = color_limits(abs(residual))
        shown = show_image(axes[2], residual, extent, cmap=RESIDUAL_CMAP, vmin=-high, vmax=high)
        add_caption(axes[2], "measured minus fit")
        _add_color_bar(shown, axes[2:], "Intensity", _extend((residual,), -high, high))


def _add_color_bar(shown, axes, label, extend):
    from matplotlib.ticker import MaxNLocator

    bar = axes[0].figure.colorbar(
        shown, ax=list(axes), location="bottom", label=label, extend=extend, aspect=16, pad=0.02
    )
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def _extend(images, low, high):
    below = any(np.nanmin(image) < low for image in images)
    above = any(np.nanmax(image) > high for image in images)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
