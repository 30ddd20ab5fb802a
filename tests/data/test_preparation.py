"""Preparation and restoration of one small asymmetric spine, in every axis order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivdjax.config import PreparationConfig
from ivdjax.data.preparation import (
    Prepared,
    prepare,
    regrid,
    resample_labels,
    restore_labels,
    restore_probability,
    working_grid,
)
from ivdjax.imaging.components import component_list
from ivdjax.imaging.files import read_labels, read_volume, write_labels
from ivdjax.volume import Case, CaseError, Grid, LabelMap, Volume, to_world_mm

SHAPE = (6, 40, 30)
SPACING_MM = (3.0, 1.0, 0.9)
CONFIG = PreparationConfig(spacing_mm=(1.25, 1.25))


def canonical(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    d, h, w = spacing_mm
    return Grid(shape, np.array([[-d, 0, 0, 20.0], [0, 0, -w, 30.0], [0, -h, 0, 40.0], [0, 0, 0, 1.0]]))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """An image without any symmetry, and three tilted discs numbered from below (large h)."""
    d, h, w = np.indices(SHAPE, dtype=float)
    labels = np.zeros(SHAPE, np.uint8)
    for level, (row, slope) in enumerate(((32.0, 0.3), (20.0, 0.1), (8.0, -0.1)), start=1):
        inside = np.abs(h - row - slope * (w - 15)) < 3.2
        labels[inside & (np.abs(w - 15) < 8 + level) & (d >= 1) & (d <= 3 + level % 2)] = level
    image = 40 + 3 * d + h + 2 * w + 60 * (labels == 0) * (w > 14) + np.random.default_rng(0).normal(0, 3, SHAPE)
    return np.rint(image).astype(np.int16), labels


def case_of(image: np.ndarray, labels: np.ndarray | None, grid: Grid) -> Case:
    reference = None if labels is None else LabelMap(labels, grid.affine, grid)
    return Case("x", "s", Volume(image[None].astype(np.float32), grid.affine, ("t2",), grid), reference)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(case_of(*scene(), canonical(SPACING_MM, SHAPE)), CONFIG, True)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_all_48_axis_orders_prepare_alike_and_come_back(
    tmp_path: Path, prepared: Prepared, order: tuple[int, ...]
) -> None:
    image, labels = scene()
    grid = canonical(SPACING_MM, SHAPE)
    for signs in product((1, -1), repeat=3):
        # The file's axis i is the canonical axis order[i], reversed where its sign is negative.
        step = np.eye(4)
        step[:3, :3] = np.eye(3)[:, list(order)] * np.array(signs)
        for axis, sign in zip(order, signs, strict=True):
            step[axis, 3] = 0 if sign > 0 else SHAPE[axis] - 1
        flip = tuple(slice(None, None, sign) for sign in signs)
        nibabel.save(nibabel.Nifti1Image(np.transpose(image, order)[flip], grid.affine @ step), tmp_path / "t2.nii")
        nibabel.save(nibabel.Nifti1Image(np.transpose(labels, order)[flip], grid.affine @ step), tmp_path / "l.nii")
        volume = read_volume({"t2": tmp_path / "t2.nii"}, "x")
        found = prepare(Case("x", "s", volume, read_labels(tmp_path / "l.nii", "x")), CONFIG, True)
        assert np.array_equal(found.image, prepared.image)
        assert np.array_equal(found.labels, prepared.labels)
        assert found.grid.matches(prepared.grid, 1e-3)
        assert found.labels is not None and found.occupancy is not None
        write_labels(
            tmp_path / "out.nii", restore_labels(found.labels, found, found.occupancy.astype(np.float32) / 255)
        )
        back = nibabel.load(tmp_path / "out.nii")
        assert back.shape == volume.native.shape if volume.native else False
        assert np.allclose(back.affine, grid.affine @ step, atol=1e-4)
        stored = np.asarray(back.dataobj)
        assert np.count_nonzero(stored != np.transpose(labels, order)[flip]) <= 0.02 * np.count_nonzero(labels)


def centroids(labels: np.ndarray, grid: Grid) -> np.ndarray:
    return np.array([c.centroid_mm for c in component_list(labels, grid)])


@pytest.mark.parametrize("angle_deg", [0.0, 15.0])
def test_labels_keep_their_world_positions(angle_deg: float) -> None:
    image, labels = scene()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians(angle_deg) * np.array([1.0, 2.0, 2.0]) / 3).as_matrix()
    grid = Grid(SHAPE, turn @ canonical(SPACING_MM, SHAPE).affine)
    found = prepare(case_of(image, labels, grid), CONFIG, True)
    assert found.warnings == () and found.labels is not None
    # Half a voxel of the file; a fifth of a millimetre where the outline's place within a voxel is known.
    assert found.occupancy is not None
    assert np.abs(centroids(found.labels, found.grid) - centroids(labels, grid)).max() < 0.45
    restored = restore_labels(found.labels, found)
    assert np.abs(centroids(restored.array, restored.grid) - centroids(labels, grid)).max() < 0.45
    restored = restore_labels(found.labels, found, found.occupancy.astype(np.float32) / 255)
    assert np.abs(centroids(restored.array, restored.grid) - centroids(labels, grid)).max() < 0.2
    assert np.allclose(restored.affine, grid.affine)


def test_a_grid_of_the_same_spacing_comes_back_exactly() -> None:
    image, labels = scene()
    grid = canonical((3.0, 1.25, 1.25), SHAPE)
    found = prepare(case_of(image, labels, grid), CONFIG, True)
    assert found.labels is not None and np.array_equal(found.labels, labels)
    assert np.array_equal(restore_labels(found.labels, found).array, labels)
    assert np.array_equal(restore_labels(labels, found, (labels > 0).astype(np.float32)).array, labels)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero((one == other) & (one > 0)) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_probabilities_restore_finer_outlines_than_labels(prepared: Prepared) -> None:
    _, labels = scene()
    assert prepared.labels is not None and prepared.occupancy is not None
    plain = dice(restore_labels(prepared.labels, prepared).array, labels)
    soft = dice(restore_labels(prepared.labels, prepared, prepared.occupancy.astype(np.float32) / 255).array, labels)
    assert plain > 0.93
    assert soft > 0.985 and soft > plain


def test_occupancy_adds_up_to_the_volume(prepared: Prepared) -> None:
    _, labels = scene()
    assert prepared.occupancy is not None
    share_mm3 = prepared.occupancy.sum() / 255 * prepared.grid.voxel_mm3
    assert share_mm3 == pytest.approx(np.count_nonzero(labels) * prepared.source.voxel_mm3, rel=0.01)


def test_probability_far_from_every_labelled_disc_is_dropped(prepared: Prepared) -> None:
    assert prepared.labels is not None
    probability = (prepared.labels > 0).astype(np.float32)
    kept = np.where(prepared.labels == 2, 2, 0).astype(np.uint8)
    restored = restore_labels(kept, prepared, probability)
    assert restored.levels == (2,)
    everything = restore_labels(prepared.labels, prepared, np.ones_like(probability))
    assert (everything.array > 0)[restore_labels(prepared.labels, prepared).array > 0].all()
    assert not everything.array[:, 26, 15].any()


def test_the_nearest_disc_gives_its_level() -> None:
    grid = canonical((3.0, 1.25, 1.25), (1, 8, 4))
    found = prepare(case_of(np.arange(32.0).reshape(grid.shape), None, grid), CONFIG, True)
    levels = np.zeros(grid.shape, np.uint8)
    levels[0, :3], levels[0, 5:] = 2, 1
    restored = restore_labels(levels, found, np.ones(grid.shape, np.float32)).array
    assert restored[0, :, 0].tolist() in ([2, 2, 2, 2, 1, 1, 1, 1],)


def test_threshold_is_applied_after_interpolation(prepared: Prepared) -> None:
    assert prepared.labels is not None and prepared.occupancy is not None
    probability = prepared.occupancy.astype(np.float32) / 255
    sizes = [np.count_nonzero(restore_labels(prepared.labels, prepared, probability, t).array) for t in (0.3, 0.5, 0.7)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_empty_labels_restore_to_nothing(prepared: Prepared) -> None:
    empty = np.zeros(prepared.grid.shape, np.uint8)
    assert restore_labels(empty, prepared).levels == ()
    assert restore_labels(empty, prepared, np.ones(empty.shape, np.float32)).levels == ()


def test_restored_probability_covers_the_files_whole_view(prepared: Prepared) -> None:
    restored = restore_probability(np.ones(prepared.grid.shape, np.float32), prepared)
    assert restored.shape == SHAPE and restored.dtype == np.float32 and np.allclose(restored, 1)


def test_arrays_must_lie_on_the_working_grid(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="must lie on the working grid"):
        restore_labels(np.zeros(SHAPE, np.uint8), prepared)
    with pytest.raises(ValueError, match="does not lie on a grid"):
        restore_probability(np.zeros(SHAPE, np.float32), prepared)


@pytest.mark.parametrize(("scale", "offset"), [(0.01, 0.0), (10.0, 500.0)])
def test_the_files_intensity_units_change_nothing(prepared: Prepared, scale: float, offset: float) -> None:
    image, labels = scene()
    other = prepare(case_of(image * scale + offset, labels, canonical(SPACING_MM, SHAPE)), CONFIG, True)
    assert np.array_equal(other.image, prepared.image)


def test_mended_voxels_are_remarked_with_case_and_channel() -> None:
    image, _ = scene()
    broken = image.astype(np.float32)
    broken[0, 0, 0] = np.nan
    case = replace(case_of(broken, None, canonical(SPACING_MM, SHAPE)), warnings=("said before",))
    found = prepare(case, CONFIG, True)
    assert found.labels is None and found.occupancy is None and found.ignore_above == 0
    assert found.warnings[0] == "said before"
    assert "case x: channel t2: 1 voxels" in found.warnings[1]


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "expected_d", "expected_mm"),
    [
        ((4.4, 0.7, 0.7), (12, 100, 100), 12, 4.4),  # a usual sagittal scan
        ((0.9, 0.5, 0.5), (60, 100, 100), 60, 0.9),  # thin slices stay
        ((1.0, 1.0, 1.0), (50, 50, 50), 50, 1.0),  # isotropic
        ((8.0, 0.7, 0.7), (5, 100, 100), 20, 2.0),  # too thick
        ((0.5, 4.0, 0.5), (200, 20, 200), 50, 2.0),  # axial
        ((0.5, 0.5, 4.0), (200, 200, 20), 50, 2.0),  # coronal
    ],
)
def test_slices_stay_or_are_reformatted(
    spacing_mm: tuple[float, float, float], shape: tuple[int, int, int], expected_d: int, expected_mm: float
) -> None:
    grid = working_grid(canonical(spacing_mm, shape), CONFIG)
    assert grid.shape[0] == expected_d and grid.spacing_mm[0] == pytest.approx(expected_mm)
    assert grid.spacing_mm[1] == pytest.approx(1.25, rel=0.02) and grid.spacing_mm[2] == pytest.approx(1.25, rel=0.02)


def test_strongly_oblique_slices_are_remarked() -> None:
    image, labels = scene()
    angle = np.radians(30)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = Grid(SHAPE, turn @ canonical(SPACING_MM, SHAPE).affine)
    (warning,) = prepare(case_of(image, labels, grid), CONFIG, True).warnings
    assert "case x" in warning and "30 degrees" in warning


def test_rows_far_above_the_top_disc_are_ignored_where_not_all_are_outlined() -> None:
    grid = canonical((3.0, 1.25, 1.25), SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 20:24, 10:20] = 1
    image, _ = scene()
    # Rows 16 to 19 lie within 5 mm (four rows of 1.25 mm) of row 20.
    assert prepare(case_of(image, labels, grid), CONFIG, False).ignore_above == 16
    assert prepare(case_of(image, labels, grid), CONFIG, True).ignore_above == 0
    assert prepare(case_of(image, np.roll(labels, -18, axis=1), grid), CONFIG, False).ignore_above == 0
    assert prepare(case_of(image, np.zeros_like(labels), grid), CONFIG, False).ignore_above == SHAPE[1]
    assert prepare(case_of(image, None, grid), CONFIG, False).ignore_above == 0


def test_touching_levels_leave_no_gap() -> None:
    grid = canonical((3.0, 1.0, 1.0), (2, 20, 20))
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 4:10, 4:16], labels[:, 10:16, 4:16] = 2, 1
    resampled, share = resample_labels(labels, grid, working_grid(grid, CONFIG))
    assert set(np.unique(resampled[0, 4:12, 8])) == {1, 2}
    assert share[0, 6:10, 8] == pytest.approx(1)


def two_channels() -> Case:
    image, labels = scene()
    case = case_of(image, labels, canonical(SPACING_MM, SHAPE))
    array = np.stack([image, image[::-1]]).astype(np.float32)
    return replace(case, volume=replace(case.volume, array=array, channels=("fat", "wat")))


def test_channels_come_in_the_order_wanted_and_missing_ones_are_empty() -> None:
    case = two_channels()
    plain = prepare(case, CONFIG, True)
    assert plain.channels == ("fat", "wat") and plain.missing == () and plain.region is None
    found = prepare(case, CONFIG, True, ("inn", "wat", "opp", "fat"))
    assert found.channels == ("inn", "wat", "opp", "fat") and found.missing == ("inn", "opp")
    assert np.array_equal(found.image[[3, 1]], plain.image) and found.image[1].any()
    assert not found.image[[0, 2]].any() and found.image.dtype == np.uint8
    assert np.array_equal(found.labels, plain.labels) and found.warnings == ()
    nothing = prepare(case, CONFIG, True, ("t2",))
    assert nothing.missing == nothing.channels == ("t2",) and not nothing.image.any()
    assert prepare(case, CONFIG, True, ["wat"]).channels == ("wat",)  # what is not wanted is left out


def test_a_coarser_grid_keeps_the_field_of_view_and_what_lies_where() -> None:
    case = prepare(two_channels(), CONFIG, False)
    coarse = regrid(case, (6.0, 2.5, 2.5))
    assert coarse.grid.shape == (3, 16, 11) and coarse.image.shape == (2, 3, 16, 11)
    assert np.allclose(coarse.grid.spacing_mm, (6.0, 2.5, 27 / 11))
    corners = np.array([[-0.5] * 3, np.array(coarse.grid.shape) - 0.5])
    ends = np.array([[-0.5] * 3, np.array(case.grid.shape) - 0.5])
    assert np.allclose(to_world_mm(coarse.grid.affine, corners), to_world_mm(case.grid.affine, ends), atol=1e-6)
    assert coarse.labels is not None and case.labels is not None and coarse.occupancy is not None
    # A disc of three slices becomes one of two or of one, of 6 mm: a quarter of a slice is lost at most.
    moved_mm = np.abs(centroids(coarse.labels, coarse.grid) - centroids(case.labels, case.grid)).max(axis=0)
    assert (moved_mm <= [1.5, 1.0, 1.0]).all()
    volumes_mm3 = [occupancy.sum() / 255 * grid.voxel_mm3 for occupancy, grid in
                   ((coarse.occupancy, coarse.grid), (case.occupancy, case.grid))]  # fmt: skip
    assert volumes_mm3[0] == pytest.approx(volumes_mm3[1], rel=0.05)
    assert abs(coarse.image.mean() - case.image.mean()) < 2.0
    assert (coarse.name, coarse.channels, coarse.source, coarse.native) == (
        case.name, case.channels, case.source, case.native
    )  # fmt: skip
    sagittal = regrid(case, (None, 2.5, 2.5))
    assert sagittal.grid.shape == (6, 16, 11) and sagittal.grid.spacing_mm[0] == pytest.approx(3.0)


@pytest.mark.parametrize(("row", "coarse_row"), [(0, 0), (1, 1), (16, 8), (17, 9), (31, 16), (32, 16)])
def test_rows_that_are_ignored_stay_ignored_on_a_coarser_grid(prepared: Prepared, row: int, coarse_row: int) -> None:
    assert prepared.grid.shape[1] == 32
    found = regrid(replace(prepared, ignore_above=row), (None, 2.5, 1.25))
    assert found.grid.shape[1] == 16 and found.ignore_above == coarse_row


def test_a_grid_that_is_no_coarser_changes_nothing_but_the_region(prepared: Prepared) -> None:
    given = replace(prepared, region=np.ones(prepared.grid.shape, bool), ignore_above=7, missing=("t2",), fold=2)
    same = regrid(given, (None, *given.grid.spacing_mm[1:]))
    assert np.array_equal(same.image, given.image) and np.array_equal(same.labels, given.labels)
    assert same.ignore_above == 7 and same.missing == ("t2",) and same.fold == 2
    assert same.region is None and given.region is not None
    bare = regrid(replace(given, labels=None, occupancy=None), (None, 2.5, 2.5))
    assert bare.labels is None and bare.occupancy is None


def test_a_channel_of_one_value_counts_as_missing_and_a_case_of_such_channels_is_refused() -> None:
    image, _ = scene()
    case = case_of(image, None, canonical(SPACING_MM, SHAPE))
    flat = np.full_like(case.volume.array[0], 7)
    two = replace(case.volume, array=np.stack([case.volume.array[0], flat]), channels=("t2", "fat"))
    found = prepare(replace(case, volume=two), CONFIG, True, ("fat", "t2", "wat"))
    assert found.missing == ("fat", "wat") and not found.image[0].any() and found.image[1].any()
    assert any("channel fat: has one value everywhere" in warning for warning in found.warnings)
    empty = replace(case, volume=replace(two, array=np.stack([flat, np.full_like(flat, np.nan)])))
    with pytest.raises(CaseError, match="case x: channel t2, fat shows nothing: one value everywhere"):
        prepare(empty, CONFIG, True)


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "words"),
    [
        ((4.4, 0.7, 0.7), (12, 100, 100), ""),
        ((8.0, 0.7, 0.7), (5, 100, 100), "thick slices of 8.0 mm, resampled to 2.0 mm"),
        ((0.5, 4.0, 0.5), (200, 20, 200), "axial slices of 4.0 mm, reformatted to sagittal ones of 2.0 mm"),
        ((0.5, 0.5, 4.0), (200, 200, 20), "coronal slices of 4.0 mm, reformatted to sagittal ones of 2.0 mm"),
        ((4.0, 1.0, 1.0), (1, 50, 50), "a single sagittal slice"),
    ],
)
def test_slices_in_another_plane_thick_ones_and_a_single_one_are_remarked(
    spacing_mm: tuple[float, float, float], shape: tuple[int, int, int], words: str
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    warnings = prepare(case_of(values, None, canonical(spacing_mm, shape)), CONFIG, True).warnings
    assert len(warnings) == bool(words) and all(f"case x: {words}" in warning for warning in warnings)


def test_a_field_of_view_that_would_take_too_many_voxels_is_refused() -> None:
    grid = canonical((90.0, 90.0, 90.0), (20, 20, 20))
    with pytest.raises(CaseError, match=r"case x: its field of view of 1800 x 1800 x 1800 mm would take 900 x 1440"):
        prepare(case_of(np.arange(8000).reshape(20, 20, 20), None, grid), CONFIG, True)
