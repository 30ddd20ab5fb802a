"""Two real processes of train.py on this machine, two devices each: one result, one writer, one end."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CONFIG = """
name: two
stages: [region]
data:
  channels: [fat, wat]
  validation: [S02]
  phantom_cases: 3
  phantom_shape: [18, 88, 64]
  phantom_spacing_mm: [4.0, 3.5, 3.5]
  synthetic: true
preparation: {spacing_mm: [3.5, 3.5]}
augmentation: {elastic_mm: 0, bias: 0}
region:
  network: {width: 8, downsamplings: 2, layers: 1}
  spacing_mm: [7.0, 7.0]
  optimizer: {name: sgd, learning_rate: 0.1, warmup_steps: 0}
  training: {steps: 12, batch_size: 8, crop: [48, 32], log_every: 4, checkpoint_every: 5, validate_every: 6}
"""
LIMIT_S = 240

pytestmark = pytest.mark.slow


class Pair:
    """The processes of one training; the follower is given an output of its own, in which nothing may appear."""

    def __init__(self, root: Path, folder: Path, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "two.yaml").write_text(CONFIG)
        self.folder, self.model = folder, folder / "led" / "model"
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.logs = [folder / f"process_{number}.log" for number in (0, 1)]
        self.processes = [
            start(root, folder, ("led", "followed")[number], self.logs[number], 2, *options, "--coordinator",
                  f"localhost:{port}", "--processes", "2", "--process", str(number))
            for number in (0, 1)
        ]  # fmt: skip

    def wait(self) -> list[int]:
        """The exit codes."""
        try:
            return [process.wait(LIMIT_S) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def wait_for(self, path: str) -> None:
        """Waits until the leader's output holds a path."""
        end_s = time.monotonic() + LIMIT_S
        while not (self.folder / "led" / path).exists():
            assert time.monotonic() < end_s and self.processes[0].poll() is None, self.said()
            time.sleep(0.02)

    def said(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)


def start(root: Path, folder: Path, output: str, log: Path, devices: int, *options: str) -> subprocess.Popen:
    # Compiled as for users: without MLIR, weights of two processes and of one were 1.2e-4 of the largest apart.
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "train.py", "--config", str(folder / "two.yaml"), "--output", str(folder / output)]
    with log.open("w") as stream:
        return subprocess.Popen([*command, *options], cwd=root, env=environment, stdout=stream, stderr=stream)


def weights(model: Path) -> dict[str, np.ndarray]:
    with np.load(model / "weights.npz") as archive:
        return dict(archive)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "region" / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def assert_close(model: Path, other: Path) -> None:
    found, wanted = weights(model), weights(other)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5 * max(np.abs(array).max(), 1e-3))


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory) -> Path:
    """The run of a single process with four devices."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "two.yaml").write_text(CONFIG)
    process = start(root, folder, "alone", folder / "log", 4)
    assert process.wait(LIMIT_S) == 0, (folder / "log").read_text()
    return folder / "alone"


def test_two_processes_train_to_the_result_of_one_and_process_0_alone_writes(root, tmp_path, alone):
    pair = Pair(root, tmp_path)
    assert pair.wait() == [0, 0], pair.said()
    assert_close(pair.model, alone / "model")
    for name in ("journal.csv", "validation.csv"):
        found, wanted = rows(tmp_path / "led", name), rows(alone, name)
        assert [row["step"] for row in found] == [row["step"] for row in wanted]
    assert float(found[0]["region_dice"]) == pytest.approx(float(wanted[0]["region_dice"]), abs=1e-3)
    assert not (tmp_path / "followed").exists()
    assert "process 1 of 2: follows process 0" in pair.logs[1].read_text() and "model:" not in pair.logs[1].read_text()


@pytest.mark.soak
def test_two_processes_stop_together_at_a_sigterm_of_one_and_resume(root, tmp_path, alone):
    pair = Pair(root, tmp_path)
    pair.wait_for("region/journal.csv")  # the steps begin
    pair.processes[1].send_signal(signal.SIGTERM)
    codes = pair.wait()
    assert codes == [143, 143] and not pair.model.exists(), pair.said()
    steps = [int(path.name) for path in (tmp_path / "led" / "region" / "checkpoints").iterdir()]
    assert 0 < max(steps) < 12
    again = Pair(root, tmp_path)
    assert again.wait() == [0, 0], again.said()
    assert f"resumed from step {max(steps)} of 12" in again.said()
    assert_close(again.model, alone / "model")


def test_two_processes_end_within_30_s_when_one_dies(root, tmp_path):  # the leader too: make soak
    victim = 1
    pair = Pair(root, tmp_path, "--set", "region.training.steps=100000")
    pair.wait_for("region/checkpoints/5")
    pair.processes[victim].kill()
    begin_s = time.monotonic()
    code = pair.processes[1 - victim].wait(60)
    assert time.monotonic() - begin_s < 30 and code not in (0, 2), pair.said()
    assert pair.wait()[victim] == -signal.SIGKILL


def test_two_processes_hear_of_a_refusal(root, tmp_path):
    pair = Pair(root, tmp_path, "--fold", "3")
    assert pair.wait() == [2, 2], pair.said()
    assert "error: --fold 3: the configuration has no folds" in pair.logs[0].read_text()
    assert "error: process 0 did not begin" in pair.logs[1].read_text()
