"""Weights of single elements, from the data as far as these tell them and from a prior beyond."""

import numpy as np

from .moment_equations import inverse_of, non_negative

__all__ = ["WeightEquations", "WeightPrior"]

# Standard deviation of a weight, relative to what the atomic number says of it, where the sensitivities
# are not known.
PRIOR_SPREAD = 0.4
# The same for the common factor, relative to that found for fixed ratios.
FACTOR_SPREAD = 3.0
# A combination of maps tells something where it varies this many times as much as noise makes it vary.
LEAST_RATIO = 2.0


class WeightPrior:
    """What is expected of the weights: ``factor * ratios``, each within its spread, the factor free.

    Parameters
    ----------
    ratios : (E,) array
    free : (E,) array of bool
        Weights to find; the others are known and tell the factor.
    known : (E,) array
    factor : float
        About what the common factor is, > 0.

    Attributes
    ----------
    rows : (E + 1, F + 1) array
        Equations of standard deviation 1 for the F free weights and, last, the factor.
    right : (E + 1,) array
    spread : (F,) array
        Standard deviation of the free weights.
    """

    def __init__(self, ratios, free, known, factor):
        spread = PRIOR_SPREAD * factor * ratios
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        number = int(free.sum())
        self.rows = np.zeros((len(ratios) + 1, number + 1))
        self.rows[np.flatnonzero(free), np.arange(number)] = inverse[free]
        self.rows[:-1, -1] = -ratios * inverse
        self.rows[-1, -1] = 1 / (FACTOR_SPREAD * factor)
        self.right = np.append(-np.where(free, 0.0, known) * inverse, 1 / FACTOR_SPREAD)
        self.spread = spread[free]


class WeightEquations:
    """Normal equations of weights and offset, less what noise adds to them.

    The maps are noisy in their products with the instruments as well. Squared, in the matrix of the
    normal equations, that noise looks as if the maps varied, even where they are combinations of one another.
    It is subtracted [1]_, and combinations that vary little more than by noise are left to the prior.

    Parameters
    ----------
    matrix : (F + 1, F + 1) or (F, F) array
        For the weights and, unless it is known, the offset.
    right : array
    noise : (F,) array
        What noise adds to the diagonal, on average.
    instruments : int
        From how many instruments the equations come.

    References
    ----------
    .. [1] Nagar, Econometrica 27, 575 (1959).
    """

    def __init__(self, matrix, right, noise, instruments):
        self.number = number = len(noise)
        # As many instruments as there are unknowns fit the noise of maps and image alike [1]_.
        surplus = max(1 - (len(right) + 1) / instruments, 0.0)
        # Weights with the offset eliminated: these of the equations' errors make theirs.
        self.reduce = np.eye(number, len(right))
        self.back = np.zeros(number)
        self.level, self.last = 0.0, 0.0
        if len(right) > number:
            self.last = matrix[-1, -1]
            if self.last > 0:
                self.back = matrix[-1, :number] / self.last
                self.level = right[-1] / self.last
            self.reduce[:, -1] = -self.back
        matrix = matrix[:number, :number] - np.outer(self.back, self.back) * self.last
        right = self.reduce @ right
        noise = np.maximum(noise, 1e-12 * np.diag(matrix))
        self.root = np.sqrt(np.where(noise > 0, noise, 1.0))
        ratio, vectors = np.linalg.eigh(matrix / np.outer(self.root, self.root))
        trust = np.clip(1 - LEAST_RATIO / np.maximum(ratio, LEAST_RATIO), 0, 1) ** 2
        self.believed = (vectors * trust) @ vectors.T
        information = np.sqrt(trust * np.maximum(ratio - surplus, 0))
        self.rows = (information[:, np.newaxis] * vectors.T) * self.root
        self.right = np.divide(
            trust * (vectors.T @ (right / self.root)),
            information,
            out=np.zeros(number),
            where=information > 0,
        )

    def solve(self, prior):
        """Weights >= 0 and, unless it is known, the offset.

        Parameters
        ----------
        prior : WeightPrior

        Returns
        -------
        (F + 1,) or (F,) array
        """
        rows, right = self._with(prior)
        weights = non_negative(rows, right, signed=np.zeros(self.number + 1, dtype=bool))
        weights = weights[: self.number]
        if self.reduce.shape[1] == self.number:
            return weights
        return np.append(weights, self.level - self.back @ weights)

    def errors(self, prior, scatter):
        """How certain :meth:`solve` is, from the scatter of the data and the spread of the prior.

        Parameters
        ----------
        prior : WeightPrior
        scatter : (F + 1, F + 1) or (F, F) array, or None
            Covariance of what is left of the equations; None where it is not known.

        Returns
        -------
        covariance : array
            Of the weights and, unless it is known, the offset.
        share : (F,) array
            How much of each weight the data decided, from 0 to 1.
        """
        number, size = self.number, self.reduce.shape[1]
        if scatter is None:
            return np.full((size, size), np.inf), np.zeros(number)
        rows, _ = self._with(prior)
        inverse = inverse_of(rows.T @ rows)[:number]
        from_data = inverse[:, :number] @ (
            (self.root[:, np.newaxis] * self.believed / self.root) @ self.reduce
        )
        from_prior = inverse @ prior.rows.T
        if size > number:
            last = np.eye(1, size, size - 1) / (self.last if self.last > 0 else np.inf)
            from_data = np.vstack([from_data, last - self.back @ from_data])
            from_prior = np.vstack([from_prior, -self.back @ from_prior])
        covariance = from_data @ scatter @ from_data.T + from_prior @ from_prior.T
        variance = np.diag(covariance)[:number]
        expected = np.where(prior.spread > 0, prior.spread, np.inf) ** 2
        return covariance, np.clip(1 - variance / expected, 0, 1)

    def _with(self, prior):
        """Equations for the weights and, last, the common factor of the prior."""
        rows = np.vstack([np.pad(self.rows, ((0, 0), (0, 1))), prior.rows])
        return rows, np.append(self.right, prior.right)
