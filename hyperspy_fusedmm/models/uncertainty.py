"""How well the fused maps are known: standard errors, covariances and upper limits, as signals."""

import numpy as np
from hyperspy.external.progressbar import progressbar

from ..signals.progress import is_shown
from ..solver import bootstrap, hessian_covariance, hessian_variance, upper_limit
from ..solver.resolution import data_widths, half_a_count
from . import checks
from .composition import Composition
from .scaling import scaled_maps

METHODS = ("bootstrap", "hessian")
REPLICATES = 15


class Uncertainty(Composition):
    """Errors of the fused maps, in their units and in atomic percent.

    ``_bootstrap`` holds the refits of the last fit and the options they were made with; files do not keep
    them.
    """

    _bootstrap = None

    @property
    def fused(self):
        """Fused maps (ElementMaps) with the axes and metadata of the measured maps; lazy if they are.

        Once :meth:`standard_error` has refitted them, and unless they are lazy, they carry its square
        as their noise variance.
        """
        fused = super().fused
        variance = self._variance_maps()
        if variance is not None:
            fused.set_noise_variance(variance)
        return fused

    def standard_error(
        self,
        method="bootstrap",
        *,
        replicates=REPLICATES,
        seed=0,
        show_progressbar=None,
        num_workers=None,
    ):
        """Standard error of the fused maps, one sigma.

        Parameters
        ----------
        method : {"bootstrap", "hessian"}, default "bootstrap"
            "bootstrap": counts and HAADF images are drawn from a rougher version of the fused maps and fused
            with the strengths of this fit, and with weights and offset of the HAADF image drawn from their
            covariance; the error is the root of variance plus squared bias, plus what the counts
            contradict the fused maps by. It takes the time of three to six fits, once: later calls with the
            same options, and :meth:`covariance` and :meth:`region_error`, use the same refits.
            "hessian": the published bound, from the curvature of HAADF term and likelihood at every
            pixel. It is instant, but says what a pixel on its own would know: regularization, with the
            noise it removes and the bias it adds, is left out.
        replicates : int, default 15
            Refits of the bootstrap. More make the errors of regions less uncertain; those of pixels are
            smoothed.
        seed : int, default 0
            Seed of what the bootstrap draws.
        show_progressbar : bool, optional
            None means as HyperSpy's preferences say.
        num_workers : int, optional
            Refits at a time; as many as there are cores by default. It does not change the result.

        Returns
        -------
        ElementMaps
            With axes, units and metadata of the fused maps; lazy if they are.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`.
        ValueError
            If an option cannot be used, or the bootstrap is asked for of a fit by gradient descent.

        Notes
        -----
        "hessian" takes weights and offset of the HAADF image as known; so does "bootstrap" where they were
        given. Neither knows of a HAADF image that is no weighted sum of the maps.

        References
        ----------
        Schwartz et al., npj Computational Materials 8, 16 (2022), for the bound; Efron & Tibshirani, An
        Introduction to the Bootstrap (1993).

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model()
        >>> model.fit(show_progressbar=False)
        >>> model.standard_error(show_progressbar=False)
        <ElementMaps, title: Element maps (standard error), dimensions: (1|16, 16)>
        """
        checks.choice(method, METHODS, "method")
        told = {"method": method}
        if method == "hessian":
            values = np.sqrt(self._at_every_pixel(hessian_variance))
        else:
            found = self._refits(replicates, seed, show_progressbar, num_workers)
            values = found.standard_error
            told.update(replicates=len(found.errors), seed=int(seed))
        error = self._error_maps(values, "standard error")
        error.metadata.set_item("FusedMultiModal.standard_error", told)
        return error

    def bias(self, *, replicates=REPLICATES, seed=0, show_progressbar=None, num_workers=None):
        """Mean error of the bootstrap's refits: what regularization takes away or adds.

        The noise of few replicates is in it: the root of their variance over their number.

        Parameters
        ----------
        replicates, seed, show_progressbar, num_workers
            As :meth:`standard_error`.

        Returns
        -------
        ElementMaps
        """
        found = self._refits(replicates, seed, show_progressbar, num_workers)
        return self._error_maps(found.bias, "bias")

    def covariance(
        self,
        method="bootstrap",
        *,
        replicates=REPLICATES,
        seed=0,
        show_progressbar=None,
        num_workers=None,
    ):
        """Covariance of the errors of the elements at every pixel.

        Its diagonal is the square of the standard error. The HAADF image ties elements together: where it
        fixes their weighted sum, more of one means less of another.

        Parameters
        ----------
        method, replicates, seed, show_progressbar, num_workers
            As :meth:`standard_error`.

        Returns
        -------
        Signal2D
            Dimensions (E, E|x, y), in the squared units of the maps; lazy if they are.

        Raises
        ------
        RuntimeError, ValueError
            As :meth:`standard_error`.
        """
        from hyperspy.signals import LazySignal2D, Signal2D

        checks.choice(method, METHODS, "method")
        if method == "hessian":
            values = self._at_every_pixel(hessian_covariance, pairs=True)
        else:
            values = self._refits(replicates, seed, show_progressbar, num_workers).covariance()
        scale = self._setup["map_scale"]
        values = values * np.multiply.outer(scale, scale)[:, :, np.newaxis, np.newaxis]
        covariance = (Signal2D if isinstance(values, np.ndarray) else LazySignal2D)(
            values.astype(np.float32), axes=self._axes_of_pairs(len(scale))
        )
        covariance.metadata.General.title = (
            f"{self.signal.metadata.General.title} (covariance)".strip()
        )
        covariance.metadata.set_item("Sample.elements", list(self._setup["elements"]))
        return covariance.as_lazy() if self.signal._lazy and not covariance._lazy else covariance

    def region_error(
        self, roi, *, replicates=REPLICATES, seed=0, show_progressbar=None, num_workers=None
    ):
        """Standard error of the mean of every fused map over a region.

        Errors of neighbouring pixels are alike, so this is neither the mean of their errors nor that over
        the root of their number.

        Parameters
        ----------
        roi : hyperspy ROI, or array or signal of bool of shape (R, C)
            Region, in the coordinates of the maps where it is a ROI.
        replicates, seed, show_progressbar, num_workers
            As :meth:`standard_error`.

        Returns
        -------
        (E,) array
            In the units of the maps.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`.
        ValueError
            If no pixel is within, the mask has another shape, or the bootstrap is asked for of a fit by
            gradient descent.

        Examples
        --------
        >>> import hyperspy.api as hs
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model()
        >>> model.fit(show_progressbar=False)
        >>> roi = hs.roi.RectangularROI(2, 2, 10, 12)
        >>> model.region_error(roi, show_progressbar=False).shape
        (1,)
        """
        mask = self._region_mask(roi)
        found = self._refits(replicates, seed, show_progressbar, num_workers)
        return found.region_error(mask) * self._setup["map_scale"]

    @property
    def mean_standard_error(self):
        """Standard error averaged over the pixels, shape (E,): one figure per element.

        From the last bootstrap of this fit; the default one where there was none yet.
        """
        options = {"show_progressbar": False}
        if self._bootstrap is not None and self._bootstrap[0] is self._fitted:
            options.update(self._bootstrap[1])
        values = checks.values_of(self.standard_error(**options))
        return values.reshape((-1,) + values.shape[-2:]).mean(axis=(1, 2), dtype=float)

    def upper_limit(self, confidence=0.95):
        """Upper limit of the maps where nothing of an element was found.

        That is where the fused map is zero, or so small that less than half a count is expected within the
        area that the counts resolve. The limit follows from the counts in that area (Helene's, which
        knows that nothing is negative; 3.0 for no counts and no background); it does not use the HAADF
        image.

        Parameters
        ----------
        confidence : float, default 0.95
            Probability that the expected counts lie below.

        Returns
        -------
        ElementMaps
            In the units of the maps; NaN where something was found.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`.
        ValueError
            If `confidence` does not lie within 0 and 1.

        References
        ----------
        Helene, Nucl. Instrum. Methods 212, 319 (1983).

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> maps = fmm.element_maps({"Co": np.zeros((10, 10)), "O": np.full((10, 10), 9)})
        >>> model = maps.create_model()
        >>> model.fit(show_progressbar=False)
        >>> limit = model.upper_limit()
        >>> [round(float(limit.get_map(element).data[0, 0]), 3) for element in ("Co", "O")]
        [0.03, nan]
        """
        confidence = checks.confidence(confidence)
        problem, maps = self._solved_problem(guided=False, relative=False), self._fitted["maps"]
        limits = upper_limit(problem, confidence)
        least = half_a_count(problem, data_widths(problem))
        limits[maps > least[:, np.newaxis, np.newaxis]] = np.nan
        return self._error_maps(limits, f"upper limit, {confidence:.3g}")

    # What the above have in common

    def _region_mask(self, roi):
        return region_mask(roi, self.axes_manager.signal_axes)

    def _at_every_pixel(self, function, pairs=False):
        """A function of the problem and of its solution that looks at each pixel on its own.

        It returns an array (E, R, C), or (E, E, R, C) of `pairs`.
        """
        # What the image does to the regularization is of neighbours, and takes longer to find than the rest.
        return function(self._solved_problem(guided=False, relative=False), self._found_maps)

    def _solved_problem(self, **changes):
        """The problem that the last fit solved, with other settings where these are given."""
        return self._problem(self._fitted | changes, scaled_maps(self._counts(), self._setup))

    def _refits(self, replicates, seed, show_progressbar, num_workers):
        """The bootstrap of the last fit; made once for the same options."""
        result = self._fitted
        checks.whole_number(replicates, "replicates", 2)
        checks.whole_number(seed, "seed", 0)
        if num_workers is not None:
            checks.whole_number(num_workers, "num_workers", 1)
        if result["solver"] == "gradient-descent":
            raise ValueError(
                "method: found 'bootstrap' for a fit by gradient descent, but refits are by the "
                "primal-dual solver, which ends elsewhere; use method='hessian', or "
                "fit(solver='primal-dual')."
            )
        options = {"replicates": int(replicates), "seed": int(seed)}
        if (
            self._bootstrap is None
            or self._bootstrap[0] is not result
            or (self._bootstrap[1] != options)
        ):
            shown = is_shown(show_progressbar)
            with progressbar(total=replicates, desc="Refitting", disable=not shown) as bar:
                found = bootstrap(
                    self._solved_problem(),
                    result["maps"],
                    **options,
                    weights_covariance=self._setup["weights_covariance"],
                    keep_counts=result["keeps_counts"],
                    num_workers=num_workers,
                    callback=lambda done, total: bar.update(done - bar.n),
                )
            self._bootstrap = (result, options, found)
        return self._bootstrap[2]

    def _variance_maps(self):
        """Variance of the fused maps as a signal, where the bootstrap of this fit was made; else None."""
        if self._bootstrap is None or self._bootstrap[0] is not self._result or self.signal._lazy:
            return None
        from hyperspy.signals import Signal2D

        error = self._bootstrap[2].standard_error * self._setup["map_scale"][:, None, None]
        variance = (error**2).reshape(self.signal.data.shape)
        return Signal2D(variance, axes=self.axes_manager._get_axes_dicts())

    def _error_maps(self, values, what):
        """Errors (E, R, C) in the units of the objective, as a signal like the fused maps."""
        scale = self._setup["map_scale"][:, np.newaxis, np.newaxis].astype(np.float32)
        maps = self._like_maps((values * scale).astype(np.float32, copy=False))
        maps.metadata.General.title = f"{self.signal.metadata.General.title} ({what})".strip()
        maps.metadata.set_item("FusedMultiModal", self._provenance())
        # A background is that of what was measured.
        if maps.metadata.has_item("Background"):
            del maps.metadata.Background
        return maps

    def _axes_of_pairs(self, elements):
        pairs = [
            {"name": name, "size": elements, "navigate": True}
            for name in ("Other element", "Element")
        ]
        grid = [axis.get_axis_dictionary() for axis in self.axes_manager.signal_axes[::-1]]
        return pairs + grid


def region_mask(roi, signal_axes):
    """Pixels within a region.

    Parameters
    ----------
    roi : hyperspy ROI, or array or signal of bool of shape (R, C)
    signal_axes : sequence of axes
        x, then y.

    Returns
    -------
    (R, C) array of bool

    Raises
    ------
    ValueError
        If no pixel is within, or it is neither a region of the image nor a mask of its shape.
    """
    from hyperspy.roi import BaseROI

    columns, rows = signal_axes
    shape = (rows.size, columns.size)
    if isinstance(roi, BaseROI):
        mask = _pixels_within(roi, signal_axes)
    else:
        mask = checks.values_of(roi)
        if mask.shape != shape or mask.dtype != bool:
            raise ValueError(
                f"roi: found an array of shape {mask.shape} and type {mask.dtype}; a HyperSpy ROI, or bool "
                f"of shape {shape}, is needed."
            )
    if not mask.any():
        raise ValueError(
            "roi: found no pixel within; a region that overlaps with the maps, in the units of "
            "their axes, is needed."
        )
    return mask


def _pixels_within(roi, signal_axes):
    """Mask of a ROI of any form: it is applied to an image of the pixels' own numbers."""
    from hyperspy.roi import Line2DROI
    from hyperspy.signals import Signal2D

    if isinstance(roi, Line2DROI):
        raise ValueError(
            "roi: found Line2DROI, which resamples the pixels along a line; a ROI that is an area "
            "(rectangle, circle, polygon) or a mask is needed."
        )
    columns, rows = signal_axes
    numbers = np.arange(rows.size * columns.size, dtype=float).reshape(rows.size, columns.size)
    axes = [axis.get_axis_dictionary() for axis in (rows, columns)]
    try:
        found = np.ravel(roi(Signal2D(numbers, axes=axes)).data)
    except (IndexError, ValueError):
        found = np.empty(0)
    mask = np.zeros(numbers.size, bool)
    mask[found[np.isfinite(found)].astype(int)] = True
    return mask.reshape(numbers.shape)
