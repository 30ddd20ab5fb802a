"""Training from a configuration to a model: stages and their order, claims, refusals, a resume that changes nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from flax import linen as nn

from ivdjax.commands.commands import Terminated
from ivdjax.config import Config, ConfigError, parse_config, plain_config
from ivdjax.data.cache import write_prepared
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.folders import alone
from ivdjax.model import tasks
from ivdjax.model.model import Model, annotate_model, read_model, write_model
from ivdjax.model.tasks import StageTask
from ivdjax.model.weights import read_weights
from ivdjax.networks.layers import ConvUnit
from ivdjax.training import stage as stage_workflow
from ivdjax.training import train as workflow
from ivdjax.training.descent import case_marks
from ivdjax.training.journal import Journal
from ivdjax.training.stage import StageResult
from ivdjax.training.stage_record import read_record
from ivdjax.training.train import train
from ivdjax.volume import Grid, UserError

STEPS = 8
STAGES = ["region", "disc", "localization"]


def prepared(name: str, channels: tuple[str, ...] = ("t2",)) -> Prepared:
    """Noise with two bright bars as discs; subjects have two visits, a1 and a2."""
    random = np.random.default_rng([ord(letter) for letter in name])
    shape = (3, 24, 20)
    labels = np.zeros(shape, np.uint8)
    labels[:, 6:9, 5:15], labels[:, 14:17, 5:15] = 2, 1
    image = random.integers(0, 100, (len(channels), *shape)).astype(np.uint8) + (labels > 0) * np.uint8(120)
    grid = Grid(shape, np.diag([4.0, 1.25, 1.25, 1.0]))
    return Prepared(name, name[0], channels, image, labels, (labels > 0) * np.uint8(255), 0, grid, grid, grid)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name in ("a1", "a2", "b1", "c1"):
        write_prepared(tmp_path / "stored", prepared(name))
    return parse_config({
        "name": "tiny", "seed": 3,
        "data": {"cache": str(tmp_path / "stored"), "validation": ["a1"], "folds": 3},
        "augmentation": {"elastic_mm": 0, "bias": 0},
        "region": {
            "spacing_mm": [1.25, 1.25], "dilation_mm": 3.0, "margin_mm": 0.0,
            "training": {"steps": 5, "batch_size": 4, "crop": [16, 16], "log_every": 5, "checkpoint_every": 5},
        },
        "localization": {
            "spacing_mm": [4.0, 1.25, 1.25], "dilation_mm": 0.0,
            "training": {"steps": 5, "batch_size": 4, "crop": [4, 16, 16], "log_every": 5, "checkpoint_every": 5},
        },
        "disc": {
            "loss": {"cross_entropy_steps": 3},
            "training": {"steps": STEPS, "batch_size": 4, "crop": [16, 16], "log_every": 3, "checkpoint_every": 4,
                         "resident_mib": 1},
        },
    })  # fmt: skip


class Stage:
    """Stands for the training of a stage: it begins a journal and gives parameters, or fails at the stage asked for."""

    def __init__(self) -> None:
        self.tasks: list[StageTask] = []
        self.folders: list[Path] = []
        self.init: list[Any] = []
        self.regions: list[tuple[str, float]] = []
        self.error: BaseException | None = None
        self.fails_at = "region"

    @property
    def names(self) -> list[str]:
        """The stages that were trained, in order."""
        return [task.name for task in self.tasks]

    def __call__(self, config: Config, task: StageTask, folder: Path, init: Any, push: Any) -> StageResult:
        self.tasks.append(task)
        self.folders.append(folder)
        self.init.append(init)
        (folder / task.name).mkdir(exist_ok=True)
        (folder / task.name / "journal.csv").write_text("step\n")
        assert not (folder / "model").exists()  # the model comes at the end
        if self.error and task.name == self.fails_at:
            raise self.error
        parameters = {"layer": {"kernel": np.full((2, 3), STAGES.index(task.name) + 1, np.float32)}}
        steps = task.settings.training.steps
        return StageResult(parameters, {task.figure: 0.75}, 12.0, steps, steps)

    def with_region(self, case: Prepared, predict: Any, params: Any, config: Config) -> Prepared:
        """Stands for the prediction of a region: it notes whose, and by which parameters."""
        self.regions.append((case.name, float(params["layer"]["kernel"][0, 0])))
        return replace(case, region=np.ones(case.grid.shape, bool))


def names(cases: Any) -> list[str]:
    return [case.name for case in cases]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr(workflow, "train_stage", made)
    monkeypatch.setattr(workflow, "with_region", made.with_region)
    monkeypatch.setattr(workflow, "use_compilation_cache", lambda: None)
    return made


def with_rate(config: Config, rate: float) -> Config:
    return replace(config, disc=replace(config.disc, optimizer=replace(config.disc.optimizer, learning_rate=rate)))


def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Config, *options: str) -> int:
    """The exit code of train.py."""
    from ivdjax.cli.train import COMMAND

    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain_config(config)))
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(path), "--output", str(tmp_path / "run"), *options])
    return COMMAND.main()


def journal(folder: Path, name: str = "disc") -> list[tuple[str, ...]]:
    with (folder / name / "journal.csv").open(newline="") as stream:
        return [(row["step"], row["loss"], row["gradient_norm"], row["dice"]) for row in csv.DictReader(stream)]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Lets something happen while the row of a step is written, once."""
    write, left = Journal.row, [action]

    def row(self: Journal, at: int, scalars: Any) -> None:
        write(self, at, scalars)
        if at == step and left:
            left.pop()()

    monkeypatch.setattr(Journal, "row", row)


class Small(nn.Module):
    """A network that compiles in a few seconds."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        maps = nn.Dense(4)(ConvUnit(4, 3, groups=4)(x))
        return maps[..., 0], jnp.moveaxis(maps[..., 1:], -1, 0)


class SmallLevels(nn.Module):
    """The same for levels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = nn.Dense(8)(x)
        return logits, jnp.zeros((0, *logits.shape))


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks in place of the configured ones; the sittings of one test share their compiled programs."""
    made: dict[Any, Any] = {}

    def share(module: Any, name: str, kind: Callable[..., Any]) -> None:
        build = getattr(module, name)

        def shared(*args: Any) -> Any:
            key = (name, kind(*args))
            made.setdefault(key, None)
            made[key] = made[key] or build(*args)
            return made[key]

        monkeypatch.setattr(module, name, shared)

    flat, solid = Small(), SmallLevels()
    monkeypatch.setattr(tasks, "build_unet", lambda settings: flat)
    monkeypatch.setattr(tasks, "build_disc_net", lambda settings, outputs: flat)
    monkeypatch.setattr(tasks, "build_vnet", lambda settings, landmarks: solid)
    share(stage_workflow, "build_train_step", lambda apply, settings, *others: type(settings))
    share(tasks, "build_predict", lambda apply, levels=False: levels)
    share(workflow, "build_predict", lambda apply, levels=False: levels)


def fail(*args: Any) -> None:
    raise AssertionError("trained again")


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch, small_networks, capsys, config):
    whole = read_model(train(config, tmp_path / "whole"))
    assert list(whole.meta["validation"]) == [
        f"{place}{figure} on its stage's grid" for figure in ("region_dice", "all_discs_dice", "level_dice")
        for place in ("", "worst_")
    ]  # fmt: skip
    assert all(0 <= value <= 1 for value in whole.meta["validation"].values())
    assert [row[0] for row in journal(tmp_path / "whole")] == ["1", "3", "6", "8"]

    stop_at(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))  # in the second stage; its step is the fourth
    with pytest.raises(Terminated):
        train(config, tmp_path / "parts")
    assert read_record(tmp_path / "parts" / "region") is not None
    stop_at(monkeypatch, 6, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])  # nothing saved since
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", stage="disc")
    assert not (tmp_path / "parts" / "model").exists() and not (tmp_path / "parts" / "localization").exists()
    parts = train(config, tmp_path / "parts")
    assert parts is not None and read_model(parts).weights_sha256 == whole.weights_sha256
    for name in STAGES:
        assert journal(tmp_path / "parts", name) == journal(tmp_path / "whole", name)
    said = capsys.readouterr().err
    assert "disc: resumed from step 4 of 8" in said and "region: resumed" not in said

    # What is finished stays as it is, and a run that begins with a model differs from one that does not.
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "prepared_cases", fail)
        assert train(config, tmp_path / "parts") == parts
    assert "nothing to do, all of its training is done" in capsys.readouterr().out
    tuned = read_model(train(config, tmp_path / "tuned", init=parts))
    assert tuned.weights_sha256 != whole.weights_sha256
    assert float(journal(tmp_path / "tuned")[0][1]) < float(journal(tmp_path / "whole")[0][1])


def test_a_model_tells_what_it_was_trained_on_and_not_where(tmp_path, stage, capsys, config):
    model = train(config, tmp_path / "run")
    assert stage.names == STAGES and stage.folders == [tmp_path / "run"] * 3 and stage.init == [None] * 3
    assert all(names(task.training) == ["b1", "c1"] and names(task.held_out) == ["a1", "a2"] for task in stage.tasks)
    found = read_model(model)
    assert found.config == replace(config, data=replace(config.data, cache=""))
    assert found.meta["training"] == {
        "cases": 2, "phantoms": 0, "held_out": ["a1", "a2"], "region_steps": 5, "disc_steps": STEPS,
        "localization_steps": 5, "seconds": 36, "case_marks": case_marks([prepared("b1"), prepared("c1")]),
    }  # fmt: skip
    assert found.meta["validation"] == {
        "region_dice on its stage's grid": 0.75, "all_discs_dice on its stage's grid": 0.75,
        "level_dice on its stage's grid": 0.75,
    }  # fmt: skip
    assert [found.parameters[name]["layer"]["kernel"][0, 0] for name in STAGES] == [1, 2, 3]
    assert found.reference is not None and found.reference.levels == (1, 2)
    assert str(tmp_path) not in "".join(path.read_text() for path in model.iterdir() if path.suffix != ".npz")
    said = capsys.readouterr().out
    assert "tiny: 2 cases to train on, 2 held out" in said
    assert "disc: 8 steps in 12 s (all_discs_dice 0.7500)" in said
    assert said.splitlines()[-1].replace("python infer.py", "ivdjax infer").replace("python -m ivdjax", "ivdjax") == (
        "trained in 00:36 (region_dice 0.7500; all_discs_dice 0.7500; level_dice 0.7500); "
        f"model: {model}; next: ivdjax infer --model {model} --output OUT INPUT"
    )


def test_the_disc_stage_alone_trains_in_the_region_that_the_region_stage_predicts(tmp_path, stage, config):
    train(config, tmp_path / "run")
    region, disc, localization = stage.tasks
    # Predicted by the region stage's parameters, for those held out too.
    assert sorted(stage.regions) == [("a1", 1.0), ("a2", 1.0), ("b1", 1.0), ("c1", 1.0)]
    assert all(case.region is not None for case in (*disc.training, *disc.held_out))
    assert all(case.region is None for task in (region, localization) for case in (*task.training, *task.held_out))


@pytest.mark.parametrize("free", [{"stages": ("disc",)}, {"within_region": False}])
def test_without_a_region_discs_are_looked_for_everywhere(tmp_path, stage, config, free):
    config = replace(config, **free) if "stages" in free else replace(config, disc=replace(config.disc, **free))
    train(config, tmp_path / "run", stage="disc")
    assert stage.names == ["disc"] and stage.regions == []
    assert all(case.region is None for case in stage.tasks[0].training)


def test_stages_can_be_trained_one_by_one_and_the_model_comes_with_the_last(tmp_path, stage, capsys, config):
    assert train(config, tmp_path / "run", stage="localization") is None
    assert "tiny: still to be trained: region, disc (--stage region, or all without" in capsys.readouterr().out
    assert train(config, tmp_path / "run", stage="region") is None
    assert train(config, tmp_path / "run", stage="region") is None  # done already
    assert stage.names == ["localization", "region"] and not (tmp_path / "run" / "model").exists()
    model = train(config, tmp_path / "run", stage="disc")
    assert model is not None and stage.names == ["localization", "region", "disc"]
    assert stage.regions and {value for _, value in stage.regions} == {1.0}
    apart, together = read_model(model), read_model(train(config, tmp_path / "together"))
    assert apart.weights_sha256 == together.weights_sha256 and dict(apart.meta) == dict(together.meta)


def test_discs_before_their_region_are_refused_at_once(tmp_path, monkeypatch, stage, capsys, config):
    monkeypatch.setattr(workflow, "prepared_cases", fail)
    words = "the region stage has not run yet; run --stage region first, or set disc.within_region=false"
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", stage="disc")
    assert command(monkeypatch, tmp_path, config, "--stage", "disc") == 2
    assert words in capsys.readouterr().err and stage.names == []


def test_a_run_that_fails_in_its_second_stage_goes_on_there(tmp_path, stage, config):
    stage.error, stage.fails_at = Terminated(), "disc"
    with pytest.raises(Terminated):
        train(config, tmp_path / "run")
    assert stage.names == ["region", "disc"]
    stage.error = None
    assert train(config, tmp_path / "run") is not None
    assert stage.names == ["region", "disc", "disc", "localization"]
    assert [value for _, value in stage.regions] == [1.0] * 8  # from the record in the second sitting


def test_a_damaged_record_is_trained_for_again(tmp_path, stage, config):
    train(config, tmp_path / "run", stage="region")
    (tmp_path / "run" / "region" / "result" / "weights.npz").write_bytes(b"")
    train(config, tmp_path / "run", stage="region")
    assert stage.names == ["region", "region"]


def test_a_stage_that_is_not_trained_is_refused(tmp_path, monkeypatch, stage, capsys, config):
    config = replace(config, stages=("region", "disc"))
    with pytest.raises(UserError, match="--stage localization: the configuration trains region, disc; see its key sta"):
        train(config, tmp_path / "run", stage="localization")
    assert command(monkeypatch, tmp_path, config, "--stage", "localization") == 2
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, tmp_path, config, "--stage", "discs")
    assert caught.value.code == 2 and "invalid choice: 'discs'" in capsys.readouterr().err
    assert command(monkeypatch, tmp_path, config, "--stage", "region") == 0
    assert command(monkeypatch, tmp_path, config, "--stage", "all") == 0
    assert stage.names == ["region", "disc"] and read_model(tmp_path / "run" / "model").networks == ("disc", "region")


def test_phantoms_beside_the_cases_train_and_give_no_reference(tmp_path, monkeypatch, stage, capsys, config):
    labels = prepared("b1").labels
    beside = replace(prepared("p1"), name="phantom_S01", subject="phantom_S01", labels=labels * np.uint8(3))
    monkeypatch.setattr(workflow, "phantoms_beside", lambda config, folder: [beside])
    found = read_model(train(config, tmp_path / "run"))
    assert all(names(task.training) == ["b1", "c1", "phantom_S01"] for task in stage.tasks)
    assert all(names(task.held_out) == ["a1", "a2"] for task in stage.tasks)
    assert found.meta["training"]["cases"] == 2 and found.meta["training"]["phantoms"] == 1
    assert found.reference is not None and found.reference.levels == (1, 2)
    assert "tiny: 2 cases and 1 phantoms to train on, 2 held out" in capsys.readouterr().out


def test_training_cases_without_any_disc_are_refused_before_they_are_trained_on(tmp_path, monkeypatch, stage, config):
    empty = [replace(case, labels=case.labels * np.uint8(0)) for case in (prepared("a1"), prepared("b1"))]
    monkeypatch.setattr(workflow, "prepared_cases", lambda config, folder: empty)
    with pytest.raises(UserError, match="a reference needs a case with numbered discs, and none of 1 has any"):
        train(config, tmp_path / "run")
    assert stage.names == []


def test_a_finished_run_is_left_as_it_is_and_a_damaged_model_is_made_again(tmp_path, monkeypatch, stage, config):
    model = train(config, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "prepared_cases", fail)
        assert train(config, tmp_path / "run") == train(config, tmp_path / "run", stage="disc") == model
    (model / "weights.npz").write_bytes(b"")
    train(config, tmp_path / "run")
    assert stage.names == STAGES  # what the stages left is enough
    assert read_weights(model / "weights.npz")["disc"]["layer"]["kernel"].sum() == 12


def test_another_configuration_is_refused_and_its_keys_are_named(tmp_path, monkeypatch, stage, capsys, config):
    stage.error = FloatingPointError("the loss is nan")
    assert command(monkeypatch, tmp_path, config) == 1
    assert capsys.readouterr().err == "error: the loss is nan\n"
    changed = replace(with_rate(config, 0.5), seed=4)
    assert command(monkeypatch, tmp_path, changed) == 2
    said = capsys.readouterr().err
    assert "was begun with another configuration; choose another --output, or undo:" in said
    assert "disc.optimizer.learning_rate: 0.002 -> 0.5" in said and "seed: 3 -> 4" in said
    assert stage.names == ["region"]
    stage.error = None
    assert command(monkeypatch, tmp_path, config) == 0


@pytest.mark.parametrize(("decay", "done", "length", "goes_on"), [
    (20, 70, 200, True), (20, 80, 200, True), (20, 81, 200, False), (20, 70, 80, False), (0, 70, 200, False),
])  # fmt: skip
def test_a_run_whose_rate_has_not_begun_to_fall_may_have_another_length(
    tmp_path, stage, config, decay, done, length, goes_on
):
    def of_length(steps):
        optimizer = replace(config.region.optimizer, warmup_steps=10, decay_steps=decay)
        training = replace(config.region.training, steps=steps)
        return replace(config, region=replace(config.region, optimizer=optimizer, training=training))

    stage.error = Terminated()
    with pytest.raises(Terminated):
        train(of_length(100), tmp_path / "run")
    (tmp_path / "run" / "region" / "checkpoints" / str(done)).mkdir(parents=True)
    (tmp_path / "run" / "region" / "journal.csv").touch()  # it has begun
    stage.error = None
    if not goes_on:
        with pytest.raises(ConfigError, match=f"region.training.steps: 100 -> {length}"):
            train(of_length(length), tmp_path / "run")
        return
    assert read_model(train(of_length(length), tmp_path / "run")).config.region.training.steps == length


def test_a_finished_run_may_store_its_weights_in_half_precision_and_take_another_threshold(tmp_path, stage, config):
    whole = train(config, tmp_path / "run")
    size = (whole / "weights.npz").stat().st_size
    half = train(
        replace(config, weights="float16", inference=replace(config.inference, review_above=0.05)), tmp_path / "run"
    )
    assert half == whole and (half / "weights.npz").stat().st_size < size
    assert stage.names == STAGES, "nothing is trained again"
    assert json.loads((half / "model.json").read_text())["precision"] == "float16"


def test_what_was_measured_of_a_model_outlives_another_threshold(tmp_path, stage, config):
    model = train(config, tmp_path / "run")
    calibration = {"scale": 1.5, "power": 2.0}
    annotate_model(model, {"outline_calibration": calibration})
    again = train(replace(config, inference=replace(config.inference, review_above=0.05)), tmp_path / "run")
    assert read_model(again).meta["outline_calibration"] == calibration
    assert read_model(again).config.inference.review_above == 0.05


def test_a_model_that_lies_alone_in_the_run_folder_is_not_replaced(tmp_path, stage, config):
    model = train(config, tmp_path / "run")
    shutil.copytree(model, tmp_path / "other" / "model")
    with pytest.raises(ConfigError, match="without the training that made it"):
        train(config, tmp_path / "other")
    assert len(stage.names) == len(STAGES), "nothing is trained"


def test_a_run_begun_with_a_model_goes_on_with_it(tmp_path, stage, config):
    stage.error = Terminated()
    with pytest.raises(Terminated):
        train(config, tmp_path / "run")
    stage.error = None
    start = train(config, tmp_path / "other")
    with pytest.raises(ConfigError, match="--init: none -> .*other"):
        train(config, tmp_path / "run", init=start)
    train(config, tmp_path / "tuned", init=start)
    assert [float(init["layer"]["kernel"][0, 0]) for init in stage.init[-3:]] == [1, 2, 3]


def test_a_fine_tuning_takes_the_models_shape_says_so_and_names_a_held_out_case_that_is_not_unseen(
    tmp_path, monkeypatch, stage, capsys, config
):
    """The base held out another subject than its descendant does."""
    base = train(config, tmp_path / "base", fold=1)
    path = tmp_path / "tuned.yaml"
    given = plain_config(config)
    data = {key: given["data"][key] for key in ("subject_pattern", "cache", "folds", "validation", "root")}
    path.write_text(yaml.safe_dump({"name": "tuned", "data": data, "region": {"training": {"steps": 3}}}))
    from ivdjax.cli.train import COMMAND

    assert COMMAND.main(["--config", str(path), "--output", str(tmp_path / "tuned"), "--init", str(base)]) == 0
    said = capsys.readouterr()
    assert "taken from the model" in said.out and "disc.training.crop: [192, 128] -> [16, 16]" in said.out
    tuned = read_model(tmp_path / "tuned" / "model")
    assert tuned.config.disc.network == config.disc.network and tuned.config.preparation == config.preparation
    assert tuned.config.disc.training.steps == 1000 and tuned.config.region.training.steps == 3
    (ancestor,) = tuned.meta["descent"]
    assert ancestor["weights_sha256"] == read_model(base).weights_sha256 and ancestor["networks"] == sorted(STAGES)
    held_out = tuned.meta["training"]["held_out"]
    seen = [name for name in held_out if name not in ancestor["held_out"]]
    assert (
        seen and tuned.meta["held_out_seen_before"] == {"tiny": seen} and f"{seen[-1]}: held out here, but" in said.err
    )


def test_a_model_with_some_of_the_networks_starts_those(tmp_path, stage, config):
    write_model(tmp_path / "start", Model(config, {"disc": {"layer": {"kernel": np.full((2, 3), 7.0)}}}))
    train(config, tmp_path / "run", init=tmp_path / "start")
    assert stage.init[0] is stage.init[2] is None
    np.testing.assert_array_equal(stage.init[1]["layer"]["kernel"], np.full((2, 3), 7))


def test_a_folder_in_which_nothing_began_is_free_for_another_configuration(tmp_path, stage, config):
    mistyped = replace(config, data=replace(config.data, cache=str(tmp_path / "sotred")))
    with pytest.raises(UserError, match="data.root is empty and there are no prepared cases in .*sotred"):
        train(mistyped, tmp_path / "run")
    train(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"] == plain_config(config)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": {"name": "x", "sed": 1}, "init": ""}'])
def test_a_run_folder_that_cannot_be_understood_is_refused(tmp_path, stage, config, content):
    (tmp_path / "run" / "disc").mkdir(parents=True)
    (tmp_path / "run" / "disc" / "journal.csv").touch()
    (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(ConfigError, match="config.json cannot be read .* choose another --output, or remove"):
        train(config, tmp_path / "run")


def test_an_output_that_is_a_file_is_refused(tmp_path, stage, config):
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match="--output .*run is a file; give a folder"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("folds", "fold", "words"),
    [
        (3, 3, r"--fold must be 0 to 2 \(data.folds is 3\), not 3"),
        (3, -1, r"--fold must be 0 to 2 \(data.folds is 3\), not -1"),
        (0, 0, "--fold 0: the configuration has no folds; set data.folds"),
    ],
)
def test_an_unknown_fold_is_refused_at_once(tmp_path, monkeypatch, stage, config, folds, fold, words):
    config = replace(config, data=replace(config.data, folds=folds))
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", fold)
    assert command(monkeypatch, tmp_path, config, "--fold", str(fold)) == 2
    assert not (tmp_path / "run").exists() and stage.names == []


def test_folds_hold_out_each_subject_once_in_folders_of_their_own(tmp_path, stage, config):
    models = [train(config, tmp_path / "run", fold) for fold in range(3)]
    assert models == [tmp_path / "run" / f"fold_{fold}" / "model" for fold in range(3)]
    held_out = [tuple(names(task.held_out)) for task in stage.tasks]
    assert sorted(set(held_out)) == [("a1", "a2"), ("b1",), ("c1",)] and len(held_out) == 9
    assert all(
        not {name[0] for name in names(task.training)} & {name[0] for name in names(task.held_out)}
        for task in stage.tasks
    )


def test_no_cases_at_all_are_refused(tmp_path, monkeypatch, stage, capsys, config):
    nowhere = replace(config, data=replace(config.data, root=str(tmp_path / "none"), cache=""))
    assert command(monkeypatch, tmp_path, nowhere) == 2
    assert f"data.root must be a folder of cases; there is none at {tmp_path / 'none'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("networks", "words"),
    [(None, "no model at .*start: it is neither a model's folder"),
     (("spine",), "--init: .*start holds spine, but no network for region, disc, localization")],
)  # fmt: skip
def test_an_unusable_start_model_is_refused(tmp_path, monkeypatch, stage, capsys, config, networks, words):
    if networks:
        write_model(tmp_path / "start", Model(config, {name: {"kernel": np.ones(1)} for name in networks}))
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", init=tmp_path / "start")
    assert command(monkeypatch, tmp_path, config, "--init", str(tmp_path / "start")) == 2
    assert stage.names == []


def test_two_runs_never_share_a_folder(tmp_path, stage, config):
    (tmp_path / "run").mkdir()
    with (
        alone(tmp_path / "run"),
        pytest.raises(UserError, match="another .*train(.py)? is at work in .*run; wait for it"),
    ):
        train(config, tmp_path / "run")
    assert train(config, tmp_path / "run").is_dir()


def test_a_run_that_lost_its_configuration_is_refused(tmp_path, stage, config):
    stage.error = Terminated()
    with pytest.raises(Terminated):
        train(config, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(ConfigError, match="run holds a run without its config.json; choose another --output"):
        train(config, tmp_path / "run")


def test_folds_share_what_is_prepared(tmp_path, monkeypatch, stage, config):
    folders = []
    cases = [prepared(name) for name in ("a1", "b1", "c1")]
    monkeypatch.setattr(workflow, "prepared_cases", lambda config, folder: folders.append(folder) or cases)
    for fold in (0, 1):
        train(config, tmp_path / "run", fold)
    assert folders == [tmp_path / "run"] * 2
