"""HyperSpy knows the signal classes without anybody importing this package."""

import subprocess
import sys

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm

SCRIPT = """
import sys
import numpy as np
import hyperspy.api as hs

signal = hs.signals.Signal2D(np.ones((2, 4, 4)))
lazy = signal.as_lazy()
assert "hyperspy_fusedmm.signals.element_maps" not in sys.modules
signal.set_signal_type("ElementMaps")
lazy.set_signal_type("ElementMaps")
print(type(signal).__name__, type(lazy).__name__, type(lazy).__mro__[2].__name__)
"""


def test_set_signal_type_needs_no_import():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["ElementMaps", "LazyElementMaps", "LazySignal2D"]


def test_classes_turn_into_each_other():
    maps = fmm.element_maps({"Fe": np.ones((4, 4))})
    assert type(maps) is fmm.ElementMaps
    lazy = maps.as_lazy()
    assert type(lazy) is fmm.LazyElementMaps
    lazy.compute()
    assert type(lazy) is fmm.ElementMaps
    lazy.set_signal_type("")
    assert type(lazy) is hs.signals.Signal2D
    lazy.set_signal_type("ElementMaps")
    assert type(lazy) is fmm.ElementMaps and lazy.elements == ["Fe"]


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("read_lazily", [False, True], ids=["read eagerly", "read lazily"])
def test_class_type_and_laziness_survive_a_file(tmp_path, as_asked, extension, read_lazily):
    rng = np.random.default_rng(0)
    maps = fmm.element_maps({"Fe_Ka": rng.poisson(3, (6, 5)), "O": rng.poisson(2, (6, 5))})
    as_asked(maps).save(tmp_path / f"maps.{extension}")
    read = hs.load(tmp_path / f"maps.{extension}", lazy=read_lazily)
    assert type(read) is (fmm.LazyElementMaps if read_lazily else fmm.ElementMaps)
    assert read._lazy is read_lazily
    assert read.metadata.Signal.signal_type == "ElementMaps"
    assert read.elements == ["Fe", "O"]
    assert read.metadata.Sample.xray_lines == ["Fe_Ka"]
    assert read.axes_manager.navigation_axes[0].name == "Element"
    np.testing.assert_array_equal(np.asarray(read.data), maps.data)
    assert read.inav[1].elements == ["O"]
