"""Maps of several elements on one grid, as a HyperSpy signal."""

import numpy as np
from hyperspy.io import assign_signal_subclass
from hyperspy.signals import Signal2D

from .assemble import assemble
from .fusing import route_options
from .names import lines_of
from .series import fuse_series, is_series


def element_maps(source, elements=None, *, sum_lines=True):
    """Element maps on one grid, from what extraction returned.

    Parameters
    ----------
    source : list of signals, dict, or signal
        The list that eXSpy's ``get_lines_intensity()`` or ``quantification()`` returns; a list of
        ``Signal2D``, such as EELS edge maps or the maps Velox stored; a dict of element to signal or
        array of shape (R, C); or a stack, a signal of dimensions (E|C, R).
    elements : list of str, optional
        Element (``"Fe"``) or X-ray line (``"Fe_Ka"``) of each map, in the order of `source`. By default
        they are read from ``metadata.Sample.elements`` and ``metadata.Sample.xray_lines`` of each signal,
        then from its title.
    sum_lines : bool, default True
        Add maps of one element, such as two of its X-ray lines. If False they stay maps of their own.

    Returns
    -------
    ElementMaps or LazyElementMaps
        Shape (E, R, C), in the units of `source`; lazy if any of the inputs is. Calibration and metadata
        are those of the first calibrated signal; a noise variance is kept where every map has one and
        none is lazy.

    Raises
    ------
    TypeError
        If `source` is of another kind or its values are not real numbers.
    ValueError
        If an element is missing or unknown, or the maps do not share one grid (shapes differ, or pixel
        sizes by more than 1 %).

    Warns
    -----
    UserWarning
        If a name in `elements` contradicts the metadata of its signal, or the axes of two signals begin at
        different places.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_fusedmm as fmm
    >>> counts = np.random.default_rng(0).poisson(2, (2, 16, 16))
    >>> maps = fmm.element_maps({"Co": counts[0], "O": counts[1]})
    >>> maps
    <ElementMaps, title: Element maps, dimensions: (2|16, 16)>
    >>> maps.elements
    ['Co', 'O']
    """
    parts = assemble(source, elements, sum_lines)
    variance, background = parts.pop("variance"), parts.pop("background")
    data = parts["data"]
    cls = assign_signal_subclass(
        dtype=data.dtype,
        signal_dimension=2,
        signal_type="ElementMaps",
        lazy=not isinstance(data, np.ndarray),
    )
    maps = cls(**parts)
    axes = maps.axes_manager._get_axes_dicts()
    if variance is not None:
        maps.set_noise_variance(Signal2D(variance, axes=axes))
    if background is not None:
        counts = Signal2D(background, axes=axes)
        maps.metadata.set_item(
            "Background.counts", counts if isinstance(background, np.ndarray) else counts.as_lazy()
        )
    return maps


class ElementMaps(Signal2D):
    """Maps of several elements on one grid: dimensions (Element|x, y), data of shape (E, R, C).

    Made by :func:`element_maps`, or by ``set_signal_type("ElementMaps")`` from any stack of images.
    The elements stand in ``metadata.Sample.elements`` and their X-ray lines in
    ``metadata.Sample.xray_lines``; both follow slicing with ``inav``.

    Parameters
    ----------
    *args, **kwargs
        As :class:`hyperspy.api.signals.Signal2D`.

    Examples
    --------
    >>> import hyperspy.api as hs
    >>> import numpy as np
    >>> stack = hs.signals.Signal2D(np.ones((2, 8, 8)))
    >>> stack.metadata.set_item("Sample.elements", ["Fe", "O"])
    >>> stack.set_signal_type("ElementMaps")
    >>> stack.inav[1].elements
    ['O']
    """

    _signal_type = "ElementMaps"
    # The expected background under the lines, where it is known, is that of these maps and pixels.
    _additional_slicing_targets = [
        *Signal2D._additional_slicing_targets,
        "metadata.Background.counts",
    ]

    @property
    def elements(self):
        """Element of each map, in order (list of str); empty where none were named.

        Raises
        ------
        ValueError
            If there are not as many names as maps, for example after summing over the elements.
        """
        elements = self._listed("elements")
        if elements and len(elements) != self._map_count:
            raise ValueError(
                f"metadata.Sample.elements: found {len(elements)} names ({', '.join(elements)}) for "
                f"{self._map_count} maps; one per map is needed."
            )
        return elements

    @property
    def _element_axis(self):
        """The navigation axis along the elements; None for a single map, and for frames of one.

        A stack that was not made here may call it anything.
        """
        axes = self.axes_manager.navigation_axes
        for axis in axes:
            if axis.name == "Element":
                return axis
        return axes[0] if len(axes) == 1 and axes[0].name != "Frame" else None

    @property
    def _map_count(self):
        """Maps along the axis of the elements, however many frames there are of each."""
        axis = self._element_axis
        return 1 if axis is None else axis.size

    def _listed(self, item):
        return [str(entry) for entry in self.metadata.get_item(f"Sample.{item}", None) or []]

    def _map_names(self):
        """What tells the maps apart: the element, or its X-ray line where it occurs more than once."""
        elements, lines = self.elements, self._listed("xray_lines")
        return [
            lines[i] if elements.count(element) > 1 and len(lines) == len(elements) else element
            for i, element in enumerate(elements)
        ]

    def get_map(self, element):
        """The map of one element.

        Parameters
        ----------
        element : str
            Element (``"Fe"``), or X-ray line (``"Fe_Ka"``) where lines were not summed.

        Returns
        -------
        ElementMaps
            A view of dimensions (|x, y), or of all frames where there are any, titled with the name.

        Raises
        ------
        ValueError
            If there is no such map, or more than one.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> fmm.element_maps({"Co": np.ones((8, 8)), "O": np.zeros((8, 8))}).get_map("O")
        <ElementMaps, title: O, dimensions: (|8, 8)>
        """
        elements, names = self.elements, self._map_names()
        if element in names:
            index = names.index(element)
        elif elements.count(element) > 1:
            raise ValueError(
                f"element: there are several maps of {element}; name one of {', '.join(names)}."
            )
        elif self._lines_of_map(element) is not None:
            index = self._lines_of_map(element)
        else:
            raise ValueError(
                f"element: {element!r} is not among these maps; there are {', '.join(names) or 'none'}."
            )
        axis = self._element_axis
        if axis is None:
            found = self.deepcopy()
        else:
            slices = [slice(None)] * self.axes_manager.navigation_dimension
            slices[axis.index_in_axes_manager] = index
            found = self.inav[tuple(slices)]
        found.metadata.General.title = str(element)
        return found

    def _lines_of_map(self, line):
        """Index of the map that consists of this X-ray line alone."""
        elements, lines = self.elements, self._listed("xray_lines")
        for i in range(len(elements)):
            if lines_of(elements, lines, [i]) == [line]:
                return i
        return None

    def fuse(self, haadf, *, return_model=False, standard_error=False, **options):
        """Fuse the element maps with the HAADF image recorded with them.

        Finds the maps that explain both the counts and the HAADF image; see
        :class:`~hyperspy_fusedmm.FusedMultiModal` for the problem that is solved.

        Parameters
        ----------
        haadf : Signal2D or None
            HAADF image of shape (R, C) on the grid of the maps. None denoises the counts alone. Frames or
            tilts along further navigation axes are fused one after the other, each with its own image of a
            stack, or all with one image; see Notes.
        return_model : bool, default False
            Return the model as well, of a series a list of them: HAADF fit, residual, objective, history.
        standard_error : bool or {"bootstrap", "hessian"}, default False
            Return the standard error of the fused maps as well, by this method of
            :meth:`~hyperspy_fusedmm.FusedMultiModal.standard_error`; True takes "bootstrap".
        **options
            Any option of :meth:`create_model` and of
            :meth:`~hyperspy_fusedmm.FusedMultiModal.fit`.

        Returns
        -------
        fused : ElementMaps
            In the units of the maps, lazy if they are; how it was made is told under
            ``metadata.FusedMultiModal``.
        standard_error : ElementMaps
            Only where asked for.
        model : FusedMultiModal
            Only where asked for.

        Raises
        ------
        TypeError
            If an option does not exist.
        ValueError
            If the maps, the image or an option cannot be used; nothing is changed then.

        Notes
        -----
        Of a series, weights, offset and noise of the HAADF image are found frame by frame. The form of the
        regularization, `lambda_haadf` and `lambda_tv`, where they are "auto", are chosen on the frame in the
        middle, so that all frames are smoothed alike. ``metadata.FusedMultiModal`` holds what all frames
        share, and under ``frames`` lists of what differs; slices do not take their entry along, so
        ask the models for the composition of single frames.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> thickness = np.add.outer(np.arange(16.0), np.arange(16.0)) / 8
        >>> counts = np.random.default_rng(0).poisson(thickness)
        >>> maps = fmm.element_maps({"Co": counts})
        >>> fused = maps.fuse(50 + 20 * thickness, show_progressbar=False)
        >>> bool(abs(fused.data - thickness).mean() < abs(counts - thickness).mean())
        True
        """
        from ..models.fused_multi_modal import FusedMultiModal

        if is_series(self):
            shown = {"return_model": return_model, "standard_error": standard_error}
            return fuse_series(self, haadf, **shown, **options)
        create, fit = route_options(options, self.create_model, FusedMultiModal.fit)
        method = _error_method(standard_error)
        model_class = self._model_class({**options, "standard_error": method})
        model = model_class(self, haadf, **create)
        model.fit(**fit)
        errors = []
        if method:
            shared = {name: fit[name] for name in ("show_progressbar", "num_workers") if name in fit}
            errors.append(model.standard_error(method, **shared))
        results = [model.fused, *errors]
        if return_model:
            results.append(model)
        return results[0] if len(results) == 1 else tuple(results)

    def create_model(
        self,
        haadf=None,
        *,
        forward="auto",
        gamma=None,
        fidelity="auto",
        background="auto",
        sensitivities=None,
        weights="auto",
        haadf_offset="auto",
        haadf_noise="auto",
        noise="auto",
        preset=None,
        dictionary=None,
    ):
        """A model of the counts and of the HAADF image that the same specimen gives.

        Parameters
        ----------
        haadf : Signal2D, array of shape (R, C), or None
            HAADF image on the grid of the maps; None models the counts alone.
        forward : {"auto", "linear", "power"}, default "auto"
            HAADF intensity as a weighted sum of the maps (what "auto" takes), or, as published, as a sum of
            powers of them.
        gamma : float, "auto" or None, default None
            Exponent of the atomic number in the HAADF intensity of one atom, from 1 to 2.5; for "power" of
            the maps as well. None takes 1.7, or what the preset has. "auto" finds it from the data, between
            4/3 and 2; for "linear" that needs `sensitivities`.
        fidelity : {"auto", "poisson", "gaussian"}, or list or dict of these per element
            Likelihood of the counts. "auto": Poisson for whole numbers >= 0, Gaussian for fractions
            and for maps with negative values.
        background : "auto", float, (E,), dict, or maps of shape (E, R, C)
            Expected counts that are not the element's own (bremsstrahlung under the line), in the units of
            the maps; for the Poisson likelihood. "auto" takes ``metadata.Background.counts``, where
            :func:`load_velox` keeps it, and else 0. Fused maps are net of it.
        sensitivities : (E,) or dict, optional
            Counts that one atom yields, in any common unit. Given, the HAADF weights are
            ``gain * Z**gamma / sensitivity`` and only the gain is fitted. ``{"method": "CL", "factors": [...]}``
            takes the factors of eXSpy's quantification, in the order of the maps or by element, see
            :func:`sensitivities_from_factors`.
        weights : "auto", (E,) or dict
            HAADF intensity per count of each element. "auto", here or for single elements, fits them to the data
            as far as the maps allow it and beyond takes ``Z**gamma / sensitivity``, with a warning. Without
            sensitivities these are the atomic weights for counts (equal k-factors), and 1 for other maps.
        haadf_offset : "auto" or float
            HAADF intensity without specimen. "auto" fits it, or takes the black level that the file of the image
            states (DM3, DM4) where that agrees.
        haadf_noise : "auto", float or array of shape (R, C)
            Standard deviation of the HAADF image from its model, model error included. "auto" takes the
            residual of the calibration.
        noise : "auto", float, (E,), dict, or maps of shape (E, R, C)
            Standard deviation of Gaussian maps. "auto" takes ``metadata.Signal.Noise_properties.variance``
            where present, else an estimate from the finest differences.
        preset : {"schwartz2022"}, optional
            A published set of options, for what is left "auto" here and in
            :meth:`~hyperspy_fusedmm.FusedMultiModal.fit`: the objective and the algorithm of Schwartz et al.,
            with the settings of the tutorial for DyScO3 (see Notes). Options given override it.
        dictionary : dict, optional
            A stored model; what ``maps.models.restore()`` passes.

        Returns
        -------
        FusedMultiModal

        Raises
        ------
        ValueError
            If an argument cannot be used: names, found and needed values are in the message.

        Notes
        -----
        ``preset="schwartz2022"`` makes published results again. It scales every map and the image to
        [0, 1] by its smallest and largest value. **That throws the counts away**: the likelihood no longer
        knows how much noise a pixel has, and elements are weighted by their brightest pixel. So it is
        right for the comparison with what was published, and not for counts of one's own. Options are then
        in the scaled units, here and in ``fit``. Fused maps are in the units of `maps` again. The settings
        are ``forward="power"``, ``gamma=1.6``, ``fidelity="poisson"`` whatever the values,
        ``background=0.24``, ``weights=(Z / mean(Z))**(1 / gamma)``, ``haadf_offset=0`` and
        ``haadf_noise=1``, and for the fit ``lambda_haadf=1/3``, ``lambda_chem=0.08``,
        ``lambda_tv=0.15``, ``regularization="tv"``, ``regularization_weights="uniform"`` and
        ``solver="gradient-descent"`` with its 30 iterations of 3 steps of total variation.
        ``solver="primal-dual"`` minimises the same objective.

        References
        ----------
        Schwartz et al., npj Computational Materials 8, 16 (2022); Manassa et al., Elemental Microscopy
        (2024).

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> fmm.element_maps({"Co": counts}).create_model()
        <FusedMultiModal, title: Element maps, elements: Co, without HAADF, not fitted>
        """
        options = {"forward": forward, "preset": preset, "dictionary": dictionary}
        return self._model_class(options)(
            self,
            haadf,
            forward=forward,
            gamma=gamma,
            fidelity=fidelity,
            background=background,
            sensitivities=sensitivities,
            weights=weights,
            haadf_offset=haadf_offset,
            haadf_noise=haadf_noise,
            noise=noise,
            preset=preset,
            dictionary=dictionary,
        )

    def _model_class(self, options):
        """The class of a model with these options."""
        from ..models.fused_multi_modal import FusedMultiModal

        return FusedMultiModal

    def plot_convergence(self, ax=None):
        """Plot how the objective and the duality gap fell while these maps were fused.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a figure of its own.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If the maps were not fused.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> maps = fmm.element_maps({"Co": np.random.default_rng(0).poisson(5, (16, 16))})
        >>> fused = maps.fuse(None, tolerance=1e-2, show_progressbar=False)
        >>> figure = fused.plot_convergence()
        """
        history = self.metadata.get_item("FusedMultiModal.history", None)
        if history is None:
            raise ValueError(
                "metadata.FusedMultiModal.history: nothing was recorded; maps returned by fuse() have it."
            )
        from ..drawing.convergence import plot_convergence

        history = {name: np.asarray(values) for name, values in history.as_dictionary().items()}
        return plot_convergence(history, ax=ax)

    def plot_overlay(self, elements=None, colors=None, percentile=99.5, ax=None):
        """Plot the maps on top of each other, one colour per element.

        Up to three maps are added, as light adds; of more, the strongest at a pixel tell its colour.

        Parameters
        ----------
        elements : list of str, optional
            Elements to draw; all by default.
        colors : list or dict of matplotlib colours, optional
            One per element.
        percentile : float, default 99.5
            Percentile of each map that gets the full colour.
        ax : matplotlib Axes, optional
            Where to draw; by default a figure of its own.

        Returns
        -------
        matplotlib.figure.Figure

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (2, 16, 16))
        >>> figure = fmm.element_maps({"Co": counts[0], "O": counts[1]}).plot_overlay()
        """
        from ..drawing.overlay import plot_overlay

        return plot_overlay(self, elements=elements, colors=colors, percentile=percentile, ax=ax)

    def atomic_percent(
        self,
        sensitivities=None,
        *,
        return_error=False,
        minimum_counts="auto",
        keep_totals=True,
        covariance=None,
        sensitivities_error="auto",
    ):
        r"""Atomic percent of each element at every pixel.

        With the atoms :math:`N_i = x_i / s_i` that the counts :math:`x_i` stand for at :math:`s_i` counts per
        atom, :math:`100 N_i / \sum_j N_j`.

        Parameters
        ----------
        sensitivities : (E,) or dict, optional
            Counts that one atom of each element yields, in any common unit, or the factors of eXSpy's
            quantification, ``{"method": "CL", "factors": [...]}``, see
            :func:`sensitivities_from_factors`. By default they are those the maps were fused with, or
            follow from the HAADF weights :math:`w_i` that were found for, or given to, the fusion: an atom
            adds :math:`Z_i^\gamma` to the image, so :math:`N_i \propto w_i x_i / Z_i^\gamma`
            (:math:`w_i x_i / Z_i` for ``forward="power"``).
        return_error : bool, default False
            Return the standard error as well.
        minimum_counts : "auto" or float, default "auto"
            Pixels with fewer counts than this, of all elements together and in the units of the maps, are
            NaN: where there is nothing, nothing has a composition. "auto" takes 5 % of the counts of a
            typical pixel of the specimen, the mean of the counts weighted by themselves.
        keep_totals : bool or ElementMaps, default True
            Scale each fused map so that its total is that of the counts it was made of
            (``metadata.FusedMultiModal.kept_counts`` tells the share it has). Regularization takes counts
            away from faint elements, which would seem rarer than they are. Maps that are fused chunk by
            chunk know their share once they are computed or saved; before, pass the measured maps.
        covariance : Signal2D or array of shape (E, E, R, C), optional
            Covariance of the errors of the maps, as
            :meth:`~hyperspy_fusedmm.FusedMultiModal.covariance` returns it. Without, maps that were not fused
            take their noise variance, and fused ones have no error: ask the model for it.
        sensitivities_error : "auto", float, (E,) or dict, default "auto"
            Relative standard error of the sensitivities, independent among elements: 0.06 for 6 %. It is
            part of the standard error. "auto" takes the covariance of the weights where they are used and
            were fitted, and else 0.

        Returns
        -------
        percent : ElementMaps
            In atomic percent, with axes and metadata of the maps; lazy if they are. Which sensitivities
            were used is told under ``metadata.FusedMultiModal.atomic_percent``.
        standard_error : ElementMaps
            One sigma, in atomic percent; only where asked for.

        Raises
        ------
        ValueError
            If the sensitivities do not fit the maps; if there are none and the HAADF weights do not tell
            them; if there is but one map, or several of one element; or if the errors are not known.

        Warns
        -----
        UserWarning
            If less than half of the counts of an element are in its fused map.

        Notes
        -----
        A lazy scan is read once at once, to find the default of `minimum_counts`. Lazy maps that are yet to
        be fused are not, and stay in memory while they are; a number avoids both.

        References
        ----------
        Schwartz et al., npj Computational Materials 8, 16 (2022), for the composition from the HAADF weights.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.ones((8, 8))
        >>> maps = fmm.element_maps({"Ga": 10 * counts, "O": 3 * counts})
        >>> percent = maps.atomic_percent({"Ga": 5.0, "O": 1.0})
        >>> percent
        <ElementMaps, title: Element maps (atomic percent), dimensions: (2|8, 8)>
        >>> float(percent.get_map("Ga").data[0, 0])
        40.0
        """
        from .composition import (
            atomic_percent,
            covariance_array,
            kept_by,
            sensitivities_for,
        )

        found = sensitivities_for(self, sensitivities, sensitivities_error)
        kept, spread = kept_by(self, keep_totals), None
        if return_error:
            spread = covariance_array(self, covariance, kept)
        percent, error = atomic_percent(
            self, found, minimum_counts=minimum_counts, kept=kept, covariance=spread
        )
        return (percent, error) if return_error else percent

    def composition_phases(self, elements=None, phases="auto"):
        """Phases in the distribution of the atomic percent of each element: a mixture of Gaussians.

        Every pixel that has a composition counts once, so shares are shares of area. Mixed pixels and
        noise are in the spreads.

        Parameters
        ----------
        elements : list of str, optional
            Elements; all by default.
        phases : "auto", int, or dict of element to these, default "auto"
            Number of Gaussians. "auto" takes from one to four: the number of least Bayesian information
            criterion, of those whose Gaussians are peaks with valleys between them and hold at least 2 %.

        Returns
        -------
        dict of str to list of Phase
            ``mean``, ``spread`` (standard deviation), both in atomic percent, and ``share`` of every phase,
            in order of the means.

        Raises
        ------
        ValueError
            If these maps are not atomic percent, or an argument cannot be used.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> gallium = np.random.default_rng(0).normal(40, 1, (64, 64))
        >>> maps = fmm.element_maps({"Ga": gallium, "O": 100 - gallium})
        >>> percent = maps.atomic_percent([1, 1])
        >>> print(percent.composition_phases()["Ga"][0])
        40.0 ± 1.0 (100 %)
        """
        from .composition import phases_of

        return phases_of(self, elements, phases)

    def plot_composition_histogram(self, elements=None, phases="auto", colors=None, axes=None):
        """Plot how often each atomic percent occurs, with the phases found.

        Parameters
        ----------
        elements, phases
            As :meth:`composition_phases`, which returns the numbers that the legends show.
        colors : list or dict of matplotlib colours, optional
            One per element.
        axes : sequence of matplotlib Axes, optional
            Where to draw, one per element; by default a figure of its own.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            As :meth:`composition_phases`.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> gallium = np.random.default_rng(0).normal(40, 1, (64, 64))
        >>> maps = fmm.element_maps({"Ga": gallium, "O": 100 - gallium})
        >>> figure = maps.atomic_percent([1, 1]).plot_composition_histogram()
        """
        from ..drawing.composition_histogram import plot_composition_histogram

        return plot_composition_histogram(
            self, elements=elements, phases=phases, colors=colors, axes=axes
        )

    # Whatever takes maps away has to take their names away too.

    def _names(self):
        """Elements and X-ray lines, or None where they do not fit the maps."""
        elements = self._listed("elements")
        return (elements, self._listed("xray_lines")) if len(elements) == self._map_count else None

    def _keep_names(self, names, positions):
        """Name what is left of maps that had these names."""
        if names is None:
            return
        elements, lines = names
        self.metadata.set_item("Sample.elements", [elements[i] for i in positions])
        if lines:
            self.metadata.set_item("Sample.xray_lines", lines_of(elements, lines, positions))

    def _positions(self, index):
        return np.atleast_1d(np.arange(self._map_count)[index]).tolist()

    def _slicer(self, slices, isNavigation=None, out=None):
        names = self._names()
        sliced = super()._slicer(slices, isNavigation, out=out)
        axis = self._element_axis
        if isNavigation is not False and axis is not None:
            index = self._get_array_slices(slices, isNavigation)[axis.index_in_array]
            (sliced if out is None else out)._keep_names(names, self._positions(index))
        return sliced

    def crop(self, axis, start=None, end=None, convert_units=False):
        """Crop along an axis, in place; names of maps that are cut off go with them.

        Parameters
        ----------
        axis, start, end, convert_units
            As :meth:`hyperspy.api.signals.BaseSignal.crop`.
        """
        found = self.axes_manager[axis]
        positions = None
        if found is self._element_axis:
            names = self._names()
            positions = self._positions(slice(found._get_index(start), found._get_index(end)))
        super().crop(axis, start, end, convert_units)
        if positions is not None:
            self._keep_names(names, positions)

    def rebin(self, new_shape=None, scale=None, crop=True, dtype=None, out=None, **kwargs):
        """Add neighbouring pixels of each map.

        Parameters
        ----------
        new_shape, scale, crop, dtype, out, **kwargs
            As :meth:`hyperspy.api.signals.BaseSignal.rebin`.

        Returns
        -------
        ElementMaps

        Raises
        ------
        ValueError
            If maps of different elements would be added.
        """
        factors = self._validate_rebin_args_and_get_factors(new_shape=new_shape, scale=scale)
        element_axis = self._element_axis
        if element_axis is not None and factors[element_axis.index_in_array] != 1:
            raise ValueError(
                f"{'scale' if new_shape is None else 'new_shape'}: found a factor along the Element axis; "
                "counts of different elements cannot be added. Rebin x and y only, and choose elements "
                "with inav."
            )
        options = {"new_shape": new_shape, "scale": scale, "crop": crop}
        rebinned = super().rebin(dtype=dtype, out=out, **options, **kwargs)
        background = self.metadata.get_item("Background.counts", None)
        if background is not None:
            target = rebinned if out is None else out
            target.metadata.set_item("Background.counts", background.rebin(**options))
        return rebinned

    def split(self, axis="auto", number_of_parts="auto", step_sizes="auto"):
        """Split along an axis; each part is named after its maps.

        Parameters
        ----------
        axis, number_of_parts, step_sizes
            As :meth:`hyperspy.api.signals.BaseSignal.split`.

        Returns
        -------
        list of ElementMaps
        """
        parts = super().split(axis, number_of_parts, step_sizes)
        start = 0
        for part in parts:
            count = part._map_count
            if count < self._map_count:
                part._keep_names(self._names(), range(start, start + count))
            start += count
        return parts

    def get_current_signal(self, auto_title=True, auto_filename=True, as_numpy=False):
        """The map at the current index, named after its element.

        Parameters
        ----------
        auto_title, auto_filename, as_numpy
            As :meth:`hyperspy.api.signals.BaseSignal.get_current_signal`.

        Returns
        -------
        ElementMaps
            Of dimensions (|x, y).
        """
        current = super().get_current_signal(auto_title, auto_filename, as_numpy)
        axis = self._element_axis
        if axis is not None:
            index = self.axes_manager.indices[axis.index_in_axes_manager]
            current._keep_names(self._names(), [index])
        return current


def _error_method(standard_error):
    """How the standard error is to be found; False where it is not."""
    if isinstance(standard_error, (bool, np.bool_)):
        return "bootstrap" if standard_error else False
    if standard_error not in ("bootstrap", "hessian"):
        raise ValueError(
            f"standard_error: found {standard_error!r}; True, False, 'bootstrap' or 'hessian' is needed."
        )
    return standard_error
