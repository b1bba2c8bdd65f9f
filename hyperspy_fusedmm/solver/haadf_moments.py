"""Sums from which the HAADF image is regressed on the element maps, block by block of the image."""

import numpy as np

from .neighbourhood import neighbourhood_mean

__all__ = ["HaadfMoments"]

# The narrow neighbourhood resolves columns of atoms, the wide one gathers counts.
WIDTHS = (1.0, 3.0)
BLOCKS = 8
# A pixel weighs as if it had at least this share of the mean signal: vacuum tells the offset, and must not
# decide everything where the support is not empty.
LEAST_SIGNAL = 0.02


class HaadfMoments:
    """Products of instruments with maps and image.

    The M instruments are a constant and, at two widths, the neighbourhood means of every map and of the
    image. Their products with maps and image are free of noise.

    Parameters
    ----------
    maps : (E, R, C) array
    haadf : (R, C) array
    background : float, (E, 1, 1) or (E, R, C) array
        Expected background, which makes no signal.
    variances : (2, E) array
        Variance of every map that is constant, and per unit of its signal: 0 and 1 for counts.

    Attributes
    ----------
    centre : float
        Mean of the image; all sums are of the image less this, so that they do not cancel.
    mean : (E,) array
        Means of the maps, less their background.
    places : list of tuple
        For every width, the places of the maps (E,) and that of the image among the instruments.
    instrument_count, pixels : int
    """

    def __init__(self, maps, haadf, background, variances):
        self.maps, self.variances = maps, variances
        self.background = background if np.ndim(background) else [background] * len(maps)
        self.centre = float(haadf.mean(dtype=float))
        self.image = np.asarray(haadf - self.centre, dtype=np.float32)
        elements = len(maps)
        self.pixels = self.image.size
        # Filled in place: they are most of the memory that a calibration takes.
        self.instruments = np.empty((len(WIDTHS) * (elements + 1),) + haadf.shape, np.float32)
        place = 0
        for width in WIDTHS:
            for counts, offset in zip(maps, self.background):
                net = np.subtract(counts, offset, dtype=np.float32)
                self.instruments[place] = neighbourhood_mean(net, width)
                place += 1
            self.instruments[place] = neighbourhood_mean(self.image, width)
            place += 1
        first = 1 + (elements + 1) * np.arange(len(WIDTHS))
        self.places = [(start + np.arange(elements), start + elements) for start in first]
        self.instrument_count = 1 + len(self.instruments)
        self.brightness = self.instruments[elements]
        self.blocks = [
            (slice(r, e), slice(c, f))
            for r, e in _spans(haadf.shape[0])
            for c, f in _spans(haadf.shape[1])
        ]
        self.mean = np.array([
            float(np.mean(counts, dtype=float) - np.mean(offset))
            for counts, offset in zip(maps, self.background)
        ])  # fmt: skip

    def sums(self, weigh=None):
        """Sums over every block, each pixel weighted.

        Parameters
        ----------
        weigh : callable, optional
            Weight of pixels of given brightness (that of the neighbourhood, less the centre).

        Returns
        -------
        products : (blocks, M, E + 2) array
            Instruments times (maps, 1, image).
        squares : (M, M) array
            Instruments times instruments.
        noise : (E,) array
            Variance of every map, averaged with the weights of the pixels and multiplied by them.
        """
        products, squares, noise, total = [], 0.0, 0.0, 0.0
        for rows, columns in self.blocks:
            z = self.instruments[:, rows, columns].astype(float)
            z = np.concatenate([np.ones((1,) + z.shape[1:]), z]).reshape(len(z) + 1, -1)
            net = [
                counts[rows, columns] - (b[rows, columns] if np.size(b) > 1 else b)
                for counts, b in zip(self.maps, self.background)
            ]
            image = self.image[rows, columns]
            y = np.stack([*net, np.ones_like(image), image])
            y = y.astype(float).reshape(len(y), -1)
            weights = np.ones(y.shape[1])
            if weigh is not None:
                weights = weigh(self.brightness[rows, columns].ravel())
            scaled = z * weights
            products.append(scaled @ y.T)
            squares = squares + scaled @ z.T
            total += weights.sum()
            noise = noise + self.variances[0] * (weights @ weights)
            noise = noise + self.variances[1] * (y[:-2] @ weights**2)
        return np.array(products), squares, np.maximum(noise, 0) / total


def pixel_weights(theta, mean, constant, growing):
    """How much a pixel of given brightness weighs: the inverse of its variance about the model.

    The noise of counts grows with the signal, and the signal is known from the brightness of the
    neighbourhood, which shares no noise with the pixel.

    Parameters
    ----------
    theta : (E + 1,) array
        Weights and offset.
    mean : (E,) array
        Mean of every map, free of background.
    constant : float
        Variance that does not grow with the signal.
    growing : (E,) array
        Variance of each map per unit of its signal: 1 for counts, 0 for constant noise.

    Returns
    -------
    callable
    """
    weights, offset = theta[:-1], theta[-1]
    signal = float(weights @ mean)
    if not signal > 0:
        return lambda brightness: np.full(np.shape(brightness), 1 / constant)
    slope = float((weights**2 * growing) @ np.maximum(mean, 0)) / signal

    def weigh(brightness):
        return 1 / (constant + slope * np.maximum(brightness - offset, LEAST_SIGNAL * signal))

    return weigh


def _spans(length):
    pieces = min(BLOCKS, length)
    ends = np.linspace(0, length, pieces + 1).round().astype(int)
    return list(zip(ends[:-1], ends[1:]))
