"""The wheel and the source distribution in an empty environment: installed with all they need, and used.

This needs the package registry, and takes minutes.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import venv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.dicom_series import write_series

pytestmark = pytest.mark.soak


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def program(request, root, tmp_path_factory) -> Path:
    """`ivdjax` in an environment that held nothing before."""
    folder = tmp_path_factory.mktemp(request.param)
    run(sys.executable, "-m", "hatchling", "build", "-t", request.param, "-d", folder / "dist", cwd=root)
    (built,) = (folder / "dist").iterdir()
    venv.create(folder / "venv", with_pip=True)
    run(folder / "venv" / "bin" / "python", "-m", "pip", "install", "-q", built, cwd=folder)
    return folder / "venv" / "bin" / "ivdjax"


def statuses(output: Path) -> dict[str, str]:
    with (output / "summary.csv").open() as stream:
        return {row["case"]: row["status"] for row in csv.DictReader(stream)}


def test_the_program_answers_in_every_layout(program, tmp_path):
    assert run(program, "--version", cwd=tmp_path).startswith("ivdjax ")
    assert "whole" in run(program, "models", "verify", cwd=tmp_path)
    run(program, "phantom", "--output", "cases", "--cases", "2", "--seed", "1", "--channels", "t2", "--field", "slab",
        cwd=tmp_path)  # fmt: skip
    first, second = sorted((tmp_path / "cases").glob("S*/*_t2.nii.gz"))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "P01.nii.gz").write_bytes(first.read_bytes())
    (tmp_path / "flat" / "P02.nii.gz").write_bytes(second.read_bytes())
    bids = tmp_path / "bids" / "sub-01" / "ses-01" / "anat" / "sub-01_ses-01_T2w.nii.gz"
    bids.parent.mkdir(parents=True)
    bids.write_bytes(first.read_bytes())
    image = nibabel.load(first)
    array = np.clip(np.asarray(image.dataobj), 0, 4000).astype(np.int16)
    write_series(tmp_path / "dicom" / "D1", array, image.affine, series_description="t2_tse_sag")
    for name, given, cases in (
        ("file", first, [first.parent.name]),
        ("flat", "flat", ["P01", "P02"]),
        ("bids", "bids", ["sub-01_ses-01"]),
        ("dicom", "dicom", ["dicom"]),
    ):
        run(program, "infer", "--output", f"out_{name}", given, cwd=tmp_path)
        assert statuses(tmp_path / f"out_{name}") == dict.fromkeys(cases, "done")
        assert (tmp_path / f"out_{name}" / "discs.csv").stat().st_size > 200
    assert nibabel.load(tmp_path / "out_flat" / "P01" / "P01_discs.nii.gz").shape
