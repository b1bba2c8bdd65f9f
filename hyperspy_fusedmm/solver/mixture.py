"""Phases in a histogram: a mixture of Gaussians, fitted to binned values.

The likelihood of the binned values is made largest by expectation and maximization [1]_. Bins keep the
mean of the values in them, so binning costs nothing that is seen, and makes the cost independent of the
number of pixels. Nothing is drawn at random: fits start from fixed places, and the best of them is taken.

Pixels that belong to no peak, mixed ones and outliers, would widen the Gaussians that have to account for
them. A uniform distribution over the whole range takes them instead [2]_.

The number of phases is chosen by Schwarz's criterion [3]_. On its own it would go on adding Gaussians as
long as a peak is not exactly a Gaussian, which with thousands of pixels none is. So only fits whose
Gaussians are peaks with valleys between them are considered.

References
----------
.. [1] Dempster, Laird & Rubin, J. R. Stat. Soc. B 39, 1 (1977).
.. [2] Banfield & Raftery, Biometrics 49, 803 (1993).
.. [3] Schwarz, Ann. Stat. 6, 461 (1978).
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Phase", "binned", "fit_phases"]

MOST_PHASES = 4
BINS = 1000
ITERATIONS = 500
TOLERANCE = 1e-6
# Between two peaks the density of the values falls below this share of the lower one.
VALLEY = 0.7
SMALLEST_SHARE = 0.02
# Share of the uniform distribution at the start; expectation and maximization cannot leave zero.
FIRST_REST = 0.05
# Least spread of a phase in widths of a bin: peaks narrower than bins look infinitely likely.
LEAST_SPREAD = 0.5


@dataclass(frozen=True)
class Phase:
    """One Gaussian of a mixture.

    Attributes
    ----------
    mean, spread : float
        Mean and standard deviation, in the units of the values.
    share : float
        Of all values, from 0 to 1.
    """

    mean: float
    spread: float
    share: float

    def __str__(self):
        return f"{self.mean:.1f} ± {self.spread:.1f} ({100 * self.share:.0f} %)"


def binned(values, bins=BINS):
    """Values gathered in bins.

    Parameters
    ----------
    values : array
        Those that are not finite are left out.
    bins : int, default 1000
        From the least to the largest value.

    Returns
    -------
    means, counts : (B,) array
        Mean and number of the values of every bin that has any, in rising order.
    width : float
        Of a bin.
    """
    values = np.asarray(values).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        return np.empty(0), np.empty(0), 0.0
    low, high = float(values.min()), float(values.max())
    # Equal but for the rounding of single precision.
    if not high - low > 1e-5 * max(abs(low), abs(high)):
        return np.array([values.mean(dtype=float)]), np.array([float(values.size)]), 0.0
    width = (high - low) / bins
    place = np.minimum(((values - low) / width).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins).astype(float)
    sums = np.bincount(place, weights=values - low, minlength=bins)
    found = counts > 0
    return low + sums[found] / counts[found], counts[found], width


def fit_phases(means, counts, width, phases="auto"):
    """Fit a mixture of Gaussians, and a uniform distribution for what is in no peak, to binned values.

    Parameters
    ----------
    means, counts : (B,) array
    width : float
        As `binned` returns them.
    phases : "auto" or int, default "auto"
        Number of Gaussians. "auto" takes from 1 to 4: the number of least Bayesian information
        criterion among the fits whose Gaussians are peaks with valleys between them, and hold 2 % of
        the values each. A phase that is but a shoulder of another has to be asked for.

    Returns
    -------
    list of Phase
        In order of their means; fewer than asked for where there are not as many distinct values, none
        where there are no values or no peak.
        What their shares lack of 1 is in no peak.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = np.concatenate([rng.normal(20, 2, 6000), rng.normal(50, 3, 4000)])
    >>> for phase in fit_phases(*binned(values)):
    ...     print(phase)
    20.0 ± 2.0 (60 %)
    50.1 ± 3.0 (40 %)
    """
    if not len(means):
        return []
    least = LEAST_SPREAD * width
    if len(means) == 1:
        return [Phase(float(means[0]), 0.0, 1.0)]
    fits = [_single(means, counts, least)]
    for number in range(2, (MOST_PHASES if phases == "auto" else phases) + 1):
        if number > len(means):
            break
        fits.append(_best_fit(means, counts, least, number, fits[-1]))
    if phases != "auto":
        return _as_phases(fits[-1])
    apart = [fit for fit in fits if _stand_apart(means, counts, fit)]
    if not apart:
        return []
    return _as_phases(min(apart, key=lambda fit: _criterion(means, counts, fit)))


def density(values, phases):
    """Density of a mixture, (len(phases), ...): one row per phase."""
    values = np.asarray(values, dtype=float)
    return np.array([
        phase.share * np.exp(-0.5 * ((values - phase.mean) / phase.spread) ** 2)
        / (phase.spread * np.sqrt(2 * np.pi))
        for phase in phases
    ])  # fmt: skip


def _single(means, counts, least):
    centre = np.average(means, weights=counts)
    spread = np.sqrt(np.average((means - centre) ** 2, weights=counts))
    start = np.array([centre]), np.array([spread]), np.array([1 - FIRST_REST])
    return _maximized(means, counts, least, *start)


def _best_fit(means, counts, least, number, fewer):
    """Fits from every start; the most likely one."""
    fits = [_maximized(means, counts, least, *s) for s in _starts(means, counts, number, fewer)]
    return max(fits, key=lambda fit: _likelihood(means, counts, *fit))


def _starts(means, counts, number, fewer):
    """Equal shares; equal distances; and the fit of one phase less with one of them split in two."""
    spread = np.sqrt(np.average((means - np.average(means, weights=counts)) ** 2, weights=counts))
    spread = max(spread, np.finfo(float).tiny)
    position = (np.arange(number) + 0.5) / number
    order = np.cumsum(counts) / counts.sum()
    equal = np.full(number, (1 - FIRST_REST) / number)
    for centres in (np.interp(position, order, means), means[0] + position * np.ptp(means)):
        yield centres, np.full(number, spread / number), equal
    centres, spreads, shares = fewer
    for k in range(number - 1):
        yield (
            np.append(np.delete(centres, k), [centres[k] - spreads[k], centres[k] + spreads[k]]),
            np.append(np.delete(spreads, k), [spreads[k] / 2] * 2),
            np.append(np.delete(shares, k), [shares[k] / 2] * 2),
        )


def _maximized(means, counts, least, centres, spreads, shares):
    least = max(least, np.finfo(float).tiny)
    spreads, total, before = np.maximum(spreads, least), counts.sum(), -np.inf
    for _ in range(ITERATIONS):
        logs = _log_terms(means, centres, spreads, shares)
        highest = logs.max(axis=0)
        terms = np.exp(logs - highest)
        sums = terms.sum(axis=0)
        likelihood = counts @ (np.log(sums) + highest)
        if likelihood - before < TOLERANCE * total:
            break
        before = likelihood
        belonging = terms / sums * counts
        sizes = np.maximum(belonging.sum(axis=1), 1e-12 * total)
        shares, belonging, sizes = sizes[:-1] / sizes.sum(), belonging[:-1], sizes[:-1]
        centres = belonging @ means / sizes
        squares = (belonging * (means - centres[:, None]) ** 2).sum(axis=1) / sizes
        spreads = np.maximum(np.sqrt(squares), least)
    return centres, spreads, shares


def _log_terms(means, centres, spreads, shares):
    """Logarithms of the densities times sqrt(2 pi); the last row is the uniform distribution's."""
    with np.errstate(divide="ignore"):
        heights = np.log(shares / spreads)[:, None]
        rest = np.log(max(1 - shares.sum(), 0.0) * np.sqrt(2 * np.pi) / max(np.ptp(means), 1e-300))
    gaussians = heights - 0.5 * ((means - centres[:, None]) / spreads[:, None]) ** 2
    return np.vstack([gaussians, np.full(len(means), rest)])


def _likelihood(means, counts, *fit):
    return counts @ np.logaddexp.reduce(_log_terms(means, *fit), axis=0)


def _criterion(means, counts, fit):
    """Bayesian information criterion."""
    parameters = 3 * len(fit[0])
    return parameters * np.log(counts.sum()) - 2 * _likelihood(means, counts, *fit)


def _stand_apart(means, counts, fit):
    """Whether the values have a valley between every two neighbouring Gaussians, none of them tiny."""
    phases = _as_phases(fit)
    if min(phase.share for phase in phases) < SMALLEST_SHARE:
        return False
    for left, right in zip(phases, phases[1:]):
        between = _smoothed(means, counts, left, right)
        if between.min() > VALLEY * min(between[0], between[-1]):
            return False
    return True


def _smoothed(means, counts, left, right):
    """Density of the values, not of the fit, from the mean of one phase to that of the next."""
    position = np.linspace(0, 1, 41)[:, None]
    places = left.mean + position * (right.mean - left.mean)
    widths = (left.spread + position * (right.spread - left.spread)) / 2
    return np.exp(-0.5 * ((means - places) / widths) ** 2) / widths @ counts


def _as_phases(fit):
    centres, spreads, shares = fit
    return [
        Phase(float(centres[k]), float(spreads[k]), float(shares[k])) for k in np.argsort(centres)
    ]
