"""Registration of numbered discs: synthetic spines whose place is known, and every fault that a prediction may have."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from ivdjax.imaging.components import component_list
from ivdjax.imaging.registration import Registration, moved_centroids, register_labels
from ivdjax.imaging.similarity_transforms import translation
from ivdjax.volume import Grid, LabelMap, to_index, to_world_mm

TILTS_DEG = np.array([-31, -12, -2, 6, 12, 10, 8, 6, 5])
STEPS_MM = np.array([0, 35, 35.6, 36.6, 35.4, 33.6, 30.5, 27.9, 27])


def spine(
    discs: int = 7, half_width_mm: float = 14.0, slices: int = 9, step_mm: float = 4.0, scale: float = 1.0,
    turn_deg: float = 0.0, offset_mm: tuple[float, float, float] = (0, 0, 0), lordosis_mm: float = 20.0,
) -> LabelMap:  # fmt: skip
    """Flat ellipsoids along a lordosis, numbered from the bottom, on a grid of 4 x 2 x 2 mm about the spine."""
    shape = (slices, 155, 60)
    affine = np.array([[-step_mm, 0, 0, step_mm * (slices - 1) / 2], [0, 0, -2.0, 60], [0, -2.0, 0, 290], [0, 0, 0, 1]])
    affine[:3, 3] += offset_mm
    grid = Grid(shape, affine)
    points = to_world_mm(affine, np.moveaxis(np.indices(shape), 0, -1)) - np.array(offset_mm)
    turn = Rotation.from_euler("x", turn_deg, degrees=True).as_matrix()
    points = (points - [0, 0, 110]) @ turn / scale + [0, 0, 110]  # the spine turned and scaled about its middle
    labels = np.zeros(grid.shape, np.uint8)
    for level, z in enumerate(np.cumsum(STEPS_MM)[:discs], start=1):
        middle = np.array([0.0, lordosis_mm * np.sin(np.pi * z / 210), z])
        tilt = Rotation.from_euler("x", TILTS_DEG[level - 1], degrees=True).as_matrix()
        x, y, up = np.moveaxis((points - middle) @ tilt, -1, 0)
        labels[(x / half_width_mm) ** 2 + (y / 18) ** 2 + (up / 5) ** 2 <= 1] = level
    return LabelMap(labels, affine)


def centroids(labels: LabelMap) -> dict[int, np.ndarray]:
    return {c.number: np.array(c.centroid_mm) for c in component_list(labels.array, labels.grid)}


def relabelled(labels: LabelMap, change: dict[int, int]) -> LabelMap:
    table = np.arange(256, dtype=np.uint8)
    for old, new in change.items():
        table[old] = new
    return labels.with_array(table[labels.array])


def slab(labels: LabelMap, first: int, last: int) -> LabelMap:
    affine = labels.affine.copy()
    affine[:3, 3] = to_world_mm(labels.affine, np.array([first, 0.0, 0]))
    return LabelMap(labels.array[first:last], affine)


def worst_mm(moving: LabelMap, registration: Registration, truth: LabelMap) -> float:
    expected = centroids(truth)
    moved = moved_centroids(moving, registration)
    return max(float(np.linalg.norm(moved[level] - expected[level])) for level in moved)


REFERENCE = spine(lordosis_mm=12)
OTHER = spine(discs=9, scale=1.08, turn_deg=6, offset_mm=(30, -40, 200), lordosis_mm=24)


def test_the_same_spine_stays_where_it_is():
    registration = register_labels(REFERENCE, REFERENCE)
    assert worst_mm(REFERENCE, registration, REFERENCE) < 0.2
    np.testing.assert_allclose(registration.matrix, np.eye(4), atol=0.02)
    assert registration.overlap > 0.97


def test_a_similarity_is_found():
    fixed = spine(scale=1.1, turn_deg=8, offset_mm=(50, 60, -300), lordosis_mm=12)
    registration = register_labels(REFERENCE, fixed)
    expected = np.eye(4)
    expected[:3, :3] = 1.1 * Rotation.from_euler("x", 8, degrees=True).as_matrix()
    expected[:3, 3] = [50, 60, -300] + (np.eye(3) - expected[:3, :3]) @ [0, 0, 110]
    np.testing.assert_allclose(registration.matrix[:3, :3], expected[:3, :3], atol=0.02)
    middle = np.array([0.0, 10, 110])
    np.testing.assert_allclose(to_world_mm(registration.matrix, middle), to_world_mm(expected, middle), atol=1.5)
    assert worst_mm(REFERENCE, registration, fixed) < 1.5 and registration.overlap > 0.85


def test_a_bend_is_followed_beyond_what_a_similarity_can():
    registration = register_labels(REFERENCE, OTHER)
    assert worst_mm(REFERENCE, registration, OTHER) < 2
    stiff = Registration(registration.matrix, registration.overlap)
    assert worst_mm(REFERENCE, stiff, OTHER) > worst_mm(REFERENCE, registration, OTHER)


FAULTS = {
    "upper two one too high": relabelled(OTHER, {6: 7, 7: 8, 8: 9, 9: 0}),
    "upper two one too low": relabelled(OTHER, {6: 5, 7: 6, 8: 7, 9: 0}),
    "a missing disc": relabelled(OTHER, {4: 0, 8: 0, 9: 0}),
    "no lowest disc": relabelled(OTHER, {1: 0, 8: 0, 9: 0}),
    "no thoracic disc": relabelled(OTHER, {8: 0, 9: 0}),
    "all thoracic discs called 7": relabelled(OTHER, {8: 7, 9: 7}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_prediction_do_not_lead_it_astray(fault):
    assert worst_mm(REFERENCE, register_labels(REFERENCE, FAULTS[fault]), OTHER) < 6


@pytest.mark.parametrize("level", [3, 7])
def test_a_blob_behind_the_spine_does_not_lead_it_astray(level):
    array = np.where(OTHER.array == 7, 0, OTHER.array)
    array[2:7, 60:70, 50:58] = level
    assert worst_mm(REFERENCE, register_labels(REFERENCE, OTHER.with_array(array)), OTHER) < 8


def test_a_slab_meets_a_full_width_both_ways():
    wide = spine(half_width_mm=22, slices=15, scale=1.05, offset_mm=(30, -40, 200), lordosis_mm=18)
    narrow = slab(wide, 6, 9)  # 12 mm of 46
    reference = spine(half_width_mm=22, slices=15, lordosis_mm=12)
    assert worst_mm(reference, register_labels(reference, narrow), wide) < 3
    registration = register_labels(slab(reference, 6, 9), wide)
    assert worst_mm(reference, registration, wide) < 3
    assert registration.overlap > 0.4  # both cut to 12 mm; full width would give 0.4 at best


def test_one_disc_gives_a_translation():
    only = relabelled(OTHER, {level: 0 for level in range(1, 10) if level != 3})
    registration = register_labels(REFERENCE, only)
    np.testing.assert_allclose(registration.matrix[:3, :3], np.eye(3), atol=1e-9)
    moved = moved_centroids(REFERENCE, registration)
    assert np.linalg.norm(moved[3] - centroids(OTHER)[3]) < 4 and len(moved) == 7
    np.testing.assert_allclose(moved[4] - moved[3], centroids(REFERENCE)[4] - centroids(REFERENCE)[3], atol=1e-6)


def test_two_discs_give_a_translation():
    only = relabelled(OTHER, {level: 0 for level in range(3, 10)})
    registration = register_labels(REFERENCE, only)
    np.testing.assert_allclose(registration.matrix[:3, :3], np.eye(3), atol=1e-9)
    moved = moved_centroids(REFERENCE, registration)
    assert all(np.linalg.norm(moved[level] - centroids(OTHER)[level]) < 8 for level in (1, 2))


def test_without_a_common_level_the_centres_meet():
    stranger = relabelled(spine(offset_mm=(10, 20, 300)), {level: level + 7 for level in range(1, 8)})
    registration = register_labels(spine(), stranger)
    np.testing.assert_allclose(registration.matrix[:3, 3], [10, 20, 300], atol=1)


def test_a_spine_on_an_oblique_grid_is_found():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xz", (15, 10), degrees=True).as_matrix()
    turned = LabelMap(REFERENCE.array, turn @ REFERENCE.affine)  # image and patient turned together
    registration = register_labels(REFERENCE, turned)
    np.testing.assert_allclose(registration.matrix, turn, atol=1.5)
    assert worst_mm(REFERENCE, registration, turned) < 1.5


def test_what_lies_out_of_view_costs_no_overlap():
    lower = LabelMap(REFERENCE.array[:, 75:], REFERENCE.affine @ np.array(
        [[1.0, 0, 0, 0], [0, 1, 0, 75], [0, 0, 1, 0], [0, 0, 0, 1]]))  # fmt: skip
    assert lower.levels == (1, 2, 3, 4, 5)
    registration = register_labels(REFERENCE, lower)
    assert registration.overlap > 0.95
    assert worst_mm(REFERENCE, registration, REFERENCE) < 1


def test_the_result_is_the_same_on_any_number_of_cores():
    one = register_labels(REFERENCE, OTHER)
    usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1 if usual > 1 else 3)
    try:
        other = register_labels(REFERENCE, OTHER)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)
    np.testing.assert_array_equal(one.matrix, other.matrix)
    assert one.overlap == other.overlap
    assert all((one.bend_mm[level] == other.bend_mm[level]).all() for level in one.bend_mm)


def test_a_descent_that_fails_or_goes_astray_is_dropped(monkeypatch):
    def fail(*_):
        raise RuntimeError("all samples map outside of the moving image")

    monkeypatch.setattr(sitk.ImageRegistrationMethod, "Execute", fail)
    start = register_labels(REFERENCE, OTHER)
    assert worst_mm(REFERENCE, start, OTHER) < 3
    monkeypatch.setattr("ivdjax.imaging.registration.refined", lambda *_: translation(np.array([0, 0, 500.0])))
    np.testing.assert_array_equal(register_labels(REFERENCE, OTHER).matrix, start.matrix)


def test_the_matrix_leads_from_moving_to_fixed():
    registration = register_labels(REFERENCE, OTHER)
    place = to_index(OTHER.affine, to_world_mm(registration.matrix, centroids(REFERENCE)[4]))
    assert OTHER.array[tuple(np.rint(place).astype(int))] == 4


def test_an_empty_map_is_refused_and_has_no_centroids():
    empty = REFERENCE.with_array(np.zeros_like(REFERENCE.array))
    with pytest.raises(ValueError, match="the fixed label map must hold at least one disc, but it is empty"):
        register_labels(REFERENCE, empty)
    with pytest.raises(ValueError, match="the moving label map must hold at least one disc, but it is empty"):
        register_labels(empty, REFERENCE)
    assert moved_centroids(empty, Registration(np.eye(4), 0.0)) == {}
