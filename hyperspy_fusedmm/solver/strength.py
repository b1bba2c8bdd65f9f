"""Strength of the regularization per pixel and per element, and its direction."""

import numpy as np

from .operators import gradient
from .smoothing import chosen_blur, estimate_noise, fill_left_out, gradient_energy

__all__ = ["default_strength", "haadf_guide", "pilot_weights"]

LOWEST_PILOT = 0.02
# Strength of the regularization in units of the noise of the likelihood's gradient. Of the
# factors 0.3, 0.6, 1.2 and 2.4, 0.6 or 1.2 gave the least error with TV on simulated particles
# and lattices at 0.3 and 2 counts per pixel. To err on the low side: too little leaves noise
# that can be seen, too much removes structure that cannot.
TV_STRENGTH = 1.0
GUIDE_LARGEST = 0.95
GUIDE_NOISE = 2.0


def pilot_weights(maps, fidelity="poisson"):
    """Relative strength of the regularization at every pixel.

    The noise of the gradient of the Poisson likelihood grows as 1 / sqrt(x), so that one
    constant strength flattens peaks and leaves dark areas spiky. The weight is
    max(pilot / mean(pilot), 0.02)^(-1/2), the pilot a blur of the counts whose width is
    chosen from the data. Gaussian maps, whose noise is the same everywhere, get 1.

    Parameters
    ----------
    maps : (E, R, C) array
    fidelity : str or sequence of E str, default "poisson"

    Returns
    -------
    (E, R, C) float32 array
    """
    maps = np.asarray(maps)
    fidelity = (fidelity,) * len(maps) if isinstance(fidelity, str) else fidelity
    weights = np.ones(maps.shape, np.float32)
    for e, counts in enumerate(maps):
        if fidelity[e] == "poisson" and counts.any():
            pilot, _ = chosen_blur(counts)
            relative = pilot / pilot.mean(dtype=float)
            np.maximum(relative, LOWEST_PILOT, out=relative)
            weights[e] = relative**-0.5
    return weights


def default_strength(maps, fidelity="poisson", noise=None):
    """Strength of the regularization per element that suits its noise.

    The standard deviation of the gradient of the likelihood: 1 / sqrt(mean
    counts) for Poisson maps, 1 / noise for Gaussian ones.

    Parameters
    ----------
    maps : (E, R, C) array
    fidelity : str or sequence of E str, default "poisson"
    noise : (E,) array, optional
        Standard deviation of Gaussian maps; estimated if not given.

    Returns
    -------
    (E,) array
    """
    maps = np.asarray(maps)
    fidelity = (fidelity,) * len(maps) if isinstance(fidelity, str) else fidelity
    mean = np.array([m.mean(dtype=float) for m in maps])
    noise = estimate_noise(maps) if noise is None else np.asarray(noise, dtype=float)
    noise = np.array([np.sqrt(np.mean(n**2)) for n in noise])
    poisson = np.array([f == "poisson" for f in fidelity])
    spread = np.where(poisson, np.sqrt(np.maximum(mean, 1.0 / maps[0].size)), noise)
    return TV_STRENGTH / spread


def haadf_guide(haadf, haadf_noise=None):
    """Where and along which direction the HAADF image shows an edge [1]_.

    The gradient of the HAADF image, blurred by a width chosen from the data, gives the
    direction xi. The regularization leaves out the share s of the component along it, with
    s = 0.95 g^2 / (g^2 + (2 noise of g)^2): near 0 where the gradient g does not stand out
    of its noise.

    Parameters
    ----------
    haadf : (R, C) array
    haadf_noise : float or (R, C) array, optional
        Where it is infinite the image is not looked at.

    Returns
    -------
    (2, R, C) float32 array
        a = length * xi, along columns first, such that D = I - a a' leaves out s.

    References
    ----------
    .. [1] Ehrhardt & Betcke, SIAM J. Imaging Sci. 9, 1084 (2016).
    """
    smooth, noise, width = smooth_haadf(haadf, haadf_noise)
    left_out = np.isinf(np.zeros(1) if haadf_noise is None else haadf_noise)
    return np.where(left_out, np.float32(0), guide_of(smooth, noise, width))


def smooth_haadf(haadf, haadf_noise=None):
    """The HAADF image less its mean, blurred by a width chosen from the data.

    What guide and reference have in common; pixels that are left out go on as their nearest neighbours are.

    Parameters
    ----------
    haadf, haadf_noise
        As `haadf_guide`.

    Returns
    -------
    smooth : (R, C) float32 array
    noise : float
        Before the blur.
    width : float
        Sigma of the blur in pixels, 0 for none.
    """
    haadf = np.asarray(haadf, dtype=np.float32)
    left_out = np.isinf(np.zeros(1) if haadf_noise is None else haadf_noise)
    seen = haadf
    if left_out.ndim == 2 and not left_out.all():
        seen = haadf[~left_out]
        haadf = fill_left_out(haadf, left_out)
    noise = float(estimate_noise(haadf[None])[0])
    smooth, width = chosen_blur(haadf - seen.mean(dtype=float), noise**2)
    return smooth, noise, width


def guide_of(smooth, noise, width):
    """The guide of an image (R, C) that was blurred by ``width``, 0 for not at all; ``noise`` before."""
    slope = gradient(smooth)
    variance = noise**2 * (gradient_energy(width) if width else 2.0)
    square = (slope**2).sum(axis=0)
    share = GUIDE_LARGEST * square / np.maximum(square + GUIDE_NOISE**2 * variance, 1e-30)
    length = np.sqrt(np.maximum(square, 1e-30))
    return (slope * (np.sqrt(share) / length)).astype(np.float32)
