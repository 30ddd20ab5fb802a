"""The process that reads damaged inputs: watched, short of memory, and killed where it hangs."""

from __future__ import annotations

import os
import resource
import sys
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEMORY_BYTES = 4 << 30
PEAK_BYTES = 1 << 30
"""Address space of the worker, and what a small input may take of the machine's memory."""

_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile", "socket.connect",
              "socket.getaddrinfo", "socket.bind", "pickle.find_class", "urllib.Request", "pty.spawn")  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_CHANGING = {"os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.rename": 2, "os.symlink": 2, "os.link": 2,
             "os.truncate": 1, "os.chmod": 1, "os.utime": 1, "shutil.rmtree": 1}  # fmt: skip


class Watch:
    """Looks at every file that Python code opens, and at what starts programs, connects or unpickles."""

    def __init__(self, outside: Path) -> None:
        self._outside = str(outside)
        self._home: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def begin(self, home: Path) -> None:
        """From now on nothing may be written but below `home`."""
        self.seen, self._home = [], str(home)

    def end(self) -> list[str]:
        """What was done that must not be."""
        self._home = None
        return self.seen

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._home is None:
            return
        if event == "open":
            self._opened(*arguments)
        elif event in _FORBIDDEN:
            self.seen.append(f"{event} {arguments!r}"[:300])
        elif event in _CHANGING:
            for path in arguments[: _CHANGING[event]]:
                self._changed(event, path)

    def _opened(self, path: Any, mode: str | None, flags: int) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are looked at as they are
        if place.startswith(self._outside):
            self.seen.append(f"read outside of the input: {place}")
        if flags & _WRITING or (mode and set(mode) & set("wax+")):
            self._changed("open", place)

    def _changed(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        if _in_memory(place):
            return
        if not place.startswith((str(self._home), "/dev/null")) and "__pycache__" not in place:
            self.seen.append(f"{event} outside of the output: {place}")


def serve(line: Connection, log: Path, outside: Path, words: tuple[str, ...]) -> None:
    """Answers each folder of a sample that comes over the line with (outcome, reason), until the line is closed.

    The outcome is "read", "refused" or "finding".
    """
    handle = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.fuzz import targets
    from tests.fuzz.sample import load

    watch = Watch(outside)
    _warm_up()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    line.send(("ready", ""))
    while True:
        try:
            folder = Path(line.recv())
        except EOFError:
            return
        sample = load(folder)
        output = folder / "out"
        output.mkdir()
        _reset_peak()
        before = _peak_bytes()
        reason = ""
        outcome, said = "finding", []
        watch.begin(folder)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                outcome, said = targets.run(sample.kind, folder / "files", output, sample.words)
        except BaseException as error:
            reason = "".join(traceback.format_exception(error))[-6000:]
        done = watch.end()
        said += [str(item.message) for item in caught]
        reason = reason or _complaint(done, said, log, words, _peak_bytes() - before, sample.size)
        os.truncate(handle, 0)
        line.send(("finding" if reason else outcome, reason))


def _complaint(done: list[str], said: list[str], log: Path, words: tuple[str, ...], grown: int, size: int) -> str:
    if done:
        return "; ".join(dict.fromkeys(done))
    text = "\n".join([*said, log.read_text(encoding="utf-8", errors="replace")])
    if named(words, text):
        return named(words, text)
    if "Traceback (most recent call last)" in text:
        return f"a traceback was printed:\n{text[-3000:]}"
    if grown > PEAK_BYTES:
        return f"took {grown >> 20} MiB for an input of {size >> 10} KiB"
    return ""


def named(words: tuple[str, ...], text: str) -> str:
    """Which words of the patient a text holds, and where; empty for none."""
    found = [word for word in words if word.casefold() in text.casefold()]
    if not found:
        return ""
    at = text.casefold().find(found[0].casefold())
    return f"words of the patient in a message: {found}: ... {text[max(0, at - 300) : at + 100]}"


def _warm_up() -> None:
    """Imports what is imported late, before anything is watched."""
    import highdicom  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import nibabel  # noqa: F401
    import pydicom.pixels  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmHWM"):
            return int(row.split()[1]) << 10
    return 0


def _in_memory(place: str) -> bool:
    """Whether a path stands for memory of this process: a decoder that takes files alone is handed such a one."""
    try:
        return place.startswith("/proc/self/fd/") and os.readlink(place).startswith("/memfd:")  # noqa: PTH115
    except OSError:
        return False
