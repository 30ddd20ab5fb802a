from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.config import InferenceConfig
from ivdjax.discs.candidates import find_candidates
from ivdjax.discs.centre_line import fit_centre_line
from ivdjax.discs.spine_line import SpineLine, own_line, paper_line, predicted_levels
from ivdjax.volume import LabelMap

SETTINGS = InferenceConfig()
HEIGHTS = np.array([80.0, 150.0, 250.0])


def reference(spine, shift_mm=(0.0, 0.0, 0.0)):
    levels = np.zeros(spine.grid.shape, np.uint8)
    for level in range(1, 8):
        levels[spine.bodies[level].mask] = level
    affine = spine.grid.affine.copy()
    affine[:3, 3] += shift_mm
    return LabelMap(levels, affine)


def test_predicted_levels_are_the_intersection_of_both_networks(spine):
    evidence = spine.evidence()
    predicted = predicted_levels(evidence, SETTINGS)
    assert predicted.levels == tuple(range(1, 8))  # the thoracic disc is background to the localization network
    volume = predicted.grid.voxel_mm3 * np.count_nonzero(predicted.array == 3)
    assert volume == pytest.approx(evidence.grid.voxel_mm3 * spine.bodies[3].mask.sum(), rel=0.1)


def test_without_the_network_they_count_from_the_bottom(spine):
    assert predicted_levels(spine.without(1).evidence(vnet=False), SETTINGS).levels == tuple(range(1, 8))
    alone = replace(SETTINGS, localization=False)
    assert predicted_levels(spine.evidence(), alone).levels == tuple(range(1, 8))
    assert not predicted_levels(spine.without(*range(2, 9)).evidence(vnet=False), SETTINGS).array.any()


def test_registered_line_runs_through_the_discs(spine):
    evidence = spine.evidence(reference=reference(spine, (3.0, 9.0, 20.0)))
    guide = paper_line(find_candidates(evidence, SETTINGS), evidence, SETTINGS)
    assert guide.registered
    assert np.abs(guide.line.at(HEIGHTS)[:, :2]).max() < 3.0


def test_without_registration_or_reference_the_line_goes_through_the_candidates(spine):
    evidence = spine.evidence(reference=reference(spine))
    candidates = find_candidates(evidence, SETTINGS)
    assert not paper_line(candidates, evidence, replace(SETTINGS, registration=False)).registered
    assert not paper_line(candidates, spine.evidence(), SETTINGS).registered


def test_network_that_sees_nothing_leaves_nothing_to_register_to(spine):
    evidence = spine.seen_as(dict.fromkeys(range(1, 9), 0)).evidence(reference=reference(spine))
    assert not paper_line(find_candidates(evidence, SETTINGS), evidence, SETTINGS).registered


def test_own_line_goes_through_what_lies_near_the_guide(spine, shapes):
    spine.with_body("blob", shapes.ellipsoid((0, 36, 120), (20, 10, 20)))
    candidates = find_candidates(spine.evidence(), SETTINGS)
    guide = SpineLine(fit_centre_line(np.array([[0.0, -4.0, 70.0], [0.0, -4.0, 300.0]])), True)
    line, off_mm = own_line(candidates, guide)
    assert off_mm == pytest.approx(4.0, abs=0.5)
    assert np.abs(line.at(HEIGHTS)[:, 1]).max() < 1.0


def test_a_guide_far_off_the_discs_is_not_followed(spine):
    candidates = find_candidates(spine.evidence(), SETTINGS)
    lost = SpineLine(fit_centre_line(np.array([[0.0, 60.0, 70.0]])), True)
    line, off_mm = own_line(candidates, lost)
    assert off_mm == pytest.approx(60.0, abs=1.0) and np.abs(line.at(HEIGHTS)[:, 1]).max() < 1.0
    assert own_line(candidates, None)[1] == 0.0
