from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ivdjax.data.phantom import HARD_KINDS, Phantom, PhantomOptions, make_phantom
from ivdjax.imaging.geometry import to_canonical
from ivdjax.volume import spacing_of, to_world_mm

SMALL = PhantomOptions(shape=(18, 100, 72), spacing_mm=(4.0, 3.2, 3.0))


@pytest.fixture(scope="module")
def small() -> Phantom:
    return make_phantom(5, SMALL)


@pytest.fixture(scope="module")
def full() -> Phantom:
    return make_phantom(7, PhantomOptions(channels=("fat", "inn", "opp", "wat", "t2")))


def test_the_full_field_shows_seven_whole_labelled_discs_of_eight_to_ten(full: Phantom) -> None:
    labels = full.case.labels
    assert labels is not None and labels.levels == (1, 2, 3, 4, 5, 6, 7)
    assert full.case.volume.array.shape == (5, 36, 256, 256) and full.case.volume.array.dtype == np.float32
    assert 8 <= len(full.truth) <= 10 and [disc.level for disc in full.truth] == list(range(1, len(full.truth) + 1))
    assert all(disc.whole and disc.labelled for disc in full.truth[:7])
    assert not any(disc.labelled for disc in full.truth[7:])
    assert full.all_labels.levels == tuple(disc.level for disc in full.truth)


def test_every_disc_is_one_piece_and_its_facts_are_those_of_its_voxels(full: Phantom) -> None:
    for disc in full.truth:
        mask = full.all_labels.array == disc.level
        assert ndimage.label(mask)[1] == 1
        assert disc.volume_mm3 == pytest.approx(mask.sum() * np.prod(spacing_of(full.all_labels.affine)), rel=1e-6)
        centre = to_world_mm(full.all_labels.affine, np.argwhere(mask).mean(axis=0))
        np.testing.assert_allclose(disc.centroid_mm, centre, atol=1e-6)


def test_levels_rise_and_the_affine_is_canonical(full: Phantom) -> None:
    heights = [disc.centroid_mm[2] for disc in full.truth]
    assert all(np.diff(heights) > 15)
    affine = full.case.volume.affine
    np.testing.assert_allclose(spacing_of(affine), (2, 1.25, 1.25))
    directions = affine[:3, :3] / spacing_of(affine)
    # To the left, down and back, each within a few degrees.
    assert (np.diag(directions[[0, 2, 1]]) < -0.97).all()


def test_the_four_channels_are_one_dixon_scan(full: Phantom) -> None:
    fat, inn, opp, wat = (channel.astype(float) for channel in full.case.volume.array[:4])
    bright = inn > np.percentile(inn, 80)
    np.testing.assert_allclose((fat + wat)[bright].mean(), inn[bright].mean(), rtol=0.03)
    np.testing.assert_allclose(np.abs(wat - fat)[bright].mean(), opp[bright].mean(), rtol=0.05)
    assert full.case.volume.array.min() >= 0
    assert np.array_equal(full.case.volume.array, np.rint(full.case.volume.array))


def test_discs_are_water_and_bodies_are_fatter(full: Phantom) -> None:
    discs = ndimage.binary_erosion(full.all_labels.array > 0)
    assert discs.sum() > 500
    near = ndimage.binary_dilation(full.all_labels.array > 0, iterations=5)
    shell = near & ~ndimage.binary_dilation(full.all_labels.array > 0, iterations=2)
    fat, wat = full.case.volume.array[0], full.case.volume.array[3]
    assert np.median(fat[discs] / (fat + wat + 1)[discs]) < 0.2
    assert np.median(fat[shell] / (fat + wat + 1)[shell]) > 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(small: Phantom) -> None:
    again = make_phantom(5, SMALL)
    assert np.array_equal(small.case.volume.array, again.case.volume.array)
    assert np.array_equal(small.all_labels.array, again.all_labels.array) and small.truth == again.truth
    assert not np.array_equal(small.case.volume.array, make_phantom(6, SMALL).case.volume.array)


def test_two_visits_share_the_anatomy_but_not_the_position_and_the_noise(small: Phantom) -> None:
    second = make_phantom(5, SMALL, visit=2)
    assert second.case.subject == small.case.subject and second.case.name != small.case.name
    assert not np.allclose(second.case.volume.affine, small.case.volume.affine)
    first_facts = {disc.level: disc for disc in small.truth}
    for disc in second.truth[:7]:
        assert disc.mid_height_mm == first_facts[disc.level].mid_height_mm
        assert disc.volume_mm3 == pytest.approx(first_facts[disc.level].volume_mm3, rel=0.3)


def test_channels_do_not_change_the_anatomy(small: Phantom) -> None:
    turbo = make_phantom(5, replace(SMALL, channels=("t2",)))
    assert np.array_equal(turbo.all_labels.array, small.all_labels.array)
    assert turbo.case.volume.array.shape == (1, 18, 100, 72)


def test_the_native_grid_leads_back_to_the_canonical_one(small: Phantom) -> None:
    volume = small.case.volume
    assert volume.native is not None and volume.native.shape == (72, 100, 18)
    marker = np.zeros(volume.native.shape, dtype=np.uint8)
    marker[3, 4, 5] = 1  # from the front 3, from below 4, from the left 5
    array, affine = to_canonical(marker, volume.native)
    np.testing.assert_allclose(affine, volume.affine, atol=1e-9)
    assert np.argwhere(array).tolist() == [[18 - 1 - 5, 100 - 1 - 4, 3]]


def test_binary_labels_have_one_value_where_numbered_ones_have_seven(small: Phantom) -> None:
    binary = make_phantom(5, replace(SMALL, binary_labels=True)).case.labels
    assert binary is not None and small.case.labels is not None
    assert np.array_equal(binary.array, small.case.labels.array > 0) and binary.levels == (1,)


def test_a_slab_is_thin_and_lies_round_the_midline() -> None:
    slab = make_phantom(2, PhantomOptions(channels=("t2",), field="slab"))
    assert 13 <= slab.case.volume.array.shape[1] <= 30 and slab.case.volume.array.shape[2:] == (320, 256)
    assert not slab.truth[0].whole
    assert slab.case.labels is not None and slab.case.labels.levels == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("hard", HARD_KINDS)
def test_hard_kinds_show_what_they_name(hard: str) -> None:
    phantom = make_phantom(4, replace(SMALL, hard=hard))
    levels = [disc.level for disc in phantom.truth]
    assert phantom.hard == hard
    if hard == "top_cut":
        assert levels[0] == 1 and levels[-1] in (5, 6)
    elif hard == "bottom_cut":
        assert levels[0] in (2, 3) and levels[-1] >= 8
    else:
        assert levels[:7] == [1, 2, 3, 4, 5, 6, 7]


def test_bridged_discs_differ_from_the_plain_case_only_inside_the_spine() -> None:
    plain, bridged = make_phantom(4, SMALL), make_phantom(4, replace(SMALL, hard="bridged"))
    changed = np.abs(plain.case.volume.array - bridged.case.volume.array).max(axis=0) > 0
    assert np.array_equal(plain.all_labels.array, bridged.all_labels.array)
    assert 20 < changed.sum() < 0.02 * changed.size


def test_negative_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative, but are -1 and 1"):
        make_phantom(-1)
