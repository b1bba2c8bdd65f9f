"""What all tests share: no display, no progress bars, eager and lazy twins, real data."""

import os
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import hyperspy.api as hs  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


def pytest_collection_modifyitems(items):
    """The pages of the documentation take longest: first, so that no worker is left alone with one."""
    items.sort(key=lambda item: item.path.name != "test_documentation.py")


@pytest.fixture(autouse=True, scope="session")
def no_progress_bars():
    hs.preferences.General.show_progressbar = False


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(params=[False, True], ids=["eager", "lazy"])
def lazy(request):
    """Every test that takes it runs on signals in memory and on lazy ones."""
    return request.param


@pytest.fixture
def as_asked(lazy):
    """Makes a signal, or a list of signals, lazy where the test runs lazy."""

    def convert(thing):
        if isinstance(thing, list):
            return [convert(entry) for entry in thing]
        return thing.as_lazy() if lazy else thing

    return convert


@pytest.fixture(scope="session")
def real_data():
    """Path of a real data set; skips where the data are not at hand."""
    folder = os.environ.get("HYPERSPY_FUSEDMM_DATA")
    folder = Path(folder) if folder else Path(__file__).parents[2] / "shared" / "data"

    def find(name):
        path = folder / name
        if not path.exists():
            pytest.skip(f"{name} is not at hand; set HYPERSPY_FUSEDMM_DATA to its folder")
        return path

    return find


@pytest.fixture
def calibrated():
    """Makes a calibrated Signal2D of an array."""

    def make(data, title="", scale=0.5, units="nm", offset=3.0):
        signal = hs.signals.Signal2D(np.asarray(data))
        signal.metadata.General.title = title
        for axis, name in zip(signal.axes_manager.signal_axes, "xy"):
            axis.name, axis.scale, axis.units, axis.offset = name, scale, units, offset
        return signal

    return make
