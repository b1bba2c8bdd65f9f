"""The fusion problem on plain arrays: what is minimised, in the caller's units."""

from dataclasses import dataclass

import numpy as np

from .operators import gradient, remove_guided

__all__ = ["FusionProblem", "FIDELITIES", "FORWARD_MODELS", "REGULARIZATIONS", "CURVATURE_RATIO"]

FIDELITIES = ("poisson", "gaussian")
FORWARD_MODELS = ("linear", "power")
REGULARIZATIONS = ("tv", "tgv")
# Strength of the curvature term of TGV over that of its slope term, in pixels. At the
# customary 2, maps with few counts come out as with TV; 0.4 to 0.7 gave the least error on
# simulated particles and lattices at 0.3 and 3 counts per pixel.
CURVATURE_RATIO = 0.5
# Rows that the objective is evaluated on at a time, in double precision.
BAND = 256


def _check(condition, message):
    if not condition:
        raise ValueError(message)


def _finite(name, array):
    _check(np.isfinite(array).all(), f"{name} must be finite, but it holds NaN or infinite values.")


def _per_element(name, value, elements):
    value = np.asarray(value, dtype=float)
    _check(
        value.ndim == 0 or value.shape == (elements,),
        f"{name} must be one number or {elements} numbers, one per element; "
        f"its shape is {value.shape}.",
    )
    _finite(name, value)
    _check((value >= 0).all(), f"{name} must not be negative; its smallest value is {value.min()}.")
    return np.array(np.broadcast_to(value, (elements,)))


def _per_voxel(name, value, shape):
    """A number, (E,) or (E, R, C) as an array (E, 1, 1) or (E, R, C)."""
    value = np.asarray(value)
    value = value if value.dtype.kind == "f" else value.astype(float)
    elements = shape[0]
    _check(
        value.ndim == 0 or value.shape in ((elements,), (elements, 1, 1), shape),
        f"{name} must be a number, {elements} numbers or an array of shape {shape}; "
        f"its shape is {value.shape}.",
    )
    _finite(name, value)
    _check((value >= 0).all(), f"{name} must not be negative; its smallest value is {value.min()}.")
    if value.shape != shape:
        value = np.array(np.broadcast_to(value.reshape(value.shape[:1] + (1, 1)), (elements, 1, 1)))
    return value


def _rows(image, band):
    """The rows of a band; one row stands for all."""
    return image if image.shape[0] == 1 else image[band]


@dataclass(frozen=True, eq=False)
class FusionProblem:
    r"""Element maps, the HAADF image and the weights of the terms.

    For ``forward="linear"`` the maps :math:`x_i \ge m_i` minimise

    .. math::

        \frac{\lambda_H}{2} \sum_p \left(\frac{o + \sum_i w_i x_i - b_H}{\sigma_H}\right)^2
        + \lambda_c \sum_i \sum_p \left(\kappa_i x_i - b_i \log(x_i + \epsilon_i)\right)
        + \sum_i \lambda_i \sum_p \rho_i |D \nabla x_i|

    with the second term :math:`\frac12 ((x_i - b_i) / n_i)^2` for Gaussian maps, and
    :math:`\sum_i (w_i x_i)^\gamma` in place of :math:`\sum_i w_i x_i` for
    ``forward="power"``. For ``regularization="tgv"`` the last term is
    :math:`\min_v \sum_p \rho_i (|D (\nabla x_i - v)| + \frac12 |E v|)`. With a reference g it is the
    regularization of :math:`x_i - s_i g`.

    Parameters
    ----------
    maps : (E, R, C) array
        Measured maps b in their own units, counts for Poisson maps.
    haadf : (R, C) array, optional
        The HAADF image. Without it the maps are regularized on their own.
    weights : (E,) array, optional
        HAADF intensity per unit of each map.
    haadf_offset : float, default 0
        HAADF intensity where there is no specimen.
    haadf_noise : float or (R, C) array, default 1
        Standard deviation of the HAADF image about its model. Infinite where the image
        is not to be used.
    fidelity : {"poisson", "gaussian"} or a sequence of E of them, default "poisson"
        Likelihood of the maps.
    background : float, (E,) or (E, R, C) array, default 0
        Expected background counts eps of Poisson maps; the solution is net of them. 0 for Gaussian maps.
    noise : float, (E,) or (E, R, C) array, default 1
        Standard deviation of Gaussian maps.
    lambda_haadf, lambda_chem : float, default 1
        Weights of the first two terms; 1 is the statistically right value.
    count_slope : float or (E,) array, default 1
        Slope :math:`\kappa_i` of the likelihood of Poisson maps. 1 is the likelihood itself; regularization takes
        counts away then. See `hyperspy_fusedmm.solver.count_keeper` for slopes that keep them.
    lower_bound : float or (E,) array, default 0
        Smallest value :math:`m_i` of each map, >= 0; 0 for ``forward="power"``. See
        `hyperspy_fusedmm.solver.resolution` for values that few counts leave open.
    lambda_tv : float or (E,) array, default 0.1
        Strength of the regularization per element.
    regularization : {"tv", "tgv"}, default "tv"
        Total variation, or second-order total generalized variation.
    guide : (2, R, C) array, optional
        Vector a of length below 1 at every pixel, D = I - a a'.
    reference : (R, C) array, optional
        Image g of which a multiple costs no regularization; for ``forward="linear"``.
    reference_scale : float or (E,) array, default 0
        Multiple :math:`s_i` of the reference for each map, of either sign.
    regularization_weights : (E, R, C) array, optional
        Strength of the regularization per pixel, :math:`\rho_i`; 1 if not given.
    forward : {"linear", "power"}, default "linear"
    gamma : float, default 1.7
        Exponent of the power model.

    Raises
    ------
    ValueError
        If an array has a wrong shape or a value that makes no sense. The message names it.
    """

    maps: np.ndarray
    haadf: np.ndarray | None = None
    weights: np.ndarray | None = None
    haadf_offset: float = 0.0
    haadf_noise: float | np.ndarray = 1.0
    fidelity: str | tuple = "poisson"
    background: float | np.ndarray = 0.0
    noise: float | np.ndarray = 1.0
    lambda_haadf: float = 1.0
    lambda_chem: float = 1.0
    count_slope: float | np.ndarray = 1.0
    lower_bound: float | np.ndarray = 0.0
    lambda_tv: float | np.ndarray = 0.1
    regularization: str = "tv"
    guide: np.ndarray | None = None
    reference: np.ndarray | None = None
    reference_scale: float | np.ndarray = 0.0
    regularization_weights: np.ndarray | None = None
    forward: str = "linear"
    gamma: float = 1.7

    def __post_init__(self):
        maps = np.asarray(self.maps)
        _check(
            maps.ndim == 3 and maps.size > 0,
            f"maps must have the shape (elements, rows, columns); its shape is {maps.shape}.",
        )
        _finite("maps", maps)
        elements, shape = maps.shape[0], maps.shape[1:]
        self._set(maps=maps)
        self._check_choices(elements)
        self._check_haadf(elements, shape)
        self._set(
            background=_per_voxel("background", self.background, maps.shape),
            noise=_per_voxel("noise", self.noise, maps.shape),
            lambda_tv=_per_element("lambda_tv", self.lambda_tv, elements),
            count_slope=_per_element("count_slope", self.count_slope, elements),
            lower_bound=_per_element("lower_bound", self.lower_bound, elements),
        )
        _check(
            (self.count_slope > 0).all(),
            f"count_slope must be positive; its smallest value is {self.count_slope.min()}.",
        )
        _check(
            self.forward == "linear" or not self.lower_bound.any(),
            f'lower_bound must be 0 for forward="power"; its largest value is {self.lower_bound.max()}.',
        )
        for i, fidelity in enumerate(self.fidelity):
            _check(
                fidelity == "gaussian" or (maps[i] >= 0).all(),
                f"maps[{i}] has negative values (smallest {maps[i].min()}), which Poisson counts "
                'cannot have; use fidelity="gaussian".',
            )
            _check(
                fidelity == "poisson" or (self.noise[i] > 0).all(),
                f"noise must be positive for Gaussian maps; it is zero in map {i}.",
            )
            _check(
                fidelity == "poisson" or not self.background[i].any(),
                f"background must be 0 for Gaussian maps, from which it has to be subtracted before; its "
                f"largest value is {self.background[i].max()} in map {i}.",
            )
        if self.guide is not None:
            guide = np.asarray(self.guide)
            _check(
                guide.shape == (2,) + shape,
                f"guide must have the shape {(2,) + shape}; its shape is {guide.shape}.",
            )
            _finite("guide", guide)
            _check(
                (guide**2).sum(axis=0).max() <= 1.0 + 1e-6, "guide must not be longer than 1."
            )
            self._set(guide=guide)
        self._check_reference(elements, shape)
        if self.regularization_weights is not None:
            weights = _per_voxel("regularization_weights", self.regularization_weights, maps.shape)
            self._set(regularization_weights=weights)

    def _set(self, **values):
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_choices(self, elements):
        fidelity = self.fidelity
        if isinstance(fidelity, str) or not np.iterable(fidelity):
            fidelity = (fidelity,) * elements
        fidelity = tuple(fidelity)
        _check(
            len(fidelity) == elements and all(f in FIDELITIES for f in fidelity),
            f"fidelity must be one of {FIDELITIES}, or {elements} of them; it is {self.fidelity!r}.",
        )
        self._set(fidelity=fidelity)
        _check(
            self.forward in FORWARD_MODELS,
            f"forward must be one of {FORWARD_MODELS}; it is {self.forward!r}.",
        )
        _check(
            self.regularization in REGULARIZATIONS,
            f"regularization must be one of {REGULARIZATIONS}; it is {self.regularization!r}.",
        )
        _check(1.0 <= self.gamma <= 2.5, f"gamma must lie within 1 and 2.5; it is {self.gamma}.")
        for name in ("lambda_haadf", "lambda_chem"):
            value = getattr(self, name)
            _check(
                np.isfinite(value) and value >= 0,
                f"{name} must be a finite number that is not negative; it is {value}.",
            )
        _check(self.lambda_chem > 0, "lambda_chem must be positive; it is 0.")

    def _check_haadf(self, elements, shape):
        if self.haadf is None:
            self._set(weights=np.zeros(elements), lambda_haadf=0.0)
            return
        haadf = np.asarray(self.haadf)
        _check(
            haadf.shape == shape,
            f"haadf must have the shape {shape} of the maps; its shape is {haadf.shape}.",
        )
        _finite("haadf", haadf)
        _check(self.weights is not None, "weights must be given together with haadf.")
        noise = np.asarray(self.haadf_noise, dtype=float)
        _check(
            noise.ndim == 0 or noise.shape == shape,
            f"haadf_noise must be a number or an image of shape {shape}; its shape is {noise.shape}.",
        )
        _check((noise > 0).all(), f"haadf_noise must be positive; its smallest value is {noise.min()}.")
        _check(
            np.isfinite(self.haadf_offset),
            f"haadf_offset must be finite; it is {self.haadf_offset}.",
        )
        self._set(
            haadf=haadf,
            weights=_per_element("weights", self.weights, elements),
            haadf_noise=noise,
        )

    def _check_reference(self, elements, shape):
        scale = np.asarray(self.reference_scale, dtype=float)
        _check(
            scale.ndim == 0 or scale.shape == (elements,),
            f"reference_scale must be one number or {elements} numbers, one per element; "
            f"its shape is {scale.shape}.",
        )
        _finite("reference_scale", scale)
        self._set(reference_scale=np.array(np.broadcast_to(scale, (elements,))))
        if self.reference is None:
            return
        _check(self.forward == "linear", 'reference goes with forward="linear" only.')
        reference = np.asarray(self.reference)
        _check(
            reference.shape == shape,
            f"reference must have the shape {shape} of the maps; its shape is {reference.shape}.",
        )
        _finite("reference", reference)
        self._set(reference=reference)

    def haadf_model(self, x):
        """HAADF image (R, C) that maps ``x`` (E, R, C) predict."""
        signal = self.weights[:, None, None] * x
        if self.forward == "power":
            signal = np.maximum(signal, 0) ** self.gamma
        return self.haadf_offset + signal.sum(axis=0)

    def objective(self, x):
        """The terms of the objective at maps ``x``.

        Parameters
        ----------
        x : (E, R, C) array
            Maps in the units of the measured maps.

        Returns
        -------
        dict
            ``haadf``, ``chem``, ``regularization`` and their sum ``total``, each with its
            weight. The regularization of TGV is the minimum over its auxiliary field.

        Raises
        ------
        ValueError
            If ``x`` has another shape than the maps.
        """
        x = np.asarray(x)
        _check(
            x.shape == self.maps.shape,
            f"x must have the shape {self.maps.shape} of the maps; its shape is {x.shape}.",
        )
        bands = [slice(row, row + BAND) for row in range(0, x.shape[1], BAND)]
        terms = {
            "haadf": sum(self._haadf_term(x, band) for band in bands),
            "chem": self.lambda_chem
            * sum(self._likelihood(i, x[i], band) for i in range(len(x)) for band in bands),
            "regularization": self._regularization_term(x, bands),
        }
        terms["total"] = sum(terms.values())
        return terms

    def _haadf_term(self, x, band):
        if self.haadf is None or self.lambda_haadf == 0:
            return 0.0
        misfit = self.haadf_model(np.asarray(x[:, band], dtype=float)) - self.haadf[band]
        misfit /= self.haadf_noise if self.haadf_noise.ndim == 0 else self.haadf_noise[band]
        return 0.5 * self.lambda_haadf * float((misfit**2).sum())

    def _likelihood(self, i, x, band):
        x = np.asarray(x[band], dtype=float)
        measured = np.asarray(self.maps[i, band], dtype=float)
        if self.fidelity[i] == "gaussian":
            return 0.5 * float((((x - measured) / _rows(self.noise[i], band)) ** 2).sum())
        expected = x + _rows(self.background[i], band)
        counted = measured > 0
        with np.errstate(divide="ignore"):
            log = np.log(expected[counted])
        return float(self.count_slope[i] * x.sum() - (measured[counted] * log).sum())

    def strengths(self):
        """Strength of the regularization per voxel, (E, R, C) or (E, 1, 1)."""
        strength = self.lambda_tv[:, None, None]
        if self.regularization_weights is None:
            return strength
        weights = self.regularization_weights
        return strength.astype(weights.dtype) * weights

    def _regularization_term(self, x, bands):
        if self.regularization == "tgv":
            from .generalized_variation import generalized_variation

            strengths = self.strengths()
            return sum(
                generalized_variation(
                    self._less_reference(i, x[i], slice(None))[None], strengths[i : i + 1], self.guide
                )
                for i in range(len(x))
            )
        return sum(
            self.lambda_tv[i] * self._variation(i, x[i], band)
            for i in range(len(x))
            for band in bands
        )

    def _less_reference(self, i, x, band):
        """What is regularized of the rows of a band, (rows, C)."""
        x = np.asarray(x[band], dtype=float)
        return x if self.reference is None else x - self.reference_scale[i] * self.reference[band]

    def _variation(self, i, x, band):
        """Weighted total variation of the rows of a band; the last one looks at the next."""
        field = gradient(self._less_reference(i, x, slice(band.start, band.stop + 1)))
        field = field[:, : band.stop - band.start]
        field = remove_guided(field, None if self.guide is None else self.guide[:, band])
        norm = np.sqrt((field**2).sum(axis=0))
        if self.regularization_weights is not None:
            norm *= _rows(self.regularization_weights[i], band)
        return float(norm.sum())
