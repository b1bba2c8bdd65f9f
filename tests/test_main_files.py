"""The main job on files: what is read from them, and what is said where it cannot be."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm import __main__ as command
from hyperspy_fusedmm.io.recording import load_recording


@pytest.fixture(scope="module")
def specimen():
    return fmm.data.core_shell_particles(shape=(24, 30), dose=5, spectrum_image=True)


@pytest.fixture(scope="module")
def stored(specimen, tmp_path_factory):
    """The same specimen as files of several kinds."""
    folder = tmp_path_factory.mktemp("recordings")
    fmm.data.write_velox(folder / "particles.emd", specimen, n_frames=2)
    specimen.spectrum.save(folder / "spectra.hspy")
    haadf = specimen.haadf.deepcopy()
    haadf.metadata.General.title = "HAADF"
    haadf.save(folder / "haadf.hspy")
    specimen.maps.save(folder / "maps.hspy")
    for element in specimen.elements:
        image = specimen.maps.get_map(element)
        image.set_signal_type("")
        image.save(folder / f"{element}.hspy")
    return folder


def fused_by(arguments, folder):
    assert command.main([*map(str, arguments), "-o", str(folder)]) == 0
    names = {command.FUSED_FILE, command.CONVERGENCE_FILE, command.MAPS_FILE}
    assert {path.name for path in folder.iterdir()} == names
    return hs.load(folder / command.FUSED_FILE)


def test_a_velox_file(stored, tmp_path, capsys):
    path = stored / "particles.emd"
    fused = fused_by([path, "--elements", "Co", "O"], tmp_path)
    assert fused.elements == ["Co", "O"]
    maps, haadf = fmm.load_velox(path, elements=["Co", "O"])
    np.testing.assert_allclose(fused.data, maps.fuse(haadf).data, rtol=1e-4, atol=1e-4)
    means = ", ".join(f"{e} {m:.3g}" for e, m in zip(maps.elements, maps.data.mean(axis=(1, 2))))
    assert f"Mean of the maps per pixel: {means}" in capsys.readouterr().out


def test_a_velox_file_as_it_is(stored, tmp_path, monkeypatch):
    """Without options: the elements named in the file, a folder named after it."""
    monkeypatch.chdir(tmp_path)
    assert command.main([str(stored / "particles.emd")]) == 0
    fused = hs.load(tmp_path / "particles-fused" / command.FUSED_FILE)
    assert fused.elements == ["Co", "S", "O"]


def test_lines(stored, tmp_path):
    path = stored / "particles.emd"
    fused = fused_by([path, "--lines", "S_Ka", "Co_La"], tmp_path)
    assert fused.metadata.Sample.xray_lines == ["S_Ka", "Co_La"]


def test_a_spectrum_image_and_an_image_in_two_files(stored, specimen):
    files = [stored / "spectra.hspy", stored / "haadf.hspy"]
    maps, haadf = load_recording(files)
    expected = fmm.element_maps(specimen.spectrum.get_lines_intensity())
    assert maps.elements == expected.elements
    np.testing.assert_array_equal(maps.data, expected.data)
    np.testing.assert_array_equal(haadf.data, specimen.haadf.data)
    maps, _ = load_recording(files[::-1], elements=["O", "Co"])
    assert maps.elements == ["O", "Co"]
    np.testing.assert_array_equal(maps.data, expected.data[[2, 0]])


def test_element_maps_stored_before(stored, specimen, tmp_path):
    stack = [stored / "maps.hspy", stored / "haadf.hspy"]
    images = [stored / f"{element}.hspy" for element in specimen.elements]
    for files in (stack, [*images, stored / "haadf.hspy"]):
        maps, _ = load_recording(files)
        assert maps.elements == ["Co", "S", "O"]
        np.testing.assert_array_equal(maps.data, specimen.maps.data)
        maps, _ = load_recording(files, elements=["O", "S"])
        assert maps.elements == ["O", "S"]
        np.testing.assert_array_equal(maps.data, specimen.maps.data[[2, 1]])
    assert fused_by(stack, tmp_path).elements == ["Co", "S", "O"]


def test_an_image_of_another_title(stored):
    bright = hs.load(stored / "haadf.hspy")
    bright.metadata.General.title = "BF"
    bright.data = -bright.data
    bright.save(stored / "bf.hspy", overwrite=True)
    files = [stored / "maps.hspy", stored / "bf.hspy", stored / "haadf.hspy"]
    assert load_recording(files, haadf="BF")[1].data.max() < load_recording(files)[1].data.max()
    with pytest.raises(ValueError, match="one HAADF image is needed, 0 were found.*title: BF"):
        load_recording(files[:2])


@pytest.mark.parametrize(
    "name, elements",
    [("dust_particle/tilt_0.bcf", ["Si", "Fe"]), ("bruker/pd_titania_low_counts.bcf", None)],
)
def test_bruker_files(real_data, name, elements):
    path = real_data(name)
    maps, haadf = load_recording([path], elements=elements)
    assert maps.elements == (elements or ["Cu", "O", "Pd", "Ti"])
    assert maps.data.shape[1:] == haadf.data.shape
    assert maps.data.min() >= 0 and np.all(maps.data == np.rint(maps.data))


def test_maps_that_velox_filtered(real_data, tmp_path):
    """Without its event streams that file still holds Velox's maps, a mean over 3 x 3 pixels."""
    import h5py

    path = tmp_path / "pruned.emd"
    path.write_bytes(real_data("velox/si_16x16_with_maps.emd").read_bytes())
    whole, summed = fmm.load_velox(path)
    with h5py.File(path, "r+") as file:
        for key in list(file["Data/SpectrumStream"]):
            del file["Data/SpectrumStream"][key]
    with pytest.warns(UserWarning, match="Velox filtered the element maps .*Mean, 3 x 3"):
        maps, haadf = load_recording([path])
    assert sorted(maps.elements) == ["C", "Ca", "Cu", "O"]
    np.testing.assert_array_equal(haadf.data, summed.data)
    assert np.any(maps.data != np.rint(maps.data))


def refused(arguments, capsys):
    assert command.main([str(argument) for argument in arguments]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_what_cannot_be_read(stored, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no file 'nowhere.emd'" in refused(["nowhere.emd"], capsys)
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "text.hspy").write_text("no signal")
    assert "HyperSpy cannot open" in refused(["text.hspy"], capsys)
    (tmp_path / "text.emd").write_text("no signal")
    assert "HyperSpy cannot open" in refused(["text.emd"], capsys)

    message = refused([stored / "particles.emd", "--elements", "Xy"], capsys)
    assert "'Xy' is not a chemical symbol" in message
    message = refused([stored / "spectra.hspy"], capsys)
    assert "one HAADF image is needed, 0 were found" in message and "EDSTEMSpectrum" in message
    message = refused([stored / "haadf.hspy"], capsys)
    assert "there are no element maps; found <Signal2D, title: HAADF" in message
    files = [stored / "maps.hspy", stored / "haadf.hspy"]
    assert "there is no map of Au" in refused([*files, "--elements", "Au"], capsys)
    assert "no spectrum image to extract" in refused([*files, "--lines", "Co_Ka"], capsys)
    spectra = stored / "spectra.hspy"
    assert "2 spectrum images" in refused([spectra, spectra, files[1]], capsys)
    assert "2 stacks of element maps" in refused([files[0], *files], capsys)


def test_options_without_a_file(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--elements", "Fe"])
    assert stop.value.code == 2
    assert "say what to take from a FILE, but none is given" in capsys.readouterr().err
