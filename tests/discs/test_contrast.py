"""Channels under wrong names, on a spine of two tissues whose signals are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs import contrast
from ivdjax.discs.contrast import DIXON, contrast_doubts
from ivdjax.volume import LabelMap, Volume

# Canonical directions; 4 x 2 x 2 mm. Discs of 4 rows (8 mm) every 16 rows (32 mm), bone between.
AFFINE = np.array([[-4.0, 0, 0, 10], [0, 0, -2.0, 20], [0, -2.0, 0, 30], [0, 0, 0, 1]])
SHAPE = (6, 120, 24)
ALL = DIXON


def labels(levels: range = range(1, 8)) -> LabelMap:
    array = np.zeros(SHAPE, np.uint8)
    for level in levels:
        bottom = 120 - 16 * level
        array[1:5, bottom : bottom + 4, 6:18] = level
    return LabelMap(array, AFFINE)


def volume(
    disc: tuple[float, float] = (5, 95), bone: tuple[float, float] = (60, 40), noise: float = 0.0, seed: int = 0
) -> Volume:
    """The four channels, from the signals of fat and water in discs and in all else."""
    inside = labels().array > 0
    fat, wat = (np.where(inside, d, b).astype(np.float32) for d, b in zip(disc, bone, strict=True))
    random = np.random.default_rng(seed)
    made = [fat, fat + wat, np.abs(fat - wat), wat]
    return Volume(np.stack([np.hypot(c, noise * random.normal(size=SHAPE)) for c in made]), AFFINE, ALL)


def exchanged(image: Volume, one: str, other: str, rows: slice = slice(None)) -> Volume:
    array = image.array.copy()
    i, j = image.channels.index(one), image.channels.index(other)
    array[[i, j], :, rows] = array[[j, i], :, rows]
    return replace(image, array=array)


def only(image: Volume, *channels: str) -> Volume:
    return replace(image, array=image.array[[image.channels.index(c) for c in channels]], channels=channels)


def test_a_label_map_in_place_of_a_channel_is_told():
    image = volume(noise=8.0)
    array = image.array.copy()
    array[3] = labels().array
    doubts = contrast_doubts(replace(image, array=array), labels())
    assert len(doubts) == 1 and doubts[0].startswith("channel wat holds at most 16 whole numbers and is mostly empty")
    array[3, :, :40] = np.nan
    assert contrast_doubts(replace(image, array=array), labels()) == doubts
    alone = Volume(labels().array[None].astype(np.float32), AFFINE, ("t2",))
    assert "channel t2 holds" in contrast_doubts(alone, labels())[0]
    coarse = replace(image, array=np.rint(image.array / 12.0))  # few grays make no label map
    assert not [doubt for doubt in contrast_doubts(coarse, labels()) if "label map" in doubt]


@pytest.mark.parametrize(
    "image",
    [
        volume(),
        volume(noise=8.0),
        volume(disc=(30, 70), bone=(40, 60)),
        # A dark disc in noise, where fat and water look alike, in the red marrow of the young.
        volume(disc=(9, 11), bone=(20, 80), noise=4.0),
        volume(bone=(80, 20)),
    ],
)
def test_ordinary_discs_raise_no_doubt(image):
    assert contrast_doubts(image, labels()) == []
    assert contrast_doubts(only(image, "wat", "fat"), labels()) == []


@pytest.mark.parametrize("factor", [0.01, 1.0, 40.0])
def test_fat_given_as_wat_is_told(factor):
    swapped = exchanged(volume(), "fat", "wat")
    swapped = replace(swapped, array=swapped.array * factor)
    for image in (swapped, only(swapped, "fat", "wat")):
        assert contrast_doubts(image, labels()) == [
            "the discs look like fat: are fat and wat exchanged? (fat fraction 0.95, and 0.40 in the bone beside)"
        ]


def test_a_swap_in_a_part_of_the_scan_is_told_with_the_discs():
    # The lower rows, where the first two discs and the bone up to the third lie.
    (told,) = contrast_doubts(exchanged(volume(), "fat", "wat", slice(80, None)), labels())
    assert told.startswith("L5/S1 and L4/5 look like fat (fat fraction 0.95, and 0.")
    assert told.endswith(
        "but not L3/4, L2/3, L1/2, T12/L1 and T11/12 (0.05): are fat and wat exchanged, at least in a part of the scan?"
    )
    (told,) = contrast_doubts(exchanged(volume(), "fat", "wat", slice(100, None)), labels())
    assert told.startswith("L5/S1 looks like fat (fat fraction 0.95")


def test_where_most_discs_look_like_fat_all_are_meant():
    """In exchanged channels a network takes some other place for a disc."""
    odd = labels()
    odd.array[odd.array == 4] = 0
    odd.array[1:5, 64:68, 6:18] = 4  # bone, beside bone
    (told,) = contrast_doubts(exchanged(volume(), "fat", "wat"), odd)
    assert told.startswith("the discs look like fat: are fat and wat exchanged? (fat fraction 0.95")


@pytest.mark.parametrize(
    ("one", "other"), [("fat", "inn"), ("fat", "opp"), ("wat", "inn"), ("wat", "opp"), ("inn", "opp")]
)
def test_any_two_channels_under_each_others_names_are_told(one, other):
    (told,) = contrast_doubts(exchanged(volume(noise=3.0), one, other), labels())
    assert "fat, inn, opp and wat do not fit together" in told and told.endswith(": are channels exchanged?")
    assert f"{other} were {one}" in told and f"{one} were {other}" in told


def test_channels_that_never_fit_together_are_no_proof_of_an_exchange():
    """As when each was scaled on its own."""
    image = volume(noise=3.0)
    assert contrast_doubts(replace(image, array=image.array * np.array([3, 1, 0.3, 1])[:, None, None, None]),
                           labels()) == []  # fmt: skip


def test_one_disc_alone_is_judged_by_the_bone_above_and_below_it():
    one = labels(range(3, 4))
    assert contrast_doubts(volume(), one) == []
    (told,) = contrast_doubts(exchanged(volume(), "fat", "wat"), one)
    assert "the discs look like fat" in told


def test_nothing_is_said_where_nothing_can_be_known():
    swapped = exchanged(volume(), "fat", "wat")
    assert contrast_doubts(swapped, LabelMap(np.zeros(SHAPE, np.uint8), AFFINE)) == []
    assert contrast_doubts(only(swapped, "fat", "inn"), labels()) == []
    # Values about 0 are no magnitudes; all 0 or not finite is no signal.
    for values in (swapped.array - 50, swapped.array * 0, np.full_like(swapped.array, np.nan)):
        assert contrast_doubts(replace(swapped, array=values), labels()) == []


def test_voxels_that_are_no_numbers_are_left_out():
    swapped = exchanged(volume(), "fat", "wat")
    swapped.array[0, 2, ::3] = np.nan
    assert len(contrast_doubts(swapped, labels())) == 1


def test_labels_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="the volume must lie on the labels' grid"):
        contrast_doubts(volume(), LabelMap(np.zeros((6, 120, 23), np.uint8), AFFINE))


def test_the_middle_of_a_vertebra_lies_half_way_to_the_next_disc():
    centres = {1: np.array([0.0, 0, 0]), 2: np.array([0.0, 12, 32]), 3: np.array([0.0, 12, 68])}
    np.testing.assert_allclose(contrast._half_step(1, centres, AFFINE), [0, 6, 16])  # from the one neighbour
    np.testing.assert_allclose(contrast._half_step(2, centres, AFFINE), [0, 3, 17])  # from both
    for few in ({1: centres[1]}, {1: centres[1], 2: np.array([0.0, 0, 70])}):  # no neighbour, or one disc was missed
        np.testing.assert_allclose(contrast._half_step(1, few, AFFINE), [0, 0, 17])
