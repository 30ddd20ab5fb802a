"""Training from a configuration to a model: claims, folds, refusals, and a resume that changes nothing."""

from __future__ import annotations

import csv
import json
import os
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

from ivdjax.config import Config, ConfigError, parse_config, plain_config
from ivdjax.data.cache import write_prepared
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.folders import alone
from ivdjax.networks.layers import ConvUnit
from ivdjax.volume import Grid, UserError
from ivdjax.workflows import stage as stage_workflow
from ivdjax.workflows import train as workflow
from ivdjax.workflows.commands import Terminated
from ivdjax.workflows.journal import Journal
from ivdjax.workflows.model import Model, read_model, write_model
from ivdjax.workflows.stage import StageResult
from ivdjax.workflows.train import prepared_cases, split_cases, train, with_phantoms
from ivdjax.workflows.weights import read_weights

STEPS = 8


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
        "disc": {
            "loss": {"cross_entropy_steps": 3},
            "training": {"steps": STEPS, "batch_size": 4, "crop": [16, 16], "log_every": 3, "checkpoint_every": 4,
                         "resident_mib": 1},
        },
    })  # fmt: skip


class Stage:
    """Stands for the training of a stage: it begins a journal and gives parameters, or fails."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[str], Path, Any]] = []
        self.error: BaseException | None = None

    def __call__(self, config: Config, training: Any, held_out: Any, folder: Path, init: Any) -> StageResult:
        self.calls.append(([case.name for case in training], [case.name for case in held_out], folder, init))
        (folder / "disc").mkdir(exist_ok=True)
        (folder / "disc" / "journal.csv").write_text("step\n")
        if self.error:
            raise self.error
        parameters = {"layer": {"kernel": np.ones((2, 3), np.float32)}}
        return StageResult(parameters, {"all_discs_dice": 0.75}, 12.0, STEPS)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    monkeypatch.setattr(workflow, "train_disc_stage", made)
    monkeypatch.setattr(workflow, "use_compilation_cache", lambda: None)
    return made


def with_rate(config: Config, rate: float) -> Config:
    return replace(config, disc=replace(config.disc, optimizer=replace(config.disc.optimizer, learning_rate=rate)))


def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Config, *options: str) -> int:
    """The exit code of train.py."""
    import train as program

    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plain_config(config)))
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(path), "--output", str(tmp_path / "run"), *options])
    return program.main()


def journal(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "disc" / "journal.csv").open(newline="") as stream:
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


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network in place of the configured one; the sittings of one test share its compiled programs."""

    def share(name: str) -> None:
        build, made = getattr(stage_workflow, name), []

        def shared(*args: Any) -> Any:
            made.append(made[0] if made else build(*args))
            return made[0]

        monkeypatch.setattr(stage_workflow, name, shared)

    monkeypatch.setattr(stage_workflow, "build_disc_net", lambda settings: Small())
    share("build_train_step")
    share("build_predict")


def fail(*args: Any) -> None:
    raise AssertionError("trained again")


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch, small_network, capsys, config):
    whole = read_model(train(config, tmp_path / "whole"))
    assert whole.meta["training"] == {"cases": 2, "held_out": ["a1", "a2"], "disc_steps": 8, "crops": 32}
    assert 0 <= whole.meta["validation"]["all_discs_dice on the working grid"] <= 1
    assert [row[0] for row in journal(tmp_path / "whole")] == ["3", "6", "8"]

    stop_at(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))  # the step under way is the fourth
    with pytest.raises(Terminated):
        train(config, tmp_path / "parts")
    stop_at(monkeypatch, 6, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])  # nothing saved since
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts")
    assert not (tmp_path / "parts" / "model").exists()
    parts = train(config, tmp_path / "parts")
    assert read_model(parts).weights_sha256 == whole.weights_sha256
    assert journal(tmp_path / "parts") == journal(tmp_path / "whole")
    assert "resumed from step 4 of 8" in capsys.readouterr().err

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
    assert stage.calls == [(["b1", "c1"], ["a1", "a2"], tmp_path / "run", None)]
    found = read_model(model)
    assert found.config == replace(config, data=replace(config.data, cache=""))
    assert found.meta["training"] == {"cases": 2, "held_out": ["a1", "a2"], "disc_steps": STEPS, "crops": STEPS * 4}
    assert found.meta["validation"] == {"all_discs_dice on the working grid": 0.75}
    assert str(tmp_path) not in "".join(path.read_text() for path in model.iterdir() if path.suffix != ".npz")
    said = capsys.readouterr().out
    assert "tiny: 2 cases to train on, 2 held out" in said and "trained in 12 s (all_discs_dice 0.7500)" in said
    assert f"next: python infer.py --model {model} --output OUT INPUT" in said


def test_a_finished_run_is_left_as_it_is_and_a_damaged_model_is_made_again(tmp_path, stage, config):
    model = train(config, tmp_path / "run")
    assert train(config, tmp_path / "run") == model and len(stage.calls) == 1
    (model / "weights.npz").write_bytes(b"")
    train(config, tmp_path / "run")
    assert len(stage.calls) == 2 and read_weights(model / "weights.npz")["disc"]["layer"]["kernel"].sum() == 6


def test_another_configuration_is_refused_and_its_keys_are_named(tmp_path, monkeypatch, stage, capsys, config):
    stage.error = FloatingPointError("the loss is nan")
    assert command(monkeypatch, tmp_path, config) == 1
    assert capsys.readouterr().err == "error: the loss is nan\n"
    changed = replace(with_rate(config, 0.5), seed=4)
    assert command(monkeypatch, tmp_path, changed) == 2
    said = capsys.readouterr().err
    assert "was begun with another configuration; choose another --output, or undo:" in said
    assert "disc.optimizer.learning_rate: 0.002 -> 0.5" in said and "seed: 3 -> 4" in said
    assert len(stage.calls) == 1
    stage.error = None
    assert command(monkeypatch, tmp_path, config) == 0


def test_a_run_begun_with_a_model_goes_on_with_it(tmp_path, stage, config):
    stage.error = Terminated()
    with pytest.raises(Terminated):
        train(config, tmp_path / "run")
    stage.error = None
    start = train(config, tmp_path / "other")
    with pytest.raises(ConfigError, match="--init: none -> .*other"):
        train(config, tmp_path / "run", init=start)
    train(config, tmp_path / "tuned", init=start)
    np.testing.assert_array_equal(stage.calls[-1][3]["layer"]["kernel"], np.ones((2, 3)))


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
    with pytest.raises(UserError, match=words):
        split_cases(config, [prepared("a1")], fold)
    assert command(monkeypatch, tmp_path, config, "--fold", str(fold)) == 2
    assert not (tmp_path / "run").exists() and stage.calls == []


def test_folds_hold_out_each_subject_once_in_folders_of_their_own(tmp_path, stage, config):
    models = [train(config, tmp_path / "run", fold) for fold in range(3)]
    assert models == [tmp_path / "run" / f"fold_{fold}" / "model" for fold in range(3)]
    held_out = [tuple(call[1]) for call in stage.calls]
    assert sorted(held_out) == [("a1", "a2"), ("b1",), ("c1",)]
    assert all(not {name[0] for name in call[0]} & {name[0] for name in call[1]} for call in stage.calls)


def test_no_cases_at_all_are_refused(tmp_path, monkeypatch, stage, capsys, config):
    nowhere = replace(config, data=replace(config.data, root=str(tmp_path / "none"), cache=""))
    assert command(monkeypatch, tmp_path, nowhere) == 2
    assert f"data.root must be a folder of cases; there is none at {tmp_path / 'none'}" in capsys.readouterr().err


def test_holding_out_everything_or_somebody_unknown_is_refused(config):
    cases = [prepared("a1"), prepared("b1")]
    with pytest.raises(UserError, match="data.validation holds out every subject; nothing is left to train on"):
        split_cases(replace(config, data=replace(config.data, validation=("a1", "b1"))), cases, None)
    with pytest.raises(UserError, match="data.validation names 'a9', which is no case"):
        split_cases(replace(config, data=replace(config.data, validation=("a9",))), cases, None)


def test_stored_cases_of_other_channels_are_refused(tmp_path, config):
    write_prepared(tmp_path / "stored", prepared("d1", ("fat", "wat")))
    with pytest.raises(UserError, match="case d1 in .*stored has the channels fat, wat, but data.channels is t2; use"):
        prepared_cases(config, tmp_path / "run")


def test_warnings_of_cases_are_shown(tmp_path, capsys, config):
    write_prepared(tmp_path / "stored", replace(prepared("d1"), warnings=("case d1: the slices are turned",)))
    assert len(prepared_cases(config, tmp_path / "run")) == 5
    assert capsys.readouterr().out == "warning: case d1: the slices are turned\n"


@pytest.mark.parametrize(
    ("networks", "words"),
    [(None, "no model at .*start; --model takes a model's folder"),
     (("region",), "--init: .*start holds region, but no network for disc")],
)  # fmt: skip
def test_an_unusable_start_model_is_refused(tmp_path, monkeypatch, stage, capsys, config, networks, words):
    if networks:
        write_model(tmp_path / "start", Model(config, {name: {"kernel": np.ones(1)} for name in networks}))
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", init=tmp_path / "start")
    assert command(monkeypatch, tmp_path, config, "--init", str(tmp_path / "start")) == 2
    assert stage.calls == []


def test_phantoms_are_made_once_and_only_where_they_are_asked_for(tmp_path, monkeypatch, config):
    assert with_phantoms(config, tmp_path) is config
    made = []

    def write(root: Path, phantoms: Any, overwrite: bool, progress: Any) -> None:
        made.append(phantoms)
        root.mkdir()
        (root / "made").touch()

    monkeypatch.setattr(workflow, "write_phantoms", write)
    monkeypatch.setattr(workflow, "holds_phantoms", lambda root, phantoms: (root / "made").exists())
    asked = replace(config, data=replace(config.data, channels=("fat", "wat"), phantom_cases=2, phantom_seed=5))
    for _ in range(2):
        found = with_phantoms(asked, tmp_path)
        assert found.data.root == str(tmp_path / "data") and found.data.phantom_cases == 0
    assert len(made) == 1


def test_phantoms_of_another_set_are_made_anew(tmp_path, monkeypatch, config):
    made: list[Any] = []
    monkeypatch.setattr(workflow, "write_phantoms", lambda root, phantoms, **options: made.append(phantoms))
    asked = replace(config, data=replace(config.data, channels=("fat", "wat"), phantom_cases=2, phantom_seed=5))
    for seed in (5, 6):
        with_phantoms(replace(asked, data=replace(asked.data, phantom_seed=seed)), tmp_path)
    assert [phantoms.seed for phantoms in made] == [5, 6]


def test_two_runs_never_share_a_folder(tmp_path, stage, config):
    (tmp_path / "run").mkdir()
    with alone(tmp_path / "run"), pytest.raises(UserError, match="another train.py is at work in .*run; wait for it"):
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
