"""What must not matter, and what must change the result in a known way."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperspy_fusedmm.solver import (
    FusionProblem,
    default_strength,
    haadf_guide,
    reference_scale,
    solve,
)

quick = settings(max_examples=8, deadline=None, derandomize=True)

VARIANTS = {
    "tv": {},
    "guided tv": {"guided": True},
    "tgv": {"regularization": "tgv"},
    "guided tgv": {"regularization": "tgv", "guided": True},
    "relative tv": {"relative": True},
    "relative tgv": {"regularization": "tgv", "relative": True},
    "gaussian": {"fidelity": "gaussian", "noise": [0.9, 1.1, 1.3]},
    "mixed": {
        "fidelity": ("poisson", "gaussian", "poisson"),
        "noise": 0.8,
        "background": [0.2, 0.0, 0.4],
    },
}

problems = st.builds(
    lambda variant, shape, seed: make_problem(variant, shape, seed),
    st.sampled_from(sorted(VARIANTS)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 1000),
)


def make_problem(variant="tv", shape=(12, 10), seed=0, elements=3):
    """A small problem with everything given per pixel that can be."""
    rng = np.random.default_rng(seed)
    options = dict(VARIANTS[variant])
    guided = options.pop("guided", False)
    if options.pop("relative", False):
        scale = rng.uniform(-1, 1, elements)
        options |= {"reference": rng.normal(size=shape), "reference_scale": scale}
    full = (elements,) + shape
    truth = rng.uniform(0.2, 5, (elements, 1, 1)) * (0.5 + (rng.random(full) > 0.5))
    weights = rng.uniform(0.2, 2, elements)
    haadf = 3 + np.tensordot(weights, truth, 1) + 0.3 * rng.normal(size=shape)
    counts = rng.poisson(truth)
    guide = 0.9 * rng.random(shape) * np.array([0.6, 0.8])[:, None, None] if guided else None
    return FusionProblem(
        counts,
        haadf,
        weights,
        haadf_offset=3.0,
        haadf_noise=rng.uniform(0.2, 0.5, shape),
        lambda_tv=default_strength(np.maximum(counts, 0.01)),
        regularization_weights=rng.uniform(0.7, 1.5, full),
        guide=guide,
        **options,
    )


def fixed(problem, iterations=60, **options):
    """Maps after a fixed number of iterations: the same numbers whenever the problem is the same."""
    return solve(problem, tolerance=0, max_iterations=iterations, num_workers=1, **options).maps


def solved(problem, **options):
    return solve(problem, tolerance=1e-6, max_iterations=4000, num_workers=1, **options)


def assert_close(found, expected, tolerance):
    size = np.abs(expected).mean(axis=(1, 2), keepdims=True) + 1e-3
    assert (np.abs(found - expected) <= tolerance * size).all(), np.abs(found - expected).max()


def rearranged(problem, function):
    """The problem with ``function`` applied to every array that has rows and columns."""
    shape = problem.maps.shape[1:]
    changed = {}
    for field in fields(problem):
        value = getattr(problem, field.name)
        if field.name != "guide" and np.shape(value)[-2:] == shape and np.ndim(value) > 1:
            changed[field.name] = function(np.asarray(value))
    return replace(problem, **changed)


def with_counts_scaled(problem, factor):
    """The same problem for maps in a unit smaller by ``factor``.

    All likelihoods but for a constant: x - b log x scales with the counts, (x - b)^2 / noise^2
    does so with a noise times sqrt(factor), and lambda_chem takes the factor out again.
    """
    return replace(
        problem,
        maps=factor * problem.maps,
        background=factor * problem.background,
        noise=np.sqrt(factor) * problem.noise,
        weights=problem.weights / factor,
        lambda_chem=problem.lambda_chem / factor,
        lambda_tv=problem.lambda_tv / factor,
        reference_scale=factor * problem.reference_scale,
    )


@quick
@given(problems, st.floats(0.05, 50))
def test_scaling_all_counts_scales_the_result(problem, factor):
    scaled = with_counts_scaled(problem, factor)
    expected, found = solved(problem), solved(scaled)
    assert_close(found.maps / factor, expected.maps, 0.02)


@quick
@given(problems, st.sampled_from([0.125, 2.0, 1024.0]))
def test_scaling_by_a_power_of_two_leaves_every_iterate_alone(problem, factor):
    """The solver works in units in which powers of two have no place."""
    scaled = with_counts_scaled(problem, factor)
    assert_close(fixed(scaled) / factor, fixed(problem), 1e-5)


@quick
@given(problems, st.floats(0.01, 100))
def test_scaling_the_haadf_image_changes_nothing(problem, factor):
    scaled = replace(
        problem,
        haadf=factor * problem.haadf,
        weights=factor * problem.weights,
        haadf_offset=factor * problem.haadf_offset,
        haadf_noise=factor * problem.haadf_noise,
    )
    assert_close(fixed(scaled), fixed(problem), 2e-3)


@quick
@given(problems, st.floats(0.1, 10))
def test_scaling_the_objective_changes_nothing(problem, factor):
    scaled = replace(
        problem,
        lambda_haadf=factor * problem.lambda_haadf,
        lambda_chem=factor * problem.lambda_chem,
        lambda_tv=factor * problem.lambda_tv,
    )
    expected, found = solved(problem), solved(scaled)
    assert_close(found.maps, expected.maps, 0.02)
    assert found.history["total"][-1] == pytest.approx(
        factor * expected.history["total"][-1], rel=1e-4, abs=1e-3 * factor
    )


@quick
@given(problems, st.floats(-100, 100))
def test_shifting_the_haadf_image_with_its_offset_changes_nothing(problem, shift):
    shifted = replace(
        problem, haadf=problem.haadf + shift, haadf_offset=problem.haadf_offset + shift
    )
    assert_close(fixed(shifted), fixed(problem), 2e-3)


@quick
@given(problems)
def test_transposing_the_images_transposes_the_result(problem):
    transposed = rearranged(problem, lambda a: np.swapaxes(a, -1, -2))
    if problem.guide is not None:
        guide = np.swapaxes(problem.guide, -1, -2)[::-1].copy()
        transposed = replace(transposed, guide=guide)
    assert_close(np.swapaxes(fixed(transposed), 1, 2), fixed(problem), 2e-3)


@quick
@given(problems, st.permutations(range(3)))
def test_permuting_the_elements_permutes_the_result(problem, order):
    order = list(order)
    permuted = replace(
        problem,
        maps=problem.maps[order],
        weights=problem.weights[order],
        background=problem.background[order],
        noise=problem.noise[order],
        lambda_tv=problem.lambda_tv[order],
        fidelity=tuple(problem.fidelity[k] for k in order),
        regularization_weights=problem.regularization_weights[order],
        reference_scale=problem.reference_scale[order],
    )
    assert_close(fixed(permuted), fixed(problem)[order], 2e-3)


@quick
@given(problems, st.sampled_from([(-1,), (-2,), (-1, -2)]))
def test_flipping_flips_the_result_without_regularization(problem, axes):
    alone = replace(problem, lambda_tv=0.0, guide=None)
    flipped = rearranged(alone, lambda a: np.flip(a, axes))
    assert_close(np.flip(fixed(flipped), axes), fixed(alone), 1e-5)


def test_without_regularization_every_pixel_is_on_its_own():
    alone = replace(make_problem(), lambda_tv=0.0)
    order = np.random.default_rng(0).permutation(120)
    shuffled = rearranged(
        alone, lambda a: a.reshape(a.shape[:-2] + (120,))[..., order].reshape(a.shape)
    )
    expected = fixed(alone).reshape(3, 120)[:, order].reshape(3, 12, 10)
    assert_close(fixed(shuffled), expected, 1e-5)


@quick
@given(problems)
def test_an_element_twice_with_half_the_weight_each_is_the_same_pair(problem):
    twice = replace(
        problem,
        maps=problem.maps[[0, 0]],
        weights=problem.weights[[0, 0]] / 2,
        background=problem.background[[0, 0]],
        noise=problem.noise[[0, 0]],
        lambda_tv=problem.lambda_tv[[0, 0]],
        count_slope=problem.count_slope[[0, 0]],
        lower_bound=problem.lower_bound[[0, 0]],
        fidelity=(problem.fidelity[0],) * 2,
        regularization_weights=problem.regularization_weights[[0, 0]],
        reference_scale=problem.reference_scale[[0, 0]],
    )
    maps = fixed(twice)
    np.testing.assert_array_equal(maps[0], maps[1])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_inputs_are_not_changed(variant, dtype):
    problem = make_problem(variant)
    given = {
        field.name: np.array(value)
        for field in fields(problem)
        if isinstance(value := getattr(problem, field.name), np.ndarray)
    }
    given["maps"] = given["maps"].astype(dtype)
    before = {name: value.copy() for name, value in given.items()}
    initial = np.ones(problem.maps.shape)
    again = replace(problem, **given)
    solution = solve(again, max_iterations=30, num_workers=1)
    solve(again, max_iterations=30, initial=initial, num_workers=1)
    planes = solution.state.planes.copy()
    later = solve(again, max_iterations=30, state=solution.state, num_workers=1)
    again.objective(later.maps)
    for name, value in given.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
        assert value.dtype == before[name].dtype
    assert (initial == 1).all()
    np.testing.assert_array_equal(solution.state.planes, planes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_type_of_the_numbers_does_not_matter(variant):
    problem = make_problem(variant)
    expected = fixed(problem)
    for dtype in (np.uint8, np.int32, np.float32):
        np.testing.assert_array_equal(
            fixed(replace(problem, maps=problem.maps.astype(dtype))), expected
        )
    in_order = replace(problem, maps=np.asfortranarray(problem.maps))
    np.testing.assert_array_equal(fixed(in_order), expected)


@pytest.mark.parametrize("offset", [300.0, 300])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_integer_haadf_images_darker_than_their_offset(offset, dtype):
    """Camera counts below the offset are negative signals, whatever the type of the image."""
    problem = make_problem()
    haadf = np.round(300 + 40 * (problem.haadf - 3.5))
    haadf[:3] = 290
    expected = replace(
        problem, haadf=haadf, haadf_offset=300.0, weights=40 * problem.weights, haadf_noise=15.0
    )
    found = replace(expected, haadf=haadf.astype(dtype), haadf_offset=offset)
    np.testing.assert_allclose(fixed(found), fixed(expected), rtol=1e-5, atol=1e-6)
    maps = np.asarray(problem.maps, dtype=float)
    assert found.objective(maps)["total"] == pytest.approx(expected.objective(maps)["total"])


@pytest.mark.parametrize("background", [0.0, [0.3, 1.0, 0.0], None])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_without_haadf_and_regularization_the_counts_net_of_background_are_left(
    background, regularization
):
    problem = make_problem()
    if background is None:
        background = np.random.default_rng(0).random(problem.maps.shape)
    expected = np.maximum(problem.maps - np.broadcast_to(
        np.reshape(background, np.shape(background) + (1, 1)) if np.ndim(background) == 1
        else background, problem.maps.shape), 0)  # fmt: skip
    for small in (1e-6, 0.0):
        alone = replace(
            problem,
            background=background,
            lambda_tv=small,
            lambda_haadf=small**2,
            regularization=regularization,
        )
        maps = solve(alone, tolerance=1e-6, max_iterations=2000, num_workers=1).maps
        np.testing.assert_allclose(maps, expected, atol=2e-3)


def test_a_strong_regularization_leaves_the_mean():
    counts = np.random.default_rng(0).poisson(3.0, (2, 12, 10))
    solution = solve(FusionProblem(counts, lambda_tv=50.0), tolerance=1e-6, num_workers=1)
    for found, measured in zip(solution.maps, counts):
        np.testing.assert_allclose(found, measured.mean(), rtol=2e-3)


def test_strong_tgv_leaves_a_plane():
    rows, columns = np.mgrid[:12, :10]
    plane = 3 + 0.4 * columns - 0.1 * rows
    noisy = plane + 0.3 * np.random.default_rng(0).normal(size=plane.shape)
    problem = FusionProblem(noisy[None], fidelity="gaussian", lambda_tv=30.0, regularization="tgv")
    found = solve(problem, tolerance=1e-6, max_iterations=5000, num_workers=1).maps[0]
    basis = np.stack([np.ones(120), columns.ravel(), rows.ravel()], axis=1)
    best = basis @ np.linalg.lstsq(basis, noisy.ravel(), rcond=None)[0]
    np.testing.assert_allclose(found.ravel(), best, atol=0.01)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_level_and_unit_of_the_reference_do_not_matter(regularization):
    problem = make_problem(f"relative {regularization}")
    changed = replace(
        problem, reference=7 - 4 * problem.reference, reference_scale=problem.reference_scale / -4
    )
    assert_close(fixed(changed), fixed(problem), 1e-4)
    nothing = replace(problem, reference_scale=0.0)
    assert_close(fixed(nothing), fixed(replace(problem, reference=None)), 1e-6)
    constant = replace(problem, reference=np.full(problem.reference.shape, 2.0))
    assert_close(fixed(constant), fixed(nothing), 1e-4)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_a_multiple_of_the_reference_costs_nothing(regularization):
    problem = make_problem(f"relative {regularization}")
    detail = problem.reference_scale[:, None, None] * problem.reference
    maps = 10 + detail
    terms = problem.objective(maps)
    assert terms["regularization"] == pytest.approx(0, abs=1e-6)
    assert problem.objective(maps - detail)["regularization"] > 1
    smooth = replace(problem, reference=None)
    assert smooth.objective(maps)["regularization"] == pytest.approx(
        problem.objective(maps + detail)["regularization"], rel=1e-4
    )


def test_a_strong_regularization_leaves_a_multiple_of_the_reference():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(12, 10))
    measured = 20 + np.array([2.0, -1.0])[:, None, None] * reference + rng.normal(size=(2, 12, 10))
    problem = FusionProblem(measured, fidelity="gaussian", lambda_tv=100.0, reference=reference)
    problem = replace(problem, reference_scale=reference_scale(problem, reference))
    found = solve(problem, tolerance=1e-7, max_iterations=5000, num_workers=1).maps
    for image, counts in zip(found, measured):
        line = np.polynomial.Polynomial.fit(reference.ravel(), counts.ravel(), 1)
        np.testing.assert_allclose(image, line(reference), atol=5e-3)


@pytest.mark.parametrize("variant", ["tv", "guided tgv", "relative tgv"])
def test_number_of_threads_does_not_change_the_numbers(variant):
    problem = make_problem(variant, shape=(200, 40))
    one, three, default = (
        solve(problem, tolerance=1e-3, max_iterations=200, num_workers=n) for n in (1, 3, None)
    )
    for other in (three, default):
        assert other.iterations == one.iterations
        np.testing.assert_allclose(other.maps, one.maps, rtol=1e-4, atol=1e-4)
        assert other.gap == pytest.approx(one.gap, rel=1e-2)


def test_solving_twice_gives_the_same_numbers():
    problem = make_problem(shape=(70, 80))
    first, second = (solve(problem, max_iterations=40, num_workers=2) for _ in range(2))
    np.testing.assert_array_equal(first.maps, second.maps)
    assert first.gap == second.gap


def counted(solution):
    assert solution.converged
    return solution.iterations


def smooth_problem(strength=1.0, regularization="tv"):
    """A larger problem, with structure, to count iterations on."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    cone = np.clip(1 - np.hypot(rows - 20, columns - 20) / 15, 0, None)
    truth = np.stack([4 * cone, 0.5 + (columns > 20)])
    counts, weights = rng.poisson(truth), np.array([1.0, 0.4])
    haadf = np.tensordot(weights, truth, 1) + 0.15 * rng.normal(size=(40, 40))
    return FusionProblem(
        counts,
        haadf,
        weights,
        haadf_noise=0.15,
        lambda_tv=strength * default_strength(counts),
        regularization=regularization,
        guide=haadf_guide(haadf),
    )


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_warm_start_reaches_the_same_solution_sooner(regularization):
    problem = smooth_problem(regularization=regularization)
    cold = solve(problem, num_workers=1)
    changed = smooth_problem(1.2, regularization)
    warm = solve(changed, state=cold.state, num_workers=1)
    afresh = solve(changed, num_workers=1)
    assert counted(warm) < counted(afresh)
    scale = afresh.gap / afresh.relative_gap
    assert abs(warm.history["total"][-1] - afresh.history["total"][-1]) <= 1.1e-4 * scale
    assert_close(warm.maps, afresh.maps, 0.2)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_going_on_from_the_solution_takes_no_iterations(regularization):
    problem = smooth_problem(regularization=regularization)
    first = solve(problem, num_workers=1)
    again = solve(problem, state=first.state, num_workers=1)
    assert again.iterations == 0 and again.converged
    np.testing.assert_array_equal(again.maps, first.maps)


def test_warm_start_between_other_counts_and_weights():
    """The state keeps its meaning when the solver's internal units change."""
    problem = smooth_problem()
    first = solve(problem, num_workers=1)
    other = replace(
        problem,
        maps=3 * problem.maps,
        haadf=2.5 * problem.haadf,
        haadf_noise=0.4,
        lambda_tv=problem.lambda_tv / 2,
    )
    warm = solve(other, state=first.state, tolerance=1e-5, max_iterations=4000, num_workers=1)
    cold = solve(other, tolerance=1e-5, max_iterations=4000, num_workers=1)
    assert warm.converged and cold.converged
    assert_close(warm.maps, cold.maps, 0.05)
    scale = cold.gap / cold.relative_gap
    assert abs(warm.history["total"][-1] - cold.history["total"][-1]) <= 1.1e-5 * scale


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_the_units_of_a_state_are_its_own(regularization):
    """Maps and slopes are in units of the maps, dual fields and r in those of derivatives."""
    problem = smooth_problem(regularization=regularization)
    state = solve(problem, num_workers=1).state
    by_map, by_image = np.array([4.0, 0.5]), 8.0
    shares = [1 / by_map, by_map.repeat(2)]
    if regularization == "tgv":
        shares += [1 / by_map.repeat(2), by_map.repeat(3)]
    shares = np.concatenate(shares + [[by_image]]).astype(np.float32)
    same = replace(
        state,
        planes=state.planes * shares[:, None, None],
        map_scale=state.map_scale * by_map,
        haadf_scale=state.haadf_scale * by_image,
    )
    expected, found = (
        solve(problem, state=one, tolerance=0, max_iterations=5, num_workers=1)
        for one in (state, same)
    )
    np.testing.assert_array_equal(found.maps, expected.maps)
    np.testing.assert_array_equal(found.state.planes, expected.state.planes)


@pytest.mark.parametrize("steps, share", [(0.95, 0.8), (0.85, 0.95)])
@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_a_path_over_the_strength_costs_less_than_separate_fits(
    regularization, ascending, steps, share
):
    strengths = 1.5 * steps ** np.arange(8)
    separate, path, state = 0, 0, None
    for strength in strengths[::-1] if ascending else strengths:
        problem = smooth_problem(strength, regularization)
        separate += counted(solve(problem, num_workers=1))
        solution = solve(problem, state=state, num_workers=1)
        path += counted(solution)
        state = solution.state
    assert path <= share * separate, (path, separate)
