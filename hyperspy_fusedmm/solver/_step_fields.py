"""Step sizes of the primal-dual iteration at every pixel of a row."""

import numpy as np

from ._rows import ONE, QUARTER, TINY, ZERO, kernel
from ._span import ring_span
from ._transfer import MARGIN

# Limits of the strength at a pixel, relative to the typical one, that step sizes follow.
SMALLEST_RELATIVE, LARGEST_RELATIVE = np.float32(0.5), np.float32(10)
# Inverse sums of the columns and rows of |E| and, for columns, of the identity beside it.
SLOPE_STEP = np.float32(1 / (3 + np.sqrt(2)))
CURVATURE_STEP = np.float32(1 / (2 * np.sqrt(2)))


@kernel
def fill_scale(steps, strength, row, width, scale):
    """How much longer primal steps should be along a row: (strength / typical)^-2, limited."""
    length = scale.shape[2]
    for e in range(scale.shape[0]):
        typical = max(steps.typical_strength[e], TINY)
        source, field = ring_span(strength, e, row, 0, length), ring_span(scale, e, row, 0, length)
        for c in range(length):
            relative = min(max(source[c] / typical, SMALLEST_RELATIVE), LARGEST_RELATIVE)
            field[c] = ONE / (relative * relative)
        # Nothing reaches across the borders; a neighbour there counts as the pixel itself.
        field[MARGIN - 1] = field[MARGIN]
        field[MARGIN + width] = field[MARGIN + width - 1]


@kernel
def copy_scale(scale, source, target):
    """Let row ``target`` be as row ``source``."""
    length = scale.shape[2]
    for e in range(scale.shape[0]):
        values, field = ring_span(scale, e, source, 0, length), ring_span(scale, e, target, 0, length)
        for c in range(length):
            field[c] = values[c]


@kernel
def fill_step_fields(steps, pull, row, curved, fields):
    """Step sizes along a row from the scale on it and on the rows above and below.

    Where the regularization is weak, maps are large and dual fields small, and primal steps
    should be long. With a scale d at every pixel, steps d times the inverse column sums and
    the inverse d-weighted row sums of |K| satisfy the condition of diagonal
    preconditioning [1]_ at alpha = 1.

    .. [1] Pock & Chambolle, Proc. ICCV, 1762 (2011).
    """
    unit = steps.slope_unit if curved else ZERO
    length = fields.scale.shape[2]
    for e in range(fields.scale.shape[0]):
        balance = steps.balance[e]
        here = ring_span(fields.scale, e, row, 0, length)
        below = ring_span(fields.scale, e, row + 1, 0, length)
        above = ring_span(fields.scale, e, row - 1, 0, length)
        primal, dual = ring_span(fields.primal, e, row, 0, length), ring_span(fields.dual, e, row, 0, length)
        for c in range(1, length - 1):
            dual[c] = ONE / (balance * (here[c] * (ONE + unit) + max(here[c + 1], below[c])))
            primal[c] = QUARTER * balance * here[c]
        if curved:
            slope = ring_span(fields.slope, e, row, 0, length)
            curvature = ring_span(fields.curvature, e, row, 0, length)
            for c in range(1, length - 1):
                largest = max(here[c], max(here[c - 1], above[c]))
                slope[c] = balance * unit * SLOPE_STEP * here[c]
                curvature[c] = CURVATURE_STEP / (balance * unit * largest)
        if pull.shape[0] > 0:
            prox, curb = ring_span(fields.prox, e, row, 0, length), ring_span(pull, e, row, 0, length)
            for c in range(length):
                prox[c] = primal[c] / (ONE + primal[c] * steps.nearness * curb[c])
