import numpy as np
import pytest

from hyperspy_fusedmm.data import dysco3, published


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A small file of the same kind."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.random((6, 8)) for name in ("HAADF", "Sc", "Dy", "O")}
    (tmp_path / "dysco3").mkdir()
    np.savez(tmp_path / "dysco3" / "dysco3.npz", **arrays)
    monkeypatch.setenv(published.DATA_FOLDER_VARIABLE, str(tmp_path))
    return arrays


def test_maps_and_haadf_come_from_the_folder(own_folder):
    maps, haadf = dysco3()
    assert list(maps.elements) == ["Sc", "Dy", "O"]
    np.testing.assert_array_equal(maps.data, [own_folder[name] for name in ("Sc", "Dy", "O")])
    np.testing.assert_array_equal(haadf.data, own_folder["HAADF"])
    assert haadf.axes_manager.signal_dimension == 2


def test_the_published_file(real_data, monkeypatch):
    path = real_data("dysco3/dysco3.npz")
    monkeypatch.setenv(published.DATA_FOLDER_VARIABLE, str(path.parents[1]))
    maps, haadf = dysco3()
    assert maps.data.shape == (3, 256, 256)
    assert haadf.data.shape == (256, 256)
    assert maps.data.min() >= 0 and maps.data.max() <= 1
    assert (haadf.data.min(), haadf.data.max()) == (6393, 33573)


def test_hash_is_that_of_the_published_file(real_data):
    import pooch

    path = real_data("dysco3/dysco3.npz")
    assert pooch.file_hash(str(path), alg="sha256") == published.DYSCO3_SHA256


def test_missing_file_in_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(published.DATA_FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="dysco3.npz does not exist.*unset the variable"):
        dysco3()


def test_without_a_connection_the_error_says_what_to_do(monkeypatch):
    import pooch
    import requests

    def refuse(*args, **kwargs):
        raise requests.exceptions.ConnectionError("no route to host")

    monkeypatch.delenv(published.DATA_FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.raises(ConnectionError, match="no route to host.*HYPERSPY_FUSEDMM_DATA to FOLDER"):
        dysco3()


def test_fetching_asks_for_the_published_file(monkeypatch, own_folder, tmp_path):
    import pooch

    asked = {}

    def retrieve(url, known_hash, **kwargs):
        asked.update(url=url, known_hash=known_hash)
        return str(tmp_path / "dysco3" / "dysco3.npz")

    monkeypatch.delenv(published.DATA_FOLDER_VARIABLE)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    dysco3()
    assert asked["url"].startswith("https://github.com/msa-em/fused-multi-modal-em/")
    assert asked["known_hash"] == f"sha256:{published.DYSCO3_SHA256}"
