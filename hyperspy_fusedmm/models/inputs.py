"""The maps and the image of a fusion: one grid, finite values, contrast."""

import numpy as np

from ..signals.grid import check_same_grid, check_uniform, warn_of_other_origin
from ..signals.warning import warn_caller
from .checks import values_of


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
        warn_caller(
            f"maps: the map of {which} is zero everywhere; it stays zero and gets no weight in the "
            "HAADF image.",
        )
    return empty


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
    from hyperspy.signal import BaseSignal
    from hyperspy.signals import Signal2D

    grid = maps.axes_manager.signal_axes[::-1]
    if not isinstance(haadf, BaseSignal):
        array = values_of(haadf)
        if array.ndim != 2 or array.dtype.kind not in "buif":
            raise ValueError(
                f"haadf: found {type(haadf).__name__} of shape {array.shape} and type {array.dtype}; "
                "a Signal2D or an array of shape (rows, columns) is needed."
            )
        axes = [axis.get_axis_dictionary() for axis in grid]
        for axis, size in zip(axes, array.shape):
            axis["size"] = size
        haadf = Signal2D(array.copy(), axes=axes)
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
    image = image._deepcopy_with_new_data(np.array(values_of(image)))
    if image._lazy:
        image._lazy = False
        image._assign_subclass()
    _check_contrast(image.data)
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
