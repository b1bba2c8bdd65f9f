from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.drawing.diagnosis import class_means, plot_diagnosis


@pytest.fixture
def model():
    """What a fitted model offers to the figure, with the truth in place of a result."""
    specimen = fmm.data.core_shell_particles(shape=(40, 60), n_particles=4)
    influence = specimen.truth.deepcopy()
    influence.data = np.linspace(0, 1, influence.data.size).reshape(influence.data.shape)
    fit, residual = specimen.haadf.deepcopy(), specimen.haadf.deepcopy()
    fit.data = specimen.haadf_offset + np.tensordot(specimen.weights, specimen.truth.data, axes=1)
    residual.data = specimen.haadf.data - fit.data
    yield SimpleNamespace(
        maps=specimen.maps,
        haadf=specimen.haadf,
        haadf_fit=fit,
        haadf_residual=residual,
        haadf_noise=specimen.haadf_noise,
        image_scale=1.0,
        haadf_influence=lambda: influence,
    )
    plt.close("all")


def panels(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def test_residual_is_in_standard_deviations_with_symmetric_limits(model):
    shown = panels(plot_diagnosis(model))["image − fit"].images[0]
    np.testing.assert_allclose(shown.get_array(), model.haadf_residual.data / model.haadf_noise)
    low, high = shown.get_clim()
    assert low == -high <= -3


def test_noise_of_a_preset_is_in_scaled_units(model):
    model.image_scale = 4.0
    shown = panels(plot_diagnosis(model))["image − fit"].images[0]
    np.testing.assert_allclose(shown.get_array(), model.haadf_residual.data / model.haadf_noise / 4)


def test_pixels_that_are_left_out_are_not_drawn(model):
    noise = np.full(model.haadf.data.shape, model.haadf_noise)
    noise[:10] = np.inf
    model.haadf_noise = noise
    shown = np.ma.filled(panels(plot_diagnosis(model))["image − fit"].images[0].get_array(), np.nan)
    assert np.isnan(shown[:10]).all() and np.isfinite(shown[10:]).all()


def test_influence_from_0_to_1_for_each_element(model):
    found = panels(plot_diagnosis(model))
    for element, expected in zip(model.maps.elements, model.haadf_influence().data):
        image = found[element].images[0]
        np.testing.assert_allclose(image.get_array(), expected)
        assert image.get_clim() == (0, 1)
    only = panels(plot_diagnosis(model, elements=["S"]))
    assert "S" in only and "Co" not in only
    with pytest.raises(ValueError, match="Fe"):
        plot_diagnosis(model, elements=["Fe"])


def test_images_have_scale_bars(model):
    found = panels(plot_diagnosis(model))
    for title in ("HAADF image", "image − fit", "Co"):
        assert any("nm" in text.get_text() for text in found[title].texts)


def test_means_in_classes():
    rng = np.random.default_rng(0)
    position = rng.uniform(0, 10, 50000)
    values = (position - 5) ** 2 + rng.normal(0, 2, position.size)
    centres, means, errors = class_means(position, values, 0, 10, classes=10)
    np.testing.assert_allclose(centres, np.arange(10) + 0.5)
    np.testing.assert_allclose(means, (centres - 5) ** 2 + 1 / 12, atol=5 * errors.max())
    # The spread of the parabola within a class comes on top of the noise.
    within = np.sqrt(4 + (2 * (centres - 5)) ** 2 / 12 + 1 / 180)
    np.testing.assert_allclose(errors, within / np.sqrt(5000), rtol=0.06)
    assert len(class_means(np.array([0.5] * 9 + [1.5] * 10), np.ones(19), 0, 2, 2)[0]) == 1


def test_a_perfect_fit_can_be_drawn(model):
    model.haadf_residual.data = np.zeros_like(model.haadf_residual.data)
    plot_diagnosis(model).canvas.draw()
