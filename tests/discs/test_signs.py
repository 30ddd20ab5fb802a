from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs import anatomy as a
from ivdjax.discs.levels import Chain
from ivdjax.discs.signs import SIGNS, Answer, Sign, doubt, left_out_below, signs_of, transitional
from ivdjax.discs.surroundings import Surroundings
from tests.discs.test_levels import typical, votes


def candidate(level, **changes):
    """The disc of a level as the table and the networks have it."""
    return typical(level, **({"votes": votes(level)} | changes))


def posterior(levels, sure=1.0, others=None):
    """Rows with `sure` at each level, the rest at the level above (or at `others[index]`)."""
    rows = np.zeros((len(levels), len(a.LEVELS) + 1))
    for index, level in enumerate(levels):
        column = -1 if level is None else level - a.LOWEST
        rows[index, column] = sure
        rows[index, (others or {}).get(index, 2 - a.LOWEST if level is None else level + 1 - a.LOWEST)] += 1 - sure
    return Chain(tuple(levels), rows)


def answer(candidates, levels, sure=1.0, geometry=1.0, **changes):
    plain = Answer(
        candidates, levels, posterior(levels, sure), posterior(levels, geometry), [0.0] * len(levels), 0.0, False, 7
    )
    return replace(plain, **changes)


def ordinary(levels=range(1, 8), changed=None, **options):
    """A typical spine of those levels, some candidates changed."""
    levels = list(levels)
    discs = [candidate(level, **(changed or {}).get(level, {})) for level in levels]
    return answer(discs, levels, **options)


def sign(name, judged) -> Sign:
    return signs_of(judged)[name]


def test_an_ordinary_spine_says_nothing():
    for levels in (range(1, 8), range(1, 10)):
        signs = signs_of(ordinary(levels))
        assert set(signs) == set(SIGNS) and not any(sign.sentence or sign.least for sign in signs.values())
        assert max(sign.value for sign in signs.values()) < 0.25


def test_nothing_found_is_certainly_for_review():
    for judged in (answer([], []), answer([candidate(0)], [0])):
        assert signs_of(judged) == {"nothing": Sign(1.0, "No disc was found", 1.0)}
    assert transitional(answer([], [])) == ""


def test_doubt_is_nothing_at_certainty_one_at_a_half_and_rises_all_the_way():
    assert doubt(0.999) == pytest.approx(0, abs=1e-6) and doubt(0.5) == pytest.approx(1) and doubt(0.0) == 2
    assert doubt(0.9) < doubt(0.8) < doubt(0.3)


def test_confidence_is_the_posterior_of_the_level_given():
    judged = ordinary(sure=0.95)
    assert judged.confidence == pytest.approx(dict.fromkeys(range(1, 8), 0.95))
    assert list(judged.places) == [*range(1, 8)]


def test_the_least_confidence_says_what_else_it_may_be():
    assert sign("uncertain", ordinary(sure=0.7)) == Sign(doubt(0.7), "L5/S1 may be L4/5", certainty=0.7)
    levels = list(range(1, 8))
    for column, words in ((-1, "no disc"), (0 - a.LOWEST, "a remnant of S1/S2"), (0, "a remnant of S2/3")):
        judged = replace(ordinary(), chain=posterior(levels, 0.7, dict.fromkeys(range(7), column)))
        assert sign("uncertain", judged).sentence == f"L5/S1 may be {words}"
    beyond = replace(ordinary(sure=0.9, discs=20), levels=[*range(1, 7), 17])
    assert sign("uncertain", beyond).sentence == "level 17 may be T11/12"


def test_geometry_that_contradicts_the_network():
    assert sign("geometry", ordinary(geometry=0.3)) == Sign(doubt(0.3), "The shape of the spine alone speaks for other "
                                                           "levels")  # fmt: skip
    assert sign("geometry", ordinary(geometry=0.3, anchored=True)).value == 0


def test_networks_that_disagree():
    one = sign("disagreement", ordinary(changed={3: {"votes": votes(4)}}))
    assert one == Sign(pytest.approx(1 / 7), "The localization network takes L3/4 for L2/3")
    two = sign("disagreement", ordinary(changed={3: {"votes": votes(4)}, 5: {"votes": votes(6)}}))
    assert two.value == pytest.approx(2 / 7) and two.sentence.endswith("takes L3/4 for L2/3 and 1 more otherwise")
    divided = np.array([0.1, 0, 0, 0.4, 0.5, 0, 0, 0])
    assert sign("disagreement", ordinary(changed={3: {"votes": divided}})).value == 0
    shifted = {level: {"votes": votes(level - 1)} for level in range(2, 8)} | {1: {"votes": votes(0)}}
    assert sign("disagreement", ordinary(changed=shifted, anchored=True)).value == 0
    assert sign("disagreement", ordinary(changed=shifted)).value > 0.8


def test_a_lowest_disc_that_the_network_does_not_see():
    judged = ordinary(changed={1: {"votes": votes(0)}})
    assert sign("unseen", judged) == Sign(0.8, "The localization network sees no disc at L5/S1")
    assert sign("unseen", replace(judged, anchored=True)).value == 0
    assert sign("unseen", ordinary(changed={5: {"votes": votes(0)}})).value < 0.05


def test_the_lower_border_is_a_contradiction_unless_the_sacrum_is_seen():
    found = sign("border", ordinary(changed={1: {"below_mm": 4.0}}))
    assert found.value == pytest.approx(0.6) and found.least == 0.5 and "level is a guess" in found.sentence
    sacrum = Surroundings(0.5, 0.0, s1_below=0.6)
    assert sign("border", ordinary(changed={1: {"below_mm": 4.0, "around": sacrum}})) == Sign(0.0)
    assert sign("border", ordinary(changed={1: {"below_mm": 4.0}}, anchored=True)) == Sign(0.0)


def test_levels_that_are_missing_and_levels_that_are_out_of_view():
    below = sign("missing_below", ordinary(range(3, 8)))
    assert below == Sign(1.0, "L5/S1 and L4/5 not found below L3/4", 0.5)
    cut = {3: {"below_mm": 20.0}}
    unseen = sign("missing_below", ordinary(range(3, 8), changed=cut))
    assert unseen.value < 0.5 and unseen.least == 0.5 and unseen.sentence.startswith("L5/S1 is not in view: without")
    assert sign("missing_below", ordinary(range(3, 8), changed=cut, anchored=True)).least == 0
    assert sign("gaps", ordinary((1, 2, 4, 5, 7))) == Sign(2.0, "L3/4 and T12/L1 not found between others", 0.5)
    above = sign("missing_above", ordinary(range(1, 6)))
    assert above.value == pytest.approx(2.0) and above.sentence == "T12/L1 and T11/12 not found above L1/2"
    ends = sign("missing_above", ordinary(range(1, 6), changed={5: {"above_mm": 15.0}}))
    assert ends.value == 0 and ends.sentence.endswith(", where the image ends")


def test_remnants_count_by_their_size_and_by_what_the_network_makes_of_them():
    unseen, seen = (sign("remnant", ordinary(range(0, 8), changed={0: {"votes": votes(v)}})) for v in (0, 1))
    assert 0 < unseen.value < seen.value and "every level is one too low" in seen.sentence
    speck = {0: {"volume_mm3": 300.0}}
    assert sign("remnant", ordinary(range(0, 8), changed=speck)) == Sign(0.0)
    assert sign("remnant", ordinary(range(0, 8), anchored=True)) == Sign(0.0)


def test_what_was_left_out_below_has_the_name_of_what_it_was_taken_for():
    assert left_out_below(ordinary(range(-1, 8))) == [(0, "S2/3"), (1, "S1/S2")]
    assert left_out_below(ordinary()) == left_out_below(answer([], [])) == []
    near = ordinary(range(0, 8))
    unnamed = replace(near, levels=[None, *near.levels[1:]])
    assert left_out_below(unnamed) == [(0, "no disc")]
    assert left_out_below(replace(unnamed, off_mm=[40.0, *near.off_mm[1:]])) == [], "it lies beside the spine"
    assert left_out_below(ordinary(range(0, 8), changed={0: {"volume_mm3": 100.0}})) == [], "a speck"


def test_a_structure_as_large_as_a_disc_below_the_lowest_is_a_finding():
    large = {0: {"volume_mm3": 5000.0, "ap_width_mm": 33.0}}
    found = transitional(ordinary(range(0, 8), changed=large))
    assert found.startswith("Likely a transitional vertebra: a structure as large as a disc (33 mm")
    assert transitional(ordinary(range(0, 8), changed=large, anchored=True)) == ""
    assert transitional(ordinary(range(0, 8))) == transitional(ordinary()) == ""


def stray(off_mm, z=53.0, **changes):
    judged = ordinary()
    extra = candidate(
        2, **({"centroid_mm": np.array([0.0, off_mm, z]), "volume_mm3": 3000.0, "votes": votes(0)} | changes)
    )
    place = sum(c.centroid_mm[2] < z for c in judged.candidates)
    levels = [*judged.levels[:place], None, *judged.levels[place:]]
    discs = [*judged.candidates[:place], extra, *judged.candidates[place:]]
    return sign("stray", answer(discs, levels, off_mm=[off_mm * (index == place) for index in range(8)]))


def test_strays_count_if_near_large_or_seen():
    assert 0.25 < stray(8.0).value < 0.6 and "3000 mm3 beside the spine's line was left out" in stray(8.0).sentence
    assert stray(40.0) == stray(8.0, volume_mm3=500.0) == Sign(0.0)
    assert stray(40.0, votes=votes(3)).value > 0
    assert stray(8.0, z=240.0) == Sign(0.0)  # above the last disc wanted


def test_slope_of_l5_s1_in_either_direction():
    usual = a.TILT_DEG[1 - a.LOWEST]
    steep, flat = (sign("slope", ordinary(changed={1: {"tilt_deg": usual + off}})) for off in (-40, 40))
    assert steep.value == flat.value == pytest.approx(1.0)
    assert "remnant in the sacrum" in steep.sentence and "may be L4/5" in flat.sentence
    assert sign("slope", ordinary(changed={1: {"tilt_deg": usual + 40, "cut": True}})) == Sign(0.0)
    assert sign("slope", ordinary(changed={1: {"tilt_deg": usual + 12}})) == Sign(0.0)


@pytest.mark.parametrize(
    ("origin", "words"), [("split", "cut out of a larger structure"), ("joined", "put together from pieces")]
)
def test_made_up_discs_count_unless_the_network_agrees(origin, words):
    assert sign("made_up", ordinary(changed={3: {"origin": origin}})).value == 0
    found = sign("made_up", ordinary(changed={3: {"origin": origin, "votes": None}}))
    assert found == Sign(pytest.approx(1 / 7), f"L3/4 was {words}")


def test_steps_and_sizes_count_by_how_odd_they_are():
    near = sign("steps", ordinary(changed={7: {"centroid_mm": candidate(6).centroid_mm + np.array([0, 0, 16.0])}}))
    assert near.value > 0.5 and near.sentence == "T12/L1 and T11/12 lie 16 mm apart"
    small = sign("sizes", ordinary(changed={3: {"volume_mm3": 900.0}}))
    large = sign("sizes", ordinary(changed={3: {"volume_mm3": 60000.0}}))
    assert small.sentence == "L3/4 is unusually small and may be a fragment" and small.value > 0.5
    assert large.sentence == "L3/4 is unusually large and may be more than one disc"
    assert sign("sizes", ordinary(range(1, 3), changed={1: {"volume_mm3": 900.0}})) == Sign(0.0)


def test_a_spine_that_fits_better_turned_over_is_a_contradiction():
    gain = {"upside down": 5.0, "back to front": 1.0, "upside down and back to front": -2.0}
    found = sign("turned", replace(ordinary(), turned=gain))
    assert found.least == 0.9 and found.sentence.startswith("The image may be stored upside down: ")
    assert sign("turned", replace(ordinary(), turned=dict.fromkeys(gain, -15.0))) == Sign(0.0)
    assert sign("turned", replace(ordinary(), turned=dict.fromkeys(gain, -5.0))) == Sign(pytest.approx(0.5))
    assert sign("turned", replace(ordinary(range(1, 3)), turned=gain)) == Sign(0.0)  # two discs fit any way round
    # Nearly as likely is enough where the discs do not lie across the spine's course.
    nearly = replace(ordinary(), turned=dict.fromkeys(gain, -2.0))
    assert sign("turned", nearly) == Sign(pytest.approx(0.8)) == sign("turned", replace(nearly, slope_off_deg=9.0))
    assert sign("turned", replace(nearly, slope_off_deg=11.0)).sentence.startswith("The image may be stored ")
    assert sign("turned", replace(ordinary(), slope_off_deg=30.0, turned=dict.fromkeys(gain, -4.0))).sentence == ""


def test_regions_that_cut_and_lines_that_are_lost():
    assert sign("cut_by_region", ordinary(changed={2: {"at_border": 0.05}})) == Sign(
        0.25, "The spine region may have cut L4/5: compare with inference.region=false"
    )
    assert sign("cut_by_region", ordinary(changed={2: {"at_border": 0.02}})).sentence == ""
    lost = sign("lost_line", ordinary(guide_off_mm=20.0))
    assert lost.value == pytest.approx(2 / 3) and "does not lie on the discs" in lost.sentence


def apart(more_mm):
    """A spine whose two uppermost discs lie so much further apart than usual."""
    return ordinary(changed={7: {"centroid_mm": candidate(7).centroid_mm + np.array([0, 0, more_mm])}})


def test_what_is_odd_counts_in_proportion_and_up_to_a_limit():
    assert sign("steps", apart(8.0)) == Sign(pytest.approx(2 / 12)), "not yet worth a sentence"
    assert sign("steps", apart(400.0)).value == 1.5
    sizes = [sign("sizes", ordinary(changed={7: {"volume_mm3": 8000 * share}})).value for share in (1e-4, 1e4)]
    assert sizes == [1.5, 1.5]
    heights = a.HEIGHT_MM[np.arange(1, 8) - a.LOWEST]
    cut = {3: {"below_mm": float(heights[2] - heights[1]) + 4}}
    assert sign("missing_below", ordinary(range(3, 8), changed=cut)).value == pytest.approx(14 / 20)
    ends = {6: {"above_mm": float(heights[6] - heights[5]) + 4}}
    assert sign("missing_above", ordinary(range(1, 7), changed=ends)).value == pytest.approx(9 / 15)
    whole = {0: {"volume_mm3": 20000.0, "votes": None}}
    assert sign("remnant", ordinary(range(0, 8), changed=whole)).value == 1.0


def test_a_sacrum_of_which_nothing_is_known_is_not_in_view():
    unknown = {1: {"below_mm": 4.0, "around": Surroundings(0.5, 0.0)}}
    assert sign("border", ordinary(changed=unknown)).value == pytest.approx(0.6)


def test_a_level_beyond_the_networks_own_has_no_votes():
    judged = ordinary(range(1, 10), changed={9: {"votes": votes(7)}}, discs=9)
    assert sign("disagreement", judged).value == pytest.approx(1 / 9)
