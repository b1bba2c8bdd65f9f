"""Compute or save several results of one fusion at once, so that it is solved once."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import dask.array as da
from hyperspy.signals import BaseSignal, LazySignal
from rsciio import IO_PLUGINS

from .progress import is_shown
from .solving import solved

__all__ = ["compute_together", "save_together"]


def compute_together(*signals, show_progressbar=None, close_file=False, **kwargs):
    """Load several lazy signals into memory; what they have in common is computed once.

    Fused maps of a large scan, their standard error and the residual of the HAADF image all follow from
    one solution of the problem. Computed one after the other, each would solve it again.

    Parameters
    ----------
    *signals : LazyElementMaps or other lazy signals
        Changed in place; those in memory stay as they are.
    show_progressbar : bool, optional
        None means as HyperSpy's preferences say. It counts the chunks of all sweeps.
    close_file, **kwargs
        As :meth:`hyperspy.api.signals.LazySignal.compute`.

    Raises
    ------
    TypeError
        If something else than a signal is given.
    ValueError
        If they come from different fits.
    OSError
        If the scratch folder cannot be written any more.
    ConnectionError
        If the scheduler of a cluster has gone.

    Warns
    -----
    UserWarning
        If the gap of the fused maps misses the tolerance.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_fusedmm as fmm
    >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
    >>> maps = fmm.element_maps({"Co": counts}).as_lazy()
    >>> fused, error = maps.fuse(None, standard_error="hessian", show_progressbar=False)
    >>> fmm.compute_together(fused, error)
    >>> error
    <ElementMaps, title: Element maps (standard error), dimensions: (1|16, 16)>
    """
    _check_signals(signals)
    lazy = [signal for signal in signals if signal._lazy]
    if not lazy:
        return
    values, outcome = solved(
        [signal.data for signal in lazy], show_progressbar=is_shown(show_progressbar), **kwargs
    )
    for signal, array in zip(lazy, values):
        # A solution that is known needs no graph any more.
        signal.data = da.from_array(array, chunks=-1)
        _fill_in(signal, outcome)
        LazySignal.compute(signal, close_file=close_file, show_progressbar=False)


def save_together(signals, overwrite=None, *, show_progressbar=None, **kwargs):
    """Save several signals; what they have in common is computed once, and never all in memory.

    Each file or folder has its name when all are complete.

    Parameters
    ----------
    signals : dict of path to signal
        File names with the extension of a format that can hold the signal, as ``.hspy`` (also where
        there is none) or ``.zspy``.
    overwrite : bool, optional
        Whether files of these names are replaced.
    show_progressbar : bool, optional
        None means as HyperSpy's preferences say.
    **kwargs
        As :meth:`hyperspy.api.signals.BaseSignal.save`.

    Raises
    ------
    TypeError
        If `signals` is no dict of path to signal.
    ValueError
        If an extension is that of no format to write the signal in, two paths are one, or the signals
        come from different fits.
    OSError
        If a disk is full, or a file exists and `overwrite` is not True.
    ConnectionError
        If the scheduler of a cluster has gone.

    Warns
    -----
    UserWarning
        If the gap of the fused maps misses the tolerance.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_fusedmm as fmm
    >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
    >>> maps = fmm.element_maps({"Co": counts}).as_lazy()
    >>> fused, error = maps.fuse(None, standard_error="hessian", show_progressbar=False)
    >>> results = {"fused.zspy": fused, "error.zspy": error}
    >>> fmm.save_together(results, overwrite=True, show_progressbar=False)
    """
    signals = _by_path(signals)
    for final in signals:
        if final.exists() and not overwrite:
            raise FileExistsError(f"filename: {final} exists already; pass overwrite=True.")
        if not final.parent.is_dir():
            raise FileNotFoundError(f"filename: there is no folder {str(final.parent)!r}; make it first.")
    shown, folders = is_shown(show_progressbar), {}
    try:
        for final in signals:
            folders[final] = tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent)
        lazy = {final: signal for final, signal in signals.items() if signal._lazy}
        stores = {final: os.path.join(folders[final], "values.zarr") for final in lazy}
        _, outcome = solved(
            [signal.data for signal in lazy.values()], list(stores.values()), show_progressbar=shown
        )
        partial = {final: os.path.join(folder, final.name) for final, folder in folders.items()}
        for final, signal in signals.items():
            written = signal
            if final in lazy:
                _fill_in(signal, outcome)
                written = signal._deepcopy_with_new_data(da.from_zarr(stores[final]))
            # Other writers have no progress bar.
            bar = {"show_progressbar": shown} if final.suffix in (".hspy", ".zspy") else {}
            written.save(partial[final], True, **bar, **kwargs)
        for final in signals:
            if final.is_dir():
                shutil.rmtree(final)
            os.replace(partial[final], final)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _check_signals(signals):
    for signal in signals:
        if not isinstance(signal, BaseSignal):
            raise TypeError(f"signals: found {signal!r}; signals of HyperSpy are needed.")


def _by_path(signals):
    """Signals by the path they will have; refuses what could not be written once all is computed."""
    if not isinstance(signals, Mapping):
        raise TypeError(
            f"signals: found {type(signals).__name__}; a dict of path to signal is needed, as "
            "{'fused.zspy': fused}."
        )
    _check_signals(signals.values())
    found = {}
    for path, signal in signals.items():
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"signals: found {path!r} as a path; a string or a Path is needed.")
        final = Path(path)
        final = final if final.suffix else final.with_suffix(".hspy")
        if final in found:
            raise ValueError(f"signals: found {str(final)!r} twice; each signal needs its own path.")
        _check_format(final, signal)
        found[final] = signal
    return found


def _check_format(path, signal):
    extension = path.suffix[1:].lower()
    axes = signal.axes_manager
    kind = [axes.signal_dimension, axes.navigation_dimension]
    for plugin in IO_PLUGINS:
        writes = plugin["writes"]
        if extension in plugin["file_extensions"] and (writes is True or writes and kind in writes):
            return
    raise ValueError(
        f"filename: found the extension {path.suffix!r} of {path.name!r}, in which {signal!r} cannot be "
        "written; the extension of a format for it is needed, as .hspy or .zspy."
    )


def _fill_in(signal, outcome):
    """Tell in the metadata of what was fused what came of it."""
    if outcome is not None and signal.metadata.has_item("FusedMultiModal"):
        for name, value in outcome.items():
            signal.metadata.set_item(f"FusedMultiModal.{name}", value)
