"""How fused maps were made, in values that every file format keeps."""

import numpy as np

from .._version import __version__

# Kept in the model, but too large, or of no use, beside the fused maps.
_NOT_TOLD = ("names", "maps", "terms", "history", "regularization_weights", "noise", "selection")
# Not known before lazy maps are computed.
_TO_COME = ("iterations", "converged", "gap", "relative_gap", "stationarity", "kept_counts", "gap_by_chunk")


def provenance(setup, result):
    """Everything that decides the fused maps, and what came of it.

    Images are arrays, everything else plain numbers, strings and lists of them: lists come back as
    lists even from files that are read lazily.

    Parameters
    ----------
    setup : dict
        What was given to the model or chosen by it.
    result : dict
        What was given to the fit or found by it; its ``history`` is None before lazy maps are computed.

    Returns
    -------
    dict
        For ``metadata.FusedMultiModal``.
    """
    told = {"version": __version__}
    for source in (setup, result):
        told.update(
            {name: _plain(value) for name, value in source.items() if name not in _NOT_TOLD}
        )
    told["regularization_weights"] = told.pop("regularization_weights_rule")
    if result["history"] is None:
        return {name: value for name, value in told.items() if name not in _TO_COME}
    told["objective"] = {name: float(value) for name, value in result["terms"].items()}
    told["history"] = {name: _plain(np.asarray(v)) for name, v in result["history"].items()}
    return told


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.copy() if value.ndim > 1 else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, (list, tuple)) else value
