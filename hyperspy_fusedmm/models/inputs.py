"""The maps and the image of a fusion: one grid, finite values, contrast."""

import numpy as np

from ..signals.grid import check_same_grid, check_uniform, warn_of_other_origin
from ..signals.names import QUANTITIES
from ..signals.warning import warn_caller
from .checks import values_of

# Sums of fractions and of per cent at a pixel; rounded to so much of them, and at so many of the pixels.
WHOLES, ROUNDED, NEARLY_ALL = (1.0, 100.0), 2e-3, 0.99


def check_maps(maps):
    """Refuse what are no element maps.

    Parameters
    ----------
    maps : object

    Raises
    ------
    TypeError
    """
    if not hasattr(maps, "_map_names"):
        raise TypeError(
            f"maps: found {maps!r}; element maps are needed, as element_maps() makes them."
        )


def named_maps(maps):
    """Names of the maps, after checking that there is one for each and that the grid is regular.

    Parameters
    ----------
    maps : ElementMaps

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
    """
    series = maps.axes_manager.navigation_dimension > (maps._element_axis is not None)
    if maps.axes_manager.signal_dimension != 2 or series:
        raise ValueError(
            f"maps: found {maps!r}; dimensions (Element|x, y) are needed. Choose one frame with inav, "
            "or sum over the other axes."
        )
    if not maps.elements:
        raise ValueError(
            "maps: found no element names; set metadata.Sample.elements, one per map, or use "
            "element_maps(source, elements=[...])."
        )
    check_uniform(maps.axes_manager.signal_axes, "maps")
    return maps._map_names()


def finite_maps(data, names):
    """Refuse NaN and infinite values.

    Parameters
    ----------
    data : (E, R, C) array
    names : list of str

    Raises
    ------
    ValueError
    """
    for name, values in zip(names, data):
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise ValueError(
                f"maps: found {wrong} NaN or infinite values in the map of {name}; finite values are "
                "needed."
            )


def empty_maps(data, names):
    """Which maps are zero everywhere; warns about them.

    Parameters
    ----------
    data : (E, R, C) array
    names : list of str

    Returns
    -------
    (E,) array of bool

    Warns
    -----
    UserWarning
    """
    empty = np.array([not values.any() for values in data])
    if empty.any():
        which = ", ".join(name for name, gone in zip(names, empty) if gone)
        found = "maps of {} are zero everywhere; they stay zero and get"
        if empty.sum() == 1:
            found = "map of {} is zero everywhere; it stays zero and gets"
        warn_caller(f"maps: the {found.format(which)} no weight in the HAADF image.")
    return empty


def warn_of_quantified(maps, data):
    """Warn where maps are the result of a quantification, not what was counted.

    Parameters
    ----------
    maps : ElementMaps
        Whose metadata may say so.
    data : (E, R, C) array
        Their finite values.

    Warns
    -----
    UserWarning
    """
    quantity = str(maps.metadata.get_item("Signal.quantity", None) or "")
    if quantity in QUANTITIES.values() or "%" in quantity or "percent" in quantity.lower():
        found = f"they are called {quantity!r} (metadata.Signal.quantity)"
    elif (whole := _whole(data)) is not None:
        # No metadata came along, but fractions of several elements make a whole everywhere.
        found = f"they add up to {whole:g} at every pixel, as fractions or per cent do"
    else:
        return
    warn_caller(
        f"maps: {found}, not counts. Quantified maps do not tell how many counts a pixel had, and with that how "
        "sure it is, and sensitivities (k-factors) have been divided out of them already: do not pass any. Better "
        "fuse the counts, such as eXSpy's get_lines_intensity() returns, and quantify the fused maps afterwards, "
        "with fused.atomic_percent(sensitivities) or with eXSpy."
    )


def _whole(data):
    """1 or 100 where the maps add up to that at all pixels that are not empty, else None."""
    if len(data) < 2 or data.min() < 0:
        return None
    total = data.sum(axis=0, dtype=float)
    total = total[total > 0]
    for whole in WHOLES:
        if total.size and (abs(total - whole) <= ROUNDED * whole).mean() >= NEARLY_ALL:
            # Of few counts most pixels hold none or a single one.
            return None if all((values == np.rint(values)).all() for values in data) else whole
    return None


def haadf_image(haadf, maps):
    """A copy, in memory, of a HAADF image that lies on the grid of the maps.

    Parameters
    ----------
    haadf : Signal2D, or array of shape (R, C)
    maps : ElementMaps

    Returns
    -------
    Signal2D

    Raises
    ------
    ValueError
        If it is not one real image with contrast, or lies on another grid.

    Warns
    -----
    UserWarning
        If image and maps begin at different places.
    """
    image = image_on_grid(haadf, maps)
    image = image._deepcopy_with_new_data(np.array(values_of(image)))
    if image._lazy:
        image._lazy = False
        image._assign_subclass()
    _check_contrast(image.data)
    return image


def image_on_grid(haadf, maps):
    """A HAADF image that lies on the grid of the maps; its values are not looked at.

    Parameters
    ----------
    haadf : Signal2D, or array of shape (R, C)
    maps : ElementMaps

    Returns
    -------
    Signal2D
        Lazy if `haadf` is; its values are not copied.

    Raises
    ------
    ValueError
        If it is not one image of real numbers, or lies on another grid.

    Warns
    -----
    UserWarning
        If image and maps begin at different places.
    """
    from hyperspy.signal import BaseSignal
    from hyperspy.signals import LazySignal2D, Signal2D

    grid = maps.axes_manager.signal_axes[::-1]
    if not isinstance(haadf, BaseSignal):
        lazy = hasattr(haadf, "dask")
        array = haadf if lazy else values_of(haadf)
        if array.ndim != 2 or array.dtype.kind not in "buif":
            raise ValueError(
                f"haadf: found {type(haadf).__name__} of shape {array.shape} and type {array.dtype}; "
                "a Signal2D or an array of shape (rows, columns) is needed."
            )
        axes = [axis.get_axis_dictionary() for axis in grid]
        for axis, size in zip(axes, array.shape):
            axis["size"] = size
        haadf = (LazySignal2D if lazy else Signal2D)(array, axes=axes)
        haadf.metadata.General.title = "HAADF"
    dimensions = (haadf.axes_manager.navigation_dimension, haadf.axes_manager.signal_dimension)
    if dimensions not in ((0, 2), (2, 0)) or haadf.data.dtype.kind not in "buif":
        raise ValueError(
            f"haadf: found {haadf!r} of type {haadf.data.dtype}; one two-dimensional image of real "
            "numbers is needed. Sum frames with haadf.sum(), or choose one with inav."
        )
    image = haadf.transpose(signal_axes=2) if dimensions == (2, 0) else haadf
    grids = image.axes_manager.signal_axes[::-1], grid
    check_same_grid(*grids, "haadf", "the element maps")
    warn_of_other_origin(*grids, "haadf", "the element maps")
    return image


def _check_contrast(image):
    wrong = int((~np.isfinite(image)).sum())
    if wrong:
        raise ValueError(
            f"haadf: found {wrong} NaN or infinite pixels; finite values are needed. Replace them, and "
            "exclude them with an infinite haadf_noise there."
        )
    if image.min() == image.max():
        raise ValueError(
            f"haadf: found {image.flat[0]} at every pixel; an image with contrast is needed. Pass "
            "haadf=None to use the counts alone."
        )
