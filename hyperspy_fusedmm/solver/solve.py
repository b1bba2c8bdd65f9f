"""One entrance to the solvers."""

import numpy as np

from .gradient_descent import solve_gradient_descent
from .multiresolution import multiresolution_start
from .power import solve_power
from .primal_dual import solve_linear

__all__ = ["solve"]

METHODS = ("primal-dual", "gradient-descent")
STARTS = ("measured", "multiresolution")
# Stopping rule on the coarser grids: a start need not be exact.
COARSE_TOLERANCE = 1e-3


def solve(
    problem,
    tolerance=1e-4,
    max_iterations=1000,
    initial=None,
    state=None,
    num_workers=None,
    callback=None,
    *,
    method="primal-dual",
    tv_iterations=3,
    keep_counts=False,
    overwrite_state=False,
):
    """Find the fused maps of a `FusionProblem`.

    The linear model is convex and solved by the primal-dual hybrid gradient method [1]_
    with the exact joint proximal map of HAADF term, likelihood and non-negativity. The power
    model is not convex; it is solved by a sequence of convex models of it, along which
    the objective never rises. ``method="gradient-descent"`` is the published algorithm for
    either [2]_, with a step of length 1, which suits maps and images scaled to [0, 1].

    Parameters
    ----------
    problem : FusionProblem
    tolerance : float, default 1e-4
        Stop when the duality gap, which bounds the distance of the objective from its
        minimum, is at most ``tolerance`` times the objective with the likelihood written as
        a Kullback-Leibler divergence. For the power model the same of the convex model of
        the objective at the solution. 0 means exactly ``max_iterations``. Gradient
        descent has no such rule and always runs exactly ``max_iterations``.
    max_iterations : int, default 1000
    initial : {"measured", "multiresolution"} or (E, R, C) array, optional
        Maps to start from: the measured ones, the solution of the binned problem (see
        `hyperspy_fusedmm.solver.multiresolution`), or others. If not given, the measured maps
        for the linear model and for gradient descent, the solution of the linear model for
        the power model.
    state : State, optional
        ``solution.state`` of an earlier solve of a problem of the same shape and
        regularization, to start from where it ended.
    num_workers : int, optional
        Number of threads; all processors if not given. It does not change the result.
    callback : callable, optional
        Called as ``callback(iteration, max_iterations, relative_gap)`` from time to time; an
        exception it raises ends the solve.
    method : {"primal-dual", "gradient-descent"}, default "primal-dual"
    tv_iterations : int, default 3
        Inner iterations of the total variation step of gradient descent.
    keep_counts : bool, default False
        Find the ``count_slope`` of the problem with which each Poisson map keeps its counts, see
        `hyperspy_fusedmm.solver.count_keeper`; that of the problem is where the search starts. Of the linear
        model only.
    overwrite_state : bool, default False
        Whether the arrays of ``state`` may be worked in, which saves a copy.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If an argument makes no sense, or gradient descent diverges. The message names it.

    References
    ----------
    .. [1] Chambolle & Pock, J. Math. Imaging Vis. 40, 120 (2011).
    .. [2] Schwartz et al., npj Comput. Mater. 8, 16 (2022).

    Examples
    --------
    >>> import numpy as np
    >>> from hyperspy_fusedmm.solver import FusionProblem, solve
    >>> counts = np.random.default_rng(0).poisson(2.0, (1, 32, 32))
    >>> solution = solve(FusionProblem(counts, lambda_tv=0.5))
    >>> solution.converged
    True
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}; it is {method!r}.")
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a number that is not negative; it is {tolerance!r}.")
    for name, value, least in (
        ("max_iterations", max_iterations, 0),
        ("tv_iterations", tv_iterations, 0),
        ("num_workers", 1 if num_workers is None else num_workers, 1),
    ):
        if not np.isfinite(value) or int(value) != value or value < least:
            raise ValueError(f"{name} must be a whole number >= {least}; it is {value!r}.")
    if state is not None and (method == "gradient-descent" or initial is not None):
        raise ValueError('state goes with method="primal-dual" and initial=None only.')
    if keep_counts and (method == "gradient-descent" or problem.forward == "power"):
        raise ValueError(
            'keep_counts goes with method="primal-dual" and forward="linear" only; found '
            f"{method!r} and {problem.forward!r}."
        )
    if method == "gradient-descent" and problem.lower_bound.any():
        raise ValueError(
            'lower_bound must be 0 for method="gradient-descent"; its largest value is '
            f"{problem.lower_bound.max()}."
        )
    if method == "gradient-descent" and problem.reference is not None:
        raise ValueError('reference must be None for method="gradient-descent"; an image was given.')
    initial = _start(problem, initial, num_workers, callback, max_iterations, keep_counts)
    if method == "gradient-descent":
        return solve_gradient_descent(
            problem,
            max_iterations=int(max_iterations),
            tv_iterations=int(tv_iterations),
            initial=initial,
            callback=callback,
        )
    options = {
        "tolerance": float(tolerance),
        "max_iterations": int(max_iterations),
        "initial": initial,
        "state": state,
        "num_workers": num_workers,
        "callback": callback,
    }
    if problem.forward == "power":
        return solve_power(problem, **options)
    return solve_linear(
        problem, **options, keep_counts=keep_counts, overwrite_state=overwrite_state
    )


def _start(problem, initial, num_workers, callback, max_iterations, keep_counts):
    """Maps to start from, or None where that is left to the method."""
    if isinstance(initial, str):
        if initial not in STARTS:
            raise ValueError(f"initial must be maps or one of {STARTS}; it is {initial!r}.")
        if initial == "measured":
            return problem.maps

        # So that the callback can end the solve; it counts iterations on the finest grid.
        report = callback and (lambda *_: callback(0, max_iterations, np.nan))

        def solved(coarse, start):
            return solve(
                coarse, tolerance=COARSE_TOLERANCE, initial=start, num_workers=num_workers,
                callback=report, keep_counts=keep_counts,
            ).maps  # fmt: skip

        return multiresolution_start(problem, solved)
    if initial is None:
        return None
    initial = np.asarray(initial)
    if initial.shape != problem.maps.shape:
        raise ValueError(
            f"initial must have the shape {problem.maps.shape} of the maps; "
            f"its shape is {initial.shape}."
        )
    if not np.isfinite(initial).all():
        raise ValueError("initial must be finite, but it holds NaN or infinite values.")
    return initial
