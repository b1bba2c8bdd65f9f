"""What the regularization is relative to: a multiple of the HAADF image for each map.

A regularization of x takes contrast for noise unless the counts show it. Of x - s g, where g is the smoothed image
and s the number of counts per unit of it, only what is not proportional to the image is in doubt: the thickness of a
film, the outline of particles and shadows cost nothing, whichever element they are seen in. This is what
pan-sharpening calls dynamic gradient sparsity [1]_ [2]_: few gradients of the maps differ from those of the image.

References
----------
.. [1] Chen, Li, Liu & Huang, CVPR, 2760 (2014).
.. [2] Chen, Li, Liu & Huang, IEEE Trans. Image Process. 24, 4213 (2015).
"""

import numpy as np

from .problem import _check, _finite
from .strength import smooth_haadf

__all__ = ["haadf_reference", "reference_scale"]


def haadf_reference(haadf, haadf_noise=None):
    """The image that the regularization is relative to: the HAADF image less its mean, blurred.

    The width of the blur is chosen from the data, as that of `haadf_guide`.

    Parameters
    ----------
    haadf : (R, C) array
    haadf_noise : float or (R, C) array, optional
        Where it is infinite the image is not looked at, and goes on as its nearest neighbours are.

    Returns
    -------
    (R, C) float32 array

    Raises
    ------
    ValueError
        If the image has other than two axes or a value that is not finite.
    """
    _check(np.ndim(haadf) == 2, f"haadf must have the shape (R, C); its shape is {np.shape(haadf)}.")
    _finite("haadf", haadf)
    return smooth_haadf(haadf, haadf_noise)[0]


def reference_scale(problem, reference):
    """Slope of a straight line of each map, net of its background, over the reference, by least squares.

    Parameters
    ----------
    problem : FusionProblem, or list of the problems of parts of an image
        Of which the measured maps and their background are used.
    reference : (R, C) array, or list of as many

    Returns
    -------
    (E,) array
        0 for a reference without contrast.

    Raises
    ------
    ValueError
        If a reference has another shape than its maps or a value that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem
    >>> image = np.arange(6.0).reshape(2, 3)
    >>> reference_scale(FusionProblem(np.stack([3 * image + 1, 5 - 0 * image])), image)
    array([3., 0.])
    """
    parts = list(zip(problem, reference)) if isinstance(problem, list) else [(problem, reference)]
    for part, image in parts:
        _check(
            np.shape(image) == part.maps.shape[1:],
            f"reference must have the shape {part.maps.shape[1:]} of the maps; its shape is {np.shape(image)}.",
        )
        _finite("reference", image)
    images = [np.asarray(image, dtype=float) for _, image in parts]
    mean = sum(image.sum() for image in images) / sum(image.size for image in images)
    details = [image - mean for image in images]
    square = sum(np.vdot(detail, detail) for detail in details)
    if not square > 0:
        return np.zeros(len(parts[0][0].maps))
    return sum(_products(part, detail) for (part, _), detail in zip(parts, details)) / square


def _products(problem, detail):
    """Sum over the pixels of net counts times an image, (E,)."""
    pairs = zip(problem.maps, problem.background)
    return np.array([np.vdot(counts - background, detail) for counts, background in pairs])
