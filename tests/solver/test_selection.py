"""Choosing the form of the problem and its weights from the data."""

from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fusedmm.data import core_shell_particles, gallium_oxide_film
from hyperspy_fusedmm.solver import (
    FusionProblem,
    default_strength,
    haadf_guide,
    haadf_reference,
    selection,
    solve,
)
from hyperspy_fusedmm.solver.selection import FORMS, Form, choose


@pytest.fixture(scope="module")
def specimen():
    return core_shell_particles(shape=(96, 96), dose=3.0, haadf_snr=20, seed=5)


def problem_of(specimen, **changes):
    maps = specimen.maps.data
    return FusionProblem(
        maps,
        specimen.haadf.data,
        specimen.weights,
        specimen.haadf_offset,
        specimen.haadf_noise,
        **{"lambda_tv": default_strength(maps), "regularization": "tgv", **changes},
    )


def error(maps, specimen):
    truth = specimen.truth.data
    return np.sqrt(((maps - truth) ** 2).sum(axis=(1, 2)) / (truth**2).sum(axis=(1, 2))).mean()


def test_chosen_strengths_beat_strengths_four_times_off(specimen):
    problem = problem_of(specimen)
    forms = [Form("tgv", False, True)]
    found = choose(problem, forms=forms, fixed=("lambda_haadf",))
    assert found.lambda_haadf == problem.lambda_haadf
    errors = [
        error(solve(replace(problem, lambda_tv=c * found.lambda_tv), 1e-3).maps, specimen)
        for c in (0.25, 1.0, 4.0)
    ]
    assert errors[1] < 0.97 * min(errors[0], errors[2])


def test_image_of_something_else_is_left_out(specimen):
    forms = [form for form in FORMS if form.guided or not form.with_haadf]
    upside_down = specimen.haadf.data.max() - specimen.haadf.data[::-1]
    problem = replace(problem_of(specimen), haadf=upside_down)
    found = choose(problem, haadf_guide(upside_down), haadf_reference(upside_down), forms=forms)
    assert not found.form.with_haadf and found.lambda_haadf == 0
    image = specimen.haadf.data
    kept = choose(problem_of(specimen), haadf_guide(image), haadf_reference(image), forms=forms)
    assert kept.form.with_haadf and kept.lambda_haadf > 0


def test_an_image_described_badly_still_shows_how_the_maps_are():
    """Half of its signal is that of an element without a map, in the same places as the others."""
    specimen = gallium_oxide_film(shape=(48, 48), dose=0.5, haadf_snr=20, seed=5)
    problem = replace(problem_of(specimen), haadf=2 * specimen.haadf.data)
    reference = haadf_reference(problem.haadf, problem.haadf_noise)
    alone, relative = Form("tgv", False, False), Form("tgv", False, True, relative=True)
    found = choose(problem, reference=reference, forms=[alone, relative])
    assert found.form == relative
    assert 0 < found.lambda_haadf < 1e-3


def test_record_and_progress(specimen):
    problem, calls = problem_of(specimen), []
    found = choose(
        problem,
        forms=[FORMS[0], FORMS[-1]],
        fixed=("lambda_tv",),
        callback=lambda *done: calls.append(done),
    )
    np.testing.assert_array_equal(found.lambda_tv, problem.lambda_tv)
    assert found.tried[found.chosen]["score"] == 0
    assert found.forms[found.tried[found.chosen]["form"]] == found.form
    assert [done for done, _ in calls] == list(range(1, len(found.tried) + 1))
    assert all(done <= expected for done, expected in calls)
    again = choose(problem, forms=[FORMS[0], FORMS[-1]], fixed=("lambda_tv",))
    for one, other in zip(found.tried, again.tried):
        np.testing.assert_array_equal(one["error"], other["error"])


def test_weights_of_every_form_that_may_be_best_are_refined(specimen):
    problem = problem_of(specimen)
    # Forms that are as good as the same.
    twins = [Form("tv", False, True), Form("tgv", False, True), Form("tgv", False, False)]
    found = choose(problem, forms=twins)
    refined = {
        tried["form"]
        for tried in found.tried
        if np.ptp(np.log(tried["lambda_tv"] / problem.lambda_tv)) > 0.5
    }
    assert {0, 1} <= refined
    best = {k: min(t["score"] for t in found.tried if t["form"] == k) for k in refined}
    assert twins[min(best, key=best.get)].with_haadf and found.form.with_haadf


def test_maps_of_few_counts_have_few_whatever_the_doubt(monkeypatch):
    """The form that is usually best then is taken, unless another is better beyond doubt."""
    monkeypatch.setattr(selection._Search, "doubt", lambda *_: 1e6)
    monkeypatch.setattr(selection, "FEW", np.inf)
    forms = [Form("tgv", True, True), Form("tv", True, True)]
    for dose, form in ((0.3, forms[1]), (8.0, forms[0])):
        specimen = core_shell_particles(shape=(40, 40), dose=dose, haadf_snr=20, seed=5)
        image = specimen.haadf.data
        found = choose(
            problem_of(specimen), haadf_guide(image), forms=forms, fixed=("lambda_tv", "lambda_haadf")
        )
        assert found.form == form


def test_few_counts_leave_the_strength_alone(specimen):
    maps = specimen.maps.data.copy()
    maps[1] = 0
    maps[1, 3, 4] = 2
    problem = problem_of(specimen)
    problem = replace(problem, maps=maps)
    found = choose(problem, forms=[FORMS[-1]], fixed=("lambda_haadf",))
    assert found.undecided.tolist() == [False, True, False]
    assert found.lambda_tv[1] == problem.lambda_tv[1]
    assert np.isfinite(found.lambda_tv).all()


def test_search_can_be_ended(specimen):
    def stop(done, expected):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(problem_of(specimen), forms=FORMS[:1], callback=stop)
