from __future__ import annotations

import csv
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import outline_confidence as bench
from benchmarks.outline_confidence import Outline, chosen_cases, degraded, distinct, figures, judged, tables
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.outline import calibrated
from ivdjax.volume import Case, LabelMap, UserError, Volume

CURVE = {"scale": 1.5, "power": 2.0}


def column(*levels: int) -> LabelMap:
    """Discs of four voxels above one another: the label of each place from the top."""
    array = np.zeros((1, 2 * len(levels), 4), np.uint8)
    for place, level in enumerate(levels):
        array[0, 2 * place] = level
    return LabelMap(array, np.eye(4))


def outlines(cases: int = 4) -> list[Outline]:
    """Three discs a case; their Dice follows the curve."""
    expected = [0.4 + 0.04 * place for place in range(3 * cases)]
    return [Outline(f"c{place // 3}", 1 + place % 3, e, float(calibrated([e], CURVE)[0]), False)
            for place, e in enumerate(expected)]  # fmt: skip


def test_an_outline_is_judged_by_the_reference_disc_it_covers_most_whatever_its_number():
    prediction, reference = column(8, 4, 3, 1), column(0, 0, 3, 2)
    prediction.array[0, 6, 3] = 0
    found = judged("a", prediction, reference, {1: 0.5, 3: 0.6, 4: 0.7, 8: 0.8})
    assert found == [
        Outline("a", 1, 0.5, pytest.approx(6 / 7), False),  # three of the four voxels of disc 2
        Outline("a", 3, 0.6, 1.0, False),
        Outline("a", 4, 0.7, 0.0, True),  # covers nothing; level 8 does not count
    ]


def test_cases_are_chosen_by_name_and_an_unknown_name_is_refused():
    found = [CaseFiles(name, name, {}) for name in ("a", "b", "c")]
    assert [files.name for files in chosen_cases(found, "c, a")] == ["a", "c"]
    assert chosen_cases(found, None) == found
    with pytest.raises(UserError, match="no case with a reference is named d"):
        chosen_cases(found, "a,d")


def test_cases_of_one_name_are_told_apart():
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


def made_case() -> Case:
    """Stripes of 5 rows with noise; slice n of the reference holds the value n."""
    stripes = 100.0 * (np.indices((1, 12, 30, 30))[2] // 5 % 2)
    array = stripes + np.random.default_rng(0).normal(size=stripes.shape)
    numbered = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None], stripes.shape[1:])
    return Case("a", "a", Volume(array, np.eye(4), ("t2",)), LabelMap(numbered, np.eye(4)))


def test_a_degraded_case_is_repeatable_worse_and_keeps_its_reference_in_place():
    fewer = changed = 0
    for seed in range(12):
        worse = degraded(made_case(), np.random.default_rng(seed))
        again = degraded(made_case(), np.random.default_rng(seed))
        np.testing.assert_array_equal(worse.volume.array, again.volume.array)
        assert np.isfinite(worse.volume.array).all() and worse.labels.grid.matches(worse.volume.grid)
        kept = worse.labels.array[:, 0, 0]  # what is left lies where it lay
        np.testing.assert_array_equal(kept, np.arange(len(kept)) * worse.volume.spacing_mm[0])
        fewer += len(kept) < 12
        changed += len(kept) == 12 and not np.array_equal(worse.volume.array, made_case().volume.array)
    assert fewer and changed


def test_figures_by_hand():
    rows = [Outline("a", 1, 0.9, 0.9, False), Outline("a", 2, 0.8, 0.5, False), Outline("b", 1, 0.7, 0.7, False),
            Outline("b", 2, 0.6, 0.0, True)]  # fmt: skip
    facts = figures(rows, np.array([1.0, 0.8, 0.7, 0.6]))
    assert (facts["cases"], facts["discs"], facts["extra_discs"]) == (2, 4, 1)
    assert facts["rank_correlation"] == 0.8  # ranks 4 3 2 1 and 4 2 3 1: 1 - 6 * 2 / (4 * 15)
    assert (facts["mean_absolute_error"], facts["mean_error"]) == (0.25, 0.25)
    assert (facts["mean_dice"], facts["mean_absolute_deviation"]) == (0.525, 0.275)
    low, high = facts["rank_correlation_95"]
    assert low <= 0.8 <= high <= 1


def test_tables_count_bins_and_what_thresholds_flag():
    rows = [Outline("a", 1, 0.9, 0.95, False), Outline("a", 2, 0.8, 0.5, False), Outline("b", 1, 0.7, 0.72, False)]
    lines = tables(rows, np.array([0.93, 0.62, 0.66])).splitlines()
    assert "| 0.60 to 0.70 | 2 | 0.640 | 0.610 | 0.500 |" in lines
    assert "| 0.90 to 0.95 | 1 | 0.930 | 0.950 | 0.950 |" in lines
    assert "| 0.6 | 0 of 3 | 0 of 2 | 0 of 1 | - |" in lines
    assert "| 0.65 | 1 of 3 | 1 of 2 | 1 of 1 | 0.500 |" in lines
    assert "| 0.7 | 2 of 3 | 2 of 2 | 1 of 1 | 0.610 |" in lines
    for first, second in pairwise(lines):
        assert not (first and second) or first.count("|") == second.count("|")


def test_discs_that_are_all_alike_have_no_rank_correlation():
    rows = [Outline("a", 1, 0.9, 0.9, False), Outline("a", 2, 0.8, 0.9, False)]
    facts = figures(rows, np.array([0.9, 0.8]))
    assert facts["rank_correlation"] is None and facts["rank_correlation_95"] == [None, None]
    assert "| - (- to -) |" in tables(rows, np.array([0.9, 0.8]))


def run(monkeypatch, tmp_path: Path, meta: dict, *options: str) -> tuple[int, dict]:
    """The command over made outlines; its exit code and what it stored."""
    stored: dict = {}
    model = SimpleNamespace(channels=("t2",), meta=meta)
    monkeypatch.setattr(bench, "read_model", lambda folder: model)
    monkeypatch.setattr(bench, "reference_cases", lambda paths, channels: [])
    monkeypatch.setattr(bench, "load_segmenter", lambda folder: None)
    monkeypatch.setattr(bench, "measure", lambda segmenter, cases, degrade: outlines())
    monkeypatch.setattr(bench, "annotate_model", lambda folder, facts: stored.update(facts))
    monkeypatch.setattr(sys, "argv", ["b", "--model", "m", "--references", str(tmp_path), *options])
    return bench.main(), stored


def test_a_calibration_is_fitted_and_stored(monkeypatch, tmp_path, capsys):
    code, stored = run(monkeypatch, tmp_path, {}, "--calibrate", "--store", "--note", "made")
    facts = stored["outline_calibration"]
    assert code == 0 and "checked" not in facts
    assert (facts["scale"], facts["power"]) == (pytest.approx(1.5, abs=1e-3), pytest.approx(2.0, abs=1e-3))
    assert facts["fitted"]["data"] == "made" and facts["fitted"]["discs"] == 12
    assert capsys.readouterr().out.startswith("dice = 1 - ")


def test_a_check_keeps_the_calibration_and_writes_plot_and_details(monkeypatch, tmp_path):
    plot, details = tmp_path / "p.png", tmp_path / "d.csv"
    meta = {"outline_calibration": CURVE | {"fitted": {"discs": 99}, "checked": {"discs": 1}}}
    code, stored = run(monkeypatch, tmp_path, meta, "--store", "--plot", str(plot), "--details", str(details))
    facts = stored["outline_calibration"]
    assert code == 0 and (facts["scale"], facts["power"], facts["fitted"]) == (1.5, 2.0, {"discs": 99})
    assert facts["checked"]["discs"] == 12 and facts["checked"]["mean_absolute_error"] == 0.0
    assert plot.read_bytes().startswith(b"\x89PNG")
    with details.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12 and rows[0]["predicted"] == rows[0]["dice"] and rows[0]["expected"] == "0.4"


def test_without_a_calibration_there_is_nothing_to_store_a_check_in(monkeypatch, tmp_path, capsys):
    code, stored = run(monkeypatch, tmp_path, {}, "--store")
    assert (code, stored) == (2, {}) and "make one first with --calibrate" in capsys.readouterr().err
