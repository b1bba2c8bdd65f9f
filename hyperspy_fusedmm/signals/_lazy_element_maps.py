"""Element maps whose values are computed when they are needed."""

import os
import shutil
import tempfile
from pathlib import Path

import dask.array as da
from hyperspy.defaults_parser import preferences
from hyperspy.signals import LazySignal2D

from ..solver.out_of_core import solution_of
from .element_maps import ElementMaps
from .lazy_fusion import fuse_in_chunks, fuses_in_chunks, solved


class LazyElementMaps(ElementMaps, LazySignal2D):
    """Element maps backed by a Dask array; see :class:`ElementMaps`.

    :func:`element_maps` returns it where any of its inputs is lazy, ``as_lazy()`` makes one of maps in
    memory, and ``compute()`` loads it.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_fusedmm as fmm
    >>> fmm.element_maps({"Fe": np.ones((8, 8))}).as_lazy()
    <LazyElementMaps, title: Element maps, dimensions: (1|8, 8)>
    """

    _lazy = True

    def fuse(self, haadf, **options):
        """Fuse the element maps with the HAADF image; see :meth:`ElementMaps.fuse`.

        Images of more than 1024 x 1024 pixels are fused chunk by chunk, with the numbers of the whole
        image, when the fused maps are computed or saved; the history and the gap are filled in then.
        What is chosen from the data is chosen at once, on at most 1024 x 1024 pixels.

        Parameters
        ----------
        haadf : Signal2D or None
        **options
            As :meth:`ElementMaps.fuse`; ``scratch`` names an empty or new folder for what does not fit
            in memory, ``resume`` the one of an interrupted run.

        Returns
        -------
        LazyElementMaps

        Raises
        ------
        ValueError, OSError
            If an option or the scratch folder cannot be used.

        Warns
        -----
        UserWarning
            If an option needs all maps in memory.
        """
        if fuses_in_chunks(self, options):
            own = ("return_model", "standard_error")
            return fuse_in_chunks(
                self, haadf, {name: value for name, value in options.items() if name not in own}
            )
        return super().fuse(haadf, **options)

    def compute(self, close_file=False, show_progressbar=None, **kwargs):
        """Load the values into memory; fused maps are solved once, and their gap is filled in.

        Parameters
        ----------
        close_file, show_progressbar, **kwargs
            As :meth:`hyperspy.api.signals.LazySignal.compute`. The progress bar of fused maps counts the
            chunks of all sweeps.

        Raises
        ------
        OSError
            If the scratch folder cannot be written any more.
        ConnectionError
            If the scheduler of a cluster has gone.

        Warns
        -----
        UserWarning
            If the gap of fused maps misses the tolerance.
        """
        if solution_of(self.data) is None:
            super().compute(close_file=close_file, show_progressbar=show_progressbar, **kwargs)
            return
        maps, outcome = solved(
            self.data, show_progressbar=_shown(show_progressbar), **kwargs
        )
        # A solution that is known needs no graph any more.
        self.data = da.from_array(maps, chunks=-1)
        self._fill_in(outcome)
        super().compute(close_file=close_file, show_progressbar=False)

    def save(self, filename=None, overwrite=None, extension=None, **kwargs):
        """Save; fused maps are solved once, with their gap filled in, and only then written.

        The file or folder has its name when it is complete.

        Parameters
        ----------
        filename, overwrite, extension, **kwargs
            As :meth:`hyperspy.api.signals.BaseSignal.save`.

        Raises
        ------
        OSError
            If a disk is full, or the file exists and `overwrite` is not True.
        ConnectionError
            If the scheduler of a cluster has gone.

        Warns
        -----
        UserWarning
            If the gap of fused maps misses the tolerance.
        """
        if solution_of(self.data) is None or filename is None:
            super().save(filename, overwrite, extension, **kwargs)
            return
        final = Path(filename)
        if extension is not None:
            final = final.with_suffix("." + extension.lstrip("."))
        final = final if final.suffix else final.with_suffix(".hspy")
        if final.exists() and not overwrite:
            raise FileExistsError(f"filename: {final} exists already; pass overwrite=True.")
        if not final.parent.is_dir():
            raise FileNotFoundError(f"filename: there is no folder {str(final.parent)!r}; make it first.")
        folder = tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent)
        try:
            store = os.path.join(folder, "maps.zarr")
            _, outcome = solved(self.data, target=store, show_progressbar=_shown(None))
            self._fill_in(outcome)
            written = self._deepcopy_with_new_data(da.from_zarr(store))
            partial = os.path.join(folder, final.name)
            super(LazyElementMaps, written).save(partial, True, **kwargs)
            if final.is_dir():
                shutil.rmtree(final)
            os.replace(partial, final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fill_in(self, outcome):
        for name, value in outcome.items():
            self.metadata.set_item(f"FusedMultiModal.{name}", value)


def _shown(show_progressbar):
    if show_progressbar is None:
        return bool(preferences.General.show_progressbar)
    return bool(show_progressbar)
