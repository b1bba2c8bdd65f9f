"""Options of a fit, checked before anything is computed."""

from dataclasses import dataclass

import numpy as np

from . import checks


@dataclass(frozen=True)
class FitOptions:
    """Options of :meth:`FusedMultiModal.fit` in the form the solver takes them.

    Attributes
    ----------
    lambda_haadf, lambda_chem, tolerance : float
    lambda_tv : "auto" or (E,) array
    regularization : {"tv", "tgv"}
    guided : bool
    regularization_weights : {"auto", "uniform"} or (E, R, C) array
    solver : {"primal-dual", "gradient-descent"}
    initial : (E, R, C) array or None
    max_iterations, seed : int
    num_workers : int or None
    """

    lambda_haadf: float
    lambda_chem: float
    lambda_tv: object
    regularization: str
    guided: bool
    regularization_weights: object
    solver: str
    initial: object
    tolerance: float
    max_iterations: int
    seed: int
    num_workers: object

    @classmethod
    def checked(
        cls,
        *,
        lambda_haadf,
        lambda_chem,
        lambda_tv,
        regularization,
        guided,
        regularization_weights,
        solver,
        initial,
        tolerance,
        max_iterations,
        seed,
        scratch,
        resume,
        num_workers,
        names,
        shape,
        with_haadf,
    ):
        """Check every option.

        Parameters
        ----------
        names : list of str
            Names of the maps.
        shape : tuple of int
            (E, R, C)
        with_haadf : bool
            Whether there is a HAADF image.
        **options
            As :meth:`FusedMultiModal.fit`.

        Returns
        -------
        FitOptions

        Raises
        ------
        ValueError, NotImplementedError
            As :meth:`FusedMultiModal.fit`.
        """
        for name, value in (("scratch", scratch), ("resume", resume)):
            if value is not None:
                raise NotImplementedError(
                    f"{name}: working out of memory is not available in this version; leave it None."
                )
        return cls(
            lambda_haadf=_lambda_haadf(lambda_haadf),
            lambda_chem=checks.number(lambda_chem, "lambda_chem", positive=True),
            lambda_tv=_lambda_tv(lambda_tv, names),
            regularization=_regularization(regularization),
            guided=_guided(guided, with_haadf),
            regularization_weights=_regularization_weights(regularization_weights, shape),
            solver=_solver(solver),
            initial=_initial(initial, shape),
            tolerance=checks.number(tolerance, "tolerance", minimum=0.0),
            max_iterations=checks.whole_number(max_iterations, "max_iterations", 1),
            seed=checks.whole_number(seed, "seed", 0),
            num_workers=None
            if num_workers is None
            else checks.whole_number(num_workers, "num_workers", 1),
        )


def _lambda_haadf(value):
    if isinstance(value, str):
        checks.choice(value, ("auto",), "lambda_haadf")
        return 1.0
    return checks.number(value, "lambda_haadf", minimum=0.0)


def _lambda_tv(value, names):
    if isinstance(value, str):
        return checks.choice(value, ("auto",), "lambda_tv")
    return checks.per_element(value, names, "lambda_tv")


def _regularization(value):
    checks.choice(value, ("auto", "tv", "tgv"), "regularization")
    return "tv" if value == "auto" else value


def _guided(value, with_haadf):
    if isinstance(value, str):
        checks.choice(value, ("auto",), "guided")
        return False
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"guided: found {value!r}; True, False or 'auto' is needed.")
    if value and not with_haadf:
        raise ValueError(
            "guided: found True, but the model has no HAADF image to be guided by; pass one to "
            "create_model()."
        )
    return bool(value)


def _regularization_weights(value, shape):
    if isinstance(value, str):
        return checks.choice(value, ("auto", "uniform"), "regularization_weights")
    return _maps(value, shape, "regularization_weights")


def _solver(value):
    checks.choice(value, ("primal-dual", "gradient-descent"), "solver")
    if value == "gradient-descent":
        raise NotImplementedError(
            "solver: 'gradient-descent', the published algorithm, is not available in this version; "
            "use 'primal-dual'."
        )
    return value


def _initial(value, shape):
    if isinstance(value, str):
        checks.choice(value, ("auto", "multiresolution"), "initial")
        if value == "multiresolution":
            raise NotImplementedError(
                "initial: 'multiresolution' is not available in this version; use 'auto' or maps."
            )
        return None
    return _maps(value, shape, "initial")


def _maps(value, shape, name):
    """Finite values >= 0 of shape (E, R, C), whatever holds them."""
    data = checks.values_of(value)
    if data.ndim == 2 and shape[0] == 1:
        data = data[np.newaxis]
    if data.shape != shape or data.dtype.kind not in "buif":
        raise ValueError(
            f"{name}: found {type(value).__name__} of shape {data.shape}; real numbers of shape "
            f"{shape} are needed."
        )
    return checks.not_negative(data, name)
