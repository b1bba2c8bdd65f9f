"""The published algorithm and its settings, through the public face."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver.gradient_descent import total_variation_prox

PRESET = {"preset": "schwartz2022"}
NUMBERS = np.array([27.0, 16.0, 8.0])


def published(maps, haadf, numbers, iterations=30):
    """The tutorial's algorithm on arrays, as papers write it."""
    b = np.stack([(m - m.min()) / (m.max() - m.min()) for m in maps.astype(float)])
    b_h = (haadf - haadf.min()) / (haadf.max() - haadf.min())
    gamma, eps = 1.6, 0.24
    a = (numbers / numbers.mean())[:, None, None]
    x = b.copy()
    for _ in range(iterations):
        misfit = (a * x**gamma).sum(axis=0) - b_h
        slope = gamma * x ** (gamma - 1) * a * misfit / 3 + 0.08 * (1 - b / (x + eps))
        x = total_variation_prox(np.maximum(x - slope, 0), np.full((len(x), 1, 1), 0.15), 3)
    return x, (a * x**gamma).sum(axis=0)


@pytest.fixture
def model(small):
    model = small.maps.create_model(small.haadf, **PRESET)
    model.fit()
    return model


def test_it_is_the_published_algorithm(small, as_asked):
    maps, haadf = as_asked(small.maps), as_asked(small.haadf)
    fused, model = maps.fuse(haadf, return_model=True, **PRESET)
    expected, fit = published(small.maps.data, small.haadf.data, NUMBERS)
    scale = np.ptp(small.maps.data, axis=(1, 2))[:, None, None]
    lowest = small.maps.data.min(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(np.asarray(fused.data), expected * scale + lowest, atol=1e-4)
    image = small.haadf.data
    np.testing.assert_allclose(model.haadf_fit.data, fit * np.ptp(image) + image.min(), rtol=1e-5)
    assert (model.solver, model.iterations, model.preset) == (
        "gradient-descent",
        30,
        "schwartz2022",
    )


def test_settings(model, small):
    assert (model.forward, model.gamma, model.fidelity) == ("power", 1.6, ["poisson"] * 3)
    np.testing.assert_allclose(model.weights, (NUMBERS / NUMBERS.mean()) ** (1 / 1.6))
    np.testing.assert_array_equal(model.background, [0.24] * 3)
    assert (model.haadf_offset, model.haadf_noise) == (0, 1)
    assert (model.lambda_haadf, model.lambda_chem) == (1 / 3, 0.08)
    np.testing.assert_array_equal(model.lambda_tv, [0.15] * 3)
    assert (model.regularization, model.guided) == ("tv", False)
    assert (model.regularization_weights == 1).all()
    np.testing.assert_array_equal(model.map_scale, np.ptp(small.maps.data, axis=(1, 2)))
    np.testing.assert_array_equal(model.map_offset, small.maps.data.min(axis=(1, 2)))
    assert model.image_offset == small.haadf.data.min()
    assert model.image_scale == pytest.approx(np.ptp(small.haadf.data))


def test_what_is_given_overrides_it(small):
    """The settings of the tutorial for another data set, and others."""
    model = small.maps.create_model(small.haadf, background=0.01, weights=1.0, **PRESET)
    model.fit(lambda_chem=0.006, lambda_tv=0.022, tv_iterations=6, max_iterations=7)
    np.testing.assert_array_equal(model.background, [0.01] * 3)
    np.testing.assert_array_equal(model.weights, [1] * 3)
    assert (model.lambda_chem, model.lambda_haadf, model.iterations) == (0.006, 1 / 3, 7)
    np.testing.assert_array_equal(model.lambda_tv, [0.022] * 3)
    told = model.fused.metadata.FusedMultiModal
    assert (told.tv_iterations, told.weights_rule, told.preset) == (6, "given", "schwartz2022")
    linear = small.maps.create_model(small.haadf, forward="linear", gamma=1.8, **PRESET)
    assert (linear.forward, linear.gamma) == ("linear", 1.8)
    np.testing.assert_allclose(linear.weights, NUMBERS / NUMBERS.mean())
    mixed = small.maps.create_model(small.haadf, fidelity={"S": "gaussian"}, noise=0.2, **PRESET)
    assert mixed.fidelity == ["poisson", "gaussian", "poisson"]
    np.testing.assert_array_equal(mixed.background, [0.24, 0, 0.24])
    np.testing.assert_array_equal(mixed.noise, [1, 0.2, 1])
    mixed.fit()
    assert np.isfinite(mixed.fused.data).all()


@pytest.mark.parametrize("solver", ["gradient-descent", "primal-dual"])
def test_units_of_maps_and_image_go_in_and_out(small, solver):
    fits = []
    for factor, offset in ((1.0, 0.0), (7.0, 3.0)):
        maps, haadf = small.maps * factor + offset, small.haadf * 100.0 * factor - 20.0 * offset
        model = maps.create_model(haadf, **PRESET)
        model.fit(solver=solver, tolerance=0, max_iterations=20)
        fits.append(model)
    plain, other = fits
    np.testing.assert_allclose(other.fused.data, 7 * plain.fused.data + 3, atol=0.02)
    np.testing.assert_allclose(other.haadf_fit.data, 7 * plain.haadf_fit.data - 60, rtol=1e-4)
    assert other.objective()["total"] == pytest.approx(plain.objective()["total"], rel=1e-5)


def test_the_objective_can_be_recomputed_from_public_attributes(model, small):
    voxels = (slice(None), None, None)
    scaled = [
        (values - model.map_offset[voxels]) / model.map_scale[voxels]
        for values in (model.fused.data.astype(float), small.maps.data)
    ]
    x, b = scaled
    image = (small.haadf.data - model.image_offset) / model.image_scale
    misfit = ((model.weights[voxels] * x) ** model.gamma).sum(axis=0) - image
    rows, columns = np.zeros_like(x), np.zeros_like(x)
    rows[:, :-1], columns[:, :, :-1] = np.diff(x, axis=1), np.diff(x, axis=2)
    terms = {
        "haadf": model.lambda_haadf / 2 * (misfit**2).sum(),
        "chem": model.lambda_chem * (x - b * np.log(x + model.background[voxels])).sum(),
        "regularization": (model.lambda_tv[voxels] * np.hypot(rows, columns)).sum(),
    }
    for found in (model.objective(), model.objective(model.fused)):
        for name, value in terms.items():
            assert found[name] == pytest.approx(value, rel=1e-5), name
    assert model.history["total"][0] == pytest.approx(model.objective(small.maps)["total"])


def test_fit_and_residual_add_up_to_the_haadf(model, small):
    np.testing.assert_allclose(
        model.haadf_fit.data + model.haadf_residual.data, small.haadf.data, rtol=1e-6
    )
    assert model.haadf_residual.data.std() < 0.5 * small.haadf.data.std()


def test_the_primal_dual_method_ends_lower(model):
    published, history = model.objective()["total"], model.history
    assert set(history) == {"iteration", "haadf", "chem", "tv", "total"}
    assert not model.converged and np.isnan([model.gap, model.relative_gap]).all()
    model.fit(solver="primal-dual")
    assert model.converged and model.stationarity <= 1e-4
    assert model.objective()["total"] < published
    assert model.fused.metadata.FusedMultiModal.solver == "primal-dual"


def test_it_is_kept_in_files(model, small, tmp_path):
    model.save(tmp_path / "maps.hspy", name="published")
    restored = hs.load(tmp_path / "maps.hspy").models.restore("published")
    np.testing.assert_array_equal(restored.fused.data, model.fused.data)
    np.testing.assert_allclose(restored.haadf_fit.data, model.haadf_fit.data)
    assert restored.objective() == model.objective()
    restored.fit()
    np.testing.assert_array_equal(restored.fused.data, model.fused.data)
    model.fused.save(tmp_path / "fused.hspy")
    read = hs.load(tmp_path / "fused.hspy")
    told = read.metadata.FusedMultiModal
    assert (told.preset, told.solver, told.tv_iterations) == ("schwartz2022", "gradient-descent", 3)
    assert (told.weights_rule, told.initial) == ("preset", "measured")
    np.testing.assert_array_equal(told.map_scale, model.map_scale)
    assert read.plot_convergence() is not None


def test_predicted_counts_hold_the_background(model):
    difference = model.as_signal().data - model.fused.data
    np.testing.assert_allclose(
        difference,
        np.broadcast_to(0.24 * model.map_scale[:, None, None], difference.shape),
        rtol=1e-4,
    )


def test_maps_that_are_no_counts_are_expected(small, recwarn):
    (small.maps / 500.0).fuse(small.haadf, **PRESET)
    assert not [w for w in recwarn if "fidelity" in str(w.message)]


def test_known_variance_is_scaled_with_the_maps(small):
    small.maps.set_noise_variance(4.0)
    model = small.maps.create_model(small.haadf, fidelity="gaussian", **PRESET)
    np.testing.assert_allclose(model.noise, 2 / model.map_scale)
    small.maps.set_noise_variance(small.maps + 1.0)
    model = small.maps.create_model(small.haadf, fidelity="gaussian", **PRESET)
    np.testing.assert_allclose(
        model.noise, np.sqrt(small.maps.data + 1.0) / model.map_scale[:, None, None]
    )


def test_constant_and_empty_maps(small):
    small.maps.data[0], small.maps.data[1] = 3, 0
    with pytest.warns(UserWarning, match="map of S is zero everywhere"):
        fused = small.maps.fuse(small.haadf, **PRESET)
    assert np.isfinite(fused.data).all()
    assert not fused.data[1].any()


def test_without_haadf(small):
    model = small.maps.create_model(**PRESET)
    model.fit()
    assert model.haadf is None and np.isfinite(model.fused.data).all()


def test_sensitivities_say_nothing_of_scaled_maps(small):
    with pytest.raises(ValueError, match="sensitivities: .*preset='schwartz2022' scales"):
        small.maps.create_model(small.haadf, sensitivities=[1, 2, 3], **PRESET)


def test_dysco3(real_data):
    """The tutorial's own data: what both methods make of its objective."""
    arrays = np.load(real_data("dysco3/dysco3.npz"))
    names, rows = ("Sc", "Dy", "O"), slice(0, 128)
    maps = fmm.element_maps({name: arrays[name][rows, rows] for name in names})
    model = maps.create_model(arrays["HAADF"][rows, rows], **PRESET)
    model.fit()
    expected, _ = published(maps.data, arrays["HAADF"][rows, rows], np.array([21.0, 66.0, 8.0]))
    lowest = maps.data.min(axis=(1, 2), keepdims=True)
    scale = np.ptp(maps.data, axis=(1, 2))[:, None, None]
    np.testing.assert_allclose(model.fused.data, expected * scale + lowest, atol=1e-4)
    found, history = model.objective()["total"], model.history["total"]
    assert found < 0.7 * history[0]
    model.fit(solver="primal-dual", tolerance=1e-3)
    assert model.objective()["total"] < 0.97 * found
