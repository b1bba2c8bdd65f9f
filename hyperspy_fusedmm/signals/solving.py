"""Solve maps that are yet to be computed, once for everything that is made of them."""

import errno
import math
import weakref

import dask
import numpy as np
from hyperspy.external.progressbar import progressbar

from ..solver.out_of_core import ScratchError, Watch, solution_of, steps_of
from .warning import warn_caller

__all__ = ["solved", "when_solved"]

# Bound methods, of objects that are still there, by the topic of the plan they wait for.
_waiting = {}


def when_solved(solution, method):
    """Call a bound method as ``method(solution, outcome, arrays)`` when a solution is computed.

    Parameters
    ----------
    solution : ChunkedSolution
    method : bound method
        Its object is not kept alive. ``arrays`` are those that were computed, by their Dask names.
    """
    topic = solution.plan.topic
    _waiting[topic] = weakref.WeakMethod(method, lambda _: _waiting.pop(topic, None))


def solved(arrays, targets=None, *, show_progressbar=False, **options):
    """Compute arrays that are made of one solution, and what is known of it, at once.

    Parameters
    ----------
    arrays : list of dask arrays
        Fused maps and what follows from them, or anything else.
    targets : list of (path or None), optional
        Zarr stores to write the arrays to.
    show_progressbar : bool
    **options
        As :func:`dask.compute`.

    Returns
    -------
    values : list of (array or None)
        None for what was written.
    outcome : dict or None
        For ``metadata.FusedMultiModal``; None where nothing had to be solved.

    Raises
    ------
    ValueError
        If they are made of several solutions.
    OSError
        If a disk is full.
    ConnectionError
        If the scheduler of a cluster has gone.

    Warns
    -----
    UserWarning
        If the gap misses the tolerance.
    """
    targets = [None] * len(arrays) if targets is None else targets
    work = [
        array if target is None else array.to_zarr(target, compute=False)
        for array, target in zip(arrays, targets)
    ]
    solution = _one_solution(arrays)
    if solution is None:
        return list(dask.compute(*work, **options)), None
    *values, parts = _computed(solution, [*work, solution.parts], show_progressbar, options)
    outcome = _outcome(solution, parts)
    method = _waiting.get(solution.plan.topic, lambda: None)()
    if method is not None:
        names = [array.name for array in arrays]
        method(solution, outcome, {n: v for n, v, t in zip(names, values, targets) if t is None})
    _warn(outcome)
    return values, outcome


def _warn(outcome):
    """Tell where the tolerance was missed."""
    tolerance, distance, end = outcome["tolerance"], outcome["relative_gap"], "the certified optimum"
    name = "relative gap"
    if math.isnan(distance):
        name, distance, end = "stationarity residual", outcome["stationarity"], "a stationary point"
    if tolerance > 0 and not math.isclose(distance, tolerance) and distance > tolerance:
        warn_caller(
            f"tolerance: after {outcome['iterations']} iterations the {name} is {distance:.2g}, "
            f"above the tolerance of {tolerance:g}; the maps are usable, but lower tolerance, or raise "
            f"max_iterations, for {end}."
        )


def _one_solution(arrays):
    """The solution that arrays are made of, None where there is none."""
    found = {s.plan.topic: s for s in map(solution_of, arrays) if s is not None}
    if len(found) > 1:
        raise ValueError(
            f"signals: found results of {len(found)} different fits; those of one fit are solved together."
        )
    return next(iter(found.values()), None)


def _outcome(solution, parts):
    """What is known of a solution, from the computed sums of its chunks."""
    found, whole = solution.certificate(parts), solution.plan.whole
    chem = found["divergence"] - whole.likelihood_constant
    relative = found["gap"] / found["total"] if found["total"] > 0 else 0.0
    total = found["haadf"] + chem + found["regularization"]
    tolerance = float(solution.plan.tolerance)
    known = (found["totals"] > 0) & (whole.net > 0)
    kept = np.where(known, found["totals"] / np.where(known, whole.net, 1), 1.0)
    told = {"gap": found["gap"], "relative_gap": relative, "stationarity": math.nan}
    last = {"gap": [found["gap"]]}
    if solution.plan.constants.get("forward") == "power":
        # Nothing bounds how far its objective is above the minimum.
        told = {"gap": math.nan, "relative_gap": math.nan, "stationarity": relative}
        last = {"stationarity": [relative]}
    return {
        "iterations": found["iterations"], **told,
        "converged": bool(relative <= tolerance), "tolerance": tolerance,
        "kept_counts": kept.tolist(), "gap_by_chunk": found["gaps"].tolist(),
        "objective": {
            "haadf": found["haadf"], "chem": chem, "regularization": found["regularization"],
            "total": total,
        },
        "history": {
            "iteration": [float(found["iterations"])], "haadf": [found["haadf"]], "chem": [chem],
            "tv": [found["regularization"]], "total": [total], **last,
        },
    }  # fmt: skip


def _computed(solution, work, show_progressbar, options):
    """Compute with a progress bar, and say what to do where that fails from outside."""
    client = _client(options)
    folder = getattr(solution.plan.scratch, "folder", None)
    with progressbar(
        total=steps_of(solution.plan), desc="Fusing", unit=" chunks", disable=not show_progressbar
    ) as bar:
        try:
            with Watch(solution.plan, lambda done: bar.update(done - bar.n), client):
                return dask.compute(*work, **options)
        except ScratchError:
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                if client is None or error.errno is not None:
                    raise
                raise _gone(client, folder) from error
            raise OSError(
                error.errno, f"filename: writing the fused maps failed ({error.strerror}); make room, or "
                "save to another disk. No file was written.",
            ) from error  # fmt: skip
        except Exception as error:
            if client is None or not _has_gone(client, error):
                raise
            raise _gone(client, folder) from error


def _client(options):
    """The client of a cluster that Dask would compute with, or None."""
    scheduler = dask.base.get_scheduler(scheduler=options.get("scheduler"))
    owner = getattr(scheduler, "__self__", None)
    return owner if hasattr(owner, "subscribe_topic") else None


def _has_gone(client, error):
    return client.status != "running" or type(error).__name__ in (
        "CancelledError", "FutureCancelledError", "FuturesCancelledError", "TimeoutError",
    )  # fmt: skip


def _gone(client, folder):
    address = getattr(client.scheduler, "address", "unknown")
    advice = "start a cluster and call again"
    if folder is not None:
        advice += f"; if {folder} is a scratch folder that you named, resume= goes on with what is there"
    return ConnectionError(
        f"The scheduler at {address} has gone, and the fused maps with it; {advice}. No file was written."
    )
