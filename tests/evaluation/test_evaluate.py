from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ivdjax.evaluation.evaluate import Evaluation, evaluate, picture_channel
from ivdjax.imaging.files import write_labels, write_volume
from ivdjax.volume import CaseError, Grid, LabelMap, UserError

SHAPE = (8, 60, 30)
AFFINE = np.array([[-4.0, 0, 0, 14], [0, 0, -2.0, 30], [0, -4.0, 0, 118], [0, 0, 0, 1]])
KEYS = {
    "mean_dice", "worst_dice", "all_discs_dice", "mean_asd_mm", "mean_localization_error_mm", "levels_right",
    "levels_total", "extra_discs",
}  # fmt: skip


def discs(levels=range(1, 8)):
    array = np.zeros(SHAPE, np.uint8)
    for level in levels:
        top = 58 - 8 * level
        array[1:7, top : top + 3, 8:22] = level
    return LabelMap(array, AFFINE)


def add_reference(root, case, labels=None, channel="wat"):
    folder = root / case
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    write_volume(folder / f"{case}_{channel}.nii.gz", rng.normal(100, 5, SHAPE).astype(np.float32), Grid(SHAPE, AFFINE))
    write_labels(folder / f"{case}_Labels.nii.gz", labels or discs())


def add_prediction(out, case, labels):
    (out / case).mkdir(parents=True)
    write_labels(out / case / f"{case}_discs.nii.gz", labels)


@pytest.fixture
def job(tmp_path):
    """Three references: `a` found perfectly, `b` with the fourth disc missed, `c` without a prediction."""
    for case in "abc":
        add_reference(tmp_path / "data", case)
    add_prediction(tmp_path / "out", "a", discs())
    add_prediction(tmp_path / "out", "b", discs([1, 2, 3, 5, 6, 7]))
    return Evaluation(tmp_path / "out", tmp_path / "data", tmp_path / "eval")


def result(job):
    return json.loads((job.output / "summary.json").read_text())


def test_scores_by_hand(job, capsys):
    assert evaluate(job) == 0
    totals = result(job)
    assert totals.keys() == KEYS
    assert totals["mean_dice"] == pytest.approx((7 + 6 + 0) / 21) and totals["worst_dice"] == 0
    assert totals["all_discs_dice"] == pytest.approx((1 + 2 * 6 / 13 + 0) / 3)
    assert totals["mean_asd_mm"] == 0 and totals["mean_localization_error_mm"] == 0
    assert (totals["levels_right"], totals["levels_total"], totals["extra_discs"]) == (13, 21, 0)
    with (job.output / "discs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["case", "subject", "level", "dice", "asd_mm", "hd95_mm", "localization_error_mm"]
    assert [(r["case"], r["level"], r["dice"], r["asd_mm"]) for r in rows if r["dice"] != "1.0"][:2] == [
        ("b", "4", "0.0", ""), ("c", "1", "0.0", "")
    ]  # fmt: skip
    assert len(rows) == 21
    assert "| b | 1.000 | 1.000 | 1.000 | 0.000 |" in (job.output / "tables.md").read_text()
    assert sorted(p.name for p in job.output.iterdir()) == [
        "a_comparison.png", "b_comparison.png", "discs.csv", "summary.json", "tables.md"
    ]  # fmt: skip
    printed = capsys.readouterr()
    assert "case c: no prediction" in printed.err and "counts as missed" in printed.err
    assert "13 of 21" in printed.out and str(job.output / "summary.json") in printed.out


def test_again_gives_the_same_files(job):
    evaluate(job)
    before = {p.name: p.read_bytes() for p in job.output.iterdir()}
    evaluate(job)
    assert {p.name: p.read_bytes() for p in job.output.iterdir()} == before


def test_cases_restrict_and_unknown_ones_are_refused(job, capsys):
    restricted = Evaluation(job.predictions, job.references, job.output, cases=("a",))
    assert evaluate(restricted) == 0
    assert result(job)["levels_total"] == 7
    assert "case c" not in capsys.readouterr().err
    with pytest.raises(UserError, match="no case z .*it has a, b, c"):
        evaluate(Evaluation(job.predictions, job.references, job.output, cases=("a", "z")))


def test_only_cases_that_inference_was_given_count(job, capsys):
    add_reference(job.references, "failed")
    (job.predictions / "summary.csv").write_text("case,status\na,done\nfailed,failed\n")
    assert evaluate(job) == 0
    # b has a prediction of an earlier run; c was never asked for.
    assert result(job)["levels_total"] == 21
    err = capsys.readouterr().err
    assert "left out: c" in err and "case failed: no prediction" in err


def test_old_prediction_of_a_case_that_failed_since_counts_as_missed(job, capsys):
    (job.predictions / "summary.csv").write_text("case,status\na,done\nb,failed\n")
    assert evaluate(job) == 0
    assert result(job)["levels_right"] == 7 and result(job)["levels_total"] == 14
    assert "case b: failed in inference" in capsys.readouterr().err


def test_predictions_without_a_reference_are_named(job, capsys):
    add_prediction(job.predictions, "stranger", discs())
    assert evaluate(job) == 0
    assert "predictions without a reference, left out: stranger" in capsys.readouterr().err


def test_images_without_labels_are_named_and_folders_without_images_are_no_cases(job, capsys):
    (job.references / "a" / "a_Labels.nii.gz").rename(job.references / "a" / "a_Labels.txt")
    (job.references / "logs").mkdir()
    assert evaluate(job) == 0
    assert "case a: no reference" in (err := capsys.readouterr().err) and "logs" not in err
    assert result(job)["levels_total"] == 14


def test_labels_may_lie_in_a_folder_of_their_own(job):
    (job.references / "labels").mkdir()
    for case in "abc":
        name = f"{case}_Labels.nii.gz"
        (job.references / case / name).rename(job.references / "labels" / name)
    assert evaluate(job) == 0
    assert result(job)["levels_total"] == 21


def test_prediction_that_cannot_be_read_counts_as_missed_and_fails(job, capsys):
    (job.predictions / "a" / "a_discs.nii.gz").write_bytes(b"no image")
    assert evaluate(job) == 1
    assert result(job)["levels_right"] == 6 and result(job)["levels_total"] == 21
    assert "failed: case a" in (err := capsys.readouterr().err) and "counts as missed" in err


def test_reference_that_cannot_be_read_is_left_out_and_fails(job, capsys):
    (job.references / "a" / "a_Labels.nii.gz").write_bytes(b"no image")
    assert evaluate(job) == 1
    assert result(job)["levels_total"] == 14
    assert "failed: case a" in (err := capsys.readouterr().err) and "not scored" in err
    for case in "bc":
        (job.references / case / f"{case}_Labels.nii.gz").write_bytes(b"no image")
    with pytest.raises(CaseError, match="nothing was scored"):
        evaluate(job)


def test_prediction_on_another_grid_is_scored_in_world_space(job):
    moved = AFFINE.copy()
    moved[:3, 3] += [0, 2.0, 0]  # the same voxels 2 mm further to the front, one voxel of the image
    (job.predictions / "a" / "a_discs.nii.gz").unlink()
    write_labels(job.predictions / "a" / "a_discs.nii.gz", LabelMap(discs().array, moved))
    evaluate(Evaluation(job.predictions, job.references, job.output, cases=("a",)))
    assert result(job)["mean_localization_error_mm"] == pytest.approx(2.0)
    assert result(job)["mean_dice"] == pytest.approx(13 / 14)


def test_a_summary_that_a_spreadsheet_saved_tells_the_same(job):
    text = "case,status\na,failed\nb,done\n"
    scores = []
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode() + "Ö,done\n".encode("latin-1")):
        (job.predictions / "summary.csv").write_bytes(content)
        evaluate(job)
        scores.append(result(job)["mean_dice"])
    assert len(set(scores)) == 1


def test_a_spoilt_summary_is_refused(job):
    (job.predictions / "summary.csv").write_text("colour,size\nred,1\n")
    with pytest.raises(UserError, match="is no longer a summary of ivdjax infer"):
        evaluate(job)
    (job.predictions / "summary.csv").unlink()
    job.output.parent.mkdir(exist_ok=True)
    job.output.write_text("a file")
    with pytest.raises(UserError, match="cannot be made"):
        evaluate(job)


def test_subjects_come_from_a_pattern(tmp_path):
    for case in ("07_1", "07_2"):
        add_reference(tmp_path / "data", case)
        add_prediction(tmp_path / "out", case, discs())
    job = Evaluation(tmp_path / "out", tmp_path / "data", tmp_path / "eval", subject_pattern=r"^(\d+)_")
    assert evaluate(job) == 0
    with (job.output / "discs.csv").open() as stream:
        assert {(row["case"], row["subject"]) for row in csv.DictReader(stream)} == {("07_1", "07"), ("07_2", "07")}


@pytest.mark.parametrize("missing", ["predictions", "references"])
def test_missing_folders_are_refused(job, missing):
    folder = getattr(job, missing)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(UserError, match=f"--{missing} must be"):
        evaluate(job)
    assert not job.output.exists()


def test_nothing_to_compare_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "data").mkdir()
    job = Evaluation(tmp_path / "out", tmp_path / "data", tmp_path / "eval")
    with pytest.raises(UserError, match="no case with a reference"):
        evaluate(job)
    add_reference(tmp_path / "data", "a")
    with pytest.raises(UserError, match="no prediction of any reference"):
        evaluate(job)


def test_picture_channel(tmp_path):
    folder = tmp_path / "07"
    folder.mkdir()
    for name in ("07_Labels.nii.gz", "07_discs.nii.gz", "notes.txt", ".07_t2.nii.gz"):
        (folder / name).touch()
    assert picture_channel(folder) is None
    for name in ("07_opp.nii", "07_fat.nii"):
        (folder / name).touch()
    assert picture_channel(folder) == "fat"
    (folder / "wat.mha").touch()  # the challenge's own containers leave the case's name out
    assert picture_channel(folder) == "wat"
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "07_Labels.nii").touch()
    assert picture_channel(labels) is None
    (tmp_path / "S01").symlink_to(folder)  # files of a linked case may bear either name
    (folder / "wat.mha").rename(folder / "S01_Labels.mha")
    assert picture_channel(tmp_path / "S01") == "fat"
    composed, decomposed = tmp_path / "Jos\u00e9", "Jose\u0301"
    composed.mkdir()
    (composed / f"{decomposed}_Labels.nii").touch(), (composed / f"{decomposed}_T2.nii").touch()
    assert picture_channel(composed) == "t2"


def test_command_line(job, root):
    def run(*options):
        command = [sys.executable, str(root / "evaluate.py"), *options]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=60, check=False)

    folders = ["--predictions", str(job.predictions), "--references", str(job.references), "--output", str(job.output)]
    done = run(*folders, "--cases", "a, b")
    assert done.returncode == 0, done.stderr
    assert "13 of 14" in done.stdout
    assert run(*folders[:4]).returncode == 2
    refused = run(*folders, "--cases", "z")
    assert refused.returncode == 2 and "no case z" in refused.stderr and "Traceback" not in refused.stderr


def test_scores_do_not_replace_what_inference_wrote(job):
    (job.predictions / "summary.csv").write_text("case,status\na,done\n")
    (job.predictions / "discs.csv").write_text("measures")
    with pytest.raises(UserError, match="holds results of ivdjax infer"):
        evaluate(Evaluation(job.predictions, job.references, job.predictions))
    assert (job.predictions / "discs.csv").read_text() == "measures"
