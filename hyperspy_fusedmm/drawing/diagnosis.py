"""What the HAADF image is worth: its residual, its influence, and its residual against its fit."""

import numpy as np

from .image import (
    add_scale_bar,
    aspect_of,
    color_limits,
    display_data,
    show_image,
)
from .overlay import choose_elements

COLUMN_WIDTH = 2.6
LARGEST_COLUMNS = 4
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
    rows = int(np.ceil(len(elements) / LARGEST_COLUMNS))
    columns = max(3, int(np.ceil(len(elements) / rows)))
    height = COLUMN_WIDTH * aspect_of(model.haadf)
    heights = height + 1.0, rows * (height + 0.3)
    figure = plt.figure(
        figsize=(COLUMN_WIDTH * columns + 0.6, sum(heights)), layout="constrained"
    )
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    axes = upper.subplots(1, 3, width_ratios=(1, 1, 1.2))
    _draw_image(axes[0], model)
    _draw_residual(axes[1], model)
    _draw_against_fit(axes[2], model)
    _draw_influence(lower, model, elements, (rows, columns))
    return figure


def _draw_image(ax, model):
    data, extent = display_data(model.haadf)
    low, high = color_limits(data)
    shown = show_image(ax, data, extent, cmap="gray", vmin=low, vmax=high)
    ax.set_title("HAADF image", fontsize="medium")
    add_scale_bar(ax, model.haadf)
    _color_bar(shown, ax, "Intensity")


def _draw_residual(ax, model):
    data, extent = display_data(_in_sigma(model))
    # Pixels that the model leaves out have no residual.
    data = np.where(np.isfinite(data), data, np.nan)
    high = max(NARROWEST, color_limits(np.abs(data))[1])
    shown = show_image(ax, data, extent, cmap=RESIDUAL_CMAP, vmin=-high, vmax=high)
    ax.set_facecolor("0.6")
    ax.set_title("image − fit", fontsize="medium")
    add_scale_bar(ax, model.haadf)
    extend = "both" if np.nanmax(np.abs(data)) > high else "neither"
    _color_bar(shown, ax, "standard deviations", extend=extend)


def _draw_against_fit(ax, model):
    from matplotlib.colors import LogNorm

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
    ax.set_title("image − fit against fit", fontsize="medium")
    ax.set_xlabel("fitted intensity")
    ax.set_ylabel("standard deviations")
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


def _draw_influence(figure, model, elements, shape):
    influence = model.haadf_influence()
    axes = figure.subplots(*shape, squeeze=False).ravel()
    for ax, element in zip(axes, elements):
        data, extent = display_data(influence.get_map(element))
        shown = show_image(ax, data, extent, cmap=INFLUENCE_CMAP, vmin=0, vmax=1)
        ax.set_title(element, fontsize="medium")
    for ax in axes[len(elements) :]:
        ax.set_axis_off()
    add_scale_bar(axes[0], model.maps)
    bar = figure.colorbar(
        shown, ax=list(axes), location="right", shrink=0.85, aspect=18 * shape[0], pad=0.02,
        ticks=[0, 0.5, 1],
    )  # fmt: skip
    bar.ax.set_yticklabels(["0 counts", "0.5", "1 image"])
    bar.set_label("influence of the HAADF image")


def _in_sigma(model):
    """The residual in standard deviations of the image from its model, as a signal."""
    residual = model.haadf_residual
    noise = np.asarray(model.haadf_noise, dtype=float) * model.image_scale
    with np.errstate(invalid="ignore"):
        values = np.where(np.isfinite(noise), residual.data / noise, np.nan)
    return residual._deepcopy_with_new_data(values)


def _color_bar(shown, ax, label, extend="neither"):
    from matplotlib.ticker import MaxNLocator

    bar = ax.figure.colorbar(
        shown, ax=ax, location="bottom", label=label, extend=extend, aspect=18, pad=0.03
    )
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
