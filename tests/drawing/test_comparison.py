from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.drawing import plot_maps


@pytest.fixture
def model():
    """What a fitted model offers to a figure, with the truth in place of a result."""
    specimen = fmm.data.core_shell_particles(shape=(40, 60), n_particles=4)
    error = specimen.truth.deepcopy()
    error.data = np.sqrt(specimen.truth.data) / 5
    fit, residual = specimen.haadf.deepcopy(), specimen.haadf.deepcopy()
    fit.data = specimen.haadf_offset + np.tensordot(specimen.weights, specimen.truth.data, axes=1)
    residual.data = specimen.haadf.data - fit.data
    return SimpleNamespace(
        maps=specimen.maps,
        fused=specimen.truth,
        haadf=specimen.haadf,
        haadf_fit=fit,
        haadf_residual=residual,
        standard_error=lambda: error,
    )


def panels(figure):
    """Axes with maps as an array of (rows, columns), and the colour bars."""
    images = [ax for ax in figure.axes if ax.images]
    n_columns = images[0].get_subplotspec().get_gridspec().ncols
    bars = [bar for ax in images for bar in ax.child_axes if bar.get_label() == "<colorbar>"]
    return np.array(images).reshape(-1, n_columns), bars


def test_raw_above_fused_and_the_haadf_above_its_fit(model):
    axes, bars = panels(plot_maps(model))
    assert axes.shape == (2, 4)
    expected = [[*model.maps.data, model.haadf.data], [*model.fused.data, model.haadf_fit.data]]
    for row, images in zip(axes, expected):
        for ax, image in zip(row, images):
            np.testing.assert_allclose(ax.images[0].get_array(), image)
    assert [ax.get_title() for ax in axes[0]] == ["Co", "S", "O", "HAADF"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["Raw", "Fused"]
    assert len(bars) == 4


def test_raw_and_fused_share_robust_limits(model):
    model.fused.data[0, 3, 3] = 1e5
    axes, _ = panels(plot_maps(model))
    for column in axes.T:
        assert column[0].images[0].get_clim() == column[1].images[0].get_clim()
    low, high = axes[0, 0].images[0].get_clim()
    assert low == 0
    assert high <= np.sort(model.fused.data[0].ravel())[-2]
    assert high > 0.8 * np.sort(model.fused.data[0].ravel())[-2]


def test_color_bars_say_what_they_show(model):
    _, bars = panels(plot_maps(model))
    assert [bar.get_xlabel() for bar in bars] == ["X-rays (Counts)"] * 3 + ["Intensity"]


def test_one_scale_bar_of_the_right_length(model):
    axes, _ = panels(plot_maps(model))
    lines = [line for ax in axes.ravel() for line in ax.lines]
    assert len(lines) == 1
    assert np.ptp(lines[0].get_xdata()) == pytest.approx(5)  # a quarter of 30 nm at most
    assert axes[0, 0].texts[0].get_text() == "5 nm"


def test_chosen_elements_and_no_haadf(model):
    model.haadf = None
    axes, bars = panels(plot_maps(model, elements=["O", "Co"]))
    assert [ax.get_title() for ax in axes[0]] == ["O", "Co"]
    np.testing.assert_allclose(axes[1, 0].images[0].get_array(), model.fused.data[2])
    assert len(bars) == 2


def test_errors_add_a_row(model):
    axes, bars = panels(plot_maps(model, errors=True))
    assert axes.shape == (3, 4)
    assert len(bars) == 8
    assert axes[2, 0].get_ylabel() == "Standard error"
    np.testing.assert_allclose(axes[2, 1].images[0].get_array(), model.standard_error().data[1])
    residual = axes[2, 3].images[0]
    np.testing.assert_allclose(residual.get_array(), model.haadf_residual.data)
    assert residual.get_clim()[0] == -residual.get_clim()[1]


def test_unknown_element_is_refused(model):
    with pytest.raises(ValueError, match="elements: 'Fe' found"):
        plot_maps(model, elements=["Fe"])
    assert not plt.get_fignums()


def test_lazy_maps_look_the_same(model):
    eager, _ = panels(plot_maps(model))
    model.maps, model.fused = model.maps.as_lazy(), model.fused.as_lazy()
    lazy, _ = panels(plot_maps(model))
    for one, other in zip(eager.ravel(), lazy.ravel()):
        np.testing.assert_array_equal(one.images[0].get_array(), other.images[0].get_array())
        assert one.images[0].get_clim() == other.images[0].get_clim()


def test_figure_can_be_written(model, tmp_path):
    plot_maps(model, errors=True).savefig(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 10_000
