from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ivdjax.config import parse_config
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.evidence import Anchor
from ivdjax.volume import UserError
from ivdjax.workflows.model import Model
from ivdjax.workflows.results import OUTPUTS, provenance, refuse_foreign, stored_summary

MODEL = Model(parse_config({"name": "m", "data": {"channels": ["fat", "wat"]}}), {}, {"weights_sha256": "w"})
ANCHOR = Anchor(2, (1.0, 2.0, 3.0))


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    path = tmp_path / "a_wat.nii"
    path.write_bytes(b"image")
    return CaseFiles("a", "a", {"wat": path})


def store(folder: Path, source: dict[str, object]) -> None:
    """A result of no discs, as far as `stored_summary` looks at it."""
    folder.mkdir(exist_ok=True)
    for name in OUTPUTS:
        (folder / name.format(case="a")).write_text("")
    (folder / "a_discs.json").write_text(json.dumps({"verdict": "ok", "reasons": [], "discs": [], **source}))


def test_a_result_is_settled_for_its_own_input_model_settings_and_anchor_alone(tmp_path, files):
    out, source = tmp_path / "out", provenance(files, MODEL, anchor=ANCHOR)
    store(out, source)
    settled = stored_summary(out, "a", source)
    assert settled is not None and settled.status == "skipped" and settled.verdict == "ok"
    assert stored_summary(out, "a", provenance(files, MODEL)) is None
    assert stored_summary(out, "a", provenance(files, MODEL, anchor=replace(ANCHOR, level=3))) is None
    changed = parse_config({"name": "m", "data": {"channels": ["fat", "wat"]}, "inference": {"threshold": 0.4}})
    assert stored_summary(out, "a", provenance(files, replace(MODEL, config=changed), anchor=ANCHOR)) is None
    files.channels["wat"].write_bytes(b"other")
    assert stored_summary(out, "a", provenance(files, MODEL, anchor=ANCHOR)) is None


def test_provenance_tells_the_channels_that_were_there_the_overrides_and_the_anchor(files):
    told = provenance(files, MODEL, ("inference.threshold=0.4",), ANCHOR)
    assert list(told["input"]) == ["wat"] and told["overrides"] == ["inference.threshold=0.4"]
    assert told["anchor"] == {"level": 2, "point_mm": [1.0, 2.0, 3.0]}
    assert provenance(files, MODEL)["anchor"] is None


def test_results_from_before_there_were_anchors_are_settled_without_one(tmp_path, files):
    source = provenance(files, MODEL)
    store(tmp_path / "out", {key: source[key] for key in ("input", "model")})
    assert stored_summary(tmp_path / "out", "a", source) is not None
    assert stored_summary(tmp_path / "out", "a", provenance(files, MODEL, anchor=ANCHOR)) is None


def test_a_result_that_is_not_whole_or_cannot_be_read_is_none(tmp_path, files):
    out, source = tmp_path / "out", provenance(files, MODEL)
    assert stored_summary(out, "a", source) is None
    store(out, source)
    (out / "report.html").unlink()
    assert stored_summary(out, "a", source) is None
    (out / "report.html").write_text("")
    (out / "a_discs.json").write_text("{")
    assert stored_summary(out, "a", source) is None


def test_only_empty_folders_and_earlier_results_may_be_replaced(tmp_path, files):
    refuse_foreign(tmp_path / "absent", files)
    (tmp_path / "out").mkdir()
    refuse_foreign(tmp_path / "out", files)
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(UserError, match="holds no result of case a"):
        refuse_foreign(tmp_path / "out", files)
    (tmp_path / "out" / "a_discs.json").write_text("{}")
    refuse_foreign(tmp_path / "out", files)
    with pytest.raises(UserError, match="holds the images of case a"):
        refuse_foreign(tmp_path, files)
