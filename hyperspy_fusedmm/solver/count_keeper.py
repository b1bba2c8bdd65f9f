r"""Keep the counts of each map while the problem is solved.

Less of a map means less of its variation: where counts are few, regularization takes them away,
often a tenth, sometimes half of a faint map, and the HAADF image makes up for it by more of another. How much there
is of an element is told best by its own counts, to the square root of their number. At the scale of a
map at which its likelihood is largest

.. math::

    \sum_p x_i = T_i = \sum_p b_i \frac{x_i}{x_i + \epsilon_i},

without background just as many counts as were measured. This is asked for by the term

.. math::

    \frac{G}{2} \sum_i T_i e_i^2, \quad e_i = \frac{\sum_p x_i}{T_i} - 1,

with :math:`G` times the weight of the counts' own statistics; less for the part of :math:`e` that is in proportion to
the HAADF weights, for where the image as a whole is brighter or darker than the counts say, they should
not overrule it. The minimum with this term is that with another slope of the likelihood,

.. math::

    \sum_p \kappa_i x_i - b_i \log(x_i + \epsilon_i), \quad \kappa_i = 1 + G e_i,

which is what the solver works with, and certifies. The slopes are found beside the iteration, as multipliers
are in Uzawa's method [1]_: now and then each moves by the part of the counts that is missing. A map of fewer counts
than its lower bound adds up to cannot keep them; its slope stays.

References
----------
.. [1] Arrow, Hurwicz & Uzawa, Studies in Linear and Non-Linear Programming, Stanford (1958).
"""

import numpy as np

from ._elementary import kernel
from ._rows import POISSON

__all__ = ["CountKeeper"]

# Iterations between two moves.
STRETCH = 16
# Weight G of the counts of each map as a whole, and where the image's brightness is against them.
WEIGHT, AGAINST_IMAGE = 50.0, 10.0
# What is missing and does not matter: this part of the standard deviation of the counts, or of themselves.
UNNOTICED, SLIGHT = 0.2, 2e-3
# Slopes are rounded, so that they do not depend on how sums are formed, stay in these limits, and
# move by no more than this at once.
STEPS, LIMITS, LONGEST = 2**14, (0.05, 20.0), 0.25
# A slope moves by so many times what is missing: more each time while that has the same sign, less
# after it changed. Against the image it may have to move far.
LEAST_GAIN, MOST_GAIN, MOST_AGAINST_IMAGE, FASTER, SLOWER = 0.5, 2.0, 100.0, 1.4, 0.5


@kernel
def expected_rows(x, counts, least, spread, sums):
    """Sums of x and b x / (x + eps) of one map.

    Given are x less its ``least`` value, and ``spread``, eps with it, which may be one row for all.
    """
    for r in range(x.shape[0]):
        row, eps = x[r], spread[min(r, spread.shape[0] - 1)]
        values = counts[r]
        total, net = 0.0, 0.0
        for c in range(row.shape[0]):
            above = max(np.float64(row[c]), 0.0)
            total += above + least
            net += values[c] * (above + least) / max(above + eps[c], 1e-30)
        sums[0] += total
        sums[1] += net


class CountKeeper:
    """Moves the slopes of the likelihood so that every Poisson map keeps its counts.

    Parameters
    ----------
    scaled : Scaled
        Its ``count_slope`` is what moves.
    data : Data
    start : (E,) array, optional
        Slopes to start from.

    Attributes
    ----------
    kept : bool
        Whether counts were kept when they were last looked at.
    """

    def __init__(self, scaled, data, start=None):
        self.data = data
        self.elements = [
            e for e in np.flatnonzero(scaled.fidelity == POISSON) if data.counts[e].any()
        ]
        if start is not None:
            scaled.count_slope[self.elements] = np.asarray(start)[self.elements]
        self.kept = True
        self.scale = scaled.map_scale
        self.least = scaled.lower_bound / scaled.map_scale
        self.least_totals = np.array([m.size for m in data.counts]) * scaled.lower_bound
        self.weights = scaled.problem.weights * (scaled.problem.lambda_haadf > 0)
        # Of each slope by itself, and of all with the image.
        self._missing, self._gain = np.zeros((2, len(self.weights))), np.ones((2, len(self.weights)))

    @staticmethod
    def stretches(iterations):
        """Numbers of iterations between moves."""
        parts = max(-(-iterations // STRETCH), 1)
        ends = [iterations * k // parts for k in range(parts + 1)]
        return [b - a for a, b in zip(ends, ends[1:])]

    def _with_image(self, excess, totals):
        """The part of a relative change (E,) of the totals that goes with the weights of the image."""
        share = self.weights * totals
        square = float(share @ self.weights)
        return self.weights * float(share @ excess) / square if square > 0 else 0.0 * excess

    def move(self, scaled, state):
        """Move the slopes by the part of the counts that is missing; whether any did."""
        slopes, elements = scaled.count_slope, self.elements
        found = np.zeros((len(slopes), 2))
        for e in elements:
            expected_rows(state[e], self.data.counts[e], self.least[e], self.data.spread[e], found[e])
        totals, net = self.scale * found.T
        there = np.zeros(len(slopes), bool)
        there[elements] = net[elements] > self.least_totals[elements]
        net = np.where(there, net, 0.0)
        excess = np.where(there, totals / np.where(there, net, 1.0) - 1.0, 0.0)
        parts = [(a, self._with_image(a, net)) for a in (excess, np.where(there, slopes - 1.0, 0.0))]
        (alone, with_image), (slope_alone, slope_with) = ((a - b, b) for a, b in parts)
        missing = np.stack([alone - slope_alone / WEIGHT, with_image - slope_with / AGAINST_IMAGE])
        slight = np.maximum(UNNOTICED / np.sqrt(np.maximum(net, 1.0)), SLIGHT)
        self.kept = bool((np.abs(missing.sum(axis=0)) <= slight).all())
        if self.kept:
            return False
        faster = np.where(missing * self._missing > 0, FASTER, SLOWER)
        most = [[MOST_GAIN], [MOST_AGAINST_IMAGE]]
        self._gain = np.clip(faster * self._gain, LEAST_GAIN, most)
        self._missing = missing
        step = np.clip((self._gain * missing).sum(axis=0), -LONGEST, LONGEST)
        moved = np.round(np.clip(slopes + step, *LIMITS) * STEPS) / STEPS
        changed = there & (moved != slopes)
        slopes[changed] = moved[changed]
        # At their limits slopes can do no more.
        self.kept = not changed.any()
        return not self.kept
