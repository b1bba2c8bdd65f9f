"""Units in which the objective is stated: those of the maps and the image, or scaled ones.

Most models state it in the units of the maps and the image, so that counts stay counts. The published
algorithm scales both to [0, 1] first. A setup holds how: ``map_offset`` and ``map_scale`` of shape (E,),
``image_offset`` and ``image_scale``, which are 0 and 1 where nothing is scaled. Inside a model everything
is in these units; they are put on where maps and image come in and taken off where they go out.
"""

import numpy as np


def own_units(elements):
    """Nothing is scaled.

    Parameters
    ----------
    elements : int
        Number of maps.

    Returns
    -------
    dict
        Part of a setup.
    """
    return {
        "map_offset": np.zeros(elements),
        "map_scale": np.ones(elements),
        "image_offset": 0.0,
        "image_scale": 1.0,
    }


def unit_interval(maps, image):
    """Every map and the image from 0 to 1, as published; what is constant becomes 0.

    Parameters
    ----------
    maps : (E, R, C) array
    image : (R, C) array or None

    Returns
    -------
    dict
        Part of a setup.
    """
    lowest, highest = (
        np.array([bound(values) for values in maps], dtype=float) for bound in (np.min, np.max)
    )
    setup = own_units(len(maps))
    setup.update(map_offset=lowest, map_scale=np.where(highest > lowest, highest - lowest, 1.0))
    if image is not None:
        setup.update(
            image_offset=float(image.min()), image_scale=float(image.max()) - float(image.min())
        )
    return setup


def scaled_maps(maps, setup):
    """Maps in the units of the objective.

    Parameters
    ----------
    maps : (E, R, C) array
        In their own units.
    setup : dict

    Returns
    -------
    (E, R, C) array
        `maps` itself where nothing is scaled.
    """
    if not _is_scaled(setup):
        return maps
    return (maps - _per_map(setup["map_offset"])) / _per_map(setup["map_scale"])


def restored_maps(maps, setup):
    """Maps in their own units.

    Parameters
    ----------
    maps : (E, R, C) array
        In the units of the objective.
    setup : dict

    Returns
    -------
    (E, R, C) array
        `maps` itself where nothing is scaled.
    """
    if not _is_scaled(setup):
        return maps
    restored = maps * _per_map(setup["map_scale"]) + _per_map(setup["map_offset"])
    return restored.astype(maps.dtype, copy=False)


def scaled_image(image, setup):
    """The HAADF image in the units of the objective.

    Parameters
    ----------
    image : (R, C) array
    setup : dict

    Returns
    -------
    (R, C) array of float
    """
    return (np.asarray(image, dtype=float) - setup["image_offset"]) / setup["image_scale"]


def restored_image(image, setup):
    """An image in the units of the HAADF image.

    Parameters
    ----------
    image : (R, C) array
        In the units of the objective.
    setup : dict

    Returns
    -------
    (R, C) array
    """
    return image * setup["image_scale"] + setup["image_offset"]


def _is_scaled(setup):
    return bool(np.any(setup["map_offset"]) or np.any(setup["map_scale"] != 1))


def _per_map(values):
    return values[:, np.newaxis, np.newaxis]
