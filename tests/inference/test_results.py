from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ivdjax.config import parse_config
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.inference.names import bids_names, plain_names
from ivdjax.inference.results import (
    OutputOptions,
    is_corrected_anew,
    refuse_foreign,
    stored_corrections,
    stored_summary,
)
from ivdjax.model.model import Model
from ivdjax.model.provenance import provenance
from ivdjax.volume import UserError

MODEL = Model(parse_config({"name": "m", "data": {"channels": ["fat", "wat"]}}), {}, {"weights_sha256": "w"})
PLAIN, NAMES = OutputOptions(), plain_names("a")
ANCHOR = Anchor(2, (1.0, 2.0, 3.0))


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    path = tmp_path / "a_wat.nii"
    path.write_bytes(b"image")
    return CaseFiles("a", "a", {"wat": path})


def store(output: Path, source: dict[str, object], options: OutputOptions = PLAIN) -> None:
    """A result of no discs, as far as `stored_summary` looks at it."""
    names = options.names("a")
    (output / names.folder).mkdir(parents=True, exist_ok=True)
    for kind in options.expected():
        (output / names.folder / names.files[kind]).write_text("x")
    (output / names.path("json")).write_text(json.dumps({"verdict": "ok", "reasons": [], "discs": [], **source}))


def test_a_result_is_settled_for_its_own_input_model_settings_and_anchor_alone(tmp_path, files):
    out, source = tmp_path / "out", provenance(files, MODEL, anchor=ANCHOR)
    store(out, source)
    settled = stored_summary(out, files, source, PLAIN)
    assert settled is not None and settled.status == "skipped" and settled.verdict == "ok"
    assert stored_summary(out, files, provenance(files, MODEL), PLAIN) is None
    assert stored_summary(out, files, provenance(files, MODEL, anchor=replace(ANCHOR, level=3)), PLAIN) is None
    changed = parse_config({"name": "m", "data": {"channels": ["fat", "wat"]}, "inference": {"threshold": 0.4}})
    assert stored_summary(out, files, provenance(files, replace(MODEL, config=changed), anchor=ANCHOR), PLAIN) is None
    files.channels["wat"].write_bytes(b"other")
    assert stored_summary(out, files, provenance(files, MODEL, anchor=ANCHOR), PLAIN) is None


def test_provenance_tells_the_channels_that_were_there_the_overrides_and_the_anchor(files):
    told = provenance(files, MODEL, ("inference.threshold=0.4",), ANCHOR)
    assert list(told["input"]) == ["wat"] and told["overrides"] == ["inference.threshold=0.4"]
    assert told["anchor"] == {"level": 2, "point_mm": [1.0, 2.0, 3.0]}
    assert provenance(files, MODEL)["anchor"] is None


def test_results_from_before_there_were_anchors_are_settled_without_one(tmp_path, files):
    source = provenance(files, MODEL)
    store(tmp_path / "out", {key: source[key] for key in ("input", "model")})
    assert stored_summary(tmp_path / "out", files, source, PLAIN) is not None
    assert stored_summary(tmp_path / "out", files, provenance(files, MODEL, anchor=ANCHOR), PLAIN) is None


def test_a_result_that_is_not_whole_or_cannot_be_read_is_none(tmp_path, files):
    out, source = tmp_path / "out", provenance(files, MODEL)
    assert stored_summary(out, files, source, PLAIN) is None
    store(out, source)
    (out / "a" / "report.html").unlink()
    assert stored_summary(out, files, source, PLAIN) is None
    (out / "a" / "report.html").write_text("")  # emptied since, by a full disk or by hand
    assert stored_summary(out, files, source, PLAIN) is None
    (out / "a" / "report.html").write_text("x")
    assert stored_summary(out, files, source, PLAIN) is not None
    (out / "a" / "a_discs.json").write_text("{")
    assert stored_summary(out, files, source, PLAIN) is None


def test_further_outputs_and_other_names_are_looked_for(tmp_path, files):
    source = provenance(files, MODEL)
    store(tmp_path, source)
    assert stored_summary(tmp_path, files, source, OutputOptions(probabilities=True)) is None
    (tmp_path / "a" / "a_probability.nii.gz").write_text("x")
    assert stored_summary(tmp_path, files, source, OutputOptions(probabilities=True)) is not None
    bids = OutputOptions(bids=True)
    assert stored_summary(tmp_path, files, source, bids) is None
    store(tmp_path, source, bids)
    assert stored_summary(tmp_path, files, source, bids) is not None


def test_a_dicom_case_with_and_without_its_patient_are_two_results(tmp_path):
    series = DicomSeries(tmp_path, "1.2.3", (tmp_path / "1",))
    (tmp_path / "1").write_bytes(b"image")
    files = CaseFiles("a", "a", {"wat": series})
    source = provenance(files, MODEL)
    store(tmp_path / "out", source | {"anonymous": False})
    assert stored_summary(tmp_path / "out", files, source, PLAIN) is not None
    assert stored_summary(tmp_path / "out", files, source, OutputOptions(anonymous=True)) is None


def test_only_empty_folders_and_earlier_results_may_be_replaced(tmp_path, files):
    refuse_foreign(tmp_path / "absent", files, NAMES)
    (tmp_path / "a").mkdir()
    refuse_foreign(tmp_path, files, NAMES)
    (tmp_path / "a" / "mine.txt").write_text("")
    with pytest.raises(UserError, match="holds no result of case a"):
        refuse_foreign(tmp_path, files, NAMES)
    (tmp_path / "a" / "a_discs.json").write_text("{}")
    refuse_foreign(tmp_path, files, NAMES)
    bids = bids_names("sub-01")
    (tmp_path / bids.path("json")).parent.mkdir(parents=True)
    (tmp_path / bids.path("json")).write_text("{}")
    with pytest.raises(UserError, match="holds a result of case sub-01 with BIDS names: add --bids"):
        refuse_foreign(tmp_path, replace(files, name="sub-01"), plain_names("sub-01"))
    (tmp_path / "a" / "a_wat.nii").write_bytes(b"image")
    with pytest.raises(UserError, match="holds the images of case a"):
        refuse_foreign(tmp_path, replace(files, channels={"wat": tmp_path / "a" / "a_wat.nii"}), NAMES)


def test_a_level_pinned_by_an_earlier_version_is_taken_over(tmp_path, files):
    source = provenance(files, MODEL, anchor=ANCHOR)
    store(tmp_path, source)
    assert stored_corrections(tmp_path, "a", PLAIN).anchor == ANCHOR
    store(tmp_path, source | {"corrections": []})
    assert stored_corrections(tmp_path, "a", PLAIN).anchor is None
    assert stored_corrections(tmp_path / "nowhere", "a", PLAIN).history == ()


def test_a_result_of_other_corrections_is_made_anew_but_none_of_another_input(tmp_path, files):
    store(tmp_path, provenance(files, MODEL))
    assert is_corrected_anew(tmp_path, files, provenance(files, MODEL, anchor=ANCHOR), PLAIN)
    assert is_corrected_anew(tmp_path, files, provenance(files, MODEL) | {"deleted_mm": [[1.0, 2.0, 3.0]]}, PLAIN)
    files.channels["wat"].write_bytes(b"other")
    assert not is_corrected_anew(tmp_path, files, provenance(files, MODEL, anchor=ANCHOR), PLAIN)
