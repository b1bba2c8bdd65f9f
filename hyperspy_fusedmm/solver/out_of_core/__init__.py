"""Solve the linear problem chunk by chunk, on Dask arrays that need not fit in memory."""

from .chunked import ChunkedSolution, solution_of, solve_chunked
from .guide import guide_scale, lazy_haadf_guide, lazy_haadf_reference
from .lazy_problem import LazyProblem
from .per_pixel import lazy_per_pixel
from .pilot import lazy_pilot_weights
from .report import Watch, steps_of
from .scratch import ScratchError

__all__ = [
    "ChunkedSolution",
    "LazyProblem",
    "ScratchError",
    "Watch",
    "guide_scale",
    "lazy_haadf_guide",
    "lazy_haadf_reference",
    "lazy_per_pixel",
    "lazy_pilot_weights",
    "solution_of",
    "solve_chunked",
    "steps_of",
]
