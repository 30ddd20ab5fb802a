"""The dataset's layout, and the traps of real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from ivdjax.config import DataConfig
from ivdjax.data.datasets import case_name, find_case, find_cases, is_case, read_case
from ivdjax.imaging.files import read_labels
from ivdjax.imaging.files.seg_nrrd import write_seg_nrrd
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.volume import CaseError, UserError

# Canonical directions: d to the left, h to inferior, w to posterior; 2 x 1 x 1 mm.
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 0, -1.0, 20], [0, -1.0, 0, 30], [0, 0, 0, 1]])
SHAPE = (6, 64, 16)


def store(path: Path, array: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def discs(count: int, value: int = 1) -> np.ndarray:
    """A mask of discs of 4 x 4 x 10 voxels, 320 mm3 each, the first at the bottom."""
    mask = np.zeros(SHAPE, np.uint8)
    for n in range(count):
        mask[1:5, 56 - 8 * n : 60 - 8 * n, 3:13] = value
    return mask


def numbered_discs(count: int) -> np.ndarray:
    mask = discs(count)
    for n in range(count):
        mask[:, 56 - 8 * n : 60 - 8 * n] *= n + 1
    return mask


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[2, 3] += mm
    return affine


def test_both_ways_of_naming_and_every_suffix(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_fat.nii.gz"), store(tmp_path / "a" / "a_wat.nii")
    store(tmp_path / "b" / "wat.nii"), store(tmp_path / "b" / "FAT.nii.gz")
    found = find_cases(tmp_path, DataConfig(channels=("wat", "fat")))
    assert [c.name for c in found] == ["a", "b"]
    assert [list(c.channels) for c in found] == [["wat", "fat"]] * 2
    assert [p.name for p in found[1].channels.values()] == ["wat.nii", "FAT.nii.gz"]
    assert all(c.labels is None and c.subject == c.name for c in found)


def test_a_reference_that_was_drawn_in_3d_slicer_goes_by_its_segments_names(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_t2.nii"), store(tmp_path / "labels.nii", numbered_discs(3))
    labels = read_labels(tmp_path / "labels.nii", "a")
    path = tmp_path / "a" / "a_Labels.seg.nrrd"
    write_seg_nrrd(path, labels, disc_segments((1, 2, 3)))
    # As values are shifted there: 1 to 3 become 3, 1, 2.
    array, header = nrrd.read(str(path))
    table = np.array([0, 3, 1, 2], np.uint8)
    header |= {key: str(table[int(value)]) for key, value in header.items() if key.endswith("_LabelValue")}
    nrrd.write(str(path), table[array], header)
    (found,) = find_cases(tmp_path, DataConfig())
    assert found.labels == path
    read = read_case(found, ("t2",)).labels
    assert read is not None and np.array_equal(read.array, labels.array)
    store(tmp_path / "a" / "a_Labels.nii.gz", numbered_discs(3))
    with pytest.raises(CaseError, match="both give labels; keep one"):
        find_cases(tmp_path, DataConfig())
    path.rename(tmp_path / "a" / "a_t2.seg.nrrd")  # a segmentation is never an image
    assert find_cases(tmp_path, DataConfig())[0].ignored == ("a_t2.seg.nrrd",)


def test_labels_lie_beside_the_images_or_in_their_own_folder(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_t2.nii"), store(tmp_path / "a" / "a_Labels.nii.gz")
    store(tmp_path / "b" / "b_t2.nii"), store(tmp_path / "labels" / "b_Labels.nii")
    store(tmp_path / "c" / "t2.nii"), store(tmp_path / "c" / "Labels.nii")
    store(tmp_path / "d" / "t2.nii")
    found = find_cases(tmp_path, DataConfig())
    assert [c.name for c in found] == ["a", "b", "c", "d"]
    assert [c.labels.name if c.labels else None for c in found] == [
        "a_Labels.nii.gz",
        "b_Labels.nii",
        "Labels.nii",
        None,
    ]


def test_folders_without_a_channel_are_no_cases_and_other_files_are_named(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_t2.nii")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / ".hidden").write_text("x")
    (tmp_path / "a" / "._a_t2.nii").write_text("x")
    store(tmp_path / "a" / "a_other.nii")
    (tmp_path / "logs").mkdir()
    (tmp_path / "truth.json").write_text("{}")
    store(tmp_path / "labels" / "z_Labels.nii")
    (only,) = find_cases(tmp_path, DataConfig())
    assert only.ignored == ("a_other.nii", "notes.txt")
    assert any("a_other.nii, notes.txt" in warning for warning in read_case(only, ("t2",)).warnings)
    many = read_case(replace(only, ignored=tuple(f"{n}.txt" for n in range(15)), remarks=("found",)), ("t2",)).warnings
    assert many[0] == "found" and many[1].endswith("10.txt, 11.txt and 3 more")
    assert is_case(tmp_path / "a", ("t2",)) and not is_case(tmp_path / "logs", ("t2",))
    assert not is_case(tmp_path / "truth.json", ("t2",))


def test_a_case_behind_a_link_has_the_links_name_and_files_of_either(tmp_path: Path, monkeypatch) -> None:
    store(tmp_path / "store" / "x17" / "x17_wat.nii"), store(tmp_path / "store" / "x18" / "S02_wat.nii")
    root = tmp_path / "root"
    root.mkdir()
    (root / "S01").symlink_to(tmp_path / "store" / "x17")
    (root / "S02").symlink_to("../store/x18")
    found = find_cases(root, DataConfig(channels=("wat",)))
    assert [(c.name, c.channels["wat"].name) for c in found] == [("S01", "x17_wat.nii"), ("S02", "S02_wat.nii")]
    assert not is_case(tmp_path / "store" / "x18", ("wat",))  # by itself it is called otherwise
    monkeypatch.chdir(root / "S01")
    assert [case_name(Path(p)) for p in (".", "../S02/", "../../root/S01/../S02")] == ["x17", "S02", "S02"]
    assert case_name(root / "S01" / "..") == "store"  # as the system reads it


def test_the_reference_of_a_linked_case_may_bear_either_name(tmp_path: Path) -> None:
    store(tmp_path / "store" / "x17" / "x17_wat.nii")
    store(tmp_path / "root" / "labels" / "x17_Labels.nii")
    (tmp_path / "root" / "S01").symlink_to(tmp_path / "store" / "x17")
    assert find_case(tmp_path / "root" / "S01", ("wat",)).labels == tmp_path / "root" / "labels" / "x17_Labels.nii"
    store(tmp_path / "root" / "labels" / "S01_Labels.nii")
    with pytest.raises(CaseError, match="case S01: S01_Labels.nii and x17_Labels.nii in .* both give labels"):
        find_case(tmp_path / "root" / "S01", ("wat",))


def test_one_folder_under_two_names_is_refused(tmp_path: Path) -> None:
    store(tmp_path / "x17" / "wat.nii")
    (tmp_path / "alias").symlink_to("x17")
    with pytest.raises(UserError, match="alias and .*x17 are one folder under two names; remove one of them"):
        find_cases(tmp_path, DataConfig(channels=("wat",)))


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_wat.nii")
    with pytest.raises(CaseError, match=r"case a: no file for channel fat in .*a_fat\.nii\.gz.*found a_wat\.nii"):
        find_cases(tmp_path, DataConfig(channels=("wat", "fat")))
    with pytest.raises(CaseError, match="no file for channel fat"):
        read_case(find_case(tmp_path / "a", ("wat",)), ("wat", "fat"))


def test_two_files_for_one_channel_or_reference_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_t2.nii"), store(tmp_path / "a" / "t2.nii.gz")
    with pytest.raises(CaseError, match=r"case a: a_t2\.nii and t2\.nii\.gz both give t2"):
        find_case(tmp_path / "a", ("t2",))
    store(tmp_path / "b" / "t2.nii")
    store(tmp_path / "labels" / "b_Labels.nii"), store(tmp_path / "labels" / "b_labels.nii.gz")
    with pytest.raises(CaseError, match="both give labels"):
        find_case(tmp_path / "b", ("t2",))


def test_unusable_roots_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none at"):
        find_cases(tmp_path / "absent", DataConfig())
    with pytest.raises(UserError, match="no case in"):
        find_cases(tmp_path, DataConfig())
    with pytest.raises(CaseError, match="case absent: there is no folder"):
        find_case(tmp_path / "absent", ("t2",))
    store(tmp_path / "a" / "a_Labels.nii")
    with pytest.raises(UserError, match="never a channel"):
        find_cases(tmp_path, DataConfig(channels=("Labels",)))


def test_subjects_from_a_pattern(tmp_path: Path) -> None:
    for name in ("07_one", "07_two", "08_one"):
        store(tmp_path / name / "t2.nii")
    found = find_cases(tmp_path, DataConfig(subject_pattern=r"^(\d+)_"))
    assert [c.subject for c in found] == ["07", "07", "08"]
    for pattern, message in ((r"^(\d", "not a regular expression"), (r"^\d+", "first group"), (r"^(x)", "case 07_one")):
        with pytest.raises(UserError, match=message):
            find_cases(tmp_path, DataConfig(subject_pattern=pattern))


def test_subjects_from_a_table(tmp_path: Path) -> None:
    for name in ("01", "02"):
        store(tmp_path / name / "t2.nii")
    (tmp_path / "s.csv").write_text("case,subject,fold\n01,ann,0\n02,ann,0\n99,zoe,1\n")
    for path in (str(tmp_path / "s.csv"), "s.csv"):
        found = find_cases(tmp_path, DataConfig(subject_table=path))
        assert [(c.subject, c.fold) for c in found] == [("ann", 0), ("ann", 0)]
    with pytest.raises(UserError, match="exclude each other"):
        find_cases(tmp_path, DataConfig(subject_table="s.csv", subject_pattern="(.)"))
    (tmp_path / "s.csv").write_text("case,subject\n01,ann\n")
    with pytest.raises(UserError, match="no subject for case 02"):
        find_cases(tmp_path, DataConfig(subject_table="s.csv"))


def test_binary_masks_are_numbered_from_the_lowest(tmp_path: Path) -> None:
    store(tmp_path / "a" / "t2.nii")
    for value in (1, 255):
        store(tmp_path / "a" / "Labels.nii", discs(7, value))
        case = read_case(find_case(tmp_path / "a", ("t2",)), ("t2",))
        assert case.labels is not None and case.labels.levels == (1, 2, 3, 4, 5, 6, 7)
        assert np.array_equal(case.labels.array, numbered_discs(7)) and case.warnings == ()


def test_another_count_than_seven_is_told(tmp_path: Path) -> None:
    mask = discs(5)
    mask[0, 0:2, 0:2] = 1  # 8 mm3: no disc
    store(tmp_path / "a" / "t2.nii"), store(tmp_path / "a" / "Labels.nii", mask)
    case = read_case(find_case(tmp_path / "a", ("t2",)), ("t2",))
    assert case.labels is not None and np.array_equal(case.labels.array, numbered_discs(5))
    assert "case a" in case.warnings[0] and "of 5 discs" in case.warnings[0]
    assert "8 mm3" in case.warnings[1]


def test_a_reference_on_another_grid_is_brought_to_the_image(tmp_path: Path) -> None:
    # Same voxels, other affine: the reference lies 3 mm higher in space, three rows of the image.
    store(tmp_path / "a" / "t2.nii"), store(tmp_path / "a" / "Labels.nii", numbered_discs(7), moved(3.0))
    case = read_case(find_case(tmp_path / "a", ("t2",)), ("t2",))
    assert case.labels is not None
    assert np.array_equal(case.labels.array[:, :-3], numbered_discs(7)[:, 3:])
    assert case.labels.grid.matches(case.volume.grid) and case.labels.native is case.volume.native
    (warning,) = case.warnings
    assert "case a" in warning and "3.0 mm" in warning and "nearest neighbour" in warning


def test_a_reference_in_another_axis_order_is_the_same_grid(tmp_path: Path) -> None:
    flipped = AFFINE @ np.array([[1.0, 0, 0, 0], [0, -1, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    store(tmp_path / "a" / "t2.nii"), store(tmp_path / "a" / "Labels.nii", numbered_discs(7)[:, ::-1], flipped)
    case = read_case(find_case(tmp_path / "a", ("t2",)), ("t2",))
    assert case.labels is not None and np.array_equal(case.labels.array, numbered_discs(7)) and case.warnings == ()


def test_a_reference_of_another_place_is_refused(tmp_path: Path) -> None:
    store(tmp_path / "a" / "t2.nii"), store(tmp_path / "a" / "Labels.nii", numbered_discs(7), moved(500.0))
    with pytest.raises(CaseError, match=r"case a: no label of Labels\.nii lies within the image.*500\.0 mm"):
        read_case(find_case(tmp_path / "a", ("t2",)), ("t2",))


def test_a_partial_case_has_the_channels_that_exist_in_the_order_asked_for(tmp_path: Path) -> None:
    channels = ("fat", "inn", "wat")
    store(tmp_path / "a" / "a_wat.nii", numbered_discs(7)), store(tmp_path / "a" / "fat.nii", discs(2))
    files = find_case(tmp_path / "a", channels, partial=True)
    assert list(files.channels) == ["fat", "wat"]
    case = read_case(files, channels, partial=True)
    assert case.volume.channels == ("fat", "wat") and case.volume.array.max(axis=(1, 2, 3)).tolist() == [1, 7]
    with pytest.raises(CaseError, match="no file for channel inn"):
        find_case(tmp_path / "a", channels)
    with pytest.raises(CaseError, match="no file for channel inn"):
        read_case(files, channels)


def test_a_partial_case_needs_one_channel(tmp_path: Path) -> None:
    store(tmp_path / "a" / "a_Labels.nii")
    with pytest.raises(CaseError, match="no file for channel fat, wat"):
        find_case(tmp_path / "a", ("fat", "wat"), partial=True)
    store(tmp_path / "a" / "a_t2.nii")
    with pytest.raises(CaseError, match="no file for channel fat, wat"):
        read_case(find_case(tmp_path / "a", ("t2",)), ("fat", "wat"), partial=True)


def test_voxels_in_a_file_of_their_own_are_no_other_file(tmp_path: Path) -> None:
    labels = numbered_discs(3)
    folder = tmp_path / "a"
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Pair(labels.astype(np.int16), AFFINE), folder / "a_t2.hdr")
    nibabel.save(nibabel.Nifti1Pair(labels, AFFINE), folder / "a_Labels.hdr")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels), str(folder / "a_wat.mhd"))
    (folder / "a_fat.img").write_bytes(b"without a header")
    found = find_case(folder, ("t2", "wat"))
    assert sorted(path.name for path in found.channels.values()) == ["a_t2.hdr", "a_wat.mhd"]
    assert found.labels == folder / "a_Labels.hdr" and found.ignored == ("a_fat.img",)
    case = read_case(replace(found, channels={"t2": folder / "a_t2.hdr"}, ignored=()), ("t2",))
    assert case.labels is not None and sorted(set(case.labels.array.ravel())) == [0, 1, 2, 3] and case.warnings == ()
