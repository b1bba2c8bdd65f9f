"""The HAADF image regressed on the maps, pixels weighted with what is known of their noise."""

import numpy as np
from scipy.optimize import minimize_scalar

from .haadf_moments import pixel_weights
from .moment_equations import MomentEquations
from .weight_equations import WeightEquations, WeightPrior

__all__ = ["GAMMA_RANGE", "HaadfRegression"]

GAMMA_RANGE = (4 / 3, 2.0)
# Root mean square of what the model is likely to miss of the image, relative to the signal. It decides how far the
# image itself is trusted as an instrument, with whose own errors it shares those of the model.
LIKELY_MISFIT = 0.03
# Standard errors from zero at which a misfit is certain.
CERTAIN = 3.0
# Times the weights of the pixels are found from the last solution.
PASSES = 3
# Least standard deviation of a pixel, relative to that of the image.
LEAST_DEVIATION = 1e-4


class HaadfRegression:
    """Weights and offset, standard errors, and the noise of the image about its model.

    Parameters
    ----------
    moments : HaadfMoments
    detector : float
        Noise of the image from pixel to pixel.
    given : (E,) array
        Known weights, NaN for those to find.
    offset : float or None
        Known offset.
    ratios : (E,) array
        Expected weights up to a factor.
    fixed : bool
        Whether the free weights keep the ratios.

    Attributes
    ----------
    theta : (E + 1,) array
        Weights and, last, the offset of the image less its mean.
    covariance : (E + 1, E + 1) array
        Of ``theta``.
    share : (E,) array
        How much of each weight the data decided.
    noise, noise_error : float
        Standard deviation of the image about its model, and its standard error.
    gamma, gamma_error : float
        NaN unless :meth:`fit_gamma` found them.
    """

    def __init__(self, moments, detector, *, given, offset, ratios, fixed):
        self.moments, self.detector = moments, detector
        self.free, self.fixed = np.isnan(given), fixed
        self.ratios = ratios
        self.offset_known = offset is not None
        last = offset - moments.centre if self.offset_known else 0.0
        self.known = np.append(np.where(self.free, 0.0, given), last)
        self.share = np.ones(len(ratios))
        self.gamma = self.gamma_error = np.nan
        products, squares, _ = moments.sums()
        self.uniform = MomentEquations(products, squares)
        self.theta = self._of_factor(self.uniform, ratios, 1.0).theta

    def fit(self):
        """Find the weights that are free, and the offset unless it is known."""
        for _ in range(PASSES):
            equations, factor, noise = self._equations()
            found = self._of_factor(equations, self.ratios, factor)
            self.theta = found.theta
            if self.free.any() and not self.fixed:
                self._fit_each(equations, factor, noise, found.unknowns[0])
        if self.fixed or not self.free.any():
            columns, combine = self._factor(self.ratios), self._combined(self.ratios)
            covariance = equations.covariance(columns, self.theta, combine=combine, factor=factor)
            self.covariance = _transformed(columns, covariance)
        self._set_noise()

    def _fit_each(self, equations, factor, noise, gain):
        """Every free weight on its own, as far as the data tell; the ratios decide the rest."""
        places = np.flatnonzero(self.free)
        columns = self._columns(np.eye(len(self.ratios))[self.free])
        matrix, right = equations.normal(columns, self.known, factor=factor)
        instruments = self.moments.instrument_count
        noise = noise[places] * instruments / factor
        weights = WeightEquations(matrix, right, noise, instruments)
        prior = WeightPrior(self.ratios, self.free, self.known[:-1], self._size(gain))
        unknowns = weights.solve(prior)
        self.theta = self.known + columns @ unknowns
        scatter = equations.scatter(columns, self.theta, factor=factor)
        covariance, share = weights.errors(prior, scatter)
        self.covariance = _transformed(columns, covariance)
        self.share = np.ones(len(self.ratios))
        self.share[places] = share

    def fit_gamma(self, numbers, start):
        """Find the exponent of the atomic numbers, one factor, and the offset unless it is known.

        Parameters
        ----------
        numbers : (E,) array
            Atomic numbers; ``ratios`` are those at the exponent `start`.
        start : float
        """
        relative = numbers / np.exp(np.log(numbers).mean()) if numbers.size else numbers
        basis = self.ratios

        def ratios(gamma):
            return basis * relative ** (gamma - start)

        gamma = start
        for _ in range(PASSES):
            equations, factor, _ = self._equations()

            def solved(gamma):
                return equations.solve(self._factor(ratios(gamma)), self.known, factor=factor)

            gamma = _minimum(lambda value: solved(value).cost, *GAMMA_RANGE)
            self.theta = solved(gamma).theta
        columns = self._factor(ratios(gamma))
        slope = np.append(self.theta[:-1] * np.log(relative), 0.0)[:, np.newaxis]
        columns = np.hstack([columns, slope])
        covariance = equations.covariance(columns, self.theta, factor=factor)
        error = float(np.sqrt(covariance[-1, -1]))
        span = float(np.ptp(GAMMA_RANGE))
        told = np.ptp(relative) > 0 and self.theta[:-1].any() and error < span / 2
        if told:
            self.gamma, self.gamma_error = gamma, error
            self.covariance = _transformed(columns, covariance)
            self._set_noise()
            return
        # All that is known is that it lies in the range.
        self.gamma, self.gamma_error = start, span / np.sqrt(12)
        self.fit()
        step = 0.05
        change = (solved(start + step).theta - solved(start - step).theta) / (2 * step)
        self.covariance = self.covariance + np.outer(change, change) * self.gamma_error**2

    # Unknowns are columns: what each adds to (weights, offset).

    def _columns(self, of_weights):
        columns = [np.append(column, 0.0) for column in of_weights]
        if not self.offset_known:
            columns.append(np.append(np.zeros(len(self.ratios)), 1.0))
        return np.array(columns).reshape(-1, len(self.ratios) + 1).T

    def _factor(self, ratios):
        """One factor of all free weights."""
        ratios = np.where(self.free, ratios, 0.0)
        return self._columns([ratios] if ratios.any() else [])

    def _combined(self, ratios):
        """Instruments for one factor: the maps combined as in the model. For the offset alone, the constant."""
        ratios = np.where(self.free, ratios, 0.0)
        rows = [np.eye(1, self.moments.instrument_count)[0]]
        if ratios.any():
            for maps, image in self.moments.places:
                for places, values in ((maps, ratios), (image, 1.0)):
                    row = np.zeros(self.moments.instrument_count)
                    row[places] = values
                    rows.append(row)
        return np.array(rows)

    def _of_factor(self, equations, ratios, factor):
        return equations.solve(
            self._factor(ratios), self.known, combine=self._combined(ratios), factor=factor
        )

    def _size(self, factor):
        """The factor of the ratios or, for an image that gets darker with the maps, of that size."""
        if factor > 0:
            return factor
        signal = float(self.ratios @ np.abs(self.moments.mean))
        factor = float(self.moments.image.std()) / signal if signal > 0 else 0.0
        return factor if factor > 0 else 1.0

    # The equations and their noise

    def _equations(self):
        """Equations with pixels weighted by the last solution, by how much their noise exceeds the expected, and
        the noise of the maps in them.
        """
        misfit = self._misfit(self.theta)[0]
        products, squares, noise = self.moments.sums(
            pixel_weights(
                self.theta, self.moments.mean, self._constant(misfit), self.moments.variances[1]
            )
        )
        # An image that is its own instrument brings its misfit along, in all its instruments alike.
        offset, image = self.theta[-1], self.moments.places[0][1]
        signal = squares[image, image] - 2 * offset * squares[image, 0] + offset**2 * squares[0, 0]
        shared = np.zeros(len(squares))
        shared[[place for _, place in self.moments.places]] = (
            LIKELY_MISFIT**2 * max(signal, 0.0) + misfit * squares[0, 0]
        )
        equations = MomentEquations(products, squares + np.outer(shared, shared))
        return equations, equations.factor(self.theta), noise

    def _constant(self, misfit):
        """Variance of a pixel about its model that does not grow with the signal."""
        least = LEAST_DEVIATION * float(self.moments.image.std())
        least = least if least > 0 else 1.0
        maps = float(self.theta[:-1] ** 2 @ self.moments.variances[0])
        return max(self.detector**2 + misfit + maps, least**2)

    def _misfit(self, theta):
        """Variance that the model misses of the image beyond pixel noise, and its standard error.

        What is left of a pixel times what is left of its neighbourhood. Of an estimate that may be chance as
        much is taken off as its variance suggests.
        """
        left = self.uniform.image - self.uniform.slopes @ theta
        for i, (maps, image) in enumerate(self.moments.places):
            row = np.zeros(left.shape[1])
            row[maps], row[image], row[0] = -theta[:-1], 1.0, -theta[-1]
            values = left @ row
            found, error = values.sum() / self.moments.pixels, np.inf
            if len(values) > 1:
                error = np.sqrt(len(values) * values.var(ddof=1)) / self.moments.pixels
            # The narrow neighbourhood sees more of the misfit, the wide one less of the noise of the maps.
            if found > CERTAIN * error or i == len(self.moments.places) - 1:
                believed = found - error**2 / found if found > error else 0.0
                return float(believed), float(error)

    def _set_noise(self):
        misfit, error = self._misfit(self.theta)
        noise = float(np.sqrt(self.detector**2 + misfit))
        self.noise = max(noise, np.finfo(float).tiny)
        # A median of moduli has 2.7 times the variance of the standard deviation.
        scatter = np.sqrt(2.7 * self.detector**4 / (2 * self.moments.pixels) + error**2 / 4)
        self.noise_error = float(scatter / self.noise) if noise > 0 else 0.0


def _transformed(columns, covariance):
    """Covariance of (weights, offset) from that of the unknowns."""
    if np.isinf(covariance).any():
        touched = (columns != 0).any(axis=1)
        return np.where(np.outer(touched, touched), np.inf, 0.0)
    return columns @ covariance @ columns.T


def _minimum(cost, low, high):
    """Place of the least cost between two bounds, the bounds included."""
    inner = minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(min((float(inner.x), low, high), key=cost))
