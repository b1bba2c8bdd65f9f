"""Kernels that advance one tile of the fusion problem by some iterations.

The iteration is the primal-dual hybrid gradient method [1]_ with over-relaxation [2]_.
Its primal step is the exact joint proximal map of HAADF term, likelihood and
non-negativity at every pixel, its dual step a projection on a ball. Both reach one
pixel far, so on a tile with a halo of ``m`` pixels, ``m`` iterations give in the interior
what the whole image would have given.

A tile's *state* is one float32 array of planes: ``x`` (E), ``p`` (2 E: along columns, along
rows), for TGV also ``v`` (2 E, likewise) and ``q`` (3 E: columns, rows, mixed), and last
``r`` (1), the HAADF residual that the prox has found.

The pixels of a tile start at row 1 and at column `MARGIN`. The rows and columns around
them are padding where the strength, the weights and the dual fields are zero: thus the
borders of the image need no special case, and rows have a length that suits the processor.

References
----------
.. [1] Chambolle & Pock, J. Math. Imaging Vis. 40, 120 (2011).
.. [2] Condat, J. Optim. Theory Appl. 158, 460 (2013).
"""

import math
from typing import NamedTuple

import numpy as np

from ._rows import (
    ONE,
    QUARTER,
    SQRT_HALF,
    TINY,
    ZERO,
    curvature_ascent,
    forward_point,
    guided_slope_ascent,
    joint_prox_row,
    kernel,
    pull_to_anchor,
    relax,
    residual_slope_ascent,
    slope_ascent,
    slope_forward,
    unguided_component,
)
from ._span import span

MARGIN = 16
BLOCK = 64
# Iterations that follow each other through a tile, each a row behind the one before: their rows stay
# in the nearer caches.
DEPTH = 8
# Of TGV, each two rows behind the one before.
TGV_DEPTH = 4
# Limits of the strength at a pixel, relative to the typical one, that step sizes follow.
SMALLEST_RELATIVE, LARGEST_RELATIVE = np.float32(0.5), np.float32(10)
# Inverse sums of the columns and rows of |E| and, for columns, of the identity beside it.
SLOPE_STEP = np.float32(1 / (3 + np.sqrt(2)))
CURVATURE_STEP = np.float32(1 / (2 * np.sqrt(2)))


def planes(elements, regularization):
    """Number of planes of the state."""
    return (3 if regularization == "tv" else 8) * elements + 1


def aligned_zeros(shape):
    """Float32 zeros whose rows, of a multiple of 16 elements, start where vectors of 64 bytes do."""
    size = math.prod(shape)
    memory = np.zeros(size + 16, np.float32)
    start = -memory.ctypes.data // 4 % 16
    return memory[start : start + size].reshape(shape)


class Workspace(NamedTuple):
    """Rows that a tile kernel works with, so that it need not allocate any."""

    forward: np.ndarray  # (1, E, W)
    bar: np.ndarray  # (2 DEPTH, E, W) extrapolated x, two rows of each iteration
    flow: np.ndarray  # (2 E, 2 DEPTH, W) D p, likewise
    slope_bar: np.ndarray  # (3 TGV_DEPTH, 2 E, W) extrapolated v, three rows of each iteration
    rows: np.ndarray  # (1, 5, W)

    @classmethod
    def allocate(cls, elements, width):
        shapes = ((1, elements, width), (2 * DEPTH, elements, width), (2 * elements, 2 * DEPTH, width),
                  (3 * TGV_DEPTH, 2 * elements, width), (1, 5, width))  # fmt: skip
        return cls(*map(aligned_zeros, shapes))


@kernel
def scale_field(strength, typical, field):
    """How much longer primal steps should be at each pixel: (strength / typical)^-2, limited."""
    for c in range(field.shape[0]):
        relative = min(max(strength[c] / typical, SMALLEST_RELATIVE), LARGEST_RELATIVE)
        field[c] = ONE / (relative * relative)


@kernel
def fill_step_fields(steps, data, height, width, anchored, curved, fields):
    """Step sizes from the pixelwise strength.

    Where the regularization is weak, maps are large and dual fields small, and primal steps
    should be long. With a scale d at every pixel, steps d times the inverse column sums and
    the inverse d-weighted row sums of |K| satisfy the condition of diagonal
    preconditioning [1]_ at alpha = 1.

    .. [1] Pock & Chambolle, Proc. ICCV, 1762 (2011).
    """
    unit = steps.slope_unit if curved else ZERO
    rows, columns = fields.primal.shape[1], fields.primal.shape[2]
    for e in range(fields.primal.shape[0]):
        balance, typical = steps.balance[e], max(steps.typical_strength[e], TINY)
        scale = fields.prox[e]
        for r in range(rows):
            strength = data.strength[e, min(r, data.strength.shape[1] - 1)]
            scale_field(strength, typical, scale[r])
            # Nothing reaches across the borders; a neighbour there counts as the pixel itself.
            scale[r, MARGIN - 1] = scale[r, MARGIN]
            scale[r, MARGIN + width] = scale[r, MARGIN + width - 1]
        if rows > 1:
            for c in range(columns):
                scale[0, c] = scale[1, c]
                scale[height + 1, c] = scale[height, c]
        for r in range(rows):
            here, below = scale[r], scale[min(r + 1, rows - 1)]
            above = scale[max(r - 1, 0)]
            for c in range(1, columns - 1):
                d = here[c]
                reach = d * (ONE + unit) + max(here[c + 1], below[c])
                fields.dual[e, r, c] = ONE / (balance * reach)
                fields.primal[e, r, c] = QUARTER * balance * d
                if curved:
                    largest = max(d, max(here[c - 1], above[c]))
                    fields.slope[e, r, c] = balance * unit * SLOPE_STEP * d
                    fields.curvature[e, r, c] = CURVATURE_STEP / (balance * unit * largest)
    if anchored:
        for e in range(fields.primal.shape[0]):
            for r in range(rows):
                for c in range(columns):
                    # Strengths may have one row for all; the proximal term never has.
                    primal = fields.primal[e, r, c]
                    pull = steps.nearness * data.pull[e, r, c]
                    fields.prox[e, r, c] = primal / (ONE + primal * pull)
    else:
        for e in range(fields.primal.shape[0]):
            for r in range(rows):
                for c in range(columns):
                    fields.prox[e, r, c] = fields.primal[e, r, c]


@kernel
def primal_row(
    data, steps, step_fields, relaxation, row, width, flow, here, above, x, residual, workspace, now,
    right,
):  # fmt: skip
    """Update ``x`` along one row from the rows ``here`` and ``above`` of the flow D p.

    Row ``now`` of the extrapolated x goes on beyond the right border as it ends there.
    """
    first, forward, bar = MARGIN, workspace.forward, workspace.bar
    for e in range(x.shape[0]):
        step = span(step_fields.primal, e, row, first, width)
        point = span(forward, 0, e, first, width)
        forward_point(
            span(x, e, row, first, width),
            span(flow, 2 * e, here, first, width), span(flow, 2 * e, here, first - 1, width),
            span(flow, 2 * e + 1, here, first, width), span(flow, 2 * e + 1, above, first, width),
            step, point,
        )  # fmt: skip
        if data.anchor.shape[0] > 0:
            pull_to_anchor(
                point, span(data.anchor, e, row, first, width),
                span(data.pull, e, row, first, width), steps.nearness, step,
            )  # fmt: skip
    joint_prox_row(
        data, steps, step_fields, relaxation, row, first, width, forward, workspace.rows,
        residual, x, bar, now,
    )  # fmt: skip
    if right > 0:
        for e in range(x.shape[0]):
            bar[now, e, first + right] = bar[now, e, first + right - 1]


@kernel
def guide_flow(p, guide, row, width, border, right, flow, to):
    """Row ``row`` of D p for every element, into row ``to`` of ``flow``.

    D mixes the components; none may flow across the right or, where ``border``, the lower
    border of the image.
    """
    first = MARGIN
    for e in range(p.shape[0] // 2):
        unguided_component(
            span(p, 2 * e, row, first, width), span(p, 2 * e + 1, row, first, width),
            span(guide, 0, row, first, width), span(guide, 1, row, first, width),
            span(flow, 2 * e, to, first, width), span(flow, 2 * e + 1, to, first, width),
        )  # fmt: skip
        if right > 0:
            flow[2 * e, to, first + right - 1] = ZERO
        if border:
            for c in range(flow.shape[2]):
                flow[2 * e + 1, to, c] = ZERO


@kernel
def reached(k, height, top, bottom):
    """First row, end of the rows and end of the dual rows of a tile that iteration ``k`` still gets right."""
    row_end = height + 1 if bottom else height + 1 - k
    return 1 if top else k + 2, row_end, row_end if bottom else row_end - 1


@kernel
def advance_tv(
    state, data, steps, step_fields, iterations, last_relaxation, height, width,
    top, bottom, left, right, workspace,
):  # fmt: skip
    """Advance a tile of the (directional) TV problem.

    Parameters
    ----------
    state : (3 E + 1, height + 2, W) float32, changed in place
    data : Data
    steps : Steps
    step_fields : StepFields
    iterations : int
        Each uses up one pixel of halo on the sides that are no border of the image.
    last_relaxation : float32
        Relaxation of the last iteration; 1 leaves the prox point itself in ``x``.
    height, width : int
        Rows and columns of pixels to work on; ``width`` is a multiple of `BLOCK`.
    top, bottom, left : bool
        Whether the first row, last row and first column are borders of the image.
    right : int
        Number of columns up to the right border of the image, or 0 if it lies elsewhere.
    workspace : Workspace
    """
    elements = data.counts.shape[0]
    x, p, residual = state[:elements], state[elements : 3 * elements], state[3 * elements :]
    guided = data.guide.shape[0] > 0
    first = MARGIN
    bar = workspace.bar

    for group in range(0, iterations, DEPTH):
        depth = min(DEPTH, iterations - group)
        for front in range(1 if top else group + 2, height + 2 + depth):
            for lag in range(depth):
                k, row = group + lag, front - lag
                relaxation = steps.relaxation if k < iterations - 1 else last_relaxation
                row_start, row_end, dual_end = reached(k, height, top, bottom)
                if row < row_start or row > row_end:
                    continue
                now, before = 2 * lag + row % 2, 2 * lag + (row + 1) % 2
                if guided and row == row_start:
                    guide_flow(p, data.guide, row - 1, width, False, right, workspace.flow, before)
                if row < row_end:
                    # Dual rows are updated only after the next row has read them.
                    flow, here, above = p, row, row - 1
                    if guided:
                        border = bottom and row == height
                        guide_flow(p, data.guide, row, width, border, right, workspace.flow, now)
                        flow, here, above = workspace.flow, now, before
                    primal_row(
                        data, steps, step_fields, relaxation, row, width, flow, here, above, x,
                        residual, workspace, now, right,
                    )  # fmt: skip
                done = row - 1
                if done < row_start or done >= dual_end:
                    continue
                under = now if row < row_end else before
                for e in range(elements):
                    here_bar = span(bar, before, e, first, width)
                    right_bar = span(bar, before, e, first + 1, width)
                    below_bar = span(bar, under, e, first, width)
                    strength = span(data.strength, e, done, first, width)
                    dual_step = span(step_fields.dual, e, done, first, width)
                    p_columns = span(p, 2 * e, done, first, width)
                    p_rows = span(p, 2 * e + 1, done, first, width)
                    if guided:
                        guided_slope_ascent(
                            here_bar, right_bar, below_bar,
                            span(data.guide, 0, done, first, width),
                            span(data.guide, 1, done, first, width),
                            strength, dual_step, relaxation, p_columns, p_rows,
                        )  # fmt: skip
                    else:
                        slope_ascent(
                            here_bar, right_bar, below_bar, strength, dual_step, relaxation,
                            p_columns, p_rows,
                        )  # fmt: skip


@kernel
def slope_row(v, q, flow, here, row, width, top, bottom, left, right, step_field, relaxation,
              workspace, place):  # fmt: skip
    """Update the slope field ``v`` of TGV along one row (row numbers as in `advance_tgv`)."""
    first, slope_bar = MARGIN, workspace.slope_bar
    nothing = span(workspace.rows, 0, 3, first, width)
    point = span(workspace.rows, 0, 4, first, width)
    for e in range(v.shape[0] // 2):
        step = span(step_field, e, row, first, width)
        v_columns, v_rows = span(v, 2 * e, row, first, width), span(v, 2 * e + 1, row, first, width)
        mixed = span(q, 3 * e + 2, row, first, width)
        slope_forward(
            v_columns, span(flow, 2 * e, here, first, width),
            span(q, 3 * e, row, first, width), span(q, 3 * e, row, first + 1, width),
            nothing if top else mixed, span(q, 3 * e + 2, row + 1, first, width), step, point,
        )  # fmt: skip
        if right > 0:
            point[right - 1] = ZERO
        relax(point, relaxation, v_columns, span(slope_bar, place, 2 * e, first, width))
        if bottom:
            continue
        slope_forward(
            v_rows, span(flow, 2 * e + 1, here, first, width),
            span(q, 3 * e + 1, row, first, width), span(q, 3 * e + 1, row + 1, first, width),
            mixed, span(q, 3 * e + 2, row, first + 1, width), step, point,
        )  # fmt: skip
        if left:
            point[0] += step[0] * SQRT_HALF * mixed[0]
        relax(point, relaxation, v_rows, span(slope_bar, place, 2 * e + 1, first, width))


@kernel
def curvature_row(q, slope_bar, now, before, strength, row, width, top, bottom, left, right,
                  curvature_ratio, step_field, relaxation, rows):  # fmt: skip
    """Dual step of the curvature term along one row; ``now`` and ``before`` index ``slope_bar``."""
    first, shifted = MARGIN, span(rows, 0, 4, MARGIN, width)
    for e in range(q.shape[0] // 3):
        columns_before = span(slope_bar, now, 2 * e, first - 1, width)
        columns_here = span(slope_bar, now, 2 * e, first, width)
        rows_before = span(slope_bar, now, 2 * e + 1, first - 1, width)
        rows_here = span(slope_bar, now, 2 * e + 1, first, width)
        for c in range(width):
            shifted[c] = columns_before[c]
        if left:
            shifted[0] = columns_here[0]
            rows_before[0] = rows_here[0]
        if right > 0:
            shifted[right - 1] = ZERO
        curvature_ascent(
            columns_here, shifted,
            span(slope_bar, now if top else before, 2 * e, first, width),
            rows_here, rows_before,
            span(slope_bar, now if top or bottom else before, 2 * e + 1, first, width),
            span(strength, e, row, first, width), curvature_ratio,
            span(step_field, e, row, first, width), relaxation,
            span(q, 3 * e, row, first, width), span(q, 3 * e + 1, row, first, width),
            span(q, 3 * e + 2, row, first, width),
        )  # fmt: skip


@kernel
def advance_tgv(
    state, data, steps, step_fields, iterations, last_relaxation, height, width,
    top, bottom, left, right, workspace,
):  # fmt: skip
    """Advance a tile of the (directional) TGV problem; parameters as in `advance_tv`.

    ``state`` is (8 E + 1, height + 2, W) float32. The slope field has no component along
    columns in the last column of the image, nor along rows in its last row.
    """
    elements = data.counts.shape[0]
    x, p = state[:elements], state[elements : 3 * elements]
    v, q = state[3 * elements : 5 * elements], state[5 * elements : 8 * elements]
    residual = state[8 * elements :]
    guided = data.guide.shape[0] > 0
    first = MARGIN
    bar, slope_bar = workspace.bar, workspace.slope_bar
    nothing = span(workspace.rows, 0, 3, first, width)
    for c in range(width):
        nothing[c] = ZERO

    for group in range(0, iterations, TGV_DEPTH):
        depth = min(TGV_DEPTH, iterations - group)
        for front in range(1 if top else group + 1, height + 2 * depth):
            for lag in range(depth):
                k, row = group + lag, front - 2 * lag
                relaxation = steps.relaxation if k < iterations - 1 else last_relaxation
                row_start, row_end, dual_end = reached(k, height, top, bottom)
                slope_start = 1 if top else k + 1
                if row < slope_start or row > row_end:
                    continue
                now, before = 2 * lag + row % 2, 2 * lag + (row + 1) % 2
                if row < row_end:
                    flow, here, above = p, row, row - 1
                    if guided:
                        border = bottom and row == height
                        guide_flow(p, data.guide, row, width, border, right, workspace.flow, now)
                        flow, here, above = workspace.flow, now, before
                        if row == 1 and top:
                            guide_flow(p, data.guide, 0, width, False, right, workspace.flow, before)
                    if row >= row_start:
                        primal_row(
                            data, steps, step_fields, relaxation, row, width, flow, here, above, x,
                            residual, workspace, now, right,
                        )  # fmt: skip
                    if row < dual_end:
                        place = 3 * lag + row % 3
                        if bottom and row == height:
                            for e in range(elements):
                                for c in range(slope_bar.shape[2]):
                                    slope_bar[place, 2 * e + 1, c] = ZERO
                        slope_row(
                            v, q, flow, here, row, width, top and row == 1, bottom and row == height,
                            left, right, step_fields.slope, relaxation, workspace, place,
                        )  # fmt: skip
                done = row - 1
                if done < row_start or done >= dual_end:
                    continue
                under = now if row < row_end else before
                place, place_before = 3 * lag + done % 3, 3 * lag + (done + 2) % 3
                for e in range(elements):
                    residual_slope_ascent(
                        span(bar, before, e, first, width), span(bar, before, e, first + 1, width),
                        span(bar, under, e, first, width),
                        span(slope_bar, place, 2 * e, first, width),
                        span(slope_bar, place, 2 * e + 1, first, width),
                        span(data.guide, 0, done, first, width) if guided else nothing,
                        span(data.guide, 1, done, first, width) if guided else nothing,
                        span(data.strength, e, done, first, width),
                        span(step_fields.dual, e, done, first, width), relaxation,
                        span(p, 2 * e, done, first, width), span(p, 2 * e + 1, done, first, width),
                    )  # fmt: skip
                curvature_row(
                    q, slope_bar, place, place_before, data.strength, done, width,
                    top and done == 1, bottom and done == height, left, right,
                    steps.curvature_ratio, step_fields.curvature, relaxation, workspace.rows,
                )  # fmt: skip
