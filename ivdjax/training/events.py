"""TensorBoard's events of one sitting: curves and pictures, written at once and in the caller's own thread."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLUSH_EVERY_S = 30.0
"""Seconds between two moments at which what was written is on the disk."""


class Events:
    """An events file that TensorBoard reads.

    tensorboardX's own SummaryWriter hands events to a thread, which a full disk ends with a traceback and without a
    word to its caller; some events later the caller waits for it for good. Here an event that cannot be written raises.

    Args:
        folder: where a new file begins; made if need be.
        purge_step: what earlier sittings wrote of this step and later ones is hidden.

    Raises:
        OSError: the file cannot be written; so do all methods.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._flushed_s, self._open = time.monotonic(), True
        self._write(Event(session_log=SessionLog(status=SessionLog.START)), purge_step)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Adds a point to a curve."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._write(Event(summary=scalar(tag, value)), step)

    def image(self, tag: str, rgb: NDArray[np.uint8], step: int) -> None:
        """Adds a picture (H, W, 3)."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import image

        self._write(Event(summary=image(tag, rgb, dataformats="HWC")), step)

    def close(self) -> None:
        """Ends the file; may be called twice."""
        if self._open:
            self._open = False
            # The file itself, whose end writes what is left; tensorboardX's close would leave it open if that fails.
            self._writer._py_recordio_writer.close()

    def _write(self, event: Any, step: int) -> None:
        event.wall_time, event.step = time.time(), step
        self._writer.write_event(event)
        if time.monotonic() - self._flushed_s > FLUSH_EVERY_S:
            self._flushed_s = time.monotonic()
            self._writer.flush()
