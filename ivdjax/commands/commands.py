"""What the four commands share: the option parser and the way from an exception to a message and an exit code.

Exit codes: 0 all done; 1 at least one case failed (training: not a number, disk); 2 nothing was started (options,
configuration, model, input); 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from ivdjax.volume import CaseError, UserError

DONE, FAILED, REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

_SCRIPTS = ("infer.py", "train.py", "evaluate.py", "cross_validate.py")
"""Of a checkout, each one of the program's commands."""

_AFTER_STOP = "nothing was left half written; the same command again goes on from there or begins anew"


class Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread, so that `finally` blocks and context managers clean up."""


class CommandParser(argparse.ArgumentParser):
    """An option parser that keeps the line breaks of its description, takes no abbreviations and exits with 2."""

    def __init__(self, description: str = "", epilog: str | None = None, **others: Any) -> None:
        fixed = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(description=description, epilog=epilog, **(others | fixed))


def spoken(command: str) -> str:
    """How a command is called in the way in which this program was started.

    `ivdjax infer` where the program is installed; `python infer.py` where a script of a checkout was called, and
    `python -m ivdjax infer` where the package was.
    """
    started = Path(sys.argv[0] if sys.argv else "").name
    script = f"{command.replace('-', '_')}.py"
    if started in _SCRIPTS and script in _SCRIPTS:
        return f"python {script}"
    return f"python -m ivdjax {command}" if started in (*_SCRIPTS, "__main__.py") else f"ivdjax {command}"


def run_command(main: Callable[[], int]) -> int:
    """The exit code of `main`, with every expected failure turned into one message on stderr.

    While `main` runs in the main thread, SIGTERM raises `Terminated` in it, so that temporary folders and workers are
    cleaned up as after Ctrl-C. An exception that is nobody's input or disk, but a fault of the program, passes
    through: its traceback is what a bug report needs.
    """
    _open_streams()
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        code = main()
        sys.stdout.flush()
        return code
    except UserError as error:
        return _say(f"error: {error}", REFUSED)
    except CaseError as error:
        return _say(f"error: {error}", FAILED)
    except KeyboardInterrupt:
        return _say(f"stopped by Ctrl-C; {_AFTER_STOP}", INTERRUPTED)
    except Terminated:
        return _say(f"stopped by SIGTERM; {_AFTER_STOP}", TERMINATED)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): give the interpreter's last flush somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        # A name that is too long was given so: what a command writes itself has names of bounded length.
        return _say(f"error: {describe_os_error(error)}", REFUSED if error.errno == errno.ENAMETOOLONG else FAILED)
    except FloatingPointError as error:
        return _say(f"error: {error}", FAILED)
    except MemoryError:
        return _say("error: memory ran out; close other programs or use smaller batches", FAILED)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # how XLA words a lack of memory on its device
            raise
        return _say(f"error: memory ran out on the device; use smaller batches\n{_first_line(error)}", FAILED)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def local_output(text: str) -> Path:
    """The folder that an option --output names, of a command that writes on this machine alone.

    Raises:
        UserError: it is empty (an unset variable of a shell), no UTF-8, or the address of a bucket, which would become
            a folder of that name.
    """
    if not text:
        raise UserError("--output is empty; give a folder")
    if not is_utf8(text):
        raise UserError(f"--output {text}: the name is no valid UTF-8, and not every library can write there")
    if "://" in text:
        raise UserError(f"--output {text}: this command writes to a folder of this machine; give one, and copy it")
    return Path(text)


def given_folder(text: str, option: str) -> Path:
    """The folder that an option names.

    Raises:
        UserError: it is empty, and would stand for the current folder.
    """
    if not text.strip():
        raise UserError(f"{option} is empty; give a folder (is a variable unset?)")
    return Path(text)


def make_output(folder: Path) -> None:
    """Makes the folder that an option --output names, where it is not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be made: {describe_os_error(error)}") from error


def refuse_in_the_way(folder: Path, names: Iterable[str]) -> None:
    """Makes sure, before hours of work, that files of these names can be written into a folder, be it there or not.

    Raises:
        UserError: a folder, a pipe or a broken link has one of the names.
    """
    for path in (folder / name for name in names):
        if (path.exists() or path.is_symlink()) and not path.is_file():
            raise UserError(
                f"{path} is in the way: a file of that name is written; move it, or choose another --output"
            )


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text; a file's name of other bytes it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Text on one line, with what a terminal would obey in it (a name may hold anything) escaped."""
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs"  # spaces of other scripts
        else c.encode("unicode_escape").decode("ascii") for c in text
    )  # fmt: skip


def describe_os_error(error: OSError) -> str:
    """One line in plain words about a failed file operation, with the file's name where it is known."""
    where = f": {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space, then give the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write or read{where}; choose another folder or change its rights"
    if error.errno == errno.EFBIG:
        return f"a file would be larger than the limit of this shell (ulimit -f) or of the disk allows{where}; raise it"
    return f"{error.strerror or error}{where}"


def _open_streams() -> None:
    """Makes sure that there is something to print to, which takes every letter.

    Where a caller has closed a standard stream, the next file to be opened would be taken for it. A console of few
    letters shows others escaped.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, which is this one; what this program starts finds it open too.
            os.set_inheritable(os.open(os.devnull, mode), True)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _say(message: str, code: int) -> int:
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr, flush=True)
    return code


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
