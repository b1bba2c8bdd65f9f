"""What the regularization is relative to, and the choice of relative forms."""

import importlib
from dataclasses import replace

import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver import (
    FusionProblem,
    bootstrap,
    default_strength,
    haadf_guide,
    haadf_reference,
    reference_scale,
    solve,
)
from hyperspy_fusedmm.solver.held_out import counts_alone
from hyperspy_fusedmm.solver.selection import FORMS, choose
from hyperspy_fusedmm.solver.smoothing import chosen_blur

RELATIVE = [form for form in FORMS if form.relative]


def test_scale_is_the_slope_of_a_straight_line():
    rng = np.random.default_rng(0)
    image, maps = rng.normal(size=(20, 30)), rng.poisson(3.0, (2, 20, 30))
    expected = [np.polyfit(image.ravel(), counts.ravel(), 1)[0] for counts in maps]
    np.testing.assert_allclose(reference_scale(FusionProblem(maps), image), expected)
    parts = [slice(0, 8), slice(8, 20)]
    problems = [FusionProblem(maps[:, rows]) for rows in parts]
    np.testing.assert_allclose(reference_scale(problems, [image[rows] for rows in parts]), expected)


def test_background_has_no_part_in_the_scale():
    """That of X-rays grows with the thickness, as the image does."""
    image = np.arange(20.0).reshape(4, 5)
    background = 0.5 * np.stack([image, image])
    problem = FusionProblem(np.stack([2 * image, 3 * image]) + background, background=background)
    np.testing.assert_allclose(reference_scale(problem, image), [2.0, 3.0])


def test_scale_of_an_image_without_contrast_is_zero():
    assert not reference_scale(FusionProblem(np.ones((2, 5, 5))), np.full((5, 5), 3.0)).any()


def test_reference_is_the_smoothed_image_without_its_level():
    rng = np.random.default_rng(0)
    smooth = np.sin(np.arange(64) / 9)[:, None] * np.ones(64)
    image = 40 + smooth + 0.3 * rng.normal(size=(64, 64))
    reference = haadf_reference(image)
    expected = chosen_blur(image - image.mean(), 0.3**2)[0]
    np.testing.assert_allclose(reference, expected, atol=0.02)
    assert abs(reference - smooth + smooth.mean()).mean() < 0.1
    np.testing.assert_allclose(haadf_reference(image + 100), reference, atol=1e-4)


def test_pixels_without_an_image_are_not_looked_at():
    rng = np.random.default_rng(0)
    image, noise = rng.normal(size=(40, 40)), np.full((40, 40), 1.0)
    noise[10:20, 5:9] = np.inf
    spoilt = np.where(np.isinf(noise), 1e6, image)
    np.testing.assert_array_equal(haadf_reference(spoilt, noise), haadf_reference(image, noise))


@pytest.fixture(scope="module")
def film():
    return fmm.data.gallium_oxide_film(shape=(64, 64), dose=1.0, seed=3)


def problem_of(specimen):
    counts = np.asarray(specimen.maps.data)
    return FusionProblem(
        counts, np.asarray(specimen.haadf.data), specimen.weights, specimen.haadf_offset,
        specimen.haadf_noise, lambda_tv=default_strength(counts),
    )  # fmt: skip


def test_a_film_whose_thickness_varies_is_told_from_its_image(film):
    """Both elements follow the image; regularized on their own they lose what the counts do not show."""
    problem = problem_of(film)
    guide, reference = haadf_guide(problem.haadf), haadf_reference(problem.haadf)
    found = choose(problem, guide, reference, num_workers=1)
    assert found.form in RELATIVE
    without = choose(problem, guide, forms=[f for f in FORMS if not f.relative], num_workers=1)

    def error(selection):
        maps = solution(problem, selection, guide, reference)
        return ((maps - film.truth.data) ** 2).sum()

    assert error(found) < 0.7 * error(without)


def solution(problem, selection, guide, reference):
    form, extra = selection.form, {}
    if form.relative:
        extra = {"reference": reference, "reference_scale": reference_scale(problem, reference)}
    chosen = replace(
        problem, lambda_tv=selection.lambda_tv, lambda_haadf=selection.lambda_haadf,
        regularization=form.regularization, guide=guide if form.guided else None, **extra,
    )  # fmt: skip
    return solve(chosen, tolerance=1e-3, num_workers=1).maps


def relative_problem(film, strength=3.0):
    problem = problem_of(film)
    reference = haadf_reference(problem.haadf)
    return replace(
        problem, lambda_tv=strength * problem.lambda_tv, reference=reference,
        reference_scale=reference_scale(problem, reference),
    )  # fmt: skip


def test_without_the_image_nothing_is_relative_to_it(film):
    assert counts_alone(relative_problem(film)).reference is None


def test_refits_find_the_reference_anew(film, monkeypatch):
    """Its noise, and that of its scale, is part of the error."""
    module, drawn = importlib.import_module("hyperspy_fusedmm.solver.bootstrap"), []
    simulated = module._simulated

    def noted(*args):
        drawn.append(simulated(*args))
        return drawn[-1]

    monkeypatch.setattr(module, "_simulated", noted)
    problem = relative_problem(film)
    maps = solve(problem, tolerance=1e-3, num_workers=1).maps
    bootstrap(problem, maps, replicates=3, num_workers=1)
    assert len(drawn) == 3
    for other in drawn:
        np.testing.assert_array_equal(
            other.reference_scale, reference_scale(other, other.reference)
        )
        np.testing.assert_array_equal(other.reference, haadf_reference(other.haadf))
    assert np.ptp([other.reference_scale for other in drawn], axis=0).all()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"reference": np.ones((3, 3))}, "reference must have the shape"),
        ({"reference": np.full((64, 64), np.nan)}, "reference must be finite"),
        ({"reference_scale": [1.0, 2.0, 3.0]}, "reference_scale must be one number or 2"),
        ({"reference_scale": np.inf}, "reference_scale must be finite"),
        ({"reference": np.ones((64, 64)), "forward": "power"}, 'reference goes with forward="linear"'),
    ],
)
def test_nonsense_is_refused(film, given, message):
    with pytest.raises(ValueError, match=message):
        replace(problem_of(film), **given)


@pytest.mark.parametrize("value, message", [(np.ones((3, 3)), "shape"), (np.full((64, 64), np.nan), "finite")])
def test_scales_and_references_of_nonsense_are_refused(film, value, message):
    with pytest.raises(ValueError, match=f"reference must .*{message}"):
        reference_scale(problem_of(film), value)
    with pytest.raises(ValueError, match=f"haadf must .*{message}"):
        haadf_reference(value if message == "finite" else value[0])


def test_gradient_descent_knows_no_reference(film):
    with pytest.raises(ValueError, match="reference must be None"):
        solve(relative_problem(film), method="gradient-descent")
