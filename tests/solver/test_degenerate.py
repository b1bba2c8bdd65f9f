"""Input at the limits of sense ends in a result or in an error that names the argument."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, solve

SHAPE = (12, 10)


def plain(shape=SHAPE, elements=2, seed=0, **changes):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 3, (elements, 1, 1)) * (1 + (np.mgrid[: shape[0], : shape[1]][1] > 4))
    weights = np.linspace(1.0, 0.5, elements)
    given = {
        "maps": rng.poisson(truth),
        "haadf": 2 + np.tensordot(weights, truth, 1) + 0.2 * rng.normal(size=shape),
        "weights": weights,
        "haadf_offset": 2.0,
        "haadf_noise": 0.2,
        "lambda_tv": 0.4,
    }
    return FusionProblem(**(given | changes))


def assert_sound(solution, problem):
    """Finite, not negative, and of the form it should have."""
    assert solution.maps.shape == problem.maps.shape
    assert solution.maps.dtype == np.float32
    assert np.isfinite(solution.maps).all() and (solution.maps >= 0).all()
    if problem.haadf is None:
        assert solution.haadf_fit is None
    else:
        assert np.isfinite(solution.haadf_fit).all()
    lengths = {len(values) for values in solution.history.values()}
    assert len(lengths) == 1
    for name in ("haadf", "chem", "tv", "total"):
        assert np.isfinite(solution.history[name]).all(), name
    if problem.forward == "linear":
        assert solution.gap >= 0 and np.isfinite(solution.gap)
        assert solution.relative_gap >= 0 and np.isfinite(solution.relative_gap)
        assert np.isnan(solution.stationarity)
    else:
        assert np.isnan(solution.gap) and np.isnan(solution.relative_gap)
    if problem.regularization == "tv":
        total = problem.objective(solution.maps)["total"]
        assert np.isfinite(total) or (solution.maps == 0).any()


def run(problem, **options):
    solution = solve(problem, **({"max_iterations": 300, "num_workers": 1} | options))
    assert_sound(solution, problem)
    return solution


rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
single = np.zeros((2,) + SHAPE)
single[:, 5, 5] = 1
EXTREMES = {
    "no counts": {"maps": np.zeros((2,) + SHAPE)},
    "one empty map": {"maps": np.stack([np.zeros(SHAPE), 1.0 + columns])},
    "one count": {"maps": single},
    "many counts": {"maps": 1e6 * (1 + single), "weights": [1e-6, 1e-6]},
    "fractions": {"maps": 1e-6 * (1 + single), "weights": [1e6, 1e6], "lambda_tv": 30.0},
    "maps of very different size": {
        "maps": np.stack([1e6 * (1.0 + columns), 1e-6 * (1.0 + rows)]),
        "weights": [1e-6, 1e6],
    },
    "constant maps": {"maps": np.full((2,) + SHAPE, 3.0)},
    "constant haadf": {"haadf": np.full(SHAPE, 5.0)},
    "everything constant": {"maps": np.full((2,) + SHAPE, 3.0), "haadf": np.full(SHAPE, 5.0)},
    "haadf of zeros": {"haadf": np.zeros(SHAPE), "haadf_offset": 0.0},
    "haadf below its offset": {"haadf_offset": 100.0},
    "weights of zero": {"weights": [0.0, 0.0]},
    "one weight of zero": {"weights": [1.0, 0.0]},
    "tiny weights": {"weights": [1e-12, 1e-12]},
    "huge weights": {"weights": [1e6, 1e6]},
    "huge haadf": {
        "haadf": 1e12 * (1 + columns), "weights": [1e12, 1e12],
        "haadf_offset": 0.0, "haadf_noise": 1e11,
    },
    "tiny haadf": {
        "haadf": 1e-12 * (1 + columns), "weights": [1e-12, 1e-12],
        "haadf_offset": 0.0, "haadf_noise": 1e-13,
    },
    "haadf far above its noise": {"haadf_noise": 1e-5},
    "haadf_noise infinite": {"haadf_noise": np.inf},
    "haadf_noise of many sizes": {"haadf_noise": 10.0 ** (columns - 3)},
    "no haadf": {"haadf": None},
    "lambda_haadf 0": {"lambda_haadf": 0.0},
    "huge lambda_haadf": {"lambda_haadf": 1e8},
    "tiny lambda_chem": {"lambda_chem": 1e-8},
    "huge lambda_chem": {"lambda_chem": 1e8},
    "lambda_tv 0": {"lambda_tv": 0.0},
    "lambda_tv 0 of one": {"lambda_tv": [0.0, 1.0]},
    "huge lambda_tv": {"lambda_tv": 1e6},
    "no strength in places": {"regularization_weights": np.ones((2, 1, 1)) * (columns > 4)},
    "background above the counts": {"background": 100.0},
    "tiny background": {"background": 1e-12},
    "gaussian, negative maps": {"maps": -1.0 * (1 + single), "fidelity": "gaussian"},
    "gaussian, huge noise": {"noise": 1e6, "fidelity": "gaussian"},
    "gaussian, tiny noise": {"noise": 1e-4, "fidelity": "gaussian"},
    "guide of length 0": {"guide": np.zeros((2,) + SHAPE)},
    "guide of length 1": {"guide": np.stack([np.ones(SHAPE), np.zeros(SHAPE)])},
}  # fmt: skip
FORMS = [
    pytest.param("linear", "tv", id="linear-tv"),
    pytest.param("linear", "tgv", id="linear-tgv"),
    pytest.param("power", "tv", id="power-tv"),
]


@pytest.mark.parametrize("forward, regularization", FORMS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name, forward, regularization):
    problem = plain(forward=forward, regularization=regularization, **EXTREMES[name])
    run(problem)


SOLVED = [
    "no counts",
    "one empty map",
    "many counts",
    "fractions",
    "constant maps",
    "constant haadf",
    "everything constant",
    "haadf of zeros",
    "weights of zero",
    "huge haadf",
    "tiny haadf",
    "no haadf",
    "background above the counts",
    "gaussian, negative maps",
]


@pytest.mark.parametrize(
    "name, regularization",
    [(name, kind) for name in SOLVED for kind in ("tv", "tgv")]
    # TGV creeps where hardly anything but the curvature holds the maps.
    + [(n, "tv") for n in ("one count", "maps of very different size", "gaussian, huge noise")],
)
def test_extremes_that_are_solved_all_the_same(name, regularization):
    problem = plain(regularization=regularization, **EXTREMES[name])
    solution = run(problem, tolerance=1e-3, max_iterations=3000)
    assert solution.converged, solution.relative_gap


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 30), (30, 1), (2, 2)])
@pytest.mark.parametrize("elements", [1, 3])
@pytest.mark.parametrize("forward, regularization", FORMS)
def test_thin_images_and_single_elements(shape, elements, forward, regularization):
    problem = plain(shape, elements, forward=forward, regularization=regularization)
    run(problem)
    guide = np.full((2,) + shape, 0.5)
    run(replace(problem, guide=guide))


def test_one_pixel_without_haadf_keeps_its_counts():
    solution = run(FusionProblem([[[7.0]], [[0.0]]]))
    np.testing.assert_allclose(solution.maps.ravel(), [7, 0], atol=1e-5)


def test_one_pixel_is_the_minimum_of_the_scalar_problem():
    """x - b log x + (w x - t)^2 / 2: a quadratic equation."""
    solution = run(FusionProblem([[[4.0]]], [[10.0]], [2.0], haadf_noise=1.0), tolerance=1e-6)
    # 1 - 4 / x + 2 (2 x - 10) = 0
    expected = (19 + np.sqrt(19**2 + 4 * 4 * 4)) / 8
    assert solution.maps.item() == pytest.approx(expected, rel=1e-4)


def test_empty_counts_without_haadf_give_empty_maps():
    solution = run(FusionProblem(np.zeros((2,) + SHAPE)))
    assert solution.converged and not solution.maps.any() and solution.gap == 0


def test_empty_counts_with_a_bright_haadf_image_are_not_left_empty():
    """What the likelihood does not mind much, the image may ask for."""
    problem = plain(maps=np.zeros((2,) + SHAPE), haadf=np.full(SHAPE, 7.0))
    solution = run(problem, tolerance=1e-5, max_iterations=2000)
    # The brighter element alone explains it: w x - t = -noise^2 / w.
    np.testing.assert_allclose(solution.maps[0], 5 - 0.2**2, rtol=1e-3)
    np.testing.assert_allclose(solution.maps[1], 0, atol=1e-3)


@pytest.mark.parametrize("forward, regularization", FORMS)
@pytest.mark.parametrize("tolerance", [0, 1e-4])
def test_no_iterations_return_the_start(forward, regularization, tolerance):
    problem = plain(forward=forward, regularization=regularization)
    initial = np.random.default_rng(1).random(problem.maps.shape)
    solution = run(problem, max_iterations=0, initial=initial, tolerance=tolerance)
    assert solution.iterations == 0 and not solution.converged
    np.testing.assert_allclose(solution.maps, initial, rtol=1e-6)
    assert len(solution.history["iteration"]) == 1
    if forward == "linear":
        measured = run(problem, max_iterations=0)
        np.testing.assert_allclose(measured.maps, problem.maps)


def test_negative_start_is_cut_at_zero():
    problem = plain()
    initial = np.random.default_rng(1).normal(size=problem.maps.shape)
    solution = run(problem, max_iterations=0, initial=initial)
    np.testing.assert_allclose(solution.maps, np.maximum(initial, 0), rtol=1e-6)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("iterations", [1, 7, 33])
def test_tolerance_0_means_exactly_max_iterations(regularization, iterations):
    calls = []
    solution = run(
        plain(regularization=regularization),
        tolerance=0,
        max_iterations=iterations,
        callback=lambda *call: calls.append(call),
    )
    assert solution.iterations == iterations
    # No gap is computed before the end.
    np.testing.assert_array_equal(solution.history["iteration"], [iterations])
    assert [call[:2] for call in calls] == [(iterations, iterations)]


@pytest.mark.parametrize("iterations", [1, 7, 33])
def test_tolerance_0_means_exactly_max_iterations_for_the_power_model(iterations):
    solution = run(plain(forward="power"), tolerance=0, max_iterations=iterations)
    assert solution.iterations == iterations


@pytest.mark.parametrize("forward", ["linear", "power"])
@pytest.mark.parametrize("iterations", [1, 19, 20, 21, 50])
def test_never_more_than_max_iterations(forward, iterations):
    solution = run(plain(forward=forward), tolerance=1e-12, max_iterations=iterations)
    assert solution.iterations <= iterations
    assert solution.history["iteration"][-1] == solution.iterations


def test_history_and_callback_tell_of_every_check():
    calls = []
    solution = run(plain(), tolerance=1e-5, callback=lambda *call: calls.append(call))
    history = solution.history
    assert list(history) == ["iteration", "haadf", "chem", "tv", "total", "gap"]
    assert [call[0] for call in calls] == list(history["iteration"])
    assert (np.diff(history["iteration"]) > 0).all() and history["iteration"][0] == 0
    np.testing.assert_allclose(
        history["total"], history["haadf"] + history["chem"] + history["tv"], rtol=1e-10
    )
    assert calls[-1][2] == pytest.approx(solution.relative_gap)
    assert solution.converged and solution.relative_gap <= 1e-5
    assert solution.iterations == history["iteration"][-1]


@pytest.mark.parametrize("forward", ["linear", "power"])
def test_an_exception_of_the_callback_ends_the_solve(forward):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    with pytest.raises(Stopped):
        solve(plain(forward=forward), callback=stop, num_workers=2)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_a_tolerance_out_of_reach_gives_no_warnings(regularization):
    """Single precision ends the fall of the gap; that is not an error of the caller's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dose in (1.0, 30.0):
            problem = plain(regularization=regularization)
            problem = replace(problem, maps=np.round(dose * problem.maps))
            solution = run(problem, tolerance=1e-12, max_iterations=4000)
            assert not solution.converged


BAD_PROBLEMS = [
    ("maps", np.zeros((4, 5)), "shape"),
    ("maps", np.zeros((0, 12, 10)), "shape"),
    ("maps", np.zeros((2, 0, 10)), "shape"),
    ("maps", np.full((2,) + SHAPE, np.nan), "finite"),
    ("maps", np.full((2,) + SHAPE, np.inf), "finite"),
    ("maps", -np.ones((2,) + SHAPE), "negative"),
    ("haadf", np.zeros((10, 12)), "shape"),
    ("haadf", np.zeros((1,) + SHAPE), "shape"),
    ("haadf", np.full(SHAPE, np.nan), "finite"),
    ("weights", None, "weights must be given"),
    ("weights", [1.0, 2.0, 3.0], "2 numbers"),
    ("weights", [1.0, -1.0], "negative"),
    ("weights", [1.0, np.nan], "finite"),
    ("weights", [1.0, np.inf], "finite"),
    ("haadf_offset", np.nan, "finite"),
    ("haadf_offset", np.inf, "finite"),
    ("haadf_noise", 0.0, "positive"),
    ("haadf_noise", -1.0, "positive"),
    ("haadf_noise", np.nan, "positive"),
    ("haadf_noise", np.ones(10), "shape"),
    ("fidelity", "gauss", "gauss"),
    ("fidelity", ("poisson",), "2"),
    ("fidelity", ("poisson", "laplace"), "laplace"),
    ("fidelity", None, "fidelity"),
    ("fidelity", 3, "fidelity"),
    ("background", -0.1, "negative"),
    ("background", [0.1, 0.2, 0.3], "2 numbers"),
    ("background", np.nan, "finite"),
    ("background", np.zeros(SHAPE), "shape"),
    ("noise", -1.0, "negative"),
    ("noise", np.nan, "finite"),
    ("noise", np.ones((3, 1, 1)), "shape"),
    ("lambda_haadf", -1.0, "negative"),
    ("lambda_haadf", np.nan, "finite"),
    ("lambda_haadf", np.inf, "finite"),
    ("lambda_chem", 0.0, "positive"),
    ("lambda_chem", -1.0, "negative"),
    ("lambda_chem", np.nan, "finite"),
    ("lambda_tv", -0.1, "negative"),
    ("lambda_tv", [0.1, 0.2, 0.3], "2 numbers"),
    ("lambda_tv", np.nan, "finite"),
    ("lambda_tv", np.inf, "finite"),
    ("regularization", "tgv2", "tgv2"),
    ("regularization", None, "None"),
    ("regularization_weights", -np.ones((2,) + SHAPE), "negative"),
    ("regularization_weights", np.ones(SHAPE), "shape"),
    ("regularization_weights", np.full((2,) + SHAPE, np.nan), "finite"),
    ("guide", np.zeros((2, 10, 12)), "shape"),
    ("guide", np.zeros(SHAPE), "shape"),
    ("guide", np.ones((2,) + SHAPE), "longer than 1"),
    ("guide", np.full((2,) + SHAPE, np.nan), "finite"),
    ("forward", "quadratic", "quadratic"),
    ("gamma", 0.9, "0.9"),
    ("gamma", 2.6, "2.6"),
    ("gamma", np.nan, "nan"),
]


@pytest.mark.parametrize("name, value, told", BAD_PROBLEMS)
def test_bad_arguments_of_the_problem_are_named(name, value, told):
    with pytest.raises(ValueError, match=name) as error:
        plain(**{name: value})
    assert told in str(error.value)


def test_gaussian_noise_of_zero_is_refused():
    with pytest.raises(ValueError, match="noise must be positive"):
        plain(fidelity="gaussian", noise=0.0)
    with pytest.raises(ValueError, match="noise must be positive"):
        plain(fidelity=("poisson", "gaussian"), noise=[0.0, 0.0])
    # Poisson maps have no use for it.
    plain(fidelity=("poisson", "gaussian"), noise=[0.0, 1.0])


def test_a_background_of_gaussian_maps_is_refused():
    with pytest.raises(ValueError, match="background must be 0 for Gaussian maps.*0.5 in map 1"):
        plain(fidelity=("poisson", "gaussian"), background=0.5)
    plain(fidelity=("poisson", "gaussian"), background=[0.5, 0.0])


def test_negative_maps_are_allowed_where_gaussian():
    maps = np.stack([np.ones(SHAPE), -np.ones(SHAPE)])
    plain(maps=maps, fidelity=("poisson", "gaussian"))
    with pytest.raises(ValueError, match=r"maps\[1\] has negative values"):
        plain(maps=maps, fidelity=("gaussian", "poisson"))


BAD_SOLVES = [
    ("tolerance", -1e-3),
    ("tolerance", np.nan),
    ("tolerance", np.inf),
    ("max_iterations", -1),
    ("max_iterations", 1.5),
    ("max_iterations", np.nan),
    ("max_iterations", np.inf),
    ("num_workers", 0),
    ("num_workers", -1),
    ("num_workers", 1.5),
    ("initial", np.zeros(SHAPE)),
    ("initial", np.zeros((2, 10, 12))),
    ("initial", np.full((2,) + SHAPE, np.nan)),
    ("initial", np.full((2,) + SHAPE, np.inf)),
    ("initial", "best"),
    ("method", "newton"),
]


@pytest.mark.parametrize("name, value", BAD_SOLVES)
@pytest.mark.parametrize("forward", ["linear", "power"])
def test_bad_arguments_of_solve_are_named(name, value, forward):
    with pytest.raises(ValueError, match=name):
        solve(plain(forward=forward), **{name: value})


@pytest.mark.parametrize(
    "other",
    [
        {"regularization": "tgv"},
        {"shape": (10, 12)},
        {"elements": 3},
        {"shape": (24, 5)},
    ],
)
def test_a_state_of_another_problem_is_refused(other):
    state = solve(plain(), max_iterations=3, num_workers=1).state
    with pytest.raises(ValueError, match="state"):
        solve(plain(**other), state=state)


def test_a_state_of_as_many_planes_but_another_regularization_is_refused():
    """8 elements of TV and 3 of TGV both take 25 planes."""
    state = solve(plain(elements=8), max_iterations=3, num_workers=1).state
    with pytest.raises(ValueError, match="state"):
        solve(plain(elements=3, regularization="tgv"), state=state)


def test_objective_of_maps_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="x must have the shape"):
        plain().objective(np.zeros((2, 10, 12)))


def test_objective_is_infinite_where_counts_meet_a_map_of_zero():
    problem = plain(maps=single)
    assert problem.objective(np.zeros((2,) + SHAPE))["total"] == np.inf
    assert np.isfinite(problem.objective(single)["total"])


def test_a_problem_cannot_be_changed():
    problem = plain()
    with pytest.raises(AttributeError):
        problem.lambda_tv = 1.0
