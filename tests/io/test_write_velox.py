"""The files that are written are read by RosettaSciIO, and hold what was asked for."""

import os

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.data import velox_writer


@pytest.fixture(scope="module")
def specimen():
    return fmm.data.core_shell_particles(shape=(24, 40), dose=20, pixel_size=0.7)


def load(path, **options):
    loaded = hs.load(path, **options)
    return loaded if isinstance(loaded, list) else [loaded]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_rosettasciio_reads_it(specimen, tmp_path, compression):
    path = tmp_path / "simulated.emd"
    written = fmm.data.write_velox(
        path, specimen, n_frames=3, n_detectors=2, compression=compression
    )
    assert written == str(path)
    images, cube = load(path, load_SI_image_stack=True)
    assert images.data.shape == (3, 24, 40) and cube.data.shape == (24, 40, 4096)
    assert cube.metadata.Sample.elements == ["Co", "S", "O"]
    assert cube.metadata.Acquisition_instrument.TEM.beam_energy == 200
    for axis in (*images.axes_manager.signal_axes, *cube.axes_manager.navigation_axes):
        assert axis.units == "nm" and axis.scale == pytest.approx(0.7)
    energy = cube.axes_manager.signal_axes[0]
    assert (energy.scale, energy.offset, energy.units) == (0.01, 0, "keV")
    maps, haadf = fmm.load_velox(path)
    found = cube.get_lines_intensity(maps.metadata.Sample.xray_lines)
    np.testing.assert_array_equal(maps.data, np.stack([signal.data for signal in found]))
    np.testing.assert_array_equal(haadf.data, images.data.sum(axis=0))


def test_the_haadf_frames_sum_to_the_image(specimen, tmp_path):
    path = fmm.data.write_velox(tmp_path / "a.emd", specimen, n_frames=7)
    _, haadf = fmm.load_velox(path)
    image = np.maximum(specimen.haadf.data.astype(float), 0)
    scale = velox_writer.BRIGHTEST * 7 / image.max()
    np.testing.assert_array_equal(haadf.data, np.rint(image * scale))


def test_the_counts_follow_the_truth(specimen, tmp_path):
    """Within the noise: the deviance per pixel of Poisson counts is near 1."""
    path = fmm.data.write_velox(tmp_path / "a.emd", specimen, n_frames=2, n_detectors=3)
    maps, _ = fmm.load_velox(path, energy_windows=3.0, background_windows="auto")
    truth = specimen.truth.data + maps.metadata.Background.counts.data
    # Cobalt's L lines lie beside oxygen and are no background of a straight line.
    for element in ("Co", "S"):
        k = maps.elements.index(element)
        inside = truth[k] > 1
        pearson = np.mean((maps.data[k] - truth[k])[inside] ** 2 / truth[k][inside])
        assert 0.85 < pearson < 1.15
        assert maps.data[k].sum() == pytest.approx(truth[k].sum(), rel=0.03)


def test_the_number_of_events(specimen, tmp_path):
    path = fmm.data.write_velox(
        tmp_path / "a.emd", specimen, n_frames=3, n_detectors=2, n_events=200_000
    )
    _, _, spectrum = fmm.load_velox(path, return_spectrum=True)
    assert abs(spectrum.data.sum() - 200_000) < 5 * np.sqrt(200_000)


def test_frames_and_detectors_share_the_counts(specimen, tmp_path):
    path = fmm.data.write_velox(
        tmp_path / "a.emd", specimen, n_frames=4, n_detectors=2, n_events=400_000
    )
    for options in ({"frames": [1]}, {"frames": [3]}):
        _, _, spectrum = fmm.load_velox(path, return_spectrum=True, **options)
        assert abs(spectrum.data.sum() - 100_000) < 5 * np.sqrt(100_000)
    for detector in (0, 1):
        _, _, spectrum = fmm.load_velox(path, detectors=detector, return_spectrum=True)
        assert abs(spectrum.data.sum() - 200_000) < 5 * np.sqrt(200_000)


def test_blocks_change_nothing_but_the_order(specimen, tmp_path, monkeypatch):
    path = fmm.data.write_velox(tmp_path / "a.emd", specimen, n_frames=2, seed=4)
    again = fmm.data.write_velox(tmp_path / "b.emd", specimen, n_frames=2, seed=4)
    other = fmm.data.write_velox(tmp_path / "c.emd", specimen, n_frames=2, seed=5)
    maps, same, different = (fmm.load_velox(p)[0].data for p in (path, again, other))
    np.testing.assert_array_equal(maps, same)
    assert np.any(maps != different)
    monkeypatch.setattr(velox_writer, "EVENTS_PER_BLOCK", 2000)
    blocks = fmm.load_velox(fmm.data.write_velox(path, specimen, n_frames=2, seed=4))[0].data
    assert blocks.shape == maps.shape
    assert blocks.sum() == pytest.approx(maps.sum(), rel=0.05)


def test_alias_tables_draw_what_they_should():
    rng = np.random.default_rng(0)
    profiles = rng.random((3, 50)) ** 4
    profiles /= profiles.sum(axis=1, keepdims=True)
    keep, alias = velox_writer._alias_tables(profiles)
    for kind in range(3):
        exact = keep[kind] / 50
        np.add.at(exact, alias[kind], (1 - keep[kind]) / 50)
        np.testing.assert_allclose(exact, profiles[kind], atol=1e-6)


def test_an_interrupted_file_is_not_left_behind(specimen, tmp_path, monkeypatch):
    path = tmp_path / "a.emd"
    path.write_bytes(b"the file before")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(velox_writer, "_draw_events", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fmm.data.write_velox(path, specimen)
    assert os.listdir(tmp_path) == ["a.emd"]
    assert path.read_bytes() == b"the file before"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_frames": 0}, "n_frames must be a whole number"),
        ({"n_frames": 1.5}, "n_frames must be a whole number"),
        ({"n_detectors": -1}, "n_detectors must be a whole number"),
        ({"n_events": 0}, "n_events must be a positive number"),
    ],
)
def test_bad_settings(specimen, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        fmm.data.write_velox(tmp_path / "a.emd", specimen, **options)
    assert os.listdir(tmp_path) == []
