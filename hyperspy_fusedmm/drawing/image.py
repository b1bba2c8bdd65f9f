"""Images as microscopists show them: calibrated, undistorted, with a scale bar and no ticks."""

import numpy as np

# Wider images are binned before they are drawn: no screen or page shows more.
LARGEST_SIZE = 2048

# Largest width and height of a panel, for the side of a square one.
WIDEST, TALLEST = 1.4, 1.8
# Height over width above which an image is so narrow that its scale bar takes up more of it, and above
# which the label of the bar would be wider than the bar.
NARROW, NARROWER = 1.5, 2.5

# Thickness of a colour bar and its distance from the image, in inches.
BAR, BAR_GAP = 0.1, 0.07
# Width of a digit of its numbers, with some room, in inches.
DIGIT = 0.09

# Lengths a scale bar may have, times a power of ten.
NICE_LENGTHS = (1, 2, 5)


def display_data(signal, largest_size=LARGEST_SIZE):
    """Values of an image, binned to a size that can be shown.

    Parameters
    ----------
    signal : hyperspy.api.signals.Signal2D
        One image, eager or lazy.
    largest_size : int, default 2048
        Rows and columns above which pixels are averaged in squares.

    Returns
    -------
    data : numpy.ndarray of shape (r, c)
        Mean of the pixels in each square: the unit does not change.
    extent : tuple of float
        Left, right, bottom and top edge in the units of the axes, rows counted downwards.
    """
    data = signal.data.reshape(signal.data.shape[-2:])
    factor = int(np.ceil(max(data.shape) / largest_size))
    row_factor, column_factor = (min(factor, size) for size in data.shape)
    if factor > 1:
        data = _binned(data, row_factor, column_factor)
    data = np.asarray(data)
    x, y = signal.axes_manager.signal_axes
    left, top = x.offset - x.scale / 2, y.offset - y.scale / 2
    right = left + data.shape[1] * column_factor * x.scale
    bottom = top + data.shape[0] * row_factor * y.scale
    return data, (left, right, bottom, top)


def _binned(data, row_factor, column_factor):
    import dask.array as da

    lazy = data if hasattr(data, "dask") else da.from_array(data, chunks=(1024, -1))
    factors = {0: row_factor, 1: column_factor}
    return da.coarsen(np.mean, lazy, factors, trim_excess=True).compute()


def show_image(ax, data, extent, **options):
    """Draw an image with its first row at the top and no ticks.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    data, extent
        As `display_data` returns them; data may be RGB.
    **options
        Options of ``Axes.imshow``.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    left, right, bottom, top = extent
    # Pixels stay squares, unless there are more of them than fit on the page.
    interpolation = "nearest" if max(np.shape(data)[:2]) <= 512 else "auto"
    shown = ax.imshow(
        data, extent=extent, origin="upper", aspect="equal", interpolation=interpolation, **options
    )
    # A negative scale would otherwise turn the image round: pixels are shown in stored order.
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    return shown


def color_limits(*images, percentile=99.8):
    """Colour limits that a few outliers do not decide.

    Parameters
    ----------
    *images : numpy.ndarray
        The limits are taken over the values of all of them; NaN does not count.
    percentile : float, default 99.8
        Percentile that becomes the upper limit; the lower one is 100 minus this, or 0 where that
        is closer to it than a tenth of the range, as for counts.

    Returns
    -------
    low, high : float
        ``low < high``.
    """
    values = np.concatenate([np.ravel(image) for image in images])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, (100 - percentile, percentile)))
    if high <= low:
        # Fewer pixels than the percentile leaves out hold all there is to see.
        low, high = float(values.min()), float(values.max())
    if abs(low) <= 0.1 * (high - low):
        low = 0.0
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def nice_length(width, share=0.25):
    """The longest of 1, 2, 5, 10, 20, ... that takes up at most a share of a width.

    Parameters
    ----------
    width : float
        Width of the field.
    share : float, default 0.25
        Share of the width.

    Returns
    -------
    float
    """
    longest = abs(width) * share
    power = 10.0 ** np.floor(np.log10(longest))
    # Rounding must not take away a length that fits exactly.
    fitting = [nice * power for nice in NICE_LENGTHS if nice * power <= longest * (1 + 1e-9)]
    return float(max(fitting, default=power))


def add_scale_bar(ax, signal, color="white"):
    """Add a scale bar to an image drawn by `show_image`.

    Parameters
    ----------
    ax : matplotlib Axes
        Where the image is.
    signal : hyperspy.api.signals.Signal2D
        Whose axes give the units; pixels where they have none.
    color : matplotlib colour, default "white"
        Colour of the bar and its label, which get a dark rim to be seen on bright images.

    Returns
    -------
    bar : matplotlib.lines.Line2D
    label : matplotlib.text.Text
    """
    units = units_of(signal)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    ratio = abs((top - bottom) / (right - left))
    length = nice_length(right - left, 0.5 if ratio > NARROW else 0.25)
    # A margin of the same width on both sides, whatever the shape of the field.
    margin = 0.05 * min(abs(right - left), abs(top - bottom))
    rightwards, upwards = np.sign(right - left), np.sign(top - bottom)
    start, height = left + rightwards * margin, bottom + upwards * margin
    narrow = ratio > NARROWER
    (bar,) = ax.plot(
        [start, start + rightwards * length],
        [height, height],
        color=color,
        linewidth=3,
        solid_capstyle="butt",
        path_effects=dark_rim(5),
        zorder=3,
    )
    label = ax.annotate(
        f"{length:g} {units}",
        (start if narrow else start + rightwards * length / 2, height),
        xytext=(0, 3),
        textcoords="offset points",
        ha="left" if narrow else "center",
        va="bottom",
        color=color,
        fontsize="small",
        fontweight="bold",
        path_effects=dark_rim(2.5),
        zorder=3,
    )
    return bar, label


def add_color_bar(shown, ax, label, size, extend="neither"):
    """Add a colour bar below an image, of the same thickness whatever the shape of the image.

    Parameters
    ----------
    shown : matplotlib.image.AxesImage
        What the colours belong to.
    ax : matplotlib Axes
        The image that the bar is put below.
    label : str
        What the values are.
    size : (3,) tuple of float
        Width and height of the image and width of its column, in inches.
    extend : {"neither", "min", "max", "both"}, default "neither"
        Ends that are pointed, since there are values beyond.

    Returns
    -------
    matplotlib.colorbar.Colorbar
        Its axes are a child of `ax`, which layouts keep room for.
    """
    from matplotlib.ticker import MaxNLocator

    width, height, column = size
    # Bars of columns wider than their images do not touch.
    share = max(1.0, 0.92 * column / width)
    place = ((1 - share) / 2, -(BAR_GAP + BAR) / height, share, BAR / height)
    bar = ax.figure.colorbar(
        shown, cax=ax.inset_axes(place, label="<colorbar>"), orientation="horizontal", extend=extend
    )
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="small")
    # The common factor of the numbers.
    bar.ax.xaxis.get_offset_text().set_fontsize("small")
    digits = max(len(f"{limit:.0f}") for limit in shown.get_clim())
    bar.locator = MaxNLocator(int(np.clip(column / (DIGIT * max(digits, 4) + DIGIT) - 1, 1, 4)))
    bar.update_ticks()
    return bar


def add_caption(ax, text, color="white"):
    """Write a few words into the upper left corner of an image."""
    return ax.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(4, -4),
        textcoords="offset points",
        ha="left",
        va="top",
        color=color,
        fontsize="small",
        fontweight="bold",
        path_effects=dark_rim(2.5),
        zorder=3,
    )


def dark_rim(width):
    """What makes white text and lines stand out on bright images."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]


def panel_size(signal, side):
    """Width and height, in inches, of the panel of an image: about the area of a square, whatever its shape.

    Parameters
    ----------
    signal : hyperspy.api.signals.Signal2D
        The image, whose pixels may be other than squares.
    side : float
        Side of a square image, in inches.

    Returns
    -------
    width, height : float
        Never more than 1.4 and 1.8 times the side.
    """
    ratio = _height_over_width(signal)
    width, height = side / np.sqrt(ratio), side * np.sqrt(ratio)
    fitted = min(1.0, WIDEST * side / width, TALLEST * side / height)
    return float(width * fitted), float(height * fitted)


def _height_over_width(signal):
    x, y = signal.axes_manager.signal_axes
    # Lines of pixels are still to be seen.
    return float(np.clip(abs(y.size * y.scale) / abs(x.size * x.scale), 0.02, 50))


def units_of(signal):
    """Units of the horizontal axis as they are printed: ``"µm"`` for ``"um"``, ``"px"`` for none."""
    units = signal.axes_manager.signal_axes[0].units
    if not isinstance(units, str) or not units.strip():
        return "px"
    return {"um": "µm", "A": "Å", "angstrom": "Å"}.get(units, units)


def value_label(signal):
    """What the values of a signal are, as far as it says so or shows it.

    Parameters
    ----------
    signal : ElementMaps
        Raw maps.

    Returns
    -------
    str
        ``metadata.Signal.quantity``, else ``"Counts"`` for whole numbers, else nothing.
    """
    quantity = signal.metadata.get_item("Signal.quantity", None)
    if quantity:
        return str(quantity)
    first = np.asarray(signal.data[(0,) * (signal.data.ndim - 2)])
    whole = np.all(first >= 0) and np.array_equal(first, np.round(first)) and first.max() > 0
    return "Counts" if whole else ""
