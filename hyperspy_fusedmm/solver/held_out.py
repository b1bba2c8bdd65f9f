"""How much better the HAADF image lets new counts be foretold.

The problem is fitted with the image and with the counts alone, both at several strengths of the
regularization, so that the image is not credited with what another strength would do. Of each fit the
deviance of new counts of the same specimen is estimated from the measured ones (see
`hyperspy_fusedmm.solver.risk`); the difference is the gain, in nats: a gain of n makes new counts exp(n)
times as likely as without the image.
"""

from dataclasses import dataclass, replace

import numpy as np

from .representative import cropped, representative_tiles
from .risk import FLOOR, disturbed
from .solve import solve

__all__ = ["Gain", "held_out_gain"]

# Strengths relative to those of the problem, in the order they are tried. Each element takes its own
# best.
FACTORS = (1.0, 2.0, 4.0, 8.0, 0.5)
# Of the first fit, and of those that go on from another strength; as in the choice of strengths.
FIRST_ITERATIONS, ITERATIONS = 200, 100
# Fewer counts than this in a map tell nothing of its gain.
FEWEST_COUNTS = 100
# Side, in pixels, of the squares whose scatter tells the error.
BLOCK = 16


@dataclass(frozen=True, eq=False)
class Gain:
    """What the image adds, for each element.

    Attributes
    ----------
    nats : (E,) array
        Held-out log-likelihood with the image less that without; NaN where there are too few counts.
    error : (E,) array
        Its standard error, from the noise of the counts.
    counts : (E,) array
        Counts of the parts of the image that were looked at; NaN for maps that do not hold counts.
    """

    nats: np.ndarray
    error: np.ndarray
    counts: np.ndarray

    @property
    def total(self):
        """Gain of all elements together."""
        return float(np.nansum(self.nats))

    @property
    def total_error(self):
        """Standard error of ``total``."""
        return float(np.sqrt(np.nansum(self.error**2)))


def counts_alone(problem):
    """The problem without the image, as term, as guide and as reference."""
    return replace(
        problem, haadf=None, weights=None, haadf_noise=1.0, lambda_haadf=0.0, guide=None, reference=None,
        forward="linear",
    )  # fmt: skip


def held_out_gain(
    problem, *, data=None, offset=0.0, scale=1.0, alone=None, start=None, refit=None, seed=0,
    num_workers=None, callback=None, keep_counts=False,
):  # fmt: skip
    """Estimate what the HAADF image adds to the held-out log-likelihood.

    Parameters
    ----------
    problem : FusionProblem
        With the image.
    data : FusionProblem, optional
        The same maps as they were measured, with the noise that they have, where `problem` states
        them in other units; only maps, fidelity, background and noise are used.
    offset, scale : float or (E,) array
        ``problem.maps * scale + offset`` is ``data.maps``.
    alone : FusionProblem, optional
        The problem of the counts alone, in the units of `data`; by default `problem` without the image.
    start : (E, R, C) array, optional
        Where fits with the image start, where that matters (power model).
    refit : callable, optional
        Maps of a problem with the image, where they are not its minimum.
    seed : int, default 0
        Seed of the draws; each tile has its own.
    num_workers : int, optional
        Threads.
    callback : callable, optional
        Called as ``callback(done, expected)`` after each pair of fits.
    keep_counts : bool, default False
        Whether fits keep the counts of each map, as `solve` does.

    Returns
    -------
    Gain

    References
    ----------
    Efron, J. Am. Stat. Assoc. 99, 619 (2004).

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem
    >>> rng = np.random.default_rng(0)
    >>> truth = np.repeat([[1.0, 4.0]], 16, axis=0).repeat(16, axis=1)[np.newaxis]
    >>> problem = FusionProblem(rng.poisson(truth), haadf=truth[0], weights=[1.0], haadf_noise=0.1)
    >>> gain = held_out_gain(problem)
    >>> bool(gain.total > 0)
    True
    """
    data = problem if data is None else data
    units = [np.broadcast_to(a, len(problem.maps))[:, None, None] for a in (offset, scale)]
    units = units, (units if alone is None else (0 * units[0], 0 * units[1] + 1.0))
    alone = counts_alone(problem if alone is None else alone)
    tiles = representative_tiles(problem.maps)
    sums, done = 0.0, 0
    expected = len(tiles) * len(FACTORS) * (2 if refit is None else 1)

    def report():
        nonlocal done
        done += 1
        if callback is not None:
            callback(done, expected)

    for tile in tiles:
        pair = _Pair(
            cropped(problem, tile), cropped(alone, tile), cropped(data, tile), units,
            np.random.default_rng([int(seed), tile[0].start, tile[1].start]), num_workers, keep_counts,
        )  # fmt: skip
        sums = sums + pair.compare(None if start is None else start[(...,) + tile], refit, report)
    return _gain(sums, data, tiles)


def _gain(sums, data, tiles):
    """Of each element, at its own best strengths with the image and without."""
    elements = np.arange(len(data.maps))
    best = sums[0, :, 0].argmax(axis=0), sums[0, 0].argmin(axis=0)
    nats, variance = sums[:, best[0], best[1], elements]
    poisson = np.array([fidelity == "poisson" for fidelity in data.fidelity])
    counts = sum(data.maps[(...,) + tile].sum(axis=(1, 2), dtype=float) for tile in tiles)
    unknown = poisson & (counts < FEWEST_COUNTS)
    return Gain(
        nats=np.where(unknown, np.nan, nats),
        error=np.where(unknown, np.nan, np.sqrt(variance)),
        counts=np.where(poisson, counts, np.nan),
    )


class _Pair:
    """Measured and disturbed problem of one tile."""

    def __init__(self, problem, alone, data, units, rng, num_workers, keep_counts):
        self.data, self.num_workers, self.keep_counts = data, num_workers, keep_counts
        drawn, self.disturbance = disturbed(data, rng)
        self.units = units
        self.with_image, self.alone = (
            (part, _with_maps(part, drawn.maps, *unit)) for part, unit in zip((problem, alone), units)
        )

    def compare(self, start, refit, report):
        """Gain of each fit with the image over each without, and its variance: (2, K, L, E)."""
        if refit is None:
            with_image = self.sweep(self.with_image, self.units[0], start, report)
        else:
            fits = [refit(problem) for problem in self.with_image]
            with_image = [self.foretold(fits, *self.units[0])]
        alone = self.sweep(self.alone, self.units[1], None, report)
        found = np.array([[self.difference(a, b) for b in alone] for a in with_image])
        return np.moveaxis(found, 2, 0)

    def sweep(self, problems, units, start, report):
        """What fits of all strengths expect."""
        states, found = {}, []
        for factor in FACTORS:
            nearest = min(states, key=lambda f: abs(np.log(f / factor)), default=None)
            solutions = [
                solve(
                    replace(p, lambda_tv=factor * p.lambda_tv),
                    tolerance=0,
                    max_iterations=FIRST_ITERATIONS if nearest is None else ITERATIONS,
                    initial=start if nearest is None else None,
                    state=None if nearest is None else states[nearest][j],
                    num_workers=self.num_workers,
                    keep_counts=self.keep_counts,
                )
                for j, p in enumerate(problems)
            ]
            states[factor] = [solution.state for solution in solutions]
            found.append(self.foretold([solution.maps for solution in solutions], *units))
            if report:
                report()
        return found

    def foretold(self, fits, offset, scale):
        """What fits expect of the data, in logarithms for counts, and its change by the disturbance."""
        levels, moves = (np.empty(self.data.maps.shape, np.float32) for _ in range(2))
        for e, fidelity in enumerate(self.data.fidelity):
            values = [maps[e] * scale[e] + offset[e] for maps in fits]
            if fidelity == "poisson":
                lowest = max(FLOOR * float(self.data.maps[e].mean(dtype=float)), 1e-30)
                values = [np.log(np.maximum(v + self.data.background[e], lowest)) for v in values]
            levels[e], moves[e] = values[0], values[1] - values[0]
        return levels, moves

    def difference(self, first, second):
        """Gain of the first over the second, and its variance: (2, E)."""
        found = np.empty((2, len(self.data.maps)))
        for e, fidelity in enumerate(self.data.fidelity):
            values = np.asarray(self.data.maps[e], dtype=float)
            (a, b), (move_a, move_b) = (first[0][e], second[0][e]), (first[1][e], second[1][e])
            change, scale = self.disturbance.change[e], self.disturbance.scale[e]
            if fidelity == "poisson":
                apparent = values * (a - b) - (np.exp(a) - np.exp(b))
                precision = 1.0
            else:
                precision = self.data.noise[e] ** -2.0
                apparent = precision * (0.5 * (b**2 - a**2) + values * (a - b))
            owed = scale * precision * change * (move_a - move_b)
            blocks = block_sums(np.broadcast_to(apparent - owed, values.shape))
            total = blocks.sum()
            # As if the blocks were drawn from a larger specimen.
            found[:, e] = total, blocks.size * blocks.var(ddof=min(1, blocks.size - 1))
        return found


def _with_maps(problem, maps, offset, scale):
    """The problem with other maps, which are given as they would be measured."""
    maps = (maps - offset) / scale
    for e, fidelity in enumerate(problem.fidelity):
        if fidelity == "poisson":
            np.maximum(maps[e], 0, out=maps[e])
    return replace(problem, maps=maps.astype(np.float32))


def block_sums(values, size=BLOCK):
    """Sums over squares of pixels, those at the end cut off by the border included."""
    sums = np.add.reduceat(values, np.arange(0, values.shape[0], size), axis=0)
    return np.add.reduceat(sums, np.arange(0, values.shape[1], size), axis=1)
