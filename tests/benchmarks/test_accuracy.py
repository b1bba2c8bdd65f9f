"""What the tables of the accuracy study rest on: losses, rivals at their best, cases and records."""

from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not at hand")
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def specimen():
    from accuracy_cases import simulated

    return simulated("particles", dose=1.0, snr=20.0, seed=0, size=48)


@pytest.fixture
def loss(specimen):
    from accuracy_cases import relative_errors

    return lambda maps: relative_errors(maps, specimen.truth.data)


def test_relative_error_of_a_scaled_truth():
    from accuracy_cases import relative_errors

    truth = np.random.default_rng(0).random((2, 5, 6)) + 0.1
    np.testing.assert_allclose(relative_errors(truth * [[[1.1]], [[0.5]]], truth), [0.1, 0.5])
    np.testing.assert_allclose(relative_errors(truth, truth), 0)


def test_deviance_is_least_at_the_truth_and_finite_at_zero():
    from accuracy_cases import deviances

    truth = np.random.default_rng(0).random((2, 8, 8)) + 0.1
    np.testing.assert_allclose(deviances(truth, truth), 0, atol=1e-12)
    assert (deviances(1.01 * truth, truth) > 0).all()
    assert (deviances(0.99 * truth, truth) > 0).all()
    assert np.isfinite(deviances(np.zeros_like(truth), truth)).all()


def test_excess_deviance_is_the_mean_over_recordings():
    """Of counts drawn again and again, beyond the deviance of the truth itself."""
    from accuracy_cases import deviances

    rng = np.random.default_rng(1)
    truth = rng.random((1, 16, 16)) * 3 + 0.5
    guess = truth * rng.uniform(0.7, 1.4, truth.shape)
    counts = rng.poisson(truth, (4000, *truth.shape))
    weight = counts.sum(axis=(1, 2, 3)) / truth.sum()
    excess = [w * (deviances(guess, c) - deviances(truth, c))[0] for w, c in zip(weight, counts)]
    error = np.std(excess) / np.sqrt(len(excess))
    assert np.mean(excess) == pytest.approx(deviances(guess, truth)[0], abs=4 * error)


@pytest.mark.parametrize("mean", [0.5, 2.0, 10.0])
def test_inverse_of_the_anscombe_transform_is_unbiased(mean):
    from accuracy_methods import anscombe, inverse_anscombe

    counts = np.random.default_rng(2).poisson(mean, 400_000)
    assert inverse_anscombe(anscombe(counts).mean()) == pytest.approx(mean, rel=0.03)


@pytest.mark.parametrize("method", ["blurred", "total_variation", "non_local_means"])
def test_a_method_with_its_best_settings_is_no_worse_than_the_counts(specimen, loss, method):
    import accuracy_methods

    if method != "blurred":
        pytest.importorskip("skimage")
    raw, _ = accuracy_methods.raw(specimen, loss)
    best, _ = getattr(accuracy_methods, method)(specimen, loss)
    assert (loss(best) < loss(raw)).all()


def test_every_element_takes_its_own_best():
    from accuracy_methods import best_per_element

    candidates = [("a", np.array([[1.0], [5.0]])), ("b", np.array([[3.0], [2.0]]))]
    maps, settings = best_per_element(candidates, lambda maps: maps[:, 0])
    assert settings == ["a", "b"]
    np.testing.assert_array_equal(maps, [[1.0], [2.0]])


def test_principal_components_of_noiseless_spectra_give_the_truth():
    """The window's own share and the background are put right."""
    from dataclasses import replace

    from accuracy_cases import relative_errors, simulated
    from accuracy_methods import principal_components

    specimen = simulated("film", dose=300.0, snr=20.0, seed=0, size=24, spectrum_image=True)
    maps, number = principal_components(specimen, lambda m: relative_errors(m, specimen.truth.data))
    assert (relative_errors(maps, specimen.truth.data) < 0.04).all()
    assert number < 6
    alone = replace(specimen, spectrum=None)
    maps, _ = principal_components(alone, lambda m: relative_errors(m, specimen.truth.data))
    assert (relative_errors(maps, specimen.truth.data) < 0.08).all()


def test_tuned_strengths_are_better_than_the_rule(specimen, loss):
    from accuracy_oracle import Form, calibrated, tuned

    from hyperspy_fusedmm.solver import default_strength, pilot_weights

    known = calibrated(specimen, "linear", "known")
    found = tuned(specimen, Form(), known, loss)
    model = specimen.maps.create_model(specimen.haadf, **known)
    model.fit(
        lambda_haadf=1.0,
        lambda_tv=default_strength(specimen.maps.data),
        regularization="tv",
        guided=False,
        regularization_weights=pilot_weights(specimen.maps.data),
        show_progressbar=False,
    )
    assert found.losses.sum() < loss(model.fused.data).sum()


def test_spoilt_specimens_keep_their_truth(specimen):
    from accuracy_cases import spoilt

    cases = spoilt(specimen)
    image = specimen.haadf.data
    np.testing.assert_allclose(cases["as it is"].haadf.data, image)
    np.testing.assert_allclose(cases["shifted by 3 pixels"].haadf.data[:, 3:], image[:, :-3])
    np.testing.assert_allclose(cases["clipped"].haadf.data.max() < image.max(), True)
    assert cases["brightest element missing"].elements == ["S", "O"]
    for name, case in cases.items():
        assert case.truth.data.shape == case.maps.data.shape
        assert len(case.weights) == len(case.elements) == len(case.truth.data), name


def test_records_survive_and_are_found(tmp_path):
    from accuracy_store import Store

    store = Store(tmp_path / "results.json")
    record = {"study": "accuracy", "method": "raw", "seed": 0, "errors": np.array([0.5])}
    store.add(record)
    again = Store(tmp_path / "results.json")
    assert again.find(method="raw", seed=0)["errors"] == [0.5]
    assert again.find(method="raw", seed=1) is None


def test_means_are_over_the_seeds_that_all_methods_have():
    from accuracy_tables import by_cell

    def record(method, seed, error):
        cell = {"specimen": "film", "dose": 1, "snr": 20}
        return {**cell, "method": method, "seed": seed, "errors": [error]}

    means = by_cell([record("a", 0, 1.0), record("a", 1, 3.0), record("b", 1, 5.0)], "errors")
    assert means[("film", 1, 20)] == {"a": [3.0], "b": [5.0], "seeds": 1}


def test_frames_are_registered_without_touching_counts():
    from accuracy_real import _registered

    frames = np.random.default_rng(3).poisson(1.0, (2, 10, 12))
    frames[1] = np.roll(frames[0], (2, -3), axis=(0, 1))
    found = _registered(frames, [(0, 0), (-2, 3)])
    np.testing.assert_array_equal(found[0], found[1])
    assert found.shape == (2, 8, 9)


def test_spoilt_images_are_compared_with_none(capsys):
    from accuracy_tables import print_tables

    def record(dose, way, method, error):
        cell = {"study": "spoilt", "specimen": "film", "dose": dose, "snr": 20, "seed": 0}
        return {**cell, "spoilt": way, "method": method, "errors": [error, 3 * error]}

    records = [
        record(dose, way, method, error)
        for dose, way, automatic in ((1, "clipped", 0.5), (10, "clipped", 0.3), (10, "shifted", 0.2))
        for method, error in (("alone", 0.25), ("automatic", automatic), ("blur", 9.0))
    ]
    print_tables(records, ["alone", "automatic"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["film", "1", "20", "1", "2.00", "-"] in rows
    assert ["film", "10", "20", "1", "1.20", "0.80"] in rows
    assert ["mean", "-", "-", "-", "1.60", "0.80"] in rows
    assert ["worst", "-", "-", "-", "2.00", "0.80"] in rows
