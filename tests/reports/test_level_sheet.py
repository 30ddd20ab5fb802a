"""A column a level: what stands in which cell, why one is empty, and the same as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

import pytest

from ivdjax.reports.level_sheet import level_sheet, level_text
from ivdjax.volume import READERS, Disc, Lordosis

SHARES = (0.01, 0.04, 0.35, 0.52, 0.08)
GRADED = {"pfirrmann_grade": 4, "pfirrmann_expected": 3.62}
GRADED |= {f"pfirrmann_probability_{grade}": share for grade, share in enumerate(SHARES, 1)}


def disc(level, **measures):
    return Disc(level, 0.98, (0.0, 0.0, 0.0), None, {"middle_height_mm": 7.46, "disc_height_index": 0.214} | measures)


DISCS = [
    disc(1, **GRADED),
    disc(2, middle_height_mm=None, slip_mm=-0.04),
    replace(disc(6), missing={"pfirrmann_grade": "it is unsure", "slip_mm": "no body"}),
]


def cells(html, heading):
    row = re.search(rf'<tr><th scope="row">{heading}.*?</tr>', html, re.DOTALL)[0]
    return [re.sub("<[^>]*>", "|", cell).strip("|") for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]


def test_a_column_a_level_from_the_top_down_with_a_reason_in_every_empty_cell():
    html = level_sheet(DISCS)
    assert re.findall(r"</span>([TL][\d/LS]+)</th>", html) == ["T12/L1", "L1/2", "L2/3", "L3/4", "L4/5", "L5/S1"]
    height = cells(html, "Height")
    assert len(height) == 6 and height[0] == height[5] == "7.5 mm||index 0.21"
    assert height[1:4] == ["disc not found"] * 3
    assert height[4] == "the mid-sagittal part is cut, or may be out of view"
    assert cells(html, "Slip")[4] == "0.0 mm"  # no minus before a zero
    (canal,) = cells(html, "Canal")  # one reason holds for all
    assert canal


def test_a_grade_comes_with_its_probabilities_and_what_readers_reach():
    html, text = level_sheet(DISCS), level_text(DISCS)
    grade = cells(html, "Pfirrmann estimate")[5]
    assert grade.startswith("4||mean 3.6")
    assert re.findall(r"width:([\d.]+)%", html) == ["1.0", "4.0", "35.0", "52.0", "8.0"]
    assert READERS in html and READERS in text
    assert "Pfirrmann estimate 4 (mean 3.6; grade 1 1 %, grade 2 4 %, grade 3 35 %, grade 4 52 %, grade 5 8 %)" in text
    for said in (level_sheet(DISCS[1:]), level_text(DISCS[1:])):
        assert "kappa" not in said


def test_the_text_has_a_line_a_level_and_no_number_without_its_unit():
    lines = level_text(DISCS).splitlines()
    assert [line.split(":")[0] for line in lines[:6]] == ["T12/L1", "L1/2", "L2/3", "L3/4", "L4/5", "L5/S1"]
    assert lines[1] == "L1/2: disc not found."
    blank = "Pfirrmann estimate not given (it is unsure); slip not given (no body)."
    assert lines[0] == f"T12/L1: height 7.5 mm (index 0.21); {blank}"
    assert sum("Nucleus to CSF: not given (" in line for line in lines) == 1  # for all levels
    assert lines[4].startswith("L4/5: height not given (the mid-sagittal part is cut, or may be out of view); ")
    assert "not a medical device" in lines[-1]


@pytest.mark.parametrize("discs", [[], [disc(9)]])
def test_without_a_lumbar_disc_nothing_is_made_up(discs):
    html = level_sheet(discs)
    assert (not html) == (not discs)
    assert "mm" not in "".join(cells(html, "Height")) if discs else level_text([]) == "No disc was found.\n"


def test_lordosis_has_its_standard_error_or_its_reason():
    angles = {"lordosis_l1_l5_deg": 34.6, "lordosis_l1_l5_deg_se": 3.08, "lordosis_l1_s1_deg": None}
    lordosis = Lordosis(angles, {"lordosis_l1_s1_deg": "S1 is <unsure>"})
    text = "L1 to L5 35° (standard error 3.1°); L1 to S1 not given (S1 is <unsure>)"
    assert f"Lordosis: {text}.\n" in level_text(DISCS, lordosis)
    html = level_sheet(DISCS, lordosis)
    (cell,) = cells(html, "Lordosis")
    assert re.sub(r"\|", "", cell) == text.replace("<", "&lt;").replace(">", "&gt;")
    assert f'<pre id="levels-text">{escape(level_text(DISCS, lordosis))}</pre>' in html
    assert "Lordosis: L1 to L5 not given (no vertebrae are outlined); L1 to S1 not given" in level_text(DISCS)


def test_the_text_says_that_a_person_has_corrected_the_result():
    assert "a person's correction" in level_text(DISCS, corrected=True)
    assert "a person's correction" not in level_text(DISCS)


def test_a_canal_that_a_slab_cuts_says_why_it_has_no_area():
    cut = replace(disc(3, canal_ap_mm=12.04), missing={"canal_area_mm2": "the field of view cuts the canal"})
    discs = [cut, disc(4, canal_ap_mm=11.0, canal_area_mm2=140.2)]
    canal = cells(level_sheet(discs), "Canal")
    assert canal[2] == "11.0 mm||140 mm²" and canal[3] == "12.0 mm||no area: the field of view cuts the canal"
    text = level_text(discs)
    assert "canal 12.0 mm (no area: the field of view cuts the canal)." in text and "canal 11.0 mm (140 mm²)." in text


def test_page_and_text_say_that_a_person_corrected():
    for said in (level_sheet(DISCS, corrected=True), level_text(DISCS, corrected=True)):
        assert said.count("after a person") == (2 if "<section" in said else 1)
    assert "after a person" not in level_sheet(DISCS)
