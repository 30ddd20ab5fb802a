from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.config import InferenceConfig
from ivdjax.discs.numbering import Anchor, looked_candidates, number_discs
from ivdjax.discs.verdict import Judgement
from ivdjax.volume import LabelMap
from tests.discs.conftest import SpineBuilder

SETTINGS = InferenceConfig(registration=False)


def truth(numbering, spine, rows=slice(None)):
    """True name of the body under each level that was given."""
    found = {}
    for level in np.unique(numbering.levels[numbering.levels > 0]):
        inside = numbering.levels == level
        found[int(level)] = max(spine.bodies, key=lambda name: int((spine.bodies[name].mask[:, rows] & inside).sum()))
    return found


def number(spine, settings=SETTINGS, rows=slice(None), **others):
    numbering = number_discs(spine.evidence(rows=rows, **others), settings)
    return numbering, truth(numbering, spine, rows), " | ".join((*numbering.reasons, *numbering.remarks))


RIGHT = {level: level for level in range(1, 8)}


def test_ordinary_spine_is_right_and_ok_and_thoracic_discs_are_dropped(spine):
    numbering, found, _ = number(spine)
    assert found == RIGHT and numbering.verdict == "ok" and numbering.reasons == numbering.findings == ()
    assert numbering.probability_wrong < 0.1
    assert min(numbering.confidence.values()) > 0.99 and set(numbering.confidence) == set(RIGHT)
    for level in RIGHT:
        assert np.array_equal(numbering.levels == level, spine.bodies[level].mask)


def test_geometry_alone_is_right_and_less_sure(spine):
    with_network, _, _ = number(spine)
    numbering, found, _ = number(spine, vnet=False)
    assert found == RIGHT and numbering.verdict == "ok"
    assert min(numbering.confidence.values()) < min(with_network.confidence.values())
    ignored, _, _ = number(spine, replace(SETTINGS, localization=False))
    assert ignored.confidence == numbering.confidence


@pytest.mark.parametrize("vnet", [True, False])
def test_missed_disc_leaves_a_gap(spine, vnet):
    numbering, found, said = number(spine.without(3), vnet=vnet)
    assert found == {level: level for level in RIGHT if level != 3}
    assert numbering.verdict == "review" and "L3/4 not found between others" in said


def test_missed_l5_s1_is_said(spine):
    numbering, found, said = number(spine.without(1))
    assert found == {level: level for level in RIGHT if level != 1}
    assert numbering.verdict == "review" and "L5/S1 not found below L4/5" in said


def test_missed_l5_s1_without_the_network_is_for_review(spine):
    numbering, _, _ = number(spine.without(1), vnet=False)
    assert numbering.verdict == "review"


def test_fused_discs_are_split(spine, shapes):
    bridge = shapes.ellipsoid((0, 12, (shapes.height_of(3) + shapes.height_of(4)) / 2), (12, 8, 42))
    numbering, found, _ = number(spine.with_body("bridge", bridge))
    assert found == RIGHT and numbering.verdict == "ok"
    assert not ((numbering.levels == 0) & spine.mask() & ~spine.bodies[8].mask).any()
    _, found, said = number(spine, vnet=False)
    assert found == RIGHT and "cut out of a larger structure" in said


def test_disc_in_two_pieces_is_joined(spine, shapes):
    whole = spine.bodies[3].mask
    gap = shapes.ellipsoid((0, 0, shapes.height_of(3)), (500, 5, 500))
    numbering, found, _ = number(spine.without(3).with_body(3, whole & ~gap, seen=3))
    assert found == RIGHT and numbering.verdict == "ok"
    assert np.array_equal(numbering.levels == 3, spine.bodies[3].mask)
    _, found, said = number(spine, vnet=False)
    assert found == RIGHT and "L3/4 was put together from pieces" in said


def remnant(spine, shapes, size=0.8, seen=0):
    return spine.with_body("S1/S2", shapes.disc(0, size), seen)


def test_remnant_that_the_network_calls_background_is_left_out_without_a_word(spine, shapes):
    numbering, found, _ = number(remnant(spine, shapes))
    assert found == RIGHT and numbering.verdict == "ok"


def test_remnant_without_the_network_is_left_out_and_said(spine, shapes):
    _, found, said = number(remnant(spine, shapes), vnet=False)
    assert found == RIGHT and "A smaller structure below the lowest disc was left out" in said


def test_remnant_that_misleads_the_network_is_outvoted_and_said(spine, shapes):
    shifted = {level: level + 1 for level in range(1, 7)} | {7: 0}
    _, found, said = number(remnant(spine, shapes, seen=1).seen_as(shifted))
    assert found == RIGHT and "The localization network takes L5/S1 for L4/5" in said
    assert "A smaller structure below the lowest disc was left out" in said


def test_remnant_as_large_as_a_disc_is_a_finding(spine, shapes):
    numbering, found, _ = number(remnant(spine, shapes, size=1.4))
    assert found == RIGHT and "transitional vertebra" in numbering.findings[0]


@pytest.mark.parametrize("shift", [1, -1])
def test_network_wrong_over_a_stretch_is_outvoted(spine, shift):
    numbering, found, _ = number(spine.seen_as({level: min(level + shift, 7) for level in range(4, 8)}))
    assert found == RIGHT and numbering.verdict == "ok"  # all else is typical, and it agrees on L5/S1


@pytest.mark.parametrize("shift", [1, -1])
def test_network_wrong_over_the_whole_spine_is_outvoted_and_said(spine, shift):
    numbering, found, said = number(spine.seen_as({level: min(level + shift, 7) for level in range(1, 8)}))
    assert found == RIGHT and numbering.probability_wrong > number(SpineBuilder())[0].probability_wrong
    assert "The localization network takes L5/S1 for" in said or "takes L4/5 for" in said


def test_lower_border_through_the_spine_is_for_review(spine, shapes):
    row = int((373.5 - shapes.height_of(1) - 20) / 1.5)
    numbering, found, _ = number(spine, rows=slice(0, row))
    assert found == {level: level for level in range(2, 8)}
    assert numbering.verdict == "review" and "without the sacrum in view" in numbering.reasons[0]


def test_upper_border_names_the_missing_levels(spine, shapes):
    row = int((373.5 - shapes.height_of(6) + 18) / 1.5)
    _, found, said = number(spine, rows=slice(row, 250))
    assert found == {level: level for level in range(1, 6)}
    assert "T12/L1 and T11/12 not found above L1/2, where the image ends" in said


@pytest.mark.parametrize("vnet", [True, False])
@pytest.mark.parametrize("place", [(0, -34), (12, 36)])
def test_blob_beside_the_spine_is_dropped(spine, shapes, place, vnet):
    height = (shapes.height_of(2) + shapes.height_of(3)) / 2
    numbering, found, _ = number(spine.with_body("blob", shapes.ellipsoid((*place, height), (14, 12, 14))), vnet=vnet)
    assert found == RIGHT and numbering.verdict == "ok"


def test_no_disc_is_for_review(spine):
    numbering, found, _ = number(spine.without(*range(1, 9)))
    assert found == {} and numbering.confidence == {}
    assert numbering.verdict == "review" and numbering.reasons == ("No disc was found",)


@pytest.mark.parametrize("way", ["solver", "line", "bottom"])
def test_anchor_shifts_all(spine, shapes, way):
    anchor = Anchor(3, (2.0, 5.0, shapes.height_of(2)))
    numbering, found, said = number(spine, replace(SETTINGS, numbering=way, discs=8), anchor=anchor, vnet=False)
    assert found == {level + 1: level for level in (range(1, 8))}
    assert numbering.confidence[3] == pytest.approx(1.0) and "L5/S1 not found" in said


def test_anchor_settles_a_network_that_is_one_off(spine, shapes):
    spine.seen_as({level: level - 1 for level in range(1, 8)})
    anchor = Anchor(1, (0.0, 0.0, shapes.height_of(1)))
    numbering, found, _ = number(spine, anchor=anchor)
    assert found == RIGHT and numbering.verdict == "ok"


def test_anchor_takes_the_nearest_disc_within_15_mm(spine, shapes):
    anchor = Anchor(1, (0.0, 0.0, shapes.height_of(1) + 14))
    assert number(spine, anchor=anchor)[1] == RIGHT


@pytest.mark.parametrize("way", ["solver", "line", "bottom"])
def test_anchor_in_no_disc_is_refused(spine, way):
    settings = replace(SETTINGS, numbering=way)
    with pytest.raises(ValueError, match=r"anchor of L4/5 at \(0, 0, 10.5\) mm must lie .* nearest is 51 mm away"):
        number_discs(spine.evidence(anchor=Anchor(2, (0.0, 0.0, 10.5))), settings)
    with pytest.raises(ValueError, match="no disc was found"):
        number_discs(spine.without(*range(1, 9)).evidence(anchor=Anchor(2, (0.0, 0.0, 10.5))), settings)


def test_anchor_beyond_the_levels_is_refused(spine, shapes):
    with pytest.raises(ValueError, match="can be told apart, and 16"):
        number_discs(spine.evidence(anchor=Anchor(16, (0.0, 0.0, shapes.height_of(2)))), SETTINGS)


@pytest.mark.parametrize("discs", [0, 256])
def test_number_of_discs_out_of_range_is_refused(spine, discs):
    with pytest.raises(ValueError, match="1 to 255"):
        number_discs(spine.evidence(), replace(SETTINGS, discs=discs))


def test_fewer_discs_are_kept_when_fewer_are_wanted(spine):
    numbering, found, _ = number(spine, replace(SETTINGS, discs=5))
    assert found == {level: level for level in range(1, 6)} and numbering.verdict == "ok"


def test_counting_from_the_bottom_is_wrong_after_a_missed_l5_s1_and_the_judge_says_so(spine):
    numbering, found, said = number(spine.without(1), replace(SETTINGS, numbering="bottom"))
    assert found == {level: level + 1 for level in RIGHT}
    assert numbering.verdict == "review" and "T11/12 may be T10/11" in said and max(numbering.confidence.values()) < 0.1


@pytest.mark.parametrize("way", ["line", "bottom"])
def test_counting_is_right_and_ok_on_an_ordinary_spine(spine, way):
    numbering, found, _ = number(spine.without(8), replace(SETTINGS, numbering=way))
    assert found == RIGHT and numbering.verdict == "ok"


def test_line_keeps_what_it_crosses_and_bottom_keeps_all(spine, shapes):
    height = (shapes.height_of(2) + shapes.height_of(3)) / 2
    spine.with_body("blob", shapes.ellipsoid((0, 34, height), (14, 12, 14)), seen=3)
    _, found, _ = number(spine, replace(SETTINGS, numbering="line"))
    assert found == RIGHT
    numbering, found, _ = number(spine, replace(SETTINGS, numbering="bottom"))
    assert found[3] == "blob" and found[4] == 3 and numbering.verdict == "review"


def test_line_intersects_both_networks_only_if_the_network_has_a_say(spine, shapes):
    spine = remnant(spine, shapes)
    settings = replace(SETTINGS, numbering="line")
    assert number(spine, settings)[1] == RIGHT  # where it sees background there is no disc
    alone = number(spine, replace(settings, localization=False))[1]
    assert alone[1] == "S1/S2" and alone[2] == 1


@pytest.mark.parametrize("way", ["solver", "line"])
def test_registered_reference_leads_the_line(spine, shapes, way):
    levels = np.zeros(spine.grid.shape, np.uint8)
    for level in RIGHT:
        levels[spine.bodies[level].mask] = level
    moved = spine.grid.affine.copy()
    moved[:3, 3] += (5.0, -8.0, 12.0)
    height = (shapes.height_of(2) + shapes.height_of(3)) / 2
    spine.with_body("blob", shapes.ellipsoid((0, 34, height), (14, 12, 14)), seen=3)
    settings = InferenceConfig(numbering=way)
    assert number(spine, settings, reference=LabelMap(levels, moved))[1] == RIGHT


def test_region_is_used_only_if_wanted(spine, shapes):
    region = np.ones(spine.grid.shape, bool)
    region[spine.bodies[4].mask] = False
    assert 4 not in number(spine, region=region)[1]
    assert number(spine, replace(SETTINGS, region=False), region=region)[1] == RIGHT


def test_threshold_and_smallest_volume_decide_what_counts(spine):
    assert number(spine, replace(SETTINGS, threshold=0.96))[1] == {}
    assert number(spine, replace(SETTINGS, min_disc_mm3=1e5))[1] == {}


def test_the_threshold_decides_which_chance_of_an_error_is_for_review(spine):
    numbering, _, _ = number(spine, replace(SETTINGS, review_above=0.0))
    assert numbering.verdict == "review" and len(numbering.reasons) == 1
    assert number(spine.without(*range(2, 9)), replace(SETTINGS, review_above=1.0))[0].verdict == "ok"


def test_a_models_own_judgement_calibrates_confidence_and_decides(spine):
    own = Judgement(0.5, 0.0, 3.0, {})
    plain, numbering = (number_discs(spine.evidence(vnet=False), SETTINGS, judgement) for judgement in (None, own))
    assert numbering.verdict == "review" and numbering.probability_wrong == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert numbering.confidence == pytest.approx({level: own.confidence(p) for level, p in plain.confidence.items()})


def test_what_the_solver_looks_at_has_its_surroundings_and_lies_on_the_line(spine):
    candidates, line, off_mm = looked_candidates(spine.evidence(), SETTINGS)
    assert len(candidates) == len(spine.bodies) and off_mm == 0.0
    assert all(candidate.around is not None for candidate in candidates)
    assert line is not None and line.distance_mm(np.array([c.centroid_mm for c in candidates])).max() < 15
    assert looked_candidates(spine.evidence(), replace(SETTINGS, threshold=0.999)) == ([], None, 0.0)
