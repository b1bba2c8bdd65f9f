"""The joint proximal map and the dual projections against generic minimisers."""

from typing import NamedTuple

import numpy as np
import pytest
from reference import joint_prox
from scipy.optimize import brentq, minimize
from test_tile_engine import make_steps

from hyperspy_fusedmm.solver._rows import (
    GAUSSIAN,
    POISSON,
    Data,
    StepFields,
    curvature_ascent,
    guided_slope_ascent,
    joint_prox_row,
    slope_ascent,
)

ONE = np.float32(1)
NEWTON_STEPS = 100
PIXELS = 60
ROUNDING = float(np.finfo(np.float32).eps)


class Pixels(NamedTuple):
    """Independent proximal problems side by side; (E, N) or (N,), float32."""

    forward: np.ndarray
    counts: np.ndarray
    spread: np.ndarray  # background of Poisson, 1 / noise^2 of Gaussian elements
    weights: np.ndarray
    step: np.ndarray
    chem: np.ndarray
    loss: np.ndarray  # slope of the Poisson likelihood, times chem
    target: np.ndarray
    rho: np.ndarray
    residual: np.ndarray  # where Newton's method starts

    def at(self, k):
        return Pixels(*(a[..., k].astype(float) for a in self))


def random_pixels(fidelity, background, seed=0, scale=1.0):
    """Maps of the order of ``scale``, with all the special values there can be among them."""
    rng = np.random.default_rng(seed)
    gaussian = np.asarray(fidelity) == GAUSSIAN
    shape = (len(fidelity), PIXELS)
    counts = rng.poisson(rng.choice([0.1, 2.0, 30.0], shape)) * scale
    counts[rng.random(shape) < 0.3] = 0
    spread = background * scale * rng.random(shape)
    spread[gaussian] = rng.uniform(0.1, 3, spread[gaussian].shape) / scale**2
    weights = 10 ** rng.uniform(-2, 0.5, shape) / scale
    weights[rng.random(shape) < 0.2] = 0
    # Scaled with the maps so that the terms of the objective keep their proportions.
    chem = np.broadcast_to(rng.uniform(0.5, 2, (len(fidelity), 1)), shape).copy()
    chem[~gaussian] /= scale
    loss = chem * rng.uniform(0.3, 2, (len(fidelity), 1))
    step = 10 ** rng.uniform(-1.5, 1.5, shape) * scale**2
    forward = scale * rng.normal(2, 4, shape)
    target = rng.normal(2, 4, PIXELS)
    rho = 10 ** rng.uniform(-2, 2, PIXELS)
    rho[rng.random(PIXELS) < 0.1] = 0
    residual = rng.choice([0.0, 1.0, -50.0, 50.0], PIXELS) * rho
    arrays = forward, counts, spread, weights, step, chem, loss, target, rho, residual
    return Pixels(*(np.ascontiguousarray(a, dtype=np.float32) for a in arrays))


def run_kernel(pixels, fidelity, relaxation=1.0, before=None):
    """Prox points (E, N), r (N) and extrapolated maps (E, N) from the kernel."""
    elements, columns = pixels.forward.shape
    row = np.ones((elements, 1, columns), np.float32)
    nothing = dict.fromkeys(Data._fields, np.zeros((0, 1, 1), np.float32))
    given = {
        "counts": pixels.counts[:, None],
        "spread": pixels.spread[:, None],
        "strength": row,
        "weights": pixels.weights[:, None],
        "target": pixels.target[None, None],
        "rho": pixels.rho[None, None],
    }
    steps = make_steps(elements, fidelity, newton=NEWTON_STEPS)._replace(
        chem=pixels.chem[:, 0].copy(), slope=pixels.loss[:, 0].copy()
    )
    fields = StepFields(**dict.fromkeys(StepFields._fields, row))._replace(prox=pixels.step[:, None])
    x = (0 * pixels.forward if before is None else before)[:, None].copy()
    r, bar = pixels.residual[None, None].copy(), np.zeros_like(pixels.forward[None])
    joint_prox_row(
        Data(**(nothing | given)), steps, fields, np.float32(relaxation), 0, 0, columns,
        pixels.forward[None].copy(), np.zeros((1, 8, columns), np.float32), r, x, bar, 0,
    )  # fmt: skip
    return x[:, 0].astype(float), r[0, 0].astype(float), bar[0].astype(float)


def element_at(r, pixel, e, fidelity):
    """Minimiser of one element's part at a given r, before it is cut at 0, and -dx/dr."""
    f, b, s, w, tau, chem, loss, *_ = (a[e] if np.ndim(a) else a for a in pixel)
    if fidelity == GAUSSIAN:
        pull = tau * chem * s
        return (f + pull * b - tau * w * r) / (1 + pull), tau * w / (1 + pull)
    # (x + eps)^2 - (x + eps) (f + eps - tau (loss + w r)) - tau chem b = 0
    linear = f + s - tau * (loss + w * r)
    root = np.hypot(linear, 2 * np.sqrt(tau * chem * b))
    # The one form of the larger root that does not cancel.
    z = (linear + root) / 2 if linear >= 0 else 2 * tau * chem * b / (root - linear)
    return z - s, tau * w * z / root if root > 0 else 0.0


def exact_prox(pixel, fidelity):
    """The prox from the root of r = rho (w'x(r) - t), found by bracketing."""

    def maps(r):
        found = [element_at(r, pixel, e, fidelity[e])[0] for e in range(len(fidelity))]
        return np.maximum(found, 0)

    def equation(r):
        return r - pixel.rho * (pixel.weights @ maps(r) - pixel.target)

    if pixel.rho == 0:
        return maps(0.0), 0.0
    low, high = -1.0, 1.0
    while equation(low) > 0:
        low *= 2
    while equation(high) < 0:
        high *= 2
    r = brentq(equation, low, high, xtol=1e-300, rtol=1e-14, maxiter=1000)
    return maps(r), r


def rounding_error(pixel, x, r, fidelity):
    """What single precision allows each map to be off by, from the error of every operation."""
    f, b, s, w, tau, chem, loss, target, rho, _ = pixel
    gaussian = np.asarray(fidelity) == GAUSSIAN
    pull = np.where(gaussian, tau * chem * s, 0)
    size = np.where(
        gaussian,
        (abs(f) + pull * b + tau * w * abs(r)) / (1 + pull),
        abs(f) + s + tau * (loss + w * abs(r)) + np.sqrt(tau * chem * b),
    )
    rates = np.array([element_at(r, pixel, e, fidelity[e])[1] for e in range(len(fidelity))])
    # Elements cut to 0 do not restore the balance of the equation, but may just come alive.
    equation = rho * (w @ (size + x) + abs(target)) / (1 + rho * (w * rates * (x > 0)).sum())
    return ROUNDING * (size + rates * (equation + abs(r)))


def prox_objective(x, pixel, fidelity):
    """What the prox minimises."""
    f, b, s, w, tau, chem, loss, target, rho, _ = pixel
    value = ((x - f) ** 2 / (2 * tau)).sum() + 0.5 * rho * (w @ x - target) ** 2
    for e in range(len(x)):
        if fidelity[e] == GAUSSIAN:
            value += chem[e] * 0.5 * s[e] * (x[e] - b[e]) ** 2
        else:
            value += loss[e] * x[e] - (chem[e] * b[e] * np.log(x[e] + s[e]) if b[e] > 0 else 0.0)
    return value


def prox_slope(x, pixel, fidelity):
    """Derivative of `prox_objective` with respect to every map."""
    f, b, s, w, tau, chem, loss, target, rho, _ = pixel
    slope = (x - f) / tau + w * rho * (w @ x - target)
    with np.errstate(divide="ignore", invalid="ignore"):
        poisson = loss - chem * np.where(b > 0, b / (x + s), 0)
    return slope + np.where(np.asarray(fidelity) == GAUSSIAN, chem * s * (x - b), poisson)


CASES = [
    pytest.param([POISSON], 0.0, id="one element"),
    pytest.param([POISSON] * 3, 0.0, id="poisson"),
    pytest.param([POISSON] * 3, 1.0, id="background"),
    pytest.param([GAUSSIAN] * 3, 0.0, id="gaussian"),
    pytest.param([POISSON, GAUSSIAN, POISSON, GAUSSIAN], 0.5, id="mixed"),
]


@pytest.mark.parametrize("fidelity, background", CASES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_kernel_finds_the_exact_prox(fidelity, background, scale):
    pixels = random_pixels(fidelity, background, scale=scale)
    found, r, _ = run_kernel(pixels, fidelity)
    assert np.isfinite(found).all() and np.isfinite(r).all() and (found >= 0).all()
    for k in range(PIXELS):
        pixel = pixels.at(k)
        expected, residual = exact_prox(pixel, fidelity)
        allowed = 4 * rounding_error(pixel, expected, residual, fidelity)
        assert (np.abs(found[:, k] - expected) <= allowed).all(), (k, found[:, k], expected)


@pytest.mark.parametrize("fidelity, background", CASES)
def test_the_root_of_the_scalar_equation_is_the_generic_minimum(fidelity, background):
    """Ties the equation for r, and the NumPy reference, to the objective itself."""
    pixels = random_pixels(fidelity, background, seed=1)
    double = [a.astype(float) for a in pixels]
    f, b, s, w, tau, chem, loss, target, rho, residual = double
    reference, _ = joint_prox(f, b, s, w, target, rho, fidelity, chem, loss, tau, residual)
    for k in range(0, PIXELS, 3):
        pixel = pixels.at(k)
        exact, _ = exact_prox(pixel, fidelity)
        np.testing.assert_allclose(reference[:, k], exact, rtol=1e-8, atol=1e-9)
        lowest = np.where((pixel.counts > 0) & (pixel.spread == 0), 1e-12, 0)
        generic = minimize(
            prox_objective,
            np.maximum(pixel.forward, 1.0),
            args=(pixel, fidelity),
            jac=prox_slope,
            method="L-BFGS-B",
            bounds=[(low, None) for low in lowest],
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000, "maxfun": 50000},
        )
        least = prox_objective(np.maximum(exact, lowest), pixel, fidelity)
        assert least <= generic.fun + 1e-9 * (1 + abs(generic.fun))
        np.testing.assert_allclose(exact, generic.x, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("fidelity, background", CASES)
def test_optimality_conditions_hold_at_the_prox(fidelity, background):
    """The slope is 0 where x > 0, and not negative where x = 0."""
    pixels = random_pixels(fidelity, background, seed=2)
    for k in range(PIXELS):
        pixel = pixels.at(k)
        exact, _ = exact_prox(pixel, fidelity)
        slope = prox_slope(exact, pixel, fidelity)
        size = np.abs(pixel.forward / pixel.step) + pixel.chem * pixel.counts
        size += pixel.loss + pixel.chem
        size += pixel.weights * pixel.rho * (np.abs(pixel.target) + pixel.weights @ exact)
        alive = exact > 0
        assert (np.abs(slope) <= 1e-6 * size)[alive].all()
        assert (slope >= -1e-6 * size)[~alive].all()


@pytest.mark.parametrize("fidelity, background", CASES)
def test_the_start_of_newtons_method_does_not_matter(fidelity, background):
    pixels = random_pixels(fidelity, background, seed=3)
    first, r, _ = run_kernel(pixels, fidelity)
    for start in (-1e4, 0.0, 1e4):
        other, _, _ = run_kernel(
            pixels._replace(residual=np.full(PIXELS, start, np.float32)), fidelity
        )
        for k in range(PIXELS):
            allowed = 8 * rounding_error(pixels.at(k), first[:, k], r[k], fidelity)
            assert (np.abs(other[:, k] - first[:, k]) <= allowed).all()


@pytest.mark.parametrize("fidelity", [[POISSON], [GAUSSIAN]])
def test_without_a_haadf_image_each_element_is_on_its_own(fidelity):
    pixels = random_pixels(fidelity * 3, 0.3, seed=4)
    alone = pixels._replace(rho=np.zeros(PIXELS, np.float32))
    other = pixels._replace(weights=np.zeros_like(pixels.weights))
    found = run_kernel(alone, fidelity * 3)[0]
    np.testing.assert_allclose(run_kernel(other, fidelity * 3)[0], found, rtol=1e-5, atol=1e-5)
    for e in range(3):
        one = Pixels(*(a[e : e + 1] if a.ndim == 2 else a for a in alone))
        np.testing.assert_array_equal(run_kernel(one, fidelity)[0][0], found[e])


def test_without_counts_and_background_the_prox_is_a_shift():
    pixels = random_pixels([POISSON], 0.0, seed=5)
    pixels = pixels._replace(counts=0 * pixels.counts, rho=0 * pixels.rho)
    expected = np.maximum(pixels.forward - pixels.step * pixels.loss, 0)
    np.testing.assert_allclose(run_kernel(pixels, [POISSON])[0], expected, rtol=1e-6, atol=1e-6)


def test_counts_are_their_own_prox():
    """Where the HAADF image agrees with them too, nothing pulls the maps away."""
    pixels = random_pixels([POISSON] * 3, 0.0, seed=6)
    counts = np.maximum(pixels.counts, 1)
    pixels = pixels._replace(
        counts=counts, forward=counts, loss=pixels.chem, target=(pixels.weights * counts).sum(axis=0)
    )
    found, r, _ = run_kernel(pixels, [POISSON] * 3)
    np.testing.assert_allclose(found, counts, rtol=1e-4)
    assert (np.abs(r) <= 1e-4 * (1 + pixels.rho * np.abs(pixels.target))).all()


def test_a_precise_haadf_image_is_obeyed():
    pixels = random_pixels([POISSON] * 2, 0.0, seed=7)
    pixels = pixels._replace(
        weights=np.ones_like(pixels.weights),
        target=np.float32(5) + np.abs(pixels.target),
        rho=np.full(PIXELS, 1e6, np.float32),
    )
    found, _, _ = run_kernel(pixels, [POISSON] * 2)
    np.testing.assert_allclose(found.sum(axis=0), pixels.target, rtol=1e-3)


def test_over_relaxation_and_extrapolation():
    fidelity = [POISSON, GAUSSIAN]
    pixels = random_pixels(fidelity, 0.2, seed=8)
    before = np.abs(pixels.forward) + ONE
    point, r, bar = run_kernel(pixels, fidelity, 1.0, before)
    relaxed, r_relaxed, bar_relaxed = run_kernel(pixels, fidelity, 1.7, before)
    np.testing.assert_allclose(bar, 2 * point - before, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(relaxed, before + 1.7 * (point - before), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(bar_relaxed, bar)
    np.testing.assert_array_equal(r_relaxed, r)


def project(fields, strength):
    """Project a row of vectors through the kernel: a dual step of length 0."""
    p = fields.astype(np.float32).copy()
    zero = np.zeros(p.shape[1], np.float32)
    slope_ascent(zero, zero, zero, strength.astype(np.float32), zero, ONE, p[0], p[1])
    return p


@pytest.fixture
def vectors():
    rng = np.random.default_rng(9)
    vectors = 10 ** rng.uniform(-6, 4, 200) * rng.normal(size=(2, 200))
    strength = 10 ** rng.uniform(-4, 3, 200)
    vectors[:, ::17] = 0
    strength[::13] = 0
    return vectors.astype(np.float32), strength.astype(np.float32)


def test_dual_projection_is_the_projection(vectors):
    fields, strength = vectors
    projected = project(fields, strength)
    norm = np.hypot(*fields.astype(float))
    factor = np.minimum(1, strength / np.maximum(norm, 1e-300))
    # The step p + (projection - p) rounds on the scale of p.
    assert (np.abs(projected - fields * factor) <= 4 * ROUNDING * norm).all()
    assert (np.hypot(*projected.astype(float)) <= strength + 4 * ROUNDING * norm).all()
    inside = norm <= strength * (1 - 1e-6)
    np.testing.assert_array_equal(projected[:, inside], fields[:, inside])


def test_dual_projection_is_idempotent(vectors):
    fields, strength = vectors
    once = project(fields, strength)
    norm = np.hypot(*fields.astype(float))
    assert (np.abs(project(once, strength) - once) <= 4 * ROUNDING * norm).all()


def test_moreau_identity(vectors):
    """z = prox of strength |.| at z + projection of z on the ball of that radius."""
    fields, strength = vectors
    rest = fields - project(fields, strength)
    norm = np.hypot(*fields.astype(float))
    shrunk = fields * np.maximum(1 - strength / np.maximum(norm, 1e-300), 0)
    np.testing.assert_allclose(rest, shrunk, rtol=1e-3, atol=1e-6 * norm.max())
    for k in range(0, 200, 20):
        z, radius = fields[:, k].astype(float), float(strength[k])
        scale = np.hypot(*z) + 1e-12
        generic = minimize(
            lambda u: 0.5 * ((u - z / scale) ** 2).sum() + radius / scale * np.hypot(*u),
            z / scale,
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 2000},
        )
        np.testing.assert_allclose(rest[:, k] / scale, generic.x, atol=1e-4)


def test_dual_step_without_a_guide_is_the_guided_one_with_none(vectors):
    fields, strength = vectors
    rng = np.random.default_rng(10)
    here, right, below = rng.normal(size=(3, 200)).astype(np.float32)
    step = rng.uniform(0.1, 2, 200).astype(np.float32)
    plain, guided = fields.copy(), fields.copy()
    none = np.zeros(200, np.float32)
    slope_ascent(here, right, below, strength, step, np.float32(1.6), *plain)
    guided_slope_ascent(
        here, right, below, none, none, strength, step, np.float32(1.6), *guided
    )  # fmt: skip
    np.testing.assert_array_equal(plain, guided)
    point = fields + step * np.stack([right - here, below - here])
    expected = fields + 1.6 * (project(point, strength) - fields)
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-3)


def test_curvature_projection_is_on_the_ball_of_its_own_radius():
    rng = np.random.default_rng(11)
    q = (10 ** rng.uniform(-2, 2, 100) * rng.normal(size=(3, 100))).astype(np.float32)
    strength = rng.uniform(0, 5, 100).astype(np.float32)
    zero = np.zeros(100, np.float32)
    once = q.copy()
    arguments = (zero,) * 6 + (strength, np.float32(2), zero, ONE)
    curvature_ascent(*arguments, *once)
    norm = np.sqrt((q.astype(float) ** 2).sum(axis=0))
    expected = q * np.minimum(1, 2 * strength / np.maximum(norm, 1e-300))
    assert (np.abs(once - expected) <= 4 * ROUNDING * norm).all()
    twice = once.copy()
    curvature_ascent(*arguments, *twice)
    assert (np.abs(twice - once) <= 4 * ROUNDING * norm).all()
