"""The peak memory is that of the maps, whatever the length of the stream."""

import os
import subprocess
import sys

import pytest

import hyperspy_fusedmm as fmm

MEASURE = """
import sys
import hyperspy.api as hs
import hyperspy_fusedmm as fmm

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

hs.preferences.General.show_progressbar = False
small, large = sys.argv[1:]
fmm.load_velox(small)  # imports and compiles
before = peak()
maps, haadf = fmm.load_velox(large)
print((peak() - before) / 1024, maps.data.nbytes / 2**20)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measured on Linux only")
@pytest.mark.parametrize("compression", [None, "lzf"])
def test_peak_memory(tmp_path, compression):
    specimen = fmm.data.core_shell_particles(shape=(64, 64))
    files = [
        fmm.data.write_velox(
            tmp_path / f"{n_events:.0e}.emd",
            specimen,
            n_events=n_events,
            n_frames=2,
            n_detectors=1,
            compression=compression,
        )
        for n_events in (2e4, 2e7)
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, *files],
        capture_output=True,
        text=True,
        check=True,
    )
    growth, size_of_maps = map(float, done.stdout.split()[-2:])
    # The stream alone takes 38 MiB, the spectrum image 32 MiB.
    assert size_of_maps < 1
    assert growth < 16
