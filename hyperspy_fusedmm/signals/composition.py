"""From counts to atomic percent: which sensitivities, where there is anything, and the signal."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from ..solver.composition import (
    atomic_fractions,
    fraction_variance,
    kept_counts,
    relative_covariance,
)
from ..solver.mixture import binned, fit_phases
from ..solver.out_of_core import solution_of
from .names import QUANTITIES, atomic_number
from .warning import warn_caller

QUANTITY = QUANTITIES["atomic percent of "]
# Of the counts that a typical pixel of the specimen has.
LEAST_SHARE = 0.05
# Of its counts that the map of an element should have kept.
LEAST_KEPT = 0.5


@dataclass(frozen=True)
class Sensitivities:
    """Counts that one atom of each element yields, and how well that is known.

    Attributes
    ----------
    values : (E,) array
        Up to a common factor.
    source : str
        "given", "sensitivities of the fit" or "weights".
    error : (E, E) array
        Covariance of their relative errors.
    """

    values: np.ndarray
    source: str
    error: np.ndarray


def atomic_percent(
    maps,
    sensitivities,
    *,
    minimum_counts="auto",
    kept=None,
    covariance=None,
    variance=None,
    relative_error=0.0,
    confidence=None,
    multiples=None,
):
    """Atomic percent of element maps and, where a covariance or variance is given, their standard error.

    Parameters
    ----------
    maps : ElementMaps
    sensitivities : Sensitivities
    minimum_counts : "auto" or float
        As :meth:`ElementMaps.atomic_percent`.
    kept : (E,) array, optional
        Share of the counts of each element that is in its map, as :func:`kept_by` returns it.
    covariance : (E, E, R, C) or (E, R, C) array, optional
        Covariance of the errors of the maps scaled to their totals, or their variance where they are
        independent.
    variance : (E, R, C) array, optional
        Variance of the errors of the fractions, in place of a covariance.
    relative_error : float or (E,) array, default 0
        Relative standard error of each map as a whole, besides those of the sensitivities.
    confidence : float, optional
        Return half the width of the interval that holds the truth with this probability, in place of the standard
        error.
    multiples : callable, optional
        From the (R, C) pixels that have a composition to how many standard errors, (E,), half an interval is by
        `variance` alone. By default that of normal errors, which all others are taken for.

    Returns
    -------
    percent : ElementMaps
    standard_error : ElementMaps or None

    Raises
    ------
    ValueError
        If `minimum_counts` is no number >= 0.
    """
    array = _array_module(maps)
    values = _elements_first(maps, maps.data)
    if kept is not None:
        values = values / kept.reshape((-1,) + (1,) * (values.ndim - 1))
    total = values.sum(axis=0)
    least = _least_counts(maps, total, minimum_counts)
    # Nothing at all is no composition, whatever the threshold.
    enough = (total >= least) & (total > 0)
    fractions = atomic_fractions(values, sensitivities.values)
    told = {
        "sensitivities": sensitivities.values.tolist(),
        "sensitivities_source": sensitivities.source,
        "minimum_counts": "auto" if hasattr(least, "dask") else float(least),
        "kept_totals": kept is not None,
    }
    percent = 100 * array.where(enough, fractions, np.nan)
    signal = _percent_maps(maps, percent, "atomic percent", told)
    if covariance is None and variance is None:
        return signal, None
    told = {**told, "sensitivities_error": np.sqrt(np.diag(sensitivities.error)).tolist()}
    relative = sensitivities.error + relative_covariance(relative_error, len(values))
    covariance = array.zeros_like(values) if covariance is None else covariance
    of_fractions = fraction_variance(values, covariance, sensitivities.values, relative)
    variance = array.zeros_like(values) if variance is None else variance
    largest = array.maximum(fractions, 1 - fractions)

    def as_maps(variance, what, told):
        # To first order errors may grow without bounds, but no fraction can be off by more than this.
        deviation = array.minimum(array.sqrt(variance), largest)
        return _percent_maps(maps, 100 * array.where(enough, deviation, np.nan), what, told)

    deviations = as_maps(of_fractions + variance, "standard error of atomic percent", told)
    if not maps._lazy:
        signal.set_noise_variance(_variance_of(deviations))
    if confidence is None:
        return signal, deviations
    normal = norm.ppf((1 + confidence) / 2)
    widths = np.full(len(values), normal) if multiples is None else multiples(np.asarray(enough))
    squares = normal**2 * of_fractions + variance * widths.reshape((-1,) + (1,) * (values.ndim - 1)) ** 2
    what = f"half-width of {100 * confidence:.3g} % interval of atomic percent"
    return signal, as_maps(squares, what, {**told, "confidence": confidence})


def kept_by(maps, keep_totals):
    """Share of the counts of each element that fused maps have kept, or None where it does not matter.

    Parameters
    ----------
    maps : ElementMaps
        Fused maps.
    keep_totals : bool or ElementMaps
        As :meth:`ElementMaps.atomic_percent`.

    Returns
    -------
    (E,) array or None

    Raises
    ------
    ValueError
        If measured maps are of other elements, or of another shape.

    Warns
    -----
    UserWarning
        If less than half of the counts of an element were kept.
    """
    if hasattr(keep_totals, "axes_manager"):
        return _kept_of(maps, keep_totals)
    if not isinstance(keep_totals, (bool, np.bool_)):
        raise ValueError(
            f"keep_totals: found {keep_totals!r}; True, False or the measured maps are needed."
        )
    made = maps.metadata.get_item("FusedMultiModal", None)
    known = None if made is None else made.get_item("kept_counts", None)
    if not keep_totals or known is None:
        return None
    fused = list(made.elements)
    if any(fused.count(element) != 1 for element in maps.elements):
        return None
    kept = np.array(known, dtype=float)[[fused.index(element) for element in maps.elements]]
    for element, share in zip(maps.elements, kept):
        if share < LEAST_KEPT:
            warn_caller(
                f"{element}: {100 * share:.0f} % of its counts are in its fused map, regularization removed "
                "the others; the composition of single pixels says little, that of regions is in the "
                "counts."
            )
    return kept


def _kept_of(maps, measured):
    if measured.elements != maps.elements or measured.data.shape != maps.data.shape:
        raise ValueError(
            f"keep_totals: found maps of {', '.join(measured.elements)} of shape {measured.data.shape}; "
            f"the measured maps, of {', '.join(maps.elements)} and of shape {maps.data.shape}, are needed."
        )
    net = measured.data
    background = measured.metadata.get_item("Background.counts", None)
    if background is not None:
        net = net - background.data
    columns = maps.data.shape[-1]
    fused, net = (
        _elements_first(maps, data).reshape((maps._map_count, -1, columns))
        for data in (maps.data, net)
    )
    return _at_once(maps, kept_counts(fused, net))[0]


def sensitivities_for(maps, given=None, error="auto"):
    """Sensitivities that were given, or else those that the fusion of these maps tells of.

    Parameters
    ----------
    maps : ElementMaps
    given : (E,), dict (also of factors), or None
        As :meth:`ElementMaps.atomic_percent`.
    error : "auto", float, (E,) or dict
        Relative standard errors; "auto" takes those of the weights where they are used.

    Returns
    -------
    Sensitivities

    Raises
    ------
    ValueError
        If what was given does not fit the maps, or nothing was given and the weights of the HAADF
        image say nothing of the sensitivities.
    """
    from ..models import checks
    from ..models.sensitivities import given_sensitivities

    names = _checked_names(maps)
    if given is not None:
        values = given_sensitivities(given, names, maps.elements)
        source, relative = "given", np.zeros((len(names), len(names)))
    else:
        values, source, relative = _of_fusion(maps)
    if isinstance(error, str):
        checks.choice(error, ("auto",), "sensitivities_error")
    else:
        relative = np.diag(checks.per_element(error, names, "sensitivities_error") ** 2)
    return Sensitivities(values, source, relative)


def covariance_array(maps, covariance, kept=None):
    """Covariance of the errors of maps, from a signal or from what the maps themselves tell.

    Parameters
    ----------
    maps : ElementMaps
    covariance : signal or array of shape (E, E, R, C), or None
        None takes the noise variance of maps that were not fused.
    kept : (E,) array, optional
        Share of the counts of each element that is in its map; the maps are scaled by its inverse.

    Returns
    -------
    (E, E, R, C) or (E, R, C) array

    Raises
    ------
    ValueError
        If it has another shape, or there is none.
    """
    from ..models import checks

    if covariance is not None:
        data = covariance.data if hasattr(covariance, "axes_manager") else np.asarray(covariance)
        shape = (maps._map_count,) + maps.data.shape
        if data.shape != shape:
            raise ValueError(
                f"covariance: found an array of shape {data.shape}; {shape}, as model.covariance() "
                "returns it for these maps, is needed."
            )
        data = data if maps._lazy else checks.values_of(data)
        return data if kept is None else data / (kept * kept[:, None])[:, :, None, None]
    variance = maps.get_noise_variance()
    if variance is None or maps.metadata.has_item("FusedMultiModal"):
        raise ValueError(
            "return_error: these maps do not tell how the errors of the elements go together. Of fused "
            "maps, ask the model: model.atomic_percent(return_error=True), with the model from "
            "fuse(..., return_model=True), or pass covariance=model.covariance(). Of measured counts, call "
            "estimate_poissonian_noise_variance() first."
        )
    data = checks.values_of(variance)
    return np.broadcast_to(data, maps.data.shape) if data.ndim == 0 else data


def phases_of(percent, elements=None, phases="auto"):
    """Gaussians in the distribution of the atomic percent of each element.

    Parameters
    ----------
    percent : ElementMaps
        Atomic percent.
    elements : list of str, optional
    phases : "auto", int, or dict of element to these

    Returns
    -------
    dict of str to list of Phase

    Raises
    ------
    ValueError
        If the maps are not atomic percent, an element is not among them, or a number of phases is no
        whole number >= 1.
    """
    from ..drawing.overlay import choose_elements
    from ..models import checks

    require_percent(percent)
    elements = choose_elements(percent, elements)
    numbers = phases
    if not isinstance(phases, dict):
        numbers = dict.fromkeys(elements, phases)
    else:
        numbers = dict(zip(elements, checks.from_dict(phases, elements, "phases", "auto")))
    for number in numbers.values():
        if isinstance(number, str):
            checks.choice(number, ("auto",), "phases")
        else:
            checks.whole_number(number, "phases", 1)
    return {
        element: fit_phases(*binned(checks.values_of(percent.get_map(element))), number)
        for element, number in numbers.items()
    }


def require_percent(maps):
    """Raise ValueError unless maps are atomic percent."""
    if not is_percent(maps):
        raise ValueError(
            "These maps are not atomic percent (metadata.Signal.quantity: found "
            f"{maps.metadata.get_item('Signal.quantity', None)!r}; {QUANTITY!r} is needed); call "
            "atomic_percent() first."
        )


def is_percent(maps):
    """Whether maps came out of :func:`atomic_percent`."""
    return maps.metadata.get_item("Signal.quantity", None) == QUANTITY


def _checked_names(maps):
    """Names of maps of which fractions can be formed."""
    if is_percent(maps):
        raise ValueError("atomic_percent: these maps are atomic percent already.")
    elements, names = maps.elements, maps._map_names()
    if len(names) < 2:
        raise ValueError(
            f"atomic_percent: found {len(names)} named maps ({', '.join(names) or 'none'}); at least two "
            "are needed, since one element on its own is 100 % everywhere."
        )
    twice = sorted({element for element in elements if elements.count(element) > 1})
    if twice:
        raise ValueError(
            f"atomic_percent: found several maps of {', '.join(twice)} ({', '.join(names)}); one per "
            "element is needed: choose with inav, or add the lines up with element_maps(sum_lines=True)."
        )
    return names


def _of_fusion(maps):
    """Sensitivities that go with the HAADF weights that these maps were fused with."""
    made = maps.metadata.get_item("FusedMultiModal", None)
    rule = None if made is None else made.get_item("weights_rule", None)
    if rule is None:
        raise ValueError(
            "sensitivities: found none, and these maps were not fused; the counts that one atom of each "
            f"element yields are needed, for {', '.join(maps.elements)}."
        )
    fused = list(made.elements)
    if any(fused.count(element) != 1 for element in maps.elements):
        raise ValueError(
            f"sensitivities: found none, and these maps were fused as {', '.join(fused)}, which are not "
            f"the elements {', '.join(maps.elements)}; pass sensitivities."
        )
    positions = [fused.index(element) for element in maps.elements]
    relative = np.zeros((len(positions), len(positions)))
    if rule == "sensitivities":
        values = np.array(made.sensitivities, dtype=float)[positions]
        return values, "sensitivities of the fit", relative
    _refuse_weights(made, rule)
    weights = np.array(made.weights, dtype=float)[positions]
    if not (weights > 0).all():
        without = [e for e, weight in zip(maps.elements, weights) if not weight > 0]
        raise ValueError(
            f"sensitivities: found none, and the HAADF image gives {', '.join(without)} no weight, so it "
            "says nothing of the number of these atoms; pass sensitivities, or leave them out with inav."
        )
    numbers = np.array([atomic_number(element) for element in maps.elements], dtype=float)
    # An atom adds Z**gamma to the image. The power model takes the power of weight times map: Z of each.
    exponent = float(made.gamma) if made.forward == "linear" else 1.0
    covariance = made.get_item("weights_covariance", None)
    if covariance is not None:
        covariance = np.asarray(covariance, dtype=float)[np.ix_(positions, positions)]
        relative = covariance / np.outer(weights, weights)
    return numbers**exponent / weights, "weights", relative


# Why weights by each rule do not tell how many counts an atom yields.
_REASONS = {
    "none": "these maps were fused without a HAADF image",
    "prior": "the maps did not determine the weights of the HAADF image, which were taken from the atomic "
    "numbers as if all elements had the same k-factor, or all maps were numbers of atoms",
    "preset": "the preset scaled every map and took the weights of the HAADF image from the atomic numbers",
}


def _refuse_weights(made, rule):
    reason = _REASONS.get(rule)
    if rule not in ("given", "fitted") and reason is None:
        reason = (
            f"the weights of the HAADF image were not found from the data (weights_rule: {rule!r})"
        )
    if rule == "fitted" and made.forward != "linear":
        reason = (
            "of the weights of the power model only the common factor is found from the data, their ratios "
            "are those of the atomic numbers"
        )
    if made.get_item("preset", None) is not None:
        reason = _REASONS["preset"]
    if made.get_item("gamma_rule", None) == "fitted" and made.forward == "linear":
        reason = "gamma was fitted, and with both gamma and the weights free, any sensitivities explain the image"
    if reason is not None:
        raise ValueError(
            f"sensitivities: found none, and {reason}; pass sensitivities, the counts that one atom of each "
            "element yields."
        )


def _least_counts(maps, total, minimum):
    from ..models import checks

    if not isinstance(minimum, str):
        return checks.number(minimum, "minimum_counts", 0.0)
    checks.choice(minimum, ("auto",), "minimum_counts")
    # Mean of the counts weighted by themselves: vacuum, however much of it, does not count.
    counts = total.clip(0, None).astype(float)
    sums = _at_once(maps, (counts**2).sum(), counts.sum())
    return LEAST_SHARE * sums[0] / _array_module(maps).maximum(sums[1], 1e-300)


def _at_once(maps, *sums):
    """Sums over whole maps, computed now.

    Else maps would stay in memory, where they may not fit, until their sum is known. Not so for maps
    that are solved on computing: that must happen once.
    """
    if not maps._lazy or solution_of(maps.data) is not None:
        return sums
    import dask

    return dask.compute(*sums)


def _array_module(maps):
    if not maps._lazy:
        return np
    import dask.array

    return dask.array


def _element_position(maps):
    return maps._element_axis.index_in_array


def _elements_first(maps, data):
    return _array_module(maps).moveaxis(data, _element_position(maps), 0)


def _percent_maps(maps, values, what, told):
    """Maps like those given, of other values."""
    values = _array_module(maps).moveaxis(values, 0, _element_position(maps))
    signal = maps._deepcopy_with_new_data(values.astype(np.float32))
    signal.metadata.Signal.quantity = QUANTITY
    signal.metadata.General.title = f"{maps.metadata.General.title} ({what})".strip()
    # Noise and background are those of the counts.
    if signal.metadata.has_item("Background"):
        del signal.metadata.Background
    if signal.metadata.has_item("Signal.Noise_properties"):
        del signal.metadata.Signal.Noise_properties
    signal.metadata.set_item("FusedMultiModal.atomic_percent", told)
    return signal


def _variance_of(deviations):
    from hyperspy.signals import Signal2D

    axes = deviations.axes_manager._get_axes_dicts()
    return Signal2D(deviations.data**2, axes=axes)
