"""Solve the linear problem chunk by chunk, on Dask arrays that need not fit in memory."""

from .chunked import ChunkedSolution, solution_of, solve_chunked
from .lazy_problem import LazyProblem
from .pilot import lazy_pilot_weights
from .scratch import ScratchError

__all__ = [
    "ChunkedSolution",
    "LazyProblem",
    "ScratchError",
    "lazy_pilot_weights",
    "solution_of",
    "solve_chunked",
]
