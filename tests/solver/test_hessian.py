"""Per-pixel variances: against generic inverses and differences of the objective."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, hessian_covariance, hessian_variance

SHAPE = (3, 7, 9)


def make_problem(forward="linear", fidelity="poisson", seed=0, **options):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 6.0, SHAPE)
    counts = rng.poisson(truth) + 1.0
    counted = np.broadcast_to(fidelity, 3) == "poisson"
    weights = np.array([0.3, 0.0, 0.7]) if forward == "linear" else np.array([0.3, 0.5, 0.7])
    settings = {
        "weights": weights,
        "haadf_offset": 0.4,
        "haadf_noise": rng.uniform(0.1, 0.5, SHAPE[1:]),
        "background": rng.uniform(0.0, 1.0, SHAPE) * counted[:, None, None],
        "noise": rng.uniform(0.5, 1.0, 3),
        "lambda_haadf": 0.8,
        "lambda_chem": 1.3,
        "fidelity": fidelity,
        "forward": forward,
    }
    settings.update(options)
    problem = FusionProblem(counts, np.zeros(SHAPE[1:]), **settings)
    # An image without misfit: there the Hessian of the power model is that of Gauss and Newton.
    settings.pop("fidelity"), settings.pop("forward")
    haadf = problem.haadf_model(truth)
    return FusionProblem(counts, haadf, fidelity=fidelity, forward=forward, **settings), truth


def expected_information(problem, x, r, c):
    """The block of one pixel, written out."""
    slope = problem.weights.copy()
    if problem.forward == "power":
        slope = slope * problem.gamma * (slope * x[:, r, c]) ** (problem.gamma - 1)
    noise = np.broadcast_to(problem.haadf_noise, x.shape[1:])[r, c]
    block = problem.lambda_haadf / noise**2 * np.outer(slope, slope)
    for e, fidelity in enumerate(problem.fidelity):
        spread = problem.background if fidelity == "poisson" else problem.noise
        level = np.broadcast_to(spread, x.shape)[e, r, c]
        curvature = 1 / (x[e, r, c] + level) if fidelity == "poisson" else 1 / level**2
        block[e, e] += problem.lambda_chem * curvature
    return block


def numeric_hessian(problem, x, r, c, step=1e-3):
    """Second differences of HAADF term and likelihood with the maps of one pixel."""

    def value(change):
        moved = x.copy()
        moved[:, r, c] += change
        terms = problem.objective(moved)
        return terms["haadf"] + terms["chem"]

    units = step * np.eye(len(x))
    return np.array(
        [
            [
                (value(a + b) - value(a - b) - value(b - a) + value(-a - b)) / (4 * step**2)
                for b in units
            ]
            for a in units
        ]
    )


FORWARD = pytest.mark.parametrize("forward", ["linear", "power"])
FIDELITY = pytest.mark.parametrize(
    "fidelity", ["poisson", "gaussian", ("poisson", "gaussian", "poisson")]
)


@FORWARD
@FIDELITY
def test_expected_covariance_is_the_inverse_of_the_block(forward, fidelity):
    problem, x = make_problem(forward, fidelity)
    covariance = hessian_covariance(problem, x, "expected")
    variance = hessian_variance(problem, x, "expected")
    for r, c in np.ndindex(SHAPE[1:]):
        inverse = np.linalg.inv(expected_information(problem, x, r, c))
        np.testing.assert_allclose(covariance[:, :, r, c], inverse, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance[:, r, c], np.diag(inverse), rtol=1e-5)


@FORWARD
@FIDELITY
def test_observed_covariance_is_the_inverse_of_the_objectives_hessian(forward, fidelity):
    problem, x = make_problem(forward, fidelity, lambda_tv=0.0)
    covariance = hessian_covariance(problem, x)
    for r, c in [(0, 0), (3, 4), (6, 8), (2, 7)]:
        inverse = np.linalg.inv(numeric_hessian(problem, x, r, c))
        np.testing.assert_allclose(covariance[:, :, r, c], inverse, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("information", ["observed", "expected"])
def test_the_variance_of_a_poisson_mean_is_its_mean(information):
    counts = np.random.default_rng(1).poisson(4.0, SHAPE) + 1.0
    problem = FusionProblem(counts, background=0.5)
    # Without regularization the estimate is what was counted less the background.
    np.testing.assert_allclose(
        hessian_variance(problem, counts - 0.5, information), counts, rtol=1e-6
    )


def test_the_variance_of_a_gaussian_map_is_that_of_its_noise():
    maps = np.random.default_rng(1).normal(size=SHAPE)
    noise = np.array([0.5, 2.0, 3.0])
    variance = hessian_variance(
        FusionProblem(maps, fidelity="gaussian", noise=noise), np.zeros(SHAPE)
    )
    assert (variance == np.float32(noise[:, None, None] ** 2)).all()


def test_one_element_without_counts_is_known_from_the_image():
    problem, x = make_problem()
    problem.maps[0] = 0.0
    block = expected_information(problem, x, 2, 3)
    for e in range(3):
        mean = x[e, 2, 3] + problem.background[e, 2, 3]
        block[e, e] += problem.lambda_chem * (problem.maps[e, 2, 3] / mean**2 - 1 / mean)
    covariance = hessian_covariance(problem, x)[:, :, 2, 3]
    np.testing.assert_allclose(covariance, np.linalg.inv(block), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("empty", [(1,), (0, 2), (0, 1, 2)])
def test_where_the_observed_information_is_singular_the_expected_takes_its_place(empty):
    problem, x = make_problem()
    problem.maps[list(empty), 3] = 0.0
    observed = hessian_covariance(problem, x)
    expected = hessian_covariance(problem, x, "expected")
    np.testing.assert_array_equal(observed[:, :, 3], expected[:, :, 3])
    assert (observed[:, :, 4] != expected[:, :, 4]).any()


@FORWARD
@pytest.mark.parametrize("background", [0.0, 0.2])
def test_no_counts_at_all_gives_finite_numbers(forward, background):
    counts = np.zeros(SHAPE)
    problem = FusionProblem(
        counts, np.zeros(SHAPE[1:]), weights=np.ones(3), background=background, forward=forward
    )
    covariance = hessian_covariance(problem, counts)
    assert np.isfinite(covariance).all() and (hessian_variance(problem, counts) >= 0).all()


def test_pixels_the_image_leaves_out_have_the_variance_of_the_counts():
    problem, x = make_problem(haadf_noise=np.full(SHAPE[1:], np.inf), lambda_chem=1.0)
    np.testing.assert_allclose(
        hessian_variance(problem, x, "expected"), x + problem.background, rtol=1e-6
    )


@FORWARD
def test_the_image_never_adds_to_the_variance(forward):
    problem, x = make_problem(forward)
    without = FusionProblem(
        problem.maps, background=problem.background, lambda_chem=problem.lambda_chem
    )
    for information in ("observed", "expected"):
        with_image = hessian_variance(problem, x, information)
        assert (with_image <= hessian_variance(without, x, information) * (1 + 1e-6)).all()


def test_wrong_arguments_are_named():
    problem, x = make_problem()
    with pytest.raises(ValueError, match="maps must have the shape"):
        hessian_variance(problem, x[:, 1:])
    with pytest.raises(ValueError, match="information must be one of"):
        hessian_variance(problem, x, "both")
