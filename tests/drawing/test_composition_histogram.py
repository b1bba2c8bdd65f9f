import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.drawing import plot_composition_histogram
from hyperspy_fusedmm.drawing.composition_histogram import histogram_edges


@pytest.fixture
def percent():
    rng = np.random.default_rng(0)
    gallium = rng.normal(40, 1, (60, 60))
    gallium[:, :20] = rng.normal(70, 2, (60, 20))
    maps = fmm.element_maps({"Ga": 10 * gallium, "O": 10 * (100 - gallium)})
    return maps.atomic_percent([1, 1])


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_one_histogram_per_element_with_its_phases(percent):
    figure = plot_composition_histogram(percent)
    assert [ax.get_xlabel() for ax in figure.axes] == ["Ga (at. %)", "O (at. %)"]
    assert figure.axes[0].get_ylabel() == "Pixels"
    for ax, phases in zip(figure.axes, percent.composition_phases().values()):
        assert legend(ax) == [str(phase) for phase in phases]
        assert len(ax.lines) == 2
    assert legend(figure.axes[0])[0].startswith("40.0 ± 1.0 (67")


def test_curves_have_the_area_of_the_bars(percent):
    for ax in plot_composition_histogram(percent).axes:
        (bars,) = ax.patches
        corners = bars.get_path().vertices
        edges = histogram_edges(percent.get_map(ax.get_xlabel().split()[0]).data.ravel())
        width = edges[1] - edges[0]
        # Corners of the outline: two per bin.
        pixels = corners[:, 1].sum() / 2
        areas = [np.trapezoid(line.get_ydata(), line.get_xdata()) / width for line in ax.lines]
        assert sum(areas) == pytest.approx(pixels, rel=0.03)
        assert pixels == pytest.approx(3600, rel=0.01)


def test_one_composition_everywhere():
    maps = fmm.element_maps({"Ga": np.full((8, 8), 2.0), "O": np.full((8, 8), 3.0)})
    figure = maps.atomic_percent([1, 1]).plot_composition_histogram()
    assert legend(figure.axes[0]) == ["40.0 ± 0.0 (100 %)"]
    low, high = figure.axes[0].get_xlim()
    assert low < 39 and high > 41


def test_pixels_without_any_of_an_element_are_cut_off():
    rng = np.random.default_rng(0)
    oxygen = np.where(rng.random((100, 100)) < 0.7, 0.0, rng.normal(30, 5, (100, 100)))
    maps = fmm.element_maps({"Co": 100 - oxygen, "O": oxygen})
    figure = maps.atomic_percent([1, 1]).plot_composition_histogram(["O"])
    (ax,) = figure.axes
    (note,) = ax.texts
    (bars,) = ax.patches
    highest = bars.get_path().vertices[:, 1].max()
    assert note.get_text() == f"to {highest:,.0f}" and ax.get_ylim()[1] < highest / 4


def test_lazy_maps_look_the_same(percent):
    eager, lazy = (maps.plot_composition_histogram() for maps in (percent, percent.as_lazy()))
    for one, other in zip(eager.axes, lazy.axes):
        np.testing.assert_array_equal(
            one.patches[0].get_path().vertices, other.patches[0].get_path().vertices
        )


def test_vacuum_is_not_counted(percent):
    shown = plot_composition_histogram(percent).axes[0].patches[0].get_path().vertices
    percent.data = np.concatenate([percent.data, np.full((2, 60, 30), np.nan, np.float32)], axis=2)
    again = plot_composition_histogram(percent).axes[0].patches[0].get_path().vertices
    np.testing.assert_array_equal(shown, again)


def test_nothing_at_all_is_drawn_empty(percent):
    percent.data[:] = np.nan
    assert len(plot_composition_histogram(percent).axes) == 2


def test_draws_into_given_axes(percent):
    figure, axes = plt.subplots(1, 2)
    assert plot_composition_histogram(percent, axes=axes) is figure
    assert plot_composition_histogram(percent, "O", axes=axes[:1]) is figure
    with pytest.raises(ValueError, match="axes: found 2 for 1 elements"):
        plot_composition_histogram(percent, "O", axes=axes)


def test_colors_and_numbers_can_be_chosen(percent):
    figure = plot_composition_histogram(percent, ["O"], phases=1, colors=["#800000"])
    (ax,) = figure.axes
    (line,) = ax.lines
    assert matplotlib.colors.to_hex(line.get_color()) == "#800000"


def test_nothing_outside_the_figure_changes(percent):
    before, data = dict(matplotlib.rcParams), percent.data.copy()
    plot_composition_histogram(percent)
    assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(percent.data, data)
