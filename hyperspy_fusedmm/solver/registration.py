"""By how much the HAADF image lies beside the element maps.

The weighted sum of the counts is compared with the image, moved by whole pixels first and then by parts of
one. The image is nearly free of noise, so it is the template, and the shift of least squares follows; its error
comes from the scatter of what the template leaves of the counts, in squares of pixels [1]_.

References
----------
.. [1] White, Econometrica 48, 817 (1980), on errors that need no model of the noise.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import shift as shifted
from scipy.signal import fftconvolve

from .held_out import block_sums

__all__ = ["Shift", "find_shift"]

# Part of the shorter side, and pixels, within which a shift is searched.
LARGEST_PART, LARGEST = 1 / 6, 32
# Log-likelihood by which a far shift has to be better than one nearby, as far as noise goes.
BETTER = 12.0
# Lattices fit again and again, and real ones are nowhere quite the same: of peaks with a valley between them,
# half as high, one with this part of the highest correlation is as good.
AS_HIGH, VALLEY = 0.85, 0.5
STEPS = 6


@dataclass(frozen=True, eq=False)
class Shift:
    """A shift between the image and the maps.

    Attributes
    ----------
    move : (2,) array
        Rows and columns, in pixels, by which the image has to be moved to lie on the maps: towards higher
        numbers where positive.
    error : (2,) array
        Standard errors.
    correlation : float
        Correlation of the counts with the image so moved.
    unmoved_correlation : float
        That with the image as it is.
    lowest_correlation : float
        The most negative one of all shifts.
    """

    move: np.ndarray
    error: np.ndarray
    correlation: float
    unmoved_correlation: float
    lowest_correlation: float

    @property
    def length(self):
        """Length of the shift in pixels."""
        return float(np.hypot(*self.move))

    @property
    def length_error(self):
        """Standard error of the length; of either direction where it is 0."""
        length = self.length
        if length == 0:
            return float(self.error.max())
        return float(np.hypot(*(self.move * self.error)) / length)


def find_shift(signal, image):
    """Find the shift that makes an image most alike to a noisy one.

    Parameters
    ----------
    signal : (R, C) array
        Weighted sum of the counts, as noisy as they are.
    image : (R, C) array
        HAADF image with little noise: smoothed as much as it needs.

    Returns
    -------
    Shift or None
        None where image or signal is constant, or there are fewer than 12 pixels along a side.

    Examples
    --------
    >>> import numpy as np
    >>> rows, columns = np.indices((64, 64))
    >>> image = np.exp(-((rows - 30) ** 2 + (columns - 33) ** 2) / 100)
    >>> counts = np.random.default_rng(0).poisson(5 * np.roll(image, -3, axis=1))
    >>> found = find_shift(counts, image)
    >>> bool(abs(found.move[1] + 3) < 4 * found.error[1])
    True
    """
    signal, image = np.asarray(signal, dtype=float), np.asarray(image, dtype=float)
    margin = min(int(min(signal.shape) * LARGEST_PART), LARGEST)
    if margin < 2 or np.ptp(signal) == 0 or np.ptp(image) == 0:
        return None
    inside = (slice(margin, -margin),) * 2
    target = signal[inside] - signal[inside].mean()
    if not target.any():
        return None
    correlation = _correlations(target, image)
    start = _nearest_peak(correlation, target.size, margin)
    move, error = _refined(target, image, inside, start)
    at = tuple(np.array(start) + margin)
    return Shift(
        move=move,
        error=error,
        correlation=float(correlation[at]),
        unmoved_correlation=float(correlation[margin, margin]),
        lowest_correlation=float(correlation.min()),
    )


def _correlations(target, image):
    """Correlation with the image moved by every shift of whole pixels, (2 margin + 1,) twice."""
    image = image - image.mean()
    window = np.ones_like(target)
    products = fftconvolve(image, target[::-1, ::-1], mode="valid")
    sums = fftconvolve(image, window, mode="valid")
    squares = fftconvolve(image**2, window, mode="valid")
    spread = np.maximum(squares - sums**2 / target.size, 1e-9 * squares.max())
    # The image is moved towards higher numbers where its window starts at lower ones.
    found = products / np.sqrt(spread * (target**2).sum())
    return found[::-1, ::-1]


def _nearest_peak(correlation, pixels, margin):
    """The peak nearest to no shift of those that are as good as the best; none if all are chance."""
    height = np.where(correlation > 0, correlation, 0.0)
    likelihood = -0.5 * pixels * np.log1p(-np.minimum(height, 1 - 1e-9) ** 2)
    if likelihood.max() <= BETTER:
        return 0, 0
    neighbours = np.pad(likelihood, 1, constant_values=-1.0)
    peak = np.ones_like(likelihood, bool)
    for r in range(3):
        for c in range(3):
            if (r, c) != (1, 1):
                peak &= likelihood >= neighbours[r:, c:][: peak.shape[0], : peak.shape[1]]
    places = np.argwhere(peak & (correlation > 0))
    highest = places[np.argmax(correlation[tuple(places.T)])]
    equal = [
        likelihood[tuple(at)] > likelihood.max() - BETTER or _is_repeated(correlation, at, highest)
        for at in places
    ]
    good = places[equal] - margin
    nearest = good[np.argmin((good**2).sum(axis=1))]
    return int(nearest[0]), int(nearest[1])


def _is_repeated(correlation, at, highest):
    """Whether a peak is another one as high as the highest, not a bump on its flank."""
    height = correlation[tuple(at)]
    if height < AS_HIGH * correlation[tuple(highest)]:
        return False
    steps = np.linspace(0, 1, 2 * int(np.abs(highest - at).max()) + 1)[:, None]
    between = np.rint(at + steps * (highest - at)).astype(int)
    return correlation[tuple(between.T)].min() < VALLEY * height


def _refined(target, image, inside, start):
    """Shift of least squares (Gauss and Newton), and its standard errors."""
    move, found = np.array(start, dtype=float), None
    for step in range(STEPS + 1):
        moved = shifted(image, move, order=3, mode="nearest")
        slopes = [-slope[inside] for slope in np.gradient(moved)]
        template = moved[inside] - moved[inside].mean()
        scale = (template * target).sum() / max((template**2).sum(), 1e-300)
        residual = target - scale * template
        # The part of the slopes that neither level nor scale could do.
        fields = np.stack([scale * _without(slope, template) for slope in slopes])
        information = np.einsum("irc,jrc->ij", fields, fields)
        inverse = np.linalg.pinv(information)
        if step == STEPS:
            break
        change = inverse @ (fields * residual).sum(axis=(1, 2))
        # A parabola is to be believed nearby only.
        move = np.clip(move + np.clip(change, -0.5, 0.5), np.array(start) - 1.5, np.array(start) + 1.5)
    scores = np.stack([block_sums(field * residual).ravel() for field in fields])
    found = inverse @ (scores @ scores.T) @ inverse
    error = np.sqrt(np.diag(found))
    # A direction in which the image has no structure.
    flat = np.diag(information) < 1e-9 * np.trace(information)
    return np.where(flat, start, move), np.where(flat, np.inf, error)


def _without(values, template):
    values = values - values.mean()
    return values - (values * template).sum() / max((template**2).sum(), 1e-300) * template
