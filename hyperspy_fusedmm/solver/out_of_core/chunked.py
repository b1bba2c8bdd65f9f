"""The graph that solves a problem chunk by chunk, with the numbers of the whole image.

An iteration reaches one pixel far, so m iterations on a chunk with a halo of m pixels give
inside what the whole image would have given. One pass with a halo of all iterations needs
nothing but the data; where that halo would be too large, sweeps of fewer iterations hand the
state on through a scratch folder. Only tokens pass between their tasks, each of which waits
for its neighbours' last sweep, so that chunks need not wait for the whole image.
"""

import logging
import operator
import uuid
from dataclasses import dataclass

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from .._tiles import planes
from ..primal_dual import (
    FIRST_CHECK,
    FIRST_NEWTON_STEPS,
    NEWTON_STEPS,
    Scaled,
    certified_iteration,
)
from ..tile_engine import TileEngine
from .block import SINGLE, Plan, certificate_of
from .grid import MARGIN, largest_sweep, sweeps, working_grid
from .lazy_problem import three_axes
from .power_block import segments_of
from .scratch import Scratch
from .tasks import ingest, one_pass, sweep

__all__ = ["ChunkedSolution", "representative_iterations", "solution_of", "solve_chunked"]

_logger = logging.getLogger(__name__)

CHUNK = 1024
SOLVED = "fusedmm-solve-"
TILE = 384
# The whole image may need a little more than its representative tiles.
SAFETY = 1.15


@dataclass
class ChunkedSolution:
    """Fused maps that are still to be computed, and what will be known of them.

    Attributes
    ----------
    maps : (E, R, C) float32 dask array
        Fused maps in the units of the measured maps.
    parts : (rows of chunks, columns of chunks, K) dask array
        Sums of every chunk; `certificate` makes the terms and the gap of them. Compute it
        together with the maps, so that the problem is solved once.
    plan : Plan
    """

    maps: da.Array
    parts: da.Array
    plan: Plan

    def certificate(self, parts):
        """Terms, gap, iterations and totals of the image from the computed ``parts``; a dict."""
        return certificate_of(parts, self.plan.shape[0])


def representative_iterations(problem, whole, tolerance, max_iterations):
    """Iterations until three tiles, fixed by the image's shape, meet the tolerance."""
    _, rows, columns = problem.shape
    needed = 0
    for share in (0.25, 0.5, 0.75):
        where = []
        for size in (rows, columns):
            length = min(TILE, size)
            start = min(max(int(share * size) - length // 2, 0), size - length)
            where.append(slice(start, start + length))
        part = problem.crop(*where)
        scaled = Scaled(part, whole.map_scale, whole.haadf_scale, whole.typical_strength)
        start = scaled.initial_state(None, None)
        with TileEngine(scaled.data(), part.regularization, start) as engine:
            records, _ = certified_iteration(
                engine, scaled, whole.balance, tolerance=tolerance, max_iterations=max_iterations,
                callback=None,
            )  # fmt: skip
        needed = max(needed, records[-1][0])
    return min(int(np.ceil(SAFETY * needed)), max_iterations)


def solve_chunked(
    problem,
    tolerance=1e-4,
    max_iterations=1000,
    *,
    chunk=CHUNK,
    scratch=None,
    resume=None,
    iterations=None,
    schedule=None,
    from_measured=False,
):
    """Set up the solution of a `LazyProblem`; nothing of the size of the image is computed.

    Parameters
    ----------
    problem : LazyProblem
    tolerance : float, default 1e-4
        Decides the number of iterations, on representative tiles. 0 means exactly
        ``max_iterations``. An image of one chunk is solved until it meets it.
    max_iterations : int, default 1000
    chunk : int or tuple of tuple of int, default 1024
        Rows and columns to work on at a time, or the chunks ((E,), rows, columns) themselves.
    scratch : path, optional
        An empty or new folder for the state between sweeps; a temporary one if not given.
        Under ``dask.distributed`` every worker must see it.
    resume : path, optional
        Scratch folder of an interrupted run of the same problem, to go on with.
    iterations : int, optional
        Iterations, if known.
    schedule : (K, 3) array
        For the power model, which needs it in place of a number of iterations: `Solution.schedule`
        of the same problem on a part of the image.
    from_measured : bool, default False
        Whether the power model starts from the measured maps, not from the linear model.

    Returns
    -------
    ChunkedSolution

    Raises
    ------
    ScratchError
        If the scratch folder cannot be used.
    ValueError
        If ``chunk`` makes no sense.

    Examples
    --------
    >>> import dask
    >>> import dask.array as da
    >>> from hyperspy_fusedmm.solver.out_of_core import LazyProblem, solve_chunked
    >>> counts = da.random.default_rng(0).poisson(2.0, (1, 64, 48), chunks=32)
    >>> solution = solve_chunked(LazyProblem(counts, lambda_tv=0.5), chunk=32)
    >>> maps, parts = dask.compute(solution.maps, solution.parts)
    >>> maps.shape, solution.certificate(parts)["gap"] >= 0
    ((1, 64, 48), True)
    """
    if isinstance(chunk, int):
        if chunk < 1:
            raise ValueError(f"chunk must be a whole number >= 1; it is {chunk}.")
        chunks = working_grid(problem.shape, chunk)
    else:
        chunks = ((problem.shape[0],),) + tuple(tuple(map(int, c)) for c in chunk[1:])
        if tuple(map(sum, chunks)) != tuple(problem.shape):
            raise ValueError(f"chunk must add up to the shape {problem.shape}; it is {chunk}.")
    if scratch is not None and resume is not None:
        raise ValueError("scratch and resume cannot be given both; resume names the folder.")
    whole = problem.measure()
    single = chunks[1:] == ((problem.shape[1],), (problem.shape[2],))
    plan_sweeps, halo, segments = [], 0, None
    if problem.constants.get("forward", "linear") == "power":
        if schedule is None:
            raise ValueError("schedule must be given for the power model; it is None.")
        segments, iterations = segments_of(schedule, from_measured), np.asarray(schedule).tolist()
    elif not single:
        if iterations is None:
            iterations = max_iterations
            if tolerance > 0:
                iterations = representative_iterations(problem, whole, tolerance, max_iterations)
        iterations = int(iterations)
        first = min(iterations, FIRST_CHECK)
        segments = [(first, FIRST_NEWTON_STEPS), (iterations - first, NEWTON_STEPS)]
    if segments is not None:
        plan_sweeps = sweeps(segments, largest_sweep(chunks))
        halo = max(sum(n for n, *_ in part) for part in plan_sweeps) + MARGIN
    store = None
    if len(plan_sweeps) > 1:
        store = _scratch(problem, whole, chunks, iterations, scratch, resume)
    plan = Plan(
        shape=problem.shape,
        names=tuple(problem.arrays),
        constants=problem.constants,
        whole=whole,
        row_ends=_ends(chunks[1]),
        column_ends=_ends(chunks[2]),
        sweeps=plan_sweeps,
        halo=halo,
        tolerance=tolerance,
        max_iterations=max_iterations,
        num_workers=None if single else 1,
        scratch=store,
        topic=f"fusedmm-{uuid.uuid4().hex}",
    )
    _logger.info(
        "%d x %d chunks, %d sweeps, halo of %d pixels, %s", len(chunks[1]), len(chunks[2]),
        max(len(plan_sweeps), 1), halo, "no scratch" if store is None else store.folder,
    )  # fmt: skip
    arrays = [three_axes(a).rechunk((-1,) + chunks[1:]) for a in problem.arrays.values()]
    if store is None and halo:
        arrays = [_with_halo(a, plan) for a in arrays]
    return _graph(plan, arrays, chunks)


def _ends(sizes):
    return (0, *np.cumsum(sizes).tolist())


def _with_halo(array, plan):
    """Chunks of an array with their halo, in place of the chunks."""
    rows, columns = len(plan.row_ends) - 1, len(plan.column_ends) - 1
    cells = []
    for i in range(rows):
        line = []
        for j in range(columns):
            row, row_end, column, column_end = plan.bounds(i, j)
            line.append(array[:, row:row_end, column:column_end].rechunk(-1))
        cells.append(line)
    return cells


def _scratch(problem, whole, chunks, iterations, scratch, resume):
    pixels = problem.shape[1] * problem.shape[2]
    regularization = problem.constants.get("regularization", "tv")
    state = planes(problem.shape[0], regularization)
    if problem.constants.get("forward", "linear") == "power":
        # The maps, and slopes, around which the power is linearised.
        state += problem.shape[0] * (3 if regularization == "tgv" else 1)
    data = sum((a.shape[0] if a.ndim == 3 else 2) * 4 for a in problem.arrays.values())
    fingerprint = {
        "shape": list(problem.shape),
        "chunks": [list(c) for c in chunks],
        "iterations": iterations,
        "arguments": {
            name: np.asarray(value).tolist() for name, value in sorted(problem.constants.items())
        },
        "values": whole.fingerprint,
    }
    return Scratch(
        resume if resume is not None else scratch, pixels * (8 * state + data), fingerprint,
        resume is not None,
    )  # fmt: skip


def _graph(plan, arrays, chunks):
    token = uuid.uuid4().hex
    solved, tokens = f"{SOLVED}{token}", f"fusedmm-sweep-{token}"
    parameters = f"fusedmm-plan-{token}"
    cells = [(i, j) for i in range(len(chunks[1])) for j in range(len(chunks[2]))]
    work, dependencies = {parameters: plan}, []
    for i, j in cells:
        sources = []
        for array in arrays:
            block = array[i][j] if isinstance(array, list) else array
            dependencies.append(block)
            sources.append((block.name, 0, 0, 0) if isinstance(array, list) else (block.name, 0, i, j))
        if plan.scratch is None:
            work[solved, i, j] = (one_pass, parameters, i, j, *sources)
        else:
            work[tokens, 0, i, j] = (ingest, parameters, i, j, *sources)
    if plan.scratch is not None:
        for k in range(len(plan.sweeps)):
            for i, j in cells:
                before = [(tokens, k, a, b) for a, b in plan.neighbours(i, j)]
                last = k == len(plan.sweeps) - 1
                key = (solved, i, j) if last else (tokens, k + 1, i, j)
                work[key] = (sweep, parameters, k, i, j, *before)
    unique = list({a.name: a for a in dependencies}.values())
    layers = HighLevelGraph.from_collections(solved, work, dependencies=unique)
    maps = f"fusedmm-maps-{token}"
    taken = {(maps, 0, i, j): (operator.getitem, (solved, i, j), 0) for i, j in cells}
    graph = HighLevelGraph.from_collections(maps, taken, dependencies=[_Layered(layers, solved)])
    array = da.Array(graph, maps, chunks, meta=np.zeros((0, 0, 0), np.float32))
    return ChunkedSolution(maps=array, parts=_parts(layers, token, plan), plan=plan)


def _parts(graph, token, plan):
    solved, parts = f"{SOLVED}{token}", f"fusedmm-parts-{token}"
    rows, columns = len(plan.row_ends) - 1, len(plan.column_ends) - 1
    sums = {
        (parts, i, j, 0): (operator.getitem, (solved, i, j), 1)
        for i in range(rows)
        for j in range(columns)
    }
    return da.Array(
        HighLevelGraph.from_collections(parts, sums, dependencies=[_Layered(graph, solved)]),
        parts,
        ((1,) * rows, (1,) * columns, (SINGLE + 3 * plan.shape[0],)),
        meta=np.zeros((0, 0, 0)),
    )


def solution_of(array):
    """The `ChunkedSolution` that a Dask array of all pixels is made of, or None.

    What is attached to an array is lost when it is copied; its graph is not.
    """
    graph = getattr(array, "dask", None)
    for name in getattr(graph, "layers", {}):
        if name.startswith(SOLVED):
            token = name[len(SOLVED) :]
            plan = graph.layers[name][f"fusedmm-plan-{token}"]
            plan = getattr(plan, "value", plan)
            if array.shape[-2:] != tuple(plan.shape[1:]):
                return None
            return ChunkedSolution(maps=array, parts=_parts(graph, token, plan), plan=plan)
    return None


class _Layered:
    """What `HighLevelGraph.from_collections` needs to know of a layer that is no array."""

    def __init__(self, graph, name):
        self._graph, self._name = graph, name

    def __dask_graph__(self):
        return self._graph

    def __dask_keys__(self):
        return []

    def __dask_layers__(self):
        return (self._name,)
