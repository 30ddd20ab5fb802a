from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.degeneration import (
    LEVEL_MEASURES,
    NO_BODIES,
    NO_BODY_ABOVE,
    NO_SACRUM,
    NOT_T2,
    SIGNAL_MEASURES,
    UNSURE_FACE,
    measure_spine,
)
from ivdjax.volume import LabelMap, to_world_mm
from tests.discs.drawn_levels import CANAL_AP, CANAL_WIDTH, DEPTH, GAP, HEIGHT, SIGNAL, Block, draw_levels
from tests.discs.test_measures import canonical_affine, rotation

STEP = HEIGHT + GAP
OBLIQUE = rotation(7, 2) @ rotation(9, 0) @ rotation(5, 1)
GRIDS = {
    "isotropic": ((64, 210, 100), (1.0, 1.0, 1.0), OBLIQUE),
    "anisotropic": ((20, 220, 106), (3.6, 0.94, 0.94), OBLIQUE),
    "usual": ((34, 170, 84), (2.0, 1.25, 1.25), OBLIQUE),
    "straight": ((60, 210, 100), (1.0, 1.0, 1.0), np.eye(3)),
}
SLACK_MM = {"straight": 0.7}
"""A wall along a plane of voxels is known to half a voxel alone; on a grid aslant the steps average out."""


def grid_of(name):
    shape, spacing, turn = GRIDS[name]
    return shape, canonical_affine(spacing, shape, turn, (0.2, -0.3, 0.4))


def spine():
    """S1 to L2: L4 slipped 5 mm to the front, L3 wedged to the front, its neighbours tilted."""
    return [
        Block((0.0, -2 * STEP), 14.0), Block((0.0, -STEP), 10.0), Block((5.0, 0.3), 7.0),
        Block((5.0, STEP), -6.0, 22.0, 28.0), Block((5.0, 2 * STEP - 0.5), -12.0),
    ]  # fmt: skip


OVERHANGS = (0.0, 3.0, 0.0, 0.0)


@pytest.mark.parametrize("name", GRIDS)
def test_known_shapes(name):
    blocks, near = spine(), 0.3 + SLACK_MM.get(name, 0.0)
    labels, tissues, image = draw_levels(blocks, OVERHANGS, grid_of(name), stenosis=(-STEP / 2, 0.6))
    found = measure_spine(labels, tissues, image, {2: 10.0}).levels
    assert set(found) == {1, 2, 3, 4}
    for level in (1, 2, 3):
        body, own = blocks[level], found[level]
        slope = (body.front - body.back) / DEPTH
        for place, forward in (("anterior", 0.3), ("middle", 0.0), ("posterior", -0.3)):
            true = (body.front + body.back) / 2 + slope * forward * DEPTH
            assert getattr(own, f"body_{place}_height_mm") == pytest.approx(true, abs=near)
        true = (body.front + body.back) / 2 + slope * 0.3 * DEPTH
        other = (body.front + body.back) / 2 - slope * 0.3 * DEPTH
        assert own.body_height_ratio == pytest.approx(true / other, rel=near / 15)
        assert own.body_depth_mm == pytest.approx(np.linalg.norm(body.corner(1, 1) - body.corner(-1, 1)), abs=near)
        assert own.body_canal_ap_mm == pytest.approx(CANAL_AP, abs=near)
        assert own.body_canal_area_mm2 == pytest.approx(np.pi / 4 * CANAL_AP * CANAL_WIDTH, rel=0.02)
    for level in (2, 3):
        low, up = blocks[level - 1], blocks[level]
        way = low.plate(1) + up.plate(-1)
        slip = (up.corner(-1, -1) - low.corner(-1, 1)) @ way / np.linalg.norm(way)
        assert found[level].slip_mm == pytest.approx(slip, abs=near)
        depth = np.linalg.norm(low.corner(1, 1) - low.corner(-1, 1))
        assert found[level].slip_percent == pytest.approx(100 * slip / depth, abs=near / 0.3)
        assert found[level].posterior_overhang_mm == pytest.approx(OVERHANGS[level - 1], abs=near)
        turn = [np.degrees(np.arctan2(*block.plate(1)[::-1])) for block in (low, up)]
        assert found[level].segmental_angle_deg == pytest.approx(turn[1] - turn[0], abs=1.0)
    assert found[2].canal_ap_mm == pytest.approx(0.6 * CANAL_AP, abs=near)
    assert found[2].canal_area_mm2 == pytest.approx(0.6 * np.pi / 4 * CANAL_AP * CANAL_WIDTH, rel=0.025)
    assert found[3].canal_ap_mm == pytest.approx(CANAL_AP, abs=near)
    assert found[2].disc_body_height_index == pytest.approx(10.0 / HEIGHT, rel=0.02)
    for part in ("csf", "marrow", "annulus"):
        ratio = SIGNAL["nucleus"] / SIGNAL[part]
        assert getattr(found[3], f"nucleus_over_{part}") == pytest.approx(ratio, rel=0.02)


def test_a_bias_of_the_coils_is_taken_out():
    labels, tissues, image = draw_levels(spine(), OVERHANGS, grid_of("isotropic"))
    plain = measure_spine(labels, tissues, image).levels
    world = to_world_mm(labels.affine, np.moveaxis(np.indices(image.shape), 0, -1).astype(float))
    bias = np.exp(0.012 * world[..., 1] - (world[..., 2] / 90) ** 2)
    shaded = measure_spine(labels, tissues, image * bias).levels
    for level in (1, 2, 3, 4):
        for name in SIGNAL_MEASURES[4:]:
            assert getattr(shaded[level], name) == pytest.approx(getattr(plain[level], name), rel=0.02)


def test_what_is_not_supported_is_blank_with_its_reason():
    labels, tissues, image = draw_levels(spine(), OVERHANGS, grid_of("isotropic"))
    found = measure_spine(labels, tissues, None, outline_confidence={1: 0.4})
    for level, own in found.levels.items():
        assert set(own.missing) == {name for name in LEVEL_MEASURES if own.values[name] is None}, level
        assert all(own.missing[name] == NOT_T2 for name in SIGNAL_MEASURES)
    assert found.levels[1].missing["segmental_angle_deg"] == UNSURE_FACE
    assert found.lordosis_l1_s1_deg is None and found.lordosis_l1_l5_deg is None
    assert measure_spine(labels, tissues, image).levels[1].missing["slip_mm"] == NO_SACRUM
    nothing = measure_spine(labels, tissues.with_array(labels.array.clip(max=1)), image)
    assert all(own.canal_ap_mm is None and own.slip_mm is None for own in nothing.levels.values())


def test_a_vertebra_without_a_corner_is_not_measured():
    """A network may leave the back of an end plate out: the slip of what is left would be that of a plate aslant."""
    blocks = spine()
    labels, tissues, image = draw_levels(blocks, OVERHANGS, grid_of("usual"))
    whole = measure_spine(labels, tissues, image).levels
    world = to_world_mm(labels.affine, np.moveaxis(np.indices(image.shape), 0, -1).astype(float))
    away = np.abs((world[..., 1:] - blocks[2].corner(-1, -1)) @ blocks[2].axes.T)
    lost = (away[..., 0] <= 14) & (away[..., 1] <= 9) & (tissues.array == 2)
    found = measure_spine(labels, tissues.with_array(np.where(lost, 0, tissues.array)), image).levels
    for level, reason in ((2, NO_BODY_ABOVE), (3, NO_BODIES)):
        for name in ("slip_mm", "posterior_overhang_mm", "segmental_angle_deg"):
            assert getattr(whole[level], name) is not None
            assert getattr(found[level], name) is None and found[level].missing[name] == reason
    assert found[2].body_posterior_height_mm is None and found[3].body_posterior_height_mm is not None
    assert found[2].nucleus_over_marrow == pytest.approx(whole[2].nucleus_over_marrow, rel=0.02)


def test_a_slab_has_no_areas_but_the_rest():
    labels, tissues, image = draw_levels(spine(), OVERHANGS, grid_of("straight"))
    box = slice(24, 37)
    affine = labels.affine.copy()
    affine[:3, 3] = to_world_mm(affine, np.array([24.0, 0, 0]))
    slab = measure_spine(LabelMap(labels.array[box], affine), LabelMap(tissues.array[box], affine), image[box])
    own, whole = slab.levels[2], measure_spine(labels, tissues, image).levels[2]
    assert own.canal_area_mm2 is None and "cuts the canal" in own.missing["canal_area_mm2"]
    for name in ("canal_ap_mm", "slip_mm", "posterior_overhang_mm", "body_middle_height_mm"):
        assert getattr(own, name) == pytest.approx(getattr(whole, name), abs=0.3)


def test_empty_maps_and_grids_that_differ():
    grid = grid_of("isotropic")
    nothing = LabelMap(np.zeros(grid[0], np.uint8), grid[1])
    assert measure_spine(nothing, nothing, None).levels == {}
    with pytest.raises(ValueError, match="one grid"):
        measure_spine(nothing, nothing, np.zeros((2, 2, 2)))
