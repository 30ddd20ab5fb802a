"""Every fold's cases are scored by a model that has not seen their subjects; what fails or is done already is told."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ivdjax.commands.commands import run_command
from ivdjax.config import Config, parse_config, read_config
from ivdjax.evaluation import cross_validation as workflow
from ivdjax.evaluation import evaluate as evaluation
from ivdjax.evaluation.cross_validation import cross_validate, parse_folds, run_training, split_folds
from ivdjax.imaging.files import write_labels, write_volume
from ivdjax.imaging.folders import alone
from ivdjax.inference.request import InferenceRequest
from ivdjax.model.model import Model, write_model
from ivdjax.reports.tables import CaseSummary
from ivdjax.volume import Grid, LabelMap, UserError
from tests.ivdm3seg_layout import write_ivdm3seg

AFFINE = np.array([[-4.0, 0, 0, 14], [0, 0, -2.0, 30], [0, -4.0, 0, 118], [0, 0, 0, 1]])
SUBJECTS = {"01": "A", "02": "B", "03": "A", "04": "B", "05": "C", "06": "C"}


def discs() -> LabelMap:
    array = np.zeros((6, 60, 12), np.uint8)
    for level in range(1, 8):
        array[1:5, 58 - 8 * level : 61 - 8 * level, 3:9] = level
    return LabelMap(array, AFFINE)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of three subjects, whose visits do not stand side by side."""
    root = tmp_path_factory.mktemp("data")
    image = np.random.default_rng(0).normal(100, 5, discs().array.shape).astype(np.float32)
    for case in SUBJECTS:
        (root / case).mkdir()
        write_volume(root / case / f"{case}_t2.nii.gz", image, Grid(discs().grid.shape, AFFINE))
        write_labels(root / case / f"{case}_Labels.nii.gz", discs())
    rows = [f"{case},{subject}" for case, subject in SUBJECTS.items()]
    (root / "subjects.csv").write_text("\n".join(["case,subject", *rows]) + "\n")
    return root


@pytest.fixture
def config(root: Path) -> Config:
    return parse_config({
        "name": "cv", "stages": ["disc"],
        "data": {"root": str(root), "channels": ["t2"], "subject_table": "subjects.csv", "folds": 3},
    })  # fmt: skip


class Work:
    """Stands for training and inference: models hold one number, and every disc is found."""

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.held_out: dict[int, list[str]] = {}
        self.trained: list[int] = []
        self.requests: list[InferenceRequest] = []
        self.failing: set[str] = set()
        self.refusal = ""

    def train(self, config: Config, output: Path, fold: int) -> int:
        self.trained.append(fold)
        code = self.codes.get(fold, 0)
        if not code:
            (split,) = split_folds(config, [fold])
            held_out = self.held_out.get(fold, [case.name for case in split.held_out])
            parameters = {"disc": {"kernel": np.full(1, fold, np.float32)}}
            meta = {"training": {"held_out": held_out}}
            write_model(output / f"fold_{fold}" / "model", Model(config, parameters, meta))
        return code

    def infer(self, request: InferenceRequest) -> list[CaseSummary]:
        self.requests.append(request)
        if self.refusal:
            raise UserError(self.refusal)
        request.output.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in [Path(text).name for text in request.inputs]:
            if name not in self.failing:
                folder = request.output / name
                folder.mkdir(exist_ok=True)
                write_labels(folder / f"{name}_discs.nii.gz", discs())
            rows.append(CaseSummary(name, "failed" if name in self.failing else "done"))
        return rows


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    made = Work()
    monkeypatch.setattr(workflow, "run_training", made.train)
    monkeypatch.setattr(workflow, "infer", made.infer)
    monkeypatch.setattr(evaluation, "write_comparison", lambda *args: None)  # pictures cost most of the time
    return made


def with_data(config: Config, **changes) -> Config:
    return replace(config, data=replace(config.data, **changes))


def summary(output: Path) -> dict:
    return json.loads((output / "cross_validation" / "summary.json").read_text())


def cases_in(output: Path) -> set[str]:
    with (output / "cross_validation" / "discs.csv").open() as stream:
        return {row["case"] for row in csv.DictReader(stream)}


def test_all_folds(config, work, tmp_path, capsys):
    assert cross_validate(config, tmp_path) == 0
    assert work.trained == [0, 1, 2] and cases_in(tmp_path) == set(SUBJECTS)
    told = summary(tmp_path)
    assert told["mean_dice"] == 1.0 and (told["levels_right"], told["levels_total"]) == (42, 42)
    held_out = [subject for fold in told["held_out_subjects"].values() for subject in fold]
    assert sorted(held_out) == ["A", "B", "C"]  # each subject in one fold
    for number, request in enumerate(work.requests):
        names = [Path(text).name for text in request.inputs]
        assert request.model == tmp_path / f"fold_{number}" / "model"
        assert {SUBJECTS[name] for name in names} == set(told["held_out_subjects"][str(number)]) and len(names) == 2
    tables = (tmp_path / "cross_validation" / "tables.md").read_text()
    assert "A (01, 03)" in tables and tables.count("| 04 | 1.000 |") == 1 and "paper" not in tables
    printed = capsys.readouterr().out
    assert "holds out B (02, 04)" in printed and "2 folds left" in printed and "tables.md" in printed
    assert not list(tmp_path.rglob("*.part"))


def test_no_case_trains_whose_subject_is_held_out(config):
    for fold in split_folds(config, [0, 1, 2]):
        assert {case.subject for case in fold.training}.isdisjoint(case.subject for case in fold.held_out)
        assert len(fold.training) == 4 and len(fold.held_out) == 2


def test_chosen_folds_and_then_all(config, work, tmp_path):
    assert cross_validate(config, tmp_path, [2, 0, 2]) == 0
    assert work.trained == [0, 2] and len(cases_in(tmp_path)) == 4
    assert "Not asked for: fold 1." in (tmp_path / "cross_validation" / "tables.md").read_text()
    assert cross_validate(config, tmp_path) == 0
    assert cases_in(tmp_path) == set(SUBJECTS)
    assert "Not asked" not in (tmp_path / "cross_validation" / "tables.md").read_text()


def test_paper_beside(config, work, tmp_path):
    assert cross_validate(with_data(config, paper_figures=True), tmp_path, [0]) == 0
    assert "| mean Dice | 1.0000 | 0.9058 |" in (tmp_path / "cross_validation" / "tables.md").read_text()


def test_predictions_of_another_model_are_computed_again(config, work, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "stored_summary", lambda output, files, *rest: CaseSummary(files.name, "skipped"))
    cross_validate(config, tmp_path, [0])
    cross_validate(config, tmp_path, [0])
    monkeypatch.setattr(workflow, "stored_summary", lambda output, files, *rest: None)
    cross_validate(config, tmp_path, [0])
    assert [request.overwrite for request in work.requests] == [False, False, True]


@pytest.mark.parametrize(("code", "words"), [(1, "training failed;"), (-9, "training failed: killed")])
def test_fold_that_fails_costs_only_itself(config, work, tmp_path, capsys, code, words):
    work.codes = {1: code}
    assert cross_validate(config, tmp_path) == 1
    assert work.trained == [0, 1, 2] and len(cases_in(tmp_path)) == 4
    assert "Failed, and missing in every figure: fold 1." in (tmp_path / "cross_validation" / "tables.md").read_text()
    assert summary(tmp_path)["failed_folds"] == [1]
    assert f"fold 1: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(("codes", "answer", "trained"), [
    ({1: 130}, 130, [0, 1]), ({1: 143}, 143, [0, 1]), ({0: 2}, 2, [0]), ({1: 2}, 1, [0, 1]),
    ({0: 1, 1: 1, 2: 1}, 1, [0, 1, 2]),
])  # fmt: skip
def test_what_ends_the_run(config, work, tmp_path, codes, answer, trained):
    work.codes = codes
    assert cross_validate(config, tmp_path) == answer
    assert work.trained == trained and not (tmp_path / "cross_validation" / "tables.md").exists()


def test_case_that_fails_in_inference_counts_as_missed(config, work, tmp_path):
    work.failing = {"04"}
    assert cross_validate(config, tmp_path) == 1
    assert summary(tmp_path)["levels_right"] == 35 and summary(tmp_path)["levels_total"] == 42


def test_inference_that_cannot_begin_is_no_refusal_any_more(config, work, tmp_path, capsys):
    work.refusal = "no such disk"
    assert cross_validate(config, tmp_path) == 1
    assert work.trained == [0, 1, 2] and "fold 2: inference failed: no such disk" in capsys.readouterr().err


def test_no_prediction_at_all(config, work, tmp_path, capsys):
    work.failing = set(SUBJECTS)
    assert cross_validate(config, tmp_path) == 1
    assert "error: no prediction of any reference" in capsys.readouterr().err


def test_model_of_another_split_is_never_scored(config, work, tmp_path, capsys):
    work.held_out = {1: ["01"]}
    assert cross_validate(config, tmp_path) == 1
    assert "fold 1: inference failed" in capsys.readouterr().err and len(cases_in(tmp_path)) == 4
    work.trained.clear()
    with pytest.raises(UserError, match=r"fold_1/model was trained with 01 held out, but fold 1 is now \d\d, \d\d"):
        cross_validate(config, tmp_path)
    assert work.trained == []  # told before anything is started


def test_phantoms_are_made_once_for_all_folds(work, tmp_path, monkeypatch):
    config = parse_config({"name": "cv", "data": {"phantom_cases": 6, "folds": 3}})
    seen = []

    def stop(made: Config, chosen: list[int]) -> list:
        seen.append((made.data.root, chosen))
        raise UserError("enough")

    monkeypatch.setattr(workflow, "with_phantoms", lambda config, output: with_data(config, root=str(output / "data")))
    monkeypatch.setattr(workflow, "split_folds", stop)
    with pytest.raises(UserError, match="enough"):
        cross_validate(config, tmp_path)
    assert seen == [(str(tmp_path / "data"), [0, 1, 2])]


def test_refusals(config, work, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for bad, output, folds, words in [
        (with_data(config, folds=0), tmp_path, [], "needs folds, .* set data.folds"),
        (config, tmp_path, [3], "--fold must be 0 to 2 .* not 3"),
        (with_data(config, root=""), tmp_path, [], "give data.root=DATA_ROOT"),
        (config, tmp_path / "file", [], "is a file; give a folder"),
        (with_data(config, folds=4), tmp_path, [], "folds must be 2 to the number of subjects, 3"),
        (with_data(config, subject_table="", paper_figures=True), tmp_path, [], "IVDM3Seg were scanned twice"),
    ]:
        with pytest.raises(UserError, match=words):
            cross_validate(bad, output, folds)
    assert work.trained == []
    assert "warning" not in capsys.readouterr().err
    split_folds(with_data(config, subject_table=""), [0])
    assert "every case counts as a subject of its own" in capsys.readouterr().err


def test_fold_without_a_case_is_refused(config, root, tmp_path):
    table = tmp_path / "folds.csv"
    rows = [f"{case},{subject},{'AB'.find(subject) % 2}" for case, subject in SUBJECTS.items()]
    table.write_text("\n".join(["case,subject,fold", *rows]) + "\n")
    with pytest.raises(UserError, match="fold 2 holds out no case"):
        split_folds(with_data(config, subject_table=str(table)), [0, 1, 2])


def test_fold_lists():
    assert parse_folds("0, 3,") == [0, 3] and parse_folds("") == []
    for text in ("a", "0;1", "-1", "1.5"):
        with pytest.raises(UserError, match=f"--folds takes numbers from 0, separated by commas, not '{text}'"):
            parse_folds(text)


def test_another_process_in_the_same_folder_is_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workflow.time, "sleep", threading.Event().wait)  # the same, but of the module's own name
    entered = threading.Event()

    def enter() -> None:
        with workflow._in_turn(tmp_path / "shared"):
            entered.set()

    (tmp_path / "shared").mkdir()
    with alone(tmp_path / "shared") as undisturbed:
        assert undisturbed
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join()
    assert capsys.readouterr().err.count("waiting for it") == 1


def test_training_that_is_refused_gives_its_exit_code(config, tmp_path, capfd):
    """In a process of its own, as it is."""
    assert run_training(with_data(config, folds=0), tmp_path, 1) == 2
    assert "the configuration has no folds" in capfd.readouterr().err


def linger(config: Config, output: Path, fold: int) -> None:
    (output / "pid").write_text(str(os.getpid()))
    (output / "pid").replace(output / "begun")
    time.sleep(60)


def test_no_training_outlives_a_stop(config, tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "_train", linger)

    def stop_when_begun() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_begun)
    thread.start()
    assert run_command(lambda: run_training(config, tmp_path, 0)) == 143
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "begun").read_text()), 0)


SMALL = {
    "name": "small", "seed": 3,
    "data": {"channels": ["fat", "inn", "opp", "wat"], "subject_table": "subjects.csv", "folds": 2,
             "paper_figures": True},
    "preparation": {"spacing_mm": [3.5, 3.5]},
    "augmentation": {"elastic_mm": 0, "bias": 0, "channel_dropout": 0.2},
    "region": {
        "network": {"width": 4, "downsamplings": 1, "layers": 1, "groups": 4}, "spacing_mm": [7.0, 7.0],
        "training": {"steps": 4, "batch_size": 2, "crop": [48, 32]},
    },
    "disc": {
        "network": {"stem": 4, "growth": [4, 4, 4], "layers": [1, 1, 1], "aspp_rates": [2], "aspp_growth": 4,
                    "path": [4, 4, 4], "groups": 4},
        "training": {"steps": 4, "batch_size": 2, "crop": [64, 48]},
    },
    "localization": {
        "network": {"widths": [4, 4], "layers": [1, 1], "slice_pooling": [1], "groups": 4},
        "spacing_mm": [8.0, 8.0, 8.0], "training": {"steps": 4, "batch_size": 1, "crop": [8, 40, 32]},
    },
}  # fmt: skip


@pytest.mark.slow
def test_ivdm3seg_in_two_commands(tmp_path, monkeypatch, capsys):
    """Binary masks, two visits a subject, one label on another grid; a fold trained before is taken as it is."""
    repository = Path(__file__).resolve().parents[2]
    data = write_ivdm3seg(tmp_path / "sets", sets=4, displaced="04")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    options = ["--config", tmp_path / "small.yaml", "--set", f"data.root={data}", "--output", tmp_path / "run"]

    def command(name: str, *more: str) -> subprocess.CompletedProcess:
        words = [sys.executable, name, *map(str, options), *more]
        done = subprocess.run(words, cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    command("train.py", "--fold", "0")
    done = command("cross_validate.py")
    assert done.stdout.count("nothing to do, all of its training is done") == 1
    assert "04_Labels.nii lies on another grid" in done.stdout + done.stderr
    result = tmp_path / "run" / "cross_validation"
    assert cases_in(tmp_path / "run") == {"01", "02", "03", "04"}
    assert summary(tmp_path / "run")["levels_total"] == 28
    tables = (result / "tables.md").read_text()
    assert "S01 (01, 02)" in tables and "S02 (03, 04)" in tables and "2 of 2 folds" in tables
    assert all(tables.count(f"\n| {case} | ") == 3 for case in ("01", "02", "03", "04"))
    assert "0.9058" in tables
    assert not list((tmp_path / "run").rglob("*.part"))

    # Once more, here and without the start of processes that have nothing to do.
    monkeypatch.setattr(workflow, "run_training", lambda *args: 0)
    monkeypatch.setattr(evaluation, "write_comparison", lambda *args: None)
    config = read_config(tmp_path / "small.yaml", [f"data.root={data}"])
    assert cross_validate(config, tmp_path / "run") == 0
    assert capsys.readouterr().out.count("2 skipped") == 2
    assert (result / "tables.md").read_text() == tables
