"""A real process that a test watches closely and disturbs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.conftest import ROOT

LIMIT_S = 400.0
"""Seconds after which a process counts as hung: ten times what one of these tests takes on two quiet cores."""


class WatchedProcess:
    """A process, started in the repository's root; a context manager, which leaves no process behind.

    Args:
        words: the command.
        said: where its stdout and stderr go.
        environment: variables beside those of the tests.
        own_group: whether it leads a process group of its own.
    """

    def __init__(
        self, words: Sequence[str], said: Path, environment: Mapping[str, str] | None = None, own_group: bool = False
    ) -> None:
        self._said = said
        # Files, since a pipe that nobody reads while the process is watched would stop it.
        with said.open("w") as stream:
            self.process = subprocess.Popen(
                words, cwd=ROOT, stdout=stream, stderr=stream, env=os.environ | dict(environment or {}),
                start_new_session=own_group,
            )  # fmt: skip
        self._begin_s = time.monotonic()

    @property
    def said(self) -> str:
        """Everything on stdout and stderr so far."""
        return self._said.read_text(errors="replace")

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._begin_s

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def until(self, moment: Callable[[], Any]) -> bool:
        """Watches it closely until a moment; False if it ended before."""
        while self.running:
            if moment():
                return True
            if self.seconds > LIMIT_S:
                raise TimeoutError(f"nothing of what was waited for in {LIMIT_S:.0f} s\n{self.said}")
            time.sleep(0.0005)
        return False

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """The exit code as a shell gives it: 137 after SIGKILL, 143 after SIGTERM, handled or not."""
        code = self.process.wait(limit_s)
        return code if code >= 0 else 128 - code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.running:
            self.kill()
