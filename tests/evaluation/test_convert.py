"""Label maps from one tool's numbers to another's, over files of every format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
import slicerio

from ivdjax.discs.schemes import SCHEMES
from ivdjax.evaluation.convert import Conversion, convert, main
from ivdjax.volume import CaseError, UserError

AFFINE = np.array([[0.0, 0, 3.0, -5], [-1.0, 0, 0, 2], [0, -1.5, 0, 8], [0, 0, 0, 1]])
SEVEN = np.zeros((7, 16, 4), np.uint8)
for _level in range(1, 8):
    SEVEN[2:5, 16 - 2 * _level, 1:3] = _level


def store(path: Path, array: np.ndarray = SEVEN) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    return path


@pytest.mark.parametrize("scheme", ["totalspineseg", "spineps", "spider"])
def test_there_and_back_through_files(tmp_path: Path, scheme: str) -> None:
    store(tmp_path / "x.nii.gz")
    words = convert(Conversion(tmp_path / "x.nii.gz", tmp_path / "y.nii.gz", "ivdjax", scheme))
    assert words == [f"{tmp_path / 'y.nii.gz'}: 7 discs in the numbers of {SCHEMES[scheme].title}"]
    there = nibabel.load(tmp_path / "y.nii.gz")
    numbers = np.array([0, *SCHEMES[scheme].values], np.uint8)
    assert there.get_data_dtype() == np.uint8 and np.allclose(there.affine, AFFINE)
    assert np.array_equal(np.asarray(there.dataobj), numbers[SEVEN])
    convert(Conversion(tmp_path / "y.nii.gz", tmp_path / "z.mha", scheme, "ivdjax"))
    image = SimpleITK.ReadImage(str(tmp_path / "z.mha"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).T, SEVEN)
    assert np.allclose(image.TransformIndexToPhysicalPoint((1, 2, 3)), (-4, -1, 5))  # LPS of (4, 1, 5)


def test_from_freesurfers_format_but_not_into_it(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(SEVEN, AFFINE), tmp_path / "x.mgz")
    convert(Conversion(tmp_path / "x.mgz", tmp_path / "y.nii.gz", "ivdjax", "ivdjax"))
    found = nibabel.load(tmp_path / "y.nii.gz")
    assert np.array_equal(np.asarray(found.dataobj), SEVEN) and np.allclose(found.affine, AFFINE)
    for name in ("z.mgz", "z.hdr"):
        with pytest.raises(UserError, match=f"{name} cannot be written: its name must end in one of .seg.nrrd, .nii"):
            convert(Conversion(tmp_path / "x.mgz", tmp_path / name, "ivdjax", "ivdjax"))


def test_from_one_tool_to_another(tmp_path: Path) -> None:
    array = np.array([0, *SCHEMES["spineps"].values], np.uint8)[SEVEN]
    array[2:5, 15, 1:3] = 24  # vertebra L5
    store(tmp_path / "x.nii", array)
    convert(Conversion(tmp_path / "x.nii", tmp_path / "y.nrrd", "spineps", "totalspineseg"))
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "y.nrrd"))).T
    assert sorted(set(found.ravel().tolist())) == [0, 82, 91, 92, 93, 94, 95, 100]
    assert np.array_equal(found == 95, SEVEN == 2)


def test_a_segmentation_for_slicer_has_names(tmp_path: Path) -> None:
    store(tmp_path / "x.nii.gz")
    convert(Conversion(tmp_path / "x.nii.gz", tmp_path / "y.seg.nrrd", "ivdjax", "spider"))
    found = slicerio.read_segmentation(str(tmp_path / "y.seg.nrrd"))
    assert [(segment["labelValue"], segment["name"]) for segment in found["segments"]][:2] == [
        (201, "L5/S1"),
        (202, "L4/5"),
    ]
    again = convert(Conversion(tmp_path / "y.seg.nrrd", tmp_path / "z.nii.gz", "spider", "ivdjax"))
    assert len(again) == 1 and np.array_equal(np.asarray(nibabel.load(tmp_path / "z.nii.gz").dataobj), SEVEN)


def test_a_segmentation_that_was_edited_goes_by_its_names(tmp_path: Path) -> None:
    """One disc drawn anew, and all values shifted, as 3D Slicer leaves them."""
    store(tmp_path / "x.nii.gz")
    convert(Conversion(tmp_path / "x.nii.gz", tmp_path / "y.seg.nrrd", "ivdjax", "ivdjax"))
    for values in ({2: 8}, {level: level % 7 + 1 for level in range(1, 8)}):
        array, header = nrrd.read(str(tmp_path / "y.seg.nrrd"))
        table = np.array([values.get(value, value) for value in range(256)], np.uint8)
        header |= {key: str(table[int(value)]) for key, value in header.items() if key.endswith("_LabelValue")}
        nrrd.write(str(tmp_path / "edited.seg.nrrd"), table[array], header)
        convert(Conversion(tmp_path / "edited.seg.nrrd", tmp_path / "z.nii.gz", "ivdjax", "ivdjax", overwrite=True))
        assert np.array_equal(np.asarray(nibabel.load(tmp_path / "z.nii.gz").dataobj), SEVEN)


def test_what_is_dropped_is_said(tmp_path: Path) -> None:
    array = np.select([SEVEN == 1, SEVEN > 1], [201, 100]).astype(np.uint8)
    store(tmp_path / "x.nii.gz", array)
    remark, _ = convert(Conversion(tmp_path / "x.nii.gz", tmp_path / "y.nii.gz", "spider", "ivdjax"))
    assert remark.startswith("case x: dropped 1 structure of SPIDER") and "values 100; 36 voxels" in remark


def test_a_binary_mask_is_remarked(tmp_path: Path) -> None:
    store(tmp_path / "x.nii.gz", (SEVEN > 0).astype(np.uint8))
    remark, _ = convert(Conversion(tmp_path / "x.nii.gz", tmp_path / "y.nii.gz", "ivdjax", "spider"))
    assert "only value is 1, read as L5/S1" in remark


def test_nothing_is_written_where_the_values_do_not_fit(tmp_path: Path) -> None:
    store(tmp_path / "x.nii.gz")
    with pytest.raises(CaseError, match="case x: TotalSpineSeg has no value 3"):
        convert(Conversion(tmp_path / "x.nii.gz", tmp_path / "y.nii.gz", "totalspineseg", "ivdjax"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.nii.gz"]


@pytest.mark.parametrize(
    ("source", "target", "scheme", "message"),
    [
        ("absent.nii", "y.nii", "spider", "there is no file"),
        ("x.nii", "y.png", "spider", r"cannot be written: its name must end in one of \.seg\.nrrd, \.nii\.gz"),
        ("x.nii", "y.mhd", "spider", "cannot be written"),
        ("notes.txt", "y.nii", "spider", "cannot be read"),
        ("x.nii", "no/y.nii", "spider", "there is no folder"),
        ("x.nii", "there.nii", "spider", "exists; use --overwrite"),
        ("x.nii", "x.nii", "spider", "is INPUT itself"),
        ("x.nii", "y.nii", "spidr", "did you mean spider"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, source: str, target: str, scheme: str, message: str) -> None:
    store(tmp_path / "x.nii")
    (tmp_path / "there.nii").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=message):
        convert(Conversion(tmp_path / source, tmp_path / target, "ivdjax", scheme))
    assert (tmp_path / "there.nii").read_bytes() == b"mine"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["convert", *words])
    return main()


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(store(tmp_path / "x.nii.gz")), str(tmp_path / "y.nii.gz")
    assert run(monkeypatch, "--from", "ivdjax", "--to", "spineps", source, target) == 0
    assert capsys.readouterr().out == f"{target}: 7 discs in the numbers of SPINEPS\n"
    assert run(monkeypatch, "--from", "ivdjax", "--to", "spider", source, target) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert run(monkeypatch, "--from", "ivdjax", "--to", "spider", "--overwrite", source, target) == 0
    assert run(monkeypatch, "--from", "ivdjax", "--to", "spider", "--overwrite", target, source) == 1
    assert "ivdjax has no value 201" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "--from", "ivdjax", source, target)
    assert stopped.value.code == 2


def test_as_a_module(tmp_path: Path) -> None:
    store(tmp_path / "x.nii.gz")
    command = [sys.executable, "-m", "ivdjax.evaluation.convert", "--from", "ivdjax", "--to", "totalspineseg"]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [*command, str(tmp_path / "x.nii.gz"), str(tmp_path / "y.nii.gz")],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and "7 discs" in done.stdout
