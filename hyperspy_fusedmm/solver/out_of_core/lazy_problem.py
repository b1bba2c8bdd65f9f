"""The fusion problem on Dask arrays, and the few numbers that need the whole image."""

from dataclasses import dataclass, replace

import dask
import dask.array as da
import numpy as np
from scipy.special import xlogy

from .._rows import POISSON
from ..noise_level import diagonal_squares, median_noise, relative_noise
from ..power import linear_model
from ..primal_dual import Scaled, _power_of_two, divergence_less_likelihood
from ..problem import FusionProblem

__all__ = ["LazyProblem", "WholeImage", "own_axes", "three_axes"]

# Arguments of `FusionProblem` that may hold a value per pixel, with the number of axes then.
PIXELWISE = {
    "maps": 3,
    "haadf": 2,
    "haadf_noise": 2,
    "background": 3,
    "noise": 3,
    "guide": 3,
    "reference": 2,
    "regularization_weights": 3,
}
# Pixels from which the median of a noise image is taken, on a regular grid.
MEDIAN_PIXELS = 1 << 22


def three_axes(array):
    """An array with a value per pixel as chunks hold it, (., R, C)."""
    return array[np.newaxis] if array.ndim == 2 else array


def own_axes(names, pieces):
    """Pieces (., R, C) of the arrays of a problem by name, with the axes that the problem takes; a dict."""
    return {
        name: piece[0] if PIXELWISE[name] == 2 else piece for name, piece in zip(names, pieces)
    }


@dataclass(frozen=True, eq=False)
class WholeImage:
    """Numbers that a part of an image must take from the whole.

    Attributes
    ----------
    map_scale, typical_strength, balance, bounds, highest : (E,) array
        As `Scaled` has them. ``highest`` is the largest measured value, or the one that alone
        would make the brightest pixel of the HAADF image, in its units.
    haadf_scale : float
    net : (E,) array
        Totals of the measured maps less the background, in the caller's units.
    likelihood_constant : float
        Divergence minus likelihood.
    fingerprint : list of float
        Numbers that tell two data sets apart.
    power : dict or None
        For the power model: ``sums`` and ``squares`` (E,) as `linear_model` takes them, and the
        ``balance`` (E,) of that model.
    """

    map_scale: np.ndarray
    haadf_scale: float
    typical_strength: np.ndarray
    balance: np.ndarray
    bounds: np.ndarray
    highest: np.ndarray
    net: np.ndarray
    likelihood_constant: float
    fingerprint: list
    power: dict | None = None


class LazyProblem:
    """Arguments of a `FusionProblem`, of which the pixelwise ones may be Dask arrays.

    Parameters
    ----------
    maps : (E, R, C) dask array
    **arguments
        As `FusionProblem`. Arrays with a value per pixel may be NumPy or Dask arrays.

    Raises
    ------
    ValueError
        If an array has a wrong shape.

    Examples
    --------
    >>> import dask.array as da
    >>> LazyProblem(da.ones((1, 32, 32), chunks=16), lambda_tv=0.5).shape
    (1, 32, 32)
    """

    def __init__(self, maps, **arguments):
        if maps.ndim != 3 or maps.size == 0:
            raise ValueError(
                f"maps must have the shape (elements, rows, columns); its shape is {maps.shape}."
            )
        self.shape = maps.shape
        self.arrays, self.constants = {"maps": maps}, {}
        for name, value in arguments.items():
            if name in PIXELWISE and np.ndim(value) == PIXELWISE[name] and value.shape[-1] > 1:
                if value.shape[-2:] != self.shape[-2:]:
                    raise ValueError(
                        f"{name} must have {self.shape[-2:]} rows and columns, as the maps; its "
                        f"shape is {value.shape}."
                    )
                self.arrays[name] = value
            else:
                self.constants[name] = value
        self.arrays = {
            name: value if isinstance(value, da.Array) else da.from_array(value, chunks=-1)
            for name, value in self.arrays.items()
        }

    def part(self, pieces):
        """A `FusionProblem` of a part of the image, from its pixelwise arrays in memory."""
        return FusionProblem(**pieces, **self.constants)

    def crop(self, rows, columns):
        """A `FusionProblem` of a part of the image, loaded."""
        names = list(self.arrays)
        values = dask.compute(*(self.arrays[name][..., rows, columns] for name in names))
        return self.part(dict(zip(names, values)))

    def measure(self):
        """What needs the whole image, from one pass over the arrays.

        Returns
        -------
        WholeImage

        Raises
        ------
        ValueError
            If maps or image hold NaN or infinite values.
        """
        arrays, elements = self.arrays, self.shape[0]
        maps = arrays["maps"]
        squares, differences = diagonal_squares(maps)
        wanted = {
            "squares": squares,
            "mean": abs(maps).mean(axis=(1, 2), dtype=float),
            "sum": maps.sum(axis=(1, 2), dtype=float),
            "highest": maps.max(axis=(1, 2)),
            "entropy": da.map_blocks(_entropy, maps, dtype=float).sum(axis=(1, 2)),
        }
        is_power = self.constants.get("forward", "linear") == "power"
        if is_power:
            wanted["map squares"] = da.square(maps.astype(float)).sum(axis=(1, 2))
        if "haadf" in arrays:
            wanted["brightest"] = arrays["haadf"].max()
            wanted["haadf"] = arrays["haadf"].sum(dtype=float)
        for name in ("background", "noise"):
            if name in arrays:
                wanted[name] = arrays[name].mean(axis=(1, 2), dtype=float)
        if "haadf_noise" in arrays:
            step = max(1, int(np.ceil(np.sqrt(np.prod(self.shape[1:]) / MEDIAN_PIXELS))))
            wanted["haadf_noise"] = arrays["haadf_noise"][::step, ::step]
        if "regularization_weights" in arrays:
            weights = arrays["regularization_weights"]
            used = weights > 0
            inverse = da.where(used, weights, 1).astype(float) ** -2.0
            wanted["inverse"] = da.where(used, inverse, 0).sum(axis=(1, 2))
            wanted["used"] = used.sum(axis=(1, 2))
        found = dict(zip(wanted, dask.compute(*wanted.values())))
        for name, total in (("maps", found["sum"]), ("haadf", found.get("haadf", 0.0))):
            if not np.isfinite(total).all():
                raise ValueError(f"{name}: found NaN or infinite values; finite values are needed.")

        # A small part serves to check the arguments and to fill in what was not given.
        part = self.crop(slice(0, 2), slice(0, 2))
        haadf_scale = _power_of_two(median_noise(found.get("haadf_noise", part.haadf_noise)))
        map_scale = np.array([_power_of_two(m) for m in found["mean"]])
        typical = part.lambda_tv * map_scale
        if "inverse" in found:
            mean = found["inverse"] / np.maximum(found["used"], 1)
            typical = typical * np.where(mean > 0, np.maximum(mean, 1e-300) ** -0.5, 0)
        relative = relative_noise(found["squares"] / differences, found["mean"])
        # The part is a corner: of images of background and noise their means count.
        part = replace(part, **{k: found[k] for k in ("background", "noise") if k in found})
        scaled = Scaled(part, map_scale, haadf_scale, typical, relative)
        slope = scaled.count_slope
        measured = np.asarray(found["highest"], dtype=float) / map_scale
        highest = measured / slope
        weights = part.weights * map_scale / haadf_scale
        used = (weights > 0) & (part.lambda_haadf > 0) & (not is_power)
        if used.any():
            # What alone would make the brightest pixel of the image.
            least = part.haadf_offset + float(part.weights @ part.lower_bound)
            brightest = (float(found["brightest"]) - least) / haadf_scale
            highest[used] = np.maximum(highest[used], brightest / weights[used])
        bounds = np.full(elements, np.inf)
        isotropic = part.guide is None and part.reference is None
        if part.regularization == "tv" and isotropic and not is_power:
            bounds = highest.copy()
        background = found.get("background", part.background.mean(axis=(1, 2)))
        poisson = scaled.fidelity == POISSON
        pixels = self.shape[1] * self.shape[2]
        power = None
        if is_power:
            power = {"sums": found["mean"] * pixels, "squares": found["map squares"]}
            linear = linear_model(part, **power)
            linear = Scaled(linear, map_scale, haadf_scale, typical, relative)
            power["balance"] = linear.first_balance(None)
        sums = np.transpose([background * pixels, found["sum"], found["entropy"]])[poisson]
        return WholeImage(
            map_scale=map_scale,
            haadf_scale=haadf_scale,
            typical_strength=typical,
            balance=scaled.first_balance(None),
            bounds=bounds,
            highest=np.maximum(highest, measured),
            net=np.asarray(found["sum"] - background * pixels, dtype=float),
            likelihood_constant=part.lambda_chem * divergence_less_likelihood(sums, slope[poisson]),
            fingerprint=[*map(float, found["sum"]), float(found.get("haadf", 0)), *map(float, typical)],
            power=power,
        )


def _entropy(counts):
    counts = np.maximum(counts, 0)
    return xlogy(counts, counts)
