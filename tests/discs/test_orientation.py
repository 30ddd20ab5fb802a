"""Spines seen the other way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.config import InferenceConfig
from ivdjax.discs.numbering import number_discs
from ivdjax.discs.orientation import WAYS, slope_off_deg, turned_gain
from ivdjax.discs.signs import LIKELIER
from tests.discs.test_levels import typical


def turned(candidates, way):
    """What a file with a wrong header makes of candidates, by hand."""
    found = []
    for c in candidates:
        x, y, z = c.centroid_mm
        if way == "upside down":
            c = replace(c, centroid_mm=np.array([x, y, -z]), tilt_deg=-c.tilt_deg, below_mm=c.above_mm,
                        above_mm=c.below_mm)  # fmt: skip
        elif way == "back to front":
            c = replace(c, centroid_mm=np.array([x, -y, z]), tilt_deg=-c.tilt_deg)
        else:
            c = replace(c, centroid_mm=np.array([x, -y, -z]), below_mm=c.above_mm, above_mm=c.below_mm)
        found.append(c)
    return sorted(found, key=lambda c: float(c.centroid_mm[2]))


@pytest.mark.parametrize("levels", [range(1, 8), range(1, 10), range(0, 9), range(3, 8)])
def test_a_typical_spine_is_worse_any_other_way_round(levels):
    gain = turned_gain([typical(level) for level in levels])
    assert set(gain) == set(WAYS) and max(gain.values()) < -4


@pytest.mark.parametrize("levels", [range(1, 4), range(2, 5), range(5, 8), range(1, 5), range(7, 11)])
def test_few_discs_and_thoracic_ones_speak_for_no_other_way(levels):
    assert max(turned_gain([typical(level) for level in levels]).values()) <= 0.1


def test_discs_above_the_lumbar_spine_alone_say_next_to_nothing():
    """They slope little, and the same back to front; what is told begins at `LIKELIER`."""
    assert max(turned_gain([typical(level) for level in range(8, 13)]).values()) <= 0.3 < LIKELIER


def test_where_the_image_ends_has_no_say():
    spine = [typical(level) for level in range(1, 8)]
    tall = [replace(c, below_mm=c.below_mm + 300, above_mm=c.above_mm - 100) for c in spine]
    assert turned_gain(tall) == pytest.approx(turned_gain(spine))


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_header_is_told_by_its_way_and_undone_exactly(way):
    spine = [typical(level) for level in range(1, 9)]
    gain = turned_gain(turned(spine, way))
    assert max(gain, key=gain.get) == way and gain[way] > 4
    assert gain[way] == pytest.approx(-turned_gain(spine)[way])


def test_the_localization_network_has_no_say():
    spine = [typical(level) for level in range(1, 8)]
    votes = np.eye(8)[3]
    assert turned_gain([replace(c, votes=votes) for c in spine]) == pytest.approx(turned_gain(spine))


def test_no_candidate_gives_no_gain():
    assert set(turned_gain([]).values()) == {0.0}


def test_a_spine_upside_down_is_sent_to_review_even_where_the_networks_agree_on_it(spine):
    evidence = spine.evidence()
    assert not [r for r in number_discs(evidence, InferenceConfig()).reasons if "may be stored" in r]
    probability, levels = (np.flip(x, axis) for x, axis in ((evidence.probability, 1), (evidence.level_probability, 2)))
    over = replace(evidence, probability=probability.copy(), level_probability=levels[[0, *range(7, 0, -1)]].copy())
    numbering = number_discs(over, InferenceConfig())
    assert numbering.verdict == "review"
    assert numbering.reasons[0].startswith("The image may be stored upside down: ")


def test_discs_across_the_course_of_the_spine_are_not_off_and_those_of_another_course_are():
    straight = [replace(typical(level), centroid_mm=np.array([0.0, 0.0, 35.0 * level])) for level in range(1, 8)]
    assert slope_off_deg([replace(c, tilt_deg=0.0) for c in straight]) == pytest.approx(0.0, abs=1e-6)
    assert slope_off_deg([replace(c, tilt_deg=20.0) for c in straight]) == pytest.approx(20.0)
    # A course that runs forward by 10 mm in 35 is crossed by discs that slope down at the front.
    forward = [
        replace(c, centroid_mm=c.centroid_mm + np.array([0, 10.0 * level, 0])) for level, c in enumerate(straight)
    ]
    across = float(np.degrees(np.arctan2(10, 35)))
    assert slope_off_deg([replace(c, tilt_deg=-across) for c in forward]) == pytest.approx(0.0, abs=0.1)
    assert slope_off_deg([replace(c, tilt_deg=across) for c in forward]) == pytest.approx(2 * across, abs=0.1)
    assert slope_off_deg([]) == 0.0


@pytest.mark.parametrize("way", WAYS)
def test_a_turned_spine_still_lies_across_its_course(way):
    spine = [typical(level) for level in range(1, 9)]
    assert slope_off_deg(turned(spine, way)) == pytest.approx(slope_off_deg(spine), abs=0.1)


def test_a_speck_has_no_say_in_slopes():
    spine = [typical(level) for level in range(1, 8)]
    speck = replace(spine[3], volume_mm3=0.1 * spine[3].volume_mm3, tilt_deg=80.0)
    assert slope_off_deg([*spine, speck]) == pytest.approx(slope_off_deg(spine))
