"""The primal-dual iteration along one row of pixels.

Every kernel here works on contiguous float32 rows of one length, without branches that
depend on the pixel, so that the compiler vectorises it. The tile kernels of
`hyperspy_fusedmm.solver._tiles` put them together.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ._span import ring_span, span

FASTMATH = {"contract", "arcp", "afn", "nsz", "nnan", "ninf"}
# Without reference counting (``_nrt``): these kernels allocate nothing, and counting the
# references of every slice costs as much as the arithmetic on a row. Inlined, because a call
# hands over a hundred words, which on rows of 256 pixels costs a quarter of the time.
kernel = njit(
    nogil=True, cache=True, fastmath=FASTMATH, error_model="numpy", _nrt=False, forceinline=True
)

# As `kernel`, but called: for what is done once on a tile, or once on a row whatever the number of iterations. Inlined,
# it would be compiled again wherever it is called, which made the first fusion on a machine two minutes longer.
tile_kernel = njit(nogil=True, cache=True, fastmath=FASTMATH, error_model="numpy", _nrt=False)

# As `kernel`, but without leave (``arcp``) to replace a division by an approximate reciprocal
# and its refinement: processors divide beside the multiplications that bound these kernels.
division_kernel = njit(
    nogil=True, cache=True, fastmath=FASTMATH - {"arcp", "afn"}, error_model="numpy", _nrt=False,
    forceinline=True,
)  # fmt: skip

ZERO = np.float32(0)
QUARTER = np.float32(0.25)
HALF = np.float32(0.5)
ONE = np.float32(1)
SQRT_HALF = np.float32(np.sqrt(0.5))
TINY = np.float32(1e-30)
HUGE = np.float32(1e30)
BELOW_KINK = np.float32(1e-6)

POISSON, GAUSSIAN = 0, 1


class Data(NamedTuple):
    """What the maps are fitted to. (H or 1) marks arrays that may hold one row for all.

    While a tile is advanced, H is the number of places of a ring of rows.
    """

    counts: np.ndarray  # (E, H, W) measured maps
    spread: np.ndarray  # (E, H or 1, W) background eps (Poisson), 1 / noise^2 (Gaussian)
    strength: np.ndarray  # (E, H or 1, W) radius of the dual ball
    weights: np.ndarray  # (E, H or 1, W) HAADF intensity per unit of map
    target: np.ndarray  # (1, H, W) HAADF minus its offset
    rho: np.ndarray  # (1, H or 1, W) lambda_haadf / haadf_noise^2
    guide: np.ndarray  # (2, H, W) sqrt(s) xi, or (0, 1, 1) where unguided
    anchor: np.ndarray  # (E, H, W) centre of a proximal term, or (0, 1, 1)
    pull: np.ndarray  # (E, H, W) its curvature, or (0, 1, 1)
    reference: np.ndarray  # (1, H, W) image that the regularization is relative to, or (0, 1, 1)


class Steps(NamedTuple):
    """Constants of the iteration, one value per element where (E,)."""

    fidelity: np.ndarray  # (E,) int: POISSON or GAUSSIAN
    chem: np.ndarray  # (E,) weight of the likelihood
    slope: np.ndarray  # (E,) the same for the expected counts of Poisson elements
    reference_scale: np.ndarray  # (E,) multiple of the reference that costs no regularization
    balance: np.ndarray  # (E,) primal over dual step
    typical_strength: np.ndarray  # (E,) strength at which the balance is meant
    nearness: np.float32  # factor of the curvature of the proximal term
    curvature_ratio: np.float32  # strength of the curvature term of TGV over its slope term's
    slope_unit: np.float32  # expected size of the slope field of TGV over that of the maps
    relaxation: np.float32  # from 1 up to, but without, 2
    newton: int  # Newton steps of the prox


class StepFields(NamedTuple):
    """Step sizes at every pixel, (E, H or 1, W), where H is the number of places of a ring of rows."""

    primal: np.ndarray  # of x
    prox: np.ndarray  # of x, with the proximal term folded in
    dual: np.ndarray  # of p
    slope: np.ndarray  # of v (TGV)
    curvature: np.ndarray  # of q (TGV)
    scale: np.ndarray  # how much longer primal steps are for the strength at the pixel


@kernel
def forward_point(x, here, left, below, above, step, out):
    """x minus a step along the adjoint gradient (here - left + below - above) of the dual field."""
    for c in range(out.shape[0]):
        out[c] = x[c] + step[c] * (here[c] - left[c] + below[c] - above[c])


@kernel
def pull_to_anchor(out, anchor, pull, nearness, step):
    """Blend the forward point with the centre of the proximal term."""
    for c in range(out.shape[0]):
        share = step[c] * nearness * pull[c]
        out[c] += share / (ONE + share) * (anchor[c] - out[c])


@kernel
def subtract_multiple(scale, reference, out):
    for c in range(out.shape[0]):
        out[c] -= scale * reference[c]


@division_kernel
def divide(numerator, denominator):
    return numerator / denominator


@kernel
def poisson_response(
    forward, counts, eps, weight, step, chem, slope, residual, total, gain, kink
):
    """Add this element's HAADF intensity at a given ``residual``, and minus its derivative.

    The prox of a Poisson element is the positive root z = x + eps of the quadratic
    z^2 - 2 linear z - product = 0, cut at x = 0; the root is taken in the form that does not
    cancel. ``kink`` is raised to the residual, if it lies below the given one, at which an element
    without counts reaches 0.
    """
    for c in range(total.shape[0]):
        w, tau, r = weight[c], step[c], residual[c]
        reach = tau * w
        start = forward[c] - tau * slope
        linear = HALF * (forward[c] + eps[c] - tau * (slope + w * r))
        product = tau * chem * counts[c]
        square = linear * linear + (product + TINY)
        inverse_root = ONE / np.sqrt(square)
        large = abs(linear) + square * inverse_root
        z = large if linear >= ZERO else divide(product, large)
        x = max(z - eps[c], ZERO)
        gain[c] += HALF * w * reach * z * inverse_root if x > ZERO else ZERO
        total[c] += w * x
        end = divide(start, max(reach, TINY))
        kink[c] = end if (end < r) & (end > kink[c]) else kink[c]


@kernel
def poisson_update(
    forward, counts, eps, weight, step, chem, slope, residual, relaxation, x, extrapolated
):
    """Prox of one Poisson element: over-relax ``x`` and store 2 x_new - x_old."""
    for c in range(x.shape[0]):
        tau = step[c]
        linear = HALF * (forward[c] + eps[c] - tau * (slope + weight[c] * residual[c]))
        product = tau * chem * counts[c]
        large = abs(linear) + np.sqrt(linear * linear + (product + TINY))
        z = large if linear >= ZERO else divide(product, large)
        point = max(z - eps[c], ZERO)
        change = point - x[c]
        extrapolated[c] = point + change
        x[c] += relaxation * change


@kernel
def gaussian_response(
    forward, counts, precision, weight, step, chem, residual, total, slope, kink
):
    """As `poisson_response` for a Gaussian element, whose prox is linear, cut at 0."""
    for c in range(total.shape[0]):
        w, tau = weight[c], step[c]
        pull = tau * chem * precision[c]
        shrink = ONE / (ONE + pull)
        x = shrink * (forward[c] + pull * counts[c] - tau * w * residual[c])
        slope[c] += w * w * tau * shrink if x > ZERO else ZERO
        total[c] += w * max(x, ZERO)
        end = (forward[c] + pull * counts[c]) / max(tau * w, TINY)
        kink[c] = max(kink[c], end if end < residual[c] else -HUGE)


@kernel
def gaussian_update(
    forward, counts, precision, weight, step, chem, residual, relaxation, x, extrapolated
):
    """As `poisson_update` for a Gaussian element."""
    for c in range(x.shape[0]):
        tau = step[c]
        pull = tau * chem * precision[c]
        point = (forward[c] + pull * counts[c] - tau * weight[c] * residual[c]) / (ONE + pull)
        point = max(point, ZERO)
        change = point - x[c]
        extrapolated[c] = point + change
        x[c] += relaxation * change


@kernel
def newton_step(target, rho, total, slope, kink, residual):
    """Newton step for r = rho (w'x(r) - target), a concave rising equation.

    From the left of the root the iterates rise to it. From the right, where elements are
    cut to 0, a step may lead far too low; it ends just below the next kink, where one more
    element comes alive.
    """
    for c in range(residual.shape[0]):
        value = residual[c] - rho[c] * (total[c] - target[c])
        lowest = kink[c] - BELOW_KINK * (abs(kink[c]) + ONE)
        step = residual[c] - value / (ONE + rho[c] * slope[c])
        residual[c] = max(step, lowest) if value > ZERO else step


@kernel
def joint_prox_row(
    data, steps, step_fields, relaxation, row, first, width, forward, rows, residual, x, bar, now
):
    """Joint prox at every pixel of a row, then over-relaxation.

    ``forward`` (1, E, W) are the forward points, ``x`` (E, H, W) and row ``now`` of ``bar``
    (2, E, W) what is updated; ``residual`` (1, H, W) starts at the last iteration's and is
    refined; ``rows`` (1, 3 or more, W) are overwritten. ``data``, ``step_fields``, ``x`` and
    ``residual`` are rings.
    """
    elements = x.shape[0]
    rho, target = ring_span(data.rho, 0, row, first, width), ring_span(data.target, 0, row, first, width)
    r = ring_span(residual, 0, row, first, width)
    total, slope = span(rows, 0, 0, first, width), span(rows, 0, 1, first, width)
    kink = span(rows, 0, 2, first, width)
    for _ in range(steps.newton):
        for c in range(width):
            total[c] = ZERO
            slope[c] = ZERO
            kink[c] = -HUGE
        for e in range(elements):
            point = span(forward, 0, e, first, width)
            counts = ring_span(data.counts, e, row, first, width)
            spread = ring_span(data.spread, e, row, first, width)
            weight = ring_span(data.weights, e, row, first, width)
            step, chem = ring_span(step_fields.prox, e, row, first, width), steps.chem[e]
            if steps.fidelity[e] == POISSON:
                poisson_response(
                    point, counts, spread, weight, step, chem, steps.slope[e], r, total, slope, kink
                )
            else:
                gaussian_response(point, counts, spread, weight, step, chem, r, total, slope, kink)
        newton_step(target, rho, total, slope, kink, r)
    for e in range(elements):
        point = span(forward, 0, e, first, width)
        counts = ring_span(data.counts, e, row, first, width)
        spread = ring_span(data.spread, e, row, first, width)
        weight = ring_span(data.weights, e, row, first, width)
        step, chem = ring_span(step_fields.prox, e, row, first, width), steps.chem[e]
        values, extrapolated = ring_span(x, e, row, first, width), span(bar, now, e, first, width)
        if steps.fidelity[e] == POISSON:
            poisson_update(
                point, counts, spread, weight, step, chem, steps.slope[e], r, relaxation, values,
                extrapolated,
            )  # fmt: skip
        else:
            gaussian_update(
                point, counts, spread, weight, step, chem, r, relaxation, values, extrapolated
            )


@kernel
def unguided_component(along_columns, along_rows, guide_columns, guide_rows, to_columns, to_rows):
    """Apply D = I - a a' (a the guide) to a row of vectors."""
    for c in range(to_columns.shape[0]):
        along = guide_columns[c] * along_columns[c] + guide_rows[c] * along_rows[c]
        to_columns[c] = along_columns[c] - along * guide_columns[c]
        to_rows[c] = along_rows[c] - along * guide_rows[c]


@kernel
def slope_ascent(here, right, below, strength, step, relaxation, p_columns, p_rows):
    """Dual step of TV: ascend along the gradient, project on the ball, over-relax."""
    for c in range(p_columns.shape[0]):
        a = p_columns[c] + step[c] * (right[c] - here[c])
        b = p_rows[c] + step[c] * (below[c] - here[c])
        scale = min(ONE, strength[c] / np.sqrt(a * a + b * b + TINY))
        p_columns[c] += relaxation * (a * scale - p_columns[c])
        p_rows[c] += relaxation * (b * scale - p_rows[c])


@kernel
def guided_slope_ascent(
    here, right, below, guide_columns, guide_rows, strength, step, relaxation, p_columns, p_rows
):
    """As `slope_ascent` for directional TV."""
    for c in range(p_columns.shape[0]):
        u, v = guide_columns[c], guide_rows[c]
        along_columns, along_rows = right[c] - here[c], below[c] - here[c]
        along = u * along_columns + v * along_rows
        a = p_columns[c] + step[c] * (along_columns - along * u)
        b = p_rows[c] + step[c] * (along_rows - along * v)
        scale = min(ONE, strength[c] / np.sqrt(a * a + b * b + TINY))
        p_columns[c] += relaxation * (a * scale - p_columns[c])
        p_rows[c] += relaxation * (b * scale - p_rows[c])


@kernel
def slope_forward(v, flow, q_here, q_next, mixed_here, mixed_next, step, out):
    """Forward point of one component of v: along D p minus the adjoint of E applied to q."""
    for c in range(out.shape[0]):
        curvature = q_here[c] - q_next[c] + SQRT_HALF * (mixed_here[c] - mixed_next[c])
        out[c] = v[c] + step[c] * (flow[c] - curvature)


@kernel
def relax(point, relaxation, values, extrapolated):
    """Over-relax ``values`` towards ``point`` and store 2 new - old."""
    for c in range(values.shape[0]):
        change = point[c] - values[c]
        extrapolated[c] = point[c] + change
        values[c] += relaxation * change


@kernel
def residual_slope_ascent(
    here, right, below, v_columns, v_rows, guide_columns, guide_rows, strength, step, relaxation,
    p_columns, p_rows,
):  # fmt: skip
    """Dual step of the slope term of TGV, |D (grad x - v)|."""
    for c in range(p_columns.shape[0]):
        u, v = guide_columns[c], guide_rows[c]
        along_columns = right[c] - here[c] - v_columns[c]
        along_rows = below[c] - here[c] - v_rows[c]
        along = u * along_columns + v * along_rows
        a = p_columns[c] + step[c] * (along_columns - along * u)
        b = p_rows[c] + step[c] * (along_rows - along * v)
        scale = min(ONE, strength[c] / np.sqrt(a * a + b * b + TINY))
        p_columns[c] += relaxation * (a * scale - p_columns[c])
        p_rows[c] += relaxation * (b * scale - p_rows[c])


@kernel
def curvature_ascent(
    columns_here, columns_left, columns_above, rows_here, rows_left, rows_above,
    strength, ratio, step, relaxation, q_cc, q_rr, q_cr,
):  # fmt: skip
    """Dual step of the curvature term of TGV, ratio |E v|; mixed component times sqrt 2."""
    for c in range(q_cc.shape[0]):
        mixed = columns_here[c] - columns_above[c] + rows_here[c] - rows_left[c]
        a = q_cc[c] + step[c] * (columns_here[c] - columns_left[c])
        b = q_rr[c] + step[c] * (rows_here[c] - rows_above[c])
        d = q_cr[c] + step[c] * SQRT_HALF * mixed
        scale = min(ONE, ratio * strength[c] / np.sqrt(a * a + b * b + d * d + TINY))
        q_cc[c] += relaxation * (a * scale - q_cc[c])
        q_rr[c] += relaxation * (b * scale - q_rr[c])
        q_cr[c] += relaxation * (d * scale - q_cr[c])
