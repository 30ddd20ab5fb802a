"""The ablation's course with a training that costs nothing, and its scores by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ablation
from benchmarks.ablation import WITHIN, ablate
from benchmarks.ablation_scores import HELD_OUT, read_scores
from benchmarks.ablation_variants import VARIANTS, budgeted
from benchmarks.made_contrasts import CONTRASTS
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
        name, name, ("t2",), np.zeros((1, *labels.shape), np.uint8), labels, labels * np.uint8(255), 0, grid, grid,
        grid, tissues=labels,
    )  # fmt: skip


def half(case: Prepared, *args: Any) -> Prepared:
    """The case with its upper eight rows as spine region."""
    region = np.zeros(case.grid.shape, bool)
    region[:, :8] = True
    return replace(case, region=region)


class Trainings:
    """Stands for `train_stage` and for reading: what they were called with; the network takes every voxel for disc."""

    def __init__(self) -> None:
        self.tasks: list[StageTask] = []
        self.roots: list[str] = []
        self.folders: list[str] = []

    def read(self, config: Config, folder: Path) -> list[Prepared]:
        self.roots.append(config.data.root)
        return [prepared("a"), prepared("b")] if config.data.root == "" else [prepared("c")]

    def train(self, config: Config, task: StageTask, folder: Path) -> StageResult:
        self.tasks.append(task)
        self.folders.append(folder.name if task.name == "region" else f"{folder.parent.name} {folder.name}")
        (folder / task.name).mkdir(parents=True, exist_ok=True)
        rows = "step,slices_per_second\n1,1\n2,20\n3,15\n"
        (folder / task.name / "journal.csv").write_text(rows, encoding="utf-8")
        if task.name == "region":
            return StageResult({"w": np.zeros(1, np.float32)}, {"region_dice": 0.9}, 1.0, 1, 1)
        return StageResult(None, {}, 1.0, 1, 1)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(ablation, "train_stage", made.train)
    monkeypatch.setattr(StageTask, "predict", staticmethod(lambda params, boxes: np.ones(boxes.shape[:3], np.float32)))
    monkeypatch.setattr(ablation, "prepared_cases", made.read)
    monkeypatch.setattr(ablation, "with_region", half)
    monkeypatch.setattr(ablation, "flops", lambda config: 2e6)
    monkeypatch.setattr(ablation, "parameter_count", lambda config: 1000)
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
    found = {score.variant: score for score in read_scores(tmp_path, list(VARIANTS))}
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


def test_the_study_of_contrast_scores_made_contrasts_and_further_scans(trainings, study, tmp_path):
    ablate(
        budgeted(study.path, (), None, "contrast"), tmp_path / "out", ["all_groups"], [1], scans=tmp_path / "elsewhere"
    )
    scores = read_scores(tmp_path / "out", ["all_groups"])
    assert [score.scans for score in scores] == [HELD_OUT, "elsewhere", *CONTRASTS]
    assert [list(score.dice) for score in scores] == [["b"], ["c"], *[["b"]] * len(CONTRASTS)]
    assert [case.name for case in trainings.tasks[1].training] == ["a"], "further scans train nothing"


def test_a_set_of_scans_named_later_is_scored_without_another_variant(trainings, study, tmp_path):
    ablate(study, tmp_path / "out", ["paper", "serial"], [1])
    ablate(study, tmp_path / "out", ["paper"], [1], scans=tmp_path / "elsewhere")
    assert trainings.folders[3:] == ["paper seed_1"], "its last checkpoint is taken up"
    found = read_scores(tmp_path / "out", ["paper", "serial"])
    assert [(score.variant, score.scans) for score in found] == [
        ("paper", HELD_OUT), ("paper", "elsewhere"), ("serial", HELD_OUT)
    ]  # fmt: skip


def test_scans_in_a_folder_named_like_another_set_are_refused(trainings, study, tmp_path):
    with pytest.raises(UserError, match="--scans: the name of .*blurred is that of another set; rename the folder"):
        ablate(study, tmp_path / "out", ["paper"], [1], scans=tmp_path / "blurred")
