import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.drawing import plot_overlay
from hyperspy_fusedmm.drawing.overlay import (
    add_colors,
    blend_colors,
    choose_colors,
    full_color_value,
)


@pytest.fixture
def maps():
    data = np.zeros((3, 20, 40))
    data[0, :10] = 8.0
    data[1, :, :20] = 2.0
    data[2, 5:15, 10:30] = 50.0
    maps = fmm.element_maps({"Co": data[0], "S": data[1], "O": data[2]})
    for axis in maps.axes_manager.signal_axes:
        axis.scale, axis.units = 2.0, "nm"
    return maps


def drawn(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def test_colors_add(maps):
    rgb = drawn(plot_overlay(maps, colors=["#ff0000", "#00ff00", "#0000ff"]))
    assert rgb.shape == (20, 40, 3)
    np.testing.assert_allclose(rgb[7, 15], [1, 1, 1])
    np.testing.assert_allclose(rgb[0, 0], [1, 1, 0])
    np.testing.assert_allclose(rgb[12, 25], [0, 0, 1])
    np.testing.assert_allclose(rgb[19, 39], [0, 0, 0])


def test_overlay_has_what_a_reader_needs(maps):
    figure = plot_overlay(maps)
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [label.split()[0] for label in labels] == ["Co", "S", "O"]
    assert labels[0].endswith("(0 to 8)")
    assert [text.get_text() for text in ax.texts] == ["20 nm"]
    (bar,) = ax.lines
    assert np.ptp(bar.get_xdata()) == pytest.approx(20)
    assert list(ax.get_xticks()) == []
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_percentile_gives_the_full_color(maps):
    maps.data[0] = np.linspace(0, 100, 800).reshape(20, 40)
    rgb = drawn(plot_overlay(maps, elements="Co", colors=["#ff0000"], percentile=50))
    assert rgb[5, 0, 0] == pytest.approx(0.5, abs=0.01)
    assert np.all(rgb[11:, :, 0] == 1)


def test_an_element_keeps_its_color(maps):
    all_colors = choose_colors(maps.elements, maps.elements)
    assert choose_colors(maps.elements, ["O"]) == all_colors[2:]
    assert choose_colors(maps.elements, ["S", "Co"], {"S": "white"}) == [(1, 1, 1), all_colors[0]]
    assert len(set(choose_colors(["A", "B"], ["A", "B"]))) == 2


def test_lines_of_one_element_are_maps_of_their_own(maps):
    lines = fmm.element_maps(list(maps.data[:2]), elements=["Fe_Ka", "Fe_La"], sum_lines=False)
    legend = plot_overlay(lines).axes[0].get_legend()
    assert [text.get_text().split()[0] for text in legend.get_texts()] == ["Fe_Ka", "Fe_La"]
    with pytest.raises(ValueError, match="elements: 'Fe' found; the maps are of Fe_Ka, Fe_La"):
        plot_overlay(lines, elements="Fe")


def test_negative_missing_and_empty_values_are_black(maps):
    maps.data[0] = -1
    maps.data[1] = 0
    maps.data[2, 6, 11] = np.nan
    rgb = drawn(plot_overlay(maps))
    assert np.all(np.isfinite(rgb))
    assert not rgb[0].any() and not rgb[6, 11].any()
    assert full_color_value(np.zeros((3, 3)), 99) == 1
    assert full_color_value(np.full((3, 3), np.nan), 99) == 1


def test_sparse_maps_are_seen():
    sparse = np.zeros((50, 50))
    sparse[4, 4] = 3.0
    assert full_color_value(sparse, 99.5) == 3


def test_colors_saturate_instead_of_wrapping():
    rgb = add_colors([np.full((2, 2), 9.0)] * 2, [3.0, 3.0], [(1, 0.8, 0), (1, 0.8, 0)])
    assert rgb.max() == 1 and rgb[0, 0, 2] == 0


class TestManyElements:
    """From four on sums would be white."""

    def test_no_two_share_a_color(self):
        names = [f"element {i}" for i in range(20)]
        colors = np.array(choose_colors(names, names))
        distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 10 * np.eye(20)
        assert distance.min() > 0.1 and distance[:12, :12].min() > 0.3

    def test_alone_each_has_its_own_color(self):
        names = [f"element {i}" for i in range(9)]
        colors = choose_colors(names, names)
        images = list(np.eye(9)[:, None] * 4.0)
        np.testing.assert_allclose(blend_colors(images, [4.0] * 9, colors)[0], colors, atol=1e-6)
        half = blend_colors(images, [8.0] * 9, colors)[0]
        np.testing.assert_allclose(half, np.array(colors) / 2, atol=1e-6)

    def test_the_strongest_shows_where_sums_are_white(self):
        """Seven elements everywhere, each three times as strong in a place of its own."""
        names = [f"element {i}" for i in range(7)]
        colors = choose_colors(names, names)
        images = list(np.where(np.eye(7), 1.0, 0.3)[:, None])
        assert add_colors(images, [1.0] * 7, colors).min() > 0.7
        found = blend_colors(images, [1.0] * 7, colors)[0]
        for i, pixel in enumerate(found):
            assert np.argmin(np.linalg.norm(pixel - np.array(colors), axis=1)) == i

    def test_nothing_is_black_and_missing_is_nothing(self):
        images = [np.array([[0.0, np.nan, -1.0]])] * 5
        assert not blend_colors(images, [1.0] * 5, [(1, 0.5, 0)] * 5).any()

    def test_three_are_added_and_four_are_not(self, maps):
        maps.data[:] = 1.0
        assert (drawn(plot_overlay(maps, colors=["red", "lime", "blue"])) == 1).all()
        four = fmm.element_maps({e: np.ones((4, 4)) for e in ("Co", "S", "O", "Fe")})
        same = drawn(plot_overlay(four, colors=["#800000"] * 4))
        np.testing.assert_allclose(same, np.broadcast_to([128 / 255, 0, 0], (4, 4, 3)), atol=1e-6)


def test_draws_into_given_axes(maps):
    figure, (left, right) = plt.subplots(1, 2)
    assert plot_overlay(maps, ax=right) is figure
    assert len(right.images) == 1 and not left.images


def test_lazy_maps_look_the_same(maps):
    np.testing.assert_array_equal(drawn(plot_overlay(maps.as_lazy())), drawn(plot_overlay(maps)))


def test_nothing_outside_the_figure_changes(maps):
    before, data = dict(matplotlib.rcParams), maps.data.copy()
    plot_overlay(maps)
    assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(maps.data, data)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"elements": ["Co", "Fe"]}, "elements: 'Fe' found; the maps are of Co, S, O"),
        ({"elements": []}, "elements: an empty list found"),
        ({"colors": ["red"]}, "colors: found 1 for 3 elements"),
        ({"percentile": 0}, "percentile must lie above 0 and up to 100, not at 0"),
        ({"percentile": 101}, "percentile must lie"),
    ],
)
def test_bad_options_are_refused(maps, options, message):
    open_figures = plt.get_fignums()
    with pytest.raises(ValueError, match=message):
        plot_overlay(maps, **options)
    assert plt.get_fignums() == open_figures
