"""What the four commands share: the option parser and the way from an exception to a message and an exit code.

Exit codes: 0 all done; 1 at least one case failed (training: not a number, disk); 2 nothing was started (options,
configuration, model, input); 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from ivdjax.volume import CaseError, UserError

DONE, FAILED, REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

_AFTER_STOP = "nothing was left half written; the same command again goes on from there or begins anew"


class Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread, so that `finally` blocks and context managers clean up."""


class CommandParser(argparse.ArgumentParser):
    """An option parser that keeps the line breaks of its description, takes no abbreviations and exits with 2."""

    def __init__(self, description: str, epilog: str | None = None) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )


def run_command(main: Callable[[], int]) -> int:
    """The exit code of `main`, with every expected failure turned into one message on stderr.

    While `main` runs in the main thread, SIGTERM raises `Terminated` in it, so that temporary folders and workers are
    cleaned up as after Ctrl-C. An exception that is nobody's input or disk, but a fault of the program, passes
    through: its traceback is what a bug report needs.
    """
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
        return _say(f"error: {describe_os_error(error)}", FAILED)
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
        UserError: it is the address of a bucket, which would become a folder of that name.
    """
    if "://" in text:
        raise UserError(f"--output {text}: this command writes to a folder of this machine; give one, and copy it")
    return Path(text)


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
    return f"{error.strerror or error}{where}"


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _say(message: str, code: int) -> int:
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr, flush=True)
    return code


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
