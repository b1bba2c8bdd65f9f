"""What is known of every pixel on its own, of maps that are not in memory."""

import dask.array as da
import numpy as np

from ..problem import FusionProblem
from .lazy_problem import own_axes, three_axes

__all__ = ["lazy_per_pixel"]

# Arguments of a problem that pixels on their own know nothing of.
_OF_NEIGHBOURS = ("guide", "reference", "regularization_weights")


def lazy_per_pixel(problem, maps, function, pairs=False):
    """Results of a function of a problem and its solution that looks at each pixel on its own.

    Parameters
    ----------
    problem : LazyProblem
    maps : (E, R, C) dask array
        Its solution, all elements in each chunk; the result has its rows and columns of chunks.
    function : callable
        As `hyperspy_fusedmm.solver.hessian_variance`: of a `FusionProblem` and of maps (E, R, C) in
        memory; returns a float32 array (E, R, C).
    pairs : bool, default False
        Whether it returns an array (E, E, R, C).

    Returns
    -------
    (E, R, C) or (E, E, R, C) float32 dask array

    Examples
    --------
    >>> import dask.array as da
    >>> from hyperspy_fusedmm.solver import hessian_variance
    >>> from hyperspy_fusedmm.solver.out_of_core import LazyProblem
    >>> counts = da.full((1, 64, 64), 4.0, chunks=32)
    >>> lazy_per_pixel(LazyProblem(counts), counts, hessian_variance).compute().max()
    np.float32(4.0)
    """
    arrays = {name: a for name, a in problem.arrays.items() if name not in _OF_NEIGHBOURS}
    pieces = [
        three_axes(a).rechunk((-1,) + maps.chunks[1:]) for a in arrays.values()
    ]
    constants = {k: v for k, v in problem.constants.items() if k not in _OF_NEIGHBOURS}
    elements = ((maps.shape[0],),)
    return da.map_blocks(
        _of_block, maps, *pieces, names=tuple(arrays), constants=constants, function=function,
        dtype=np.float32, chunks=elements * (1 + pairs) + maps.chunks[1:],
        new_axis=[0] if pairs else None, meta=np.zeros((0,) * (3 + pairs), np.float32),
    )  # fmt: skip


def _of_block(maps, *pieces, names, constants, function):
    return function(FusionProblem(**own_axes(names, pieces), **constants), maps)
