"""Whether the HAADF image is what the element maps make of it.

What is judged is not the residual of the fusion: the fused maps give way to the image, and take up what is
wrong with it. Here the image is compared with what the *measured* maps predict. Their noise is known and
independent from pixel to pixel, so the product of the residual at a pixel with anything that does not hold the
counts of this pixel has a mean of zero wherever the model is right, and how far sums of such products
are from zero tells what is wrong. Errors come from sums over squares of pixels.
"""

from dataclasses import dataclass

import numpy as np

from .held_out import block_sums
from .neighbourhood import neighbourhood_mean, own_share
from .smoothing import chosen_blur, kernel_energy

__all__ = ["Misfit", "Prediction", "misfit", "predicted", "saturated_shares"]

SMALLEST_WIDTH = 1.0
# Part of the mean variance that is added to that of every pixel in weighting: where nothing was counted
# the image would otherwise be believed to the last digit.
TEMPERING = 0.2
# About as many squares of pixels as errors are taken from, and their sides.
SQUARES, SMALLEST_SQUARE, LARGEST_SQUARE = 64, 4, 32
# Ends of the range of the image, without outliers.
RANGE = (0.5, 99.5)
# A pile of pixels at the end of the range is at least this many times as high as what is next to it.
PILE = 4.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """What measured maps predict of the image.

    Attributes
    ----------
    image : (R, C) array
        With the noise of the counts.
    variance : (R, C) array
        Of that noise.
    """

    image: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Misfit:
    """How the image differs from its prediction.

    Attributes
    ----------
    bend : float
        Sagitta of the image against its prediction over its range: how far it is from a straight line in the
        middle, as a part of the range. Negative where bright areas are too bright, as of squares;
        positive where they are too dark, as of a saturated image or a thick specimen.
    bend_error : float
        Its standard error.
    level : float
        Image less prediction where the image is darkest, as a part of the range.
    level_error : float
    unexplained : float
        Part of the variance of the image that is structure which the maps do not explain, apart from level and
        bend. What is finer than a few pixels may be missed.
    beyond_curve : float
        The same without what any curve of the image would explain.
    unexplained_error : float
        Standard error of both if there were no such structure.
    brightness : float
        In standard errors, how much more the latter is bright on a level ground than dark on it: its
        third moment over the error of this.
    span : float
        Range of the image, in its units.
    """

    bend: float
    bend_error: float
    level: float
    level_error: float
    unexplained: float
    beyond_curve: float
    unexplained_error: float
    brightness: float
    span: float


def predicted(problem, maps, data=None, scale=1.0):
    """What the measured maps predict of the image.

    The power model is expanded about given maps to first order: its expectation is right up to the
    square of their error.

    Parameters
    ----------
    problem : FusionProblem
    maps : (E, R, C) array
        Fitted to the counts alone; the linear model has no need of them.
    data : FusionProblem, optional
        The maps as they were measured, with the noise that they have, where `problem` states them in other units.
    scale : float or (E,) array
        One unit of `problem` in those of `data`.

    Returns
    -------
    Prediction
    """
    data = problem if data is None else data
    scale = np.broadcast_to(scale, len(problem.maps))
    image = np.full(problem.maps.shape[1:], float(problem.haadf_offset))
    variance = np.zeros_like(image)
    for e, weight in enumerate(problem.weights):
        net = np.asarray(problem.maps[e], dtype=float) - problem.background[e]
        slope = weight
        if problem.forward == "power":
            fit = np.maximum(np.asarray(maps[e], dtype=float), 0.0)
            slope = problem.gamma * weight * (weight * fit) ** (problem.gamma - 1)
            image += (weight * fit) ** problem.gamma - slope * fit
        image += slope * net
        variance += (slope / scale[e]) ** 2 * _variance(data, e)
    return Prediction(image, variance)


def _variance(problem, e):
    """Variance of a measured map, from around each pixel: its own count would say how far off it is."""
    if problem.fidelity[e] == "gaussian":
        return problem.noise[e] ** 2
    width = max(chosen_blur(problem.maps[e])[1], SMALLEST_WIDTH)
    return np.maximum(neighbourhood_mean(problem.maps[e], width), 0.0)


def misfit(image, prediction, noise, use=None):
    """Compare the image with what the measured maps predict of it.

    Parameters
    ----------
    image : (R, C) array
    prediction : Prediction
    noise : float
        Standard deviation of the noise of the detector.
    use : (R, C) array of bool, optional
        Pixels to look at.

    Returns
    -------
    Misfit
    """
    image = np.asarray(image, dtype=float)
    use = np.ones(image.shape, bool) if use is None else use
    width = max(chosen_blur(image - image.mean(), noise**2)[1], SMALLEST_WIDTH)
    around = neighbourhood_mean(image - image.mean(), width).astype(float)
    low, high = np.percentile(around[use], RANGE)
    span = max(high - low, 1e-300)
    variance = prediction.variance + noise**2
    weight = use / (variance + TEMPERING * variance[use].mean())
    position = np.clip((around - low) / span, -0.25, 1.25)
    residual = (image - prediction.image) / span
    square = _square(image.shape)
    # Shapes: level, slope, and an arc that is 1 in the middle of the range and 0 at its ends.
    shapes = np.stack([1 - position, position, 4 * position * (1 - position)])
    found, covariance = _regression(residual, shapes, weight, square)
    straight = np.array([found[0], found[0], found[2]])
    total = float((weight * (image / span - np.average(image / span, weights=weight)) ** 2).sum())
    shared = []
    # A part in proportion to the image is not explained either, unless any curve is allowed for.
    for coefficients in (straight, found):
        rest = (residual - np.tensordot(coefficients, shapes, axes=1)) * use
        rest -= use * np.average(rest, weights=weight)
        blurred = neighbourhood_mean(rest, width).astype(float)
        shared.append(float((weight * rest * blurred).sum()))
    cubes = block_sums(weight * rest * blurred**2, square)
    brightness = cubes.sum() / max(np.sqrt((cubes**2).sum()), 1e-300)
    # Every pair of pixels counts twice in the sum.
    spread = (weight * variance / span**2) ** 2
    error = np.sqrt(2 * _neighbour_energy(width) * spread.sum())
    return Misfit(
        bend=float(found[2]),
        bend_error=float(np.sqrt(covariance[2, 2])),
        level=float(found[0]),
        level_error=float(np.sqrt(covariance[0, 0])),
        unexplained=shared[0] / max(total, 1e-300),
        beyond_curve=shared[1] / max(total, 1e-300),
        unexplained_error=error / max(total, 1e-300),
        brightness=float(brightness),
        span=float(span),
    )


def _neighbour_energy(width):
    """Sum of the squares of the weights of a neighbourhood's mean."""
    share = own_share(101, width)[50] ** 2
    return (kernel_energy(width) - share**2) / (1 - share) ** 2


def saturated_shares(image):
    """Share of the pixels that are piled up at the darkest and at the brightest value.

    A value at the end of the range counts as a pile where it is far more frequent than those next to it.

    Parameters
    ----------
    image : (R, C) array

    Returns
    -------
    darkest, brightest : float

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).normal(10, 1, (100, 100))
    >>> saturated_shares(image)
    (0.0, 0.0)
    >>> saturated_shares(np.minimum(image, 11))[1] > 0.1
    True
    """
    values = np.sort(np.ravel(image))
    return _pile(values), _pile(-values[::-1])


def _pile(values):
    """Share of sorted values that equal the first one, 0 where that is no more than is usual."""
    count = int(np.searchsorted(values, values[0], side="right"))
    levels, counts = np.unique(values[count : max(20 * count, 200)], return_counts=True)
    if count < 5 or not levels.size or np.ptp(values) == 0:
        return 0.0
    # Levels of whole numbers are as wide as the steps between them.
    usual = counts[:5].mean()
    return count / values.size if count > PILE * usual else 0.0


def _square(shape):
    side = int(np.sqrt(shape[0] * shape[1] / SQUARES))
    return int(np.clip(side, SMALLEST_SQUARE, LARGEST_SQUARE))


def _regression(residual, shapes, weight, square):
    """Coefficients of shapes in a residual, and their covariance."""
    information = np.einsum("irc,jrc,rc->ij", shapes, shapes, weight)
    inverse = np.linalg.pinv(information)
    found = inverse @ (shapes * weight * residual).sum(axis=(1, 2))
    rest = residual - np.tensordot(found, shapes, axes=1)
    scores = np.stack([block_sums(shape * weight * rest, square).ravel() for shape in shapes])
    return found, inverse @ (scores @ scores.T) @ inverse
