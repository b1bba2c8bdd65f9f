"""What a fit found, as signals and figures."""

import numpy as np

from . import checks
from .provenance import provenance
from .scaling import restored_image, restored_maps, scaled_maps


class Outcome:
    """Results of a fusion in the units, and with the axes, of what was fused."""

    @property
    def fused(self):
        """Fused maps (ElementMaps) with the axes and metadata of the measured maps; lazy if they are."""
        fused = self._like_maps(restored_maps(self._found_maps, self._setup))
        fused.metadata.General.title = f"{self.signal.metadata.General.title} (fused)".strip()
        fused.metadata.set_item("FusedMultiModal", self._provenance())
        # The fused maps are net: subtracted once, a background is none of theirs.
        if fused.metadata.has_item("Background"):
            del fused.metadata.Background
        return fused

    @property
    def haadf_fit(self):
        """HAADF image that the fused maps predict (Signal2D)."""
        return self._like_haadf(self._predicted_haadf(), "fit")

    @property
    def haadf_residual(self):
        """HAADF image minus its fit (Signal2D)."""
        predicted = self._predicted_haadf()
        return self._like_haadf(self._haadf.data.astype(float) - predicted, "residual")

    def objective(self, maps=None):
        """The terms of the objective.

        Parameters
        ----------
        maps : ElementMaps or array of shape (E, R, C), optional
            Where to evaluate, in the units of the measured maps; by default at the fused maps.

        Returns
        -------
        dict
            "haadf", "chem", "regularization" and "total" (floats), weights included. None as long as the
            maps of a large lazy scan were not computed or saved.

        Raises
        ------
        ValueError
            If the shape is wrong.
        RuntimeError
            Before :meth:`fit`, which decides the weights.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model()
        >>> model.fit(tolerance=1e-2, show_progressbar=False)
        >>> model.objective()["total"] < model.objective(counts)["total"]
        True
        """
        result = self._fitted
        if maps is None:
            return self._known("terms", lambda terms: {k: float(v) for k, v in terms.items()})
        x, shape = checks.values_of(maps), result["maps"].shape
        if x.shape != shape and (1,) + x.shape != shape:
            raise ValueError(f"maps: found an array of shape {x.shape}; {shape} is needed.")
        x = scaled_maps(x.reshape(shape), self._setup)
        counts = scaled_maps(self._counts(), self._setup)
        terms = self._problem(result, counts).objective(x)
        return {name: float(value) for name, value in terms.items()}

    def as_signal(self):
        """Counts that the fused maps predict: the maps plus the background.

        Returns
        -------
        ElementMaps
            Lazy if the measured maps are.

        Examples
        --------
        >>> import numpy as np
        >>> import hyperspy_fusedmm as fmm
        >>> counts = np.random.default_rng(0).poisson(5, (16, 16))
        >>> model = fmm.element_maps({"Co": counts}).create_model(background=1.0)
        >>> model.fit(tolerance=1e-2, show_progressbar=False)
        >>> bool(np.allclose(model.as_signal().data, model.fused.data + 1))
        True
        """
        background = self._setup["background"]
        if background.ndim == 1:
            background = background[:, np.newaxis, np.newaxis]
        expected = self._like_maps(restored_maps(self._found_maps + background, self._setup))
        title = self.signal.metadata.General.title
        expected.metadata.General.title = f"{title} from fitted model".strip()
        return expected

    def plot_convergence(self, ax=None):
        """Plot the terms of the objective, the total and the gap against iteration.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a figure of its own.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..drawing.convergence import plot_convergence

        return plot_convergence(self.history, ax=ax)

    def plot_selection(self):
        """Plot what the automatic choice of the weights tried: estimated error against each weight.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        RuntimeError
            Before :meth:`fit`, and where the fit chose nothing from the data.
        """
        from ..drawing.selection import plot_selection

        selection = self.selection
        if selection is None:
            raise RuntimeError(
                "The fit chose nothing from the data: leave lambda_tv, or another weight, \"auto\"."
            )
        return plot_selection(selection, self._setup["names"])

    def plot_maps(self, elements=None, errors=False):
        """Plot measured above fused maps, one column per element, and the HAADF image with its fit.

        Parameters
        ----------
        elements : list of str, optional
            Elements to draw; all by default.
        errors : bool, default False
            Draw the standard error of each map as well.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..drawing.comparison import plot_maps

        return plot_maps(self, elements=elements, errors=errors)

    def _provenance(self):
        """For ``metadata.FusedMultiModal``."""
        return provenance(self._setup, self._fitted)

    def _predicted_haadf(self):
        if self._haadf is None:
            raise RuntimeError(
                "The model has no HAADF image: pass one to create_model() to get its fit."
            )
        signal = self._setup["weights"][:, np.newaxis, np.newaxis] * self._found_maps
        if self.forward == "power":
            signal = signal**self.gamma
        return restored_image(self.haadf_offset + signal.sum(axis=0), self._setup)

    def _like_maps(self, values):
        data = values.reshape(self.signal.data.shape)
        if self.signal._lazy and isinstance(data, np.ndarray):
            import dask.array as da

            data = da.from_array(data, chunks=self.signal.data.chunks)
        return self.signal._deepcopy_with_new_data(data)

    def _like_haadf(self, values, suffix):
        image = self._haadf._deepcopy_with_new_data(values)
        if not isinstance(values, np.ndarray) and not image._lazy:
            image._lazy = True
            image._assign_subclass()
        image.metadata.General.title = f"{self._haadf.metadata.General.title} {suffix}".strip()
        return image
