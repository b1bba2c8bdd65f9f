"""One entrance to the solvers."""

import numpy as np

from .power import solve_power
from .primal_dual import solve_linear

__all__ = ["solve"]


def solve(
    problem,
    tolerance=1e-4,
    max_iterations=1000,
    initial=None,
    state=None,
    num_workers=None,
    callback=None,
):
    """Find the fused maps of a `FusionProblem`.

    The linear model is convex and solved by the primal-dual hybrid gradient method [1]_
    with the exact joint proximal map of HAADF term, likelihood and non-negativity. The power
    model is not convex; it is solved by a sequence of convex models of it, along which
    the objective never rises.

    Parameters
    ----------
    problem : FusionProblem
    tolerance : float, default 1e-4
        Stop when the duality gap, which bounds the distance of the objective from its
        minimum, is at most ``tolerance`` times the objective with the likelihood written as
        a Kullback-Leibler divergence. For the power model the same of the convex model of
        the objective at the solution. 0 means exactly ``max_iterations``.
    max_iterations : int, default 1000
    initial : (E, R, C) array, optional
        Maps to start from; the measured maps if not given.
    state : State, optional
        ``solution.state`` of an earlier solve of a problem of the same shape and
        regularization, to start from where it ended.
    num_workers : int, optional
        Number of threads; all processors if not given. It does not change the result.
    callback : callable, optional
        Called as ``callback(iteration, max_iterations, relative_gap)`` from time to time; an
        exception it raises ends the solve.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If an argument makes no sense. The message names it.

    References
    ----------
    .. [1] Chambolle & Pock, J. Math. Imaging Vis. 40, 120 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem, solve
    >>> counts = np.random.default_rng(0).poisson(2.0, (1, 32, 32))
    >>> solution = solve(FusionProblem(counts, lambda_tv=0.5))
    >>> solution.converged
    True
    """
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a number that is not negative; it is {tolerance!r}.")
    if int(max_iterations) != max_iterations or max_iterations < 0:
        raise ValueError(f"max_iterations must be a whole number >= 0; it is {max_iterations!r}.")
    if num_workers is not None and (int(num_workers) != num_workers or num_workers < 1):
        raise ValueError(f"num_workers must be a whole number >= 1; it is {num_workers!r}.")
    if initial is not None:
        initial = np.asarray(initial)
        if initial.shape != problem.maps.shape:
            raise ValueError(
                f"initial must have the shape {problem.maps.shape} of the maps; "
                f"its shape is {initial.shape}."
            )
        if not np.isfinite(initial).all():
            raise ValueError("initial must be finite, but it holds NaN or infinite values.")
    method = solve_power if problem.forward == "power" else solve_linear
    return method(
        problem,
        tolerance=float(tolerance),
        max_iterations=int(max_iterations),
        initial=initial,
        state=state,
        num_workers=num_workers,
        callback=callback,
    )
