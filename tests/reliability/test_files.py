"""Files of every bad and odd kind, each as a case of one cohort: what is refused, what is mended and what is said."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files import read_labels
from ivdjax.inference.infer import infer
from ivdjax.inference.inputs import InputCase, find_inputs
from ivdjax.inference.request import InferenceRequest
from tests.dicom_series import sagittal_affine, write_series
from tests.untrained_model import write_untrained

# The file's axes run to posterior, inferior and left.
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
IMAGE = np.rint(np.random.default_rng(0).normal(100, 20, (40, 24, 6))).astype(np.int16)
HUGE = (3000, 3000, 1200)  # 1.08e10 voxels


def image_of(array: np.ndarray = IMAGE, affine: np.ndarray | None = AFFINE) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(array, affine)


def nifti(array: np.ndarray = IMAGE, affine: np.ndarray | None = AFFINE) -> bytes:
    return image_of(array, affine).to_bytes()


def edited(fields: dict[int, bytes], content: bytes | None = None) -> bytes:
    """An image's bytes with others in some places of its header (see nifti1.h)."""
    changed = bytearray(content or nifti())
    for place, value in fields.items():
        changed[place : place + len(value)] = value
    return bytes(changed)


def in_units(unit: str, factor: float) -> bytes:
    """The image with lengths in another unit, and in its own numbers a factor as long."""
    image = image_of(affine=np.diag([factor, factor, factor, 1.0]) @ AFFINE)
    image.header.set_xyzt_units(unit)
    return image.to_bytes()


def sizes(shape: tuple[int, ...]) -> dict[int, bytes]:
    return {42: np.array(shape, "<i2").tobytes()}


def forms(sform: np.ndarray, qform: np.ndarray) -> bytes:
    image = image_of()
    image.set_sform(sform, 1)
    image.set_qform(qform, 1)
    return image.to_bytes()


def scaled() -> bytes:
    image = image_of()
    image.header.set_slope_inter(0.5, -10.0)
    return image.to_bytes()


def through_itk(array: np.ndarray, path: Path, vector: bool = False) -> None:
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    if array.shape == IMAGE.shape[::-1]:
        image.SetSpacing((2.0, 3.0, 4.0))
        image.SetDirection((0, 0, 1, 1, 0, 0, 0, -1, 0))
    SimpleITK.WriteImage(image, str(path), True)


def itk_cut(path: Path) -> None:
    through_itk(IMAGE.T, path)
    path.write_bytes(path.read_bytes()[:-300])


def damaged_slice(folder: Path) -> None:
    paths = write_series(folder, np.arange(240, dtype=np.uint16).reshape(8, 6, 5), sagittal_affine())
    paths[2].write_bytes(paths[2].read_bytes()[:-40])


def itk_bit(path: Path) -> None:
    through_itk(IMAGE.T, path)
    content = bytearray(path.read_bytes())
    content[-300] ^= 1
    path.write_bytes(content)


MOVED, UPSIDE_DOWN = AFFINE.copy(), AFFINE @ np.diag([1.0, -1, 1, 1])
MOVED[0, 3] = 25.0
NRRD_HEADER = "NRRD0004\ntype: {}\ndimension: 3\nspace: left-posterior-superior\nsizes: {}\n" \
              "space directions: (0,1,0) (0,0,-1) (1,0,0)\nencoding: {}\nendian: little\n\n"  # fmt: skip
MHA_HEADER = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = False\nDimSize = {}\n" \
             "ElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"  # fmt: skip

Content = bytes | Callable[[Path], object]
"""A file's bytes, or what writes it."""

REFUSED: dict[str, tuple[str, Content, str]] = {
    "empty": (".nii.gz", b"", "is empty"),
    "cut": (".nii.gz", gzip.compress(nifti())[:4000], "truncated"),
    "cut_plain": (".nii", nifti()[:-100], "truncated"),
    "checksum": (".nii.gz", edited({-8: b"\1\2\3\4"[:4]}, gzip.compress(nifti())), "checksum is wrong"),
    "text": (".nii.gz", b"no image " * 100, "another format"),
    "packed_text": (".nii.gz", gzip.compress(b"no image " * 100), "another format"),
    "flat": (".nii.gz", nifti(IMAGE[0]), "2D image"),
    "frames": (".nii.gz", nifti(np.stack([IMAGE] * 3, -1)), "several frames, shape (40, 24, 6, 3)"),
    "all_nan": (".nii.gz", nifti(np.full(IMAGE.shape, np.nan, np.float32)), "no finite value"),
    "all_inf": (".nii.gz", nifti(np.full(IMAGE.shape, np.inf, np.float32)), "no finite value"),
    "all_zero": (".nii.gz", nifti(IMAGE * 0), "channel t2 shows nothing: one value everywhere"),
    "constant": (".nii.gz", nifti(np.full(IMAGE.shape, 7.5)), "channel t2 shows nothing: one value everywhere"),
    "complex": (".nii.gz", nifti(IMAGE.astype(np.complex64)), "complex values"),
    "colors": (".nii.gz", nifti(np.zeros(IMAGE.shape, [(c, "u1") for c in "RGB"])), "holds colors"),
    "zooms_0": (".nii", edited({80: np.zeros(3, "<f4").tobytes(), 252: bytes(4)}), "not 0 x 0 x 0"),
    "zooms_1e6": (".nii", edited({80: np.full(3, 1e6, "<f4").tobytes(), 252: bytes(4)}), "not 1e+06 x 1e+06 x 1e+06"),
    "meters": (".nii", in_units("meter", 1e-3), "gives lengths in meters (voxels of 0.002 x 0.003 x 0.004)"),
    "micrometers": (".nii", in_units("micron", 1e3), "gives lengths in microns"),
    "turned_over": (".nii.gz", forms(AFFINE, UPSIDE_DOWN), "sform and qform of"),
    "too_long": (".nii.gz", nifti(affine=AFFINE @ np.diag([45.0, 1, 1, 1])), "the field of view of"),
    "singular": (".nii", edited({252: bytes(2), 280: np.diag([2.0, 3, 0, 1])[:3].astype("<f4").tobytes()}), "singular"),
    "huge": (".nii", edited(sizes(HUGE)), "claims 3000 x 3000 x 1200 voxels"),
    "huge_packed": (".nii.gz", gzip.compress(edited(sizes(HUGE))), "claims 3000 x 3000 x 1200 voxels"),
    "promise": (".nii", edited(sizes((800, 800, 700))), "more than the file can hold"),
    "promise_packed": (".nii.gz", gzip.compress(edited(sizes((800, 800, 700)))), "more than the file can hold"),
    "bomb": (".nii.gz", gzip.compress(nifti() + bytes(1 << 24)), "holds far more data than its header states"),
    "voxels_far_behind": (".nii.gz", gzip.compress(edited({108: np.array(3e9, "<f4").tobytes()})), "another format"),
    "no_link": (".nii.gz", lambda path: path.symlink_to("../nowhere.nii.gz"), "a link to a file that is not there"),
    "pipe": (".nii.gz", os.mkfifo, "a pipe or a device"),
    "folder": (".nii.gz", Path.mkdir, "no file for channel"),
    "mha_empty": (".mha", b"", "is empty"),
    "mha_cut": (".mha", itk_cut, "truncated"),
    "mha_bit": (".mha", itk_bit, "damaged"),
    "nrrd_bit": (".nrrd", itk_bit, "damaged"),
    "mha_text": (".mha", b"no image " * 100, "another format"),
    "mha_frames": (".mha", lambda path: through_itk(np.zeros((2, 4, 5, 6), np.uint8), path), "several frames"),
    "mha_huge": (".mha", MHA_HEADER.format("3000 3000 1200").encode(), "claims 3000 x 3000 x 1200 voxels"),
    "mha_promise": (".mha", MHA_HEADER.format("800 800 700").encode(), "more than it can hold"),
    "nrrd_cut": (".nrrd", itk_cut, "truncated"),
    "nrrd_colors": (".nrrd", lambda path: through_itk(np.zeros((4, 5, 6, 3), np.uint8), path, True), "values a voxel"),
    "nrrd_flat": (".nrrd", lambda path: through_itk(np.zeros((5, 6), np.uint8), path), "2D image"),
    "nrrd_nan": (".nrrd", lambda path: through_itk(np.full((4, 5, 6), np.nan, np.float32), path), "no finite value"),
    "nrrd_huge": (".nrrd", NRRD_HEADER.format("short", "3000 3000 1200", "gzip").encode(), "claims 3000 x 3000"),
    "nrrd_promise": (".nrrd", NRRD_HEADER.format("short", "800 800 700", "gzip").encode(), "more than it can hold"),
    "dicom_slice": ("", damaged_slice, "truncated, damaged or holds no pixels"),
}  # fmt: skip

SAME: dict[str, tuple[str, Content]] = {
    "plain": (".nii", nifti()),
    "one_frame": (".nii.gz", nifti(IMAGE[..., None])),
    "float64": (".nii.gz", nifti(IMAGE.astype(np.float64))),
    "uint8": (".nii.gz", nifti(IMAGE.astype(np.uint8))),
    "big_endian": (".nii", nibabel.Nifti1Image(IMAGE, AFFINE, nibabel.Nifti1Header(endianness=">")).to_bytes()),
    "slope": (".nii", scaled()),
    "no_units": (".nii", in_units("unknown", 1)),
    "two_members": (".nii.gz", gzip.compress(nifti()[:5000]) + gzip.compress(nifti()[5000:]) + bytes(512)),
    "mha": (".mha", lambda path: through_itk(IMAGE.T, path)),
    "nrrd": (".nrrd", lambda path: through_itk(IMAGE.T, path)),
    "link": (".nii.gz", lambda path: path.symlink_to("../../elsewhere.nii.gz")),
    "a b": (".nii", nifti()),
    """quotes ' " `id` $(id) <b>&amp;""": (".nii", nifti()),
    "a..b %2e%2e ..": (".nii", nifti()),
    "ünïcode 椎間板": (".nii", nifti()),
    "new\nline": (".nii", nifti()),
    "-dash;=,": (".nii", nifti()),
}
"""Cases that hold the same image, so that they must give the same label map."""

FEW = IMAGE.astype(np.float32)
FEW[3, 4, 5], FEW[4, 4, 5], FEW[5, 4, 5] = np.nan, np.inf, -np.inf

TOLD: dict[str, tuple[str, Content, str]] = {
    "few_nan": (".nii.gz", nifti(FEW), "channel t2: 3 voxels (0.052%) are not finite; taken as without signal"),
    "beyond_float32": (
        ".nii.gz",
        nifti(np.where(IMAGE > 150, 1e300, IMAGE)),
        "are not finite; taken as without signal",
    ),
    "forms_apart": (".nii.gz", forms(AFFINE, MOVED), "sform and qform differ by up to 25.0 mm; the sform is taken"),
    "no_forms": (".nii", edited({252: bytes(4)}), "stores no sound orientation"),
    "zooms_off": (".nii", edited({80: np.zeros(3, "<f4").tobytes(), 252: bytes(2)}), "its sform of 2 x 3 x 4 mm"),
    "units_wrong": (".nii", in_units("micron", 1), "the header says microns, but voxels of 2 x 3 x 4"),
}


def put(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the cohort of all cases gave."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "elsewhere.nii.gz").write_bytes(gzip.compress(nifti()))
    for cases in (REFUSED, SAME, TOLD):
        for name, (suffix, content, *_) in cases.items():
            put(folder / "data" / name / (f"{name}_t2{suffix}" if suffix else "t2"), content)
    put(folder / "data" / "vanished" / "t2.nii", nifti())
    model = write_untrained(folder / "untrained", ["t2"])

    def find_and_remove(*arguments: object) -> list[InputCase]:
        found = find_inputs(*arguments)
        (folder / "data" / "vanished" / "t2.nii").unlink()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ivdjax.inference.infer.find_inputs", find_and_remove)
        rows = infer(InferenceRequest(model, folder / "out", (str(folder / "data"),)))
    assert len(rows) == len(REFUSED) + len(SAME) + len(TOLD) + 1
    return folder / "out"


@pytest.fixture(scope="module")
def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_sound_image_fails_its_case_alone(output, rows, name):
    assert rows[name]["status"] in ("failed", "unread") and not (output / name).exists()
    assert REFUSED[name][2] in rows[name]["reasons"]
    assert name in rows[name]["reasons"] and "traceback" not in rows[name]["reasons"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_the_same_image_in_another_form_gives_the_same_label_map(output, rows, name):
    assert rows[name]["status"] == "done"
    found, expected = (read_labels(output / case / f"{case}_discs.nii.gz", case) for case in (name, "plain"))
    assert expected.array.any() and np.array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)
    assert name.replace("<", "&lt;") in (output / name / "report.html").read_text("utf-8") or "&" in name


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_what_is_mended_is_said(output, rows, name):
    assert rows[name]["status"] == "done"
    document = json.loads((output / name / f"{name}_discs.json").read_text("utf-8"))
    assert any(TOLD[name][2] in warning for warning in document["warnings"]), document["warnings"]


@pytest.mark.slow
def test_a_file_that_disappears_after_it_was_found_fails_its_case_alone(rows):
    assert rows["vanished"]["status"] == "failed"
    assert "t2.nii cannot be read: No such file or directory" in rows["vanished"]["reasons"]


@pytest.mark.slow
def test_no_traceback_was_printed(output):
    log = output / "infer.log"
    assert not log.exists() or "Traceback" not in log.read_text("utf-8")
