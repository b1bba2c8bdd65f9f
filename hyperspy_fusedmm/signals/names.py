"""Element symbols, X-ray lines, and where a signal says which element it maps."""

import difflib
import re
from functools import lru_cache

# Titles that name their element: "Si", "Si Ka", "Fe L3 edge", "O map", "iron", Velox's "Fe-K" and
# "Fe-EELS", eXSpy's "X-ray line intensity of particle: Si_Ka at 1.74 keV" and "atomic percent of Si".
_TITLE_PATTERNS = (
    r"^(?P<name>[A-Z][a-z]?)$",
    r"^(?P<name>[A-Z][a-z]?[_ -]?[KLMN](?:[abgln]\d?|[1-7]{0,2}))"
    r"(?: (?:edge|line|map|counts|intensity))*$",
    r"^(?P<name>[A-Z][a-z]?)[ -](?:edge|map|counts|intensity|EELS|EDS|EDX)$",
    r"(?:^|: )(?P<name>[A-Z][a-z]?_[KLM]\w+) at [\d.]+",
    r"(?:percent|counts) of (?P<name>[A-Z][a-z]?)$",
)

# What the values are that eXSpy's quantification returns, by how their titles begin.
QUANTITIES = {
    "atomic percent of ": "Atomic percent (%)",
    "weight percent of ": "Weight percent (%)",
    "atom counts of ": "Number of atoms",
}


@lru_cache(maxsize=1)
def _database():
    """Atomic number, name, X-ray lines and edges of every element eXSpy knows."""
    from exspy.material import elements

    table = {}
    for symbol, entry in elements.as_dictionary().items():
        if isinstance(entry, dict) and "General_properties" in entry:
            atomic = entry.get("Atomic_properties", {})
            table[symbol] = (
                int(entry["General_properties"]["Z"]),
                str(entry["General_properties"]["name"]).lower(),
                frozenset(atomic.get("Xray_lines", {})),
                frozenset(atomic.get("Binding_energies", {})),
            )
    return table


def atomic_number(element):
    """Atomic number of an element.

    Parameters
    ----------
    element : str
        Symbol, such as ``"Fe"``.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If eXSpy's database has no such element.

    Examples
    --------
    >>> atomic_number("Fe")
    26
    """
    table = _database()
    if str(element) not in table:
        close = difflib.get_close_matches(str(element).capitalize(), table, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(
            f"elements: {element!r} is not the symbol of a chemical element; "
            f"a symbol such as 'Fe' or an X-ray line such as 'Fe_Ka' is needed.{hint}"
        )
    return table[str(element)][0]


def parse_name(name):
    """Split the name of a map into its element and, where it has one, its X-ray line.

    Parameters
    ----------
    name : str
        An element (``"Fe"``), an X-ray line (``"Fe_Ka"``) or an ionisation edge (``"Fe_L3"``).

    Returns
    -------
    element : str
    xray_line : str or None
        None for an element or an edge.

    Raises
    ------
    ValueError
        If the element, or its line or edge, does not exist.

    Examples
    --------
    >>> parse_name("Fe_Ka")
    ('Fe', 'Fe_Ka')
    >>> parse_name("Fe_L3")
    ('Fe', None)
    """
    element, _, shell = str(name).strip().partition("_")
    atomic_number(element)
    if not shell:
        return element, None
    _, _, lines, edges = _database()[element]
    if shell in lines:
        return element, f"{element}_{shell}"
    # Edges are summed over subshells more often than not: "Fe_L" and "Fe_L23" are edges as well.
    if re.fullmatch(r"[KLMNO][1-7]{0,2}", shell) and shell[0] in {edge[0] for edge in edges}:
        return element, None
    raise ValueError(
        f"elements: {name!r} is neither an X-ray line nor an edge of {element}; "
        f"its X-ray lines are {', '.join(sorted(lines))}."
    )


def element_from_title(title):
    """Element and X-ray line that a signal's title names, or None.

    Parameters
    ----------
    title : str

    Returns
    -------
    tuple of (str, str or None), or None
        As :func:`parse_name`; None where the title names no element.

    Examples
    --------
    >>> element_from_title("atomic percent of Si")
    ('Si', None)
    >>> element_from_title("HAADF") is None
    True
    """
    title = str(title).strip()
    for symbol, (_, name, _, _) in _database().items():
        if title.lower() in (name, f"{name} map"):
            return symbol, None
    for pattern in _TITLE_PATTERNS:
        match = re.search(pattern, title)
        if match is None:
            continue
        element, shell = re.match(r"([A-Z][a-z]?)[_ -]?(.*)$", match["name"]).groups()
        try:
            return parse_name(f"{element}_{shell}" if shell else element)
        except ValueError:
            continue
    return None


def quantity_from_title(title):
    """What the values of a result of eXSpy's quantification are, or None for other signals.

    Parameters
    ----------
    title : str

    Returns
    -------
    str or None

    Examples
    --------
    >>> quantity_from_title("weight percent of Si")
    'Weight percent (%)'
    """
    title = str(title).strip()
    return next((what for start, what in QUANTITIES.items() if title.startswith(start)), None)


def lines_of(elements, xray_lines, positions):
    """X-ray lines that belong to some of the maps.

    Parameters
    ----------
    elements : list of str
        Element of every map.
    xray_lines : list of str
        One per map, or several per element where lines were summed.
    positions : sequence of int
        The maps wanted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> lines_of(["Fe", "Cu"], ["Fe_Ka", "Fe_Kb", "Cu_Ka"], [0])
    ['Fe_Ka', 'Fe_Kb']
    """
    of_line = [line.partition("_")[0] for line in xray_lines]
    if of_line == list(elements):
        return [xray_lines[i] for i in positions]
    wanted = {elements[i] for i in positions}
    return [line for line, element in zip(xray_lines, of_line) if element in wanted]
