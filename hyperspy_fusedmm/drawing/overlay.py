"""Several element maps in one image, one colour each."""

import numpy as np

from .image import add_scale_bar, display_data, panel_size, show_image

# Light adds: the purer the colours, the later their sum turns white.
COLORS = (
    "#ff1414", "#00e02d", "#2850ff", "#ffc800", "#ff28c8", "#00dcdc", "#ff7800", "#aaaaaa",
    "#8c1eff", "#a5ff00", "#ff96aa", "#a05a28",
)  # fmt: skip
# Share of the colour circle between further colours; by the golden section they never fall together.
GOLDEN = 0.618034
# Maps up to which their colours add as light does: more of them would be white wherever they overlap.
FEW = 3
# Size of a square image, and of an entry of the legend, in inches.
SIDE, ENTRY = 4.2, (1.75, 0.24)
# Power of the share of each of many maps in the colour of a pixel: the strongest ones tell it.
EMPHASIS = 2

# Two elements in colours that colour-blind readers tell apart.
TWO_COLORS = ("#ff40ff", "#40ff40")


def plot_overlay(maps, elements=None, colors=None, percentile=99.5, ax=None):
    """Plot element maps on top of each other, one colour per element.

    Each map is scaled between 0 (black) and a percentile of its values (full colour). Values below 0 are
    shown as 0. The legend gives the value of the full colour. Up to three maps are added, as light adds:
    white is where all are. Of more than three a pixel is as bright as the brightest of them, and its colour
    is a mean of theirs in which each counts with the square of its brightness, so that it tells which
    elements stand out there.

    Parameters
    ----------
    maps : ElementMaps
        Maps to draw; lazy ones are computed.
    elements : list of str, optional
        Elements to draw; all by default.
    colors : list or dict of matplotlib colours, optional
        One per element drawn, or a dict of element to colour. Colours of elements not in the dict,
        and all colours by default, go by the order of the maps, so that an element has the same
        colour in every overlay of the same maps.
    percentile : float, default 99.5
        Percentile of each map, between 0 and 100, that gets the full colour.
    ax : matplotlib Axes, optional
        Where to draw; by default a figure of its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If an element is not among the maps, there are fewer colours than elements, or the
        percentile is out of its range.

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> from hyperspy_fusedmm.drawing import plot_overlay
    >>> specimen = fmm.data.core_shell_particles(shape=(64, 64))
    >>> figure = plot_overlay(specimen.truth, colors={"O": "cyan"})
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must lie above 0 and up to 100, not at {percentile!r}.")
    elements = choose_elements(maps, elements)
    colors = choose_colors(choose_elements(maps), elements, colors)
    images = [display_data(maps.get_map(element)) for element in elements]
    limits = [full_color_value(image, percentile) for image, _ in images]

    columns = None
    if ax is None:
        size, columns = _figure_size(maps, len(elements))
        _, ax = plt.subplots(figsize=size, layout="compressed")
    extent = images[0][1]
    mix = add_colors if len(elements) <= FEW else blend_colors
    show_image(ax, mix([image for image, _ in images], limits, colors), extent)
    add_scale_bar(ax, maps)
    handles = [
        Patch(facecolor=color, edgecolor="0.3", label=f"{element}  (0 to {limit:.3g})")
        for element, color, limit in zip(elements, colors, limits)
    ]
    below = columns is not None
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0) if below else (1.0, 1.0),
        borderaxespad=0.5,
        borderpad=0,
        ncols=columns if below else 1,
        frameon=False,
        handlelength=1.0,
        handleheight=1.0,
    )
    return ax.figure


def _figure_size(maps, elements):
    """Size of a figure with room for the legend, and the columns of a legend below; None for one beside."""
    width, height = panel_size(maps, SIDE)
    if elements * ENTRY[1] <= height:
        return (width + ENTRY[0], height + 0.1), None
    columns = max(1, min(elements, int(width / ENTRY[0])))
    rows = -(-elements // columns)
    return (max(width, ENTRY[0]) + 0.1, height + rows * ENTRY[1] + 0.2), columns


def choose_elements(maps, elements=None):
    """Elements to draw, each of which has a map.

    Parameters
    ----------
    maps : ElementMaps
        Maps.
    elements : list of str, str, or None
        Elements asked for, or X-ray lines where an element has several maps; None for all.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If one is not among the maps, or none is asked for.
    """
    names = maps._map_names()
    if elements is None:
        return names
    elements = [elements] if isinstance(elements, str) else list(elements)
    missing = [element for element in elements if element not in names]
    if missing or not elements:
        raise ValueError(
            f"elements: {', '.join(map(repr, missing)) or 'an empty list'} found; "
            f"the maps are of {', '.join(names)}."
        )
    return elements


def choose_colors(known, elements, colors=None):
    """RGB colour of each element to draw.

    Parameters
    ----------
    known : list of str
        Elements of all maps; their order gives the default colours.
    elements : list of str
        Elements to draw.
    colors : list or dict of matplotlib colours, or None
        See `plot_overlay`.

    Returns
    -------
    list of tuple
        Red, green and blue between 0 and 1.
    """
    from matplotlib.colors import to_rgb

    defaults = TWO_COLORS if len(known) == 2 else COLORS
    palette = {element: _default_color(i, defaults) for i, element in enumerate(known)}
    if colors is None:
        colors = {}
    elif isinstance(colors, str):
        colors = [colors]
    if not isinstance(colors, dict):
        if len(colors) < len(elements):
            raise ValueError(
                f"colors: found {len(colors)} for {len(elements)} elements "
                f"({', '.join(elements)}); one per element is needed."
            )
        colors = dict(zip(elements, colors))
    return [to_rgb(colors.get(element, palette[element])) for element in elements]


def _default_color(number, defaults):
    """A colour of the list; pale ones once that is used up, so that no two maps share one."""
    from matplotlib.colors import hsv_to_rgb

    if number < len(defaults):
        return defaults[number]
    return tuple(hsv_to_rgb((GOLDEN * number % 1, 0.5, 1.0)).tolist())


def full_color_value(image, percentile):
    """Value shown in full colour: a percentile, or the maximum where that is 0; 1 for an empty map."""
    values = image[np.isfinite(image)]
    if not values.size:
        return 1.0
    value = float(np.percentile(values, percentile))
    if value <= 0:
        value = float(values.max())
    return value if value > 0 else 1.0


def add_colors(images, limits, colors):
    """RGB image: the sum of the images, each in its colour.

    Parameters
    ----------
    images : list of numpy.ndarray of shape (R, C)
        Maps.
    limits : list of float
        Value of the full colour of each.
    colors : list of tuple
        RGB of each.

    Returns
    -------
    numpy.ndarray of shape (R, C, 3)
        Between 0 and 1.
    """
    rgb = np.zeros(images[0].shape + (3,), dtype=np.float32)
    for image, limit, color in zip(images, limits, colors):
        rgb += _share(image, limit)[..., None] * np.asarray(color, dtype=np.float32)
    return np.clip(rgb, 0, 1)


def blend_colors(images, limits, colors):
    """RGB image: at every pixel a mean of the colours, dominated by the strongest images, as bright as these.

    Where there is one image only it has its own colour, as in a sum.

    Parameters
    ----------
    images, limits, colors
        As in `add_colors`.

    Returns
    -------
    numpy.ndarray of shape (R, C, 3)
        Between 0 and 1.
    """
    rgb = np.zeros(images[0].shape + (3,), dtype=np.float32)
    total, value, brightest = np.zeros((3,) + images[0].shape, dtype=np.float32)
    for image, limit, color in zip(images, limits, colors):
        share = _share(image, limit)
        weight = share**EMPHASIS
        rgb += weight[..., None] * np.asarray(color, dtype=np.float32)
        total += weight
        value += weight * max(color)
        np.maximum(brightest, share, out=brightest)
    # Different colours make a dull mean; it is brought to the brightness that they have on their own.
    least = np.finfo(np.float32).tiny
    value /= np.maximum(total, least)
    rgb *= (brightest * value / np.maximum(rgb.max(axis=-1), least))[..., None]
    return np.clip(rgb, 0, 1)


def _share(image, limit):
    """Brightness from 0 to 1."""
    return np.clip(np.nan_to_num(image) / limit, 0, 1).astype(np.float32)
