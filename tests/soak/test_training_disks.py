"""Disks that are full, fill up or cannot be written, under real processes of train.py.

They are mounted by the tests, in memory, so these need root (skipped without).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.memory_disk import mounted
from tests.training_run import Training, assert_same_run, finish, leftovers, newest_step, rows

pytestmark = pytest.mark.soak

DISK_MIB = 48


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk."""
    try:
        with mounted(tmp_path / "disk", DISK_MIB) as folder:
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


def free_bytes(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """A file that grows until so many bytes are left; the file."""
    filler = disk / "filler"
    block = b"\0" * 4096
    with filler.open("ab", buffering=0) as stream:
        try:
            while free_bytes(disk) > leave_bytes:
                stream.write(block)
        except OSError:
            pass
    return filler


def test_too_little_room_is_refused_before_the_first_step(disk, whole):
    run = disk / "run"
    for name in ("data", "cache"):  # what was prepared is there already
        shutil.copytree(whole / name, run / name)
    filler = fill(disk, 2 << 20)
    with Training(run) as training:
        assert training.wait() == 1, training.said
        said = training.said
    print(said.splitlines()[-1])
    assert f"error: a checkpoint could not be written to {run}/region/checkpoints: " in said
    assert "MiB needed, " in said and "MiB free" in said and "make room" in said and "Traceback" not in said
    assert rows(run / "region" / "journal.csv") == []
    filler.unlink()
    (disk / "run.said").unlink()
    finish(run)
    assert_same_run(run, whole)


@pytest.mark.parametrize("leave_bytes", [0, 300_000])
def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(disk, whole, leave_bytes):
    run = disk / "run"
    with Training(run) as training:
        assert training.until(lambda: newest_step(run, "disc") >= 10)
        filler = fill(disk, leave_bytes)
        code = training.wait()
        left = free_bytes(disk)
        shown = training.said
    print(f"{left} bytes left: exit code {code}: {shown.splitlines()[-1:]}")
    # Orbax may print tracebacks of its own when the disk fills up in mid-save.
    assert code == 1 and shown.count("\nerror: ") == 1, shown
    good = newest_step(run, "disc")
    assert good >= 10 and not (run / "disc" / "result").exists()
    filler.unlink()
    said = finish(run)
    assert f"disc: resumed from step {good} of" in said and "damaged" not in said
    assert_same_run(run, whole)


def test_a_disk_without_room_for_the_cases_is_one_message(disk, whole):
    filler = fill(disk, 1 << 20)
    with Training(disk / "run") as training:
        assert training.wait() == 1, training.said
        said = training.said
    print(said.splitlines()[-1])
    assert said.splitlines()[-1].startswith("error: ") and "full" in said and "Traceback" not in said
    filler.unlink()
    finish(disk / "run")
    assert_same_run(disk / "run", whole)


def test_an_output_that_cannot_be_written_is_refused_and_nothing_is_left(disk, tmp_path):
    (disk / "old").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for name in ("old", "new"):
        with Training(disk / name, said=tmp_path / "said") as training:
            assert training.wait() == 1, training.said
            said = training.said
        print(said)
        assert said.startswith("error: no permission to write") and f"{disk}/{name}" in said and said.count("\n") == 1
    assert [path.name for path in disk.iterdir()] == ["old"] and leftovers(disk) == []
