"""FreeSurfer's images."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.imaging.files import read_channel, read_labels
from ivdjax.imaging.files.mgh import read
from ivdjax.volume import CaseError

ARRAY = np.random.default_rng(0).integers(0, 250, (7, 6, 4)).astype(np.int16)
TURN = np.array([[0.0, 0.1, 1.0], [-1.0, 0, 0], [0, -1.0, 0.1]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = np.linalg.qr(TURN)[0] * np.array([1.0, 1.5, 3.0])
AFFINE[:3, 3] = (-5, 2, 8)


def store(path: Path, array: np.ndarray = ARRAY, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.MGHImage(array, affine), path)
    return path


def damaged(path: Path, at: int, content: bytes) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])
    return path


@pytest.mark.parametrize("name", ["x.mgz", "x.mgh", "x.MGZ"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_an_image_is_read_as_the_same_one_in_nifti(tmp_path: Path, name: str, kind: type) -> None:
    path = store(tmp_path / name.lower(), ARRAY.astype(kind)).rename(tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(ARRAY.astype(kind), AFFINE), tmp_path / "one.nii")
    array, affine, native = read_channel(path, "x")
    expected, expected_affine, expected_native = read_channel(tmp_path / "one.nii", "x")
    assert array.dtype.isnative and array.dtype == kind and np.array_equal(array, expected)
    assert np.allclose(affine, expected_affine, atol=1e-4) and native.shape == expected_native.shape
    assert np.allclose(native.affine, AFFINE, atol=1e-4)


def test_labels(tmp_path: Path) -> None:
    labels = (ARRAY % 8).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), tmp_path / "one.nii")
    found = read_labels(store(tmp_path / "x.mgz", labels), "x")
    assert np.array_equal(found.array, read_labels(tmp_path / "one.nii", "x").array)


def test_without_an_orientation_it_is_refused(tmp_path: Path) -> None:
    path = damaged(store(tmp_path / "x.mgh"), 28, b"\0\0")
    with pytest.raises(CaseError, match="^case x: [^:]*x.mgh stores no orientation .*goodRASFlag is 0"):
        read(path, "x")


@pytest.mark.parametrize(
    ("at", "content", "words"),
    [
        (0, b"\0\0\0\2", "cannot be read as MGH"),
        (4, b"\0\0\x75\x30" * 3, "is it damaged"),
        (4, b"\x7f\xff\xff\xff" * 3, "is it damaged"),
        (4, b"\0\0\1\0" * 3, "more than the file can hold"),
        (4, b"\0\0\0\0", "an axis without voxels"),
        (4, b"\xff\xff\xff\xff", "an axis without voxels"),
        (16, b"\0\0\0\2", "several frames"),
        (20, b"\0\0\0\x63", "cannot be read as MGH"),
        (30, b"\0\0\0\0", "must be 0.01 to 100 mm"),
        (30, b"\x7f\xc0\0\0", "is not finite"),
    ],
)
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, at: int, content: bytes, words: str) -> None:
    path = damaged(store(tmp_path / "x.mgh"), at, content)
    with pytest.raises(CaseError, match=f"case x: .*x.mgh.*{words}"):
        read(path, "x")


def test_files_that_are_cut_or_too_long_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "x.mgh")
    content = (tmp_path / "x.mgh").read_bytes()
    end = 284 + ARRAY.nbytes
    for name, other in (
        ("a.mgh", content[: end - 1]),
        ("b.mgh", content[:100]),
        ("c.mgz", gzip.compress(content[: end - 1])),
        ("d.mgz", gzip.compress(content)[:-20]),
        ("e.mgz", b"no image " * 100),
    ):
        (tmp_path / name).write_bytes(other)
        with pytest.raises(
            CaseError, match=f"{name} cannot be read as MGH, it is truncated, damaged or another format"
        ):
            read(tmp_path / name, "x")
    (tmp_path / "f.mgh").write_bytes(content[:end])  # what follows the voxels may be left out
    assert np.array_equal(read(tmp_path / "f.mgh", "x").array, ARRAY)
    (tmp_path / "g.mgh").write_bytes(content + b"\0" * 2_000_000)
    with pytest.raises(CaseError, match="^case x: [^:]*g.mgh holds far more data"):
        read(tmp_path / "g.mgh", "x")
    store(tmp_path / "h.mgz", np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(CaseError, match="no finite value"):
        read(tmp_path / "h.mgz", "x")
