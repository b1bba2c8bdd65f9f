"""Expected background under X-ray lines, from the counts beside them."""

import numpy as np

# Widths of the blur that are tried, in pixels: steps of a factor of the square root of two.
_SIGMAS = 0.5 * 2 ** (np.arange(17) / 2)


def background_maps(side_counts, windows, smooth):
    """Background of each element's map.

    The counts per channel in the two windows beside a line are taken as those under
    it, as eXSpy does: ``(left + right) * channels / (left channels + right channels)``.

    Parameters
    ----------
    side_counts : numpy.ndarray of int, shape (L, R, C)
        Counts in both windows beside each line.
    windows : LineWindows
    smooth : bool
        Estimate the expected counts by a blur instead of taking those of the pixel.

    Returns
    -------
    numpy.ndarray of float32, shape (E, R, C)
    """
    maps = np.zeros((len(windows.elements), *side_counts.shape[1:]), dtype=np.float32)
    for e, element in enumerate(windows.elements):
        for k in windows.lines_of(element):
            counts = expected_counts(side_counts[k]) if smooth else side_counts[k]
            maps[e] += windows.background_factors[k] * counts
    return maps


def expected_counts(counts):
    """Blur Poisson counts by as much as they allow.

    Of Gaussian blurs of many widths, and the mean of the whole image, the one is taken
    whose distance to the expected counts is smallest by an estimate that needs the
    counts alone: for a blur K with the weight k of the pixel itself, the mean of
    ``|K c|^2 - 2 c . K c + 2 k c`` is ``|K c - mean|^2`` up to a constant.

    H. M. Hudson, Ann. Statist. 6, 473 (1978), for a linear estimator.

    Parameters
    ----------
    counts : numpy.ndarray of shape (R, C)
        Poisson distributed whole numbers.

    Returns
    -------
    numpy.ndarray of float64, shape (R, C)
    """
    from scipy.ndimage import gaussian_filter

    counts = np.asarray(counts, dtype=np.float64)
    mean = counts.mean()
    best = np.full_like(counts, mean)
    best_risk = _risk(best, counts, 1 / counts.size)
    # From narrow to wide: where widening stops to help, the wide and slow ones are not tried.
    narrow, narrow_risk = counts, _risk(counts, counts, 1.0)
    for sigma in _SIGMAS[_SIGMAS < max(min(counts.shape), 2) / 4]:
        blurred = gaussian_filter(counts, sigma, mode="reflect")
        risk = _risk(blurred, counts, _own_weight(sigma))
        if risk > narrow_risk:
            break
        narrow, narrow_risk = blurred, risk
    return narrow if narrow_risk < best_risk else best


def _risk(estimate, counts, own_weight):
    return float(np.sum(estimate * (estimate - 2 * counts)) + 2 * own_weight * counts.sum())


def _own_weight(sigma):
    """What a Gaussian blur leaves of a pixel in place."""
    from scipy.ndimage import gaussian_filter1d

    size = 2 * int(4 * sigma + 0.5) + 1
    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return gaussian_filter1d(impulse, sigma, mode="constant")[size // 2] ** 2
