"""Errors of the atomic fractions of pixels, from the refits of a bootstrap.

Where atoms are few the errors of fractions are neither small nor normal. Those of the fractions of refits
(`hyperspy_fusedmm.solver.bootstrap`) show them as they are.

Refits also show a bias: by how much regularization smooths the maps they were drawn from. Those maps, the pilot, are
rougher than the fit. In each map that stands for structure that the fit has lost. In the ratio of maps it may be
nothing but noise, as in a film of one composition, and smoothing that is no error. Strengths that were chosen for the least
error tell the two apart: with stronger regularization the bias would grow and the noise shrink, with weaker
one the other way round, and where their sum is least neither is much larger than the other. A bias of the refits that is
larger than their noise, over the whole image, is brought down to it then.
"""

from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from .composition import atomic_fractions, fraction_variance

__all__ = ["RefitFractions"]

# Less than what fractions are rounded to.
TINY = 1e-12


class RefitFractions:
    """Errors of the atomic fractions of refits.

    Parameters
    ----------
    errors : Bootstrap
    sensitivities : (E,) array
        Counts, in the units of the refits, that one atom yields, up to one factor.
    balanced : bool, default False
        Whether the strengths of the regularization were chosen for the least error, so that bias is no larger than
        noise.
    """

    def __init__(self, errors, sensitivities, balanced=False):
        self.errors = errors
        self.sensitivities = np.asarray(sensitivities, dtype=float)
        self.balanced = balanced

    @property
    def variance(self):
        """Mean squared error, smoothed, and ``misfit`` to first order; (E, R, C).

        In the smoothing pixels count by their atoms: where there are few, fractions are off by much, and that should
        not spread.
        """
        misfit = fraction_variance(self.errors.pilot, self.errors.misfit**2, self.sensitivities)
        return np.nan_to_num(self._mean_square + misfit, nan=1.0)

    def quantile(self, confidence, mask):
        """How many standard errors wide an interval is that holds a share of the errors.

        Few pixels of few atoms have large errors and most have small ones, so that 68 % of them may be within half
        a standard error, and 95 % within more than 1.96. How they are distributed show the refits: the error of each
        is compared with the root mean square of those of the others, and of the ratios of all pixels the quantile is
        taken.

        Parameters
        ----------
        confidence : float
            Share of the errors, within 0 and 1.
        mask : (R, C) array of bool
            Pixels that are looked at.

        Returns
        -------
        (E,) array
            That of the normal distribution if no pixel is looked at.
        """
        replicates, mean = len(self.errors.errors), self._mean_square[:, mask]
        if not mean.size:
            return np.full(len(mean), norm.ppf((1 + confidence) / 2))
        ratios = np.empty((replicates,) + mean.shape, np.float32)
        excess = (1 - self._kept) * self._moments[0]
        for k, change in enumerate(self._changes()):
            change = change - excess
            others = replicates * mean - self._smooth(change**2)[:, mask]
            # Rounding may leave a sum of squares a little below 0.
            scale = np.sqrt(np.maximum(others, 0.0) / (replicates - 1))
            ratios[k] = np.abs(change[:, mask]) / np.maximum(scale, TINY)
        return np.quantile(ratios, confidence, axis=(0, 2))

    def _changes(self):
        """Errors (E, R, C) of the fractions of each refit, as the refits are."""
        expected = atomic_fractions(self.errors.pilot, self.sensitivities)
        for error in self.errors.errors:
            change = atomic_fractions(self.errors.pilot + error, self.sensitivities) - expected
            # A refit of no atoms may have any composition.
            yield np.where(np.isfinite(change), change, np.maximum(expected, 1 - expected))

    @cached_property
    def _moments(self):
        """Mean and mean square of the changes, (E, R, C) each."""
        mean = square = 0.0
        for change in self._changes():
            mean, square = mean + change, square + change**2
        return mean / len(self.errors.errors), square / len(self.errors.errors)

    @cached_property
    def _kept(self):
        """Factor of the mean change of each element, below 1 where it would be more bias than the fit has."""
        mean, square = self._moments
        if not self.balanced:
            return np.ones((len(mean), 1, 1))
        replicates = len(self.errors.errors)
        # Where there is no atom a fraction is nothing.
        there = self._atoms > 0
        of_mean, total = (
            (self._atoms * v).sum(axis=(1, 2), where=there, keepdims=True) for v in (mean**2, square)
        )
        noise = (total - of_mean) * replicates / (replicates - 1)
        # The mean of few refits has noise of its own, which stays.
        noise_of_mean = noise / replicates
        too_large = of_mean - noise_of_mean > noise
        return np.where(too_large, np.sqrt((noise + noise_of_mean) / np.maximum(of_mean, 1e-300)), 1.0)

    @cached_property
    def _mean_square(self):
        mean, square = self._moments
        # Rounding may leave a sum of squares a little below 0.
        return self._smooth(np.maximum(square - (1 - self._kept**2) * mean**2, 0.0))

    @cached_property
    def _atoms(self):
        """Atoms of the pilot, in any unit, (R, C)."""
        return (self.errors.pilot / self.sensitivities[:, None, None]).sum(axis=0)

    @cached_property
    def _atoms_around(self):
        return gaussian_filter(self._atoms, self.errors.widths.max())

    def _smooth(self, values):
        """Mean of (E, R, C) over as many pixels as the counts resolve, with the atoms as weights."""
        width, atoms = self.errors.widths.max(), self._atoms
        sums = [gaussian_filter(np.where(atoms > 0, atoms * v, 0), width) for v in values]
        with np.errstate(divide="ignore", invalid="ignore"):
            # Where there is no atom a fraction may be anything.
            return np.nan_to_num(np.stack(sums) / self._atoms_around, nan=1.0)
