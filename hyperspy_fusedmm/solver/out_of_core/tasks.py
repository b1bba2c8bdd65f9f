"""The tasks of the graph: what is done with a chunk at a time."""

import numpy as np

from .block import Block
from .lazy_problem import own_axes
from .power_block import PowerBlock
from .report import step

__all__ = ["ingest", "one_pass", "sweep"]


def one_pass(plan, i, j, *arrays):
    """Maps and certificate of a chunk whose arrays come with the whole halo."""
    block = _block(plan, i, j, own_axes(plan.names, arrays))
    with step(plan), block.engine:
        if plan.sweeps:
            block.advance(plan.sweeps[0])
            iterations = plan.iterations
        else:
            iterations = block.solve()
        return block.result(iterations)


def ingest(plan, i, j, *arrays):
    """Keep a chunk of the data in the scratch folder."""
    for name, piece in own_axes(plan.names, arrays).items():
        if not plan.scratch.has(name, i, j):
            # Single precision is what the solver works in; the image is used less an offset.
            if name != "haadf" and piece.dtype == float:
                piece = piece.astype(np.float32)
            plan.scratch.write(name, i, j, piece)
    return 0


def sweep(plan, k, i, j, *done):
    """Sweep ``k`` over a chunk; ``done`` are the neighbours' earlier sweeps, for their order alone."""
    with step(plan):
        return _sweep(plan, k, i, j)


def _sweep(plan, k, i, j):
    """Sweep ``k`` over a chunk whose neighbours have done the sweeps before.

    A chunk that has got that far already is left alone: a task may be run again, after a
    worker was lost or the work was interrupted.
    """
    last, ends = k == len(plan.sweeps) - 1, (plan.row_ends, plan.column_ends)
    if not last and any(
        plan.scratch.has(f"state{later}", i, j) for later in range(k + 1, len(plan.sweeps))
    ):
        return k
    bounds = plan.bounds(i, j)
    pieces = {name: plan.scratch.read(name, *ends, bounds) for name in plan.names}
    state = plan.scratch.read(f"state{k}", *ends, bounds) if k else None
    block = _block(plan, i, j, pieces, state, k)
    with block.engine:
        block.advance(plan.sweeps[k])
        if last:
            return block.result(plan.iterations)
        plan.scratch.write(f"state{k + 1}", i, j, block.own(block.kept_state()))
    # Every neighbour has gone on from the state before this one's.
    plan.scratch.remove(f"state{k - 1}", i, j)
    return k


def _block(plan, *arguments):
    power = plan.constants.get("forward") == "power"
    return (PowerBlock if power else Block)(plan, *arguments)
