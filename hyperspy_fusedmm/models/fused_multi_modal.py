"""The model of a fusion: element maps that explain the counts and the HAADF image at once."""

import logging

import numpy as np
from hyperspy.model import BaseModel

from ..signals.grid import check_same_grid
from ..signals.names import atomic_number
from ..solver import estimate_noise
from . import checks, inputs, likelihood, presets
from .attributes import Attributes
from .diagnosis import Diagnosis
from .fitting import Fitting
from .haadf_scale import haadf_scale
from .inherited import RefusedSlicer, WithoutComponents
from .outcome import Outcome
from .scaling import own_units, scaled_image, scaled_maps, unit_interval
from .sensitivities import given_sensitivities
from .stored_offset import stored_offset
from .uncertainty import Uncertainty

_logger = logging.getLogger(__name__)


class FusedMultiModal(Diagnosis, Uncertainty, Fitting, Outcome, Attributes, WithoutComponents, BaseModel):
    r"""Element maps fused with the HAADF image recorded with them.

    Made by :meth:`ElementMaps.create_model`. :meth:`fit` finds the maps :math:`x_i \ge m_i` that
    minimise, over the pixels :math:`p` and the elements :math:`i`,

    .. math::

        \frac{\lambda_H}{2} \sum_p \left(\frac{o + \sum_i w_i x_i - b_H}{\sigma_H}\right)^2
        + \lambda_C \sum_{i, p} \left(\kappa_i x_i - b_i \log(x_i + \varepsilon_i)\right)
        + \sum_i \lambda_i \sum_p \rho_i |\nabla x_i|

    with the HAADF image :math:`b_H`, the measured maps :math:`b_i`, and every other symbol a public
    attribute: ``haadf_offset`` :math:`o`, ``weights`` :math:`w`, ``haadf_noise`` :math:`\sigma_H`,
    ``background`` :math:`\varepsilon`, ``count_slope`` :math:`\kappa`, ``lower_bound``
    :math:`m`, ``lambda_haadf``, ``lambda_chem``, ``lambda_tv`` and ``regularization_weights`` :math:`\rho`. Gaussian maps have
    :math:`\frac12 ((x_i - b_i) / n_i)^2` with ``noise`` :math:`n` in place of the Poisson term, and
    ``forward="power"`` has :math:`\sum_i (w_i x_i)^\gamma` in place of the weighted sum.

    All this is in the units of the maps and the image, unless ``preset`` is the published one: then every
    map less its ``map_offset`` over its ``map_scale`` takes its place, the image less ``image_offset`` over
    ``image_scale`` that of the image, and the attributes above are in these units. What comes out,
    ``fused``, ``haadf_fit`` and ``haadf_residual``, is in the units of what was put in.

    Parameters
    ----------
    maps : ElementMaps
        Measured maps, shape (E, R, C).
    haadf, forward, gamma, fidelity, background, sensitivities, weights, haadf_offset, haadf_noise, \
noise, preset, dictionary
        As :meth:`ElementMaps.create_model`.

    Raises
    ------
    TypeError
        If `maps` are no element maps.
    ValueError, NotImplementedError
        As :meth:`ElementMaps.create_model`.

    Warns
    -----
    UserWarning
        If a map is zero everywhere, a Poisson map plainly does not hold counts, maps are quantified already,
        the HAADF image begins at another place than the maps, or the maps do not tell how much each element
        adds to it.

    References
    ----------
    Schwartz et al., npj Computational Materials 8, 16 (2022), for the objective; Manassa et al.,
    Elemental Microscopy (2024), for the tutorial.

    Examples
    --------
    >>> import numpy as np
    >>> import hyperspy_fusedmm as fmm
    >>> thickness = np.add.outer(np.arange(16.0), np.arange(16.0)) / 8
    >>> counts = np.random.default_rng(0).poisson(thickness)
    >>> model = fmm.element_maps({"Co": counts}).create_model(50 + 20 * thickness)
    >>> model.fit(show_progressbar=False)
    >>> model.fused
    <ElementMaps, title: Element maps (fused), dimensions: (1|16, 16)>
    """

    _signal_dimension = 2

    def __init__(
        self,
        maps,
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
        super().__init__()
        inputs.check_maps(maps)
        self.inav, self.isig = RefusedSlicer("inav"), RefusedSlicer("isig")
        self.signal = maps
        self.axes_manager = maps.axes_manager
        self._plot = self._model_line = self._residual_line = None
        self._computed = None
        self._haadf = self._setup = self._result = None
        if dictionary is not None:
            self._load_dictionary(dictionary)
            self._check_restored()
        else:
            self._haadf, self._setup = self._prepare(
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
            )
        self._whitelist = {"_haadf": ("sig", None), "_setup": None, "_result": None}

    def __repr__(self):
        title = self.signal.metadata.General.title
        return (
            f"<FusedMultiModal, {f'title: {title}, ' if title else ''}"
            f"elements: {', '.join(self._setup['names'])}, "
            f"{'without' if self._haadf is None else 'with'} HAADF, "
            f"{'not fitted' if self._result is None else 'fitted'}>"
        )

    # Setting up

    def _prepare(self, haadf, **given):
        """Check everything that was given, choose what was not; nothing is changed before."""
        preset = presets.named(given["preset"])
        gamma = given.pop("gamma")
        given = {**presets.filled(given, preset.model), "gamma": gamma}
        checks.choice(given["forward"], ("linear", "power"), "forward")
        names = inputs.named_maps(self.signal)
        elements = self.signal.elements
        numbers = np.array([atomic_number(element) for element in elements], dtype=float)
        image = None if haadf is None else inputs.haadf_image(haadf, self.signal)
        counts = self._counts()
        inputs.finite_maps(counts, names)
        pixels = None if image is None else image.data
        setup = {
            "names": names,
            "elements": elements,
            "forward": given["forward"],
            **_gamma(given["gamma"], preset),
            "preset": given["preset"],
            "sensitivities": _sensitivities(
                given["sensitivities"], names, elements, given["preset"]
            ),
            **(unit_interval(counts, pixels) if preset.scaled else own_units(len(names))),
        }
        if not preset.scaled:
            inputs.warn_of_quantified(self.signal, counts)
        empty = inputs.empty_maps(counts, names)
        counts = scaled_maps(counts, setup)
        setup.update(self._likelihood(counts, setup, preset, given))
        if image is None:
            setup.update(haadf_scale(counts, None, numbers, empty, setup, **_scale(given)))
            return None, setup
        published = preset.of_image(numbers, setup["forward"], setup["gamma"])
        scale = _scale(presets.filled(given, published))
        pixels = scaled_image(pixels, setup)
        stored = None if preset.scaled else stored_offset(haadf)
        setup.update(haadf_scale(counts, pixels, numbers, empty, setup, stored=stored, **scale))
        if scale["weights"] is published.get("weights", None):
            setup["weights_rule"] = "preset"
        return image, setup

    def _likelihood(self, counts, setup, preset, given):
        """Fidelity, background and noise of the maps."""
        names = setup["names"]
        otherwise = preset.model.get("fidelity", "auto")
        fidelity = likelihood.fidelities(given["fidelity"], counts, names, otherwise)
        given = presets.filled(given, preset.of_maps(names, fidelity))
        background = likelihood.background(
            given["background"], names, counts.shape, fidelity, self.signal
        )
        noise, rule = self._map_noise(given["noise"], counts, names, fidelity, setup["map_scale"])
        return {"fidelity": fidelity, "background": background, "noise": noise, "noise_rule": rule}

    def _map_noise(self, noise, counts, names, fidelity, scale):
        """Standard deviation of the Gaussian maps, 1, which nothing uses, for the others; and who told."""
        gaussian = np.array([entry == "gaussian" for entry in fidelity])
        if not isinstance(noise, str):
            return likelihood.given_noise(noise, names, counts.shape, gaussian), "given"
        checks.choice(noise, ("auto",), "noise")
        if not gaussian.any():
            return np.ones(len(counts)), "none"
        variance = self.signal.get_noise_variance()
        if variance is not None:
            return likelihood.noise_of_variance(variance, counts.shape, gaussian, scale), "metadata"
        return likelihood.estimated_noise(estimate_noise(counts), counts, gaussian, names), "estimated"

    def _counts(self):
        """The measured maps (E, R, C) in memory; lazy ones are computed once."""
        data = self.signal.data
        if not self.signal._lazy:
            return data.reshape((-1,) + data.shape[-2:])
        if self._computed is None or self._computed[0] is not data:
            _logger.info("Loading lazy element maps into memory (%d bytes).", data.nbytes)
            self._computed = data, np.asarray(data.compute())
        values = self._computed[1]
        return values.reshape((-1,) + values.shape[-2:])

    def _check_restored(self):
        """Bring back what files hold as Dask arrays, and refuse a model of other maps."""
        self._setup = _computed(self._setup)
        self._result = _computed(self._result)
        rows, columns = self.axes_manager.signal_axes[::-1]
        shape = (len(self._setup["names"]), rows.size, columns.size)
        if self._result is not None and self._result["maps"] is None:
            # It was fitted chunk by chunk, which keeps no maps.
            self._result = None
        if self._result is not None and self._result["maps"].shape != shape:
            raise ValueError(
                f"dictionary: found a model of maps of shape {self._result['maps'].shape}, but these "
                f"have {shape}; restore it from the maps it was made of."
            )
        if self._haadf is not None:
            self._haadf.data = checks.values_of(self._haadf)
            check_same_grid(
                self._haadf.axes_manager.signal_axes[::-1],
                (rows, columns),
                "dictionary: haadf",
                "the element maps",
            )


def _scale(given):
    """Options that say how counts become HAADF intensity."""
    return {
        "weights": given["weights"],
        "offset": given["haadf_offset"],
        "noise": given["haadf_noise"],
    }


def _gamma(value, preset):
    """Exponent of the atomic number, None where it is to be fitted, and who chose it."""
    if value is None:
        return {"gamma": float(preset.model["gamma"]), "gamma_rule": "default"}
    if isinstance(value, str) and value == "auto":
        if preset.scaled:
            raise ValueError(
                "gamma: found 'auto', but the preset scales maps and image, so that its weights are not to be "
                "found from them; pass a number."
            )
        return {"gamma": None, "gamma_rule": "fitted"}
    return {"gamma": checks.number(value, "gamma", 1.0, 2.5), "gamma_rule": "given"}


def _sensitivities(value, names, elements, preset):
    if value is None:
        return None
    if presets.named(preset).scaled:
        raise ValueError(
            f"sensitivities: found values, but preset={preset!r} scales every map to [0, 1], so that counts "
            "per atom say nothing of it; leave them out, or pass weights."
        )
    return given_sensitivities(value, names, elements)


def _computed(value):
    """Dask arrays, which lazily read files hold, as values."""
    if isinstance(value, dict):
        return {key: _computed(entry) for key, entry in value.items()}
    return checks.values_of(value) if hasattr(value, "dask") else value
