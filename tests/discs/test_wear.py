from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from ivdjax.discs.degeneration import UNSURE_FACE
from ivdjax.discs.measures import measure_discs
from ivdjax.discs.standard_error import standard_errors
from ivdjax.discs.wear import t2_image, with_wear
from ivdjax.inference.cohort_table import disc_lines
from ivdjax.reports.columns import disc_schema
from ivdjax.reports.tables import disc_csv, disc_json
from ivdjax.volume import LORDOSIS, Case, Volume
from tests.discs.test_degeneration import GAP, HEIGHT, OVERHANGS, draw_levels, grid_of, spine

FACTS = {
    "repeatability": {"slip_mm": {"within_sd": 0.4}, "canal_ap_mm": {"within_sd": 0.5}, "made_of": "phantoms"},
    "agreement": {"slip_mm": {"sd": 1.25, "bias": 0.1}},
}


@pytest.fixture(scope="module")
def drawn():
    labels, tissues, image = draw_levels(spine(), OVERHANGS, grid_of("usual"))
    return measure_discs(labels, None, {}), labels, tissues, image


@pytest.fixture(scope="module")
def told(drawn):
    return with_wear(*drawn, FACTS)


def test_a_discs_row_has_its_levels_measures_each_with_its_error(told):
    discs, _ = told
    row = discs[1].measures
    assert row["slip_mm_se"] == 1.25 and row["canal_ap_mm_se"] == 0.5
    mean = np.mean([row[f"{place}_height_mm"] for place in ("anterior", "middle", "posterior")])
    assert row["disc_body_height_index"] == pytest.approx(mean / HEIGHT, rel=0.02) and mean > GAP / 2
    head = disc_csv(discs).splitlines()[0].split(",")
    assert head[head.index("slip_mm") + 1] == "slip_mm_se"
    assert "slip_mm_se" not in discs[0].measures and "sacrum" in discs[0].missing["slip_mm"]


def test_the_table_follows_the_schema_and_says_why_a_cell_is_empty(told):
    discs, lordosis = told
    assert lordosis.measures["lordosis_l1_l5_deg"] is None and "T12/L1" in lordosis.why("lordosis_l1_l5_deg")
    blanks = {str(disc.level): disc.missing for disc in discs}
    document = json.loads(disc_json("a", "ok", (), discs, not_measured=blanks, spine=lordosis.document))
    jsonschema.Draft202012Validator(disc_schema()).validate(document)
    first = disc_lines(document, "a", 1)[0]
    assert "the sacrum is not outlined: posterior_overhang_mm slip_mm slip_percent" in first["not_measured"]


def test_a_doubtful_outline_of_the_lowest_disc_tells_nothing_of_the_sacrum(drawn):
    discs, *others = drawn
    found = [with_wear([replace(discs[0], outline_confidence=sure), *discs[1:]], *others, FACTS)[0][0]
             for sure in (0.95, 0.3)]  # fmt: skip
    assert found[1].missing["slip_mm"] == UNSURE_FACE != found[0].missing["slip_mm"]


def test_an_angle_of_the_spine_has_its_error_only_where_it_was_measured(drawn):
    facts = {"agreement": {name: {"sd": 2.5} for name in LORDOSIS}}
    measured = with_wear(*drawn, facts)[1].measures
    known = [name for name in LORDOSIS if measured[name] is not None]
    assert {name for name in measured if name.endswith("_se")} == {f"{name}_se" for name in known}


def test_an_image_counts_as_t2_only_where_something_tells_it():
    volume = Volume(np.ones((1, 2, 2, 2)), np.eye(4), ("t2",))
    case = Case("a", "a", volume)
    assert t2_image(case) is None and t2_image(case, "t1") is None
    assert t2_image(case, "t2") is not None
    known = Case("a", "a", volume, weightings={"t2": "t2"})
    assert t2_image(known, "stir") is None
    np.testing.assert_array_equal(t2_image(known), volume.array[0])
    for other in ("t1", "t2_fs"):  # where fat is suppressed, marrow is dark
        assert t2_image(Case("a", "a", volume, weightings={"t2": other})) is None


def test_errors_come_from_the_best_figures_that_there_are():
    measuring = standard_errors({})
    assert {"slip_mm", "canal_ap_mm", "posterior_overhang_mm", "nucleus_over_csf"} <= set(measuring)
    assert all(0 < value < 20 for value in measuring.values())
    own = standard_errors(FACTS)
    assert own["slip_mm"] == 1.25 and own["canal_ap_mm"] == 0.5
    assert own.get("body_depth_mm") == measuring.get("body_depth_mm")
    assert standard_errors({"agreement": "none", "repeatability": {"slip_mm": {"within_sd": None}}}) == measuring
