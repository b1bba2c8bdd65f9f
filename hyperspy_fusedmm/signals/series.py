"""Fuse series, such as the frames of a scan or the tilts of a tomogram, one after the other."""

from pathlib import Path

import dask.array as da
import numpy as np

__all__ = ["fuse_series", "is_series"]

# What the data decide once for all frames, so that these can be compared.
SHARED = ("regularization", "guided", "relative", "lambda_haadf", "lambda_tv")
# Of different length in every frame; the models have it.
NOT_TOLD = ("history",)


def is_series(maps):
    """Whether there are axes beside that of the elements and those of the image."""
    return maps.axes_manager.navigation_dimension > (maps._element_axis is not None)


def fuse_series(maps, haadf, *, return_model=False, standard_error=False, **options):
    """Fuse every frame with its own image; see :meth:`ElementMaps.fuse`.

    What is found of the HAADF image (weights, offset, noise) is found frame by frame. The form of
    the regularization and the weights of the terms that are to be chosen from the data are chosen
    on the frame in the middle, which of a tilt series is the one of least tilt.

    Parameters
    ----------
    maps : ElementMaps
    haadf : Signal2D, array of shape (..., R, C), or None
        One image per frame, in the same order, or one for all.
    return_model, standard_error, **options
        As :meth:`ElementMaps.fuse`.

    Returns
    -------
    ElementMaps, or a tuple as of :meth:`ElementMaps.fuse`, with a list of models.
    """
    axis = maps._element_axis
    sizes = [a.size for a in maps.axes_manager.navigation_axes if a is not axis]
    frames = [index[::-1] for index in np.ndindex(*sizes[::-1])]
    images = _images(haadf, sizes, maps.data.shape[-2:])
    middle = len(frames) // 2
    found = {}
    for k in (middle, *(k for k in range(len(frames)) if k != middle)):
        own = dict(options)
        for name in ("scratch", "resume"):
            if own.get(name) is not None:
                own[name] = Path(own[name]) / f"frame-{k}"
        results = _frame(maps, axis, frames[k]).fuse(
            images(frames[k]), return_model=return_model, standard_error=standard_error, **own
        )
        found[k] = results if isinstance(results, tuple) else (results,)
        if k == middle and options.get("preset") is None:
            options = _as_chosen(options, found[k][0])
    columns = list(zip(*(found[k] for k in range(len(frames)))))
    joined = [_joined(maps, axis, sizes, columns[0])]
    told = [fused.metadata.FusedMultiModal.as_dictionary() for fused in columns[0]]
    joined[0].metadata.set_item("FusedMultiModal", _told(told, middle))
    if standard_error:
        joined.append(_joined(maps, axis, sizes, columns[1]))
        told = columns[1][0].metadata.get_item("FusedMultiModal.standard_error", None)
        if told is not None:
            joined[1].metadata.set_item("FusedMultiModal.standard_error", told)
    if return_model:
        joined.append(list(columns[-1]))
    return joined[0] if len(joined) == 1 else tuple(joined)


def _images(haadf, sizes, shape):
    """A function of the index of a frame that gives its image."""
    if haadf is None:
        return lambda _: None
    signal = hasattr(haadf, "axes_manager")
    values = haadf.data if signal else haadf if hasattr(haadf, "dask") else np.asarray(haadf)
    if values.ndim == 2:
        return lambda _: haadf
    wanted = tuple(sizes[::-1]) + tuple(shape)
    found = tuple(values.shape)
    if found != wanted or (signal and haadf.axes_manager.signal_dimension != 2):
        raise ValueError(
            f"haadf: found an array of shape {found}; {wanted}, an image for each frame of the maps, or one "
            f"image of shape {wanted[-2:]} for all is needed."
        )
    if signal:
        return lambda index: haadf.inav[index]
    return lambda index: values[index[::-1]]


def _frame(maps, axis, index):
    """The maps of one frame, dimensions (Element|x, y)."""
    index, slices = list(index), []
    for a in maps.axes_manager.navigation_axes:
        slices.append(slice(None) if a is axis else index.pop(0))
    return maps.inav[tuple(slices)]


def _as_chosen(options, fused):
    """Options with what was chosen for a frame in place of "auto"."""
    told = fused.metadata.FusedMultiModal
    if told.solver != "primal-dual":
        return options
    chosen = {name: told[name] for name in SHARED if _is_auto(options.get(name, "auto"))}
    return {**options, **chosen}


def _is_auto(value):
    return isinstance(value, str) and value == "auto"


def _joined(maps, axis, sizes, frames):
    """Signals of frames as one with the axes of the maps."""
    lazy = any(isinstance(frame.data, da.Array) for frame in frames)
    stack = (da if lazy else np).stack([frame.data for frame in frames])
    stack = stack.reshape(tuple(sizes[::-1]) + stack.shape[1:])
    if axis is not None:
        stack = (da if lazy else np).moveaxis(stack, -3, axis.index_in_array)
    joined = maps._deepcopy_with_new_data(stack)
    joined.metadata.General.title = frames[0].metadata.General.title
    if joined.metadata.has_item("Background"):
        del joined.metadata.Background
    return joined


def _told(frames, middle):
    """What holds for all frames, and lists of what differs between them."""
    told, single = {}, {}
    for name, value in frames[0].items():
        if name in NOT_TOLD:
            continue
        values = [frame.get(name) for frame in frames]
        if isinstance(value, dict):
            single[name] = {key: [entry[key] for entry in values] for key in value}
        elif all(_same(value, other) for other in values):
            told[name] = value
        elif isinstance(value, np.ndarray):
            single[name] = np.stack(values)
        else:
            single[name] = values
    told["chosen_on_frame"] = middle
    told["frames"] = single
    return told


def _same(one, two):
    return type(one) is type(two) and np.array_equal(np.asarray(one), np.asarray(two))
