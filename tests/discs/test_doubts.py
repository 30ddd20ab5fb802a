from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.doubts import Answer, reasons_for_review
from ivdjax.discs.levels import Chain


def votes(level, share=0.8):
    result = np.full(8, (1 - share) / 7)
    result[level] = share
    return result


def candidate(level, **changes):
    row, z = level - a.LOWEST, a.HEIGHT_MM[level - a.LOWEST] - a.HEIGHT_MM[1 - a.LOWEST]
    plain = Candidate(
        voxels=np.zeros((1, 3), np.intp), centroid_mm=np.array([0.0, 0.0, z]),
        volume_mm3=8000 * float(np.exp(a.LOG_VOLUME[row])), ap_width_mm=36 * float(np.exp(a.LOG_WIDTH[row])),
        tilt_deg=float(a.TILT_DEG[row]), below_mm=60.0 + z, above_mm=250.0 - z, cut=False, certainty=0.9,
        votes=votes(level if 1 <= level <= 7 else 0),
    )  # fmt: skip
    return replace(plain, **changes)


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
        candidates, levels, posterior(levels, sure), posterior(levels, geometry), [0.0] * len(levels), 0.0, False, 7,
        0.9,
    )  # fmt: skip
    return replace(plain, **changes)


def ordinary(levels=range(1, 8), changed=None, **options):
    """A typical spine of those levels, some candidates changed."""
    levels = list(levels)
    discs = [candidate(level, **(changed or {}).get(level, {})) for level in levels]
    return answer(discs, levels, **options)


def said(judged):
    return " | ".join(reasons_for_review(judged))


def test_ordinary_spine_raises_no_doubt():
    assert reasons_for_review(ordinary()) == ()
    assert reasons_for_review(ordinary(range(1, 10))) == ()


def test_nothing_found():
    assert reasons_for_review(answer([], [])) == ("no disc was found",)
    assert reasons_for_review(answer([candidate(0)], [0])) == ("no disc was found",)


def test_confidence_is_the_posterior_of_the_level_given():
    judged = ordinary(sure=0.95)
    assert judged.confidence == pytest.approx(dict.fromkeys(range(1, 8), 0.95)) and list(judged.places) == [
        *range(1, 8)
    ]


def test_a_spine_that_fits_better_turned_over():
    gain = {"upside down": 5.0, "back to front": 1.0, "upside down and back to front": -2.0}
    assert said(replace(ordinary(), turned=gain)).startswith("the image may be stored upside down: ")
    assert "stored upside down" in said(replace(ordinary(), turned=gain, anchored=True))
    assert said(replace(ordinary(), turned=dict.fromkeys(gain, -5.0))) == ""
    few = replace(ordinary(range(1, 3)), turned=gain)  # two discs fit any way round
    assert "may be stored" not in said(few)


def test_a_disc_that_the_spine_region_cuts():
    assert "L4/5 reaches the border of the spine region with 5 % of its voxels: part of it may be missing" in said(
        ordinary(changed={2: {"at_border": 0.05}})
    )
    assert said(ordinary(changed={2: {"at_border": 0.02}})) == ""


@pytest.mark.parametrize(
    ("below_mm", "words"), [(0.0, "touches the lower border"), (6.0, "lies 6 mm above the lower border")]
)
def test_lower_border(below_mm, words):
    judged = ordinary(changed={1: {"below_mm": below_mm}})
    assert words in said(judged) and "a guess" in said(judged)
    assert said(replace(judged, anchored=True)) == ""


def test_missing_levels_are_named_where_they_are_missed():
    assert "L5/S1 and L4/5 not found below L3/4" in said(ordinary(range(3, 8)))
    assert "T12/L1 and T11/12 not found above L1/2" in said(ordinary(range(1, 6)))
    assert "L3/4 not found in the 73 mm between L4/5 and L2/3" in said(ordinary((1, 2, 4, 5, 6, 7)))
    assert "L3/4 not found" in said(ordinary((1, 2, 4, 5, 6, 7), anchored=True))


def test_low_confidence_names_the_least_sure_and_what_it_may_be():
    judged = ordinary(sure=0.7)
    assert "uncertain for L5/S1, L4/5, L3/4, L2/3, L1/2, T12/L1 and T11/12" in said(judged)
    assert "L5/S1 has a confidence of 0.70 and may be L4/5" in said(judged)
    levels = list(range(1, 8))
    for column, words in ((-1, "no disc"), (0 - a.LOWEST, "a remnant of S1/S2"), (0, "a remnant of S2/3")):
        assert f"may be {words}" in said(replace(judged, chain=posterior(levels, 0.7, dict.fromkeys(range(7), column))))


def test_levels_beyond_the_model_are_uncertain():
    judged = ordinary(discs=20)
    beyond = replace(judged, levels=[*range(1, 7), 17])
    assert "uncertain for level 17: level 17 has a confidence of 0.00 and may be T11/12" in said(beyond)


def test_geometry_that_contradicts_the_network():
    assert "shape alone" in said(ordinary(geometry=0.3))
    assert said(ordinary(geometry=0.95)) == "" and said(ordinary(geometry=0.3, anchored=True)) == ""


def test_networks_that_disagree():
    judged = ordinary(changed={3: {"votes": votes(4)}}, geometry=0.9)
    assert "disagrees on L3/4 (it sees L2/3)" in said(judged)
    divided = np.array([0.1, 0, 0, 0.4, 0.5, 0, 0, 0])
    assert said(ordinary(changed={3: {"votes": divided}})) == ""
    assert "sees no disc at L5/S1" in said(ordinary(changed={1: {"votes": votes(0)}}))
    assert said(ordinary(changed={5: {"votes": votes(0)}})) == ""


def test_network_that_loses_count_above_l5_s1_is_overruled_where_geometry_stands_by_itself():
    upper = {level: {"votes": votes(level - 1)} for level in range(3, 8)}
    assert said(ordinary(changed=upper)) == ""
    assert "disagrees" in said(ordinary(changed=upper, geometry=0.94))
    assert "disagrees" in said(ordinary(changed=upper, sure=0.98))
    assert "disagrees on L5/S1 (it sees L4/5)" in said(ordinary(changed={1: {"votes": votes(2)}}))
    assert "disagrees" in said(ordinary(changed=upper | {1: {"votes": votes(2)}}))


def test_an_anchor_settles_a_shift_of_the_whole_spine_alone():
    shifted = {level: {"votes": votes(level - 1)} for level in range(2, 8)} | {1: {"votes": votes(0)}}
    assert "disagrees" in said(ordinary(changed=shifted))
    assert said(ordinary(changed=shifted, anchored=True)) == ""
    upper = {level: {"votes": votes(level - 1)} for level in range(5, 8)}
    assert "disagrees" in said(ordinary(changed=upper, anchored=True, geometry=0.9))


def test_remnant_is_left_out_in_silence_only_if_the_network_and_the_chain_are_sure():
    assert said(ordinary(range(0, 8))) == ""
    assert "left out as a remnant of S1/S2" in said(ordinary(range(0, 8), changed={0: {"votes": None}}))
    assert "takes the structure left out as a remnant of S1/S2 for L5/S1" in said(
        ordinary(range(0, 8), changed={0: {"votes": votes(1)}})
    )
    unsure = posterior(list(range(0, 8)), 0.8)
    assert "left out as a remnant" in said(replace(ordinary(range(0, 8)), chain=unsure))
    assert said(ordinary(range(0, 8), changed={0: {"votes": None, "volume_mm3": 300.0}})) == ""


def test_remnant_as_large_as_a_disc_may_be_transitional():
    large = {0: {"volume_mm3": 5000.0, "ap_width_mm": 33.0}}
    assert "transitional vertebra" in said(ordinary(range(0, 8), changed=large))
    assert said(ordinary(range(0, 8), changed=large, anchored=True)) == ""


def test_slope_of_l5_s1():
    assert "may be a remnant within the sacrum" in said(ordinary(changed={1: {"tilt_deg": -65.0}}))
    assert "may be L4/5 or higher" in said(ordinary(changed={1: {"tilt_deg": -5.0}}))
    assert said(ordinary(changed={1: {"tilt_deg": -5.0, "cut": True}})) == ""
    flat = {1: {"tilt_deg": -12.0}}
    assert said(ordinary(changed=flat)) == ""
    assert "may be L4/5 or higher" in said(ordinary(changed=flat, geometry=0.9))
    assert "may be L4/5 or higher" in said(ordinary(changed={1: {"tilt_deg": -12.0, "votes": None}}))


@pytest.mark.parametrize(
    ("origin", "words"), [("split", "cut out of a larger"), ("joined", "put together from pieces")]
)
def test_made_up_discs_are_said_unless_the_network_agrees(origin, words):
    assert said(ordinary(changed={3: {"origin": origin}})) == ""
    assert f"L3/4 was {words}" in said(ordinary(changed={3: {"origin": origin, "votes": None}}))


def test_implausible_steps_and_sizes():
    assert "lie 17 mm apart" in said(ordinary(changed={7: {"centroid_mm": np.array([0.0, 0.0, 193.8])}}))
    assert "L3/4 has 10 % of the volume to be expected: it may be a fragment" in said(
        ordinary(changed={3: {"volume_mm3": 900.0}}))  # fmt: skip
    small = {3: {"volume_mm3": 2400.0}}
    assert said(ordinary(changed=small)) == "" and "it may be a fragment" in said(ordinary(changed=small, sure=0.95))
    assert "it may be more than one disc" in said(ordinary(changed={3: {"volume_mm3": 40000.0}}))


def stray(off_mm, z=53.0, **changes):
    judged = ordinary()
    extra = candidate(
        2, **({"centroid_mm": np.array([0.0, off_mm, z]), "volume_mm3": 3000.0, "votes": votes(0)} | changes)
    )
    place = sum(c.centroid_mm[2] < z for c in judged.candidates)
    levels = [*judged.levels[:place], None, *judged.levels[place:]]
    discs = [*judged.candidates[:place], extra, *judged.candidates[place:]]
    return answer(discs, levels, off_mm=[off_mm * (index == place) for index in range(8)])


def test_strays_are_said_if_near_large_or_seen():
    assert "3000 mm3, 8 mm off the line of the spine, was left out" in said(stray(8.0))
    assert said(stray(40.0)) == "" and said(stray(8.0, volume_mm3=500.0)) == ""
    assert "was left out" in said(stray(40.0, votes=votes(3)))
    assert said(stray(8.0, z=230.0)) == ""  # above the last disc wanted


def test_lost_registration():
    assert "reference spine lies 20 mm off" in said(ordinary(guide_off_mm=20.0))
