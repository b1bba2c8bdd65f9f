"""Whether two images lie on one grid: shape, axes, pixel size, and where they begin."""

import numpy as np

from .warning import warn_caller

# Pixel sizes read from different signals of one file differ by rounding, never by a per cent.
PIXEL_SIZE_TOLERANCE = 0.01

# Origins closer than this many pixels are the same; whole numbers of pixels are so to rounding.
SAME_ORIGIN, WHOLE_PIXELS = 0.5, 0.01

_NOT_A_LENGTH = ("", "<undefined>", "px", "pixel", "pixels")


def check_uniform(axes, name):
    """Refuse axes whose pixels are not equally spaced.

    Parameters
    ----------
    axes : sequence of hyperspy axes
    name : str
        What the error calls the signal.

    Raises
    ------
    ValueError
        If one of them is not uniform.
    """
    for axis in axes:
        if not axis.is_uniform:
            raise ValueError(
                f"{name}: the axis {str(axis.name)!r} is not uniform; equally spaced pixels are "
                "needed. Use HyperSpy's interpolate_on_axis('uniform', axis) first."
            )


def has_units(axis):
    """Whether an axis is calibrated: pixels and undefined units are not.

    Parameters
    ----------
    axis : hyperspy axis

    Returns
    -------
    bool
    """
    return str(axis.units or "").strip() not in _NOT_A_LENGTH


def check_same_grid(axes, reference_axes, name, reference_name):
    """Refuse images that do not share one grid.

    Shapes must be equal and pixel sizes must agree within 1 % after conversion of units. Axes without units
    match any pixel size. Offsets may differ, see `warn_of_other_origin`.

    Parameters
    ----------
    axes, reference_axes : sequence of hyperspy axes
        Rows, then columns.
    name, reference_name : str
        What the error calls the two.

    Raises
    ------
    ValueError
        If the shapes, the units or the pixel sizes differ, or an axis is not uniform.
    """
    check_uniform(axes, name)
    check_uniform(reference_axes, reference_name)
    advice = "Bring both onto one grid with HyperSpy's rebin (whole factors) or interpolate_on_axis first."
    shape, wanted = (tuple(axis.size for axis in grid) for grid in (axes, reference_axes))
    if shape != wanted:
        raise ValueError(
            f"{name}: found {shape[0]} x {shape[1]} pixels (rows x columns), but {wanted[0]} x {wanted[1]} "
            f"in {reference_name}; the same grid is needed. {advice}"
        )
    for axis, reference in zip(axes, reference_axes):
        _check_pixel_size(axis, reference, name, reference_name, advice)


def _check_pixel_size(axis, reference, name, reference_name, advice):
    if has_units(axis) != has_units(reference):
        return
    if not has_units(axis) and 1.0 in (axis.scale, reference.scale):
        return  # a scale of 1 without units means that nobody calibrated the axis
    found, wanted = axis.scale, reference.scale
    if has_units(axis) and axis.units != reference.units:
        found = _scale_in(axis, reference.units, name, reference_name)
    if abs(found - wanted) > PIXEL_SIZE_TOLERANCE * abs(wanted):
        units = str(reference.units) if has_units(reference) else "(no units)"
        raise ValueError(
            f"{name}: found pixels of {found:g} {units} along {str(axis.name)!r}, but those of "
            f"{reference_name} are {wanted:g} {units}; they must agree within 1 %. {advice}"
        )


def _scale_in(axis, units, name, reference_name):
    from pint.errors import DimensionalityError

    try:
        converted = axis.convert_to_units(str(units), inplace=False)
    except DimensionalityError:
        converted = None
    if converted is None:
        raise ValueError(
            f"{name}: the units {str(axis.units)!r} of the axis {str(axis.name)!r} cannot be converted "
            f"into {str(units)!r}, the units of {reference_name}; both must be lengths."
        )
    return converted[0]


def warn_of_other_origin(axes, reference_axes, name, reference_name):
    """Warn where two images on grids of one kind begin at different places, as after cropping one of them.

    Programs write offsets for some signals of a file only: Velox counts those of maps from the centre of the
    field, and may have the image begin at 0. So an origin of 0 is compared only with one that cropping makes of
    it, a whole number of pixels to the right or downwards.

    Parameters
    ----------
    axes, reference_axes : sequence of hyperspy axes
        Rows, then columns, that `check_same_grid` did not refuse.
    name, reference_name : str
        What the warning calls the two.

    Warns
    -----
    UserWarning
    """
    pairs = list(zip(axes, reference_axes))
    if any(has_units(axis) != has_units(reference) for axis, reference in pairs):
        return
    units = [str(reference.units) if has_units(reference) else None for _, reference in pairs]
    found = np.array([_offset_in(axis, unit) for axis, unit in zip(axes, units)])
    wanted = np.array([reference.offset for reference in reference_axes], dtype=float)
    sizes = np.array([reference.scale for reference in reference_axes], dtype=float)
    pixels = (found - wanted) / sizes
    if _is_nothing(pixels):
        return
    # Binned pixels have their centres up to half a pixel from where the first one began.
    unset = [_is_nothing(origin / sizes) for origin in (found, wanted)]
    if any(unset) and not _is_cropped(-pixels if unset[0] else pixels):
        return
    warn_caller(
        f"{name}: the first pixel lies at {_place(found, units)}, but that of {reference_name} at "
        f"{_place(wanted, units)}; they are taken pixel by pixel, as if both were "
        "at the same place. Crop both alike, with isig and the same coordinates, or, if they do show the same field, give "
        "their axes the same offset."
    )


def _is_nothing(pixels):
    return bool((abs(pixels) <= SAME_ORIGIN).all())


def _is_cropped(pixels):
    """Whether slicing may have moved an origin by so many pixels."""
    return bool((pixels > -SAME_ORIGIN).all() and (abs(pixels - np.rint(pixels)) <= WHOLE_PIXELS).all())


def _offset_in(axis, units):
    if units is None or axis.units == units:
        return float(axis.offset)
    return float(axis.convert_to_units(units, inplace=False)[1])


def _place(offsets, units):
    """An origin, rows before columns, in words."""
    return ", ".join(
        f"{name} = {offset:.6g} {unit or ''}".rstrip()
        for name, offset, unit in reversed(list(zip("yx", offsets, units)))
    )
