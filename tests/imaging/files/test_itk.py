"""MetaImage and NRRD: left-posterior files in a right-anterior world, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files.itk import read, write
from ivdjax.volume import CaseError

ARRAY = np.random.default_rng(0).integers(0, 255, (9, 8, 7)).astype(np.uint8)
OBLIQUE = np.array([[0.0, 0.2, 2.0, 5.0], [-1.0, 0.0, 0.0, 6.0], [0.0, -1.0, 0.4, 7.0], [0.0, 0.0, 0.0, 1.0]])


def test_lps_is_turned_into_ras(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.transpose(ARRAY))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    SimpleITK.WriteImage(image, str(tmp_path / "x.mha"))
    found = read(tmp_path / "x.mha", "x")
    assert np.allclose(found.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
    assert np.array_equal(found.array, ARRAY) and found.remarks == ()


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_round_trip_of_an_oblique_grid(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"x{suffix}", ARRAY, OBLIQUE)
    found = read(tmp_path / f"x{suffix}", "x")
    assert np.array_equal(found.array, ARRAY) and found.array.dtype == np.uint8
    assert np.allclose(found.affine, OBLIQUE, atol=1e-6)


@pytest.mark.parametrize(("suffix", "instead"), [(".mhd", ".mha"), (".nhdr", ".nrrd")])
def test_images_of_two_files_are_read_but_not_written(tmp_path: Path, suffix: str, instead: str) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.transpose(ARRAY)), str(tmp_path / f"x{suffix}"))
    assert np.array_equal(read(tmp_path / f"x{suffix}", "x").array, ARRAY)
    with pytest.raises(ValueError, match=f"two files.*write {instead}"):
        write(tmp_path / f"y{suffix}", ARRAY, OBLIQUE)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1)),
     ("left-anterior-superior", (-1, 1, 1))],
)  # fmt: skip
def test_nrrd_in_several_spaces_as_another_library_writes_it(
    tmp_path: Path, space: str, signs: tuple[int, ...], detached: bool
) -> None:
    nrrd = pytest.importorskip("nrrd")
    header = {"space": space, "space directions": OBLIQUE[:3, :3].T, "space origin": OBLIQUE[:3, 3], "encoding": "raw"}
    path = tmp_path / ("x.nhdr" if detached else "x.nrrd")
    nrrd.write(str(path), ARRAY, header)
    found = read(path, "x")
    assert np.array_equal(found.array, ARRAY)
    assert np.allclose(found.affine, np.diag([*signs, 1]) @ OBLIQUE)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write(path, ARRAY, OBLIQUE)
    content = path.read_bytes()
    for broken in (content[:60], content[:-20], b"no image " * 50):
        path.write_bytes(broken)
        with pytest.raises(CaseError, match=r"case x: .*truncated"):
            read(path, "x")
    path.write_bytes(b"")
    with pytest.raises(CaseError, match="is empty"):
        read(path, "x")
    with pytest.raises(CaseError, match="no file"):
        read(tmp_path / f"absent{suffix}", "x")


def test_what_is_no_volume_of_gray_values_is_refused(tmp_path: Path) -> None:
    cases = {
        "colors": (np.zeros((4, 5, 6, 3), np.uint8), True, "3 values a voxel"),
        "flat": (np.zeros((5, 6), np.uint8), False, "2D image"),
        "frames": (np.zeros((2, 4, 5, 6), np.uint8), False, "several frames"),
        "nothing": (np.full((4, 5, 6), np.nan, np.float32), False, "no finite value"),
    }
    for name, (array, vector, message) in cases.items():
        path = tmp_path / f"{name}.mha"
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=vector), str(path))
        with pytest.raises(CaseError, match=message):
            read(path, "x")


def test_a_fourth_axis_of_one_is_dropped(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.transpose(ARRAY)[None], isVector=False)
    SimpleITK.WriteImage(image, str(tmp_path / "x.nrrd"))
    assert np.array_equal(read(tmp_path / "x.nrrd", "x").array, ARRAY)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mhd", ".nhdr"])
def test_a_single_wrong_bit_in_compressed_voxels_is_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.transpose(ARRAY)), str(path), True)
    assert np.array_equal(read(path, "x").array, ARRAY)
    (voxels,) = [path] if suffix in (".mha", ".nrrd") else [p for p in tmp_path.iterdir() if p != path]
    content = voxels.read_bytes()
    for place in (-1, -5, -40, -200):
        broken = bytearray(content)
        broken[place] ^= 4
        voxels.write_bytes(broken)
        with pytest.raises(CaseError, match="case x: .*(checksum of its voxels is wrong|damaged)"):
            read(path, "x")


def test_a_disk_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    write(tmp_path / "x.mha", ARRAY, OBLIQUE)
    monkeypatch.setattr("ivdjax.imaging.files.itk.read_voxels", fail)
    with pytest.raises(CaseError, match=r"case x: .*x\.mha cannot be read: Input/output error"):
        read(tmp_path / "x.mha", "x")


@pytest.mark.parametrize(
    ("suffix", "header"),
    [
        (".nrrd", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nspacings: 1 2 3\nencoding: raw\n\n"),
        (".mha", "ObjectType = Image\nNDims = 3\nDimSize = 2 3 4\nElementSpacing = 1 2 3\nElementType = MET_UCHAR\n"
                 "ElementDataFile = LOCAL\n"),
    ],
)  # fmt: skip
def test_a_header_without_orientation_is_told(tmp_path: Path, suffix: str, header: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(header.encode() + bytes(range(24)))
    found = read(tmp_path / f"x{suffix}", "x")
    assert found.array.shape == (2, 3, 4) and found.array[1, 2, 3] == 23
    assert found.remarks == (
        f"x{suffix} stores no orientation; its axes are taken to run to left, posterior and superior",
    )
