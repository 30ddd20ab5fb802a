"""The loop of a stage, with a step that costs nothing: what is saved, logged, validated, and where it stops."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.commands.commands import Terminated
from ivdjax.config import Config, DiscConfig, LocalizationConfig, RegionConfig, TrainingConfig
from ivdjax.data.preparation import Prepared
from ivdjax.learning.steps import TrainState
from ivdjax.model import tasks
from ivdjax.model.tasks import build_task
from ivdjax.training import stage
from ivdjax.training.stage import StageResult, train_stage
from ivdjax.volume import Grid, UserError

STEPS = 10


class Fake:
    """A step that counts, and does something else besides at the steps asked for."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.at: dict[int, Callable[[], None]] = {}
        self.numbers: dict[int, dict[str, float]] = {}
        self.on_predict: Callable[[], None] = lambda: None

    def step(self, state: TrainState, volumes: Any) -> tuple[TrainState, Any]:
        done = int(state.step) + 1
        self.seen.append(done)
        self.at.get(done, lambda: None)()
        weight = state.params["w"] + done
        moved = state.replace(step=state.step + 1, params={"w": weight}, average={"w": weight / 2})
        numbers = {"loss": 1 / done, "gradient_norm": 1.0, "learning_rate": 0.1} | self.numbers.get(done, {})
        return moved, {name: jnp.float32(value) for name, value in numbers.items()}

    def predict(self, params: Any, boxes: np.ndarray) -> np.ndarray:
        self.on_predict()
        if boxes.ndim == 5:  # of levels: everything is disc 1
            return np.broadcast_to(np.eye(8, dtype=np.float32)[1], (*boxes.shape[:4], 8))
        return np.full(boxes.shape[:3], 0.9, np.float32)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    start = TrainState(jnp.int32(0), {"w": jnp.zeros(3)}, (), {"w": jnp.zeros(3)})
    monkeypatch.setattr(stage, "build_train_step", lambda *args: made.step)
    monkeypatch.setattr(tasks, "build_predict", lambda apply, levels: made.predict)
    monkeypatch.setattr(stage, "initial_state", lambda *args: start)
    monkeypatch.setattr(stage, "abstract_state", lambda *args: jax.eval_shape(lambda: start))
    return made


def prepared(name: str, disc_rows: int = 4) -> Prepared:
    shape = (2, 8, 8)
    labels = np.zeros(shape, np.uint8)
    labels[:, :disc_rows] = 1
    grid = Grid(shape, np.diag([4.0, 1.25, 1.25, 1.0]))
    return Prepared(
        name, name, ("t2",), np.zeros((1, *shape), np.uint8), labels, labels * np.uint8(255), 0, grid, grid, grid
    )


def settings(**training: Any) -> Config:
    given = {"steps": STEPS, "batch_size": 2, "crop": (8, 8), "log_every": 3, "checkpoint_every": 4} | training
    return Config("tiny", disc=DiscConfig(training=TrainingConfig(**given)))


def run(folder: Path, held_out: tuple[Prepared, ...] = (), init: Any = None, **training: Any) -> StageResult:
    config = settings(**training)
    return train_stage(config, build_task(config, "disc", [prepared("a")], held_out), folder, init)


def rows(folder: Path, name: str = "journal") -> list[dict[str, str]]:
    path = folder / "disc" / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def steps(folder: Path, name: str = "journal") -> list[int]:
    return [int(row["step"]) for row in rows(folder, name)]


def saved(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "disc" / "checkpoints").iterdir())


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_a_stage_from_its_first_step_to_its_last(tmp_path, fake):
    result = run(tmp_path)
    assert fake.seen == list(range(1, STEPS + 1))
    assert steps(tmp_path) == [1, 3, 6, 9, 10] and saved(tmp_path) == [4, 8, 10]
    assert [float(row["loss"]) for row in rows(tmp_path)] == pytest.approx([1, 1 / 3, 1 / 6, 1 / 9, 1 / 10])
    # The running average is what comes of it, on the host.
    assert isinstance(result.parameters["w"], np.ndarray) and result.parameters["w"].tolist() == [55 / 2] * 3
    assert result.steps == STEPS and result.validation == {} and result.seconds > 0


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_request_to_stop_lets_the_step_end_and_saves_it(tmp_path, fake, capsys, number, error):
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    fake.at[6] = send(number)
    with pytest.raises(error):
        run(tmp_path)
    assert fake.seen[-1] == 6 and saved(tmp_path) == [4, 6] and steps(tmp_path) == [1, 3, 6]
    assert {n: signal.getsignal(n) for n in before} == before
    fake.at.clear()
    result = run(tmp_path)
    assert fake.seen == list(range(1, STEPS + 1))  # none twice, none left out
    assert steps(tmp_path) == [1, 3, 6, 9, 10] and result.parameters["w"].tolist() == [55 / 2] * 3
    assert "disc: resumed from step 6 of 10" in capsys.readouterr().err


def test_a_stop_between_two_rows_leaves_the_journal_as_an_uninterrupted_one(tmp_path, fake):
    fake.at[5] = send(signal.SIGTERM)
    with pytest.raises(Terminated):
        run(tmp_path)
    assert saved(tmp_path) == [4, 5] and steps(tmp_path) == [1, 3]
    fake.at.clear()
    run(tmp_path)
    assert steps(tmp_path) == [1, 3, 6, 9, 10]


def test_a_second_sigterm_tears_nothing(tmp_path, fake):
    fake.at[6] = lambda: (send(signal.SIGTERM)(), send(signal.SIGTERM)())
    with pytest.raises(Terminated):
        run(tmp_path)
    assert saved(tmp_path) == [4, 6]


def test_a_ctrl_c_after_another_request_stops_at_once(tmp_path, fake):
    fake.at[6] = lambda: (send(signal.SIGTERM)(), send(signal.SIGINT)())
    with pytest.raises(Terminated):
        run(tmp_path)
    assert saved(tmp_path) == [4]
    fake.at.clear()
    run(tmp_path)
    assert fake.seen == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10] and steps(tmp_path) == [1, 3, 6, 9, 10]


def test_a_damaged_checkpoint_costs_an_interval_and_is_told(tmp_path, fake, capsys):
    fake.at[9] = lambda: (send(signal.SIGINT)(), send(signal.SIGINT)())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    (tmp_path / "disc" / "checkpoints" / "8" / "_CHECKPOINT_METADATA").write_text("")
    fake.at.clear()
    run(tmp_path)
    assert fake.seen[9:] == [5, 6, 7, 8, 9, 10] and steps(tmp_path) == [1, 3, 6, 9, 10]
    said = capsys.readouterr().err
    assert "is damaged and was passed over" in said and "resumed from step 4" in said


@pytest.mark.parametrize("number", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_ends_training_and_names_the_last_good_checkpoint(tmp_path, fake, number, value):
    fake.numbers = {step: {number: value} for step in range(6, STEPS + 1)}
    with pytest.raises(FloatingPointError, match=f"stage disc: the loss at step 6 is .*{value}") as caught:
        run(tmp_path)
    assert f"the last good checkpoint is step 4 in {tmp_path / 'disc' / 'checkpoints'}" in str(caught.value)
    assert "Lower disc.optimizer.learning_rate" in str(caught.value)
    assert steps(tmp_path) == [1, 3] and saved(tmp_path) == [4]


def test_no_checkpoint_is_written_of_a_step_that_went_wrong_between_two_rows(tmp_path, fake):
    # Step 4 is saved and is no row of the journal; step 3, which is one, was sound.
    fake.numbers = {step: {"loss": float("nan")} for step in range(4, STEPS + 1)}
    with pytest.raises(FloatingPointError, match="the loss at step 4 is nan .* there is no checkpoint yet"):
        run(tmp_path)
    assert saved(tmp_path) == [] and steps(tmp_path) == [1, 3]


def test_a_stop_never_saves_a_step_that_went_wrong(tmp_path, fake):
    fake.at[5], fake.numbers = send(signal.SIGTERM), {5: {"gradient_norm": float("nan")}}
    with pytest.raises(FloatingPointError, match="at step 5"):
        run(tmp_path)
    assert saved(tmp_path) == [4]


def test_validations_look_at_a_few_cases_and_the_last_at_all(tmp_path, fake, capsys):
    # The network says disc everywhere: Dice is 2 / 3 where half of a volume is disc, and 1 where all of it is.
    cases = (prepared("b", 4), replace(prepared("c"), labels=None), prepared("d", 8))
    result = run(tmp_path, cases, validate_every=4, validation_cases=2)
    assert steps(tmp_path, "validation") == [4, 8, 10]
    assert [float(row["all_discs_dice"]) for row in rows(tmp_path, "validation")] == pytest.approx(
        [2 / 3, 2 / 3, 5 / 6]
    )
    assert result.validation == pytest.approx({"all_discs_dice": 5 / 6, "worst_all_discs_dice": 2 / 3})
    assert steps(tmp_path) == [1, 3, 6, 9, 10]
    assert "validation at step 10: all_discs_dice 0.8333, worst_all_discs_dice 0.6667" in capsys.readouterr().err


def test_a_stop_between_a_checkpoint_and_its_validation_leaves_no_hole(tmp_path, fake):
    fake.on_predict = lambda: (send(signal.SIGINT)(), send(signal.SIGINT)())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, (prepared("b"),), validate_every=4)
    assert saved(tmp_path) == [4] and steps(tmp_path, "validation") == []
    fake.on_predict = lambda: None
    run(tmp_path, (prepared("b"),), validate_every=4)
    assert steps(tmp_path, "validation") == [4, 8, 10] and fake.seen == list(range(1, STEPS + 1))


def test_a_stage_that_is_done_validates_again_without_a_second_row(tmp_path, fake):
    for _ in range(2):
        result = run(tmp_path, (prepared("b"),), validate_every=4)
    assert steps(tmp_path, "validation") == [4, 8, 10] and steps(tmp_path) == [1, 3, 6, 9, 10]
    assert result.validation["all_discs_dice"] == pytest.approx(2 / 3)


def test_a_held_out_case_in_which_no_disc_is_outlined_tells_nothing(tmp_path, fake):
    result = run(tmp_path, (prepared("b", 0), prepared("c", 8)))
    assert result.validation == {"all_discs_dice": 1.0, "worst_all_discs_dice": 1.0}
    assert run(tmp_path / "other", (prepared("b", 0),)).validation == {}


def test_held_out_cases_without_labels_validate_nothing(tmp_path, fake):
    result = run(tmp_path, (replace(prepared("b"), labels=None),), validate_every=4)
    assert result.validation == {} and steps(tmp_path, "validation") == []


def test_a_request_during_a_validation_saves_its_step_and_the_resumed_run_validates_it(tmp_path, fake):
    held_out = (prepared("b"), prepared("c"))
    whole = run(tmp_path / "whole", held_out, validate_every=3)
    fake.on_predict, fake.seen = send(signal.SIGTERM), []
    with pytest.raises(Terminated):
        run(tmp_path, held_out, validate_every=3)
    assert fake.seen[-1] == 3 and saved(tmp_path) == [3] and steps(tmp_path, "validation") == []
    with pytest.raises(Terminated):  # as soon as it is resumed
        run(tmp_path, held_out, validate_every=3)
    assert fake.seen[-1] == 3 and saved(tmp_path) == [3]
    fake.on_predict = lambda: None
    parts = run(tmp_path, held_out, validate_every=3)
    assert rows(tmp_path, "validation") == rows(tmp_path / "whole", "validation") and parts.chosen == whole.chosen
    assert steps(tmp_path, "validation") == [3, 6, 9, 10]


def test_a_request_during_the_last_validation_stops_too_and_nothing_is_trained_twice(tmp_path, fake):
    fake.on_predict = send(signal.SIGTERM)
    with pytest.raises(Terminated):
        run(tmp_path, (prepared("b"), prepared("c")))
    assert saved(tmp_path) == [4, 8, 10]
    fake.on_predict, fake.seen = lambda: None, []
    result = run(tmp_path, (prepared("b"), prepared("c")))
    assert fake.seen == [] and result.steps == STEPS and steps(tmp_path) == [1, 3, 6, 9, 10]
    assert steps(tmp_path, "validation") == [10]
    assert result.parameters["w"].tolist() == [55 / 2] * 3


def test_start_parameters_take_the_place_of_random_ones(tmp_path, fake):
    result = run(tmp_path, init={"w": np.full(3, 100.0, np.float32)})
    assert result.parameters["w"].tolist() == [155 / 2] * 3
    again = run(tmp_path, init={"w": np.zeros(3, np.float32)})
    assert again.parameters["w"].tolist() == [155 / 2] * 3  # a checkpoint goes before them


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ({"w": np.zeros(4)}, r"w has the shape \(4,\), and the network needs \(3,\)"),
        ({"v": np.zeros(3)}, "v belongs to no layer; w is missing; use the model's own network"),
        ({}, "w is missing"),
    ],
)
def test_start_parameters_of_another_network_are_refused_before_anything_is_written(tmp_path, fake, init, words):
    with pytest.raises(UserError, match="--init: the model's network differs from disc.network: " + words):
        run(tmp_path, init=init)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_the_devices_do_not_divide_is_the_user_s_to_change(tmp_path):
    assert len(jax.devices()) == 4
    with pytest.raises(UserError, match="disc.training.batch_size: a batch of 3 cannot be divided over 4 devices"):
        run(tmp_path, batch_size=3)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_train_on_is_refused(tmp_path, fake):
    with pytest.raises(UserError, match="no case is left for training"):
        train_stage(settings(), build_task(settings(), "disc", [], ()), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "section", "figure", "value"),
    [
        # Whatever the networks say is everywhere; the region of a volume whose upper half is disc is all of it.
        ("region", RegionConfig(spacing_mm=(1.25, 1.25)), "region_dice", 1.0),
        ("localization", LocalizationConfig(spacing_mm=(4.0, 1.25, 1.25), dilation_mm=0.0), "level_dice", 2 / 3),
    ],
)
def test_each_stage_has_its_own_folder_samples_and_figure(tmp_path, monkeypatch, fake, name, section, figure, value):
    crop = (16, 16) if name == "region" else (4, 16, 16)
    training = TrainingConfig(steps=STEPS, batch_size=2, crop=crop, log_every=5, checkpoint_every=5)
    config = replace(Config("tiny"), **{name: replace(section, training=training)})
    seen, told = [], []
    step, journal = fake.step, stage.Journal
    monkeypatch.setattr(stage, "Journal", lambda *a, **k: told.append(k["slices_per_step"]) or journal(*a, **k))
    monkeypatch.setattr(fake, "step", lambda state, volumes: seen.append(volumes) or step(state, volumes))
    result = train_stage(config, build_task(config, name, [prepared("a", 2)], [prepared("b")]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert told == [2 if name == "region" else 2 * 4]  # slices a step: a solid box has several
    assert (tmp_path / name / "journal.csv").exists() and (tmp_path / name / "checkpoints" / str(STEPS)).is_dir()
    assert result.validation == pytest.approx({figure: value, f"worst_{figure}": value}) and result.steps == STEPS
    assert np.asarray(seen[0].target).max() == (255 if name == "region" else 1)  # levels are no shares


def test_a_failure_names_its_own_stage(tmp_path, fake):
    fake.numbers = {3: {"loss": float("nan")}}
    training = TrainingConfig(steps=STEPS, batch_size=2, crop=(16, 16), log_every=1)
    config = Config("tiny", region=RegionConfig(training=training))
    task = build_task(config, "region", [prepared("a")], [])
    with pytest.raises(FloatingPointError, match=r"stage region: .* Lower region.optimizer.learning_rate"):
        train_stage(config, task, tmp_path)
    with pytest.raises(UserError, match="differs from region.network: w has"):
        train_stage(config, task, tmp_path / "other", {"w": np.zeros(4)})


def better_early(fake: Fake) -> None:
    """Predictions that are right until step 4, and nothing after it."""
    seen = fake.seen
    fake.predict = lambda params, boxes: np.full(boxes.shape[:3], 0.9 if seen[-1] <= 4 else 0.1, np.float32)


def test_the_best_validated_parameters_are_kept_and_told(tmp_path, fake, capsys):
    better_early(fake)
    result = run(tmp_path, (prepared("b", 8),), validate_every=4)
    # The running average after four steps is half of 1 + 2 + 3 + 4; what is kept is validated once more at the end.
    assert result.parameters["w"].tolist() == [5.0] * 3 and (result.chosen, result.steps) == (4, STEPS)
    assert [float(row["all_discs_dice"]) for row in rows(tmp_path, "validation")] == [1, 0, 0]
    assert "the parameters of step 4 are kept; on 1 held-out cases they reached all_discs_dice 1.0000" in (
        capsys.readouterr().err
    )


def test_the_last_parameters_are_kept_where_the_configuration_says_so(tmp_path, fake):
    better_early(fake)
    result = run(tmp_path, (prepared("b", 8),), validate_every=4, keep="last")
    assert result.parameters["w"].tolist() == [55 / 2] * 3 and result.chosen == STEPS
    assert not (tmp_path / "disc" / "best").exists()


def test_a_resumed_stage_keeps_the_best_of_the_sitting_before(tmp_path, fake):
    better_early(fake)
    fake.at[6] = send(signal.SIGTERM)
    with pytest.raises(Terminated):
        run(tmp_path, (prepared("b", 8),), validate_every=4)
    fake.at.clear()
    assert run(tmp_path, (prepared("b", 8),), validate_every=4).chosen == 4


def test_what_is_new_is_pushed_after_checkpoints_and_validations(tmp_path, fake):
    config, pushed = settings(validate_every=4), []
    task = build_task(config, "disc", [prepared("a")], [prepared("b")])
    train_stage(config, task, tmp_path, push=lambda: pushed.append(fake.seen[-1]))
    assert pushed == [4, 4, 8, 8, 10]


def test_a_validation_leaves_a_picture_for_tensorboard(tmp_path, fake, monkeypatch):
    pictures = []
    monkeypatch.setattr(stage.Journal, "image", lambda self, tag, step, rgb: pictures.append((tag, step, rgb.shape[2])))
    run(tmp_path, (prepared("b"), prepared("c")), validate_every=4, validation_cases=1)
    assert pictures == [("validation/slices", step, 3) for step in (4, 8, 10)]


def test_a_disk_without_room_for_the_checkpoints_ends_before_the_first_step(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 << 20))
    with pytest.raises(OSError, match=r"4 MiB needed, 3 MiB free"):
        run(tmp_path)
    assert fake.seen == []
