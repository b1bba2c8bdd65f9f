"""Whether the noise of maps is independent from pixel to pixel."""

import numpy as np

__all__ = ["is_white"]

# Correlation of neighbouring diagonal differences: -1/2 for white noise, -0.17 after a Gaussian blur of
# 0.5 pixels, positive after one of 0.7 and for structure without noise.
LARGEST_CORRELATION = -0.3
# Least variance that is found, in units of the known one; that of Poisson counts is their mean.
LEAST_VARIANCE = 0.5


def is_white(maps, fidelity="poisson", noise=None):
    """Whether each map looks like one with independent noise in every pixel.

    Filtered, resampled or denoised maps do not, nor do maps of unknown noise that is too low to be seen
    beside their structure: nothing can be learned from such noise. Counts that are whole numbers always do.

    Parameters
    ----------
    maps : (E, R, C) array
    fidelity : str or sequence of E str, default "poisson"
    noise : (E,) or (E, R, C) array, optional
        Known standard deviation of Gaussian maps.

    Returns
    -------
    (E,) bool array

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(1, 64, 64))
    >>> is_white(np.concatenate([noise, np.cumsum(noise, axis=1)]), "gaussian")
    array([ True, False])
    """
    fidelity = (fidelity,) * len(maps) if isinstance(fidelity, str) else fidelity
    white = np.ones(len(maps), bool)
    for e, values in enumerate(maps):
        values = np.asarray(values, dtype=np.float32)
        if min(values.shape) < 4 or (fidelity[e] == "poisson" and (values == np.rint(values)).all()):
            continue
        difference = np.diff(np.diff(values, axis=0), axis=1)
        variance = float((difference.astype(float) ** 2).mean()) / 4
        if variance == 0:
            white[e] = not values.any()
        elif fidelity[e] == "poisson":
            white[e] = variance >= LEAST_VARIANCE * float(values.mean(dtype=float))
        elif noise is not None:
            white[e] = variance >= LEAST_VARIANCE * float(np.mean(np.square(noise[e], dtype=float)))
        else:
            along = [
                float((difference[:, 1:] * difference[:, :-1]).mean(dtype=float)),
                float((difference[1:] * difference[:-1]).mean(dtype=float)),
            ]
            white[e] = max(along) / (4 * variance) <= LARGEST_CORRELATION
    return white
