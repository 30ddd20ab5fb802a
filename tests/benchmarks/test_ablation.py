"""The ablation's course with a training that costs nothing, its scores by hand, and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ablation
from benchmarks.ablation import WITHIN, Score, ablate, read_scores, table
from benchmarks.ablation_variants import budgeted
from ivdjax.config import Config, ConfigError
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.folders import alone
from ivdjax.model.tasks import StageTask
from ivdjax.training.stage import StageResult
from ivdjax.volume import Grid, UserError

YAML = """
name: small
data: {validation: [b]}
preparation: {spacing_mm: [1.0, 1.0]}
disc:
  network:
    {stem: 4, growth: [4, 4, 4], layers: [1, 1, 1], aspp_rates: [1, 2], aspp_growth: 4, path: [4, 4, 4], groups: 4}
  training: {steps: 8, crop: [16, 16], batch_size: 2}
  loss: {cross_entropy_steps: 2}
"""


def prepared(name: str) -> Prepared:
    """Sixteen rows of sixteen voxels, of which the first four are disc."""
    labels = np.zeros((1, 16, 16), np.uint8)
    labels[:, :4] = 1
    grid = Grid(labels.shape, np.eye(4))
    return Prepared(
        name, name, ("t2",), np.zeros((1, *labels.shape), np.uint8), labels, labels * np.uint8(255), 0, grid, grid, grid
    )


def half(case: Prepared, *args: Any) -> Prepared:
    """The case with its upper eight rows as spine region."""
    region = np.zeros(case.grid.shape, bool)
    region[:, :8] = True
    return replace(case, region=region)


class Trainings:
    """Stands for `train_stage`: what it was called with; its network takes every voxel for disc."""

    def __init__(self) -> None:
        self.tasks: list[StageTask] = []
        self.folders: list[str] = []

    def train(self, config: Config, task: StageTask, folder: Path) -> StageResult:
        self.tasks.append(task)
        self.folders.append(folder.name if task.name == "region" else f"{folder.parent.name} {folder.name}")
        (folder / task.name).mkdir(parents=True)
        rows = "step,slices_per_second\n1,1\n2,20\n3,15\n"
        (folder / task.name / "journal.csv").write_text(rows, encoding="utf-8")
        if task.name == "region":
            return StageResult({"w": np.zeros(1, np.float32)}, {"region_dice": 0.9}, 1.0, 1, 1)
        for case in task.held_out:
            task.score(lambda params, boxes: np.ones(boxes.shape[:3], np.float32), None, case)
        return StageResult(None, {}, 1.0, 1, 1)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(ablation, "train_stage", made.train)
    monkeypatch.setattr(ablation, "prepared_cases", lambda *args: [prepared("a"), prepared("b")])
    monkeypatch.setattr(ablation, "with_region", half)
    monkeypatch.setattr(ablation, "use_compilation_cache", lambda: None)
    return made


@pytest.fixture
def study(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(YAML, encoding="utf-8")
    return budgeted(path, (), None)


def test_each_variant_is_trained_with_each_seed_and_one_region(trainings, study, tmp_path):
    ablate(study, tmp_path / "out", ["paper", "everywhere"], [1, 2])
    assert trainings.folders == ["out", "paper seed_1", "everywhere seed_1", "paper seed_2", "everywhere seed_2"]
    regions = [task.training[0].region is not None for task in trainings.tasks[1:]]
    assert regions == [True, False, True, False]
    assert [case.name for case in trainings.tasks[1].training] == ["a"]


def test_scores_are_dice_within_the_region_and_everywhere(trainings, study, tmp_path):
    """Four rows are disc: 2 x 4 / (8 + 4) where eight rows are found, 2 x 4 / (16 + 4) where all sixteen are."""
    ablate(study, tmp_path, ["paper", "everywhere"], [1])
    found = {score.variant: score for score in read_scores(tmp_path)}
    assert {name: score.dice for name, score in found.items()} == {
        "paper": {"b": pytest.approx(2 / 3)},
        "everywhere": {"b": pytest.approx(0.4)},
        WITHIN: {"b": pytest.approx(2 / 3)},
    }
    assert found["paper"].step_ms == pytest.approx(100.0)  # two boxes at twenty a second


def test_what_is_done_is_not_done_again(trainings, study, tmp_path):
    ablate(study, tmp_path, ["paper"], [1])
    ablate(study, tmp_path, ["paper"], [1])
    assert len(trainings.tasks) == 2
    ablate(study, tmp_path, ["paper", "serial"], [1])
    assert trainings.folders[2:] == ["serial seed_1"]


def test_another_configuration_needs_another_folder(trainings, study, tmp_path):
    ablate(study, tmp_path, ["paper"], [1])
    other = replace(study, overrides=(*study.overrides, "disc.training.steps=9"))
    with pytest.raises(ConfigError, match=r"begun with another configuration.*\n  disc.training.steps: 8 -> 9"):
        ablate(other, tmp_path, ["paper"], [1])


def test_a_folder_whose_configuration_is_damaged_is_refused(trainings, study, tmp_path):
    ablate(study, tmp_path, ["paper"], [1])
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config.json cannot be read .* choose another --output, or remove"):
        ablate(study, tmp_path, ["paper"], [1])


def test_two_at_work_in_one_folder_are_refused(trainings, study, tmp_path):
    with alone(tmp_path), pytest.raises(UserError, match="another ablation.py is at work in"):
        ablate(study, tmp_path, ["paper"], [1])
    assert not trainings.tasks


def test_nobody_to_score_is_refused(trainings, study, tmp_path):
    nobody = replace(study, overrides=(*study.overrides, "data.validation=[]"))
    with pytest.raises(UserError, match=r"no held-out case has outlined discs to score against; .* data.validation"):
        ablate(nobody, tmp_path, ["paper"], [1])


def test_damaged_scores_are_named(tmp_path):
    place = tmp_path / "serial" / "seed_1"
    place.mkdir(parents=True)
    (place / "scores.json").write_text(json.dumps([{"variant": "serial"}]), encoding="utf-8")
    with pytest.raises(UserError, match=r"serial/seed_1/scores.json cannot be read .* remove its folder"):
        read_scores(tmp_path)


def test_the_table_shows_means_worst_cases_spread_and_paired_differences():
    scores = [
        Score("paper", 1, 1000, 2.0, 10.0, {"a": 0.5, "b": 0.7}),
        Score("paper", 2, 1000, 2.0, 20.0, {"a": 0.6, "b": 0.8}),
        Score("serial", 1, 900, 1.6, 8.0, {"a": 0.6, "b": 0.66}),
        Score("unet", 3, 1100, 0.6, 4.0, {"a": 0.5, "b": 0.5}),
    ]
    assert table(scores).splitlines() == [
        "| variant | parameters | Mflop a box | ms a step | seed 1: mean (worst) | seed 2: mean (worst) "
        "| seed 3: mean (worst) | mean of seeds | spread | against paper |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| paper | 1,000 | 2 | 15 | 0.600 (0.500) | 0.700 (0.600) | - | 0.650 | 0.100 | - |",
        "| serial | 900 | 2 | 8 | 0.630 (0.600) | - | - | 0.630 | - | +0.030, better in 1 of 2 |",
        "| unet | 1,100 | 1 | 4 | - | - | 0.500 (0.500) | 0.500 | - | - |",
    ]
