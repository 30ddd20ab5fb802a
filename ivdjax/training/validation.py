"""A validation of a stage: its figure on held-out cases, and the picture of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.commands.stop import Stop
from ivdjax.data.preparation import Prepared
from ivdjax.model.tasks import Scored, StageTask
from ivdjax.reports.panel import PanelCase, validation_panel


@dataclass(frozen=True)
class Validation:
    """Scores of cases; none of them where no held-out case has outlined discs, or a stop was asked for.

    Attributes:
        figure: the name of the score.
        cases: those with outlined discs, in their order.
        scores: one of each.
        levels: whether the network tells levels apart.
    """

    figure: str
    cases: tuple[Prepared, ...]
    scores: tuple[Scored, ...]
    levels: bool

    @property
    def mean(self) -> float:
        """Mean score; there must be one."""
        return float(np.mean([scored.score for scored in self.scores]))

    @property
    def figures(self) -> dict[str, float]:
        """Mean and worst score by name; empty without any."""
        if not self.scores:
            return {}
        return {self.figure: self.mean, f"worst_{self.figure}": min(scored.score for scored in self.scores)}

    def of(self, cases: Sequence[Prepared]) -> Validation:
        """The same of some cases alone."""
        wanted = {case.name for case in cases}
        kept = [place for place, case in enumerate(self.cases) if case.name in wanted]
        return Validation(
            self.figure, tuple(self.cases[i] for i in kept), tuple(self.scores[i] for i in kept), self.levels
        )

    def panel(self) -> NDArray[np.uint8]:
        """A picture (H, W, 3) of the cases with the outlines of reference and prediction."""
        shown = [
            PanelCase(case.name, case.image[0], found.reference, found.predicted, case.grid.spacing_mm, found.score)
            for case, found in zip(self.cases, self.scores, strict=True)
        ]
        return validation_panel(shown, self.levels)


def validate(task: StageTask, cases: Sequence[Prepared], params: Any, stop: Stop) -> Validation:
    """Scores held-out cases with the given parameters; nothing without a case with outlined discs, or once a stop is
    asked for.
    """
    seen, scores = [], []
    for case in cases:
        if stop.signal:
            return Validation(task.figure, (), (), task.crop.levels)
        if case.labels is not None and case.labels.any():
            seen.append(case)
            scores.append(task.score(task.predict, params, case))
    return Validation(task.figure, tuple(seen), tuple(scores), task.crop.levels)
