"""Fitting grades: numbers are found again, patients are left out whole, and a model's folder is given them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import fit_grades
from benchmarks.fit_grades import Graded, figures_of, fit, left_out, main, quadratic_kappa
from benchmarks.gradings import PFIRRMANN, read_gradings
from ivdjax.config import parse_config
from ivdjax.discs.grades import FEATURES, grade_probabilities, grader_of
from ivdjax.model.model import Model, read_model, write_model
from ivdjax.reports.tables import csv_text
from ivdjax.volume import UserError

WEIGHTS, THRESHOLDS = np.array([-1.5, 0.8]), np.array([-2.0, -0.5, 0.7, 2.2])


def drawn(patients=400, discs=7, seed=0):
    """Discs of patients, with grades drawn by known numbers."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(patients * discs, 2))
    shares = grade_probabilities(values @ WEIGHTS, THRESHOLDS)
    grades = 1 + (random.random((len(values), 1)) > np.cumsum(shares, axis=1)).sum(axis=1)
    return Graded(("log_nucleus_csf", "log_height_index"), np.repeat(np.arange(patients), discs),
                  np.tile(np.arange(1, discs + 1), patients), values, np.minimum(grades, 5))  # fmt: skip


def test_the_numbers_that_drew_the_grades_are_found_again():
    found = fit(drawn())
    assert np.array(found.weights) / np.array(found.spreads) == pytest.approx(WEIGHTS, abs=0.12)
    moved = np.array(found.thresholds) + np.array(found.centres) @ (np.array(found.weights) / np.array(found.spreads))
    assert moved == pytest.approx(THRESHOLDS, abs=0.15)


def test_a_patient_that_is_left_out_takes_no_part_in_its_own_numbers():
    discs = drawn(patients=12)
    own = discs.patients == 3
    changed = replace(discs, grades=np.where(own, 6 - discs.grades, discs.grades))
    before, after = left_out(discs), left_out(changed)
    assert np.allclose(before[own], after[own]) and not np.allclose(before[~own], after[~own])


def test_kappa_by_hand_and_figures_with_intervals():
    one, other = np.array([1, 1, 5, 5]), np.array([1, 2, 5, 5])
    # Seen: one step apart once. By chance: (1,1) 0, (1,2) 1, (1,5) 16, (5,1) 16, (5,2) 9, (5,5) 0, weighted.
    by_chance = (2 * 1 * 1 + 2 * 2 * 16 + 2 * 1 * 16 + 2 * 1 * 9) / 4
    assert quadratic_kappa(one, other) == pytest.approx(1 - 1 / by_chance)
    assert np.isnan(quadratic_kappa(np.array([3, 3]), np.array([3, 3])))
    discs = Graded(("l5s1",), np.array([1, 1, 2, 2]), np.array([1, 2] * 2), np.zeros((4, 1)), one)
    shares = np.eye(5)[other - 1]
    told = figures_of(discs, shares)
    assert told["exact"].startswith("0.75 (0.50 to 1.00") and told["within one grade"].startswith("1.00 (1.00")
    assert (told["patients"], told["discs"], told["mean error of the expected grade"]) == (2, 4, 0.25)


def test_gradings_are_read_and_what_is_none_is_refused(tmp_path):
    path = tmp_path / "gradings.csv"
    path.write_text("Patient,IVD label,Pfirrman grade,Disc bulging\n018,1,5,0\n18,2,4,1\n")
    assert read_gradings(path)[18, 1] == {PFIRRMANN: 5, "Disc bulging": 0}
    assert read_gradings(path)[18, 2] == {PFIRRMANN: 4, "Disc bulging": 1}
    for text, words in (("Patient,IVD label,Pfirrman grade\n18,1,6\n", "grade of 1 to 5"), ("a,b\n1,2\n", "columns")):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_gradings(path)


def test_the_command_gives_a_model_its_numbers_credit_and_figures(tmp_path, monkeypatch, capsys):
    discs = drawn(patients=20)
    model = tmp_path / "model"
    config = parse_config({"name": "any", "data": {"channels": ["t2"]}})
    write_model(model, Model(config, {"disc": {"weights": np.zeros(2, np.float32)}}))
    rows = [{"case": f"{patient:03d}", "level": level} | dict.fromkeys(FEATURES, 0.0) | dict(zip(
        discs.names, values, strict=True)) for patient, level, values in
        zip(discs.patients, discs.levels, discs.values, strict=True)]  # fmt: skip
    (tmp_path / "table.csv").write_text(csv_text(("case", "level", *FEATURES), rows))
    gradings = [f"{patient},{level},{grade}" for patient, level, grade in
                zip(discs.patients, discs.levels, discs.grades, strict=True)]  # fmt: skip
    (tmp_path / "gradings.csv").write_text("\n".join(["Patient,IVD label,Pfirrman grade", *gradings]))
    monkeypatch.setattr(fit_grades.sys, "argv", [
        "fit_grades", "--references", str(tmp_path), "--gradings", str(tmp_path / "gradings.csv"), "--table",
        str(tmp_path / "table.csv"), "--features", ",".join(discs.names), "--model", str(model), "--held-out", "3,4",
        "--credit", "A reader", "--licence", "CC BY 4.0"])  # fmt: skip
    assert main() == 0
    facts = read_model(model).meta["grades"]
    grader = grader_of(facts)
    assert grader.features == discs.names and np.diff(grader.thresholds).min() > 0
    assert facts["data"] == "18 patients, 126 discs" and str(tmp_path) not in facts["command"]
    assert facts["figures"]["held-out patients, reference masks"]["patients"] == 2
    card = (model / "README.md").read_text()
    for words in ("Estimate of Pfirrmann grades", "A reader", "kappa of about 0.6", "| log_height_index |"):
        assert words in card
    assert "140 graded discs of 20 patients" in capsys.readouterr().out
