"""Rows of an image on their way to the tile where they are worked on, and back.

The state of an image is changed in place. What neighbouring tiles still need of it as their halo,
strips along the borders between tiles, is saved before.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ._rows import ZERO
from ._span import ring_span

# Pixels of a tile start at this column; padding lies around them.
MARGIN = 16

# Without reference counting, which would cost more than copying a row.
kernel = njit(nogil=True, cache=True, _nrt=False)
inlined_kernel = njit(nogil=True, cache=True, _nrt=False, forceinline=True)


class Tile(NamedTuple):
    """Where a tile lies in the image: with its halo, without, and in the table of tiles."""

    row: int
    row_end: int
    column: int
    column_end: int
    core_row: int
    core_row_end: int
    core_column: int
    core_column_end: int
    row_index: int
    column_index: int


class Image(NamedTuple):
    """State of an image, and what its tiles had along their borders before the sweep."""

    state: np.ndarray  # (planes, R, C)
    row_strips: np.ndarray  # (cuts, planes, 2 halo, C)
    column_strips: np.ndarray  # (cuts, planes, R, 2 halo)


@inlined_kernel
def copy(source, target):
    """Copy a row; unlike an assignment to a slice, with vectors."""
    for c in range(target.shape[0]):
        target[c] = source[c]


@inlined_kernel
def clear(target):
    for c in range(target.shape[0]):
        target[c] = ZERO


@inlined_kernel
def clear_sides(ring, plane, row, width):
    """Clear the padding beside a row of pixels."""
    end = MARGIN + width
    clear(ring_span(ring, plane, row, 0, MARGIN))
    clear(ring_span(ring, plane, row, end, ring.shape[2] - end))


@kernel
def clear_row(ring, row):
    for plane in range(ring.shape[0]):
        clear(ring_span(ring, plane, row, 0, ring.shape[2]))


@kernel
def load_row(source, tile, row, once, ring):
    """Copy row ``row`` of a tile, which counts from 1, and clear the padding beside it.

    With ``once`` only if the ring has one row for all, without only if it has not.
    """
    if once != (ring.shape[1] == 1):
        return
    width = tile.column_end - tile.column
    from_row = min(tile.row + row - 1, source.shape[1] - 1)
    for plane in range(source.shape[0]):
        clear_sides(ring, plane, row, width)
        copy(
            source[plane, from_row, tile.column : tile.column_end],
            ring_span(ring, plane, row, MARGIN, width),
        )


@kernel
def load_state_row(image, tile, row, ring):
    """As `load_row` for the state, of which neighbours may have changed what is halo here."""
    width = tile.column_end - tile.column
    halo = image.row_strips.shape[2] // 2
    from_row = tile.row + row - 1
    before, after = tile.core_column - tile.column, tile.column_end - tile.core_column_end
    for plane in range(image.state.shape[0]):
        clear_sides(ring, plane, row, width)
        if from_row < tile.core_row:
            strip = image.row_strips[tile.row_index - 1, plane, from_row - tile.core_row + halo]
            copy(strip[tile.column : tile.column_end], ring_span(ring, plane, row, MARGIN, width))
        elif from_row >= tile.core_row_end:
            strip = image.row_strips[tile.row_index, plane, from_row - tile.core_row_end + halo]
            copy(strip[tile.column : tile.column_end], ring_span(ring, plane, row, MARGIN, width))
        else:
            if before:
                strip = image.column_strips[tile.column_index - 1, plane, from_row]
                copy(strip[halo - before :], ring_span(ring, plane, row, MARGIN, before))
            copy(
                image.state[plane, from_row, tile.core_column : tile.core_column_end],
                ring_span(ring, plane, row, MARGIN + before, width - before - after),
            )
            if after:
                strip = image.column_strips[tile.column_index, plane, from_row]
                copy(strip[halo:], ring_span(ring, plane, row, MARGIN + width - after, after))


@kernel
def store_row(ring, tile, row, state):
    """Copy a row of a tile back, without its halo."""
    to_row, start = tile.row + row - 1, MARGIN + tile.core_column - tile.column
    width = tile.core_column_end - tile.core_column
    if to_row >= tile.core_row and to_row < tile.core_row_end:
        for plane in range(state.shape[0]):
            copy(
                ring_span(ring, plane, row, start, width),
                state[plane, to_row, tile.core_column : tile.core_column_end],
            )


@kernel
def save_strips(state, row_cuts, column_cuts, halo, row_strips, column_strips, plane, plane_end):
    """Save what lies within ``halo`` pixels of the cuts between tiles."""
    for k in range(plane, plane_end):
        for j in range(len(row_cuts)):
            for r in range(2 * halo):
                copy(state[k, row_cuts[j] - halo + r], row_strips[j, k, r])
        for r in range(state.shape[1]):
            for i in range(len(column_cuts)):
                cut = column_cuts[i]
                copy(state[k, r, cut - halo : cut + halo], column_strips[i, k, r])
