"""Fuse maps that need not fit in memory: choose on a part of the image, solve when computed."""

import inspect
import logging
import math

import dask
import dask.array as da
import numpy as np

from ..solver.out_of_core import (
    LazyProblem,
    lazy_pilot_weights,
    solution_of,
    solve_chunked,
)
from .fusing import route_options
from .warning import warn_caller

_logger = logging.getLogger(__name__)

# Images up to one chunk are solved in memory.
CHUNK = 1024
# Everything that is chosen from the data is chosen on at most this many rows and columns: the whole
# image if it is not larger, else tiles spread evenly over it, whatever its chunks.
SAMPLE, TILES = 2048, 8


def fuses_in_chunks(maps, options):
    """Whether maps are fused chunk by chunk: large, with the linear model and numbers per element."""
    rows, columns = maps.data.shape[-2:]
    if rows * columns <= CHUNK**2 or maps.data.ndim > 3:
        return False
    reasons = [
        name
        for name, plain in (
            ("forward", ("auto", "linear")),
            ("solver", ("auto", "primal-dual")),
            ("initial", ("auto", "measured", None)),
            ("guided", ("auto", False)),
            ("regularization_weights", ("auto", "uniform")),
            ("preset", (None,)),
            ("return_model", (False,)),
            ("standard_error", (False,)),
        )
        if not (
            isinstance(options.get(name, plain[0]), (str, bool, type(None)))
            and options.get(name, plain[0]) in plain
        )
    ]
    reasons += [name for name in ("background", "noise", "haadf_noise") if _pixelwise(options, name)]
    if maps.metadata.has_item("Background.counts") or maps.metadata.has_item(
        "Signal.Noise_properties.variance"
    ):
        reasons.append("background or noise kept with the maps")
    if reasons:
        warn_caller(
            f"{', '.join(reasons)}: not available chunk by chunk; the maps "
            f"({maps.data.nbytes / 1e9:.1f} GB) are loaded into memory."
        )
    return not reasons


def _pixelwise(options, name):
    value = options.get(name)
    return hasattr(value, "axes_manager") or np.ndim(value) > 1


def fuse_in_chunks(maps, haadf, options):
    """Fused maps (LazyElementMaps) that are solved when they are computed or saved.

    Parameters
    ----------
    maps : LazyElementMaps
    haadf : Signal2D, array or None
    options : dict
        As :meth:`ElementMaps.fuse`.

    Returns
    -------
    LazyElementMaps
    """
    from ..models.fused_multi_modal import FusedMultiModal

    scratch, resume = options.pop("scratch", None), options.pop("resume", None)
    create, fit = route_options(options, maps.create_model, FusedMultiModal.fit)
    signature = inspect.signature(FusedMultiModal.fit).parameters
    tolerance = fit.get("tolerance", signature["tolerance"].default)
    tolerance = 1e-4 if isinstance(tolerance, str) else tolerance
    most = fit.get("max_iterations", signature["max_iterations"].default)
    most = 1000 if isinstance(most, str) else most
    model = _sample_model(maps, haadf, create, {**fit, "max_iterations": most})
    data = maps.data.reshape((-1,) + maps.data.shape[-2:])
    image = None if haadf is None else _pixels(haadf)
    weights = None
    if fit.get("regularization_weights", "auto") == "auto":
        weights = lazy_pilot_weights(data, tuple(model.fidelity))
    arguments = {
        "weights": model.weights, "haadf_offset": model.haadf_offset,
        "haadf_noise": model.haadf_noise, "fidelity": tuple(model.fidelity),
        "background": np.asarray(model.background), "noise": np.asarray(model.noise),
        "lambda_haadf": model.lambda_haadf, "lambda_chem": model.lambda_chem,
        "lambda_tv": model.lambda_tv, "regularization": model.regularization,
    }  # fmt: skip
    if image is not None:
        arguments["haadf"] = image
    if weights is not None:
        arguments["regularization_weights"] = weights
    solution = solve_chunked(
        LazyProblem(data, **arguments), tolerance, most, chunk=CHUNK, scratch=scratch, resume=resume
    )
    fused = maps._deepcopy_with_new_data(solution.maps.reshape(maps.data.shape))
    fused.metadata.General.title = f"{maps.metadata.General.title} (fused)".strip()
    told = model.fused.metadata.FusedMultiModal.as_dictionary()
    for outcome in ("history", "objective", "gap", "relative_gap", "converged", "iterations"):
        told.pop(outcome, None)
    told["tolerance"] = float(tolerance)
    rows, columns = data.shape[1:]
    sampled = rows * columns > SAMPLE**2
    told["chosen_on"] = f"{TILES} x {TILES} tiles" if sampled else "the whole image"
    fused.metadata.set_item("FusedMultiModal", told)
    return fused


def _pixels(haadf):
    values = haadf.data if hasattr(haadf, "axes_manager") else haadf
    return values if isinstance(values, da.Array) else np.asarray(values)


def _spans(length):
    """Evenly spread pieces of an axis, of `SAMPLE` pixels altogether."""
    if length <= SAMPLE:
        return [slice(0, length)]
    size = SAMPLE // TILES
    starts = np.linspace(0, length - size, TILES).round().astype(int)
    return [slice(int(start), int(start) + size) for start in starts]


def sample(array):
    """Part of an image (..., R, C), loaded, from which everything is chosen."""
    rows, columns = (_spans(n) for n in array.shape[-2:])
    tiles = [[array[..., r, c] for c in columns] for r in rows]
    return np.block(list(map(list, dask.compute(*tiles))))


def _sample_model(maps, haadf, create, fit):
    """A model in memory of a part of the image, in which everything "auto" is decided."""
    from hyperspy.signals import Signal2D

    from .element_maps import element_maps
    from .grid import check_same_grid

    grid = maps.axes_manager.signal_axes[::-1]
    data = sample(maps.data.reshape((-1,) + maps.data.shape[-2:]))
    image = None
    if haadf is not None:
        if hasattr(haadf, "axes_manager"):
            check_same_grid(haadf.axes_manager.signal_axes[::-1], grid, "haadf", "the element maps")
        if _pixels(haadf).shape != maps.data.shape[-2:]:
            raise ValueError(
                f"haadf: found an array of shape {_pixels(haadf).shape}; {maps.data.shape[-2:]}, as the "
                "maps, is needed."
            )
        image = sample(_pixels(haadf))
    names = maps._map_names()
    part = element_maps([Signal2D(values) for values in data], names, sum_lines=False)
    model = part.create_model(image, **create)
    # One iteration only: what is wanted is every choice and check that comes before it.
    options = {**fit, "tolerance": 0, "max_iterations": 1, "show_progressbar": False}
    model.fit(**options)
    return model


def solved(array, **options):
    """Compute fused maps and what is known of them at once.

    Parameters
    ----------
    array : dask array
        Fused maps, or the storing of them (then ``target``).
    **options
        ``target``: Zarr store to write the maps to. Others go to :func:`dask.compute`.

    Returns
    -------
    maps : array or None
    outcome : dict
        For ``metadata.FusedMultiModal``.
    """
    solution = solution_of(array)
    target = options.pop("target", None)
    work = array if target is None else array.to_zarr(target, compute=False)
    maps, parts = dask.compute(work, solution.parts, **options)
    found = solution.certificate(parts)
    chem = found["divergence"] - solution.plan.whole.likelihood_constant
    relative = found["gap"] / found["total"] if found["total"] > 0 else 0.0
    total = found["haadf"] + chem + found["regularization"]
    tolerance = solution.plan.tolerance
    outcome = {
        "iterations": found["iterations"], "gap": found["gap"], "relative_gap": relative,
        "converged": bool(relative <= tolerance),
        "objective": {
            "haadf": found["haadf"], "chem": chem, "regularization": found["regularization"],
            "total": total,
        },
        "history": {
            "iteration": [float(found["iterations"])], "haadf": [found["haadf"]], "chem": [chem],
            "tv": [found["regularization"]], "total": [total], "gap": [found["gap"]],
        },
    }  # fmt: skip
    if tolerance > 0 and not math.isclose(relative, tolerance) and relative > tolerance:
        warn_caller(
            f"tolerance: after {found['iterations']} iterations the relative gap is {relative:.2g}, "
            f"above the tolerance of {tolerance:g}; the maps are usable, but lower tolerance, or raise "
            "max_iterations, for the certified optimum."
        )
    return maps, outcome
