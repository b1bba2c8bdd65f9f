"""Element maps whose values are computed when they are needed."""

from pathlib import Path

from hyperspy.signals import LazySignal2D

from ..solver.out_of_core import solution_of
from .element_maps import ElementMaps
from .lazy_fusion import is_large, needs_memory
from .together import compute_together, save_together
from .warning import warn_caller


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

    def fuse(self, haadf, *, standard_error=False, **options):
        """Fuse the element maps with the HAADF image; see :meth:`ElementMaps.fuse`.

        Images of more than 1024 x 1024 pixels are fused chunk by chunk, with the numbers of the whole
        image, when the fused maps are computed or saved; the history and the gap are filled in then.
        What is chosen from the data is chosen at once, on at most 1024 x 1024 pixels.

        Parameters
        ----------
        haadf : Signal2D or None
        standard_error : bool or {"bootstrap", "hessian"}, default False
            Of images of that size True means "hessian", which is told in a warning, since the bootstrap needs
            all maps in memory. Compute or save fused maps and standard error together:
            :func:`compute_together`, :func:`save_together`.
        **options
            As :meth:`ElementMaps.fuse`; ``scratch`` names an empty or new folder for what does not fit
            in memory, ``resume`` the one of an interrupted run.

        Returns
        -------
        LazyElementMaps, or a tuple as of :meth:`ElementMaps.fuse`

        Raises
        ------
        ValueError, OSError
            If an option or the scratch folder cannot be used.

        Warns
        -----
        UserWarning
            If an option needs all maps in memory.
        """
        if standard_error is True and is_large(self) and not needs_memory(options):
            warn_caller(
                "standard_error: the bootstrap needs all maps in memory; 'hessian', a bound that knows nothing "
                "of the regularization, is given. Ask for it to be without this warning."
            )
            standard_error = "hessian"
        return super().fuse(haadf, standard_error=standard_error, **options)

    def _model_class(self, options):
        """The model for these options of the model, and of its fit where they are known."""
        if not is_large(self):
            return super()._model_class(options)
        stored = options.get("dictionary")
        if stored is not None and "chosen_on" not in stored["_setup"]:
            return super()._model_class(options)
        reasons = needs_memory(options)
        if reasons:
            warn_caller(
                f"{', '.join(reasons)}: not available chunk by chunk; the maps "
                f"({self.data.nbytes / 1e9:.1f} GB) are loaded into memory."
            )
            return super()._model_class(options)
        from ..models.lazy_fused_multi_modal import LazyFusedMultiModal

        return LazyFusedMultiModal

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
        compute_together(self, show_progressbar=show_progressbar, close_file=close_file, **kwargs)

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
        save_together({final: self}, overwrite, **kwargs)
