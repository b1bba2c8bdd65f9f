"""Figures of wide and tall images, of few and many elements: nothing is cut off, nothing overlaps."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.drawing import plot_composition_histogram, plot_maps, plot_overlay
from hyperspy_fusedmm.drawing.diagnosis import plot_diagnosis
from hyperspy_fusedmm.drawing.image import panel_size

ELEMENTS = ["Ca", "Cu", "Fe", "Ga", "Mg", "O", "Pt", "S", "Si"]
SHAPES = [((16, 100), 1), ((16, 100), 9), ((24, 24), 3), ((24, 24), 9), ((100, 16), 3), ((20, 32), 5)]


def make_model(calibrated, shape, elements):
    """What the figures take from a fitted model, with values that have long numbers."""
    rng = np.random.default_rng(0)

    def image(low, high):
        return calibrated(rng.uniform(low, high, shape))

    maps, error = (
        fmm.element_maps({e: image(0, high) for e in ELEMENTS[:elements]}) for high in (3.7, 0.123)
    )
    maps.metadata.Signal.quantity = "X-rays (Counts)"
    share = maps.deepcopy()
    share.data = rng.random(maps.data.shape)
    return SimpleNamespace(
        maps=maps,
        fused=maps,
        standard_error=lambda: error,
        haadf=image(437000, 462000),
        haadf_fit=image(437000, 462000),
        haadf_residual=image(-1234, 1234),
        haadf_noise=234.5,
        image_scale=1.0,
        haadf_influence=lambda: share,
    )


def check(figure):
    """Every label lies within the figure, and tick labels of an axis and titles side by side keep apart."""
    figure.canvas.draw()
    renderer, edge = figure.canvas.get_renderer(), figure.bbox.padded(2)
    groups = []
    for ax in [a for axes in figure.axes for a in (axes, *axes.child_axes)]:
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        if ax.get_legend() is not None:
            texts += ax.get_legend().get_texts()
        ticks = [label for axis in (ax.xaxis, ax.yaxis) for label in shown_labels(axis)]
        for text in filter(written, texts + ticks):
            box = text.get_window_extent(renderer)
            inside = edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
            assert inside, f"{text.get_text()!r} is cut off"
        groups.append(shown_labels(ax.xaxis))
    groups.append([ax.title for ax in figure.axes])
    for group in groups:
        boxes = [text.get_window_extent(renderer) for text in group if written(text)]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i]), [t.get_text() for t in group]


def written(text):
    return text.get_visible() and text.get_text().strip()


def shown_labels(axis):
    low, high = sorted(axis.get_view_interval())
    return [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_visible()]


@pytest.mark.parametrize("shape, elements", SHAPES)
class TestLayout:
    def test_maps(self, calibrated, shape, elements):
        figure = plot_maps(make_model(calibrated, shape, elements), errors=elements < 5)
        check(figure)
        assert figure.get_size_inches()[0] < 15

    def test_overlay(self, calibrated, shape, elements):
        figure = plot_overlay(make_model(calibrated, shape, elements).maps)
        check(figure)
        (ax,) = figure.axes
        width, height = figure.get_size_inches() * figure.dpi
        box = ax.get_window_extent()
        assert box.width * box.height > 0.25 * width * height

    def test_diagnosis(self, calibrated, shape, elements):
        check(plot_diagnosis(make_model(calibrated, shape, elements)))


@pytest.mark.parametrize("elements", [2, 5, 9])
def test_histograms_go_on_below(calibrated, elements):
    maps = make_model(calibrated, (32, 32), elements).maps
    figure = plot_composition_histogram(maps.atomic_percent([1.0] * elements))
    check(figure)
    assert [ax.get_xlabel() for ax in figure.axes] == [f"{e} (at. %)" for e in ELEMENTS[:elements]]
    rows = {2: 1, 5: 2, 9: 3}[elements]
    assert len({round(ax.get_position().y0, 3) for ax in figure.axes}) == rows
    assert sum(ax.get_ylabel() == "Pixels" for ax in figure.axes) == rows
    assert figure.get_size_inches()[0] < 13
    plt.close(figure)


@pytest.mark.parametrize("shape", [(20, 20), (12, 30), (30, 12), (1, 300), (300, 1)])
def test_panels_have_the_shape_of_the_image_where_that_can_be(calibrated, shape):
    width, height = panel_size(calibrated(np.ones(shape)), 2.0)
    assert width <= 2.8 + 1e-9 and height <= 3.6 + 1e-9
    if max(shape) < 100:
        assert height / width == pytest.approx(shape[0] / shape[1])
    if shape == (20, 20):
        assert width == height == 2.0
