"""The figure of what an automatic choice tried."""

import numpy as np
import pytest

from hyperspy_fusedmm.drawing import plot_selection


@pytest.fixture
def selection():
    rng = np.random.default_rng(0)
    strengths = np.exp(rng.normal(size=(12, 3)))
    scores = (np.log(strengths) ** 2).sum(axis=1)
    return {
        "regularization": ["tv", "tgv"] * 6,
        "guided": [False, False, True] * 4,
        "relative": [False] * 7 + [True] * 5,
        "lambda_haadf": np.array([1.0, 0.3, 0.1, 0.0] * 3),
        "lambda_tv": strengths,
        "score": scores - scores.min(),
        "chosen": int(scores.argmin()),
        "undecided": [False, True, False],
    }


def test_one_panel_for_every_weight_that_was_chosen(selection):
    figure = plot_selection(selection, ["Co", "S", "O"])
    labels = [ax.get_xlabel() for ax in figure.axes]
    assert len(labels) == 3 and "Co" in labels[0] and "O" in labels[1] and "HAADF" in labels[2]
    assert all(ax.get_xscale() == "log" for ax in figure.axes)


def test_the_chosen_one_is_marked(selection):
    figure = plot_selection(selection, ["Co", "S", "O"])
    chosen = selection["chosen"]
    ring = next(c for c in figure.axes[0].collections if c.get_label() == "chosen")
    np.testing.assert_allclose(
        ring.get_offsets()[0], [selection["lambda_tv"][chosen, 0], 0.0], atol=1e-12
    )


def test_every_candidate_is_drawn_once(selection):
    figure = plot_selection(selection, ["Co", "S", "O"])
    drawn = sum(
        len(c.get_offsets()) for c in figure.axes[0].collections if c.get_label() != "chosen"
    )
    assert drawn == 12


def test_where_the_image_was_not_weighed_there_is_no_panel_for_it(selection):
    selection["lambda_haadf"][:] = 1.0
    assert len(plot_selection(selection, ["Co", "S", "O"]).axes) == 2


def test_weights_that_were_given_have_no_panel(selection):
    selection["lambda_tv"][:] = 1.0
    (ax,) = plot_selection(selection, ["Co", "S", "O"]).axes
    assert "HAADF" in ax.get_xlabel()


def test_forms_alone_where_all_weights_were_given():
    selection = {
        "regularization": ["tv", "tv", "tgv", "tgv"],
        "guided": [False, True, True, False],
        "relative": [False, False, False, True],
        "lambda_haadf": np.ones(4),
        "lambda_tv": np.ones((4, 2)),
        "score": np.array([0.2, 0.1, 0.0, 0.3]),
        "chosen": 2,
        "undecided": [False, False],
    }
    (ax,) = plot_selection(selection, ["Co", "S"]).axes
    labels = ["TV", "TV, guided", "TGV, guided", "TGV, relative"]
    assert [label.get_text() for label in ax.get_yticklabels()] == labels
    drawn = [c.get_offsets()[0] for c in ax.collections if c.get_label() != "chosen"]
    np.testing.assert_allclose(drawn, [(0.2, 0), (0.1, 1), (0.0, 2), (0.3, 3)])
    ring = next(c for c in ax.collections if c.get_label() == "chosen")
    np.testing.assert_allclose(ring.get_offsets(), [(0.0, 2)])


def test_a_narrow_range_has_several_labels(selection):
    selection["lambda_tv"] = np.linspace(0.6, 1.8, 36).reshape(12, 3)
    figure = plot_selection(selection, ["Co", "S", "O"])
    figure.canvas.draw()
    ax = figure.axes[0]
    low, high = ax.get_xlim()
    shown = [value for value in ax.get_xticks() if low <= value <= high]
    assert len(shown) >= 3
