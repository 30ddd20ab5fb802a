"""The worker as its supervisor sees it: a process that is started, told cases, heard, and killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from ivdjax.inference import worker
from ivdjax.inference.worker import Message, Pipeline


class WorkerProcess:
    """At most one living worker, and the line to it.

    Args:
        pipeline: what the worker does with a case.
        log: takes what it prints; None: stderr.
    """

    def __init__(self, pipeline: Pipeline, log: Path | None) -> None:
        self._pipeline, self._log = pipeline, log
        self._process: BaseProcess | None = None
        self._line: Connection | None = None
        self._sender: _Sender | None = None

    @property
    def at_work(self) -> bool:
        """Whether there is a worker, be it one whose end has not been noticed."""
        return self._process is not None

    def start(self) -> None:
        """Starts a worker; it says itself when it is ready."""
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._process = context.Process(
            target=worker.begin, args=(far_end, self._log), name="ivdjax worker", daemon=True
        )
        # All that is large goes over the line: what `start` itself writes would wait for ever for a worker that died.
        # Ctrl-C reaches every process of the terminal; a worker born with SIGINT blocked leaves the answer to us. The
        # tracker that Python starts beside the first worker unblocks SIGINT again, so it must be there before.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            far_end.close()
        self._sender = _Sender(self._line)
        self._sender.send(self._pipeline)

    def tell(self, number: int, case: str, payload: Any) -> None:
        """Sends a case by its number; a worker that is gone is noticed on listening."""
        assert self._sender is not None
        self._sender.send((number, case, payload))

    def hear(self, limit_s: float | None, doing: str) -> Message | None:
        """The worker's next message, "gone" if it ended while it did that, or None if nothing came in time."""
        assert self._line is not None and self._process is not None
        if not wait([self._line, self._process.sentinel], limit_s):
            return None
        # The line is looked at first: an answer may have been sent just before the worker's end.
        with contextlib.suppress(EOFError, OSError):  # killed while it was sending
            if self._line.poll():
                return Message(*self._line.recv())
        self._process.join()
        reason = f"the worker process ended while it {doing}: {describe_exit(self._process.exitcode)}"
        if self._log is not None and self._log.exists() and self._log.stat().st_size:
            reason += f"; see {self._log}"
        self.stop()
        return Message("gone", reason=reason)

    def stop(self) -> None:
        """Kills the worker, if there is one, and waits until it is gone."""
        process, line, self._process, self._line = self._process, self._line, None, None
        sender, self._sender = self._sender, None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
            process.close()
        if sender is not None:
            sender.close()
        if line is not None:
            line.close()
        if self._log is not None and self._log.is_file() and self._log.stat().st_size == 0:
            self._log.unlink()


class _Sender:
    """Sends over a line from a thread of its own, so that nobody waits for a worker that does not listen.

    What a worker that is gone should have heard is lost; that it is gone is noticed on listening.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_waiting, name="to the worker", daemon=True)
        self._thread.start()

    def send(self, thing: Any) -> None:
        """Sends an object as soon as the worker takes it; what cannot be pickled raises here."""
        self._waiting.put(bytes(ForkingPickler.dumps(thing)))

    def close(self) -> None:
        """Ends the thread; the worker must be gone."""
        self._waiting.put(None)
        self._thread.join()

    def _send_waiting(self) -> None:
        with contextlib.suppress(OSError):
            while (words := self._waiting.get()) is not None:
                self._line.send_bytes(words)


def describe_exit(code: int | None) -> str:
    """Plain words for a process's exit code as `multiprocessing` gives it (negative: the signal that killed it)."""
    if code is None or code >= 0:
        return f"exit code {code}"
    if -code == signal.SIGKILL:
        return "killed (SIGKILL), most often because memory ran out; use a smaller case or more memory"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
