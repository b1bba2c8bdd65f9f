"""A model of a part of a large image, in memory, and what is given for each pixel of the whole."""

import math
from dataclasses import replace

import dask.array as da
import numpy as np
from hyperspy.signals import Signal2D

from ..signals.sampling import sample
from ..solver.representative import pixelwise

__all__ = ["noise_of_maps", "per_pixel", "sampled_model", "sampled_problem", "stacked", "whole_arrays"]

# Options of a model that may hold a value per pixel, with the number of axes then.
PIXELWISE = {"background": 3, "noise": 3, "haadf_noise": 2}


def stacked(array):
    """Maps (E, R, C), also of a single one (R, C)."""
    return array.reshape((-1,) + array.shape[-2:])


def per_pixel(value, shape, axes, name):
    """The array of an option that holds a value for each pixel, None of one that does not.

    Parameters
    ----------
    value : object
        What was given; nothing is computed.
    shape : tuple of int
        (E, R, C)
    axes : {2, 3}
        How many of these it must have.
    name : str
        What the error calls the option.

    Returns
    -------
    NumPy or Dask array, or None

    Raises
    ------
    ValueError
        If it has another shape.
    """
    if isinstance(value, (str, dict)):
        return None
    values = value.data if hasattr(value, "axes_manager") else value
    values = values if isinstance(values, da.Array) else np.asarray(values)
    if values.ndim < 2:
        return None
    wanted = shape[-axes:]
    if math.prod(values.shape) == math.prod(wanted) and values.shape[-2:] == wanted[-2:]:
        values = values.reshape(wanted)
    if values.shape != wanted:
        raise ValueError(f"{name}: found an array of shape {values.shape}; {wanted} is needed.")
    return values


def whole_arrays(maps, options):
    """Arrays with a value per pixel: of the options of a model, and of what is kept with the maps."""
    shape = stacked(maps.data).shape
    found = {name: per_pixel(options[name], shape, axes, name) for name, axes in PIXELWISE.items()}
    kept = {
        "background": maps.metadata.get_item("Background.counts", None),
        "noise": maps.get_noise_variance(),
    }
    for name, signal in kept.items():
        if isinstance(options[name], str) and signal is not None:
            found[f"kept {name}"] = per_pixel(signal, shape, 3, f"{name} kept with the maps")
    return {name: values for name, values in found.items() if values is not None}


def sampled_model(maps, image, whole, options):
    """A model in memory of a part of the image, in which everything "auto" is decided.

    Parameters
    ----------
    maps : LazyElementMaps
    image : Signal2D or None
    whole : dict
        As `whole_arrays` returns it.
    options : dict
        As :meth:`ElementMaps.create_model`.

    Returns
    -------
    FusedMultiModal
    """
    from ..signals.element_maps import element_maps

    wanted = {"maps": stacked(maps.data), **whole}
    if image is not None:
        wanted["haadf"] = image.data
    part = dict(zip(wanted, sample(*wanted.values())))
    some = element_maps(
        [Signal2D(values) for values in part["maps"]], maps._map_names(), sum_lines=False
    )
    if maps.metadata.has_item("Signal.quantity"):
        # Maps that are quantified already are warned of.
        some.metadata.Signal.quantity = maps.metadata.Signal.quantity
    axes = some.axes_manager._get_axes_dicts()
    if "kept background" in part:
        some.metadata.set_item("Background.counts", Signal2D(part["kept background"], axes=axes))
    if "kept noise" in part:
        some.set_noise_variance(Signal2D(part["kept noise"], axes=axes))
    elif maps.get_noise_variance() is not None:
        some.set_noise_variance(maps.get_noise_variance())
    pixels = None
    if image is not None:
        pixels = Signal2D(part["haadf"])
        # The file of the image may tell its black level.
        pixels.original_metadata.add_dictionary(image.original_metadata.as_dictionary())
    return some.create_model(pixels, **{name: part.get(name, options[name]) for name in options})


def sampled_problem(problem):
    """The problem of a part of a large image, in memory.

    Parameters
    ----------
    problem : FusionProblem

    Returns
    -------
    FusionProblem
    """
    found = pixelwise(problem)
    return replace(problem, **dict(zip(found, sample(*found.values()))))


def noise_of_maps(whole, model):
    """Standard deviation of the maps of the whole image.

    Parameters
    ----------
    whole : dict
        As `whole_arrays` returns it.
    model : FusedMultiModal
        Of a part of the image.

    Returns
    -------
    (E,) array or (E, R, C) dask array
        1, which nothing uses, for Poisson maps.
    """
    if "noise" in whole:
        noise = whole["noise"]
    elif "kept noise" in whole and np.ndim(model.noise) > 1:
        noise = whole["kept noise"] ** 0.5
    else:
        return model.noise
    gaussian = np.array([entry == "gaussian" for entry in model.fidelity])[:, np.newaxis, np.newaxis]
    return da.where(gaussian, noise, 1.0)
