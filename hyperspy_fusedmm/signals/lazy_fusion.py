"""Fuse maps that need not fit in memory: choose on a part of the image, solve when computed."""

import errno
import inspect
import math

import dask
import dask.array as da
import numpy as np
from hyperspy.external.progressbar import progressbar

from ..solver.out_of_core import (
    LazyProblem,
    ScratchError,
    Watch,
    guide_scale,
    lazy_haadf_guide,
    lazy_pilot_weights,
    solution_of,
    solve_chunked,
    steps_of,
)
from .fusing import route_options
from .sampling import TILES, is_sampled, sample, sample_tiles
from .series import is_series
from .warning import warn_caller

# Images up to one chunk are solved in memory.
CHUNK = 1024
# Options that may hold a value per pixel, with the number of axes then.
PIXELWISE = {"background": 3, "noise": 3, "haadf_noise": 2, "regularization_weights": 3}
# What a model of a part of the image says of that part alone.
OF_THE_PART = (
    "history", "objective", "gap", "relative_gap", "converged", "iterations", "kept_counts", "selection"
)  # fmt: skip


def fuses_in_chunks(maps, options):
    """Whether maps are fused chunk by chunk: large, with the linear model and no need of a model."""
    rows, columns = maps.data.shape[-2:]
    if rows * columns <= CHUNK**2 or is_series(maps):
        return False
    reasons = [
        name
        for name, plain in (
            ("forward", ("auto", "linear")),
            ("solver", ("auto", "primal-dual")),
            ("initial", ("auto", "measured", None)),
            ("preset", (None,)),
            ("return_model", (False,)),
            ("standard_error", (False,)),
        )
        if not (
            isinstance(options.get(name, plain[0]), (str, bool, type(None)))
            and options.get(name, plain[0]) in plain
        )
    ]
    if reasons:
        warn_caller(
            f"{', '.join(reasons)}: not available chunk by chunk; the maps "
            f"({maps.data.nbytes / 1e9:.1f} GB) are loaded into memory."
        )
    return not reasons


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

    options = dict(options)
    scratch, resume = options.pop("scratch", None), options.pop("resume", None)
    given = _pixelwise(maps, options)
    create, fit = route_options(options, maps.create_model, FusedMultiModal.fit)
    tolerance, most = _stopping(fit)
    image = None if haadf is None else _image(maps, haadf)
    fit = {**fit, "initial": "measured", "max_iterations": most}
    model, part = _sample_model(maps, haadf, image, given, create, fit)
    told = model.fused.metadata.FusedMultiModal.as_dictionary()
    data = _stacked(maps.data)
    solution = solve_chunked(
        LazyProblem(data, **_arguments(data, image, given, model, part, told)),
        tolerance, most, chunk=CHUNK, scratch=scratch, resume=resume,
    )  # fmt: skip
    fused = maps._deepcopy_with_new_data(solution.maps.reshape(maps.data.shape))
    fused.metadata.General.title = f"{maps.metadata.General.title} (fused)".strip()
    if fused.metadata.has_item("Background"):
        # Fused maps are net.
        del fused.metadata.Background
    for name in OF_THE_PART:
        told.pop(name, None)
    told |= {name: "per pixel" for name in given if name in told}
    told["tolerance"] = float(tolerance)
    sampled = is_sampled(data.shape[1:])
    told["chosen_on"] = f"{TILES} x {TILES} tiles" if sampled else "the whole image"
    fused.metadata.set_item("FusedMultiModal", told)
    return fused


def _stopping(fit):
    """Tolerance and most iterations, checked, with what `fit` has for "auto"."""
    from ..models import checks
    from ..models.fit_options import MAX_ITERATIONS
    from ..models.fused_multi_modal import FusedMultiModal

    defaults = inspect.signature(FusedMultiModal.fit).parameters
    found = []
    for name, otherwise in (("tolerance", 1e-4), ("max_iterations", MAX_ITERATIONS["primal-dual"])):
        value = fit.get(name, defaults[name].default)
        found.append(otherwise if isinstance(value, str) and value == "auto" else value)
    tolerance, most = found
    return (
        checks.number(tolerance, "tolerance", minimum=0.0),
        checks.whole_number(most, "max_iterations", 1),
    )


def _stacked(array):
    return array.reshape((-1,) + array.shape[-2:])


def _values(thing):
    """The array of a signal, or an array as it is; never computed."""
    values = thing.data if hasattr(thing, "axes_manager") else thing
    return values if isinstance(values, da.Array) else np.asarray(values)


def _image(maps, haadf):
    """The array of an image that lies on the grid of the maps."""
    from .grid import check_same_grid, warn_of_other_origin

    if hasattr(haadf, "axes_manager") and haadf.data.ndim == 2:
        axes = haadf.axes_manager.signal_axes or haadf.axes_manager.navigation_axes
        grids = axes[::-1], maps.axes_manager.signal_axes[::-1]
        check_same_grid(*grids, "haadf", "the element maps")
        warn_of_other_origin(*grids, "haadf", "the element maps")
    values = _values(haadf)
    if values.shape != maps.data.shape[-2:]:
        raise ValueError(
            f"haadf: found an array of shape {values.shape}; {maps.data.shape[-2:]}, as the maps, is "
            "needed."
        )
    return values


def _pixelwise(maps, options):
    """Arrays with a value per pixel: of the options, and of what is kept with the maps."""
    shape = (maps.data.size // math.prod(maps.data.shape[-2:]),) + maps.data.shape[-2:]
    found = {}
    for name, axes in PIXELWISE.items():
        value = options.get(name, "auto")
        if isinstance(value, (str, dict)) or np.ndim(_values(value)) < 2:
            continue
        found[name] = _fitting(_values(value), shape, axes, name)
    kept = {
        "background": maps.metadata.get_item("Background.counts", None),
        "noise": maps.get_noise_variance(),
    }
    for name, signal in kept.items():
        if isinstance(options.get(name, "auto"), str) and np.ndim(getattr(signal, "data", 0)) > 1:
            found[f"kept {name}"] = _fitting(signal.data, shape, 3, f"{name} kept with the maps")
    return found


def _fitting(values, shape, axes, name):
    wanted = shape[-axes:]
    if values.shape != wanted and math.prod(values.shape) == math.prod(wanted):
        values = values.reshape(wanted) if values.shape[-2:] == wanted[-2:] else values
    if values.shape != wanted:
        raise ValueError(f"{name}: found an array of shape {values.shape}; {wanted} is needed.")
    return values


def _sample_model(maps, haadf, image, given, create, fit):
    """A model in memory of a part of the image, in which everything "auto" is decided."""
    from hyperspy.signals import Signal2D

    from .element_maps import element_maps

    wanted = {"maps": _stacked(maps.data), **given}
    if image is not None:
        wanted["haadf"] = image
    part = dict(zip(wanted, sample(*wanted.values())))
    some = element_maps(
        [Signal2D(values) for values in part["maps"]], maps._map_names(), sum_lines=False
    )
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
        if hasattr(haadf, "original_metadata"):
            # The file of the image may tell its black level.
            pixels.original_metadata.add_dictionary(haadf.original_metadata.as_dictionary())
    create, fit = ({name: part.get(name, o[name]) for name in o} for o in (create, fit))
    model = some.create_model(pixels, **create)
    # One iteration only: what is wanted is every choice and check that comes before it.
    model.fit(**{**fit, "tolerance": 0, "max_iterations": 1, "show_progressbar": False})
    return model, part


def _arguments(data, image, given, model, part, told):
    """Arguments of the problem of the whole image."""
    fidelity = tuple(model.fidelity)
    arguments = {
        "weights": model.weights, "haadf_offset": model.haadf_offset,
        "haadf_noise": given.get("haadf_noise", np.asarray(model.haadf_noise)),
        "fidelity": fidelity,
        "background": given.get(
            "background", given.get("kept background", np.asarray(model.background))
        ),
        "noise": _noise(given, model, fidelity),
        "lambda_haadf": model.lambda_haadf, "lambda_chem": model.lambda_chem,
        "lambda_tv": model.lambda_tv, "regularization": model.regularization,
    }  # fmt: skip
    if image is not None:
        lazy = image if isinstance(image, da.Array) else da.from_array(image, chunks=CHUNK)
        arguments["haadf"] = lazy
        if model.guided:
            cut = tuple(is_sampled((length,)) for length in image.shape)
            scale = guide_scale(sample_tiles(part["haadf"], image.shape), cut)
            # With another mean the image rounds differently, of which its gradient has most.
            scale = (float(lazy.mean(dtype=float).compute()), *scale[1:])
            arguments["guide"] = lazy_haadf_guide(lazy, scale)
    if told["regularization_weights"] == "pilot":
        arguments["regularization_weights"] = lazy_pilot_weights(data, fidelity)
    elif "regularization_weights" in given:
        arguments["regularization_weights"] = given["regularization_weights"]
    return arguments


def _noise(given, model, fidelity):
    """Standard deviation of Gaussian maps; 1, which nothing uses, for the others."""
    if "noise" in given:
        noise = given["noise"]
    elif "kept noise" in given and np.ndim(model.noise) > 1:
        noise = np.sqrt(given["kept noise"])
    else:
        return np.asarray(model.noise)
    gaussian = np.array([entry == "gaussian" for entry in fidelity])[:, np.newaxis, np.newaxis]
    return da.where(gaussian, noise, 1.0)


def solved(array, *, target=None, show_progressbar=False, **options):
    """Compute fused maps and what is known of them at once.

    Parameters
    ----------
    array : dask array
        Fused maps.
    target : path, optional
        Zarr store to write the maps to.
    show_progressbar : bool
    **options
        As :func:`dask.compute`.

    Returns
    -------
    maps : array or None
    outcome : dict
        For ``metadata.FusedMultiModal``.

    Raises
    ------
    OSError
        If a disk is full.
    ConnectionError
        If the scheduler of a cluster has gone.
    """
    solution = solution_of(array)
    work = array if target is None else array.to_zarr(target, compute=False)
    maps, parts = _computed(solution, [work, solution.parts], show_progressbar, options)
    found, whole = solution.certificate(parts), solution.plan.whole
    chem = found["divergence"] - whole.likelihood_constant
    relative = found["gap"] / found["total"] if found["total"] > 0 else 0.0
    total = found["haadf"] + chem + found["regularization"]
    tolerance = solution.plan.tolerance
    known = (found["totals"] > 0) & (whole.net > 0)
    kept = np.where(known, found["totals"] / np.where(known, whole.net, 1), 1.0)
    outcome = {
        "iterations": found["iterations"], "gap": found["gap"], "relative_gap": relative,
        "converged": bool(relative <= tolerance),
        "kept_counts": kept.tolist(),
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


def _computed(solution, work, show_progressbar, options):
    """Compute with a progress bar, and say what to do where that fails from outside."""
    client = _client(options)
    folder = getattr(solution.plan.scratch, "folder", None)
    with progressbar(
        total=steps_of(solution.plan), desc="Fusing", unit=" chunks", disable=not show_progressbar
    ) as bar:
        try:
            with Watch(solution.plan, lambda done: bar.update(done - bar.n), client):
                return dask.compute(*work, **options)
        except ScratchError:
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                if client is None or error.errno is not None:
                    raise
                raise _gone(client, folder) from error
            raise OSError(
                error.errno, f"filename: writing the fused maps failed ({error.strerror}); make room, or "
                "save to another disk. No file was written.",
            ) from error  # fmt: skip
        except Exception as error:
            if client is None or not _has_gone(client, error):
                raise
            raise _gone(client, folder) from error


def _client(options):
    """The client of a cluster that Dask would compute with, or None."""
    scheduler = dask.base.get_scheduler(scheduler=options.get("scheduler"))
    owner = getattr(scheduler, "__self__", None)
    return owner if hasattr(owner, "subscribe_topic") else None


def _has_gone(client, error):
    return client.status != "running" or type(error).__name__ in (
        "CancelledError", "FutureCancelledError", "FuturesCancelledError", "TimeoutError",
    )  # fmt: skip


def _gone(client, folder):
    address = getattr(client.scheduler, "address", "unknown")
    advice = "start a cluster and call again"
    if folder is not None:
        advice += f"; if {folder} is a scratch folder that you named, resume= goes on with what is there"
    return ConnectionError(
        f"The scheduler at {address} has gone, and the fused maps with it; {advice}. No file was written."
    )
