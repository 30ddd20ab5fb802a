from __future__ import annotations

import csv
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import numbering
from benchmarks.numbering import FULL, Outcome, numbering_faults, table, variants
from ivdjax.config import Config, InferenceConfig
from ivdjax.discs.metrics import CaseScore, DiscScore
from ivdjax.model.model import Model
from ivdjax.volume import LabelMap


def column(*levels: int) -> LabelMap:
    """Discs of four voxels above one another: the label of each place from the top."""
    array = np.zeros((1, 2 * len(levels), 4), np.uint8)
    for place, level in enumerate(levels):
        array[0, 2 * place] = level
    return LabelMap(array, np.eye(4))


REFERENCE = column(0, 3, 2, 1, 0)


@pytest.mark.parametrize(
    ("found", "wrong", "missing"),
    [
        ((0, 3, 2, 1, 0), [], []),
        ((0, 2, 1, 0, 0), [1, 2], [3]),  # the lowest missed, all others one too low
        ((0, 4, 3, 2, 1), [1, 2, 3, 4], []),  # a remnant below: it covers nothing, but disc 1 is elsewhere
        ((4, 3, 2, 1, 0), [], []),  # a disc that nobody outlined cannot be judged
        ((8, 3, 2, 1, 0), [], []),
        ((0, 3, 0, 1, 0), [], [2]),
        ((0, 0, 0, 0, 0), [], [1, 2, 3]),
    ],
)
def test_faults_by_hand(found, wrong, missing):
    assert numbering_faults(column(*found), REFERENCE) == (wrong, missing)


def test_a_disc_is_judged_by_what_it_covers_most():
    prediction = column(0, 3, 2, 1, 0)
    prediction.array[0, 6, 1:] = 0  # of disc 1 one voxel remains on disc 1, three lie on disc 2
    prediction.array[0, 4, 1:] = 1
    assert numbering_faults(prediction, REFERENCE) == ([1], [])


def test_outlined_discs_above_the_seventh_are_no_missing_levels_but_can_be_mistaken():
    assert numbering_faults(column(7), column(8)) == ([7], [])
    assert numbering_faults(column(0), column(8)) == ([], [])


def outcome(verdict: str, right: bool, wrong: int, missing: int) -> Outcome:
    disc = DiscScore(1, 0.75 if right else 0.0, 0.5, 1.0, 0.5, right, right)
    return Outcome("a", verdict, ("why",) * (verdict != "ok"), CaseScore((disc,), 0.75, 1 - right), wrong, missing)


def test_silent_faults_are_those_with_the_verdict_ok():
    assert (outcome("ok", False, 1, 2).silent, outcome("review", False, 1, 2).silent) == (3, 0)
    rows = [outcome("ok", False, 1, 2), outcome("review", False, 1, 0), outcome("ok", True, 0, 0)]
    lines = table({FULL: rows, "numbering=line": []}).splitlines()
    assert lines[2] == "| full | 1 of 3 | 2 | 2 | 3 in 1 cases | 2 | 1 | 0.250 | 2 |"
    assert lines[3].startswith("| numbering=line | 0 of 0 |") and lines[0].count("|") == lines[3].count("|")


def test_details_of_the_full_setting(monkeypatch, tmp_path, capsys):
    class Named:
        channels = ("t2",)

    monkeypatch.setattr(numbering, "read_model", lambda folder: Named)
    monkeypatch.setattr(numbering, "reference_cases", lambda paths, channels: [*paths])
    monkeypatch.setattr(numbering, "measure", lambda *args: {FULL: [outcome("review", True, 0, 1)]})
    monkeypatch.setattr(sys, "argv", ["numbering.py", "--model", "m", "--details", str(tmp_path / "d.csv"), "cases"])
    assert numbering.main() == 0
    with (tmp_path / "d.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row == {"case": "a", "verdict": "review", "levels_right": "1", "levels_total": "1", "wrong_numbers": "0",
                   "missing_levels": "1", "mean_dice": "0.75", "reasons": "why"}  # fmt: skip
    assert capsys.readouterr().out.startswith("| setting |")


@pytest.mark.parametrize(
    ("networks", "wanted", "referenced", "left_out"),
    [
        (("disc", "localization"), True, True, ["without localization", "without registration"]),
        (("disc", "localization"), False, True, ["without registration"]),
        (("disc",), True, False, []),
    ],
)
def test_only_steps_that_a_model_has_are_left_out(networks, wanted, referenced, left_out):
    config = replace(Config("a"), inference=InferenceConfig(localization=wanted))
    model = Model(config, {network: {} for network in networks}, reference=REFERENCE if referenced else None)
    assert list(variants(model))[3:] == left_out


def test_settings_are_judged_as_the_model_judges(monkeypatch):
    """Of one case: every setting by the model's own calibration, from the evidence that was kept."""
    model = Model(Config("a"), {"disc": {}}, meta={"levels": "its own"})
    kept = SimpleNamespace(prepared="prepared", evidence="evidence")
    monkeypatch.setattr(numbering, "read_model", lambda name: model)
    monkeypatch.setattr(numbering, "read_evidence", lambda path: kept)
    monkeypatch.setattr(numbering, "read_case", lambda files, channels: SimpleNamespace(labels=REFERENCE))
    monkeypatch.setattr(numbering, "judgement_of", lambda facts: f"judged by {facts}")
    monkeypatch.setattr(numbering, "judge", lambda *seen: seen)
    found = numbering.measure_case("m", (None, None))
    assert {name: seen[3].numbering for name, seen in found.items()} == {
        FULL: "solver", "numbering=line": "line", "numbering=bottom": "bottom",
    }  # fmt: skip
    assert {seen[:3] + seen[4:] for seen in found.values()} == {
        ("prepared", REFERENCE, "evidence", "judged by its own")
    }
