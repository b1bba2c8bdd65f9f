"""The model of a fusion: element maps that explain the counts and the HAADF image at once."""

import logging

import numpy as np
from hyperspy.defaults_parser import preferences
from hyperspy.external.progressbar import progressbar
from hyperspy.model import BaseModel

from ..signals.grid import check_same_grid
from ..signals.names import atomic_number
from ..signals.warning import warn_caller
from ..solver import (
    FusionProblem,
    default_strength,
    estimate_noise,
    haadf_guide,
    pilot_weights,
    solve,
)
from . import checks, inputs, likelihood
from .attributes import Attributes
from .fit_options import FitOptions
from .haadf_scale import haadf_scale
from .inherited import RefusedSlicer, WithoutComponents
from .provenance import provenance

_logger = logging.getLogger(__name__)


class FusedMultiModal(Attributes, WithoutComponents, BaseModel):
    r"""Element maps fused with the HAADF image recorded with them.

    Made by :meth:`ElementMaps.create_model`. :meth:`fit` finds the maps :math:`x_i \ge 0` that
    minimise, over the pixels :math:`p` and the elements :math:`i`,

    .. math::

        \frac{\lambda_H}{2} \sum_p \left(\frac{o + \sum_i w_i x_i - b_H}{\sigma_H}\right)^2
        + \lambda_C \sum_{i, p} \left(x_i - b_i \log(x_i + \varepsilon_i)\right)
        + \sum_i \lambda_i \sum_p \rho_i |\nabla x_i|

    with the HAADF image :math:`b_H`, the measured maps :math:`b_i`, and every other symbol a public
    attribute: ``haadf_offset`` :math:`o`, ``weights`` :math:`w`, ``haadf_noise`` :math:`\sigma_H`,
    ``background`` :math:`\varepsilon`, ``lambda_haadf``, ``lambda_chem``, ``lambda_tv`` and
    ``regularization_weights`` :math:`\rho`. Gaussian maps have
    :math:`\frac12 ((x_i - b_i) / n_i)^2` with ``noise`` :math:`n` in place of the Poisson term, and
    ``forward="power"`` has :math:`\sum_i (w_i x_i)^\gamma` in place of the weighted sum.

    Parameters
    ----------
    maps : ElementMaps
        Measured maps, shape (E, R, C).
    haadf, forward, gamma, fidelity, background, sensitivities, weights, haadf_offset, haadf_noise, \
noise, preset, dictionary
        As :meth:`ElementMaps.create_model`.

    Raises
    ------
    ValueError, NotImplementedError
        As :meth:`ElementMaps.create_model`.

    Warns
    -----
    UserWarning
        If a map is zero everywhere, a Poisson map plainly does not hold counts, or the maps do not
        tell how much each element adds to the HAADF image.

    References
    ----------
    Schwartz et al., npj Computational Materials 8, 16 (2022), for the objective; Manassa et al.,
    Elemental Microscopy (2024), for the tutorial.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_fusedmm as fmm
    >>> thickness = np.add.outer(np.arange(16.0), np.arange(16.0)) / 8
    >>> counts = np.random.default_rng(0).poisson(thickness)
    >>> model = fmm.element_maps({"Co": counts}).create_model(50 + 20 * thickness)
    >>> model.fit(show_progressbar=False)
    >>> model.fused
    <ElementMaps, title: Element maps (fused), dimensions: (1|16, 16)>
    """

    _signal_dimension = 2

    def __init__(
        self,
        maps,
        haadf=None,
        *,
        forward="linear",
        gamma=1.7,
        fidelity="auto",
        background="auto",
        sensitivities=None,
        weights="auto",
        haadf_offset="auto",
        haadf_noise="auto",
        noise="auto",
        preset=None,
        dictionary=None,
    ):
        super().__init__()
        self.inav, self.isig = RefusedSlicer("inav"), RefusedSlicer("isig")
        self.signal = maps
        self.axes_manager = maps.axes_manager
        self._plot = self._model_line = self._residual_line = None
        self._computed = None
        self._haadf = self._setup = self._result = None
        if dictionary is not None:
            self._load_dictionary(dictionary)
            self._check_restored()
        else:
            self._haadf, self._setup = self._prepare(
                haadf,
                forward=forward,
                gamma=gamma,
                fidelity=fidelity,
                background=background,
                sensitivities=sensitivities,
                weights=weights,
                haadf_offset=haadf_offset,
                haadf_noise=haadf_noise,
                noise=noise,
                preset=preset,
            )
        self._whitelist = {"_haadf": ("sig", None), "_setup": None, "_result": None}

    def __repr__(self):
        title = self.signal.metadata.General.title
        return (
            f"<FusedMultiModal, {f'title: {title}, ' if title else ''}"
            f"elements: {', '.join(self._setup['names'])}, "
            f"{'without' if self._haadf is None else 'with'} HAADF, "
            f"{'not fitted' if self._result is None else 'fitted'}>"
        )

    # Setting up

    def _prepare(self, haadf, **given):
        """Check everything that was given, choose what was not; nothing is changed before."""
        checks.choice(given["forward"], ("linear", "power"), "forward")
        checks.number(given["gamma"], "gamma", 1.0, 2.5)
        checks.preset(given["preset"])
        names = inputs.named_maps(self.signal)
        elements = self.signal.elements
        numbers = np.array([atomic_number(element) for element in elements], dtype=float)
        image = None if haadf is None else inputs.haadf_image(haadf, self.signal)
        counts = self._counts()
        inputs.finite_maps(counts, names)
        setup = {
            "names": names,
            "elements": elements,
            "forward": given["forward"],
            "gamma": float(given["gamma"]),
            "preset": given["preset"],
            "fidelity": likelihood.fidelities(given["fidelity"], counts, names),
            "sensitivities": None,
        }
        if given["sensitivities"] is not None:
            setup["sensitivities"] = checks.per_element(
                given["sensitivities"], names, "sensitivities", positive=True
            )
        setup["background"] = likelihood.background(
            given["background"], names, counts.shape, setup["fidelity"], self.signal
        )
        setup["noise"] = self._map_noise(given["noise"], counts, setup)
        empty = inputs.empty_maps(counts, names)
        setup.update(
            haadf_scale(
                counts,
                image,
                numbers,
                empty,
                setup,
                weights=given["weights"],
                offset=given["haadf_offset"],
                noise=given["haadf_noise"],
            )
        )
        return image, setup

    def _map_noise(self, noise, counts, setup):
        """Standard deviation of the Gaussian maps; 1, which nothing uses, for the others."""
        gaussian = np.array([entry == "gaussian" for entry in setup["fidelity"]])
        if not isinstance(noise, str):
            return likelihood.given_noise(noise, setup["names"], counts.shape, gaussian)
        checks.choice(noise, ("auto",), "noise")
        if not gaussian.any():
            return np.ones(len(counts))
        variance = self.signal.get_noise_variance()
        if variance is not None:
            return likelihood.noise_of_variance(variance, counts.shape, gaussian)
        return likelihood.estimated_noise(estimate_noise(counts), counts, gaussian, setup["names"])

    def _counts(self):
        """The measured maps (E, R, C) in memory; lazy ones are computed once."""
        data = self.signal.data
        if not self.signal._lazy:
            return data.reshape((-1,) + data.shape[-2:])
        if self._computed is None or self._computed[0] is not data:
            _logger.info("Loading lazy element maps into memory (%d bytes).", data.nbytes)
            self._computed = data, np.asarray(data.compute())
        values = self._computed[1]
        return values.reshape((-1,) + values.shape[-2:])

    def _check_restored(self):
        """Bring back what files hold as Dask arrays, and refuse a model of other maps."""
        self._setup = _computed(self._setup)
        self._result = _computed(self._result)
        rows, columns = self.axes_manager.signal_axes[::-1]
        shape = (len(self._setup["names"]), rows.size, columns.size)
        if self._result is not None and self._result["maps"].shape != shape:
            raise ValueError(
                f"dictionary: found a model of maps of shape {self._result['maps'].shape}, but these "
                f"have {shape}; restore it from the maps it was made of."
            )
        if self._haadf is not None:
            self._haadf.data = checks.values_of(self._haadf)
            check_same_grid(
                self._haadf.axes_manager.signal_axes[::-1],
                (rows, columns),
                "dictionary: haadf",
                "the element maps",
            )

    # Fitting

    def fit(
        self,
        lambda_haadf="auto",
        lambda_chem=1.0,
        lambda_tv="auto",
        regularization="auto",
        guided="auto",
        regularization_weights="auto",
        solver="primal-dual",
        initial="auto",
        tolerance=1e-4,
        max_iterations=1000,
        seed=0,
        scratch=None,
        resume=None,
        show_progressbar=None,
        num_workers=None,
    ):
        """Find the fused maps.

        Interrupted or refused, it leaves the model as it was.

        Parameters
        ----------
        lambda_haadf : "auto" or float, default "auto"
            Weight of the HAADF term. With ``haadf_noise`` known, 1 is the statistically right value and
            the one "auto" takes.
        lambda_chem : float, default 1
            Weight of the likelihood of the counts.
        lambda_tv : "auto", float, (E,) or dict, default "auto"
            Strength of the regularization per element. "auto" follows a rule from the noise of each map;
            see :func:`hyperspy_fusedmm.solver.default_strength`.
        regularization : {"auto", "tv", "tgv"}, default "auto"
            Total variation (what "auto" takes) or second-order total generalized variation.
        guided : {"auto", True, False}, default "auto"
            Whether edges of the HAADF image steer the regularization. "auto" takes False.
        regularization_weights : {"auto", "uniform"} or array of shape (E, R, C), default "auto"
            Strength per pixel. "auto" follows the noise of the counts, stronger where there are few;
            "uniform" is the published form.
        solver : {"primal-dual", "gradient-descent"}, default "primal-dual"
            "gradient-descent" is the published algorithm, for reproduction.
        initial : "auto", "multiresolution", or maps of shape (E, R, C), default "auto"
            Where to start. It changes the time to the solution, not the solution.
        tolerance : float, default 1e-4
            Stop when the duality gap is at most this part of the objective. 0 runs exactly
            `max_iterations`.
        max_iterations : int, default 1000
            Most iterations.
        seed : int, default 0
            Seed of whatever an automatic choice draws at random.
        scratch : path, optional
            Folder for work out of memory.
        resume : path, optional
            Continue the work found there.
        show_progressbar : bool, optional
            None means as HyperSpy's preferences say.
        num_workers : int, optional
            Threads; all cores by default.

        Raises
        ------
        ValueError
            If an option cannot be used; its name, what was found and what is needed are told.
        NotImplementedError
            If an option is not available in this version.

        Warns
        -----
        UserWarning
            If `tolerance` was not reached within `max_iterations`.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model()
        >>> model.fit(tolerance=1e-3, show_progressbar=False)
        >>> model.converged and 0 <= model.relative_gap <= 1e-3
        True
        """
        counts = self._counts()
        options = FitOptions.checked(
            lambda_haadf=lambda_haadf,
            lambda_chem=lambda_chem,
            lambda_tv=lambda_tv,
            regularization=regularization,
            guided=guided,
            regularization_weights=regularization_weights,
            solver=solver,
            initial=initial,
            tolerance=tolerance,
            max_iterations=max_iterations,
            seed=seed,
            scratch=scratch,
            resume=resume,
            num_workers=num_workers,
            names=self._setup["names"],
            shape=counts.shape,
            with_haadf=self._haadf is not None,
        )
        settings = self._settings(options, counts)
        problem = self._problem(settings, counts)
        if show_progressbar is None:
            show_progressbar = preferences.General.show_progressbar
        with progressbar(
            total=options.max_iterations, desc="Fusing", disable=not show_progressbar
        ) as bar:
            solution = self._solved(problem, options, _progress(bar))
        self._result = {
            **settings,
            "maps": np.asarray(solution.maps),
            "terms": {
                name: float(value) for name, value in problem.objective(solution.maps).items()
            },
            "iterations": int(solution.iterations),
            "converged": bool(solution.converged),
            "gap": float(solution.gap),
            "relative_gap": float(solution.relative_gap),
            "history": {name: np.asarray(values) for name, values in solution.history.items()},
        }
        self.events.fitted.trigger(self)
        if options.tolerance > 0 and not solution.converged:
            warn_caller(
                f"tolerance: after max_iterations={options.max_iterations} the relative gap is "
                f"{solution.relative_gap:.2g}, above the tolerance of {options.tolerance:g}; the maps "
                "are usable, but raise max_iterations for the certified optimum.",
            )

    def _solved(self, problem, options, callback):
        try:
            return solve(
                problem,
                tolerance=options.tolerance,
                max_iterations=options.max_iterations,
                initial=options.initial,
                num_workers=options.num_workers,
                callback=callback,
            )
        except NotImplementedError as error:
            raise NotImplementedError(
                str(error)
                or f"forward: found {problem.forward!r} with regularization {problem.regularization!r}, "
                "which is not available in this version; use forward='linear'."
            ) from error

    def _settings(self, options, counts):
        """Weights of the terms, with everything "auto" decided."""
        fidelity = tuple(self._setup["fidelity"])
        rule = options.regularization_weights
        weights = None
        if not isinstance(rule, str):
            rule, weights = "given", rule
        elif rule == "auto":
            weights = np.asarray(pilot_weights(counts, fidelity))
        strength = options.lambda_tv
        if isinstance(strength, str):
            strength = default_strength(counts, fidelity, self._setup["noise"])
        return {
            "lambda_haadf": options.lambda_haadf if self._haadf is not None else 0.0,
            "lambda_chem": options.lambda_chem,
            "lambda_tv": np.asarray(strength, dtype=float),
            "regularization": options.regularization,
            "guided": options.guided,
            "regularization_weights_rule": rule,
            "regularization_weights": weights,
            "solver": options.solver,
            "tolerance": options.tolerance,
        }

    def _problem(self, settings, counts):
        """The problem on plain arrays."""
        setup = self._setup
        image = None if self._haadf is None else np.asarray(self._haadf.data, dtype=float)
        return FusionProblem(
            maps=counts,
            haadf=image,
            weights=setup["weights"],
            haadf_offset=setup["haadf_offset"],
            haadf_noise=setup["haadf_noise"],
            fidelity=tuple(setup["fidelity"]),
            background=setup["background"],
            noise=setup["noise"],
            lambda_haadf=settings["lambda_haadf"],
            lambda_chem=settings["lambda_chem"],
            lambda_tv=settings["lambda_tv"],
            regularization=settings["regularization"],
            guide=haadf_guide(image) if settings["guided"] else None,
            regularization_weights=settings["regularization_weights"],
            forward=setup["forward"],
            gamma=setup["gamma"],
        )

    @property
    def maps(self):
        """The measured maps (ElementMaps), the same object as ``signal``."""
        return self.signal

    # What the fit found

    @property
    def fused(self):
        """Fused maps (ElementMaps) with the axes and metadata of the measured maps; lazy if they are."""
        result = self._fitted
        fused = self._like_maps(result["maps"])
        fused.metadata.General.title = f"{self.signal.metadata.General.title} (fused)".strip()
        fused.metadata.set_item("FusedMultiModal", provenance(self._setup, result))
        # The fused maps are net: subtracted once, a background is none of theirs.
        if fused.metadata.has_item("Background"):
            del fused.metadata.Background
        return fused

    @property
    def haadf_fit(self):
        """HAADF image that the fused maps predict (Signal2D)."""
        return self._like_haadf(self._predicted_haadf(), "fit")

    @property
    def haadf_residual(self):
        """HAADF image minus its fit (Signal2D)."""
        predicted = self._predicted_haadf()
        return self._like_haadf(np.asarray(self._haadf.data, dtype=float) - predicted, "residual")

    def objective(self, maps=None):
        """The terms of the objective, in the units of the maps.

        Parameters
        ----------
        maps : ElementMaps or array of shape (E, R, C), optional
            Where to evaluate; by default the fused maps.

        Returns
        -------
        dict
            "haadf", "chem", "regularization" and "total" (floats), weights included.

        Raises
        ------
        ValueError
            If the shape is wrong.
        RuntimeError
            Before :meth:`fit`, which decides the weights.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model()
        >>> model.fit(tolerance=1e-2, show_progressbar=False)
        >>> model.objective()["total"] < model.objective(counts)["total"]
        True
        """
        result = self._fitted
        if maps is None:
            return {name: float(value) for name, value in result["terms"].items()}
        x, shape = checks.values_of(maps), result["maps"].shape
        if x.shape != shape and (1,) + x.shape != shape:
            raise ValueError(f"maps: found an array of shape {x.shape}; {shape} is needed.")
        x = x.reshape(shape)
        terms = self._problem(result, self._counts()).objective(x)
        return {name: float(value) for name, value in terms.items()}

    def as_signal(self):
        """Counts that the fused maps predict: the maps plus the background.

        Returns
        -------
        ElementMaps
            Lazy if the measured maps are.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model(background=1.0)
        >>> model.fit(tolerance=1e-2, show_progressbar=False)
        >>> bool(np.allclose(model.as_signal().data, model.fused.data + 1))
        True
        """
        background = self._setup["background"]
        if background.ndim == 1:
            background = background[:, np.newaxis, np.newaxis]
        expected = self._like_maps(self._fitted["maps"] + background)
        title = self.signal.metadata.General.title
        expected.metadata.General.title = f"{title} from fitted model".strip()
        return expected

    def plot_convergence(self, ax=None):
        """Plot the terms of the objective, the total and the gap against iteration.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a figure of its own.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..drawing.convergence import plot_convergence

        return plot_convergence(self.history, ax=ax)

    def plot_maps(self, elements=None, errors=False):
        """Plot measured above fused maps, one column per element, and the HAADF image with its fit.

        Parameters
        ----------
        elements : list of str, optional
            Elements to draw; all by default.
        errors : bool, default False
            Draw the standard error of each map as well.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..drawing.comparison import plot_maps

        return plot_maps(self, elements=elements, errors=errors)

    def _predicted_haadf(self):
        if self._haadf is None:
            raise RuntimeError(
                "The model has no HAADF image: pass one to create_model() to get its fit."
            )
        signal = self._setup["weights"][:, np.newaxis, np.newaxis] * self._fitted["maps"]
        if self.forward == "power":
            signal = signal**self.gamma
        return self.haadf_offset + signal.sum(axis=0)

    def _like_maps(self, values):
        data = values.reshape(self.signal.data.shape)
        if self.signal._lazy:
            import dask.array as da

            data = da.from_array(data, chunks=self.signal.data.chunks)
        return self.signal._deepcopy_with_new_data(data)

    def _like_haadf(self, values, suffix):
        image = self._haadf._deepcopy_with_new_data(values)
        image.metadata.General.title = f"{self._haadf.metadata.General.title} {suffix}".strip()
        return image


def _progress(bar):
    """What the solver calls from time to time."""

    def report(iteration, max_iterations, relative_gap):
        bar.update(iteration - bar.n)
        if np.isfinite(relative_gap):
            bar.set_postfix_str(f"relative gap {relative_gap:.1e}", refresh=False)

    return report


def _terms(problem, solution):
    """The terms at the solution; TGV, a minimum itself, as the solver found it."""
    if problem.regularization == "tv":
        terms = problem.objective(solution.maps)
    else:
        history = solution.history
        terms = {"haadf": history["haadf"][-1], "chem": history["chem"][-1]}
        terms |= {"regularization": history["tv"][-1], "total": history["total"][-1]}
    return {name: float(value) for name, value in terms.items()}


def _computed(value):
    """Dask arrays, which lazily read files hold, as values."""
    if isinstance(value, dict):
        return {key: _computed(entry) for key, entry in value.items()}
    return checks.values_of(value) if hasattr(value, "dask") else value
