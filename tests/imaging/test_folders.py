"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys

import pytest

from ivdjax.imaging.folders import alone, clean_leftovers, whole_file, whole_folder, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_when_the_block_ends(tmp_path):
    final = tmp_path / "deep" / "case"
    with whole_folder(final) as part:
        (part / "sub").mkdir()
        (part / "sub" / "a.txt").write_text("a")
        assert not final.exists()
    assert (final / "sub" / "a.txt").read_text() == "a"
    assert names(final.parent) == ["case"]
    assert final.stat().st_mode & 0o777 == (tmp_path / "deep").stat().st_mode & 0o777


def test_failing_block_leaves_the_old_folder_and_nothing_else(tmp_path):
    final = tmp_path / "case"
    with whole_folder(final) as part:
        (part / "old.txt").touch()
    with pytest.raises(RuntimeError, match="stop"), whole_folder(final) as part:
        (part / "new.txt").touch()
        raise RuntimeError("stop")
    assert names(tmp_path) == ["case"] and names(final) == ["old.txt"]


def test_existing_folder_is_replaced_as_a_whole(tmp_path):
    final = tmp_path / "case"
    for name in ("old.txt", "new.txt"):
        with whole_folder(final) as part:
            (part / name).touch()
    assert names(tmp_path) == ["case"] and names(final) == ["new.txt"]


def test_an_empty_folder_is_replaced_in_one_step(tmp_path, monkeypatch):
    final = tmp_path / "case"
    final.mkdir()
    renamed = []
    rename = type(final).rename
    monkeypatch.setattr(type(final), "rename", lambda old, new: renamed.append(new) or rename(old, new))
    with whole_folder(final) as part:
        (part / "new.txt").touch()
    assert renamed == [final] and names(tmp_path) == ["case"] and names(final) == ["new.txt"]


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    final = tmp_path / "case"
    final.symlink_to(tmp_path / "elsewhere")
    with whole_folder(final) as part:
        (part / "new.txt").touch()
    assert not final.is_symlink() and names(final) == ["new.txt"]
    assert names(tmp_path) == ["case", "elsewhere"]


def test_folder_of_a_killed_run_is_removed_and_that_of_a_living_one_kept(tmp_path, root):
    final = tmp_path / "case"
    code = (
        "import sys, time; from ivdjax.imaging.folders import whole_folder\n"
        f"with whole_folder({str(final)!r}) as part:\n"
        "    (part / 'half.txt').touch(); print(part.name, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    left = process.stdout.readline().strip()
    clean_leftovers(final)
    assert names(tmp_path) == [left]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with whole_folder(final) as part:
        (part / "whole.txt").touch()
    assert names(tmp_path) == ["case"]


def test_version_set_aside_by_a_killed_run_comes_back(tmp_path):
    (tmp_path / ".case.abc12_.old").mkdir()
    (tmp_path / ".case.abc12_.old" / "old.txt").touch()
    (tmp_path / ".case.2.abc12_.part").mkdir()  # of another case, "case.2"
    clean_leftovers(tmp_path / "case")
    assert names(tmp_path) == [".case.2.abc12_.part", "case"]
    assert names(tmp_path / "case") == ["old.txt"]
    (tmp_path / ".case.zzzz.old").mkdir()
    clean_leftovers(tmp_path / "case")
    assert ".case.zzzz.old" not in names(tmp_path)


def test_where_folders_cannot_be_locked_they_are_written_and_none_is_taken_for_left_over(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".case.abc12_.part").mkdir()  # a running process may be filling it: nobody can know
    with whole_folder(tmp_path / "case") as part:
        (part / "a.txt").touch()
    assert names(tmp_path) == [".case.abc12_.part", "case"] and names(tmp_path / "case") == ["a.txt"]


def test_alone_keeps_another_process_out_until_the_block_ends(tmp_path):
    asked = "import sys; from pathlib import Path; from ivdjax.imaging.folders import alone\n"
    asked += "with alone(Path(sys.argv[1])) as free: print(free)"

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", asked, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout.strip()

    with alone(tmp_path) as free:
        assert free
        assert other() == "False"
    assert other() == "True"


def test_whole_file_keeps_the_suffix_that_a_writer_goes_by(tmp_path):
    with whole_file(tmp_path / "a.nii.gz", ".nii.gz") as part:
        assert part.name.startswith(".a.") and part.name.endswith(".part.nii.gz") and part.parent == tmp_path
        part.write_text("a")
        assert not (tmp_path / "a.nii.gz").exists()
    assert names(tmp_path) == ["a.nii.gz"]


def test_write_whole_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "a.csv"
    write_whole(path, "old")
    with pytest.raises(TypeError):
        write_whole(path, None)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    write_whole(path, "a\udcff")
    assert path.read_text() == r"a\udcff"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a.csv", "x")
