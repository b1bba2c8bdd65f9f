"""The fit of a fusion: options, start, solution, and what is kept of it."""

import numpy as np
from hyperspy.external.progressbar import progressbar

from ..signals.progress import is_shown
from ..signals.sampling import is_sampled, sample
from ..signals.warning import warn_caller
from ..solver import (
    FusionProblem,
    haadf_guide,
    haadf_reference,
    pilot_weights,
    reference_scale,
    solve,
)
from ..solver.resolution import least_values
from .choice import CHOSEN, decide
from .fit_options import TV_ITERATIONS, FitOptions
from .presets import filled, named
from .sampled import sampled_problem
from .scaling import scaled_image, scaled_maps

WEIGHTS = ("lambda_haadf", "lambda_chem", "lambda_tv")
# Weights that change by no more than this factor: going on from the last fit took from half to nine
# tenths of the iterations then, and more than from the measured maps after changes by two.
SMALL_CHANGE = 1.3
# Of the fit of a part of the image that finds the slopes of the likelihood for all of it.
SLOPE_TOLERANCE, SLOPE_ITERATIONS = 1e-3, 1000


class Fitting:
    """Finds the fused maps.

    ``_state`` holds where the solver ended, to go on from there; files do not keep it.
    """

    _state = None
    # Options and what was chosen for them: the data do not change, so neither does the choice.
    _choice = None
    # Least values of the maps, as the data do not change either.
    _least = None
    # Options and the slopes that keep the counts.
    _kept_slopes = None

    def fit(
        self,
        lambda_haadf="auto",
        lambda_chem="auto",
        lambda_tv="auto",
        regularization="auto",
        guided="auto",
        relative="auto",
        regularization_weights="auto",
        count_slope="auto",
        lower_bound="auto",
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

        `lambda_haadf`, `lambda_tv`, `regularization`, `guided` and `relative` are chosen from the data where they
        are "auto": of many short fits the one is taken whose maps are expected to be closest to the truth, as
        far as the noise of the maps tells [1]_ [2]_. :attr:`selection` holds what was tried, and
        :meth:`plot_selection` shows it. Fits with the same options choose once.

        Parameters
        ----------
        lambda_haadf : "auto" or float, default "auto"
            Weight of the HAADF term. With a model that describes the HAADF image up to ``haadf_noise``, 1 is
            the statistically right value; "auto" finds less where it does not, and 0, which is told in a
            warning, where the image does not help.
        lambda_chem : "auto" or float, default "auto"
            Weight of the likelihood of the counts. "auto" takes 1, the statistically right value.
        lambda_tv : {"auto", "noise"}, float, (E,) or dict, default "auto"
            Strength of the regularization per element. "noise" follows a rule from the noise of each map; see
            :func:`hyperspy_fusedmm.solver.default_strength`. Form and weight of the image are still searched for
            where they are "auto".
        regularization : {"auto", "tv", "tgv"}, default "auto"
            Total variation or second-order total generalized variation.
        guided : {"auto", True, False}, default "auto"
            Whether edges of the HAADF image steer the regularization.
        relative : {"auto", True, False}, default "auto"
            Whether the regularization is of each map less a multiple of the HAADF image, so that contrast
            proportional to it, as that of the thickness, costs nothing. The image is blurred as its noise
            asks for, and the multiple is the slope of the counts over it. "auto" takes False where `regularization`
            or `guided` is given, and for ``forward="power"`` and "gradient-descent", which have no other.
        regularization_weights : {"auto", "uniform", "pilot"} or array of shape (E, R, C), default "auto"
            Strength per pixel. "uniform", which "auto" takes, is the published form; "pilot" follows the noise
            of the counts, stronger where there are few.
        count_slope : "auto", float, (E,) or dict, default "auto"
            Slope of the likelihood of Poisson maps, per element: what an expected count costs. 1 is the
            published form, with which regularization takes counts away, of faint maps often a tenth. "auto" finds
            slopes with which the counts of each map stay the same to a per cent or two, the maps of a
            scan of more than 1024 rows or columns as far as a part of it tells; for ``forward="power"`` and
            "gradient-descent" it takes 1.
        lower_bound : "auto", float, (E,) or dict, default "auto"
            Smallest value of each fused map, in counts per pixel. The published form has 0, which is the likeliest
            value where nothing was counted, but not what to expect of a longer measurement. "auto" takes a
            quarter of a count in each area that the counts of the map resolve, or less where the HAADF image would
            see it; 0 for Gaussian maps, ``forward="power"`` and "gradient-descent", which have no other.
        solver : {"auto", "primal-dual", "gradient-descent"}, default "auto"
            "primal-dual" (what "auto" takes) goes on until `tolerance` is met. "gradient-descent" is the
            published algorithm, for reproduction: `max_iterations` steps of length 1, which suit maps and
            image scaled to [0, 1] as ``preset="schwartz2022"`` does. It has no stopping rule and ends
            somewhat above the minimum of the same objective.
        initial : "auto", "measured", "multiresolution", or maps of shape (E, R, C), default "auto"
            Where to start. "measured": the measured maps, as published. "multiresolution": the solution for
            maps binned by 2 x 2, itself found so, down to no less than 32 pixels along the shorter side;
            smaller images start as with "auto". "auto": the measured maps; for ``forward="power"`` the
            solution of the linear model; the end of the fit that found the slopes with which counts are kept; and
            where weights of a linear model change by less than a third from one fit to the next, the end of the
            last fit, which saves up to half of the time; and after
            an automatic choice on the whole image the end of the best fit that was tried. The
            solution of the linear model does not depend on the start beyond `tolerance`; see Notes for the
            power model.
        tolerance : float, default 1e-4
            Stop when the duality gap is at most this part of the objective; for ``forward="power"`` the gap
            of the convex model of the objective at the solution, ``stationarity``. 0 runs exactly
            `max_iterations`, as "gradient-descent" always does.
        max_iterations : "auto" or int, default "auto"
            Most iterations. "auto" takes 3000, and 30 for "gradient-descent" as in its tutorial.
        tv_iterations : "auto" or int, default "auto"
            Inner iterations in each step of "gradient-descent" for the total variation. "auto" takes 3 as in
            its tutorial.
        seed : int, default 0
            Seed of what the automatic choice draws at random.
        scratch : path, optional
            Of lazy maps of more than 1024 x 1024 pixels: an empty or new folder for what does not fit in
            memory; a temporary one if not given.
        resume : path, optional
            Scratch folder of an interrupted run of the same fit, to go on with.
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
            If `tolerance` was not reached within `max_iterations`, if gradient descent raised the objective,
            or if something was to be chosen from the data but could not, or the HAADF image was left out.

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

        References
        ----------
        .. [1] Efron, J. Am. Stat. Assoc. 99, 619 (2004).
        .. [2] Oliveira, Lei & Tibshirani, arXiv:2212.01943 (2022).

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
        given = {
            "lambda_haadf": lambda_haadf,
            "lambda_chem": lambda_chem,
            "lambda_tv": lambda_tv,
            "regularization": regularization,
            "guided": guided,
            "relative": relative,
            "regularization_weights": regularization_weights,
            "count_slope": count_slope,
            "lower_bound": lower_bound,
            "solver": solver,
            "initial": initial,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
            "tv_iterations": tv_iterations,
            "seed": seed,
            "scratch": scratch,
            "resume": resume,
            "num_workers": num_workers,
        }
        self._fit(given, is_shown(show_progressbar))

    def _fit(self, given, show_progressbar):
        """Decide, solve, and keep what was found."""
        counts = scaled_maps(self._counts(), self._setup)
        options = self._options(counts.shape, **given)
        settings, near = self._settings(options, counts, show_progressbar)
        start, settings["initial"] = self._start(options, settings, counts.shape, near)
        # What is not started from makes room.
        del near
        problem = self._problem(settings, counts)
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

    def _decision(self, given, show_progressbar):
        """Checked options of a fit, and its settings with everything "auto" decided; nothing is solved."""
        counts = scaled_maps(self._counts(), self._setup)
        options = self._options(counts.shape, **given)
        return options, self._settings(options, counts, show_progressbar)[0]

    def _schedule(self, settings, options, from_linear, show_progressbar):
        """Steps of the power model, (K, 3), that a fit with decided settings takes."""
        problem = self._problem(settings, scaled_maps(self._counts(), self._setup))
        with progressbar(
            total=options.max_iterations, desc="Choosing steps", disable=not show_progressbar
        ) as bar:
            return solve(
                problem, options.tolerance, options.max_iterations,
                None if from_linear else "measured", num_workers=options.num_workers,
                callback=_progress(bar, _distance("power")),
            ).schedule  # fmt: skip

    def _options(self, shape, **given):
        """Options of a fit, checked, with what the preset has for them."""
        return FitOptions.checked(
            **filled(given, named(self._setup["preset"]).fit),
            names=self._setup["names"],
            shape=shape,
            with_haadf=self._haadf is not None,
            forward=self._setup["forward"],
        )

    def _start(self, options, settings, shape, near):
        """Where the solver starts, as its arguments and in a word; `near` is a state close to the end."""
        initial = options.initial
        if not isinstance(initial, str):
            return {"initial": scaled_maps(initial, self._setup)}, "given"
        if initial != "auto":
            return {"initial": initial}, initial
        if near is None and self._goes_on(settings, shape):
            return {"state": self._state}, "last fit"
        power = options.solver == "primal-dual" and self._setup["forward"] == "power"
        if near is not None and settings["keeps_counts"]:
            return {"state": near, "overwrite_state": True}, "slopes"
        if near is not None and not power:
            return {"state": near}, "choice"
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

    def _settings(self, options, counts, show_progressbar):
        """Weights of the terms, with everything "auto" decided, and a state near the end if there is one."""
        rule = options.regularization_weights
        weights = None
        if not isinstance(rule, str):
            rule, weights = "given", rule
        elif rule == "pilot":
            weights = np.asarray(pilot_weights(counts, tuple(self._setup["fidelity"])))
        settings = {
            "lambda_chem": options.lambda_chem,
            **self._likelihood_of(options, counts),
            "regularization_weights_rule": rule,
            "regularization_weights": weights,
            "solver": options.solver,
            "tolerance": options.tolerance,
            "tv_iterations": options.tv_iterations,
            "seed": options.seed,
        }
        decided, state = self._decided(options, settings, counts, show_progressbar)
        settings |= decided
        settings["reference_scale"] = self._reference_scale(settings, counts)
        if settings["keeps_counts"]:
            state = self._keep_counts(settings, options, counts, state, show_progressbar)
        return settings, state

    def _keep_counts(self, settings, options, counts, near, show_progressbar):
        """Put the slopes with which maps keep their counts into the settings; a state near the end, if any.

        They are found by a short fit, on a part of a large image, and do not change then.
        """
        names = (
            *WEIGHTS, "regularization", "guided", "relative", "regularization_weights", "lower_bound",
        )  # fmt: skip
        key = {name: settings[name] for name in names} | {"shape": counts.shape}
        if self._kept_slopes is not None and _equal(self._kept_slopes[0], key):
            settings["count_slope"] = self._kept_slopes[1]
            return None
        problem, whole = self._problem(settings, counts), not is_sampled(counts.shape[1:])
        if self._goes_on(settings, counts.shape):
            near = self._state
        with progressbar(
            total=SLOPE_ITERATIONS, desc="Keeping counts", disable=not show_progressbar
        ) as bar:
            found = solve(
                problem if whole else sampled_problem(problem), SLOPE_TOLERANCE, SLOPE_ITERATIONS,
                state=near if whole else None, num_workers=options.num_workers,
                callback=_progress(bar, _distance("linear")), keep_counts=True,
            )  # fmt: skip
        self._kept_slopes = key, found.count_slope
        settings["count_slope"] = found.count_slope
        return found.state if whole else None

    def _reference_scale(self, settings, counts):
        """Multiple of the image for each map that costs no regularization, found on a part of large images."""
        if not settings["relative"]:
            return np.zeros(len(counts))
        problem = self._problem(settings | {"guided": False, "reference_scale": 0.0}, counts)
        if is_sampled(counts.shape[1:]):
            problem = sampled_problem(problem)
        return reference_scale(problem, problem.reference)

    def _likelihood_of(self, options, counts):
        """Slopes of the likelihood, whether those are to be found that keep the counts, and least values."""
        slope, least = options.count_slope, options.lower_bound
        published = options.solver == "gradient-descent" or self._setup["forward"] == "power"
        fidelity = self._setup["fidelity"]
        if isinstance(least, str):
            least = np.zeros(len(counts)) if published else self._least_values(counts)
        automatic = isinstance(slope, str)
        return {
            "count_slope": np.ones(len(counts)) if automatic else slope,
            "keeps_counts": automatic and not published and "poisson" in fidelity,
            "lower_bound": least,
        }

    def _least_values(self, counts):
        """Values that the maps may not go below by default, found on a part of large images."""
        if self._least is None:
            noise = self._setup["haadf_noise"]
            if is_sampled(counts.shape[1:]):
                (counts,) = sample(counts)
                noise = sample(noise)[0] if np.ndim(noise) else noise
            weights = None if self._haadf is None else self._setup["weights"]
            self._least = least_values(counts, self._setup["fidelity"], weights, noise)
        return self._least.copy()

    def _decided(self, options, settings, counts, show_progressbar):
        """Form of the regularization and weights, chosen from the data where they are "auto"."""
        names = (*CHOSEN, "seed", "solver", "lambda_chem", "count_slope", "lower_bound")
        key = {name: getattr(options, name) for name in names}
        key |= {"regularization_weights": options.regularization_weights, "shape": counts.shape}
        if self._choice is None or not _equal(self._choice[0], key):
            problem = self._problem(
                settings
                | {
                    "lambda_haadf": 1.0, "lambda_tv": 1.0, "regularization": "tv", "guided": False,
                    "relative": False,
                },
                counts,
            )
            with progressbar(desc="Choosing weights", disable=not show_progressbar) as bar:
                choice = decide(
                    problem,
                    options,
                    known_noise=self._setup["noise_rule"] != "estimated",
                    callback=_count(bar),
                    keep_counts=settings["keeps_counts"],
                )
            _warn_of_choice(choice, self._setup["names"], self._haadf is not None)
            self._choice = key, choice.settings
            return dict(choice.settings), choice.state
        return dict(self._choice[1]), None

    def _problem(self, settings, counts):
        """The problem on plain arrays; `counts` are in its units."""
        setup = self._setup
        image = None if self._haadf is None else scaled_image(self._haadf.data, setup)
        relative = {}
        if settings["relative"]:
            relative["reference"] = haadf_reference(image, setup["haadf_noise"])
            relative["reference_scale"] = settings["reference_scale"]
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
            count_slope=settings["count_slope"],
            lower_bound=settings["lower_bound"],
            lambda_tv=settings["lambda_tv"],
            regularization=settings["regularization"],
            guide=haadf_guide(image, setup["haadf_noise"]) if settings["guided"] else None,
            regularization_weights=settings["regularization_weights"],
            forward=setup["forward"],
            gamma=setup["gamma"],
            **relative,
        )


def _progress(bar, distance):
    """What the solver calls from time to time."""

    def report(iteration, max_iterations, relative_gap):
        bar.update(iteration - bar.n)
        if np.isfinite(relative_gap):
            bar.set_postfix_str(f"{distance} {relative_gap:.1e}", refresh=False)

    return report


def _count(bar):
    """What the choice calls after each fit; the number of fits is known about."""

    def report(done, expected):
        bar.total = expected
        bar.update(done - bar.n)

    return report


def _equal(key, other):
    """Whether options are the same."""
    return all(
        type(key[name]) is type(other[name]) and np.array_equal(key[name], other[name]) for name in key
    )


def _warn_of_choice(choice, names, with_haadf):
    """Tell what could not be chosen, and where the image was found to be of no use."""
    names = ", ".join(np.array(names)[choice.undecided])
    if choice.reason == "filtered":
        warn_caller(
            f"maps: the noise of {names} is not independent from pixel to pixel, as after a filter or "
            "resampling, or cannot be seen, so that no weights can be chosen from it; regularization='tgv' "
            "with strengths from the noise level was taken where nothing was given. Use the measured "
            "counts, or pass lambda_tv."
        )
    elif names:
        warn_caller(
            f"maps: there are too few counts of {names} to choose lambda_tv by; it follows from the noise level there."
        )
    beside = ""
    if choice.shift is not None:
        y, x = choice.shift
        beside = (
            f"it seems to lie beside the maps and should be moved by {x:+.1f} pixels along x and {y:+.1f} along y "
            "(positive: towards higher pixel numbers); "
        )
        if choice.settings["lambda_haadf"] > 0:
            warn_caller(
                f"haadf: the image counts little (lambda_haadf={choice.settings['lambda_haadf']:.2g}), for "
                f"{beside}diagnose() tells more."
            )
    if (
        with_haadf
        and "lambda_haadf" in choice.settings["chosen_from_data"]
        and choice.settings["lambda_haadf"] == 0
    ):
        warn_caller(
            "haadf: the image was left out (lambda_haadf=0), because maps fitted without it are expected to be "
            f"closer to the truth: {beside or 'it may be shifted, inverted or saturated, or show what is not mapped; '}"
            "diagnose() tells more. Pass lambda_haadf to use it all the same."
        )


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
