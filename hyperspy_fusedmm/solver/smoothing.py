"""Gaussian blurs whose width is chosen from the data, and noise levels."""

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d

__all__ = ["BLUR_WIDTHS", "blur", "chosen_blur", "estimate_noise", "fill_left_out", "kernel_energy"]

BLUR_WIDTHS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
TRUNCATE = 4.0
# Differences smaller than this part of the largest value are the rounding of numbers, not noise.
ROUNDING = 1e-6


def blur(image, width):
    """Gaussian blur of a (R, C) image with mirrored borders; ``width`` is sigma in pixels."""
    return gaussian_filter(np.asarray(image, dtype=np.float32), width, truncate=TRUNCATE)


def _kernel(width):
    size = 2 * int(TRUNCATE * width + 0.5) + 1
    delta = np.zeros(size)
    delta[size // 2] = 1.0
    return gaussian_filter1d(delta, width, truncate=TRUNCATE)


def kernel_energy(width):
    """Sum of squares of the blur's kernel: by how much it lowers the variance of white noise."""
    return float((_kernel(width) ** 2).sum() ** 2)


def gradient_energy(width):
    """Variance of a forward difference of blurred white noise of variance 1."""
    kernel = _kernel(width)
    difference = np.diff(kernel, prepend=0.0, append=0.0)
    return float((difference**2).sum() * (kernel**2).sum())


def chosen_blur(image, variance=None):
    """Blur with the width of least estimated risk.

    The risk |f - truth|^2 of a blur f is estimated without bias from the data alone:
    for white Gaussian noise by Stein's estimate [1]_, for Poisson counts by leaving each
    pixel's own count out of the product with the truth [2]_.

    Parameters
    ----------
    image : (R, C) array
    variance : float, optional
        Variance of the noise; if not given, the image holds Poisson counts.

    Returns
    -------
    blurred : (R, C) float32 array
    width : float
        Sigma in pixels.

    References
    ----------
    .. [1] Stein, Ann. Stat. 9, 1135 (1981).
    .. [2] Hudson, Ann. Stat. 6, 473 (1978).
    """
    data = np.asarray(image, dtype=np.float32)
    total = float(data.sum(dtype=float))
    best = (np.inf, data, 0.0)
    for width in BLUR_WIDTHS:
        if TRUNCATE * width > max(data.shape):
            break
        smooth = blur(data, width)
        centre = float(_kernel(width).max() ** 2)
        own = total if variance is None else variance * data.size
        risk = float((smooth * (smooth - 2 * data)).sum(dtype=float)) + 2 * centre * own
        if risk < best[0]:
            best = (risk, smooth, width)
    return best[1:]


def fill_left_out(image, left_out):
    """An image (R, C) with pixels that are not to be looked at as their nearest neighbours are.

    The image itself where there are none, or no others.
    """
    if not left_out.any() or left_out.all():
        return image
    nearest = distance_transform_edt(left_out, return_distances=False, return_indices=True)
    return image[tuple(nearest)]


def estimate_noise(images):
    """Standard deviation of white noise in each image, from its finest diagonal differences.

    The median of their moduli is used, so that edges hardly count.

    Parameters
    ----------
    images : (E, R, C) array

    Returns
    -------
    (E,) array
        At least the smallest positive double, so that it can be divided by.
    """
    levels = []
    for image in np.asarray(images):
        image = np.asarray(image, dtype=float)
        if min(image.shape) < 2:
            levels.append(image.std())
            continue
        fine = 0.5 * (image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1])
        level = 1.4826 * np.median(np.abs(fine))
        # Mostly equal pixels, as with very few counts, have no median difference; after a filter theirs is
        # what rounding leaves of none.
        seen = level > ROUNDING * np.abs(image).max()
        levels.append(level if seen else np.sqrt((fine**2).mean()))
    return np.maximum(levels, np.finfo(float).tiny)
