"""Error of fitted maps estimated from the data that they were fitted to.

How far fitted maps f are from the truth t is known up to a constant from the data y alone, once
it is known how much each fitted value owes to its own noise:

    E |f - t|^2 = E sum(f^2 - 2 y f) + 2 E sum((y - t) f) + |t|^2

The middle term, the covariance of data and fit, is measured [1]_ [2]_: the maps are fitted once
more after some of the counts have been taken out at random, and the change of the fit is
correlated with what was taken. Thinned binomially, the counts kept and the counts taken are
independent Poisson counts [3]_, and the kept ones, scaled up, are the data with a disturbance of
known variance. This is the deviance or squared error of held-out counts, but from a fit to all
of the counts and without the scatter of the few that are held out. Gaussian maps are disturbed by
adding noise [4]_.

A fit may spike where there is a single count and need not be linear in it. For Poisson counts the covariance is
exactly [5]_

    E sum((y - t) f) = E sum y (f(y) - f(y less one count there)),

by how much the fit falls where a count is taken. So what was taken is compared with what was to be expected by
the fit, not by the counts: compared with the counts, those that were kept, where a spike
has no reason to change, would pass for counts that the fit does not follow.

References
----------
.. [1] Efron, J. Am. Stat. Assoc. 99, 619 (2004), on covariance penalties.
.. [2] Oliveira, Lei & Tibshirani, arXiv:2212.01943 (2022), for Poisson data.
.. [3] Neufeld et al., Biostatistics 25, 270 (2024), on count splitting.
.. [4] Ramani, Blu & Unser, IEEE Trans. Image Process. 17, 1540 (2008).
.. [5] Hudson, Ann. Stat. 6, 473 (1978).
"""

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Disturbance", "Risk", "disturbed", "draws_of", "mean_risk", "risk"]

# Share of the counts that is taken out of a map with many. With few the estimate would hang on which
# of them these are: more are taken then, up to the largest share, though the error of fits that follow few
# counts closely is underestimated then, for their neighbours are taken with them.
HELD_OUT, LARGEST_HELD_OUT, MANY_COUNTS = 0.1, 0.3, 5000
# Draws that an estimate is the mean of, more where counts are few, and most pixels of all draws together: more
# would take long, and of large images one draw tells enough.
LEAST_DRAWS, MOST_DRAWS, MOST_PIXELS = 2, 3, 3 * 128**2
# Standard deviation of the disturbance of Gaussian maps in units of their noise.
GAUSSIAN_DISTURBANCE = 0.3
# A fit is not taken to be below this part of the mean count in logarithms: a count where none was
# expected would otherwise cost without limit.
FLOOR = 0.02


@dataclass(frozen=True, eq=False)
class Disturbance:
    """What was added to the maps.

    Attributes
    ----------
    change : (E, R, C) float32 array
        Disturbed less measured maps.
    scale : (E,) array
        Variance of the data over that of the disturbance.
    """

    change: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class Risk:
    """Sums over the pixels of one fit, of each element.

    Sums of several parts of an image add up, see ``+``.

    Attributes
    ----------
    error : (E,) array
        Estimate of |f - t|^2 - |t|^2: what is left out is the same for every fit.
    covariance : (E,) array
        Estimate of the covariance of data and fit; about the error that is owed to noise.
    energy : (E,) array
        |f|^2.
    deviance : (E,) array
        Estimate of half the deviance of new counts of the same specimen from the fit, less that
        from the truth, up to a constant, in nats. Of Gaussian maps half the squared error
        over the variance.
    """

    error: np.ndarray
    covariance: np.ndarray
    energy: np.ndarray
    deviance: np.ndarray

    def __add__(self, other):
        return Risk(*(getattr(self, n) + getattr(other, n) for n in self.__dataclass_fields__))


def held_out(total):
    """Share that is taken out of so many counts."""
    share = HELD_OUT * np.sqrt(MANY_COUNTS / max(total, 1))
    return float(np.clip(share, HELD_OUT, LARGEST_HELD_OUT))


def draws_of(totals, pixels):
    """Number of draws for maps of so many counts, an array that may be empty, and so many pixels."""
    wanted = max(np.ceil(MANY_COUNTS / max(np.min(totals, initial=np.inf), 1)), LEAST_DRAWS)
    return int(max(min(wanted, MOST_DRAWS, MOST_PIXELS // pixels), 1))


def disturbed(problem, rng):
    """Take some of the counts out at random, and scale up the others.

    Parameters
    ----------
    problem : FusionProblem
        Poisson maps should hold whole numbers; others are rounded for the draw.
    rng : numpy.random.Generator

    Returns
    -------
    problem : FusionProblem
        The same with disturbed maps.
    disturbance : Disturbance
    """
    maps = np.empty(problem.maps.shape, np.float32)
    scale = np.empty(len(maps))
    for e, values in enumerate(problem.maps):
        if problem.fidelity[e] == "poisson":
            counts = np.rint(values).astype(np.int64)
            share = held_out(int(counts.sum()))
            taken = rng.binomial(counts, share)
            # Not below 0 by rounding where all was taken.
            maps[e] = np.maximum(values + (counts * share - taken) / (1 - share), 0)
            scale[e] = (1 - share) / share
        else:
            noise = GAUSSIAN_DISTURBANCE * problem.noise[e]
            maps[e] = values + noise * rng.standard_normal(values.shape)
            scale[e] = GAUSSIAN_DISTURBANCE**-2.0
    change = np.subtract(maps, problem.maps, dtype=np.float32)
    return replace(problem, maps=maps), Disturbance(change, scale)


def risk(problem, maps, disturbed_maps, disturbance):
    """Estimate how far fitted maps are from the truth.

    Parameters
    ----------
    problem : FusionProblem
        With the measured maps.
    maps, disturbed_maps : (E, R, C) array
        Fits to the measured and to the disturbed maps.
    disturbance : Disturbance

    Returns
    -------
    Risk
    """
    sums = np.empty((4, len(maps)))
    for e, fit in enumerate(maps):
        fit = np.asarray(fit, dtype=float)
        change, scale = disturbance.change[e], disturbance.scale[e]
        net = problem.maps[e] - problem.background[e]
        lever = scale * change
        if problem.fidelity[e] == "poisson":
            # The counts expected to be taken, less those that were, over the share that was taken.
            lever += fit + problem.background[e] - problem.maps[e]
        covariance = float((lever * (disturbed_maps[e] - fit)).sum(dtype=float))
        energy = float((fit**2).sum())
        error = energy - 2 * float((net * fit).sum(dtype=float)) + 2 * covariance
        if problem.fidelity[e] == "poisson":
            deviance = _poisson_deviance(problem, e, fit, disturbed_maps[e], lever)
        else:
            precision = problem.noise[e] ** -2.0
            deviance = float((precision * (0.5 * fit**2 - net * fit)).sum(dtype=float))
            deviance += scale * float(
                (precision * change * (disturbed_maps[e] - fit)).sum(dtype=float)
            )
        sums[:, e] = error, covariance, energy, deviance
    return Risk(*sums)


def mean_risk(problem, maps, disturbances):
    """Mean over several disturbances of the estimate of `risk`.

    Parameters
    ----------
    problem : FusionProblem
        With the measured maps.
    maps : sequence of (E, R, C) arrays
        Fits to the measured maps and to those of each disturbance.
    disturbances : sequence of Disturbance

    Returns
    -------
    Risk
    """
    found = [risk(problem, maps[0], *pair) for pair in zip(maps[1:], disturbances)]
    total = sum(found[1:], found[0])
    return Risk(*(getattr(total, n) / len(found) for n in Risk.__dataclass_fields__))


def _poisson_deviance(problem, e, fit, disturbed_fit, lever):
    counts = problem.maps[e]
    lowest = max(FLOOR * float(counts.mean(dtype=float)), 1e-30)
    background = problem.background[e]
    expected = np.maximum(fit + background, lowest)
    logarithm = np.log(expected)
    moved = np.log(np.maximum(disturbed_fit + background, lowest)) - logarithm
    apparent = float((expected - counts * logarithm).sum(dtype=float))
    return apparent + float((lever * moved).sum(dtype=float))
