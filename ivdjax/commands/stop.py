"""Requests to stop: Ctrl-C and SIGTERM, held back until the step under way is done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from ivdjax.commands.commands import Terminated


@dataclass
class Stop:
    """A request to stop that arrived by a signal; the step under way is finished first.

    Attributes:
        signal: its number; 0 as long as there is none.
    """

    signal: int = 0

    def carry_out(self) -> None:
        """Raises what the signal stands for; `Terminated` where another process of the job got it."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated

    def carry_out_if_asked(self) -> None:
        """The same, or nothing without a request."""
        if self.signal:
            self.carry_out()


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM as requests while the block runs, so that a step is never torn.

    A second Ctrl-C raises at once. A second SIGTERM does not: schedulers send it to a process both directly and by way
    of the one that started it, and the checkpoint that is being saved is what the first one asked for.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal and number == signal.SIGINT:
            stop.carry_out()
        stop.signal = stop.signal or number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
