"""Difference operators: adjoints, independent matrices, and known values of TV and TGV."""

import numpy as np
import pytest
from scipy.sparse import diags, eye, kron

from hyperspy_fusedmm.solver import FusionProblem
from hyperspy_fusedmm.solver.generalized_variation import generalized_variation
from hyperspy_fusedmm.solver.operators import (
    adjoint_gradient,
    adjoint_symmetrized_gradient,
    gradient,
    remove_guided,
    symmetrized_gradient,
)
from hyperspy_fusedmm.solver.problem import CURVATURE_RATIO

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 7), (7, 1), (2, 2), (2, 3), (3, 2), (3, 3), (5, 8), (13, 4)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def inner(a, b):
    return float((a * b).sum())


def forward_matrix(size):
    """Forward difference along one axis, zero in its last entry."""
    inside = np.append(np.ones(size - 1), 0.0)
    return diags(-inside) + diags(inside[:-1], 1, shape=(size, size))


def some_guide(shape, largest=0.95, seed=0):
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi, shape)
    return generator.uniform(0, largest, shape) * np.stack([np.cos(angle), np.sin(angle)])


def regularization(image, kind, guide=None, strength=1.0):
    """The regularization term of the objective at one image."""
    problem = FusionProblem(
        np.zeros((1,) + image.shape),
        fidelity="gaussian",
        lambda_tv=strength,
        regularization=kind,
        guide=guide,
    )
    return problem.objective(image[None])["regularization"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("leading", [(), (3,)])
def test_gradient_and_its_adjoint_are_adjoint(rng, shape, leading):
    image = rng.normal(size=leading + shape)
    field = rng.normal(size=leading + (2,) + shape)
    assert inner(gradient(image), field) == pytest.approx(
        inner(image, adjoint_gradient(field)), rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("leading", [(), (3,)])
def test_symmetrized_gradient_and_its_adjoint_are_adjoint(rng, shape, leading):
    field = rng.normal(size=leading + (2,) + shape)
    matrix = rng.normal(size=leading + (3,) + shape)
    assert inner(symmetrized_gradient(field), matrix) == pytest.approx(
        inner(field, adjoint_symmetrized_gradient(matrix)), rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_removing_the_guided_component_is_self_adjoint(rng, shape):
    guide = some_guide(shape)
    first, second = rng.normal(size=(2, 2) + shape)
    assert inner(remove_guided(first, guide), second) == pytest.approx(
        inner(first, remove_guided(second, guide)), rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_kronecker_matrix(rng, shape):
    image = rng.normal(size=shape)
    columns = kron(eye(shape[0]), forward_matrix(shape[1])) @ image.ravel()
    rows = kron(forward_matrix(shape[0]), eye(shape[1])) @ image.ravel()
    np.testing.assert_allclose(gradient(image).reshape(2, -1), [columns, rows], atol=1e-14)


def test_symmetrized_gradient_is_the_formula(rng):
    field = rng.normal(size=(2, 6, 5))
    matrix = symmetrized_gradient(field)
    for r in range(6):
        for c in range(5):
            vx, vy = field
            xx = vx[r, c] - vx[r, c - 1] if 0 < c < 4 else 0.0
            yy = vy[r, c] - vy[r - 1, c] if 0 < r < 5 else 0.0
            xy = vx[r, c] - vx[r - 1, c] if r > 0 and c < 4 else 0.0
            yx = vy[r, c] - vy[r, c - 1] if c > 0 and r < 5 else 0.0
            # A symmetric matrix (xx, s; s, yy) with s = (xy + yx) / 2; its Frobenius norm
            # has s twice.
            expected = [xx, yy, np.sqrt(2) * (xy + yx) / 2]
            np.testing.assert_allclose(matrix[:, r, c], expected, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_operators_leave_their_input_and_its_type_alone(rng, shape):
    image = rng.normal(size=shape).astype(np.float32)
    before = image.copy()
    field = gradient(image)
    assert field.dtype == np.float32
    assert symmetrized_gradient(field).dtype == np.float32
    assert adjoint_gradient(field).dtype == np.float32
    assert adjoint_symmetrized_gradient(symmetrized_gradient(field)).dtype == np.float32
    np.testing.assert_array_equal(image, before)


def test_gradient_is_zero_across_the_border(rng):
    field = gradient(rng.normal(size=(4, 5)))
    assert not field[0, :, -1].any() and not field[1, -1].any()


def test_isotropic_tv_of_known_images():
    step = np.zeros((6, 8))
    step[:, 4:] = 2.5
    assert regularization(step, "tv") == pytest.approx(6 * 2.5)
    assert regularization(step.T, "tv") == pytest.approx(6 * 2.5)
    point = np.zeros((5, 5))
    point[2, 2] = 3.0
    # Left and upper neighbour see one difference each, the point itself both.
    assert regularization(point, "tv") == pytest.approx(3 * (2 + np.sqrt(2)))
    rows, columns = np.mgrid[:5, :7]
    # Both differences inside, one along the lower and the right border.
    assert regularization(3.0 * columns + 4.0 * rows, "tv") == pytest.approx(
        5 * (4 * 6) + 3 * 6 + 4 * 4
    )
    assert regularization(np.full((4, 4), 9.0), "tv") == 0


def test_forward_difference_tv_is_not_the_same_for_the_flipped_image():
    corner = np.zeros((5, 5))
    corner[:3, :3] = 1.0
    # The norm joins the differences of a pixel to its right and lower neighbours: at the corner
    # of this square they meet in one pixel, turned by half a turn they do not.
    assert regularization(corner, "tv") == pytest.approx(2 + 2 + np.sqrt(2))
    assert regularization(corner[::-1, ::-1], "tv") == pytest.approx(6)
    assert regularization(corner.T, "tv") == regularization(corner, "tv")


def test_guide_leaves_out_the_component_along_it():
    rows, columns = np.mgrid[:6, :7].astype(float)
    guide = np.zeros((2, 6, 7))
    guide[0] = np.sqrt(0.95)
    assert regularization(columns, "tv", guide) == pytest.approx(0.05 * 6 * 6)
    assert regularization(rows, "tv", guide) == pytest.approx(regularization(rows, "tv"))


@pytest.mark.parametrize("kind", ["tv", "tgv"])
def test_strength_and_pixel_weights_multiply_the_term(rng, kind):
    image = rng.normal(size=(1, 6, 5))
    options = {"fidelity": "gaussian", "regularization": kind}
    plain = FusionProblem(image, lambda_tv=1.0, **options).objective(image)["regularization"]
    strong = FusionProblem(
        image, lambda_tv=1.5, regularization_weights=np.full(image.shape, 2.0), **options
    )
    assert strong.objective(image)["regularization"] == pytest.approx(3 * plain, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("slopes", [(0.0, 0.0), (3.0, 0.0), (0.0, -2.0), (1.0, 0.37)])
def test_tgv_of_an_affine_image_is_zero_borders_included(shape, guided, slopes):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = 5.0 + slopes[0] * columns + slopes[1] * rows
    guide = some_guide(shape) if guided else None
    # Zero up to the rounding of the image's own differences.
    assert regularization(image, "tgv", guide) <= 1e-13 * np.abs(image).sum()


def test_tgv_of_known_images():
    rows, columns = np.mgrid[:8, :9].astype(float)
    # A step costs its height at every pixel along it: a slope field would pay for its own ends.
    step = 2.0 * (columns > 3)
    assert regularization(step, "tgv") == pytest.approx(8 * 2.0, rel=1e-5)
    # A kink costs the change of slope, here 1, in every row, times the ratio of the two terms.
    kink = np.maximum(columns - 4, 0)
    assert regularization(kink, "tgv") == pytest.approx(CURVATURE_RATIO * 8, rel=1e-5)


@pytest.mark.parametrize("guided", [False, True])
def test_tgv_is_at_most_tv_and_at_least_zero(guided):
    guide = some_guide((9, 7)) if guided else None
    for seed in range(3):
        image = np.random.default_rng(seed).normal(size=(9, 7))
        second = regularization(image, "tgv", guide)
        assert 0 < second <= regularization(image, "tv", guide)


def test_tgv_is_a_seminorm_that_does_not_see_affine_images(rng):
    image = rng.normal(size=(7, 6))
    rows, columns = np.mgrid[:7, :6]
    value = regularization(image, "tgv")
    assert regularization(-3 * image, "tgv") == pytest.approx(3 * value, rel=1e-5)
    assert regularization(image.T, "tgv") == pytest.approx(value, rel=1e-5)
    tilted = image + 2.0 * columns - rows + 11
    assert regularization(tilted, "tgv") == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("strengths", [(0.5, 2.0, 1.0), (0.5, 2.0, 0.0)])
def test_tgv_of_several_images_is_the_sum(rng, strengths):
    images = rng.normal(size=(3, 6, 7))
    strengths = np.array(strengths)[:, None, None]
    alone = sum(generalized_variation(images[k : k + 1], strengths[k : k + 1]) for k in range(3))
    assert generalized_variation(images, strengths) == pytest.approx(alone, rel=1e-5)
