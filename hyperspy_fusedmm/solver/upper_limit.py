"""How much of an element may be where its fused map is zero."""

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import gammaincc, gammainccinv
from scipy.stats import norm

from .resolution import data_widths, resolved_pixels

__all__ = ["poisson_limit", "upper_limit"]


def poisson_limit(counts, background, confidence=0.95):
    """Upper limit of expected counts net of a known background.

    The limit below which the expected counts, known beforehand only not to be negative,
    lie with the given probability [1]_. It never is negative, and without background it is
    the classical one: 3.00 for no counts at 95 %.

    Parameters
    ----------
    counts, background : array
    confidence : float, default 0.95

    Returns
    -------
    array

    References
    ----------
    .. [1] Helene, Nucl. Instrum. Methods 212, 319 (1983).

    Examples
    --------
    >>> round(float(poisson_limit(0, 0)), 2)
    3.0
    """
    shape = np.asarray(counts, dtype=float) + 1.0
    beyond = gammaincc(shape, background)
    return np.maximum(gammainccinv(shape, (1 - confidence) * beyond) - background, 0.0)


def _gaussian_limit(mean, deviation, confidence):
    """The same for a Gaussian mean known not to be negative."""
    beyond = (1 - confidence) * norm.sf(-mean / deviation)
    return np.maximum(mean + deviation * norm.isf(beyond), 0.0)


def upper_limit(problem, confidence=0.95):
    """Upper limit of each map at every pixel from the counts around it.

    The counts of as many pixels are taken together as the data do not tell apart: those of the
    Gaussian blur that suits the measured map best. The HAADF image is left out.

    Parameters
    ----------
    problem : FusionProblem
    confidence : float, default 0.95

    Returns
    -------
    (E, R, C) float32 array
        Finite and positive.

    Raises
    ------
    ValueError
        If `confidence` does not lie within 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem, upper_limit
    >>> limit = upper_limit(FusionProblem(np.zeros((1, 10, 10))))
    >>> bool(np.allclose(limit, 3.0 / 100, rtol=1e-2))
    True
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie within 0 and 1; it is {confidence!r}.")
    widths = data_widths(problem)
    pixels = resolved_pixels(problem, widths)
    limits = np.empty(problem.maps.shape, np.float32)
    for e, fidelity in enumerate(problem.fidelity):
        shape = problem.maps[e].shape
        mean = gaussian_filter(np.asarray(problem.maps[e], dtype=float), widths[e])
        if fidelity == "poisson":
            level = np.broadcast_to(problem.background[e], shape)
            level = gaussian_filter(level, widths[e])
            area = pixels[e]
            limits[e] = poisson_limit(area * mean, area * level, confidence) / area
        else:
            noise = np.broadcast_to(problem.noise[e] ** 2, shape)
            deviation = np.sqrt(gaussian_filter(noise, widths[e]) / pixels[e])
            limits[e] = _gaussian_limit(mean, deviation, confidence)
    return limits
