"""Names of elements, lines and edges, and titles that carry them."""

import pytest

from hyperspy_fusedmm.signals.names import (
    atomic_number,
    element_from_title,
    lines_of,
    parse_name,
)


@pytest.mark.parametrize("element, number", [("H", 1), ("O", 8), ("Dy", 66), ("U", 92)])
def test_atomic_number(element, number):
    assert atomic_number(element) == number


@pytest.mark.parametrize("wrong", ["Xx", "fe", "", "HAADF", 26, None])
def test_unknown_element_names_the_culprit(wrong):
    with pytest.raises(ValueError, match="elements: .*symbol of a chemical element") as error:
        atomic_number(wrong)
    assert repr(wrong) in str(error.value)


def test_unknown_element_suggests_the_right_one():
    with pytest.raises(ValueError, match="'Fe'"):
        atomic_number("fe")


@pytest.mark.parametrize(
    "name, parsed",
    [
        ("Fe", ("Fe", None)),
        (" Fe ", ("Fe", None)),
        ("Fe_Ka", ("Fe", "Fe_Ka")),
        ("Pt_La", ("Pt", "Pt_La")),
        ("Fe_L3", ("Fe", None)),
        ("Fe_L23", ("Fe", None)),
        ("O_K", ("O", None)),
    ],
)
def test_parse_name(name, parsed):
    assert parse_name(name) == parsed


@pytest.mark.parametrize("wrong", ["Fe_Xa", "Fe_Za", "O_Lab", "H_M5"])
def test_unknown_line_lists_those_of_the_element(wrong):
    with pytest.raises(ValueError, match="X-ray line"):
        parse_name(wrong)


@pytest.mark.parametrize(
    "title, element, line",
    [
        ("Si", "Si", None),
        ("Si_Ka", "Si", "Si_Ka"),
        ("Si Ka", "Si", "Si_Ka"),
        ("Fe-K", "Fe", None),
        ("Fe L3 edge", "Fe", None),
        ("Ti L", "Ti", None),
        ("O K edge map", "O", None),
        ("O map", "O", None),
        ("Co-EELS", "Co", None),
        ("oxygen", "O", None),
        ("Iron map", "Fe", None),
        ("X-ray line intensity of my: particle: Si_Ka at 1.74 keV", "Si", "Si_Ka"),
        ("atomic percent of Dy", "Dy", None),
    ],
)
def test_titles_that_name_an_element(title, element, line):
    assert element_from_title(title) == (element, line)


@pytest.mark.parametrize(
    "title",
    ["", "HAADF", "EDS", "In situ map 3", "Ka", "Xx", "Fe and Co", "DF4", "Image", "No. 4", "DF-S"],
)
def test_titles_that_name_none(title):
    assert element_from_title(title) is None


def test_lines_follow_their_element():
    elements, lines = ["Fe", "Cu", "O"], ["Fe_Ka", "Fe_Kb", "Cu_Ka"]
    assert lines_of(elements, lines, [1, 0]) == ["Fe_Ka", "Fe_Kb", "Cu_Ka"]
    assert lines_of(elements, lines, [2]) == []


def test_lines_of_unsummed_maps_follow_their_position():
    elements, lines = ["Fe", "Fe", "Cu"], ["Fe_Ka", "Fe_Kb", "Cu_Ka"]
    assert lines_of(elements, lines, [1]) == ["Fe_Kb"]
    assert lines_of(elements, lines, [2, 0]) == ["Cu_Ka", "Fe_Ka"]
