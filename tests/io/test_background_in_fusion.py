"""The background that is kept with gross counts makes fused maps net."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver import default_strength

# Windows beside oxygen and cobalt that are free of lines; sulphur's are eXSpy's.
WINDOWS = {
    "Co_Ka": (6.2, 6.6, 8.0, 9.0),
    "S_Ka": (1.9, 2.15, 2.6, 2.9),
    "O_Ka": (0.36, 0.44, 1.05, 1.30),
}


@pytest.fixture(scope="module")
def specimen():
    return fmm.data.core_shell_particles(shape=(64, 64), dose=4)


@pytest.fixture(scope="module")
def path(specimen, tmp_path_factory):
    """Bremsstrahlung about as strong as the lines."""
    path = tmp_path_factory.mktemp("velox") / "particles.emd"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperspy_fusedmm.data.spectrum.BREMSSTRAHLUNG", 5.0)
        return fmm.data.write_velox(path, specimen, n_frames=2)


@pytest.fixture
def maps(path, as_asked):
    return as_asked(fmm.load_velox(path, background_windows=WINDOWS)[0])


def values(signal):
    return np.asarray(signal.data)


def test_the_model_finds_it(maps, path, specimen):
    kept = values(maps.metadata.Background.counts)
    assert kept.mean() > 0.5
    model = maps.create_model()
    np.testing.assert_allclose(model.background, kept)
    assert not np.any(maps.create_model(background=0).background)
    np.testing.assert_allclose(maps.create_model(background=0.25).background, 0.25)
    without, _ = fmm.load_velox(path)
    assert not np.any(without.create_model().background)


def test_it_follows_slices_and_rebinning(maps):
    kept = values(maps.metadata.Background.counts)
    sliced = maps.inav[::-1].isig[10:30, 5:]
    np.testing.assert_allclose(sliced.create_model().background, kept[::-1, 5:, 10:30])
    one = maps.get_map("S")
    np.testing.assert_allclose(one.create_model().background, kept[[1]])
    rebinned = maps.rebin(scale=(1, 2, 2))
    expected = kept.reshape(3, 32, 2, 32, 2).sum(axis=(2, 4))
    np.testing.assert_allclose(rebinned.create_model().background, expected, rtol=1e-5)
    np.testing.assert_array_equal(values(maps.metadata.Background.counts), kept)


def test_it_is_refused_where_it_did_not_follow(maps):
    maps.crop("x", 3, 20)
    with pytest.raises(ValueError, match="metadata.Background.counts of maps of shape .3, 64, 17"):
        maps.create_model()
    maps.create_model(background=0)


def test_it_is_stored_with_the_maps(maps, tmp_path):
    kept = values(maps.metadata.Background.counts)
    maps.save(tmp_path / "maps.hspy")
    for lazy in (False, True):
        again = hs.load(tmp_path / "maps.hspy", lazy=lazy)
        np.testing.assert_allclose(again.create_model().background, kept)


def test_fused_maps_are_net(path, specimen):
    """Gross counts are more than the truth by the background; the fused maps are not."""
    maps, haadf = fmm.load_velox(path, background_windows=WINDOWS)
    # Weaker than by default: the bias of the regularization is not the subject.
    strength = 0.6 * default_strength(values(maps))
    options = {
        "sensitivities": specimen.sensitivities,
        "lambda_tv": strength,
        "show_progressbar": False,
    }
    net = maps.fuse(haadf, **options)
    gross = maps.fuse(haadf, background=0, **options)
    assert not net.metadata.has_item("Background")
    kept = maps.metadata.Background.counts.data.mean(axis=(1, 2))
    found = values(gross).mean(axis=(1, 2)) - values(net).mean(axis=(1, 2))
    np.testing.assert_allclose(found, kept, rtol=0.25)
    # Sulphur between its neighbours; nothing else lies in its window.
    k = maps.elements.index("S")
    truth = specimen.truth.data[k]
    assert values(net)[k].mean() == pytest.approx(truth.mean(), rel=0.1)
    assert values(gross)[k].mean() > 1.15 * truth.mean()
    assert np.linalg.norm(values(net)[k] - truth) < np.linalg.norm(values(gross)[k] - truth)


def test_net_intensities_of_exspy_are_not_poisson(path):
    cube = hs.load(path, select_type="spectrum_image")
    lines = list(WINDOWS)
    net = fmm.element_maps(
        cube.get_lines_intensity(lines, background_windows=[list(w) for w in WINDOWS.values()])
    )
    assert net.data.min() < 0
    assert net.create_model().fidelity == ["gaussian"] * 3
    with pytest.raises(ValueError, match="negative values .*the Poisson likelihood needs counts"):
        net.create_model(fidelity="poisson")
    maps, _ = fmm.load_velox(path, background_windows=WINDOWS)
    assert maps.create_model().fidelity == ["poisson"] * 3
