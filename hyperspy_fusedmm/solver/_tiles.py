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

MARGIN = 16
BLOCK = 64
# Limits of the strength at a pixel, relative to the typical one, that step sizes follow.
SMALLEST_RELATIVE, LARGEST_RELATIVE = np.float32(0.5), np.float32(10)
# Inverse sums of the columns and rows of |E| and, for columns, of the identity beside it.
SLOPE_STEP = np.float32(1 / (3 + np.sqrt(2)))
CURVATURE_STEP = np.float32(1 / (2 * np.sqrt(2)))


def planes(elements, regularization):
    """Number of planes of the state."""
    return (3 if regularization == "tv" else 8) * elements + 1


class Workspace(NamedTuple):
    """Rows that a tile kernel works with, so that it need not allocate any."""

    forward: np.ndarray  # (E, W)
    bar: np.ndarray  # (2, E, W) extrapolated x of two rows
    flow: np.ndarray  # (2 E, 2, W) D p of two rows
    slope_bar: np.ndarray  # (3, 2 E, W) extrapolated v of three rows
    rows: np.ndarray  # (5, W)

    @classmethod
    def allocate(cls, elements, width):
        shapes = ((elements, width), (2, elements, width), (2 * elements, 2, width),
                  (3, 2 * elements, width), (5, width))  # fmt: skip
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))


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
    data, steps, step_fields, relaxation, row, first, last, flow, here, above, x, residual,
    forward, workspace, bar,
):  # fmt: skip
    """Update ``x`` along one row from the rows ``here`` and ``above`` of the flow D p."""
    step_row = min(row, step_fields.primal.shape[1] - 1)
    for e in range(forward.shape[0]):
        step = step_fields.primal[e, step_row, first:last]
        forward_point(
            x[e, row, first:last],
            flow[2 * e, here, first:last], flow[2 * e, here, first - 1 : last - 1],
            flow[2 * e + 1, here, first:last], flow[2 * e + 1, above, first:last],
            step, forward[e, first:last],
        )  # fmt: skip
        if data.anchor.shape[0] > 0:
            pull_to_anchor(
                forward[e, first:last], data.anchor[e, row, first:last],
                data.pull[e, row, first:last], steps.nearness, step,
            )  # fmt: skip
    joint_prox_row(
        data, steps, step_fields, relaxation, row, first, last,
        forward, workspace, residual[row], x, bar,
    )  # fmt: skip


@kernel
def guide_flow(p, guide, row, first, last, border, right, flow, to):
    """Row ``row`` of D p for every element, into row ``to`` of ``flow``.

    D mixes the components; none may flow across the right or, where ``border``, the lower
    border of the image.
    """
    for e in range(p.shape[0] // 2):
        unguided_component(
            p[2 * e, row, first:last], p[2 * e + 1, row, first:last],
            guide[0, row, first:last], guide[1, row, first:last],
            flow[2 * e, to, first:last], flow[2 * e + 1, to, first:last],
        )  # fmt: skip
        if right > 0:
            flow[2 * e, to, first + right - 1] = ZERO
        if border:
            for c in range(flow.shape[2]):
                flow[2 * e + 1, to, c] = ZERO


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
    x, p, residual = state[:elements], state[elements : 3 * elements], state[3 * elements]
    guided = data.guide.shape[0] > 0
    first, last = MARGIN, MARGIN + width
    bar = workspace.bar

    for k in range(iterations):
        relaxation = steps.relaxation if k < iterations - 1 else last_relaxation
        row_start = 1 if top else k + 2
        row_end = height + 1 if bottom else height + 1 - k
        dual_end = row_end if bottom else row_end - 1
        if guided:
            above = row_start - 1
            guide_flow(p, data.guide, above, first, last, False, right, workspace.flow, above % 2)
        for row in range(row_start, row_end + 1):
            now, before = row % 2, (row + 1) % 2
            if row < row_end:
                # Dual rows are updated only after the next row has read them.
                flow, here, above = p, row, row - 1
                if guided:
                    border = bottom and row == height
                    guide_flow(
                        p, data.guide, row, first, last, border, right, workspace.flow, now
                    )
                    flow, here, above = workspace.flow, now, before
                primal_row(
                    data, steps, step_fields, relaxation, row, first, last,
                    flow, here, above, x, residual, workspace.forward, workspace.rows, bar[now],
                )  # fmt: skip
                if right > 0:
                    for e in range(elements):
                        bar[now, e, first + right] = bar[now, e, first + right - 1]
            done = row - 1
            if done < row_start or done >= dual_end:
                continue
            strength_row = min(done, data.strength.shape[1] - 1)
            under = now if row < row_end else before
            for e in range(elements):
                here_bar = bar[before, e, first:last]
                right_bar = bar[before, e, first + 1 : last + 1]
                below_bar = bar[under, e, first:last]
                strength = data.strength[e, strength_row, first:last]
                dual_step = step_fields.dual[e, strength_row, first:last]
                p_columns, p_rows = p[2 * e, done, first:last], p[2 * e + 1, done, first:last]
                if guided:
                    guided_slope_ascent(
                        here_bar, right_bar, below_bar,
                        data.guide[0, done, first:last], data.guide[1, done, first:last],
                        strength, dual_step, relaxation, p_columns, p_rows,
                    )  # fmt: skip
                else:
                    slope_ascent(
                        here_bar, right_bar, below_bar, strength, dual_step, relaxation,
                        p_columns, p_rows,
                    )  # fmt: skip


@kernel
def slope_row(v, q, flow, here, row, first, last, top, bottom, left, right, step_field, relaxation,
              workspace, slope_bar):  # fmt: skip
    """Update the slope field ``v`` of TGV along one row (row numbers as in `advance_tgv`)."""
    nothing, point = workspace.rows[3], workspace.rows[4]
    for e in range(v.shape[0] // 2):
        step = step_field[e, min(row, step_field.shape[1] - 1), first:last]
        mixed = q[3 * e + 2, row, first:last]
        slope_forward(
            v[2 * e, row, first:last], flow[2 * e, here, first:last],
            q[3 * e, row, first:last], q[3 * e, row, first + 1 : last + 1],
            nothing[first:last] if top else mixed, q[3 * e + 2, row + 1, first:last],
            step, point[first:last],
        )  # fmt: skip
        if right > 0:
            point[first + right - 1] = ZERO
        relax(
            point[first:last], relaxation, v[2 * e, row, first:last], slope_bar[2 * e, first:last]
        )
        if bottom:
            continue
        slope_forward(
            v[2 * e + 1, row, first:last], flow[2 * e + 1, here, first:last],
            q[3 * e + 1, row, first:last], q[3 * e + 1, row + 1, first:last],
            mixed, q[3 * e + 2, row, first + 1 : last + 1],
            step, point[first:last],
        )  # fmt: skip
        if left:
            point[first] += step[0] * SQRT_HALF * mixed[0]
        relax(
            point[first:last], relaxation,
            v[2 * e + 1, row, first:last], slope_bar[2 * e + 1, first:last],
        )  # fmt: skip


@kernel
def curvature_row(q, slope_bar, now, before, strength, row, first, last, top, bottom, left, right,
                  curvature_ratio, step_field, relaxation, shifted):  # fmt: skip
    """Dual step of the curvature term along one row; ``now`` and ``before`` index ``slope_bar``."""
    for e in range(q.shape[0] // 3):
        columns = slope_bar[now, 2 * e]
        rows = slope_bar[now, 2 * e + 1]
        for c in range(last - first):
            shifted[first + c] = columns[first - 1 + c]
        if left:
            shifted[first] = columns[first]
            rows[first - 1] = rows[first]
        if right > 0:
            shifted[first + right - 1] = ZERO
        columns_above = columns if top else slope_bar[before, 2 * e]
        rows_above = rows if top or bottom else slope_bar[before, 2 * e + 1]
        curvature_ascent(
            columns[first:last], shifted[first:last], columns_above[first:last],
            rows[first:last], rows[first - 1 : last - 1], rows_above[first:last],
            strength[e, min(row, strength.shape[1] - 1), first:last],
            curvature_ratio, step_field[e, min(row, step_field.shape[1] - 1), first:last],
            relaxation,
            q[3 * e, row, first:last], q[3 * e + 1, row, first:last], q[3 * e + 2, row, first:last],
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
    residual = state[8 * elements]
    guided = data.guide.shape[0] > 0
    first, last = MARGIN, MARGIN + width
    bar, slope_bar = workspace.bar, workspace.slope_bar
    for c in range(workspace.rows.shape[1]):
        workspace.rows[3, c] = ZERO

    for k in range(iterations):
        relaxation = steps.relaxation if k < iterations - 1 else last_relaxation
        row_start = 1 if top else k + 2
        slope_start = 1 if top else k + 1
        row_end = height + 1 if bottom else height + 1 - k
        dual_end = row_end if bottom else row_end - 1
        for row in range(slope_start, row_end + 1):
            now, before = row % 2, (row + 1) % 2
            if row < row_end:
                flow, here, above = p, row, row - 1
                if guided:
                    border = bottom and row == height
                    guide_flow(
                        p, data.guide, row, first, last, border, right, workspace.flow, now
                    )
                    flow, here, above = workspace.flow, now, before
                    if row == 1 and top:
                        guide_flow(
                            p, data.guide, 0, first, last, False, right, workspace.flow, before
                        )
                if row >= row_start:
                    primal_row(
                        data, steps, step_fields, relaxation, row, first, last, flow, here,
                        above, x, residual, workspace.forward, workspace.rows, bar[now],
                    )  # fmt: skip
                    if right > 0:
                        for e in range(elements):
                            bar[now, e, first + right] = bar[now, e, first + right - 1]
                if row < dual_end:
                    if bottom and row == height:
                        for e in range(elements):
                            for c in range(slope_bar.shape[2]):
                                slope_bar[row % 3, 2 * e + 1, c] = ZERO
                    slope_row(
                        v, q, flow, here, row, first, last, top and row == 1,
                        bottom and row == height, left, right, step_fields.slope, relaxation,
                        workspace, slope_bar[row % 3],
                    )  # fmt: skip
            done = row - 1
            if done < row_start or done >= dual_end:
                continue
            strength_row = min(done, data.strength.shape[1] - 1)
            under = now if row < row_end else before
            for e in range(elements):
                guide_row = done if guided else 0
                residual_slope_ascent(
                    bar[before, e, first:last], bar[before, e, first + 1 : last + 1],
                    bar[under, e, first:last],
                    slope_bar[done % 3, 2 * e, first:last],
                    slope_bar[done % 3, 2 * e + 1, first:last],
                    data.guide[0, guide_row, first:last] if guided else workspace.rows[3, first:last],
                    data.guide[1, guide_row, first:last] if guided else workspace.rows[3, first:last],
                    data.strength[e, strength_row, first:last],
                    step_fields.dual[e, strength_row, first:last], relaxation,
                    p[2 * e, done, first:last], p[2 * e + 1, done, first:last],
                )  # fmt: skip
            curvature_row(
                q, slope_bar, done % 3, (done + 2) % 3, data.strength, done, first, last,
                top and done == 1, bottom and done == height, left, right,
                steps.curvature_ratio, step_fields.curvature, relaxation, workspace.rows[4],
            )  # fmt: skip
