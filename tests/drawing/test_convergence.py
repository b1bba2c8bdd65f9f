import matplotlib.pyplot as plt
import numpy as np
import pytest

from hyperspy_fusedmm.drawing import plot_convergence
from hyperspy_fusedmm.drawing.convergence import negligible_change, readable


@pytest.fixture
def history():
    iteration = np.arange(10.0, 310.0, 10.0)
    decay = np.exp(-iteration / 40)
    terms = {"haadf": 500 + 900 * decay, "chem": -4000 - 200 * decay, "tv": 30 + 70 * decay}
    gap = 1000 * decay
    gap[::2] = np.nan
    return {"iteration": iteration, **terms, "total": sum(terms.values()), "gap": gap}


def lines_of(ax):
    return {line.get_label().split("  ")[0]: line for line in ax.lines}


def test_every_term_falls_to_zero_and_the_legend_says_where_it_is(history):
    terms, gap = plot_convergence(history).axes
    lines = lines_of(terms)
    names = {"HAADF": "haadf", "counts": "chem", "regularization": "tv", "total": "total"}
    for label, name in names.items():
        np.testing.assert_array_equal(lines[label].get_xdata(), history["iteration"])
        np.testing.assert_allclose(lines[label].get_ydata(), history[name] - history[name][-1])
    texts = [text.get_text() for text in terms.get_legend().get_texts()]
    assert texts == [f"{label}  ({readable(history[name][-1])})" for label, name in names.items()]
    assert terms.get_ylabel() == "Objective less its last value"


def test_gap_is_logarithmic_and_leaves_out_what_was_not_computed(history):
    terms, gap = plot_convergence(history).axes
    assert gap.get_yscale() == "log"
    assert gap.get_ylabel() == "Duality gap"
    assert gap.get_xlabel() == "Iteration"
    (line,) = gap.lines
    np.testing.assert_array_equal(line.get_xdata(), history["iteration"][1::2])
    np.testing.assert_array_equal(line.get_ydata(), history["gap"][1::2])
    assert terms.get_xlim() == gap.get_xlim()


def test_negative_and_positive_terms_are_both_on_the_axis(history):
    terms = plot_convergence(history).axes[0]
    low, high = terms.get_ylim()
    assert low < (history["chem"] - history["chem"][-1]).min() < 0
    assert high > (history["total"] - history["total"][-1]).max() > 0


def test_gap_of_zero_or_below_is_left_out(history):
    history["gap"][-1] = -1e-12
    (line,) = plot_convergence(history).axes[1].lines
    assert line.get_xdata()[-1] == history["iteration"][-3]


def test_stationarity_takes_the_place_of_the_gap(history):
    history["stationarity"] = history["gap"]
    history["gap"] = np.full(30, np.nan)
    axes = plot_convergence(history).axes
    assert axes[1].get_ylabel() == "Stationarity residual"
    assert len(axes[1].lines[0].get_xdata()) == 15


def test_no_gap_at_all(history):
    history["gap"] = np.full(30, np.nan)
    (ax,) = plot_convergence(history).axes
    assert ax.get_xlabel() == "Iteration"
    del history["gap"]
    assert len(plot_convergence(history).axes) == 1


def test_terms_that_are_absent_are_left_out(history):
    history["haadf"] = np.full(30, np.nan)
    del history["tv"]
    lines = lines_of(plot_convergence(history).axes[0])
    assert "HAADF" not in lines and "regularization" not in lines and "total" in lines


def test_single_record_is_seen():
    figure = plot_convergence({"iteration": [100], "total": [3.0], "gap": [0.1]})
    assert lines_of(figure.axes[0])["total"].get_marker() == "o"
    assert figure.axes[1].lines[0].get_marker() == "o"


def test_objective_of_zero_can_be_drawn():
    plot_convergence({"iteration": [1, 2], "total": [0, 0]}).canvas.draw()
    assert negligible_change({"total": np.zeros(2)}) == 1
    assert negligible_change({"total": np.array([-4000.0, -4300.0])}) == pytest.approx(0.1)


def test_numbers_are_readable():
    numbers = {-15034.2: "-15,034", 534.21: "534.2", 0.0: "0", 1.5e-7: "1.5e-07", 2e12: "2e+12"}
    assert [readable(number) for number in numbers] == list(numbers.values())


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_given_axes_are_split(history, layout):
    figure, (left, right) = plt.subplots(1, 2, layout=layout)
    assert plot_convergence(history, ax=right) is figure
    assert len(figure.axes) == 3 and not left.lines
    figure.canvas.draw()
    upper, lower = right.get_position(), figure.axes[2].get_position()
    assert upper.y0 > lower.y1
    assert upper.x0 == pytest.approx(lower.x0, abs=0.01)


def test_axes_outside_a_grid_are_split_too(history):
    figure = plt.figure()
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    plot_convergence(history, ax=ax)
    figure.canvas.draw()
    assert len(figure.axes) == 2


def test_lists_will_do_and_nothing_is_changed(history):
    lists = {name: list(values) for name, values in history.items()}
    kept = {name: list(values) for name, values in lists.items()}
    plot_convergence(lists)
    np.testing.assert_equal(lists, kept)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"iteration": []}, "iterations are needed"),
        ({"total": [1.0]}, "arrays of different lengths"),
    ],
)
def test_bad_histories_are_refused(history, change, message):
    with pytest.raises(ValueError, match=f"history: found .*{message}"):
        plot_convergence({**history, **change})


def test_history_without_terms_is_refused(history):
    with pytest.raises(ValueError, match="one of .*haadf.* is needed"):
        plot_convergence({"iteration": history["iteration"], "gap": history["gap"]})
