"""NIfTI's own traps: intensity scales, two affines, damaged files."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.imaging.files.nifti import encoded, read
from ivdjax.volume import CaseError

ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def store(path: Path, array: np.ndarray = ARRAY, affine: np.ndarray | None = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def test_nifti_1_and_2_and_gzip(tmp_path: Path) -> None:
    for kind, name in (
        (nibabel.Nifti1Image, "a.nii"),
        (nibabel.Nifti2Image, "b.nii"),
        (nibabel.Nifti2Image, "c.nii.gz"),
    ):
        nibabel.save(kind(ARRAY, AFFINE), tmp_path / name)
        image = read(tmp_path / name, "x")
        assert np.array_equal(image.array, ARRAY) and np.allclose(image.affine, AFFINE)
        assert image.remarks == () and image.grid.shape == (3, 4, 5)


def test_the_content_tells_whether_a_file_is_compressed(tmp_path: Path) -> None:
    store(tmp_path / "x.nii").rename(tmp_path / "plain.nii.gz")
    store(tmp_path / "x.nii.gz").rename(tmp_path / "compressed.nii")
    for name in ("plain.nii.gz", "compressed.nii"):
        assert np.array_equal(read(tmp_path / name, "x").array, ARRAY)


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "x.nii.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(CaseError, match="truncated, damaged or another format: .*its checksum is wrong"):
        read(path, "x")


def test_big_endian_files_come_in_native_order(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, AFFINE, header=nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "x.nii")
    found = read(tmp_path / "x.nii", "x").array
    assert found.dtype.isnative and np.array_equal(found, ARRAY)


def test_intensity_scale_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, AFFINE)
    image.header.set_slope_inter(0.5, -10.0)
    nibabel.save(image, tmp_path / "x.nii")
    stored = np.asarray(nibabel.load(tmp_path / "x.nii").dataobj.get_unscaled())
    assert np.allclose(read(tmp_path / "x.nii", "x").array, stored * 0.5 - 10.0)


def test_the_sform_is_preferred_and_a_difference_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, AFFINE)
    other = AFFINE.copy()
    other[0, 3] = 25.0
    image.set_sform(AFFINE, code=1)
    image.set_qform(other, code=1)
    nibabel.save(image, tmp_path / "x.nii")
    found = read(tmp_path / "x.nii", "x")
    assert np.allclose(found.affine, AFFINE)
    assert len(found.remarks) == 1 and "25.0 mm" in found.remarks[0]


def test_the_qform_stands_in_for_a_missing_or_singular_sform(tmp_path: Path) -> None:
    for sform, code, remarks in ((AFFINE, 0, 0), (np.diag([1.0, 1.0, 0.0, 1.0]), 1, 1)):
        image = nibabel.Nifti1Image(ARRAY, AFFINE)
        image.set_qform(AFFINE, code=1)
        image.set_sform(sform, code=code)
        nibabel.save(image, tmp_path / "x.nii")
        found = read(tmp_path / "x.nii", "x")
        assert np.allclose(found.affine, AFFINE) and len(found.remarks) == remarks


def test_no_orientation_at_all_is_told(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    nibabel.save(image, tmp_path / "x.nii")
    assert "no sound orientation" in read(tmp_path / "x.nii", "x").remarks[0]


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    assert read(store(tmp_path / "x.nii", ARRAY[..., None, None]), "x").array.shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY[0], "2D image"),
        (np.stack([ARRAY, ARRAY], axis=-1), r"several frames, shape \(3, 4, 5, 2\)"),
        (np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds colors"),
        (ARRAY.astype(np.complex64), "complex values"),
        (np.full((3, 4, 5), np.nan, np.float32), "no finite value"),
    ],
)
def test_what_is_no_volume_of_gray_values_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = store(tmp_path / "x.nii.gz", array)
    with pytest.raises(CaseError, match=message) as caught:
        read(path, "x")
    assert "case x" in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "singular"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (np.diag([1e-4, 1e-4, 1e-4, 1.0]), "not in millimetres"),
        (np.diag([np.nan, 1.0, 1.0, 1.0]), "not finite"),
    ],
)
def test_impossible_geometry_is_refused(tmp_path: Path, affine: np.ndarray, message: str) -> None:
    path = store(tmp_path / "x.nii")
    content = bytearray(path.read_bytes())
    content[252:254] = np.int16(0).tobytes()  # qform_code
    content[280:328] = affine[:3].astype("<f4").tobytes()  # srow_x, srow_y, srow_z
    path.write_bytes(content)
    with pytest.raises(CaseError, match=message):
        read(tmp_path / "x.nii", "x")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, name: str, keep: float) -> None:
    content = store(tmp_path / name, np.random.default_rng(0).integers(0, 255, (9, 9, 9)).astype(np.uint8)).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CaseError, match="is empty" if keep == 0 else "truncated, damaged or another format"):
        read(tmp_path / name, "x")


def test_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nii").write_text("no image " * 100)
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no image " * 100))
    nibabel.save(nibabel.MGHImage(ARRAY.astype(np.float32), AFFINE), tmp_path / "other.mgz")
    (tmp_path / "other.mgz").rename(tmp_path / "other.nii.gz")
    for name in ("text.nii", "text.nii.gz", "other.nii.gz"):
        with pytest.raises(CaseError, match=f"case x: .*{name}"):
            read(tmp_path / name, "x")
    with pytest.raises(CaseError, match="no file"):
        read(tmp_path / "absent.nii.gz", "x")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(CaseError, match="cannot be read"):
        read(tmp_path / "folder.nii", "x")


def test_a_header_that_claims_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = store(tmp_path / "x.nii")
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(CaseError, match="is it damaged"):
        read(path, "x")


def test_encoded_bytes_are_a_gzipped_file(tmp_path: Path) -> None:
    content = encoded(ARRAY, AFFINE)
    (tmp_path / "x.nii.gz").write_bytes(content)
    image = read(tmp_path / "x.nii.gz", "x")
    assert np.array_equal(image.array, ARRAY) and image.array.dtype == ARRAY.dtype
    assert np.allclose(image.affine, AFFINE)
    assert encoded(ARRAY, AFFINE) == content
