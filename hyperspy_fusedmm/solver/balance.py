"""Balance of primal and dual steps, adapted to how far each of them still moves.

At the right balance both move by the same length in the metric of the iteration, in which a
step of x counts with 1 / tau and one of the dual field with 1 / sigma [1]_. Where the dual
fields move further, primal steps were too long for them, and the other way round. The balance
is changed at growing intervals and by ever less, so that the changes add up to a bounded one
and the iteration converges as with any constant balance.

References
----------
.. [1] Goldstein, Li & Yuan, Advances in Neural Information Processing Systems 28 (2015).
"""

import numpy as np

from ._elementary import kernel
from ._tiles import LARGEST_RELATIVE, SMALLEST_RELATIVE

__all__ = ["AdaptiveBalance"]

# Iterations at which the balance is changed: the first, and the ratio of one to the next.
FIRST, INTERVALS = 20, 1.5
# Movement is measured over so many iterations before.
WINDOW = 8
# The balance follows the ratio of movements to this power, the power falling with the number
# of iterations to this one. On simulated specimens of 0.1 to 10 counts per pixel, powers from
# 0.4 to 1 and decays from 0.2 to 0.5 did about equally well.
EXPONENT, DECAY = 0.8, 0.2
# The ratio aimed at: a little more for the maps, by which the gap falls more evenly.
WANTED = 1.2
# At most so much at once, and away from the first balance.
LARGEST_CHANGE, FURTHEST = 3.0, 30.0
# Movement is measured on some rows, of so many pixels together.
SAMPLE = 1 << 15
GOLDEN = (np.sqrt(5) - 1) / 2


@kernel
def relative_scale(strength, typical):
    """The scale d of the steps at one pixel, as in `fill_step_fields`."""
    relative = min(max(strength / typical, SMALLEST_RELATIVE), LARGEST_RELATIVE)
    return 1.0 / (relative * relative)


@kernel
def movement(before, state, rows, strength, typical, sums):
    """Squared movement of maps and of their dual fields (2, E), at a balance of 1."""
    elements, columns = strength.shape[0], state.shape[2]
    last_row = strength.shape[1] - 1
    for k in range(rows.shape[0]):
        r = rows[k]
        here_row, below_row = min(r, last_row), min(r + 1, last_row)
        for e in range(elements):
            along, down = elements + 2 * e, elements + 2 * e + 1
            primal, dual = 0.0, 0.0
            for c in range(columns):
                here = relative_scale(strength[e, here_row, c], typical[e])
                right = relative_scale(strength[e, here_row, min(c + 1, columns - 1)], typical[e])
                below = relative_scale(strength[e, below_row, c], typical[e])
                x = np.float64(state[e, r, c]) - before[e, k, c]
                a = np.float64(state[along, r, c]) - before[along, k, c]
                b = np.float64(state[down, r, c]) - before[down, k, c]
                primal += 4.0 * x * x / here
                dual += (here + max(right, below)) * (a * a + b * b)
            sums[0, e] += primal
            sums[1, e] += dual


def sampled_rows(rows, columns):
    """Some rows, without a period that those of a lattice could agree with."""
    count = min(rows, max(SAMPLE // columns, 1))
    if count == rows:
        return np.arange(rows)
    return np.unique((rows * (np.arange(1, count + 1) * GOLDEN % 1)).astype(np.int64))


class AdaptiveBalance:
    """Follows a `TileEngine` for total variation and finds the balance of its steps.

    Parameters
    ----------
    engine : TileEngine
    steps : Steps
        Those of the first iterations.

    Attributes
    ----------
    steps : Steps
        Those to go on with.
    """

    def __init__(self, engine, steps):
        self._engine = engine
        self._first = steps.balance.astype(float)
        self.steps = steps
        self._rows = sampled_rows(*engine.state.shape[1:])
        self._before = None
        self._change_at = FIRST

    def next_stop(self, iteration):
        """The iteration at which `stop` wants to be called next."""
        watch = self._change_at - WINDOW
        return watch if iteration < watch else self._change_at

    def stop(self, iteration):
        """Look at the state after so many iterations."""
        if iteration == self._change_at - WINDOW:
            self._before = self._moving()[:, self._rows].copy()
        elif iteration == self._change_at:
            if self._before is not None:
                self._change(iteration)
            self._before = None
            self._change_at = max(int(INTERVALS * iteration), iteration + WINDOW)

    def _moving(self):
        """Maps and their dual fields."""
        return self._engine.state[: 3 * len(self._first)]

    def _change(self, iteration):
        strength = self._engine.data.strength
        sums = np.zeros((2, len(self._first)))
        typical = np.maximum(self.steps.typical_strength, 1e-30).astype(float)
        movement(self._before, self._engine.state, self._rows, strength, typical, sums)
        balance = self.steps.balance.astype(float)
        moved = (sums > 0).all(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(moved, np.sqrt(sums[0] / sums[1]) / balance, WANTED)
        factor = (ratio / WANTED) ** (EXPONENT * (FIRST / iteration) ** DECAY)
        balance *= np.clip(factor, 1 / LARGEST_CHANGE, LARGEST_CHANGE)
        balance = np.clip(balance, self._first / FURTHEST, self._first * FURTHEST)
        self.steps = self.steps._replace(balance=balance.astype(np.float32))
