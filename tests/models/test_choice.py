"""Form of the regularization and weights of the terms, chosen from the data through the public face."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver import default_strength

AUTOMATIC = ["regularization", "guided", "relative", "lambda_haadf", "lambda_tv"]


@pytest.fixture(scope="module")
def specimen():
    return fmm.data.core_shell_particles(shape=(64, 64), dose=3.0, seed=1)


@pytest.fixture(scope="module")
def model(specimen):
    model = specimen.maps.create_model(specimen.haadf, sensitivities=specimen.sensitivities)
    model.fit(tolerance=1e-3)
    return model


def error(found, truth):
    """Root-mean-square error of the maps, each relative to its own, averaged."""
    square = ((np.asarray(found) - truth.data) ** 2).mean(axis=(1, 2))
    return np.sqrt(square / (truth.data**2).mean(axis=(1, 2))).mean()


def test_what_was_tried_is_kept(model):
    selection, chosen = model.selection, model.selection["chosen"]
    count = len(selection["score"])
    assert count > 20
    assert selection["lambda_tv"].shape == selection["error"].shape == (count, 3)
    assert model.chosen_from_data == AUTOMATIC
    np.testing.assert_array_equal(selection["lambda_tv"][chosen], model.lambda_tv)
    assert selection["lambda_haadf"][chosen] == model.lambda_haadf
    assert selection["regularization"][chosen] == model.regularization
    assert selection["guided"][chosen] == model.guided
    assert selection["relative"][chosen] == model.relative
    assert selection["score"][chosen] == 0 and not selection["error"][chosen].any()
    assert selection["tiles"].tolist() == [[0, 64, 0, 64]]
    told = model.fused.metadata.FusedMultiModal
    assert list(told.chosen_from_data) == AUTOMATIC and told.seed == 0
    assert not told.has_item("selection")


def test_it_is_near_the_best_that_was_tried(specimen, model):
    """Far from it are those whose strengths are four times off."""
    errors = {}
    for factor in (0.25, 1.0, 4.0):
        other = specimen.maps.create_model(specimen.haadf, sensitivities=specimen.sensitivities)
        other.fit(
            lambda_tv=factor * model.lambda_tv,
            lambda_haadf=model.lambda_haadf,
            regularization=model.regularization,
            guided=model.guided,
            relative=model.relative,
            tolerance=1e-3,
        )
        errors[factor] = error(other.fused.data, specimen.truth)
    assert errors[1.0] < 0.97 * errors[0.25] and errors[1.0] < 0.97 * errors[4.0]


def test_the_same_seed_and_lazy_maps_choose_the_same(specimen, model):
    lazy = specimen.maps.as_lazy().create_model(
        specimen.haadf, sensitivities=specimen.sensitivities
    )
    lazy.fit(tolerance=1e-3, num_workers=1)
    np.testing.assert_array_equal(lazy.lambda_tv, model.lambda_tv)
    np.testing.assert_array_equal(lazy.fused.data.compute(), model.fused.data)


def test_another_seed_draws_otherwise(specimen):
    model = specimen.maps.isig[:32, :32].create_model()
    drawn = []
    for seed in (0, 0, 7):
        model.fit(tolerance=1e-2, regularization="tv", seed=seed)
        drawn.append(model.selection["error"])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0][:5] != drawn[2][:5]).any()


def test_a_second_fit_does_not_choose_again(specimen, monkeypatch):
    from hyperspy_fusedmm.models import choice

    model = specimen.maps.isig[:32, :32].create_model()
    model.fit(tolerance=1e-2)
    strength = model.lambda_tv.copy()
    monkeypatch.setattr(choice, "choose", None)
    model.fit(tolerance=1e-3)
    np.testing.assert_array_equal(model.lambda_tv, strength)
    with pytest.raises(TypeError):
        model.fit(tolerance=1e-3, seed=1)


@pytest.mark.parametrize(
    "given",
    [
        {"regularization": "tv"},
        {"guided": True},
        {"relative": True},
        {"relative": False},
        {"relative": True, "guided": False, "regularization": "tv"},
        {"lambda_haadf": 0.5},
        {"lambda_tv": "noise"},
        {"lambda_tv": 0.7, "lambda_haadf": 1.0},
        {"lambda_haadf": 0},
    ],
)
def test_what_is_given_is_left_alone(specimen, given):
    maps, haadf = specimen.maps.isig[:32, :32], specimen.haadf.isig[:32, :32]
    model = maps.create_model(
        haadf,
        weights=specimen.weights,
        haadf_offset=specimen.haadf_offset,
        haadf_noise=specimen.haadf_noise,
    )
    model.fit(tolerance=1e-2, **given)
    for name, value in given.items():
        if value != "noise":
            assert np.all(getattr(model, name) == value)
        assert name not in model.chosen_from_data
    decided = set(given)
    if decided & {"regularization", "guided"}:
        decided.add("relative")
    assert model.chosen_from_data == [name for name in AUTOMATIC if name not in decided]
    if "relative" not in given and "relative" in decided:
        assert not any(model.selection["relative"])


def test_nothing_is_left_to_choose(specimen):
    model = specimen.maps.isig[:32, :32].create_model()
    model.fit(regularization="tv", lambda_tv="noise", tolerance=1e-2)
    assert model.selection is None and model.chosen_from_data == []
    with pytest.raises(RuntimeError, match="chose nothing from the data"):
        model.plot_selection()


def test_an_image_of_something_else_is_left_out(specimen):
    other = specimen.haadf.deepcopy()
    other.data = other.data.max() - other.data[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = specimen.maps.create_model(other, weights=specimen.weights)
    with pytest.warns(UserWarning, match="haadf: the image was left out"):
        model.fit(tolerance=1e-3, regularization="tgv")
    assert model.lambda_haadf == 0 and not model.guided


def test_a_shifted_image_is_told_with_the_way_back(specimen):
    shifted = specimen.haadf.deepcopy()
    shifted.data = np.roll(shifted.data, 3, axis=1)
    model = specimen.maps.create_model(shifted, sensitivities=specimen.sensitivities)
    with pytest.warns(UserWarning, match=r"haadf: .* moved by -[23]\.\d pixels along x"):
        model.fit(tolerance=1e-2, regularization="tgv", guided=False)
    assert model.lambda_haadf < 0.2


def test_filtered_maps_are_told_and_fall_back_on_the_noise(specimen):
    blurred = specimen.maps.deepcopy()
    blurred.data = np.stack([gaussian_filter(m.astype(float), 1.0) for m in blurred.data])
    model = blurred.create_model()
    with pytest.warns(UserWarning, match="maps: the noise of Co, S, O is not independent"):
        model.fit(tolerance=1e-2)
    assert model.chosen_from_data == [] and model.regularization == "tgv"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dose", [0.1, 0.3, 1.0])
def test_maps_of_few_counts_after_a_mean_fall_back_too(dose, dtype):
    """As Velox stores them: most neighbouring pixels are equal but for rounding."""
    specimen = fmm.data.core_shell_particles(shape=(48, 48), dose=dose)
    means = uniform_filter(specimen.maps.data.astype(dtype), (0, 3, 3))
    model = specimen.maps._deepcopy_with_new_data(means).create_model()
    with pytest.warns(UserWarning, match="maps: the noise of Co, S, O is not independent"):
        model.fit(tolerance=1e-2)
    assert model.chosen_from_data == []
    # A strength from the noise, which is less than that of the counts and no rounding.
    noise = 1 / model.lambda_tv
    assert (noise > 0.01).all() and (noise < specimen.maps.data.std(axis=(1, 2))).all()


def test_a_map_of_few_counts_follows_its_noise(specimen):
    maps = specimen.maps.isig[:32, :32].deepcopy()
    maps.data[1] = 0
    maps.data[1, 3, 4:8] = 2
    model = maps.create_model()
    with pytest.warns(UserWarning, match="maps: there are too few counts of S to"):
        model.fit(tolerance=1e-2)
    rule = default_strength(maps.data)
    assert model.lambda_tv[1] == rule[1] and model.lambda_tv[0] != rule[0]


def test_gaussian_maps_of_known_and_of_unknown_noise(specimen):
    rng = np.random.default_rng(3)
    noisy = specimen.truth + rng.normal(0, 1.0, specimen.truth.data.shape)
    for noise in ("auto", 1.0):
        model = noisy.create_model(noise=noise)
        model.fit(tolerance=1e-3)
        assert "lambda_tv" in model.chosen_from_data
        assert error(model.fused.data, specimen.truth) < 0.5 * error(noisy.data, specimen.truth)


def test_the_power_model_chooses_too(specimen):
    maps, haadf = specimen.maps.isig[:32, :32], specimen.haadf.isig[:32, :32]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = maps.create_model(haadf, forward="power")
        model.fit(tolerance=1e-2)
    # It has no regularization relative to the image.
    assert model.chosen_from_data == [name for name in AUTOMATIC if name != "relative"]
    assert np.isfinite(model.fused.data).all()


def test_interrupted_while_choosing_nothing_is_kept(specimen, monkeypatch):
    from hyperspy_fusedmm.models import choice

    def interrupt(*args, callback, **kwargs):
        callback(1, 10)
        raise KeyboardInterrupt

    model = specimen.maps.create_model()
    monkeypatch.setattr(choice, "choose", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit()
    with pytest.raises(RuntimeError, match="not fitted"):
        model.selection


def test_a_stored_model_keeps_what_was_tried(specimen, tmp_path):
    maps = specimen.maps.isig[:32, :32]
    model = maps.create_model()
    model.fit(tolerance=1e-2)
    model.store("mine")
    for extension in ("hspy", "zspy"):
        maps.save(tmp_path / f"maps.{extension}")
        restored = hs.load(tmp_path / f"maps.{extension}").models.restore("mine")
        assert restored.chosen_from_data == ["regularization", "lambda_tv"]
        np.testing.assert_array_equal(restored.selection["score"], model.selection["score"])
        assert restored.plot_selection() is not None


def test_wrong_options_are_named(specimen):
    model = specimen.maps.create_model()
    for name, value in (
        ("lambda_haadf", "best"), ("lambda_tv", "counts"), ("regularization", "l1"),
        ("guided", "yes"), ("regularization_weights", "noise"), ("seed", -1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name}: found"):
            model.fit(**{name: value})
