"""Solve the linear problem chunk by chunk, on Dask arrays that need not fit in memory."""

from .chunked import ChunkedSolution, solve_chunked
from .lazy_problem import LazyProblem
from .pilot import lazy_pilot_weights
from .scratch import ScratchError

__all__ = ["ChunkedSolution", "LazyProblem", "ScratchError", "lazy_pilot_weights", "solve_chunked"]
