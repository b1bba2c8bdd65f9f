"""Atomic percent of fused maps, with standard errors."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..signals.composition import atomic_percent, kept_by, sensitivities_for
from ..solver.composition import (
    atomic_fractions,
    fraction_variance,
    keeping_totals,
    kept_counts,
    region_covariance,
)
from ..solver.refit_fractions import RefitFractions
from . import checks
from .scaling import restored_maps, scaled_maps

REPLICATES = 15

# Values up to this multiple of the lower bound of a map are at it: nothing was found there.
NOTHING = 1.001


@dataclass(frozen=True, eq=False)
class RegionComposition:
    """Composition of a region; printed as a table.

    Attributes
    ----------
    elements : list of str
    percent : (E,) array
        Atomic percent of the atoms of all pixels together.
    counting_error : (E,) array
        Standard error by noise and regularization, in atomic percent.
    sensitivities_error : (E,) array
        Standard error by the sensitivities. It is the same error in every region: it does not average
        out, and leaves differences between regions almost alone.
    pixels : int
        Pixels in the region.
    """

    elements: list
    percent: np.ndarray
    counting_error: np.ndarray
    sensitivities_error: np.ndarray
    pixels: int

    @property
    def standard_error(self):
        """Standard error by both, (E,), in atomic percent."""
        return np.hypot(self.counting_error, self.sensitivities_error)

    def __str__(self):
        both = bool(self.sensitivities_error.any())
        digits = decimals(self.standard_error)
        lines = [f"Composition of {self.pixels} pixels in atomic percent, ± one standard error"]
        if both:
            lines.append(f"{'':11s}{'± all':11s}{'counting':10s}sensitivities")
        for name, percent, error, *parts in zip(
            self.elements, self.percent, self.standard_error, self.counting_error, self.sensitivities_error
        ):  # fmt: skip
            line = f"{name:5s}{percent:{4 + digits}.{digits}f} ± {error:.{digits}f}"
            if both:
                line = f"{line:20s}" + "".join(f"  {part:<8.{digits}f}" for part in parts)
            lines.append(line.rstrip())
        return "\n".join(lines)

    __repr__ = __str__


def decimals(errors):
    """Decimals, one or two, that show the smallest error to two digits where two are enough."""
    smallest = np.min(errors[errors > 0], initial=1.0)
    return int(np.clip(1 - np.floor(np.log10(smallest)), 1, 2))


class Composition:
    """From the maps of a fit, and the covariance of their errors, to atomic percent.

    ``_kept`` holds the share of the counts of each element that is in its fused map, and the fit it is of.
    """

    _kept = None

    @property
    def fused(self):
        fused = super().fused
        kept = self.kept_counts
        if kept is not None:
            fused.metadata.FusedMultiModal.kept_counts = kept.tolist()
        return fused

    @property
    def kept_counts(self):
        """Share of the net counts of each element that is in its fused map, shape (E,).

        None for maps scaled by a preset, and as long as the maps of a large lazy scan were not computed or
        saved.
        """
        return None if self.preset is not None else self._kept_counts()

    def atomic_percent(
        self,
        sensitivities=None,
        *,
        return_error=False,
        confidence=None,
        minimum_counts="auto",
        keep_totals=True,
        sensitivities_error="auto",
        method="bootstrap",
        replicates=REPLICATES,
        seed=0,
        show_progressbar=None,
        num_workers=None,
    ):
        """Atomic percent of each element at every pixel of the fused maps, with its standard error.

        The errors of the elements at a pixel are taken together (:meth:`covariance`): where the HAADF image
        fixes the sum, one element is too high where the other is too low, and their ratio is less well
        known than each of them.

        Parameters
        ----------
        sensitivities, minimum_counts, keep_totals, sensitivities_error
            As :meth:`ElementMaps.atomic_percent`.
        return_error : bool, default False
            Return the standard error as well.
        confidence : float, optional
            Return, in place of the standard error, half the width of the interval around the composition that
            holds the truth with this probability, 0.95 for 95 %.
        method, replicates, seed, show_progressbar, num_workers
            Of the errors: as :meth:`standard_error`.

        Returns
        -------
        percent : ElementMaps
        standard_error : ElementMaps
            One sigma, or half the width of an interval, in atomic percent; only where asked for.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`.
        ValueError
            As :meth:`ElementMaps.atomic_percent` and :meth:`standard_error`; if `confidence` does not lie within 0
            and 1, or is given without `return_error`.

        Notes
        -----
        By refits, the errors are those of the composition of the refits. Those of the bound, of the sensitivities and
        of the totals are carried over to first order (delta method), so they are meant for pixels where they
        are small beside the whole. For those of the weights see `sensitivities_error`.

        Errors of compositions are not normal: a few pixels of few atoms are off by much, most by little. So one
        standard error holds more than 68 % of the pixels. For intervals that hold what they should, give a
        `confidence`: by refits, it is the errors of their pixels that tell how many standard errors hold so many.

        Examples
        --------
        >>> import hyperspy_fusedmm as fmm
        >>> film = fmm.data.gallium_oxide_film(shape=(32, 32), dose=10)
        >>> model = film.maps.create_model(film.haadf, sensitivities=film.sensitivities)
        >>> model.fit(show_progressbar=False)
        >>> percent, error = model.atomic_percent(return_error=True, show_progressbar=False)
        >>> error
        <ElementMaps, title: Gallium oxide film, counts (fused) \
(standard error of atomic percent), dimensions: (2|32, 32)>
        """
        if confidence is not None:
            confidence = checks.confidence(confidence)
            if not return_error:
                raise ValueError(
                    f"confidence: found {confidence} for the width of an interval without return_error=True, which "
                    "is needed for it to be returned."
                )
        fused = self.fused
        found = sensitivities_for(fused, sensitivities, sensitivities_error)
        options = {"minimum_counts": minimum_counts, "kept": kept_by(fused, keep_totals)}
        if not return_error:
            return atomic_percent(fused, found, **options)[0]
        options["confidence"] = confidence
        if method == "bootstrap":
            of_refits = (replicates, seed, show_progressbar, num_workers)
            refits, relative_error = self._scaled_errors(options["kept"], of_refits)
            errors = RefitFractions(
                refits,
                found.values / self._setup["map_scale"],
                balanced="lambda_tv" in self.chosen_from_data,
            )
            return atomic_percent(
                fused,
                found,
                variance=errors.variance,
                relative_error=relative_error,
                multiples=partial(errors.quantile, confidence),
                **options,
            )
        covariance, kept = self.covariance(method).data, options["kept"]
        if kept is not None:
            covariance = covariance / np.multiply.outer(kept, kept)[:, :, None, None]
        return atomic_percent(fused, found, covariance=covariance, **options)

    def region_composition(
        self,
        roi,
        sensitivities=None,
        *,
        keep_totals=True,
        sensitivities_error="auto",
        replicates=REPLICATES,
        seed=0,
        show_progressbar=None,
        num_workers=None,
    ):
        """Composition of a region, with its standard error.

        It is that of all atoms within: thick pixels count more than thin ones, and vacuum does not.

        Parameters
        ----------
        roi : hyperspy ROI, or array or signal of bool of shape (R, C)
            Region, in the coordinates of the maps where it is a ROI.
        sensitivities, keep_totals, sensitivities_error
            As :meth:`ElementMaps.atomic_percent`.
        replicates, seed, show_progressbar, num_workers
            As :meth:`standard_error`.

        Returns
        -------
        RegionComposition
            ``percent``, ``standard_error`` and its two parts ``counting_error`` and ``sensitivities_error``,
            each of shape (E,); printing it gives a table.

        Raises
        ------
        RuntimeError
            Before :meth:`fit`.
        ValueError
            As :meth:`region_error` and :meth:`ElementMaps.atomic_percent`; if nothing was found in the region.

        Examples
        --------
        >>> import hyperspy.api as hs
        >>> import hyperspy_fusedmm as fmm
        >>> film = fmm.data.gallium_oxide_film(shape=(32, 32), dose=10)
        >>> model = film.maps.create_model(film.haadf, sensitivities=film.sensitivities)
        >>> model.fit(show_progressbar=False)
        >>> roi = hs.roi.RectangularROI(2, 2, 14, 14)    # in nm
        >>> found = model.region_composition(roi, show_progressbar=False)
        >>> found.elements, found.pixels
        (['Ga', 'O'], 576)
        >>> bool(abs(found.percent[0] - 40) < 3 * found.standard_error[0])
        True
        """
        fused = self.fused
        found = sensitivities_for(fused, sensitivities, sensitivities_error)
        mask, kept = self._region_mask(roi), kept_by(fused, keep_totals)
        inside = self._fitted["maps"][:, mask]
        means = restored_maps(self._fitted["maps"], self._setup)[:, mask].mean(axis=1, dtype=float)
        means = means if kept is None else means / kept
        nothing = (inside <= NOTHING * self.lower_bound[:, np.newaxis]).all()
        if nothing or not (means / found.values).sum() > 0:
            raise ValueError("roi: found no atoms of any element within; it has no composition.")
        errors, of_totals = self._scaled_errors(
            kept, (replicates, seed, show_progressbar, num_workers)
        )
        scale = self._setup["map_scale"]
        covariance = region_covariance(errors, mask) * np.outer(scale, scale)
        nothing = np.zeros_like(covariance)
        counting = fraction_variance(means, covariance, found.values, of_totals)
        systematic = fraction_variance(means, nothing, found.values, found.error)
        return RegionComposition(
            elements=list(fused.elements),
            percent=100 * atomic_fractions(means, found.values),
            counting_error=100 * np.sqrt(counting),
            sensitivities_error=100 * np.sqrt(systematic),
            pixels=int(mask.sum()),
        )

    def _net_counts(self):
        """Measured maps less the background, in the units of the objective."""
        background = self._setup["background"]
        if background.ndim == 1:
            background = background[:, np.newaxis, np.newaxis]
        return scaled_maps(self._counts(), self._setup) - background

    def _kept_counts(self):
        if self._kept is None or self._kept[0] is not self._fitted:
            self._kept = self._fitted, kept_counts(self._fitted["maps"], self._net_counts())
        return self._kept[1]

    def _scaled_errors(self, kept, options):
        """Refits of the maps, scaled to the totals of the counts, and the relative errors of these."""
        found = self._refits(*options)
        if kept is None:
            return found, 0.0
        totals = self._net_counts().sum(axis=(1, 2), dtype=float)
        poisson = np.array([entry == "poisson" for entry in self.fidelity])
        counted = scaled_maps(self._counts(), self._setup).sum(axis=(1, 2), dtype=float)
        variances = np.where(poisson, counted, found.noise.sum(axis=(1, 2), dtype=float))
        of_totals = np.where(totals > 0, np.sqrt(variances) / np.where(totals > 0, totals, 1), 0.0)
        return keeping_totals(found, self._fitted["maps"], kept), of_totals
