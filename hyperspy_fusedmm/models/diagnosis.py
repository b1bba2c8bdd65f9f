"""Whether the HAADF image helped, and whether it is to be trusted."""

from dataclasses import replace

import numpy as np

from ..signals.names import atomic_number
from ..signals.progress import is_shown
from ..solver import (
    FusionProblem,
    calibrate_haadf,
    default_strength,
    estimate_noise,
    solve,
)
from ..solver.calibration import detector_noise
from ..solver.held_out import Gain, counts_alone, held_out_gain
from ..solver.image_misfit import misfit, predicted, saturated_shares
from ..solver.influence import composition_moves, haadf_influence
from ..solver.registration import find_shift
from ..solver.representative import cropped
from ..solver.smoothing import chosen_blur, fill_left_out
from ..solver.white_noise import is_white
from . import checks, findings
from .haadf_scale import prior_weights
from .scaling import scaled_maps
from .verdict import Verdict

# Larger images are judged by their middle; what the image adds is measured on representative tiles.
LARGEST_SIDE = 1024


class Diagnosis:
    """Tells what the HAADF image is worth for the fit, and what is wrong with it."""

    def diagnose(
        self, *, uncertainty_of_weights=0.06, seed=0, verbose=True, show_progressbar=None, num_workers=None
    ):  # fmt: skip
        """Say whether the HAADF image helped, and whether to trust it.

        How much the image adds is measured as the log-likelihood of new counts [1]_: of fits with the image over
        fits to the counts alone, both at their best strength of the regularization. Then the image is
        compared with what the measured maps, not the fused ones, predict of it: is it saturated, inverted
        (bright-field), shifted, not linear, or does it show what is in no map? Each is told only where it
        stands out of the noise of the counts and is large enough to matter. Last, the weights are moved to see
        how far the composition follows.

        It takes the time of about as many fits as the search for weights does, and changes nothing.

        Parameters
        ----------
        uncertainty_of_weights : float, default 0.06
            Relative change of each HAADF weight for which the change of the composition is told; 6 % is what
            Schwartz et al. [2]_ quote.
        seed : int, default 0
            Seed of what is drawn to measure the gain.
        verbose : bool, default True
            Whether the verdict is printed.
        show_progressbar : bool, optional
            None means as HyperSpy's preferences say.
        num_workers : int, optional
            Threads; all cores by default.

        Returns
        -------
        Verdict
            Numbers and findings; ``print()`` shows them.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`, or if there is no HAADF image.
        ValueError
            If an option cannot be used.

        References
        ----------
        .. [1] Efron, J. Am. Stat. Assoc. 99, 619 (2004).
        .. [2] Schwartz et al., npj Computational Materials 8, 16 (2022).

        Examples
        --------
        >>> import hyperspy_fusedmm as fmm
        >>> specimen = fmm.data.core_shell_particles(shape=(64, 64), dose=3)
        >>> model = specimen.maps.create_model(specimen.haadf, sensitivities=specimen.sensitivities)
        >>> model.fit(lambda_tv="noise", show_progressbar=False)
        >>> verdict = model.diagnose(verbose=False, show_progressbar=False)
        >>> verdict.helps
        True
        """
        checks.number(uncertainty_of_weights, "uncertainty_of_weights", 0.0, 0.5, positive=True)
        checks.whole_number(seed, "seed", 0)
        if num_workers is not None:
            checks.whole_number(num_workers, "num_workers", 1)
        result = self._diagnosed()
        counts = self._counts()
        problem, data = self._judged_problem(counts), self._measured_problem(counts)
        scale = self._setup["map_scale"]
        with self._steps(show_progressbar) as steps:
            gain = held_out_gain(
                problem, data=data, offset=self._setup["map_offset"], scale=scale,
                alone=self._fair_alone(data), start=result["maps"] if problem.forward == "power" else None,
                refit=self._published_refit(num_workers), seed=int(seed), num_workers=num_workers,
                callback=steps("gain"), keep_counts=result["keeps_counts"],
            )  # fmt: skip
            sensitivities, composition = self._known_sensitivities()
            moves = composition_moves(
                self._solved_problem(), result["maps"], sensitivities / scale,
                float(uncertainty_of_weights), keep_totals=self.preset is None,
                num_workers=num_workers, callback=steps("composition"),
            )  # fmt: skip
        filtered = ~self._has_white_noise(data)
        gain = _of_white_noise(gain, ~filtered)
        image = _ImageChecks(self, counts, data, num_workers)
        verdict = Verdict(
            elements=list(self._setup["names"]),
            gain=gain.nats,
            gain_error=gain.error,
            filtered=filtered,
            gain_per_1000_counts=1000 * gain.nats / np.maximum(gain.counts, 1),
            total_gain_per_1000_counts=_per_1000(gain),
            influence=self._mean_influence(problem, result["maps"]),
            composition_change=moves.max(axis=0),
            composition=composition,
            uncertainty_of_weights=float(uncertainty_of_weights),
            guided=self.guided or self.relative,
            **image.numbers(),
        )
        verdict.findings.extend(findings.of(verdict, image, self))
        if verbose:
            print(verdict)
        return verdict

    def plot_diagnosis(self, elements=None):
        """Plot what the HAADF image is worth: residual, influence, and residual against fit.

        Upper row: the HAADF residual, in units of ``haadf_noise``, and against the fit, with its mean in
        classes of equal intensity and the arc that :meth:`diagnose` measures. Lower row: for each element the
        share of the information on each pixel that comes from the HAADF image rather than from
        its counts, :func:`hyperspy_fusedmm.solver.influence.haadf_influence`.

        Parameters
        ----------
        elements : list of str, optional
            Elements to draw; all by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        RuntimeError
            Before :meth:`fit`, or if there is no HAADF image.
        ValueError
            If an element is not among the maps.
        """
        from ..drawing.diagnosis import plot_diagnosis

        self._diagnosed()
        return plot_diagnosis(self, elements=elements)

    def haadf_influence(self):
        """Share of the information on every pixel of the fused maps that the HAADF image brings.

        From 0, the counts alone, to 1, the image alone: the diagonal of the Fisher information of the HAADF term
        over that of both terms, all other elements taken for known.

        Returns
        -------
        ElementMaps
            Lazy if the maps are.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`, or if there is no HAADF image.
        """
        self._diagnosed()
        share = self._like_maps(self._at_every_pixel(haadf_influence))
        share.metadata.General.title = (
            f"{self.signal.metadata.General.title} (influence of the HAADF image)".strip()
        )
        share.metadata.set_item("Signal.quantity", "Share of the information")
        if share.metadata.has_item("Background"):
            del share.metadata.Background
        return share

    # What the above have in common

    def _diagnosed(self):
        """The last fit, of a model with a HAADF image."""
        result = self._fitted
        if self._haadf is None:
            raise RuntimeError(
                "The model has no HAADF image, so there is nothing to diagnose: pass one to create_model()."
            )
        return result

    def _judged_problem(self, counts):
        """The problem of the fit; with the HAADF term as it would be where the fit left it out."""
        result = self._result
        if result["lambda_haadf"] == 0:
            result = {**result, "lambda_haadf": 1.0}
        return self._problem(result, scaled_maps(counts, self._setup))

    def _measured_problem(self, counts):
        """The maps with the noise that they have, in their own units."""
        if self.preset is None:
            return self._problem(self._result, counts)
        # What a preset takes for counts need not be any.
        whole = [bool((m >= 0).all() and np.array_equal(m, np.rint(m))) for m in counts]
        fidelity = tuple("poisson" if entry else "gaussian" for entry in whole)
        return FusionProblem(counts, fidelity=fidelity, noise=estimate_noise(counts))

    def _has_white_noise(self, data):
        """Which maps have noise that is independent from pixel to pixel, without which nothing is foretold."""
        known = self.preset is None and self._setup.get("noise_rule", "estimated") != "estimated"
        return is_white(data.maps, data.fidelity, data.noise if known else None)

    def _fair_alone(self, data):
        """What a preset is measured against: its own strengths would not suit the counts alone."""
        if self.preset is None:
            return None
        return replace(data, lambda_tv=default_strength(data.maps, data.fidelity, data.noise))

    def _published_refit(self, num_workers):
        """Fits by gradient descent, which ends above the minimum, are repeated as they were made."""
        result = self._result
        if result["solver"] != "gradient-descent":
            return None
        return lambda problem: solve(
            problem, method="gradient-descent", max_iterations=result["iterations"],
            tv_iterations=result["tv_iterations"], num_workers=num_workers,
        ).maps  # fmt: skip

    def _known_sensitivities(self):
        """Sensitivities (E,), and what the maps over them add up to."""
        if self._setup["sensitivities"] is None:
            return np.ones(len(self._setup["names"])), "share of the counts"
        return np.asarray(self._setup["sensitivities"], dtype=float), "atomic percent"

    def _mean_influence(self, problem, maps):
        """Influence of the image, averaged over what is in each map."""
        share = haadf_influence(problem, maps)
        totals = np.maximum(maps.sum(axis=(1, 2), dtype=float), 1e-300)
        return (share * maps).sum(axis=(1, 2), dtype=float) / totals

    def _steps(self, show_progressbar):
        return _Steps(is_shown(show_progressbar))


class _Steps:
    """Progress of a few pieces of work, each with its own number of steps."""

    def __init__(self, shown):
        from hyperspy.external.progressbar import progressbar

        self.bar = progressbar(total=0, desc="Diagnosing", disable=not shown)
        self.done, self.expected = {}, {}

    def __enter__(self):
        return self.follow

    def __exit__(self, *_):
        self.bar.close()

    def follow(self, name):
        def report(done, expected):
            self.done[name], self.expected[name] = done, expected
            self.bar.total = sum(self.expected.values())
            self.bar.update(sum(self.done.values()) - self.bar.n)

        return report


class _ImageChecks:
    """The HAADF image against what the measured maps predict of it."""

    def __init__(self, model, counts, data, num_workers):
        setup = model._setup
        window = _middle(counts.shape[1:])
        problem = _image_problem(model, data)
        self.problem, self.data = cropped(problem, window), cropped(data, window)
        self.num_workers = num_workers
        self.numbers_of_atoms = np.array([atomic_number(e) for e in setup["elements"]], dtype=float)
        self.prior = prior_weights(self.numbers_of_atoms, {**setup, "forward": "linear"})
        self.image = np.asarray(self.problem.haadf, dtype=float)
        self.use = np.isfinite(np.broadcast_to(self.problem.haadf_noise, self.image.shape))
        self.filled = fill_left_out(self.image, ~self.use)
        self.noise = detector_noise(self.filled)
        self.saturated = saturated_shares(self.image[self.use])
        self.shift = self._shift()
        self.misfit, self.span = self._misfit(self.problem)
        self.axes = model.axes_manager.signal_axes[::-1]

    @property
    def inverted(self):
        """Whether the image is more unlike the maps, weighted by atomic number, than like them anywhere."""
        if self.shift is None:
            return False
        # As far as chance may lead two independent images.
        by_chance = 6 / np.sqrt(self.image.size)
        return bool(-self.unmoved_correlation > max(self.shift.correlation, by_chance))

    def refitted(self):
        """What is left to explain with weights and offset that are found from the data, without a prior."""
        found = calibrate_haadf(
            self.data.maps, self.filled, self.prior, fidelity=self.data.fidelity,
            noise=self.data.noise, background=self.data.background,
        )  # fmt: skip
        weights = FusionProblem(
            self.data.maps, haadf=self.filled, weights=found.weights, haadf_offset=found.offset,
            fidelity=self.data.fidelity, background=self.data.background, noise=self.data.noise,
        )  # fmt: skip
        return self._misfit(weights)[0]

    def numbers(self):
        """What the verdict tells of it."""
        nothing = np.full(2, np.nan)
        move = nothing if self.shift is None else self.shift.move
        units = self.axes[1].units
        return {
            "saturated": self.saturated,
            "inverted": self.inverted,
            "correlation": self.unmoved_correlation,
            "shift": move,
            "shift_error": nothing if self.shift is None else self.shift.error,
            "shift_calibrated": move * np.array([axis.scale for axis in self.axes]),
            "units": units if isinstance(units, str) and units.strip() else "px",
            "bend": self.misfit.bend,
            "bend_error": self.misfit.bend_error,
            "unexplained": self.misfit.unexplained,
            "unexplained_error": self.misfit.unexplained_error,
            "level": self.misfit.level * self.span,
            "level_error": self.misfit.level_error * self.span,
        }

    def _shift(self):
        """Shift by the weights of the model or by those of the atomic numbers, whichever fits better."""
        smooth = chosen_blur(self.filled - self.filled.mean(), self.noise**2)[0]
        weights = [self.prior] + [self.problem.weights] * (self.problem.forward == "linear")
        maps = np.asarray(self.data.maps, dtype=float)
        found = [find_shift(np.tensordot(entry, maps, 1), smooth) for entry in weights]
        self.unmoved_correlation = np.nan if found[0] is None else found[0].unmoved_correlation
        found = [shift for shift in found if shift is not None]
        return max(found, key=lambda shift: shift.correlation, default=None)

    def _misfit(self, problem):
        """Misfit, and the range of the image that it is relative to."""
        alone = None
        if problem.forward == "power":
            alone = solve(
                counts_alone(problem), tolerance=1e-3, max_iterations=300, num_workers=self.num_workers
            ).maps
        prediction = predicted(problem, alone)
        found = misfit(self.filled, prediction, self.noise, self.use)
        return found, found.span


def _image_problem(model, data):
    """The model of the image; a preset's, which scales the image, is replaced by a fitted one."""
    if model.preset is None:
        return model._problem(model._result, data.maps)
    setup = {**model._setup, "forward": "linear"}
    numbers = np.array([atomic_number(element) for element in setup["elements"]], dtype=float)
    image = np.asarray(model._haadf.data, dtype=float)
    found = calibrate_haadf(
        data.maps, image, prior_weights(numbers, setup), fidelity=data.fidelity, noise=data.noise
    )
    return FusionProblem(
        data.maps, haadf=image, weights=found.weights, haadf_offset=found.offset,
        haadf_noise=found.noise, fidelity=data.fidelity, noise=data.noise,
    )  # fmt: skip


def _middle(shape):
    """Rows and columns of the middle of an image."""
    starts = [max(length - LARGEST_SIDE, 0) // 2 for length in shape]
    return tuple(slice(a, a + min(length, LARGEST_SIDE)) for a, length in zip(starts, shape))


def _of_white_noise(gain, white):
    """The gain of the maps whose noise tells it."""
    nats, error, counts = (np.where(white, a, np.nan) for a in (gain.nats, gain.error, gain.counts))
    return Gain(nats, error, counts)


def _per_1000(gain: Gain):
    """Gain of all maps that hold counts, per 1000 of these."""
    known = np.isfinite(gain.counts) & np.isfinite(gain.nats)
    if not known.any():
        return np.nan
    return float(1000 * gain.nats[known].sum() / gain.counts[known].sum())
