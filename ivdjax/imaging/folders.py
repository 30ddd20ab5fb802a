"""Output folders and files that appear whole or not at all.

Either is filled under a hidden temporary name beside its final one and renamed at the end. What a killed run leaves
behind of a folder is found and removed by the next one that writes the same folder; a running one is recognized by its
lock. On a file system without locks folders are written all the same, and what a killed run left there stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

_PART_OF_FOLDER = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.(part|old)", re.DOTALL)
_PART_OF_FILE = re.compile(r"\.(?P<name>.+)\.[0-9]+\.part", re.DOTALL)


@contextlib.contextmanager
def whole_folder(final: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes `final` when the block ends well, and vanishes when it does not.

    An existing `final` stays untouched until then and is replaced as a whole. Parent folders are made. The files are
    flushed to the disk before the rename, so that a power cut leaves the old folder or the new one.

    Raises:
        OSError: a folder cannot be made, written or renamed.
    """
    final = Path(os.path.abspath(final))  # noqa: PTH100 - resolve() would follow a link that `final` itself may be
    final.parent.mkdir(parents=True, exist_ok=True)
    clean_leftovers(final)
    part = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    part.chmod(0o777 & ~_umask())
    lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(lock)
        yield part
        _flush(part)
        _replace(part, final)
    finally:
        os.close(lock)
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def whole_file(final: str | Path, suffix: str = "") -> Iterator[Path]:
    """A temporary path beside `final` that becomes it when the block ends well, and vanishes when it does not.

    An existing `final` stays untouched until then. The folder must exist.

    Args:
        final: the file.
        suffix: the end of its name that the temporary one keeps, for writers that go by it.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    final = Path(final)
    part = final.with_name(f".{final.name.removesuffix(suffix)}.{os.getpid()}.part{suffix}")
    try:
        yield part
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Writes a file, text as UTF-8; whole or not at all (`whole_file`).

    What UTF-8 cannot hold (a file's name of other bytes) stands escaped, as `\\udcff`.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def clean_leftovers(final: str | Path) -> None:
    """Removes what killed runs left of the folder `final`, and gives back a version set aside in mid-replacement."""
    final = Path(os.path.abspath(final))  # noqa: PTH100
    for part in _siblings(final, ".part"):
        if not _locked(part):
            shutil.rmtree(part, ignore_errors=True)
    for old in _siblings(final, ".old"):
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # killed between the two renames of `_replace`
            old.rename(final)


def sweep(parent: Path, files: Collection[str] = ()) -> None:
    """Removes what killed runs left of any folder in `parent`, as `clean_leftovers`, and of the named files.

    Only for who is `alone` in a folder: temporary files have no lock. A `parent` that is not there holds nothing.

    Args:
        parent: of the folders that were written as a whole.
        files: names in it that are written under `.<name>.<process>.part` first.

    Raises:
        OSError: `parent` cannot be listed, or a file not be removed.
    """
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        if match := _PART_OF_FOLDER.fullmatch(path.name):
            clean_leftovers(parent / match["name"])
        elif (match := _PART_OF_FILE.fullmatch(path.name)) and match["name"] in files and path.is_file():
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other process has entered this block for an existing folder; it is kept out until the block ends.

    On a file system without locks nobody is kept out, and the answer is True.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    except OSError:
        free = True
    try:
        yield free
    finally:
        os.close(handle)


def _replace(part: Path, final: Path) -> None:
    try:
        part.rename(final)  # one step where nothing, or an empty folder, is replaced
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    old = part.with_suffix(".old")
    final.rename(old)
    try:
        part.rename(final)
    except OSError:
        old.rename(final)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink()


def _siblings(final: Path, suffix: str) -> list[Path]:
    if not final.parent.is_dir():
        return []
    # A name of exactly one random part between: `.case.x8k2.part` belongs to `case`, not to `case.x8k2`'s sibling.
    start = f".{final.name}."
    return [path for path in sorted(final.parent.iterdir())
            if path.name.startswith(start) and path.name.endswith(suffix)
            and "." not in path.name[len(start) : -len(suffix)]]  # fmt: skip


def _locked(part: Path) -> bool:
    try:
        handle = os.open(part, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Locks an open folder as long as it is open; whether that was possible.

    It is not where another process holds it, nor on file systems that lock no folder (NFS, Lustre without flock).
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """The process's umask; mkdtemp ignores it and makes folders that nobody else may read."""
    value = os.umask(0)
    os.umask(value)
    return value
