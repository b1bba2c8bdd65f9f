"""Kernels that advance one tile of the fusion problem by some iterations.

The iteration is the primal-dual hybrid gradient method [1]_ with over-relaxation [2]_.
Its primal step is the exact joint proximal map of HAADF term, likelihood and
non-negativity at every pixel, its dual step a projection on a ball. Both reach one
pixel far, so on a tile with a halo of ``m`` pixels, ``m`` iterations give in the interior
what the whole image would have given.

The iterations follow each other down the tile, each one or two rows behind the one before. So only the
rows between the first and the last iteration are in work at a time; they lie in *rings*, arrays with
as many places for rows as are needed, small enough for the nearer caches. A row is loaded before
the first iteration comes to it and stored when the last has left it.

The *state* is one float32 array of planes: ``x`` (E), ``p`` (2 E: along columns, along
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
    SQRT_HALF,
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
    subtract_multiple,
    tile_kernel,
    unguided_component,
)
from ._span import ring_span, span
from ._step_fields import copy_scale, fill_scale, fill_step_fields
from ._transfer import MARGIN, clear_row, load_row, load_state_row, store_row

# Rows are worked on in multiples of so many pixels.
BLOCK = 32
# Numbers in a line of the caches.
LINE = 16


def planes(elements, regularization):
    """Number of planes of the state."""
    return (3 if regularization == "tv" else 8) * elements + 1


@kernel
def padded(width):
    """Columns that are worked on where a tile has ``width``."""
    return (width + BLOCK - 1) // BLOCK * BLOCK


def aligned_zeros(shape):
    """Float32 zeros whose rows, of a multiple of `LINE` elements, start where cache lines do."""
    size = math.prod(shape)
    memory = np.zeros(size + LINE, np.float32)
    start = -memory.ctypes.data // 4 % LINE
    return memory[start : start + size].reshape(shape)


def ring(planes_, places, width):
    """Ring (planes, rows, W) of rows for tiles of ``width`` columns, to be read with `ring_span`.

    Rows and planes start an odd number of cache lines apart: if it were a power of two of them, the arrays of an
    iteration would displace each other from the caches.
    """
    lines = (padded(width) + 2 * MARGIN) // LINE
    return aligned_zeros((planes_, places + 1 if places > 1 else 1, LINE * (lines | 1)))


def most_iterations(places, regularization):
    """How many iterations can be in work on a ring of so many rows, with the row to be loaded next."""
    return places - 2 if regularization == "tv" else (places - 1) // 2


class Workspace(NamedTuple):
    """Rows that a tile kernel works with, so that it need not allocate any."""

    forward: np.ndarray  # (1, E, W)
    bar: np.ndarray  # (2 N, E, W) extrapolated x, two rows of each of N iterations
    flow: np.ndarray  # (2 E, 2 N, W) D p, likewise
    slope_bar: np.ndarray  # (3 N, 2 E, W) extrapolated v, three rows of each iteration
    rows: np.ndarray  # (1, 5, W)

    @classmethod
    def allocate(cls, elements, iterations, width, guided, curved):
        n = iterations
        return cls(
            aligned_zeros((1, elements, width)),
            aligned_zeros((2 * n, elements, width)),
            aligned_zeros((2 * elements if guided else 0, 2 * n, width)),
            aligned_zeros((3 * n if curved else 0, 2 * elements, width)),
            aligned_zeros((1, 5, width)),
        )


@tile_kernel
def load_data_row(source, tile, row, once, data):
    """Load what has a row for every row of the image, or, with ``once``, what has one for all."""
    load_row(source.counts, tile, row, once, data.counts)
    load_row(source.spread, tile, row, once, data.spread)
    load_row(source.strength, tile, row, once, data.strength)
    load_row(source.weights, tile, row, once, data.weights)
    load_row(source.target, tile, row, once, data.target)
    load_row(source.rho, tile, row, once, data.rho)
    load_row(source.guide, tile, row, once, data.guide)
    load_row(source.anchor, tile, row, once, data.anchor)
    load_row(source.pull, tile, row, once, data.pull)
    load_row(source.reference, tile, row, once, data.reference)


@tile_kernel
def begin(source, tile, steps, curved, state, data, step_fields):
    """Make the rings ready: the padding above the first row, and what is the same for all rows."""
    clear_row(state, 0)
    load_data_row(source, tile, 1, True, data)
    if step_fields.scale.shape[1] == 1:
        fill_scale(steps, data.strength, 1, tile.column_end - tile.column, step_fields.scale)
        fill_step_fields(steps, data.pull, 1, curved, step_fields)


@tile_kernel
def fetch(image, source, tile, row, steps, curved, state, data, step_fields):
    """Load the row below ``row``, or the padding below the last, and find the step sizes on ``row``."""
    height, width = tile.row_end - tile.row, tile.column_end - tile.column
    below, varying = row + 1, step_fields.scale.shape[1] > 1
    if below > height + 1:
        return
    if below <= height:
        load_state_row(image, tile, below, state)
        load_data_row(source, tile, below, False, data)
        if varying:
            fill_scale(steps, data.strength, below, width, step_fields.scale)
    else:
        clear_row(state, below)
        if varying:
            copy_scale(step_fields.scale, height, below)
    if varying:
        if row == 0:
            copy_scale(step_fields.scale, below, row)
        else:
            fill_step_fields(steps, data.pull, row, curved, step_fields)


@kernel
def primal_row(
    data, steps, step_fields, relaxation, row, width, flow, here, above, x, residual, workspace, now,
    right,
):  # fmt: skip
    """Update ``x`` along one row from the rows ``here`` and ``above`` of the flow D p.

    Row ``now`` of the extrapolated x, less the reference, of which the gradient is taken, goes on beyond the
    right border as it ends there.
    """
    first, forward, bar = MARGIN, workspace.forward, workspace.bar
    for e in range(x.shape[0]):
        step = ring_span(step_fields.primal, e, row, first, width)
        point = span(forward, 0, e, first, width)
        forward_point(
            ring_span(x, e, row, first, width),
            span(flow, 2 * e, here, first, width), span(flow, 2 * e, here, first - 1, width),
            span(flow, 2 * e + 1, here, first, width), span(flow, 2 * e + 1, above, first, width),
            step, point,
        )  # fmt: skip
        if data.anchor.shape[0] > 0:
            pull_to_anchor(
                point, ring_span(data.anchor, e, row, first, width),
                ring_span(data.pull, e, row, first, width), steps.nearness, step,
            )  # fmt: skip
    joint_prox_row(
        data, steps, step_fields, relaxation, row, first, width, forward, workspace.rows,
        residual, x, bar, now,
    )  # fmt: skip
    if data.reference.shape[0] > 0:
        reference = ring_span(data.reference, 0, row, first, width)
        for e in range(x.shape[0]):
            subtract_multiple(steps.reference_scale[e], reference, span(bar, now, e, first, width))
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
            ring_span(p, 2 * e, row, first, width), ring_span(p, 2 * e + 1, row, first, width),
            ring_span(guide, 0, row, first, width), ring_span(guide, 1, row, first, width),
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


@tile_kernel
def advance_tv(
    image, source, tile, steps, iterations, last_relaxation, top, bottom, left, right,
    state, data, step_fields, workspace,
):  # fmt: skip
    """Advance a tile of the (directional) TV problem.

    Parameters
    ----------
    image : Image
        Its ``state`` is changed in place where the tile lies, without the halo.
    source : Data
        Arrays of the image.
    tile : Tile
    steps : Steps
    iterations : int
        Each uses up one pixel of halo on the sides that are no border of the image.
        At most `most_iterations` of the rings.
    last_relaxation : float32
        Relaxation of the last iteration; 1 leaves the prox point itself in ``x``.
    top, bottom, left : bool
        Whether the first row, last row and first column are borders of the image.
    right : int
        Number of columns up to the right border of the image, or 0 if it lies elsewhere.
    state : (3 E + 1, places, W) float32
    data : Data
    step_fields : StepFields
        Rings. What they held before is lost.
    workspace : Workspace
    """
    elements, height = source.counts.shape[0], tile.row_end - tile.row
    width = padded(tile.column_end - tile.column)
    x, p, residual = state[:elements], state[elements : 3 * elements], state[3 * elements :]
    guided = data.guide.shape[0] > 0
    first, mask = MARGIN, p.shape[1] - 2
    bar = workspace.bar

    begin(source, tile, steps, False, state, data, step_fields)
    for front in range(height + iterations + 1):
        fetch(image, source, tile, front, steps, False, state, data, step_fields)
        for k in range(iterations):
            row = front - k
            relaxation = steps.relaxation if k < iterations - 1 else last_relaxation
            row_start, row_end, dual_end = reached(k, height, top, bottom)
            if row < row_start or row > row_end:
                continue
            now, before = 2 * k + row % 2, 2 * k + (row + 1) % 2
            if guided and row == row_start:
                guide_flow(p, data.guide, row - 1, width, False, right, workspace.flow, before)
            if row < row_end:
                # Dual rows are updated only after the next row has read them.
                flow, here, above = p, row & mask, (row - 1) & mask
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
                strength = ring_span(data.strength, e, done, first, width)
                dual_step = ring_span(step_fields.dual, e, done, first, width)
                p_columns = ring_span(p, 2 * e, done, first, width)
                p_rows = ring_span(p, 2 * e + 1, done, first, width)
                if guided:
                    guided_slope_ascent(
                        here_bar, right_bar, below_bar,
                        ring_span(data.guide, 0, done, first, width),
                        ring_span(data.guide, 1, done, first, width),
                        strength, dual_step, relaxation, p_columns, p_rows,
                    )  # fmt: skip
                else:
                    slope_ascent(
                        here_bar, right_bar, below_bar, strength, dual_step, relaxation,
                        p_columns, p_rows,
                    )  # fmt: skip
        store_row(state, tile, front - iterations, image.state)


@kernel
def slope_row(v, q, flow, here, row, width, top, bottom, left, right, step_field, relaxation,
              workspace, place):  # fmt: skip
    """Update the slope field ``v`` of TGV along one row (row numbers as in `advance_tgv`)."""
    first, slope_bar = MARGIN, workspace.slope_bar
    nothing = span(workspace.rows, 0, 3, first, width)
    point = span(workspace.rows, 0, 4, first, width)
    for e in range(v.shape[0] // 2):
        step = ring_span(step_field, e, row, first, width)
        v_columns, v_rows = ring_span(v, 2 * e, row, first, width), ring_span(v, 2 * e + 1, row, first, width)
        mixed = ring_span(q, 3 * e + 2, row, first, width)
        slope_forward(
            v_columns, span(flow, 2 * e, here, first, width),
            ring_span(q, 3 * e, row, first, width), ring_span(q, 3 * e, row, first + 1, width),
            nothing if top else mixed, ring_span(q, 3 * e + 2, row + 1, first, width), step, point,
        )  # fmt: skip
        if right > 0:
            point[right - 1] = ZERO
        relax(point, relaxation, v_columns, span(slope_bar, place, 2 * e, first, width))
        if bottom:
            continue
        slope_forward(
            v_rows, span(flow, 2 * e + 1, here, first, width),
            ring_span(q, 3 * e + 1, row, first, width), ring_span(q, 3 * e + 1, row + 1, first, width),
            mixed, ring_span(q, 3 * e + 2, row, first + 1, width), step, point,
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
            ring_span(strength, e, row, first, width), curvature_ratio,
            ring_span(step_field, e, row, first, width), relaxation,
            ring_span(q, 3 * e, row, first, width), ring_span(q, 3 * e + 1, row, first, width),
            ring_span(q, 3 * e + 2, row, first, width),
        )  # fmt: skip


@tile_kernel
def advance_tgv(
    image, source, tile, steps, iterations, last_relaxation, top, bottom, left, right,
    state, data, step_fields, workspace,
):  # fmt: skip
    """Advance a tile of the (directional) TGV problem; parameters as in `advance_tv`.

    ``state`` is (8 E + 1, places, W) float32. The slope field has no component along
    columns in the last column of the image, nor along rows in its last row.
    """
    elements, height = source.counts.shape[0], tile.row_end - tile.row
    width = padded(tile.column_end - tile.column)
    x, p = state[:elements], state[elements : 3 * elements]
    v, q = state[3 * elements : 5 * elements], state[5 * elements : 8 * elements]
    residual = state[8 * elements :]
    guided = data.guide.shape[0] > 0
    first, mask = MARGIN, p.shape[1] - 2
    bar, slope_bar = workspace.bar, workspace.slope_bar
    nothing = span(workspace.rows, 0, 3, first, width)
    for c in range(width):
        nothing[c] = ZERO

    begin(source, tile, steps, True, state, data, step_fields)
    for front in range(height + 2 * iterations):
        fetch(image, source, tile, front, steps, True, state, data, step_fields)
        for k in range(iterations):
            row = front - 2 * k
            relaxation = steps.relaxation if k < iterations - 1 else last_relaxation
            row_start, row_end, dual_end = reached(k, height, top, bottom)
            slope_start = 1 if top else k + 1
            if row < slope_start or row > row_end:
                continue
            now, before = 2 * k + row % 2, 2 * k + (row + 1) % 2
            if row < row_end:
                flow, here, above = p, row & mask, (row - 1) & mask
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
                    place = 3 * k + row % 3
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
            place, place_before = 3 * k + done % 3, 3 * k + (done + 2) % 3
            for e in range(elements):
                residual_slope_ascent(
                    span(bar, before, e, first, width), span(bar, before, e, first + 1, width),
                    span(bar, under, e, first, width),
                    span(slope_bar, place, 2 * e, first, width),
                    span(slope_bar, place, 2 * e + 1, first, width),
                    ring_span(data.guide, 0, done, first, width) if guided else nothing,
                    ring_span(data.guide, 1, done, first, width) if guided else nothing,
                    ring_span(data.strength, e, done, first, width),
                    ring_span(step_fields.dual, e, done, first, width), relaxation,
                    ring_span(p, 2 * e, done, first, width),
                    ring_span(p, 2 * e + 1, done, first, width),
                )  # fmt: skip
            curvature_row(
                q, slope_bar, place, place_before, data.strength, done, width,
                top and done == 1, bottom and done == height, left, right,
                steps.curvature_ratio, step_fields.curvature, relaxation, workspace.rows,
            )  # fmt: skip
        store_row(state, tile, front - 2 * iterations + 1, image.state)
