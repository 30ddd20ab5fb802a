"""Images in two files: NIfTI pairs are read, Analyze 7.5 is not."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.imaging.files import read_channel, read_labels
from ivdjax.imaging.files.nifti_pair import has_header, read, voxel_files
from ivdjax.imaging.files.source import source_files, source_sha256
from ivdjax.volume import CaseError

ARRAY = np.random.default_rng(0).integers(-300, 300, (7, 6, 4)).astype(np.int16)
AFFINE = np.array([[0.0, 0, 3.0, -5], [-1.0, 0, 0, 2], [0, -1.5, 0, 8], [0, 0, 0, 1]])


def store(path: Path, kind: type = nibabel.Nifti1Pair, array: np.ndarray = ARRAY) -> Path:
    image = kind(array, AFFINE)
    image.header.set_data_dtype(array.dtype)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.nifti2.Nifti2Pair])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pair_is_read_as_the_same_image_in_one_file(tmp_path: Path, kind: type, order: str) -> None:
    header = kind.header_class(endianness=order)
    header.set_slope_inter(0.5, -10.0)
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"x" * 5000))
    image = kind(ARRAY * 0.5 - 10.0, AFFINE, header)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "x.hdr")
    whole = nibabel.Nifti1Image(np.asarray(nibabel.load(tmp_path / "x.hdr").dataobj), AFFINE)
    nibabel.save(whole, tmp_path / "one.nii")
    for found, expected in zip(
        read_channel(tmp_path / "x.hdr", "x"), read_channel(tmp_path / "one.nii", "x"), strict=True
    ):
        if isinstance(found, np.ndarray):
            assert np.allclose(found, expected)
        else:
            assert found.matches(expected)


def test_either_file_may_be_gzipped_and_have_its_ending_in_capitals(tmp_path: Path) -> None:
    store(tmp_path / "P.1_t2.hdr")
    header, voxels = ((tmp_path / f"P.1_t2.{end}").read_bytes() for end in ("hdr", "img"))
    for number, (first, second) in enumerate(
        ((".hdr", ".img"), (".hdr", ".img.gz"), (".hdr.gz", ".img.gz"), (".hdr.gz", ".img"), (".HDR", ".IMG"))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / f"P.1_t2{first}").write_bytes(gzip.compress(header) if "gz" in first else header)
        (folder / f"P.1_t2{second}").write_bytes(gzip.compress(voxels) if "gz" in second else voxels)
        (folder / "P.1_t2_more.img").write_bytes(b"of another image")
        assert voxel_files(folder / f"P.1_t2{first}") == (folder / f"P.1_t2{second}",)
        assert has_header(folder / f"P.1_t2{second}") and not has_header(folder / "P.1_t2_more.img")
        image = read(folder / f"P.1_t2{first}", "x")
        assert np.array_equal(image.array, ARRAY) and np.allclose(image.affine, AFFINE) and image.remarks == ()


def test_labels(tmp_path: Path) -> None:
    labels = np.abs(ARRAY % 8).astype(np.uint8)
    found = read_labels(store(tmp_path / "x.hdr", array=labels), "x")
    assert found.native is not None and found.native.shape == labels.shape
    assert np.array_equal(found.array, np.transpose(labels, (2, 1, 0))[::-1])


@pytest.mark.parametrize(
    "kind",
    [nibabel.AnalyzeImage, nibabel.Spm99AnalyzeImage, nibabel.Spm2AnalyzeImage],
    ids=["analyze", "spm99", "spm2"],
)
def test_analyze_has_no_orientation(tmp_path: Path, kind: type) -> None:
    store(tmp_path / "x.hdr", kind)
    with pytest.raises(
        CaseError, match="^case x: [^:]*x.hdr is an Analyze 7.5 header, which stores no orientation: .*dcm2niix"
    ):
        read(tmp_path / "x.hdr", "x")
    said: list[str] = []
    read_channel(nibabel.load(tmp_path / "x.hdr"), "x", said.append)
    assert said == ["case x: the image given: an Analyze header stores no orientation; the affine that nibabel holds "
                    "is taken"]  # fmt: skip


def test_voxels_that_are_missing_twice_there_or_of_another_size_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "x.hdr")
    voxels = tmp_path / "x.img"
    content = voxels.read_bytes()
    for other in (content[:-1], content[:40]):
        voxels.write_bytes(other)
        with pytest.raises(CaseError, match=r"x.img cannot be read .*truncated, .*more than the file can hold"):
            read(path, "x")
    voxels.write_bytes(gzip.compress(content[:-2]))
    with pytest.raises(CaseError, match="x.img cannot be read .*truncated"):
        read(path, "x")
    damaged = bytearray(gzip.compress(content))
    damaged[-8] ^= 1
    voxels.write_bytes(damaged)
    with pytest.raises(CaseError, match=r"x.img .*its checksum is wrong"):
        read(path, "x")
    voxels.write_bytes(content + b"\0" * 2_000_000)
    with pytest.raises(CaseError, match="^case x: [^:]*x.img holds far more data than its header states"):
        read(path, "x")
    voxels.write_bytes(b"")
    with pytest.raises(CaseError, match="x.img is empty"):
        read(path, "x")
    (tmp_path / "x.img.gz").write_bytes(gzip.compress(content))
    with pytest.raises(CaseError, match="x.img and x.img.gz can both be the voxels of .*keep one"):
        read(path, "x")
    for other_path in (voxels, tmp_path / "x.img.gz"):
        other_path.unlink()
    with pytest.raises(CaseError, match="x.hdr is a header; its voxels, x.img, must lie beside it"):
        read(path, "x")


def test_other_headers_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "x.hdr")
    whole = nibabel.Nifti1Image(ARRAY, AFFINE).to_bytes()
    path = tmp_path / "x.hdr"
    for content, words in (
        (whole, "is a whole NIfTI file by its content; rename it to .nii"),
        (b"ENVI\nsamples = 7\n", "cannot be read as the header of a NIfTI pair"),
        (path.read_bytes()[:200], "cannot be read as|is an Analyze"),
        (path.read_bytes()[:42] + b"\x30\x75" * 3 + path.read_bytes()[48:], "more than 500000000; is it damaged"),
        (path.read_bytes()[:70] + b"\x80\0\x18\0" + path.read_bytes()[74:], "holds colors"),
    ):
        store(path)
        path.write_bytes(content)
        with pytest.raises(CaseError, match=f"^case x: [^:]*x.hdr[^:]* {words}"):
            read(path, "x")
    with pytest.raises(CaseError, match="no file"):
        read(tmp_path / "absent" / "y.hdr", "x")


def test_the_checksum_is_of_both_files(tmp_path: Path) -> None:
    path = store(tmp_path / "x.hdr")
    assert source_files(path) == (path, tmp_path / "x.img")
    digest = source_sha256(path)
    assert digest != hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "x.img").write_bytes(b"\1" * ARRAY.nbytes)
    assert source_sha256(path) != digest
