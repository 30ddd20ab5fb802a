"""What is seen above and below a disc, on the spine of ellipsoids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs.centre_line import fit_centre_line
from ivdjax.discs.evidence import L5_CLASS, S1_CLASS
from ivdjax.discs.surroundings import surroundings
from ivdjax.volume import to_world_mm

UPRIGHT = fit_centre_line(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 300.0]]))


def look(evidence, shapes, level, **options):
    (found,) = surroundings(np.array([[0.0, 0.0, shapes.height_of(level)]]), UPRIGHT, evidence, **options)
    return found


def test_a_disc_below_is_seen_by_both_networks_and_where_there_is_none_nothing_is(spine, shapes):
    evidence = spine.evidence()
    second, first = (look(evidence, shapes, level) for level in (2, 1))
    assert second.faint_below > 0.6 > 0.1 > first.faint_below
    assert second.level_below > 0.6 > 0.2 > first.level_below
    assert second.in_view == 1.0 and second.region_below is None and second.s1_below is None


def test_the_region_below_and_what_is_out_of_view(spine, shapes):
    evidence = spine.evidence()
    heights = to_world_mm(evidence.grid.affine, np.moveaxis(np.indices(evidence.grid.shape), 0, -1))[..., 2]
    evidence = replace(evidence, region=heights > shapes.height_of(1) - 20)
    assert look(evidence, shapes, 2).region_below > 0.9 and look(evidence, shapes, 1).region_below < 0.1
    assert look(evidence, shapes, 1, region=False).region_below is None
    assert look(evidence, shapes, 2, levels=False).level_below is None
    row = int((373.5 - shapes.height_of(1) - 20) / 1.5)
    cut = spine.evidence(rows=slice(0, row))
    assert look(cut, shapes, 2).in_view < 0.2 < 0.9 < look(cut, shapes, 3).in_view


def test_a_band_counts_by_the_share_of_the_window_that_it_crosses(spine, shapes):
    evidence = spine.evidence()
    depths = to_world_mm(evidence.grid.affine, np.moveaxis(np.indices(evidence.grid.shape), 0, -1))[..., 1]
    half = replace(evidence, probability=(depths > 0).astype(np.float32))
    assert look(half, shapes, 2).faint_below == pytest.approx(0.5, abs=0.1)
    ended = spine.evidence(rows=slice(0, int((373.5 - shapes.height_of(1)) / 1.5)))
    full = replace(ended, probability=np.ones_like(ended.probability))
    assert look(full, shapes, 1).faint_below == 0 and look(full, shapes, 3).faint_below == 1


def test_landmarks_beside_a_disc(spine, shapes):
    evidence = spine.evidence()
    heights = to_world_mm(evidence.level_grid.affine, np.moveaxis(np.indices(evidence.level_grid.shape), 0, -1))[..., 2]
    classes = np.concatenate([evidence.level_probability, np.zeros((3, *heights.shape), np.float32)])
    classes[S1_CLASS, heights < shapes.height_of(1) - 5] = 0.9
    classes[L5_CLASS, (heights > shapes.height_of(1) + 5) & (heights < shapes.height_of(2) - 5)] = 0.8
    evidence = replace(evidence, level_probability=classes)
    first, second = (look(evidence, shapes, level) for level in (1, 2))
    assert first.s1_below == pytest.approx(0.9, abs=0.1) and first.l5_above == pytest.approx(0.8, abs=0.1)
    assert first.s1_above == pytest.approx(0, abs=0.05) and first.l5_below == pytest.approx(0, abs=0.05)
    assert second.l5_below > 0.6 and second.l5_above < 0.1 and second.s1_below < 0.1
    assert first.without_levels().s1_below is None and first.without_levels().faint_below == first.faint_below
