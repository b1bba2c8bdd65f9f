"""Noise of measured maps relative to their mean, which tells how far they will move."""

import numpy as np

__all__ = ["diagonal_squares", "median_noise", "noise_level", "relative_noise"]

# Rows looked at together.
BAND = 128
# Maps without noise, and those of next to no counts.
SMALLEST, LARGEST = 1e-2, 1e2


def median_noise(haadf_noise):
    """Median noise of the HAADF image where it is used; infinite if it is used nowhere.

    Parameters
    ----------
    haadf_noise : float or (R, C) array
    """
    noise = np.asarray(haadf_noise, dtype=float)
    used = noise[np.isfinite(noise)]
    return float(np.median(used)) if used.size else np.inf


def diagonal_squares(maps):
    """Sum of squares (E,) of the finest diagonal differences, and how many they are.

    They are scaled such that white noise keeps its variance; of smooth maps little is left. Along
    an axis of one pixel there is no difference.

    Parameters
    ----------
    maps : (E, R, C) array or dask array
    """
    detail = maps.astype(np.float32)
    if detail.shape[1] > 1:
        detail = (detail[:, 1:] - detail[:, :-1]) * np.float32(np.sqrt(0.5))
    if detail.shape[2] > 1:
        detail = (detail[:, :, 1:] - detail[:, :, :-1]) * np.float32(np.sqrt(0.5))
    return (detail**2).sum(axis=(1, 2), dtype=float), detail.shape[1] * detail.shape[2]


def noise_level(maps):
    """Noise over mean of measured maps, about 1 at one count per pixel.

    Parameters
    ----------
    maps : (E, R, C) array

    Returns
    -------
    (E,) array
        From 0.01 to 100; 1 for maps that are zero everywhere.
    """
    squares, count = np.zeros(len(maps)), 0
    rows = maps.shape[1]
    # A band looks at the first row of the next.
    for row in range(0, max(rows - 1, 1), BAND):
        of_band, pixels = diagonal_squares(maps[:, row : min(row + BAND, rows - 1) + 1])
        squares, count = squares + of_band, count + pixels
    mean = [np.abs(image).mean(dtype=float) for image in maps]
    return relative_noise(squares / count, mean)


def relative_noise(variance, mean):
    """Root of ``variance`` over ``mean``, both (E,), within bounds."""
    variance, mean = np.asarray(variance, dtype=float), np.asarray(mean, dtype=float)
    level = np.sqrt(variance) / np.where(mean > 0, mean, 1.0)
    return np.where(mean > 0, np.clip(level, SMALLEST, LARGEST), 1.0)
