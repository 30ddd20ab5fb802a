"""The mirror: a fresh machine goes on from the bucket, wherever a push was cut short."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from etils.epath import backend

from ivdjax.learning.checkpoint import Checkpoints
from ivdjax.training.jobs import copied_files
from ivdjax.training.jobs import mirror as module
from ivdjax.training.jobs.bucket import local_files
from ivdjax.training.jobs.copied_files import CopiedFiles
from ivdjax.training.jobs.mirror import MARK, Mirror, default_scratch, mirrored
from ivdjax.volume import UserError

SEAL = "_CHECKPOINT_METADATA"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_RETRY_S", 0.0)
    monkeypatch.setattr(module, "_QUIET_S", 0.0)


@pytest.fixture
def bucket(tmp_path):
    return tmp_path / "bucket" / "run"


class Outage:
    """Lets `left` changes of the remote folder through; the next ones fail, without a trace."""

    def __init__(self, monkeypatch, remote: Path, left: float = 0) -> None:
        self.left, self.remote, self.done = left, str(remote), 0
        kind = type(backend.os_backend)
        for name in ("open", "remove", "rmtree"):
            monkeypatch.setattr(kind, name, self._failing(getattr(kind, name), name))

    def _failing(self, inner, name):
        def call(itself, path, *args, **settings):
            changes = name != "open" or "w" in args[0]
            if changes and str(path).startswith(self.remote):
                if self.done >= self.left:
                    raise ConnectionError("no route to host")
                self.done += 1
            return inner(itself, path, *args, **settings)

        return call


def write(folder, path, text="x"):
    target = Path(folder) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def write_checkpoint(folder, step, stage="disc", text="x"):
    write(folder, f"{stage}/checkpoints/{step}/state/d/data{text}", text * 10)
    write(folder, f"{stage}/checkpoints/{step}/state/manifest", text)
    write(folder, f"{stage}/checkpoints/{step}/{SEAL}", text)


def write_run(folder, *steps):
    write(folder, "config.json", "{}")
    write(folder, "disc/journal.csv", "step\n" + "".join(f"{step}\n" for step in range(1, max(steps) + 1)))
    for step in steps:
        write_checkpoint(folder, step)


def contents(folder):
    """Everything in a folder that is a file, but for the mark of the bucket."""
    found = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if name != MARK}


def machine(tmp_path, bucket, name, say=None) -> Mirror:
    """The mirror of a machine, before its `pull`."""
    home = tmp_path / name
    (home / "mirror" / "whole").mkdir(parents=True, exist_ok=True)
    return Mirror(epath.Path(bucket), home / "run", home / "mirror" / "whole" / "pushed.json", say)


def started(tmp_path, bucket, name, say=None) -> Mirror:
    found = machine(tmp_path, bucket, name, say)
    found.pull()
    return found


def wait_for(condition, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def test_a_fresh_machine_gets_the_run(tmp_path, bucket):
    with mirrored(str(bucket), scratch=tmp_path / "a") as (folder, mirror):
        write_run(folder, 1, 2)
        mirror.push()
    with mirrored(str(bucket) + "/", scratch=tmp_path / "b") as (other, _):
        assert contents(other) == contents(folder) == contents(bucket)
    assert len(contents(bucket)) == 8


def test_what_is_no_part_of_a_resume_stays_on_the_machine(tmp_path, bucket):
    mirror = started(tmp_path, bucket, "a")
    write_run(mirror.local, 1)
    expected = contents(mirror.local)
    for path in ("cache/S1.npz", "data/S1/S1_t2.nii.gz", "fold_0/disc/journal.csv", "disc/.journal.csv.part",
                 "disc/checkpoints/2.orbax-checkpoint-tmp-17/state/x", ".model.abc.part/model.json"):  # fmt: skip
        write(mirror.local, path)
    mirror.finish()
    assert contents(bucket) == expected


def test_a_fold_is_mirrored_alone_and_shares_what_stays_on_the_machine(tmp_path, bucket):
    with mirrored(str(bucket), part="fold_0", scratch=tmp_path / "a") as (folder, _):
        write(folder, "cache/S1.npz")
        write_run(folder / "fold_0", 1)
        with mirrored(str(bucket), part="fold_1", scratch=tmp_path / "a") as (other, _):
            assert other == folder
            write_run(other / "fold_1", 2)
            (expected := contents(folder)).pop("cache/S1.npz")
    assert {path for path in contents(bucket) if not path.endswith(MARK)} == set(expected)


def test_only_what_changed_goes_up(tmp_path, bucket, monkeypatch):
    mirror = started(tmp_path, bucket, "a")
    write_run(mirror.local, 1, 2)
    mirror.finish()
    calls = Outage(monkeypatch, bucket, left=float("inf"))
    mirror.finish()
    assert calls.done == 0
    write(mirror.local, "disc/journal.csv", "step\n1\n2\n3\n")
    mirror.finish()
    assert calls.done == 1
    assert contents(bucket) == contents(mirror.local)


def test_a_restart_on_the_same_machine_copies_nothing_again(tmp_path, bucket, monkeypatch):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1, 2)
    first.finish()
    calls = Outage(monkeypatch, bucket, left=float("inf"))
    started(tmp_path, bucket, "a").finish()
    assert calls.done == 1  # the mark, written as a trial


def test_nothing_is_copied_up_again_after_a_pull(tmp_path, bucket, monkeypatch):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1, 2)
    first.finish()
    second = started(tmp_path, bucket, "b")
    calls = Outage(monkeypatch, bucket, left=float("inf"))
    second.finish()
    assert calls.done == 0


def test_what_vanishes_here_is_removed_there_after_the_new_is_whole(tmp_path, bucket, monkeypatch):
    mirror = started(tmp_path, bucket, "a")
    write_run(mirror.local, 1, 2)
    mirror.finish()
    shutil.rmtree(mirror.local / "disc" / "checkpoints" / "1")
    write_checkpoint(mirror.local, 3)
    Outage(monkeypatch, bucket, left=2)  # not enough for the new one
    with pytest.raises(OSError):
        mirror.finish()
    assert (bucket / "disc" / "checkpoints" / "1" / SEAL).exists()
    monkeypatch.undo()
    mirror.finish()
    assert contents(bucket) == contents(mirror.local)
    assert sorted(path.name for path in (bucket / "disc" / "checkpoints").iterdir()) == ["2", "3"]


def test_a_file_of_the_run_that_vanishes_is_removed_and_a_users_own_is_not(tmp_path, bucket):
    mirror = started(tmp_path, bucket, "a")
    write_run(mirror.local, 1)
    write(mirror.local, "disc/tensorboard/events.1")
    mirror.finish()
    write(bucket, "disc/notes.txt")
    (mirror.local / "disc" / "tensorboard" / "events.1").unlink()
    again = started(tmp_path, bucket, "a")
    again.finish()
    assert "disc/tensorboard/events.1" not in contents(bucket)
    assert "disc/notes.txt" in contents(bucket)


def test_a_push_cut_short_anywhere_costs_one_interval_at_most(tmp_path, bucket, monkeypatch):
    """Real checkpoints: one new, one gone, one saved again; a fresh machine then resumes, and this one catches up."""
    states = {step: {"w": jnp.full((50, 40), step, jnp.float32)} for step in (1, 2, 3)}
    home = started(tmp_path, bucket, "a")
    folder = home.local / "disc" / "checkpoints"

    def journal(step):
        write(home.local, "disc/journal.csv", "step\n" + "".join(f"{n}\n" for n in range(1, step + 1)))

    journal(2)
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(1, states[1])
        checkpoints.save(2, states[2])
    home.finish()
    shutil.copytree(bucket, tmp_path / "before_bucket")
    shutil.copytree(tmp_path / "a" / "mirror", tmp_path / "before_mirror")
    journal(3)
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.save(2, states[2])
        checkpoints.save(3, states[3])
    restored = []
    for left in range(100):
        for target, source in ((bucket, "before_bucket"), (tmp_path / "a" / "mirror", "before_mirror")):
            shutil.rmtree(target)
            shutil.copytree(tmp_path / source, target)
        mirror = started(tmp_path, bucket, "a")
        with monkeypatch.context() as patch:
            outage = Outage(patch, bucket, left)
            try:
                mirror.finish(attempts=1)
            except OSError:
                assert outage.done == left
            else:
                break
        fresh = started(tmp_path, bucket, f"fresh_{left}")
        with Checkpoints(fresh.local / "disc" / "checkpoints", keep=2) as checkpoints:
            found = checkpoints.restore_latest(states[1])
        assert found is not None and found.remarks == ()
        np.testing.assert_array_equal(found.state["w"], states[found.step]["w"])
        steps = (fresh.local / "disc" / "journal.csv").read_text().split()[1:]
        assert found.step <= len(steps)
        restored.append(found.step)
        fresh.finish()  # clears what is half there
        half = {path.parent for path in bucket.rglob("manifest.ocdbt") if path.parent.name == "state"}
        assert all((state.parent / SEAL).exists() for state in half)
    else:
        pytest.fail("the push never came to its end")
    assert set(restored) == {2, 3} and restored == sorted(restored) and len(restored) > 15
    assert {path: (bucket / path).read_bytes() for path in local_files(mirror.local)} == {
        path: (mirror.local / path).read_bytes() for path in local_files(mirror.local)
    }
    assert local_files(bucket).keys() - {MARK} == local_files(mirror.local).keys()


@pytest.mark.parametrize(("folder", "seal"), [("model", "model.json"), ("disc/result", "result.json")])
def test_a_model_or_result_is_never_seen_half(tmp_path, bucket, monkeypatch, folder, seal):
    mirror = started(tmp_path, bucket, "a")
    for version in ("1", "2"):  # the second takes the place of the first
        for name in ("a.npz", seal, "weights.npz"):
            write(mirror.local, f"{folder}/{name}", version)
        for left in range(10):
            with monkeypatch.context() as patch:
                Outage(patch, bucket, left)
                try:
                    mirror.finish(attempts=1)
                except OSError:
                    found = {path.read_text() for path in (bucket / folder).glob("*")}
                    assert not (bucket / folder / seal).exists() or len(found) == 1
                else:
                    break
        assert contents(bucket) == contents(mirror.local)


def test_the_newer_local_copy_is_kept_and_pushed(tmp_path, bucket):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1)
    first.finish()
    write_run(first.local, 1, 2)  # and the machine stops before a push
    again = started(tmp_path, bucket, "a")
    again.finish()
    assert contents(bucket) == contents(again.local)
    assert f"disc/checkpoints/2/{SEAL}" in contents(bucket)


def test_what_another_machine_did_meanwhile_is_taken_stage_by_stage(tmp_path, bucket):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1)
    write_checkpoint(first.local, 9, stage="region")
    first.finish()
    write_checkpoint(first.local, 10, stage="region")  # never pushed
    second = started(tmp_path, bucket, "b")
    write_run(second.local, 3, 4)
    shutil.rmtree(second.local / "disc" / "checkpoints" / "1")
    second.finish()
    again = started(tmp_path, bucket, "a")
    assert sorted(path.name for path in (again.local / "disc" / "checkpoints").iterdir()) == ["3", "4"]
    assert sorted(path.name for path in (again.local / "region" / "checkpoints").iterdir()) == ["10", "9"]
    assert (again.local / "disc" / "journal.csv").read_text().split() == ["step", "1", "2", "3", "4"]
    again.finish()
    assert contents(bucket) == contents(again.local)


def test_a_pull_cut_short_is_made_up_for(tmp_path, bucket, monkeypatch):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1, 2)
    write_checkpoint(first.local, 5, stage="region")
    first.finish()
    download = copied_files.download
    for left in range(len(contents(bucket)) + 1):
        turns = iter(range(left))

        def failing(source, target, turns=turns):
            if next(turns, None) is None:
                raise ConnectionError("gone")
            download(source, target)

        monkeypatch.setattr(copied_files, "download", failing)
        try:
            second = started(tmp_path, bucket, "b")
        except UserError as error:
            assert "cannot be read and written: gone" in str(error)
        else:
            break
    assert left > 3
    assert contents(second.local) == contents(first.local)


def test_a_local_checkpoint_that_is_not_whole_gives_way(tmp_path, bucket):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1)
    first.finish()
    second = started(tmp_path, bucket, "b")
    (second.local / "disc" / "checkpoints" / "1" / SEAL).unlink()
    assert contents(started(tmp_path, bucket, "b").local) == contents(first.local)


def test_half_a_file_in_the_bucket_is_removed_when_it_vanishes_here(tmp_path, bucket, monkeypatch):
    mirror = started(tmp_path, bucket, "a")
    write(mirror.local, "disc/events.1", "long text")
    with monkeypatch.context() as patch:
        kind, inner = type(backend.os_backend), type(backend.os_backend).open

        def half(itself, path, mode):
            if "w" in mode:
                Path(path).write_text("long")
                raise ConnectionError("cut")
            return inner(itself, path, mode)

        patch.setattr(kind, "open", half)
        with pytest.raises(OSError, match="cut"):
            mirror.finish(attempts=1)
    assert contents(bucket) == {"disc/events.1": "long"}
    (mirror.local / "disc" / "events.1").unlink()
    mirror.finish()
    assert contents(bucket) == {}


def test_an_outage_is_said_once_and_the_next_push_catches_up(tmp_path, bucket, monkeypatch):
    said = []
    mirror = started(tmp_path, bucket, "a", said.append)
    write_run(mirror.local, 1)
    with monkeypatch.context() as patch:
        Outage(patch, bucket)
        for _ in range(3):
            mirror.push()
            wait_for(lambda: mirror._thread is None)
    assert len(said) == 1
    assert "no route to host" in said[0] and str(mirror.local) in said[0]
    mirror.push()
    wait_for(lambda: mirror._thread is None)
    assert contents(bucket) == contents(mirror.local)
    mirror.push()
    assert said[1:] == [f"{bucket} has caught up"]
    mirror.finish()


def test_a_failure_at_the_end_names_the_local_folder(tmp_path, bucket, monkeypatch):
    with (
        pytest.raises(OSError, match="does not hold all of the run: no route to host") as failure,
        mirrored(str(bucket), scratch=tmp_path / "a") as (folder, _),
    ):
        write_run(folder, 1)
        Outage(monkeypatch, bucket)
    assert str(folder) in str(failure.value)
    assert len(contents(folder)) == 5


def test_a_stop_is_not_hidden_by_a_failure_of_the_mirror(tmp_path, bucket, monkeypatch, capsys):
    with pytest.raises(KeyboardInterrupt), mirrored(str(bucket), scratch=tmp_path / "a") as (folder, _):
        write_run(folder, 1)
        Outage(monkeypatch, bucket)
        raise KeyboardInterrupt
    assert f"Everything is in {folder}" in capsys.readouterr().err


def test_a_stop_pushes_what_is_there(tmp_path, bucket):
    with pytest.raises(KeyboardInterrupt), mirrored(str(bucket), scratch=tmp_path / "a") as (folder, _):
        write_run(folder, 1)
        raise KeyboardInterrupt
    assert contents(bucket) == contents(folder)


def test_a_push_does_not_hold_up_and_only_one_is_under_way(tmp_path, bucket, monkeypatch):
    mirror = started(tmp_path, bucket, "a")
    write_run(mirror.local, 1)
    gate, running, most = threading.Event(), 0, 0
    inner = CopiedFiles.copy_up

    def slow(itself):
        nonlocal running, most
        running += 1
        most = max(most, running)
        gate.wait(10)
        inner(itself)
        running -= 1

    monkeypatch.setattr(CopiedFiles, "copy_up", slow)
    begin = time.monotonic()
    for _ in range(5):
        mirror.push()
    assert time.monotonic() - begin < 1 and contents(bucket) == {}
    write_checkpoint(mirror.local, 2)
    gate.set()
    mirror.finish()
    assert most == 1
    assert contents(bucket) == contents(mirror.local)


def test_a_push_waits_for_the_checkpoint_that_is_being_written(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(module, "_QUIET_S", 0.3)
    mirror = started(tmp_path, bucket, "a")
    write_checkpoint(mirror.local, "7.orbax-checkpoint-tmp")
    mirror.push()
    time.sleep(0.6)
    (mirror.local / "disc" / "checkpoints" / "7.orbax-checkpoint-tmp").rename(
        mirror.local / "disc" / "checkpoints" / "7"
    )
    wait_for(lambda: (bucket / "disc" / "checkpoints" / "7" / SEAL).exists())
    mirror.finish()


def test_a_push_that_moves_nothing_is_given_up_at_the_end(tmp_path, bucket, monkeypatch):
    mirror = started(tmp_path, bucket, "a")
    gate = threading.Event()
    monkeypatch.setattr(module, "STALL_S", 0.3)
    monkeypatch.setattr(CopiedFiles, "copy_up", lambda itself: gate.wait(20))
    with pytest.raises(OSError, match=r"nothing was copied for 0 s.*Everything is in"):
        mirror.finish()
    gate.set()


def test_a_checkpoint_that_goes_while_it_is_copied_is_not_sealed(tmp_path, bucket, monkeypatch):
    mirror = started(tmp_path, bucket, "a")
    write_run(mirror.local, 1, 2)
    inner = CopiedFiles._upload

    def upload(itself, path, here):
        if path == "disc/checkpoints/1/state/manifest":
            shutil.rmtree(itself.local / "disc" / "checkpoints" / "1")
        return inner(itself, path, here)

    monkeypatch.setattr(CopiedFiles, "_upload", upload)
    mirror.finish()
    assert (bucket / "disc" / "checkpoints" / "1").exists()
    assert not (bucket / "disc" / "checkpoints" / "1" / SEAL).exists()
    mirror.finish()
    assert contents(bucket) == contents(mirror.local)


def test_an_unreachable_bucket_stops_before_anything_begins(tmp_path, bucket, monkeypatch):
    def refuse(*_):
        raise ConnectionError("no credentials")

    monkeypatch.setattr(type(backend.os_backend), "listdir", refuse)
    with (
        pytest.raises(UserError, match=r"cannot be read and written: no credentials; check the bucket's name"),
        mirrored(str(bucket), scratch=tmp_path / "a"),
    ):
        pytest.fail("it began")


def test_a_bucket_that_does_not_exist_is_told_from_an_empty_one(tmp_path, bucket, monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError("b/bucket/o")

    monkeypatch.setattr(epath.Path(bucket).__class__, "write_text", refuse)  # listing it gives nothing, as for gs://
    with pytest.raises(UserError, match="not found: b/bucket/o"), mirrored(str(bucket), scratch=tmp_path / "a"):
        pytest.fail("it began")


def test_a_bucket_that_cannot_be_written_stops_before_anything_begins(tmp_path, bucket, monkeypatch):
    Outage(monkeypatch, bucket)
    with pytest.raises(UserError, match="no route to host"), mirrored(str(bucket), scratch=tmp_path / "a"):
        pytest.fail("it began")


def test_a_full_local_disk_is_no_fault_of_the_bucket(tmp_path, bucket, monkeypatch):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1)
    first.finish()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copied_files, "download", full)
    with pytest.raises(OSError, match="No space left"):
        started(tmp_path, bucket, "b")


def test_a_run_that_was_removed_from_the_bucket_does_not_come_back(tmp_path, bucket):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1)
    first.finish()
    shutil.rmtree(bucket)
    with pytest.raises(UserError, match=rf"no longer holds the run of the copy.*remove {tmp_path / 'a'}, or move"):
        started(tmp_path, bucket, "a")
    shutil.rmtree(tmp_path / "a")
    assert contents(started(tmp_path, bucket, "a").local) == {}


def test_another_run_of_the_same_name_is_not_mixed_in(tmp_path, bucket):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 5)
    first.finish()
    shutil.rmtree(bucket)
    second = started(tmp_path, bucket, "b")
    write_run(second.local, 1)
    second.finish()
    with pytest.raises(UserError, match="holds another run than the copy on this machine"):
        started(tmp_path, bucket, "a")
    assert contents(bucket) == contents(second.local)


def test_a_damaged_record_costs_a_copy_and_no_run(tmp_path, bucket):
    first = started(tmp_path, bucket, "a")
    write_run(first.local, 1)
    first.finish()
    (tmp_path / "a" / "mirror" / "whole" / "pushed.json").write_text('{"run": 1')
    again = started(tmp_path, bucket, "a")
    write_checkpoint(again.local, 2)
    again.finish()
    assert contents(bucket) == contents(again.local)
    assert json.loads((bucket / MARK).read_text())["run"]


def test_two_processes_do_not_share_one_local_folder(tmp_path, bucket):
    with (
        mirrored(str(bucket), scratch=tmp_path / "a"),
        pytest.raises(UserError, match="another process on this machine"),
        mirrored(str(bucket), scratch=tmp_path / "a"),
    ):
        pytest.fail("both began")


def test_the_local_folder_is_found_again_and_is_one_users(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = default_scratch("gs://bucket/run")
    assert folder == default_scratch("gs://bucket/run") != default_scratch("gs://bucket/other")
    assert folder.parent == tmp_path and folder.name.startswith("ivdjax-")
    with mirrored(str(bucket)) as (local, _):
        assert local == default_scratch(str(bucket)) / "run"
        assert local.parent.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(module.os, "getuid", lambda: 12345)
    with pytest.raises(UserError, match="belongs to another user; set TMPDIR"), mirrored(str(bucket)):
        pytest.fail("it began")


def test_a_local_folder_that_cannot_be_made_is_named(tmp_path, bucket):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="set TMPDIR to another disk"), mirrored(str(bucket), scratch=tmp_path / "file"):
        pytest.fail("it began")


def test_lines_go_to_stderr(capsys):
    module._print("a line")
    assert capsys.readouterr().err == "a line\n"
