"""A small specimen whose maps tell how much each element adds to the HAADF image."""

from dataclasses import dataclass
from typing import Any

import hyperspy.api as hs
import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm

NUMBERS = {"Co": 27, "S": 16, "O": 8}


@dataclass
class Small:
    truth: np.ndarray
    maps: Any
    haadf: Any
    weights: np.ndarray
    offset: float
    noise: float

    @property
    def scale(self):
        """Options that leave nothing of the HAADF image to be fitted."""
        return {"weights": self.weights, "haadf_offset": self.offset, "haadf_noise": self.noise}


def _blob(shape, row, column, width):
    rows, columns = np.indices(shape)
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))


def make_small(shape=(24, 30), dose=6.0, seed=0, offset=40.0, noise=1.5):
    """Three blobs at different places, Poisson counts and a HAADF image linear in them."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    truth = dose * np.stack(
        [
            _blob(shape, 0.35 * rows, 0.3 * columns, 5),
            _blob(shape, 0.6 * rows, 0.6 * columns, 6) + 0.1,
            _blob(shape, 0.4 * rows, 0.75 * columns, 4) + 0.3,
        ]
    )
    weights = 0.05 * np.array([z**1.7 for z in NUMBERS.values()])
    haadf = offset + np.tensordot(weights, truth, 1) + noise * rng.normal(size=shape)
    counts = rng.poisson(truth)
    images = [hs.signals.Signal2D(image) for image in (*counts, haadf)]
    for image, title in zip(images, ("Co_Ka", "S_Ka", "O_Ka", "HAADF")):
        image.metadata.General.title = title
        for axis, name in zip(image.axes_manager.signal_axes, "xy"):
            axis.name, axis.scale, axis.units, axis.offset = name, 0.4, "nm", 7.0
    images[0].metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return Small(truth, fmm.element_maps(images[:3]), images[3], weights, offset, noise)


@pytest.fixture(scope="session")
def plain():
    """Options of a fit that leave nothing to be chosen from the data."""
    return dict(PLAIN)


@pytest.fixture(scope="session")
def _small():
    return make_small()


@pytest.fixture(scope="session")
def larger():
    """The specimen on more pixels; not to be changed."""
    return make_small((60, 70))


@pytest.fixture
def small(_small):
    """Fresh signals for every test; what they hold is the same."""
    return Small(
        _small.truth.copy(),
        _small.maps.deepcopy(),
        _small.haadf.deepcopy(),
        _small.weights.copy(),
        _small.offset,
        _small.noise,
    )


@pytest.fixture
def fitted(small):
    """A fitted model of the small specimen."""
    model = small.maps.create_model(small.haadf, **small.scale)
    model.fit(tolerance=1e-3, **PLAIN)
    return model
