from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.files import read_labels, write_volume
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.volume import LORDOSIS, Grid, UserError
from tests.untrained_model import write_untrained

SHAPE = (40, 24, 6)  # of the file, whose axes run to posterior, inferior and left
CANONICAL = (6, 24, 40)
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
OUTPUTS = {
    "{0}_discs.nii.gz", "{0}_discs.csv", "{0}_discs.json", "{0}_overview.png", "report.html", "{0}_report.txt",
    "{0}_discs.label", "{0}_discs.ctbl", "{0}_discs.seg.nrrd", "{0}_evidence.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"])


@pytest.fixture
def cohort(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        image = rng.normal(100, 20, CANONICAL).astype(np.float32)
        write_volume(tmp_path / "data" / name / f"{name}_t2.nii.gz", image, Grid(SHAPE, AFFINE))
    return tmp_path / "data"


def request_of(model, cohort, **changes) -> InferenceRequest:
    values = {"model": model, "output": cohort.parent / "out", "inputs": (str(cohort),)}
    return InferenceRequest(**(values | changes))


def summary(request) -> list[dict[str, str]]:
    with (request.output / "summary.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_cohort_with_a_bad_case_then_a_rerun(model, cohort):
    (cohort / "bad").mkdir()
    (cohort / "bad" / "bad_t2.nii.gz").write_bytes(b"not an image")
    request = request_of(model, cohort)
    rows = infer(request)
    assert [(row.case, row.status) for row in rows] == [("a", "done"), ("b", "done"), ("bad", "failed")]
    assert "bad_t2.nii.gz" in rows[2].reasons[0]
    assert [row["status"] for row in summary(request)] == ["done", "done", "failed"]
    columns = list(summary(request)[0])
    assert columns[:8] == ["case", "status", "verdict", "reasons", "discs", "seconds", "probability_wrong", "remarks"]
    angles = [f"{name}{kind}" for name in LORDOSIS for kind in ("", "_se")]
    assert columns[8:] == ["corrected", *angles, "lordosis_not_measured"]
    assert {p.name for p in (request.output / "a").iterdir()} == {name.format("a") for name in OUTPUTS}
    assert not (request.output / "bad").exists()
    labels = read_labels(request.output / "a" / "a_discs.nii.gz", "a")
    assert labels.native is not None and labels.native.shape == SHAPE
    np.testing.assert_allclose(labels.native.affine, AFFINE)
    told = json.loads((request.output / "a" / "a_discs.json").read_text())
    assert told["model"]["name"] == "untrained" and told["input"]["t2"]["file"] == "a_t2.nii.gz"

    before = {p: p.read_bytes() for p in (request.output / "a").iterdir()}
    assert [row.status for row in infer(request)] == ["skipped", "skipped", "failed"]
    again = infer(request_of(model, cohort, overwrite=True))
    assert [row.status for row in again] == ["done", "done", "failed"]
    assert {p: p.read_bytes() for p in (request.output / "a").iterdir()} == before


def test_images_and_foreign_folders_are_never_replaced(model, cohort):
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds the images of case a"):
            infer(request_of(model, cohort, output=cohort, overwrite=overwrite))
        (cohort.parent / "out" / "b").mkdir(parents=True, exist_ok=True)
        (cohort.parent / "out" / "b" / "thesis.tex").write_text("years of work")
        with pytest.raises(UserError, match="holds no result of case b"):
            infer(request_of(model, cohort, overwrite=overwrite))
    assert (cohort / "a" / "a_t2.nii.gz").is_file() and (cohort.parent / "out" / "b" / "thesis.tex").is_file()


def test_output_that_cannot_be_made_is_refused(model, cohort):
    (cohort.parent / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        infer(request_of(model, cohort, output=cohort.parent / "file" / "out"))


@pytest.mark.slow
def test_results_of_another_input_are_not_replaced_unasked(model, cohort):
    request = request_of(model, cohort, inputs=(str(cohort / "a"),))
    infer(request)
    image = np.full(CANONICAL, 5, np.float32)
    image[2:4] = 50
    write_volume(cohort / "a" / "a_t2.nii.gz", image, Grid(SHAPE, AFFINE))
    with pytest.raises(UserError, match=r"1 of 1 cases \(a\); use --overwrite"):
        infer(request)
    infer(request_of(model, cohort, inputs=(str(cohort / "b"),)))
    assert [row["case"] for row in summary(request)] == ["a", "b"]  # earlier results stay in the summary


@pytest.mark.slow
def test_a_case_that_lacks_a_channel_and_other_settings_are_told_in_its_result(cohort, tmp_path):
    dixon = write_untrained(tmp_path / "dixon", ["fat", "t2"])
    request = request_of(dixon, cohort, inputs=(str(cohort / "a" / "a_t2.nii.gz"),))
    (row,) = infer(request)
    assert row.status == "done" and row.case == "a" and "Channel fat is missing" in row.remarks[0]
    told = json.loads((request.output / "a" / "a_discs.json").read_text())
    assert list(told["input"]) == ["t2"] and told["overrides"] == [] and told["anchor"] is None
    other = replace(request, overrides=("inference.numbering=bottom",))
    with pytest.raises(UserError, match="results of another input, model, setting or form for 1 of 1 cases"):
        infer(other)
    infer(replace(other, overwrite=True))
    told = json.loads((request.output / "a" / "a_discs.json").read_text())
    assert told["overrides"] == ["inference.numbering=bottom"]
    assert [row.status for row in infer(other)] == ["skipped"]


@pytest.mark.slow
def test_a_pin_is_kept_beside_the_result_and_the_cohorts_own_command_goes_on_with_it(model, cohort):
    request = request_of(model, cohort)
    infer(request)
    point = json.loads((request.output / "a" / "a_discs.json").read_text())["discs"][0]
    at = tuple(point[f"centroid_{axis}_mm"] for axis in "xyz")
    pinned = replace(request, anchors={"a": Anchor(3, at)})
    assert [row.status for row in infer(pinned)] == ["done", "skipped"]  # unasked, and that case alone
    kept = json.loads((request.output / "a" / "a_corrections.json").read_text())["corrections"]
    assert [(entry["action"], entry["level"], tuple(entry["point_mm"])) for entry in kept] == [("anchor", 3, at)]
    for same in (request, pinned):
        assert [row.status for row in infer(same)] == ["skipped", "skipped"]
    assert infer(replace(request, overwrite=True, inputs=(str(cohort / "a"),)))[0].status == "done"
    told = json.loads((request.output / "a" / "a_discs.json").read_text())
    assert told["anchor"]["level"] == 3 and told["corrections"] == ["L3/4 was pinned"]

    assert replace(request, reset_corrections=True).corrections("a").anchor is None
    (request.output / "a" / "a_corrections.json").write_text("{")
    damaged, whole = infer(request)
    assert damaged.status == "failed" and "a_corrections.json holds no corrections" in damaged.reasons[0]
    assert whole.status == "skipped" and (request.output / "a" / "a_corrections.json").read_text() == "{"


def test_a_table_of_anchors_for_a_case_that_is_not_there_is_refused(model, cohort):
    with pytest.raises(UserError, match="--anchors names aa, which INPUT does not hold; did you mean a"):
        infer(request_of(model, cohort, anchors={"aa": Anchor(2, (0.0, 0.0, 0.0))}))


def test_an_anchor_for_several_cases_and_settings_beyond_inference_are_refused(model, cohort):
    request = request_of(model, cohort, anchor=Anchor(2, (0.0, 0.0, 0.0)))
    with pytest.raises(UserError, match=r"--anchor pins a level of one case, but INPUT holds 2"):
        infer(request)
    for text in ("preparation.max_slice_mm=9", "inference.nothing=1", "inference", "inference.threshold=high"):
        with pytest.raises(UserError, match="inference"):
            infer(request_of(model, cohort, overrides=(text,)))
    assert not request.output.exists()


def test_nothing_is_written_for_a_model_that_is_none(cohort):
    request = request_of(cohort, cohort)
    with pytest.raises(UserError, match="no model"):
        infer(request)
    assert not request.output.exists()


def run_command(root, *options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "infer.py", *map(str, options)], cwd=root, capture_output=True, text=True)


def test_exit_codes_of_the_command(root, model, cohort):
    refused = run_command(root, "--model", model, "--output", cohort.parent / "o", cohort / "nowhere")
    assert refused.returncode == 2 and "nowhere" in refused.stderr and "Traceback" not in refused.stderr
    for option, message in (("--anchor=L4/6=1,2,3", "did you mean L4/5"), ("--set=data.root=x", "inference.key=value")):
        refused = run_command(root, "--model", model, "--output", cohort.parent / "o", option, cohort / "a")
        assert refused.returncode == 2 and message in refused.stderr and "Traceback" not in refused.stderr
    late = run_command(root, "--model", model, "--output", cohort.parent / "o", "--timeout", "0", cohort)
    assert late.returncode == 2 and "--timeout must be above 0" in late.stderr
    assert run_command(root, "--model", model).returncode == 2
