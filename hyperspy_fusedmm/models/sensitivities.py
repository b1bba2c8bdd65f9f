"""Counts that one atom yields, from the factors of X-ray quantification."""

import numpy as np

from ..signals.names import atomic_number
from . import checks

METHODS = ("CL", "zeta", "cross_section")


def sensitivities_from_factors(factors, method="CL", *, elements=None):
    """Counts that one atom of each element yields, from what eXSpy's quantification takes.

    With intensities :math:`I_i`, numbers of atoms are proportional to :math:`I_i / s_i`. Cliff-Lorimer
    k-factors [1]_ and zeta-factors [2]_ relate intensities to weight fractions, so with the atomic weight
    :math:`A_i` :math:`s_i = A_i / k_i` and :math:`s_i = A_i / \\zeta_i`; partial ionisation cross-sections
    [3]_ are counts per atom already, :math:`s_i = \\sigma_i`. A factor common to all does not matter.

    Parameters
    ----------
    factors : dict, or sequence of E floats
        Factor of each element, or X-ray line; a sequence in the order of `elements`. (The factors of eXSpy's
        quantification are in the order of its list of intensities, by default the alphabetical one of the lines.)
    method : {"CL", "zeta", "cross_section"}, default "CL"
        What the factors are, as in ``EDSTEMSpectrum.quantification``: Cliff-Lorimer k-factors,
        zeta-factors or ionisation cross-sections.
    elements : sequence of str, optional
        Elements, or X-ray lines, to which the factors belong; by default the keys of `factors`.

    Returns
    -------
    dict of str to float
        Sensitivities, for ``sensitivities=`` of :meth:`ElementMaps.create_model` and
        :meth:`ElementMaps.atomic_percent`. The largest is 1.

    Raises
    ------
    ValueError
        If there are other factors than elements, a factor is not a finite number > 0, a symbol is none, or
        there is no such method.

    References
    ----------
    .. [1] Cliff and Lorimer, J. Microsc. 103, 203 (1975).
    .. [2] Watanabe and Williams, J. Microsc. 221, 89 (2006).
    .. [3] MacArthur et al., Microsc. Microanal. 22, 71 (2016).

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> found = fmm.sensitivities_from_factors({"Fe": 1.450226, "Pt": 5.075602})
    >>> {element: round(value, 3) for element, value in found.items()}
    {'Fe': 1.0, 'Pt': 0.998}
    >>> fmm.sensitivities_from_factors([2.0, 1.0], "cross_section", elements=["Ga_Ka", "O_Ka"])
    {'Ga_Ka': 1.0, 'O_Ka': 0.5}
    """
    checks.choice(method, METHODS, "method")
    if elements is None:
        if not isinstance(factors, dict):
            raise ValueError(
                f"elements: found none, and the factors are {factors!r}; pass elements, or a dict of element to "
                "factor."
            )
        elements = list(factors)
    names = [elements] if isinstance(elements, str) else [str(entry) for entry in elements]
    symbols = [name.partition("_")[0] for name in names]
    for symbol in symbols:
        atomic_number(symbol)
    values = _values(factors, names, symbols)
    found = values if method == "cross_section" else atomic_weights(symbols) / values
    return dict(zip(names, (found / found.max()).tolist()))


def _values(factors, names, symbols):
    """One factor per map; a dict may name elements for maps of lines, and lines for maps of elements."""
    if isinstance(factors, dict):
        by_symbol = {str(key).partition("_")[0]: key for key in factors}
        unique = len(by_symbol) == len(factors) and len(set(symbols)) == len(symbols)
        if unique and not set(names) & set(factors) and set(by_symbol) == set(symbols):
            factors = {name: factors[by_symbol[s]] for name, s in zip(names, symbols)}
    elif np.ndim(factors) != 1 or len(factors) != len(names):
        found = f"{len(factors)} numbers" if np.ndim(factors) == 1 else repr(factors)
        raise ValueError(
            f"factors: found {found}; one for each of the {len(names)} maps, {', '.join(names)}, is needed."
        )
    return checks.per_element(factors, names, "factors", positive=True)


def atomic_weights(elements):
    """Atomic weights in g/mol, shape (E,).

    Parameters
    ----------
    elements : sequence of str
        Chemical symbols.
    """
    from exspy.material import elements as table

    return np.array([float(table[e].General_properties.atomic_weight) for e in elements])


def given_sensitivities(value, names, elements):
    """Sensitivities as `create_model` takes them, as an array in the order of the maps.

    Parameters
    ----------
    value : float, (E,), dict of element to float, or dict of "method" and "factors"
    names, elements : list of str
        Name and element of every map.

    Returns
    -------
    (E,) array

    Raises
    ------
    ValueError
    """
    if isinstance(value, dict) and {"method", "factors"} & set(value):
        unknown = [str(key) for key in value if key not in ("method", "factors")]
        if unknown or "factors" not in value:
            raise ValueError(
                f"sensitivities: found a dict of {', '.join(map(str, value))}; 'factors' and 'method' (one of "
                f"{', '.join(METHODS)}), or a value for each of {', '.join(names)}, are needed."
            )
        lines = [name if name.partition("_")[0] == e else e for name, e in zip(names, elements)]
        try:
            found = sensitivities_from_factors(
                value["factors"], value.get("method", "CL"), elements=lines
            )
        except ValueError as problem:
            raise ValueError(f"sensitivities: {problem}") from None
        value = [found[line] for line in lines]
    return checks.per_element(value, names, "sensitivities", positive=True)
