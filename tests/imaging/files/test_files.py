"""Reading and writing through the one door, whatever the format."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files import (
    IMAGE_SUFFIXES,
    read_channel,
    read_labels,
    read_volume,
    split_suffix,
    write_labels,
    write_volume,
)
from ivdjax.volume import CaseError, LabelMap

# A file in the order anterior to posterior, superior to inferior, left to right, as sagittal scanners store it.
SHAPE = (7, 6, 4)
AFFINE = np.array([[0.0, 0, 3.0, -5], [-1.0, 0, 0, 2], [0, -1.5, 0, 8], [0, 0, 0, 1]])
ARRAY = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.int16)


def store(path: Path, array: np.ndarray = ARRAY, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 3] += mm
    return affine


def test_split_suffix() -> None:
    assert split_suffix(Path("a/018_t2.nii.gz")) == ("018_t2", ".nii.gz")
    assert split_suffix(Path("a/x.y.NII")) == ("x.y", ".nii")
    assert split_suffix(Path("a/notes.txt")) == ("notes.txt", "")
    assert {".nii", ".nii.gz", ".mha", ".nrrd"} <= set(IMAGE_SUFFIXES)


def test_read_channel_is_canonical(tmp_path: Path) -> None:
    array, affine, native = read_channel(store(tmp_path / "x.nii"), "x")
    assert array.shape == (4, 6, 7) and array.dtype == np.int16
    # d rises to the left: it is the file's third axis, which runs to the right, reversed.
    assert np.array_equal(array, np.transpose(ARRAY, (2, 1, 0))[::-1])
    assert np.allclose(affine[:3, 3], [4, 2, 8])
    assert native.shape == SHAPE and np.allclose(native.affine, AFFINE)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_every_format_gives_the_same(tmp_path: Path, suffix: str) -> None:
    # Written by SimpleITK from an LPS description of the same geometry.
    image = SimpleITK.GetImageFromArray(np.transpose(ARRAY))
    image.SetSpacing((1.0, 1.5, 3.0))
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    image.SetOrigin((5.0, -2.0, 8.0))
    SimpleITK.WriteImage(image, str(tmp_path / f"x{suffix}"))
    array, affine, native = read_channel(tmp_path / f"x{suffix}", "x")
    expected, expected_affine, _ = read_channel(store(tmp_path / "reference.nii"), "x")
    assert np.array_equal(array, expected)
    assert np.allclose(affine, expected_affine, atol=1e-5)
    assert np.allclose(native.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_labels_written_come_back_on_the_files_own_grid(tmp_path: Path, suffix: str) -> None:
    labels = read_labels(store(tmp_path / "x.nii", (ARRAY % 8).astype(np.uint8)), "x")
    write_labels(tmp_path / f"out{suffix}", labels)
    again = read_labels(tmp_path / f"out{suffix}", "x")
    assert np.array_equal(again.array, labels.array) and again.array.dtype == np.uint8
    assert again.native is not None and again.native.shape == SHAPE
    assert np.allclose(again.native.affine, AFFINE, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_written_nifti_has_the_files_order_type_and_geometry(tmp_path: Path) -> None:
    labels = read_labels(store(tmp_path / "x.nii", (ARRAY % 8).astype(np.uint8)), "x")
    write_labels(tmp_path / "out.nii.gz", labels)
    image = nibabel.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj), ARRAY % 8)
    assert np.allclose(image.get_sform(), AFFINE) and np.allclose(image.get_qform(), AFFINE, atol=1e-5)


def test_sheared_geometry_has_no_misleading_qform(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[1, 1] = 0.4
    labels = read_labels(store(tmp_path / "x.nii", (ARRAY % 8).astype(np.uint8), sheared), "x")
    write_labels(tmp_path / "out.nii", labels)
    image = nibabel.load(tmp_path / "out.nii")
    assert np.allclose(image.affine, sheared) and int(image.header["qform_code"]) == 0


def test_probabilities_are_stored_as_float(tmp_path: Path) -> None:
    array, _, native = read_channel(store(tmp_path / "x.nii"), "x")
    write_volume(tmp_path / "p.nii.gz", (array / 200).astype(np.float32), native)
    again, _, _ = read_channel(tmp_path / "p.nii.gz", "x")
    assert again.dtype == np.float32 and np.allclose(again, array / 200)


def test_labels_without_a_native_grid_are_written_as_they_are(tmp_path: Path) -> None:
    labels = read_labels(store(tmp_path / "x.nii", (ARRAY % 8).astype(np.uint8)), "x")
    write_labels(tmp_path / "out.nii", LabelMap(labels.array, labels.affine))
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "out.nii").dataobj), labels.array)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    labels = read_labels(store(tmp_path / "x.nii", (ARRAY % 8).astype(np.uint8)), "x")
    (tmp_path / "out.nii").write_bytes(b"old")
    with pytest.raises(ValueError, match="to fit the file's grid"):
        write_labels(tmp_path / "out.nii", LabelMap(labels.array[:2], labels.affine, labels.native))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.nii", "x.nii"]
    assert (tmp_path / "out.nii").read_bytes() == b"old"


def test_unwritable_endings_are_refused(tmp_path: Path) -> None:
    labels = LabelMap(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="must end in one of"):
        write_labels(tmp_path / "x.txt", labels)
    with pytest.raises(ValueError, match=r"write \.mha"):
        write_labels(tmp_path / "x.mhd", labels)


def test_channels_are_stacked_in_order(tmp_path: Path) -> None:
    paths = {"wat": store(tmp_path / "w.nii"), "fat": store(tmp_path / "f.nii", ARRAY * 2)}
    remarks: list[str] = []
    volume = read_volume(paths, "x", remarks.append)
    assert volume.channels == ("wat", "fat") and volume.array.dtype == np.float32
    assert np.array_equal(volume.array[1], volume.array[0] * 2)
    assert volume.native is not None and volume.native.shape == SHAPE
    assert remarks == []
    with pytest.raises(ValueError, match="at least one channel"):
        read_volume({}, "x")


def test_channels_in_another_axis_order_need_no_resampling(tmp_path: Path) -> None:
    flipped = AFFINE.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 3] = (AFFINE @ [6, 0, 0, 1])[:3]
    paths = {"wat": store(tmp_path / "w.nii"), "fat": store(tmp_path / "f.nii", ARRAY[::-1], flipped)}
    remarks: list[str] = []
    volume = read_volume(paths, "x", remarks.append)
    assert np.array_equal(volume.array[0], volume.array[1]) and remarks == []


def test_a_channel_slightly_off_is_resampled_and_told(tmp_path: Path) -> None:
    # Moved by exactly one voxel to anterior: what was voxel w is now at w - 1 of the first channel.
    paths = {"wat": store(tmp_path / "w.nii"), "fat": store(tmp_path / "f.nii", ARRAY, moved(1.0))}
    remarks: list[str] = []
    volume = read_volume(paths, "x", remarks.append)
    assert np.allclose(volume.array[1][:, :, :-1], volume.array[0][:, :, 1:], atol=1e-3)
    assert len(remarks) == 1 and "case x" in remarks[0] and "f.nii" in remarks[0] and "1.0 mm" in remarks[0]


def test_a_channel_of_another_resolution_is_resampled(tmp_path: Path) -> None:
    coarse = AFFINE @ np.diag([2.0, 1, 1, 1])
    coarse[:3, 3] += AFFINE[:3, 0] / 2
    array = np.repeat(np.arange(4.0), 24).reshape(4, 6, 4)
    fine = np.repeat(array, 2, axis=0)
    paths = {"wat": store(tmp_path / "w.nii", fine), "fat": store(tmp_path / "f.nii", array, coarse)}
    remarks: list[str] = []
    volume = read_volume(paths, "x", remarks.append)
    assert volume.array.shape == (2, 4, 6, 8) and len(remarks) == 1
    assert np.abs(volume.array[1] - volume.array[0]).max() <= 0.26


def test_a_channel_elsewhere_is_refused(tmp_path: Path) -> None:
    paths = {"wat": store(tmp_path / "w.nii"), "fat": store(tmp_path / "f.nii", ARRAY, moved(6.0))}
    with pytest.raises(CaseError, match=r"case x: channel fat \(f.nii\) lies up to 6.0 mm off channel wat"):
        read_volume(paths, "x")


def test_unknown_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"case x: .*notes\.txt must end in"):
        read_channel(tmp_path / "notes.txt", "x")


def test_labels_must_be_whole_small_and_positive(tmp_path: Path) -> None:
    def labels_of(array: np.ndarray) -> LabelMap:
        return read_labels(store(tmp_path / "x.nii", array), "x")

    whole = labels_of((ARRAY % 8).astype(np.float32))
    assert whole.array.dtype == np.uint8 and whole.levels == (1, 2, 3, 4, 5, 6, 7)
    assert labels_of(np.where(ARRAY > 100, 3000, 0).astype(np.int16)).levels == (1,)
    assert labels_of(np.where(ARRAY > 100, 255, 0).astype(np.uint8)).levels == (255,)
    with pytest.raises(CaseError, match="whole numbers"):
        labels_of(np.full(SHAPE, 0.5, np.float32))
    with pytest.raises(CaseError, match="0 or above, not -1"):
        labels_of(np.full(SHAPE, -1, np.int16))
    with pytest.raises(CaseError, match="go up to 300"):
        labels_of(np.where(ARRAY > 100, 300, 2).astype(np.int16))
