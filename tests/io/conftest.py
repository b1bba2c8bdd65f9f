"""Synthetic Velox files small enough for many tests."""

import numpy as np
import pytest

from hyperspy_fusedmm.data.velox_layout import NEXT_PIXEL, write_velox_layout

SHAPE = (6, 9)  # rows and columns; the tests know it


def _random_stream(rng, n_frames, n_pixels, n_channels=4096, mean=30):
    """Frames of one detector, each a list of one block."""
    frames = []
    for _ in range(n_frames):
        pixels = [
            np.append(rng.integers(0, n_channels, rng.poisson(mean)), NEXT_PIXEL)
            for _ in range(n_pixels)
        ]
        frames.append([np.concatenate(pixels).astype(np.uint16)])
    return frames


@pytest.fixture
def random_stream():
    return _random_stream


@pytest.fixture
def make_velox(tmp_path):
    """Writes a file of random events; returns its path."""

    def make(n_frames=3, n_detectors=2, shape=SHAPE, seed=0, name="made.emd", **options):
        rng = np.random.default_rng(seed)
        n_pixels = int(np.prod(shape))
        n_channels = options.get("n_channels", 4096)
        streams = options.pop("streams", None) or {
            f"SuperXG2{k + 1}": _random_stream(rng, n_frames, n_pixels, n_channels)
            for k in range(n_detectors)
        }
        images = options.pop("images", None) or {
            "HAADF": rng.integers(0, 65535, (n_frames, *shape)).astype(np.uint16)
        }
        options.setdefault("elements", ["Fe", "O", "Cu"])
        path = tmp_path / name
        write_velox_layout(path, streams, images, shape=shape, **options)
        return str(path)

    return make
