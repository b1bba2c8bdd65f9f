"""Whether two images lie on one grid: shape, axes and pixel size."""

# Pixel sizes read from different signals of one file differ by rounding, never by a per cent.
PIXEL_SIZE_TOLERANCE = 0.01

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

    Shapes must be equal and pixel sizes must agree within 1 % after conversion of units. Offsets may
    differ, since programs write them for some signals of a file only; axes without units match any
    pixel size.

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
            f"{name}: found {shape[0]} x {shape[1]} pixels (rows x columns), but {reference_name} "
            f"has {wanted[0]} x {wanted[1]}; the same grid is needed. {advice}"
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
            f"{name}: found pixels of {found:g} {units} along {str(axis.name)!r}, but "
            f"{reference_name} has {wanted:g} {units}; they must agree within 1 %. {advice}"
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
