"""The worker's side of a cohort: it builds its state once, then answers one task after the other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ivdjax.volume import CaseError, UserError
from ivdjax.workflows.commands import describe_os_error


def serve(build: Callable[[], Callable[[Any], Any]], line: Connection, log: Path | None) -> None:
    """Answers tasks until the line is closed: `(status, payload, reason)` each, after a first one when it is ready."""
    end_with_parent()
    _offer_to_memory_killer()
    try:
        if log is not None:
            _redirect_output(log)
        work = build()
    except Exception as error:
        line.send(("failed", None, _describe(error, "start of the worker", log)))
        return
    line.send(("ready", None, ""))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            case, payload = line.recv()
            _send(line, case, _answer(work, case, payload, log), log)


def _answer(work: Callable[[Any], Any], case: str, payload: Any, log: Path | None) -> tuple[str, Any, str]:
    try:
        return "done", work(payload), ""
    except Exception as error:
        return "failed", None, _describe(error, f"case {case}", log)


def _send(line: Connection, case: str, answer: tuple[str, Any, str], log: Path | None) -> None:
    try:
        line.send(answer)  # pickled in full before the first byte leaves
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        line.send(("failed", None, _describe(error, f"case {case}", log)))


def _describe(error: Exception, where: str, log: Path | None) -> str:
    """The message for the user; the traceback of what is not the user's to mend goes to the log."""
    if isinstance(error, (CaseError, UserError)):
        return str(error)
    with contextlib.suppress(OSError):  # a full disk takes no traceback, and the answer matters more
        print(f"{where}:", file=sys.stderr)
        traceback.print_exception(error)
        sys.stderr.flush()
    if isinstance(error, OSError):
        return describe_os_error(error)
    seen = f"; the traceback is in {log}" if log is not None else ""
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"memory ran out; use a smaller case or more memory ({type(error).__name__}{seen})"
    return f"{type(error).__name__}: {error}{seen}"


def end_with_parent() -> None:
    """Ends this process when the parent is gone, even if it was killed and could not say so."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _offer_to_memory_killer() -> None:
    """Makes Linux choose this process, not its supervisor, when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _redirect_output(log: Path) -> None:
    """Sends what this process prints, compiled libraries included, to the end of the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
    os.close(handle)
