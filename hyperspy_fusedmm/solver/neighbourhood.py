"""What the pixels around a pixel say of it, without its own value.

The mean over the neighbourhood shares the structure of the image and not the noise of the pixel. So it is an
instrument in the sense of regression: its product with the pixel's own value is free of the noise of both.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .smoothing import TRUNCATE, blur

__all__ = ["neighbourhood_mean"]


def neighbourhood_mean(image, width):
    """Gaussian mean over the pixels around each pixel, which is itself left out.

    Parameters
    ----------
    image : (R, C) array
    width : float
        Sigma of the Gaussian in pixels.

    Returns
    -------
    (R, C) float32 array
        0 where a pixel has no neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((9, 9))
    >>> image[4, 4] = 1
    >>> bool(abs(neighbourhood_mean(image, 1.0)[4, 4]) < 1e-6)
    True
    """
    values = np.asarray(image, dtype=np.float32)
    rows, columns = (own_share(length, width).astype(np.float32) for length in values.shape)
    # In place, for images that fill the memory.
    own = np.outer(rows, columns)
    mean = blur(values, width)
    mean -= own * values
    others = np.subtract(1, own, out=own)
    alone = others < 1e-6
    others[alone] = 1
    mean /= others
    mean[alone] = 0
    return mean


def own_share(length, width):
    """Share of each pixel of a row in its own blur; larger at the ends, where the row is mirrored."""
    reach = 2 * int(TRUNCATE * width + 0.5) + 2
    short = min(length, 2 * reach + 1)
    share = gaussian_filter1d(np.eye(short), width, axis=0, truncate=TRUNCATE).diagonal()
    middle = np.full(length - short, share[short // 2])
    return np.concatenate([share[: short // 2], middle, share[short // 2 :]])
