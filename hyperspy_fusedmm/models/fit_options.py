"""Options of a fit, checked before anything is computed."""

from dataclasses import dataclass

import numpy as np

from . import checks

# The published algorithm runs as often as in its tutorial.
MAX_ITERATIONS = {"primal-dual": 3000, "gradient-descent": 30}
TV_ITERATIONS = 3


@dataclass(frozen=True)
class FitOptions:
    """Options of :meth:`FusedMultiModal.fit` in the form the solver takes them.

    Attributes
    ----------
    lambda_haadf : "auto" or float
    lambda_chem, tolerance : float
    count_slope, lower_bound : "auto" or (E,) array
    lambda_tv : {"auto", "noise"} or (E,) array
    regularization : {"auto", "tv", "tgv"}
    guided, relative : "auto" or bool
    regularization_weights : {"uniform", "pilot"} or (E, R, C) array
    solver : {"primal-dual", "gradient-descent"}
    initial : {"auto", "measured", "multiresolution"} or (E, R, C) array
        An array is in the units of the maps.
    max_iterations, seed : int
    tv_iterations : int or None
        None where the solver has no inner iterations.
    num_workers : int or None
    """

    lambda_haadf: object
    lambda_chem: float
    count_slope: object
    lower_bound: object
    lambda_tv: object
    regularization: str
    guided: object
    relative: object
    regularization_weights: object
    solver: str
    initial: object
    tolerance: float
    max_iterations: int
    tv_iterations: object
    seed: int
    num_workers: object

    @classmethod
    def checked(
        cls,
        *,
        lambda_haadf,
        lambda_chem,
        count_slope,
        lower_bound,
        lambda_tv,
        regularization,
        guided,
        relative,
        regularization_weights,
        solver,
        initial,
        tolerance,
        max_iterations,
        tv_iterations,
        seed,
        scratch,
        resume,
        num_workers,
        names,
        shape,
        with_haadf,
        forward,
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
        forward : {"linear", "power"}
        **options
            As :meth:`FusedMultiModal.fit`, with "auto" only where it is decided here or later.

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
                    f"{name}: found {value!r}, but these maps are fitted in memory; only lazy maps of more than "
                    "1024 x 1024 pixels are fused chunk by chunk. Leave it None."
                )
        checks.choice(solver, tuple(MAX_ITERATIONS), "solver")
        checks.choice(regularization, ("auto", "tv", "tgv"), "regularization")
        if solver == "gradient-descent" and regularization == "tgv":
            raise ValueError(
                f"regularization: found {regularization!r} with solver='gradient-descent', the published "
                "algorithm, which knows 'tv' only; use solver='primal-dual'."
            )
        return cls(
            lambda_haadf=_lambda_haadf(lambda_haadf),
            lambda_chem=checks.number(lambda_chem, "lambda_chem", positive=True),
            count_slope=_per_element(count_slope, names, "count_slope", positive=True),
            lower_bound=_per_element(lower_bound, names, "lower_bound"),
            lambda_tv=_per_element(lambda_tv, names, "lambda_tv", ("auto", "noise")),
            regularization=regularization,
            guided=_by_the_image(guided, "guided", "guided by", with_haadf),
            relative=_relative(relative, with_haadf, forward, solver),
            regularization_weights=_regularization_weights(regularization_weights, shape),
            solver=solver,
            initial=_initial(initial, shape),
            tolerance=_tolerance(tolerance, solver),
            max_iterations=_max_iterations(max_iterations, solver),
            tv_iterations=_tv_iterations(tv_iterations, solver),
            seed=checks.whole_number(seed, "seed", 0),
            num_workers=None
            if num_workers is None
            else checks.whole_number(num_workers, "num_workers", 1),
        )


def _word(value, allowed, name):
    """A word where a number may be as well."""
    if value not in allowed:
        words = " or ".join(map(repr, allowed))
        raise ValueError(f"{name}: found {value!r}; a number or {words} is needed.")
    return value


def _lambda_haadf(value):
    if isinstance(value, str):
        return _word(value, ("auto",), "lambda_haadf")
    return checks.number(value, "lambda_haadf", minimum=0.0)


def _per_element(value, names, name, words=("auto",), *, positive=False):
    if isinstance(value, str):
        return _word(value, words, name)
    return checks.per_element(value, names, name, positive=positive)


def _by_the_image(value, name, what, with_haadf):
    if isinstance(value, str) and value == "auto":
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: found {value!r}; True, False or 'auto' is needed.")
    if value and not with_haadf:
        raise ValueError(
            f"{name}: found True, but the model has no HAADF image to be {what}; pass one to "
            "create_model()."
        )
    return bool(value)


def _relative(value, with_haadf, forward, solver):
    value = _by_the_image(value, "relative", "relative to", with_haadf)
    for name, found, needed in (("forward", forward, "linear"), ("solver", solver, "primal-dual")):
        if value is True and found != needed:
            raise ValueError(
                f"relative: found True with {name}={found!r}; it is available for {name}={needed!r} only."
            )
    return value


def _regularization_weights(value, shape):
    if isinstance(value, str):
        checks.choice(value, ("auto", "uniform", "pilot"), "regularization_weights")
        return "uniform" if value == "auto" else value
    return _maps(value, shape, "regularization_weights")


def _initial(value, shape):
    if isinstance(value, str):
        return checks.choice(value, ("auto", "measured", "multiresolution"), "initial")
    return _maps(value, shape, "initial")


def _tolerance(value, solver):
    """Gradient descent has no rule to stop by, which is what 0 means."""
    value = checks.number(value, "tolerance", minimum=0.0)
    return value if solver == "primal-dual" else 0.0


def _max_iterations(value, solver):
    if isinstance(value, str):
        _word(value, ("auto",), "max_iterations")
        return MAX_ITERATIONS[solver]
    return checks.whole_number(value, "max_iterations", 1)


def _tv_iterations(value, solver):
    if isinstance(value, str):
        checks.choice(value, ("auto",), "tv_iterations")
        return TV_ITERATIONS if solver == "gradient-descent" else None
    value = checks.whole_number(value, "tv_iterations", 1)
    if solver != "gradient-descent":
        raise ValueError(
            f"tv_iterations: found {value}, but solver={solver!r} has no inner iterations; leave it "
            "'auto'."
        )
    return value


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
