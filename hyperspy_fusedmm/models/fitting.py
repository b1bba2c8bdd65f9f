"""The fit of a fusion: options, start, solution, and what is kept of it."""

import numpy as np
from hyperspy.defaults_parser import preferences
from hyperspy.external.progressbar import progressbar

from ..signals.warning import warn_caller
from ..solver import FusionProblem, default_strength, haadf_guide, pilot_weights, solve
from .fit_options import TV_ITERATIONS, FitOptions
from .presets import filled, named
from .scaling import scaled_image, scaled_maps

WEIGHTS = ("lambda_haadf", "lambda_chem", "lambda_tv")
# Weights that change by no more than this factor: going on from the last fit took from half to nine
# tenths of the iterations then, and more than from the measured maps after changes by two.
SMALL_CHANGE = 1.3


class Fitting:
    """Finds the fused maps.

    ``_state`` holds where the solver ended, to go on from there; files do not keep it.
    """

    _state = None

    def fit(
        self,
        lambda_haadf="auto",
        lambda_chem="auto",
        lambda_tv="auto",
        regularization="auto",
        guided="auto",
        regularization_weights="auto",
        solver="auto",
        initial="auto",
        tolerance=1e-4,
        max_iterations="auto",
        tv_iterations="auto",
        seed=0,
        scratch=None,
        resume=None,
        show_progressbar=None,
        num_workers=None,
    ):
        """Find the fused maps.

        Interrupted or refused, it leaves the model as it was. What is left "auto" follows the preset of the
        model, where it has one; the defaults below are those of a model without.

        Parameters
        ----------
        lambda_haadf : "auto" or float, default "auto"
            Weight of the HAADF term. With ``haadf_noise`` known, 1 is the statistically right value and
            the one "auto" takes.
        lambda_chem : "auto" or float, default "auto"
            Weight of the likelihood of the counts. "auto" takes 1, the statistically right value.
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
        solver : {"auto", "primal-dual", "gradient-descent"}, default "auto"
            "primal-dual" (what "auto" takes) goes on until `tolerance` is met. "gradient-descent" is the
            published algorithm, for reproduction: `max_iterations` steps of length 1, which suit maps and
            image scaled to [0, 1] as ``preset="schwartz2022"`` does. It has no stopping rule and ends
            somewhat above the minimum of the same objective.
        initial : "auto", "measured", "multiresolution", or maps of shape (E, R, C), default "auto"
            Where to start. "measured": the measured maps, as published. "multiresolution": the solution for
            maps binned by 2 x 2, itself found so, down to no less than 32 pixels along the shorter side;
            smaller images start as with "auto". "auto": the measured maps; for ``forward="power"`` the
            solution of the linear model; and where weights of a linear model change by less than a third
            from one fit to the next, the end of the last fit, which saves up to half of the time. The
            solution of the linear model does not depend on the start beyond `tolerance`; see Notes for the
            power model.
        tolerance : float, default 1e-4
            Stop when the duality gap is at most this part of the objective; for ``forward="power"`` the gap
            of the convex model of the objective at the solution, ``stationarity``. 0 runs exactly
            `max_iterations`, as "gradient-descent" always does.
        max_iterations : "auto" or int, default "auto"
            Most iterations. "auto" takes 1000, and 30 for "gradient-descent" as in its tutorial.
        tv_iterations : "auto" or int, default "auto"
            Inner iterations in each step of "gradient-descent" for the total variation. "auto" takes 3 as in
            its tutorial.
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
            If `tolerance` was not reached within `max_iterations`, or gradient descent raised the objective.

        Notes
        -----
        The objective of ``forward="power"`` has many stationary points, and which one is found depends on
        the start. At few counts the measured maps are a bad one: single counts grow into spurious atoms, and
        where nothing was counted nothing pulls up. The solution of the linear model, and "multiresolution",
        where which element a bright spot belongs to is decided on binned maps, both avoid that. On
        simulated lattices of 0.1 to 1 counts per pixel they end at similar objectives with the default
        ``regularization_weights``; with "uniform" ones "multiresolution" ends lower and leaves about half of
        the spurious intensity. On the tutorial's data with its preset it ends 1 % above "auto" and
        "measured", which agree: compare ``objective()["total"]``.

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
        counts = scaled_maps(self._counts(), self._setup)
        options = self._options(
            counts.shape,
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
            tv_iterations=tv_iterations,
            seed=seed,
            scratch=scratch,
            resume=resume,
            num_workers=num_workers,
        )
        settings = self._settings(options, counts)
        start, settings["initial"] = self._start(options, settings, counts.shape)
        problem = self._problem(settings, counts)
        if show_progressbar is None:
            show_progressbar = preferences.General.show_progressbar
        with progressbar(
            total=options.max_iterations, desc="Fusing", disable=not show_progressbar
        ) as bar:
            solution = solve(
                problem,
                method=options.solver,
                tolerance=options.tolerance,
                max_iterations=options.max_iterations,
                tv_iterations=options.tv_iterations or TV_ITERATIONS,
                num_workers=options.num_workers,
                callback=_progress(bar, _distance(problem.forward)),
                **start,
            )
        self._result = {**settings, **_found(problem, solution)}
        self._state = solution.state
        self.events.fitted.trigger(self)
        _warn(options, problem.forward, solution)

    def _options(self, shape, **given):
        """Options of a fit, checked, with what the preset has for them."""
        return FitOptions.checked(
            **filled(given, named(self._setup["preset"]).fit),
            names=self._setup["names"],
            shape=shape,
            with_haadf=self._haadf is not None,
        )

    def _start(self, options, settings, shape):
        """Where the solver starts, as its arguments and in a word."""
        initial = options.initial
        if not isinstance(initial, str):
            return {"initial": scaled_maps(initial, self._setup)}, "given"
        if initial != "auto":
            return {"initial": initial}, initial
        if self._goes_on(settings, shape):
            return {"state": self._state}, "last fit"
        power = options.solver == "primal-dual" and self._setup["forward"] == "power"
        return {}, "linear model" if power else "measured"

    def _goes_on(self, settings, shape):
        """Whether to start where the last fit of this session ended.

        That saves time after small changes and costs time after large ones. The result of the power
        model would depend on the fits before.
        """
        last = self._result
        return (
            self._state is not None
            and self._setup["forward"] == "linear"
            and settings["solver"] == "primal-dual"
            and settings["regularization"] == last["regularization"]
            and shape == last["maps"].shape
            and all(_is_near(settings[name], last[name]) for name in WEIGHTS)
        )

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
            "tv_iterations": options.tv_iterations,
        }

    def _problem(self, settings, counts):
        """The problem on plain arrays; `counts` are in its units."""
        setup = self._setup
        image = None if self._haadf is None else scaled_image(self._haadf.data, setup)
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


def _progress(bar, distance):
    """What the solver calls from time to time."""

    def report(iteration, max_iterations, relative_gap):
        bar.update(iteration - bar.n)
        if np.isfinite(relative_gap):
            bar.set_postfix_str(f"{distance} {relative_gap:.1e}", refresh=False)

    return report


def _is_near(weight, other):
    """Whether weights differ by small factors; zeros only from zeros."""
    weight, other = np.asarray(weight), np.asarray(other)
    return bool(np.all((weight <= SMALL_CHANGE * other) & (other <= SMALL_CHANGE * weight)))


def _distance(forward):
    """What tells how far the end is."""
    return "stationarity residual" if forward == "power" else "relative gap"


def _terms(problem, solution):
    """The terms at the solution; TGV, a minimum itself, as the solver found it."""
    if problem.regularization == "tv":
        terms = problem.objective(solution.maps)
    else:
        history = solution.history
        terms = {"haadf": history["haadf"][-1], "chem": history["chem"][-1]}
        terms |= {"regularization": history["tv"][-1], "total": history["total"][-1]}
    return {name: float(value) for name, value in terms.items()}


def _found(problem, solution):
    """What is kept of a solution, as plain values."""
    return {
        "maps": np.asarray(solution.maps),
        "terms": _terms(problem, solution),
        "iterations": int(solution.iterations),
        "converged": bool(solution.converged),
        "gap": float(solution.gap),
        "relative_gap": float(solution.relative_gap),
        "stationarity": float(solution.stationarity),
        "history": {name: np.asarray(values) for name, values in solution.history.items()},
    }


def _warn(options, forward, solution):
    """Tell where the solution is not what was asked for."""
    total = solution.history["total"]
    if options.solver == "gradient-descent" and not total[-1] <= total[0]:
        warn_caller(
            f"solver: gradient descent raised the objective from {total[0]:.6g} to {total[-1]:.6g}; its "
            "steps of length 1 suit maps and image scaled to [0, 1], as preset='schwartz2022' does. Use "
            "solver='primal-dual' otherwise."
        )
    if options.tolerance > 0 and not solution.converged:
        power = forward == "power"
        distance = solution.stationarity if power else solution.relative_gap
        warn_caller(
            f"tolerance: after max_iterations={options.max_iterations} the {_distance(forward)} is "
            f"{distance:.2g}, above the tolerance of {options.tolerance:g}; the maps are usable, but raise "
            f"max_iterations for {'a stationary point' if power else 'the certified optimum'}."
        )
