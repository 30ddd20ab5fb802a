from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest

from ivdjax.cli.program import main
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from tests.untrained_model import write_untrained


@pytest.mark.slow
def test_a_picture_of_a_result_from_its_folder_alone(tmp_path, capsys):
    model = write_untrained(tmp_path / "model", ["t2"])
    image = np.random.default_rng(0).normal(100, 20, (40, 24, 6)).astype(np.float32)
    affine = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "scan.nii.gz")
    infer(InferenceRequest(model, tmp_path / "out", (str(tmp_path / "scan.nii.gz"),)))
    folder, pictures = str(tmp_path / "out" / "scan"), str(tmp_path / "pictures")
    assert main(["figure", folder, "--output", pictures, "--format", "pdf", "--panels", "sagittal", "--no-badge"]) == 0
    assert (tmp_path / "pictures" / "scan_figure.pdf").read_bytes().startswith(b"%PDF")
    for options, words in (
        (["--panels", "axial"], "--panels takes plain, sagittal, coronal, not axial"),
        (["--dpi", "9"], "--dpi must be 50 to 1200"),
    ):
        assert main(["figure", folder, "--output", pictures, *options]) == 2
        assert words in capsys.readouterr().err
    assert main(["figure", str(tmp_path), "--output", pictures]) == 2
    assert "holds no result" in capsys.readouterr().err
    out = str(tmp_path / "out")
    assert main(["figure", out, "--output", pictures, "--where", "discs>=0", "--panels", "sagittal"]) == 0
    assert (tmp_path / "pictures" / "scan_figure.png").is_file()
    assert main(["figure", out, "--output", pictures, "--where", "status=failed"]) == 2
    assert "no case of" in capsys.readouterr().err
    shutil.copytree(folder, tmp_path / "other" / "scan")
    assert main(["figure", folder, str(tmp_path / "other" / "scan"), "--output", pictures]) == 2
    assert "are results of one case name" in capsys.readouterr().err
    (tmp_path / "scan.nii.gz").unlink()
    assert main(["figure", folder, "--output", pictures]) == 1
    assert "scan.nii.gz" in capsys.readouterr().err
