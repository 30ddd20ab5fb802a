"""The journal: tables without duplicates or holes, lines in a log, a bar on a terminal, events for TensorBoard."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from ivdjax.commands.step_table import StepTable
from ivdjax.training.journal import Journal


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def train(folder, first, last, start_step, clock, stream=None, log_every=10):
    with Journal(
        folder, "disc", 100, start_step, slices_per_step=8, stream=stream or io.StringIO(), clock=clock
    ) as journal:
        for step in range(first, last + 1, log_every):
            clock.now += 4.0
            journal.row(step, {"loss": 1 / step, "gradient_norm": 2.0, "learning_rate": 1e-3})


def test_rows_have_the_contract_s_columns_and_the_pace(tmp_path):
    train(tmp_path, 10, 30, 0, Clock())
    rows = read(tmp_path / "disc" / "journal.csv")
    assert list(rows[0]) == ["step", "loss", "gradient_norm", "learning_rate", "slices_per_second", "seconds"]
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    assert [float(row["slices_per_second"]) for row in rows] == [20.0, 20.0, 20.0]  # 10 steps of 8 slices in 4 s
    assert [float(row["seconds"]) for row in rows] == [4.0, 8.0, 12.0]
    assert float(rows[2]["loss"]) == pytest.approx(1 / 30, rel=1e-8)


def test_resumed_run_leaves_neither_duplicates_nor_holes(tmp_path):
    train(tmp_path, 10, 50, 0, Clock())
    path = tmp_path / "disc" / "journal.csv"
    with path.open("a") as stream:
        stream.write("60,0.0")  # cut short by a kill
    train(tmp_path, 40, 60, 30, Clock())  # the newest checkpoint was that of step 30
    rows = read(path)
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40, 50, 60]
    assert [float(row["seconds"]) for row in rows] == [4.0, 8.0, 12.0, 16.0, 20.0, 24.0]


def test_run_begun_anew_starts_an_empty_journal(tmp_path):
    train(tmp_path, 10, 50, 0, Clock())
    train(tmp_path, 10, 20, 0, Clock())
    assert [row["step"] for row in read(tmp_path / "disc" / "journal.csv")] == ["10", "20"]


def test_rows_reach_the_file_at_once(tmp_path):
    journal = Journal(tmp_path, "disc", 100, stream=io.StringIO())
    journal.row(1, {"loss": 0.5})
    rows = read(tmp_path / "disc" / "journal.csv")
    journal.close()
    journal.close()
    assert rows[0]["loss"] == "0.5" and rows[0]["gradient_norm"] == ""


def test_column_that_comes_later_is_added_to_all_rows(tmp_path):
    path = tmp_path / "t.csv"
    table = StepTable(path, 0, ("loss",))
    table.append(1, {"loss": 0.1})
    table.append(2, {"loss": 0.2, "auxiliary": 3})
    StepTable(path, 2).append(3, {"auxiliary": 4})
    assert path.read_text().splitlines() == ["step,loss,auxiliary", "1,0.1,", "2,0.2,3", "3,,4"]
    assert [child.name for child in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("text", ["", "\n", "other,table\n1,2\n", "step"])
def test_file_that_is_no_such_table_is_begun_anew(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    table = StepTable(path, 5, ("loss",))
    assert table.last == {}
    table.append(6, {"loss": 0.1})
    assert path.read_text().splitlines() == ["step,loss", "6,0.1"]


def test_validation_rows_follow_the_resumed_step_too(tmp_path):
    stream = io.StringIO()
    with Journal(tmp_path, "disc", 100, stream=stream) as journal:
        assert not (tmp_path / "disc" / "validation.csv").exists()
        for step in (20, 40):
            journal.validation(step, {"mean_dice": step / 100})
    with Journal(tmp_path, "disc", 100, 20, stream=stream):
        pass
    assert read(tmp_path / "disc" / "validation.csv") == [{"step": "20", "mean_dice": "0.2"}]
    assert "validation at step 40: mean_dice 0.4" in stream.getvalue()


def test_log_file_gets_a_line_every_half_minute_and_the_last(tmp_path):
    clock, stream = Clock(), io.StringIO()
    train(tmp_path, 10, 100, 0, clock, stream)  # a row every 4 s: lines at 4, 36 and 40 s
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"disc: step {n} of 100" for n in (10, 90, 100)]
    assert lines[0] == "disc: step 10 of 100, loss 0.1000, 20 slices/s, 00:36 to go"


def test_terminal_gets_a_bar_with_stage_loss_and_pace(tmp_path):
    terminal = Terminal()
    with Journal(tmp_path, "disc", 10, 5, slices_per_step=1, stream=terminal) as journal:
        journal.say("a remark")
        journal.row(10, {"loss": 0.25})
    text = terminal.getvalue()
    for words in ("disc:", "10/10", "loss=0.2500", "slices/s=", "a remark"):
        assert words in text


def test_events_hold_scalars_and_pictures(tmp_path):
    with Journal(tmp_path, "disc", 10, stream=io.StringIO()) as journal:
        journal.row(1, {"loss": 0.5})
        journal.image("overview", 1, np.zeros((8, 6, 3), np.uint8))
        for picture in (np.zeros((8, 6), np.uint8), np.zeros((8, 6, 3)), np.zeros((8, 6, 4), np.uint8)):
            with pytest.raises(ValueError, match=r"a picture is \(H, W, 3\) of uint8"):
                journal.image("overview", 1, picture)
    (events,) = (tmp_path / "disc" / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/loss" in content and b"overview" in content and b"PNG" in content


LIMITED = """
import resource, sys
from ivdjax.commands.commands import run_command
from ivdjax.training.journal import Journal
def main():
    with Journal(sys.argv[1], "disc", 1000) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # files stop growing, as on a full disk
        for step in range(1, 1000):
            journal.row(step, {"loss": 1.0})
    return 0
sys.exit(run_command(main))
"""


def test_a_disk_that_fills_up_is_one_message_and_never_a_wait_without_end(tmp_path, root):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=root, env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr, done.stderr
