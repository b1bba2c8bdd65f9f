"""The black level that a microscope's file states for its HAADF image."""

# Where RosettaSciIO leaves the calibration of the intensity of a DM3 or DM4 image.
_DIGITAL_MICROGRAPH = "ImageList.TagGroup0.ImageData.Calibrations.Brightness"


def stored_offset(haadf):
    """Intensity that stands for none, as the file of the image states it.

    Digital Micrograph (DM3, DM4) calibrates intensity as ``(value - Origin) * Scale``; an origin other than 0, which
    is what an image without calibration has, is a black level somebody set. Velox (EMD) stores the gain
    and the offset of the detector's amplifier, in units that do not relate to the values of the image, so they
    tell no black level.

    Parameters
    ----------
    haadf : object
        A signal; anything else has no metadata.

    Returns
    -------
    float or None
    """
    stored = getattr(haadf, "original_metadata", None)
    if stored is None:
        return None
    try:
        origin = float(stored.get_item(f"{_DIGITAL_MICROGRAPH}.Origin", 0.0))
        scale = float(stored.get_item(f"{_DIGITAL_MICROGRAPH}.Scale", 1.0))
    except (TypeError, ValueError):
        return None
    usable = origin != 0 and abs(origin) < float("inf") and 0 < scale < float("inf")
    return origin if usable else None
