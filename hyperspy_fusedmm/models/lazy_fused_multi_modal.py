"""The model of a fusion of maps that need not fit in memory."""

import dask.array as da
import numpy as np

from ..signals import lazy_fusion
from ..signals.sampling import TILES, is_sampled, sample, sample_tiles
from ..signals.solving import when_solved
from ..solver.out_of_core import (
    LazyProblem,
    guide_scale,
    lazy_haadf_guide,
    lazy_haadf_reference,
    lazy_per_pixel,
    lazy_pilot_weights,
    solve_chunked,
)
from . import inputs
from .fused_multi_modal import FusedMultiModal
from .provenance import provenance
from .sampled import (
    PIXELWISE,
    noise_of_maps,
    per_pixel,
    sampled_model,
    stacked,
    whole_arrays,
)

# What is known when the maps were computed, and None before.
OUTCOME = (
    "terms", "history", "gap", "relative_gap", "stationarity", "converged", "iterations", "kept_counts",
    "gap_by_chunk",
)  # fmt: skip
IN_MEMORY = (
    "needs all maps in memory: take a part of maps and image with isig, call compute() on both, and make a "
    "model of that"
)
REFUSED = (
    "bias", "diagnose", "plot_diagnosis", "plot_maps", "region_composition", "region_error", "upper_limit",
)  # fmt: skip


class LazyFusedMultiModal(FusedMultiModal):
    """A fusion of lazy maps of more than 1024 x 1024 pixels: lazy in, lazy out.

    Made by :meth:`LazyElementMaps.create_model`; see :class:`FusedMultiModal` for the problem and the
    attributes. What is chosen from the data is chosen on a part of the image, up to 1024 x 1024 pixels
    of it, when the model is made and fitted; so are the steps of ``forward="power"``. ``fused``,
    ``haadf_fit``, ``haadf_residual`` and the standard error are lazy and in chunks. They all follow from
    one solution: compute or save them together, with :func:`compute_together` and
    :func:`save_together`, or ``fused`` first. Once that is done, ``gap``, ``relative_gap``,
    ``converged``, ``iterations``, ``history``, ``kept_counts``, ``gap_by_chunk`` and ``objective()`` are
    known; they are None before.

    Parameters
    ----------
    maps : LazyElementMaps
        Measured maps, shape (E, R, C).
    haadf, forward, gamma, fidelity, background, sensitivities, weights, haadf_offset, haadf_noise, \
noise, preset, dictionary
        As :meth:`ElementMaps.create_model`; no preset.

    Raises
    ------
    TypeError
        If `maps` are no element maps.
    ValueError, NotImplementedError
        As :meth:`ElementMaps.create_model`.
    """

    # A model of a part of the image; the problem, its solution and its maps, of the whole image.
    _part = _whole_problem = _solution = _maps = None

    def __repr__(self):
        done = self._result is not None and self._result["history"] is None
        return super().__repr__().replace(" fitted>", " fitted, not computed>" if done else " fitted>")

    @property
    def gap_by_chunk(self):
        """What each chunk has of the duality gap, shape (rows of chunks, columns of chunks).

        They add up to ``gap``; for ``forward="power"`` to the gap of the convex model at the solution. None
        as long as the fused maps were not computed or saved.
        """
        return self._known("gap_by_chunk", np.array)

    @property
    def kept_counts(self):
        """Share of the net counts of each element that is in its fused map, shape (E,).

        None as long as the fused maps were not computed or saved.
        """
        return self._known("kept_counts", np.array)

    @property
    def regularization_weights(self):
        """Strength of the regularization per pixel relative to ``lambda_tv``, a Dask array (E, R, C)."""
        maps = self._found_maps
        weights = self._whole_problem.arrays.get("regularization_weights")
        return da.ones(maps.shape, chunks=maps.chunks) if weights is None else weights

    @property
    def mean_standard_error(self):
        """Not available: the bootstrap needs all maps in memory."""
        raise NotImplementedError(f"mean_standard_error {IN_MEMORY}.")

    def objective(self, maps=None):
        """The terms of the objective at the fused maps; see :meth:`FusedMultiModal.objective`.

        None as long as they were not computed or saved.

        Raises
        ------
        NotImplementedError
            If other maps are given.
        """
        if maps is not None:
            raise NotImplementedError(f"objective() at given maps {IN_MEMORY}.")
        return super().objective()

    def plot_convergence(self, ax=None):
        """Plot the terms at the end, the total and the gap; see :meth:`FusedMultiModal.plot_convergence`.

        Raises
        ------
        RuntimeError
            As long as the fused maps were not computed or saved.
        """
        if self.history is None:
            raise RuntimeError(
                "The history is not known yet: compute or save the fused maps first, as model.fused.compute() "
                "does."
            )
        return super().plot_convergence(ax=ax)

    # Setting up

    def _prepare(self, haadf, **given):
        inputs.named_maps(self.signal)
        image = None if haadf is None else inputs.image_on_grid(haadf, self.signal)
        if image is not None:
            copied = image.data if image._lazy else image.data.copy()
            image = image._deepcopy_with_new_data(copied)
        whole = whole_arrays(self.signal, given)
        self._part = sampled_model(self.signal, image, whole, given)
        sampled = is_sampled(self.signal.data.shape[-2:])
        setup = dict(self._part._setup)
        setup["chosen_on"] = f"{TILES} x {TILES} tiles" if sampled else "the whole image"
        setup["noise"] = noise_of_maps(whole, self._part)
        for name in ("haadf_noise", "kept background", "background"):
            if name in whole:
                setup[name.removeprefix("kept ")] = whole[name]
        return image, setup

    def _check_restored(self):
        rows, columns = (axis.size for axis in self.axes_manager.signal_axes[::-1])
        self._setup, self._result = (_but_images(d, (rows, columns)) for d in (self._setup, self._result))
        if self._haadf is not None and isinstance(self._haadf.data, da.Array):
            self._haadf._lazy = True
            self._haadf._assign_subclass()
        shape = (len(self._setup["names"]), rows, columns)
        if stacked(self.signal.data).shape != shape or (
            self._haadf is not None and self._haadf.data.shape != shape[1:]
        ):
            raise ValueError(
                f"dictionary: found a model of {', '.join(self._setup['names'])} that does not fit maps of shape "
                f"{self.signal.data.shape}; restore it from the maps it was made of."
            )

    @property
    def _sample(self):
        """A model of a part of the image, made anew where this one was restored."""
        if self._part is None:
            setup = self._setup
            given = {name: setup[name] for name in ("forward", "gamma", "fidelity", *PIXELWISE, "preset")}
            given["sensitivities"] = None
            given["weights"], given["haadf_offset"] = setup["weights"], setup["haadf_offset"]
            if "gaussian" not in self.fidelity:
                given["noise"] = "auto"
            part = sampled_model(self.signal, self._haadf, whole_arrays(self.signal, given), given)
            part._setup = {**setup, **{name: part._setup[name] for name in PIXELWISE}}
            self._part = part
        return self._part

    # The fit

    def _fit(self, given, show_progressbar):
        wrong = lazy_fusion.needs_memory(given)
        if wrong:
            raise ValueError(
                f"{wrong[0]}: found {given[wrong[0]]!r}, which is not available for maps that are fused chunk by "
                "chunk; leave it 'auto', or call compute() on the maps first where they fit in memory."
            )
        data, folders = stacked(self.signal.data), {n: given[n] for n in ("scratch", "resume")}
        name = "regularization_weights"
        weights = per_pixel(given[name], data.shape, 3, name)
        options = {**given, "initial": "measured", "scratch": None, "resume": None}
        if weights is not None:
            (options[name],) = sample(weights)
        options, settings = self._sample._decision(options, show_progressbar)
        result = {
            **settings, name: weights, "initial": "measured", "max_iterations": options.max_iterations,
            "maps": None, "guide_scale": None, "iterations_to_do": None, "schedule": None,
            **dict.fromkeys(OUTCOME),
        }  # fmt: skip
        if result["guided"] or result["relative"]:
            result["guide_scale"] = self._guide_scale()
        if self.forward == "power":
            from_linear = given["initial"] != "measured"
            result["initial"] = "linear model" if from_linear else "measured"
            result["schedule"] = self._sample._schedule(settings, options, from_linear, show_progressbar)
        self._solve(result, **folders)
        self.events.fitted.trigger(self)

    def _solve(self, result, scratch=None, resume=None):
        """Set up the solution of the whole image."""
        problem = self._problem_of(result)
        solution = solve_chunked(
            problem, result["tolerance"], result["max_iterations"], chunk=lazy_fusion.CHUNK,
            scratch=scratch, resume=resume, iterations=result["iterations_to_do"],
            schedule=result["schedule"], from_measured=result["initial"] == "measured",
        )  # fmt: skip
        self._result = {**result, "iterations_to_do": solution.plan.iterations or None}
        self._whole_problem, self._solution, self._maps = problem, solution, solution.maps
        when_solved(solution, self._learn)

    def _guide_scale(self):
        """Noise and blur of the image for `lazy_haadf_guide` and `lazy_haadf_reference`."""
        part, shape = self._sample, self._haadf.data.shape
        cut = tuple(is_sampled((length,)) for length in shape)
        left_out = np.broadcast_to(np.isinf(part.haadf_noise), part._haadf.data.shape)
        images = (sample_tiles(image, shape) for image in (part._haadf.data, left_out))
        return list(guide_scale(next(images), cut, next(images)))

    def _problem_of(self, result):
        """The problem of the whole image."""
        data, setup = stacked(self.signal.data), self._setup
        fidelity = tuple(self.fidelity)
        arguments = {
            "weights": self.weights, "haadf_offset": self.haadf_offset, "fidelity": fidelity,
            "forward": self.forward, "gamma": self.gamma,
            **{name: _array(setup[name]) for name in PIXELWISE},
            **{
                n: result[n]
                for n in (
                    "lambda_haadf", "lambda_chem", "count_slope", "lower_bound", "lambda_tv",
                    "regularization",
                )
            },
        }  # fmt: skip
        if self._haadf is not None:
            image = self._haadf.data
            lazy = image if isinstance(image, da.Array) else da.from_array(image, chunks=lazy_fusion.CHUNK)
            arguments["haadf"] = lazy
            if result["guided"]:
                arguments["guide"] = lazy_haadf_guide(
                    lazy, result["guide_scale"], arguments["haadf_noise"]
                )
            if result["relative"]:
                arguments["reference"] = lazy_haadf_reference(
                    lazy, result["guide_scale"], arguments["haadf_noise"]
                )
                arguments["reference_scale"] = result["reference_scale"]
        if result["regularization_weights_rule"] == "pilot":
            arguments["regularization_weights"] = lazy_pilot_weights(data, fidelity)
        elif result["regularization_weights"] is not None:
            arguments["regularization_weights"] = result["regularization_weights"]
        return LazyProblem(data, **arguments)

    # What comes of it

    @property
    def _found_maps(self):
        if self._maps is None:
            # A restored model is solved anew.
            self._solve(self._fitted)
        return self._maps

    def _learn(self, solution, outcome, arrays):
        """Keep what is known now, and the maps where they are in memory."""
        if solution.plan.topic != self._solution.plan.topic:
            return
        found = {**outcome, "terms": outcome["objective"]}
        self._result = {**self._result, **{name: found[name] for name in OUTCOME}}
        values = arrays.get(self._solution.maps.reshape(self.signal.data.shape).name)
        if values is not None:
            chunks = self._solution.maps.chunks
            self._maps = da.from_array(stacked(values), chunks=chunks, name=False)

    def _at_every_pixel(self, function, pairs=False):
        maps = self._found_maps
        return lazy_per_pixel(self._whole_problem, maps, function, pairs)

    def _provenance(self):
        shape = self.signal.data.shape[-2:]
        setup = {
            name: "per pixel" if np.shape(value)[-2:] == shape else value
            for name, value in self._setup.items()
        }
        told = provenance(setup, self._fitted)
        for name in ("guide_scale", "iterations_to_do", "max_iterations"):
            del told[name]
        if told.pop("schedule") is not None:
            told["steps_chosen_on"] = self._setup["chosen_on"]
        return told

    def _counts(self):
        raise NotImplementedError(
            f"This {IN_MEMORY}. These maps have {self.signal.data.nbytes / 1e9:.1f} GB."
        )

    def _refits(self, *_):
        raise NotImplementedError(
            f"method: found 'bootstrap', which {IN_MEMORY}; method='hessian' works in chunks, but knows nothing "
            "of the regularization."
        )


def _array(value):
    return value if isinstance(value, da.Array) else np.asarray(value)


def _but_images(values, shape):
    """Dask arrays, which lazily read files hold, as values, unless they have a value per pixel."""
    if isinstance(values, dict):
        return {name: _but_images(value, shape) for name, value in values.items()}
    if isinstance(values, da.Array) and values.shape[-2:] != shape:
        return values.compute()
    return values


def _refused(name):
    def method(self, *args, **kwargs):
        raise NotImplementedError(f"{name}() {IN_MEMORY}.")

    method.__name__ = name
    method.__doc__ = "Not available for maps that are fused chunk by chunk, for it needs all in memory."
    return method


for _name in REFUSED:
    setattr(LazyFusedMultiModal, _name, _refused(_name))
