"""Linear moment equations: more of them than unknowns, each with its noise."""

import numpy as np
from scipy.optimize import nnls

__all__ = ["MomentEquations", "Solution"]

# Directions of the equations whose noise is smaller than this, relative to the largest, say nothing new.
SMALLEST_NOISE = 1e-10


class Solution:
    """Unknowns, what they are for the model, and how well they solve the equations.

    Attributes
    ----------
    unknowns : (U,) array
    theta : (E + 1,) array
        Weights and, last, the offset.
    cost : float
        Sum of squares of what is left of the equations, each divided by its standard deviation.
    """

    def __init__(self, unknowns, theta, cost):
        self.unknowns, self.theta, self.cost = unknowns, theta, cost


class MomentEquations:
    """Sums over the blocks of an image that vanish, but for noise, at the right weights and offset.

    Parameters
    ----------
    products : (B, M, E + 2) array
        Sums over every block of M instruments times (maps, 1, image).
    noise : (M, M) array
        Covariance of the sums over the whole image, up to a factor.
    """

    def __init__(self, products, noise):
        self.slopes, self.image = products[:, :, :-1], products[:, :, -1]
        self.noise = noise

    def factor(self, theta):
        """By how much the noise is larger than thought: what the blocks scatter, over ``noise``."""
        scatter = self._scatter(theta)
        if scatter is None:
            return 1.0
        whiten = inverse_root(self.noise)
        found = float(np.trace(whiten @ scatter @ whiten.T)) / max(len(whiten), 1)
        return found if found > 0 else 1.0

    def solve(self, columns, known, *, combine=None, factor=1.0):
        """Least squares in which all unknowns but the offset are >= 0.

        Parameters
        ----------
        columns : (E + 1, U) array
            What each unknown adds to (weights, offset).
        known : (E + 1,) array
            What is known of them already.
        combine : (N, M) array, optional
            Combinations of the equations to solve; by default all M are.
        factor : float
            By how much ``noise`` is to be multiplied.

        Returns
        -------
        Solution
        """
        whiten = self._whiten(combine, factor)
        slopes = self.slopes.sum(axis=0)
        rows = whiten @ (slopes @ columns)
        right = whiten @ (self.image.sum(axis=0) - slopes @ known)
        unknowns = non_negative(rows, right, signed=columns[-1] != 0)
        left = rows @ unknowns - right
        return Solution(unknowns, known + columns @ unknowns, float(left @ left))

    def normal(self, columns, known, *, combine=None, factor=1.0):
        """Normal equations of :meth:`solve`: a matrix (U, U) and the right-hand side (U,)."""
        whiten = self._whiten(combine, factor)
        slopes = self.slopes.sum(axis=0)
        rows = whiten @ (slopes @ columns)
        return rows.T @ rows, rows.T @ (whiten @ (self.image.sum(axis=0) - slopes @ known))

    def scatter(self, columns, theta, *, combine=None, factor=1.0):
        """Covariance (U, U) of the normal equations about `theta`, from the blocks; None where there is but one."""
        scatter = self._scatter(theta)
        if scatter is None:
            return None
        whiten = self._whiten(combine, factor)
        rows = whiten @ (self.slopes.sum(axis=0) @ columns)
        return rows.T @ (whiten @ scatter @ whiten.T) @ rows

    def covariance(self, columns, theta, *, combine=None, factor=1.0):
        """Covariance of the unknowns, from the scatter of the blocks; infinite where there is but one."""
        options = {"combine": combine, "factor": factor}
        matrix, _ = self.normal(columns, np.zeros(len(columns)), **options)
        scatter = self.scatter(columns, theta, **options)
        if scatter is None:
            return np.full(matrix.shape, np.inf)
        inverse = inverse_of(matrix)
        return inverse @ scatter @ inverse

    def _whiten(self, combine, factor):
        if combine is None:
            return inverse_root(self.noise * factor)
        return inverse_root(combine @ self.noise @ combine.T * factor) @ combine

    def _scatter(self, theta):
        """Covariance of what is left of the sums, from its scatter over the blocks."""
        blocks = len(self.image)
        if blocks < 2:
            return None
        left = self.image - self.slopes @ theta
        left = left - left.mean(axis=0)
        return left.T @ left * (blocks / (blocks - 1))


def inverse_root(covariance):
    """A matrix W with W C W' = 1, of as many rows as C has directions with noise."""
    size = np.sqrt(np.diag(covariance))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    there = values > SMALLEST_NOISE * values.max(initial=0.0)
    return (vectors[:, there] / np.sqrt(values[there])).T / size


def inverse_of(matrix):
    """Inverse of a symmetric matrix >= 0, whatever the units of its rows; 0 in directions without any."""
    size = np.sqrt(np.diag(matrix))
    size = np.where(size > 0, size, 1.0)
    scale = np.outer(size, size)
    return np.linalg.pinv(matrix / scale, hermitian=True) / scale


def non_negative(rows, right, signed):
    """Least squares of ``rows @ x = right`` with x >= 0 where not signed."""
    if rows.shape[1] == 0:
        return np.zeros(0)
    size = np.linalg.norm(rows, axis=0)
    size = np.where(size > 0, size, np.inf)
    scaled = np.hstack([rows / size, -(rows / size)[:, signed]])
    found = nnls(scaled, right)[0]
    result = found[: rows.shape[1]]
    result[signed] -= found[rows.shape[1] :]
    return result / size
