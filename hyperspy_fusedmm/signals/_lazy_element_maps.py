"""Element maps whose values are computed when they are needed."""

from hyperspy.signals import LazySignal2D

from .element_maps import ElementMaps


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
