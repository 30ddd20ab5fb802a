"""The journal of one training stage: what its user sees, and the tables, curves and pictures that stay."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ivdjax.commands.step_table import StepTable
from ivdjax.training.events import Events

LOG_EVERY_S = 30.0
"""Seconds between two lines where the output is no terminal."""

COLUMNS = ("loss", "gradient_norm", "learning_rate", "slices_per_second", "seconds")


class Journal(AbstractContextManager["Journal"]):
    """Progress on the terminal, `journal.csv`, `validation.csv` and TensorBoard events in `<folder>/<stage>/`.

    `journal.csv` has one row a logged step: step, loss, gradient_norm, learning_rate, slices_per_second (since the row
    before), seconds (of training, over all sittings) and every further scalar that a row was given. A run resumed at
    `start_step` (steps already done) drops what an interrupted sitting wrote beyond it, here and in TensorBoard.

    Args:
        folder: the run's folder.
        stage: name of the stage (region, disc, localization), and of its folder.
        total_steps: steps of the whole stage.
        start_step: steps done by earlier sittings; 0 begins anew.
        slices_per_step: training slices (crops) that one step sees, over all devices.
        stream: where progress goes; stderr by default.
        clock: seconds that never run backwards.

    Raises:
        OSError: the folder or a file cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        stage: str,
        total_steps: int,
        start_step: int = 0,
        *,
        slices_per_step: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = Path(folder) / stage
        self._rows = StepTable(self.folder / "journal.csv", start_step, COLUMNS)
        self._validation_path, self._validation = self.folder / "validation.csv", None
        self._start_step = start_step
        if self._validation_path.exists():
            self._validation = StepTable(self._validation_path, start_step)
        # purge_step hides in TensorBoard what an interrupted sitting wrote beyond the checkpoint.
        self._events = Events(self.folder / "tensorboard", purge_step=start_step + 1)
        self._slices_per_step = slices_per_step
        self._clock = clock
        self._begin_s = self._last_s = clock()
        self._earlier_s = float(self._rows.last.get("seconds") or 0.0)
        self._last_step = start_step
        self._progress = _Progress(stage, total_steps, start_step, stream or sys.stderr, clock)

    def row(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records a logged step (the number of steps done); `scalars` has loss, gradient_norm, learning_rate, ...

        The pace and the seconds are the journal's own; scalars are plain numbers, already on the host.
        """
        now_s = self._clock()
        steps, elapsed_s = step - self._last_step, now_s - self._last_s
        pace = steps * self._slices_per_step / elapsed_s if elapsed_s > 0 else 0.0
        self._last_step, self._last_s = step, now_s
        numbers = {name: float(value) for name, value in scalars.items()}
        numbers |= {"slices_per_second": pace, "seconds": self.seconds}
        self._rows.append(step, numbers)
        for name, value in numbers.items():
            self._events.scalar(f"train/{name}", value, step)
        self._progress.show(step, numbers.get("loss", float("nan")), pace)

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Records the figures of a validation after `step` steps in `validation.csv`, and says them."""
        if self._validation is None:
            self._validation = StepTable(self._validation_path, self._start_step)
        numbers = {name: float(value) for name, value in figures.items()}
        self._validation.append(step, numbers)
        for name, value in numbers.items():
            self._events.scalar(f"validation/{name}", value, step)
        self.say(f"validation at step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
        # Time spent on a validation is no pace of training.
        self._last_s = self._clock()

    def image(self, tag: str, step: int, rgb: NDArray[np.uint8]) -> None:
        """Shows a picture (H, W, 3), uint8, in TensorBoard.

        Raises:
            ValueError: another shape or type.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"a picture is (H, W, 3) of uint8, not {rgb.shape} of {rgb.dtype}")
        self._events.image(tag, rgb, step)

    def say(self, text: str) -> None:
        """Prints a line without breaking the progress bar."""
        self._progress.say(text)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier sittings up to the resumed step among them."""
        return self._earlier_s + self._clock() - self._begin_s

    def close(self) -> None:
        """Ends the bar and writes what TensorBoard has not on disk yet; may be called twice."""
        self._progress.close()
        self._events.close()

    def __exit__(self, *error: object) -> None:
        self.close()


class _Progress:
    """A bar on a terminal; a line every half minute where the output goes to a file."""

    def __init__(
        self, stage: str, total_steps: int, start_step: int, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._stage, self._total, self._stream, self._clock = stage, total_steps, stream, clock
        self._start_step, self._begin_s = start_step, clock()
        self._next_line_s = clock()
        self._bar: tqdm | None = None
        if stream.isatty():
            self._bar = tqdm(
                total=total_steps, initial=start_step, desc=stage, unit="step", file=stream, dynamic_ncols=True
            )

    def show(self, step: int, loss: float, pace: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix({"loss": f"{loss:.4f}", "slices/s": f"{pace:.0f}"}, refresh=False)
            self._bar.update(step - self._bar.n)
        elif self._clock() >= self._next_line_s or step >= self._total:
            self._next_line_s = self._clock() + LOG_EVERY_S
            # The first step is mostly compilation and says nothing of the others.
            rate = f", {pace:.0f} slices/s, {self._to_go(step)} to go" if step - self._start_step > 1 else ""
            self.say(f"{self._stage}: step {step} of {self._total}, loss {loss:.4f}{rate}")

    def say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _to_go(self, step: int) -> str:
        done = step - self._start_step
        return tqdm.format_interval((self._clock() - self._begin_s) / done * (self._total - step))
