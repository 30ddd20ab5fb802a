"""Contrasts made from a scan: what becomes brighter than what, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.made_contrasts import (
    CONTRASTS,
    blurred,
    in_thick_slices,
    inverted,
    like_fat_suppressed,
    like_t1,
)
from ivdjax.data.preparation import Prepared
from ivdjax.volume import TISSUES, Grid, UserError

DISC, VERTEBRA, CANAL = (TISSUES.index(name) + 1 for name in ("disc", "vertebra", "canal"))
FAT, MUSCLE, AIR = 4, 5, 6
BRIGHTNESS = {DISC: 60, VERTEBRA: 100, CANAL: 220, FAT: 240, MUSCLE: 40, AIR: 0}


@pytest.fixture
def case() -> Prepared:
    """Six bands of eight columns, as a T2 image shows them with a little texture; slices of 0.9 mm."""
    what = np.tile(np.repeat(list(BRIGHTNESS), 8).astype(np.uint8), (7, 12, 1))
    image = np.vectorize(BRIGHTNESS.get)(what) + np.where(what == AIR, 0, np.arange(12)[None, :, None] % 3 - 1)
    tissues = np.where(what <= CANAL, what, 0).astype(np.uint8)
    grid = Grid(what.shape, np.diag([0.9, 2.0, 2.0, 1.0]))
    labels = (tissues == DISC).astype(np.uint8)
    return Prepared(
        "a", "a", ("t2",), image.astype(np.uint8)[None], labels, labels * np.uint8(255), 0, grid, grid, grid,
        tissues=tissues,
    )  # fmt: skip


def band(case: Prepared, tissue: int) -> float:
    """Mean brightness in the middle of a band, away from its borders."""
    return float(case.image[0, :, :, 8 * (tissue - 1) + 3 : 8 * (tissue - 1) + 5].mean())


def order(case: Prepared) -> list[int]:
    """The bands from dark to bright."""
    return sorted(BRIGHTNESS, key=lambda tissue: band(case, tissue))


def test_inverted_exchanges_bright_and_dark_but_for_air(case):
    made = inverted(case)
    assert order(made) == [AIR, FAT, CANAL, VERTEBRA, DISC, MUSCLE]
    lit = case.image > 0
    np.testing.assert_array_equal(made.image[lit], 255 - case.image[lit])


def test_t1_shows_fat_bright_then_marrow_and_fluid_darkest_of_the_body(case):
    assert order(like_t1(case)) == [AIR, MUSCLE, CANAL, DISC, VERTEBRA, FAT]


def test_fat_suppression_leaves_discs_above_marrow_and_marrow_above_fat(case):
    found = order(like_fat_suppressed(case))
    assert found.index(FAT) < found.index(VERTEBRA) < found.index(DISC) < found.index(CANAL)
    assert found[0] == AIR and found[-1] == CANAL


def test_a_thick_slice_is_the_mean_over_its_thickness(case):
    image = np.zeros_like(case.image)
    image[:, 3] = 220
    made = in_thick_slices(replace(case, image=image)).image[0, :, 5, 5]
    # 4.4 mm are 4.89 slices of 0.9 mm: the slice itself, one to either side, and 0.94 of the next.
    np.testing.assert_array_equal(made, [0, 43, 45, 45, 45, 43, 0])
    flat = replace(case, image=np.full_like(case.image, 100))
    np.testing.assert_array_equal(in_thick_slices(flat).image, flat.image)


def test_blurred_has_the_spread_of_its_gaussian_in_plane_alone(case):
    image = np.zeros_like(case.image)
    image[:, 3, 5, 23:25] = 255
    made = blurred(replace(case, image=image)).image[0].astype(float)
    assert made[[0, 1, 2, 4, 5, 6]].max() == 0, "other slices stay dark"
    rows = made[3].sum(axis=1)
    spread_mm = 2.0 * np.sqrt((rows * (np.arange(12) - 5.0) ** 2).sum() / rows.sum())
    assert spread_mm == pytest.approx(2.0, abs=0.15)


def test_only_the_image_changes(case):
    for make in CONTRASTS.values():
        made = make(case)
        assert made.image.dtype == np.uint8 and made.image.shape == case.image.shape
        for name in ("labels", "occupancy", "tissues", "classes", "grid", "region"):
            assert getattr(made, name) is getattr(case, name)


def test_without_a_tissue_map_no_tissue_can_be_recoloured(case):
    with pytest.raises(UserError, match="case a has no tissue map to make another contrast from; add one"):
        like_t1(replace(case, tissues=None))
