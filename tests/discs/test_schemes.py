"""Numbers of other tools, against what their own documents say, and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivdjax.discs.schemes import LEVELS, SCHEMES, find_scheme, from_scheme, to_scheme
from ivdjax.imaging.files.codes import DISC_CODES
from ivdjax.volume import CaseError, LabelMap, UserError

# As the tools' own lists have them, from the lowest disc up.
TOTALSPINESEG = {
    "L5-S": 100, "L4-L5": 95, "L3-L4": 94, "L2-L3": 93, "L1-L2": 92, "T12-L1": 91, "T11-T12": 82, "T10-T11": 81,
    "T9-T10": 80, "T8-T9": 79, "T7-T8": 78, "T6-T7": 77, "T5-T6": 76, "T4-T5": 75, "T3-T4": 74, "T2-T3": 73,
    "T1-T2": 72, "C7-T1": 71, "C6-C7": 67, "C5-C6": 66, "C4-C5": 65, "C3-C4": 64, "C2-C3": 63,
}  # fmt: skip
TPTBOX_VERTEBRAE = {
    "L5": 24, "L4": 23, "L3": 22, "L2": 21, "L1": 20, "T12": 19, "T11": 18, "T10": 17, "T9": 16, "T8": 15, "T7": 14,
    "T6": 13, "T5": 12, "T4": 11, "T3": 10, "T2": 9, "T1": 8, "C7": 7, "C6": 6, "C5": 5, "C4": 4, "C3": 3, "C2": 2,
}  # fmt: skip
OTHERS = ["totalspineseg", "spineps", "spider"]


def label_map(*values: int) -> LabelMap:
    """Values side by side, one voxel each, after a voxel of background."""
    array = np.array([0, *values], dtype=np.uint8).reshape(1, 1, -1)
    return LabelMap(array, np.diag([3.0, 1.0, 1.0, 1.0]))


def values(labels: LabelMap) -> list[int]:
    return labels.array.ravel()[1:].tolist()


def test_numbers_are_those_of_the_tools() -> None:
    assert SCHEMES["totalspineseg"].values == tuple(TOTALSPINESEG.values())
    assert SCHEMES["spineps"].values == tuple(100 + vertebra for vertebra in TPTBOX_VERTEBRAE.values())
    assert SCHEMES["spider"].values == tuple(range(201, 224))


def test_the_documented_table() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| disc | SNOMED CT |"))
    names = [cell.strip() for cell in lines[start].strip("|").split("|")][2:]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : start + 2 + len(LEVELS)]
    ]
    assert [row[0] for row in rows] == [code.meaning.removesuffix(" disc") for code in DISC_CODES]
    assert [row[1] for row in rows] == [code.value for code in DISC_CODES]
    assert names == list(SCHEMES)
    for place, name in enumerate(names, start=2):
        assert tuple(int(row[place]) for row in rows) == SCHEMES[name].values


@pytest.mark.parametrize(
    ("name", "first_seven"),
    [
        ("totalspineseg", [100, 95, 94, 93, 92, 91, 82]),
        ("spineps", [124, 123, 122, 121, 120, 119, 118]),
        ("spider", [201, 202, 203, 204, 205, 206, 207]),
        ("ivdjax", [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_seven_discs_by_hand(name: str, first_seven: list[int]) -> None:
    assert values(to_scheme(label_map(1, 2, 3, 4, 5, 6, 7), SCHEMES[name], "x")) == first_seven
    assert values(from_scheme(label_map(*first_seven), SCHEMES[name], "x")) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", SCHEMES)
def test_round_trip_of_every_level(name: str) -> None:
    labels, remarks = label_map(*LEVELS), []
    there = to_scheme(labels, SCHEMES[name], "x")
    assert there.array.dtype == np.uint8 and there.affine is labels.affine
    back = from_scheme(there, SCHEMES[name], "x", remarks.append)
    assert np.array_equal(back.array, labels.array) and remarks == []


@pytest.mark.parametrize("name", SCHEMES)
def test_no_number_has_two_meanings(name: str) -> None:
    scheme = SCHEMES[name]
    sets = [set(scheme.values), set(scheme.others), set(scheme.beyond)]
    assert len(scheme.values) == len(LEVELS) == 23
    assert sum(map(len, sets)) == len(set.union(*sets)) and 0 not in set.union(*sets) and max(set.union(*sets)) < 256


@pytest.mark.parametrize(
    ("name", "discs", "structures"),
    [
        ("totalspineseg", (100, 95), (1, 2, 45, 44, 50)),
        ("spineps", (124, 123), (24, 23, 26, 224, 223)),
        ("spider", (201, 202), (1, 2, 100, 103, 3)),
    ],
)
def test_other_structures_are_dropped_and_counted(name: str, discs: tuple, structures: tuple) -> None:
    remarks: list[str] = []
    found = from_scheme(label_map(*discs, *structures), SCHEMES[name], "x", remarks.append)
    assert values(found) == [1, 2, 0, 0, 0, 0, 0]
    assert len(remarks) == 1 and "case x: dropped 5 structures" in remarks[0] and "5 voxels" in remarks[0]


def test_a_map_without_discs_is_remarked() -> None:
    remarks: list[str] = []
    assert from_scheme(label_map(), SCHEMES["spider"], "x", remarks.append).levels == ()
    assert remarks == ["case x: no disc in it"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("totalspineseg", 96, "disc L5/L6"),
        ("totalspineseg", 46, "vertebra L6"),
        ("spineps", 125, "disc L6/S1"),
        ("spineps", 28, "vertebra T13"),
        ("spider", 224, "a 24th disc"),
    ],
)
def test_a_transitional_vertebra_is_refused(name: str, value: int, words: str) -> None:
    with pytest.raises(CaseError, match=f"case x: {value} is {words} in .* number these discs by hand"):
        from_scheme(label_map(SCHEMES[name].values[0], value), SCHEMES[name], "x")


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("totalspineseg", 202, "the first versions' numbers"),
        ("spineps", 100, "not the mask of subregions"),
        ("spider", 63, "201 and above"),
    ],
)
def test_a_map_of_another_kind_is_refused(name: str, value: int, hint: str) -> None:
    with pytest.raises(CaseError, match=f"case x: .* has no value {value}; .*{hint}"):
        from_scheme(label_map(value), SCHEMES[name], "x")


@pytest.mark.parametrize("name", OTHERS)
def test_other_tools_maps_are_no_levels(name: str) -> None:
    with pytest.raises(CaseError, match="case x: ivdjax has no value"):
        from_scheme(label_map(SCHEMES[name].values[0]), SCHEMES["ivdjax"], "x")


@pytest.mark.parametrize("name", SCHEMES)
def test_levels_beyond_the_spine_are_refused_by_name(name: str) -> None:
    with pytest.raises(CaseError, match=r"case x: .* has no number for level 24 \(24\)"):
        to_scheme(label_map(1, 24), SCHEMES[name], "x")


def test_schemes_are_found_by_name() -> None:
    assert find_scheme("spineps") is SCHEMES["spineps"]
    with pytest.raises(UserError, match="'spinseg'; did you mean"):
        find_scheme("spinseg")
    with pytest.raises(UserError, match="'?'; known are ivdjax, totalspineseg, spineps, spider"):
        find_scheme("?")


def test_a_map_whose_only_value_is_1_is_told_as_one_that_may_be_binary() -> None:
    for name, value, told in (("ivdjax", 1, True), ("ivdjax", 2, False), ("spider", 201, False)):
        remarks: list[str] = []
        from_scheme(label_map(value), SCHEMES[name], "x", remarks.append)
        assert [("binary mask" in remark) for remark in remarks] == [True] * told
