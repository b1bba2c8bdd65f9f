"""What a fit chooses from the data: the form of the regularization and the weights of the terms."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..solver import default_strength, haadf_guide, haadf_reference
from ..solver.calibration import detector_noise
from ..solver.registration import find_shift
from ..solver.selection import FORMS, Form, choose
from ..solver.smoothing import chosen_blur, fill_left_out
from ..solver.white_noise import is_white
from .findings import is_shifted

# Weights that an automatic choice may find; the others of these decide the form.
WEIGHTS = ("lambda_haadf", "lambda_tv")
CHOSEN = ("regularization", "guided", "relative", *WEIGHTS)
# Of these an image is needed.
OF_THE_IMAGE = ("guided", "relative", "lambda_haadf")
FORM_AND_WEIGHT = ("regularization", "guided", "lambda_haadf")
# An image of less weight is looked at: it may lie beside the maps.
LITTLE = 0.2


@dataclass(frozen=True)
class Choice:
    """What is decided before a fit.

    Attributes
    ----------
    settings : dict
        "regularization", "guided", "relative", "lambda_haadf", "lambda_tv" (E,), "chosen_from_data", a list of those
        of them that the data decided, and "selection", a dictionary of what was tried, or None.
    undecided : (E,) bool array
        Maps whose strength follows from their noise although it was to be chosen.
    reason : str or None
        Why nothing was chosen although something was to be.
    state : State or None
        Where the solver may start.
    shift : (2,) array or None
        Rows and columns by which an image that counts little should be moved, where that is evident.
    """

    settings: dict
    undecided: np.ndarray
    reason: str | None = None
    state: object = None
    shift: np.ndarray | None = None


def decide(problem, options, *, known_noise=False, callback=None, keep_counts=False):
    """Decide what the options leave "auto".

    Parameters
    ----------
    problem : FusionProblem
        With every other option; its ``regularization``, ``guide``, ``reference``, ``lambda_haadf`` and
        ``lambda_tv`` are not looked at.
    options : FitOptions
    known_noise : bool, default False
        Whether the noise of Gaussian maps was given rather than estimated from them.
    callback : callable, optional
        Called as ``callback(done, expected)`` with numbers of fits.
    keep_counts : bool, default False
        Whether each map is to keep its counts.

    Returns
    -------
    Choice
    """
    given = {name: getattr(options, name) for name in CHOSEN}
    if _is_auto(given["relative"]) and not _may_be_relative(given, problem):
        given["relative"] = False
    strength = given["lambda_tv"]
    if isinstance(strength, str):
        strength = default_strength(problem.maps, problem.fidelity, problem.noise)
    wanted = [name for name in CHOSEN if _is_auto(given[name])]
    if problem.haadf is None:
        wanted = [name for name in wanted if name not in OF_THE_IMAGE]
    nothing = np.zeros(len(problem.maps), bool)
    fallback = {
        "regularization": _or(given["regularization"], "tgv"),
        "guided": _or(given["guided"], False),
        "relative": _or(given["relative"], False),
        "lambda_haadf": 0.0 if problem.haadf is None else _or(given["lambda_haadf"], 1.0),
        "lambda_tv": np.asarray(strength, dtype=float),
        "chosen_from_data": [],
        "selection": None,
    }
    if options.solver == "gradient-descent":
        return Choice({**fallback, "regularization": "tv"}, nothing)
    if not wanted:
        return Choice(fallback, nothing)
    coloured = ~is_white(problem.maps, problem.fidelity, problem.noise if known_noise else None)
    if coloured.any():
        return Choice(fallback, coloured, "filtered")
    start = replace(
        problem,
        lambda_tv=strength,
        lambda_haadf=fallback["lambda_haadf"],
        regularization="tv",
        guide=None,
        reference=None,
    )
    forms = _forms(given, start)
    guided = any(form.guided for form in forms)
    guide = haadf_guide(problem.haadf, problem.haadf_noise) if guided else None
    relative = any(form.relative for form in forms)
    reference = haadf_reference(problem.haadf, problem.haadf_noise) if relative else None
    selection = choose(
        start,
        guide,
        reference,
        forms=forms,
        fixed=[name for name in WEIGHTS if name not in wanted],
        seed=options.seed,
        num_workers=options.num_workers,
        callback=callback,
        keep_counts=keep_counts,
    )
    if selection.undecided.all():
        return Choice(fallback, selection.undecided)
    settings = {
        "regularization": selection.form.regularization,
        "guided": selection.form.guided,
        "relative": selection.form.relative,
        "lambda_haadf": selection.lambda_haadf,
        "lambda_tv": selection.lambda_tv,
        "chosen_from_data": wanted,
        "selection": recorded(selection),
    }
    undecided = selection.undecided if "lambda_tv" in wanted else nothing
    shift = None
    if "lambda_haadf" in wanted and selection.lambda_haadf < LITTLE:
        shift = _evident_shift(problem)
    return Choice(settings, undecided, state=selection.state, shift=shift)


def _evident_shift(problem):
    """By how much the HAADF image should be moved to lie on the maps, None if that is not evident."""
    used = np.isfinite(np.broadcast_to(problem.haadf_noise, problem.haadf.shape))
    image = np.asarray(problem.haadf, dtype=float)
    if not used.any() or not problem.weights.any():
        return None
    image = fill_left_out(image, ~used)
    smooth = chosen_blur(image - image.mean(), detector_noise(image) ** 2)[0]
    found = find_shift(np.tensordot(problem.weights, np.asarray(problem.maps, dtype=float), 1), smooth)
    return found.move if is_shifted(found) else None


def _may_be_relative(given, problem):
    """Whether a regularization relative to the image is among those to choose from."""
    left = all(_is_auto(given[name]) for name in ("regularization", "guided"))
    return left and problem.haadf is not None and problem.forward == "linear"


def _is_auto(value):
    return isinstance(value, str) and value == "auto"


def _or(value, otherwise):
    return otherwise if _is_auto(value) else value


def _forms(given, problem):
    """Forms that agree with what was given; where nothing was, those that are the best for some data."""
    image = problem.haadf is not None
    own = 0.0 if _is_auto(given["lambda_haadf"]) else given["lambda_haadf"]
    relative = not _is_auto(given["relative"]) and bool(given["relative"])
    if image and not relative and all(map(_is_auto, (given[name] for name in FORM_AND_WEIGHT))):
        return [form for form in FORMS if not form.relative or _is_auto(given["relative"])]
    regularizations = ["tgv", "tv"] if _is_auto(given["regularization"]) else [given["regularization"]]
    guided = [False]
    if image:
        guided = [False, True] if _is_auto(given["guided"]) else [bool(given["guided"])]
    with_haadf = [own > 0]
    if image and _is_auto(given["lambda_haadf"]):
        # Where the image is left out it guides nothing, and nothing is relative to it, unless that was asked for.
        with_haadf = [True, False]
    forms = [
        Form(regularization, guide, haadf, relative)
        for haadf, regularization, guide in product(with_haadf, regularizations, guided)
    ]
    if _is_auto(given["relative"]):
        forms += [form for form in FORMS if form.relative and True in with_haadf]
    if len(with_haadf) == 2 and _is_auto(given["guided"]):
        forms = [form for form in forms if form.with_haadf or not form.guided]
    return forms


def recorded(selection):
    """A selection in plain values, which every file keeps.

    Parameters
    ----------
    selection : Selection

    Returns
    -------
    dict
        See :attr:`FusedMultiModal.selection`.
    """
    tried = selection.tried
    forms = [selection.forms[entry["form"]] for entry in tried]
    scores = np.array([entry["score"] for entry in tried])
    return {
        "regularization": [form.regularization for form in forms],
        "guided": [bool(form.guided) for form in forms],
        "relative": [bool(form.relative) for form in forms],
        "lambda_haadf": np.array([entry["lambda_haadf"] for entry in tried]),
        **{
            name: np.array([entry[name] for entry in tried])
            for name in ("lambda_tv", "error", "deviance")
        },
        "score": scores,
        "chosen": int(selection.chosen),
        "undecided": [bool(entry) for entry in selection.undecided],
        "tiles": np.array(
            [[rows.start, rows.stop, columns.start, columns.stop] for rows, columns in selection.tiles]
        ),
    }
