"""The verdict on a case: the probability that something is wrong, and what a person should know.

    log odds = bias + sum of weight x sign, over the signs of `signs` and that of the outlines

Something is wrong where a level is, or where a disc that is in view is missing. Bias and weights, none below 0, are
fitted to cases whose levels are known (`python -m benchmarks.fit_levels`): a sign that does not help to predict an
error has weight 0, and what it says becomes a remark. A model may hold its own (`levels` in its description).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ivdjax.discs import anatomy as a
from ivdjax.discs.signs import Sign

Kind = Literal["ok", "review"]

_COUNTS = 0.25
"""Log odds that a sign must add for its sentence to be a reason."""
_MOST_REASONS = 4


@dataclass(frozen=True)
class Judgement:
    """What levels and verdict are made of for one model.

    Attributes:
        slope, offset: calibrated log odds of a level = slope x log odds + offset; 1 and 0 leave confidence as it is.
        bias: log odds that something is wrong where no sign speaks.
        weights: log odds of each sign, 0 or more.
    """

    slope: float
    offset: float
    bias: float
    weights: Mapping[str, float]

    def confidence(self, probability: float) -> float:
        """A level's probability, calibrated: in the same order, 0 to 1; 0 and 1 stay what they are."""
        if not 0 < probability < 1:
            return probability
        return _share(self.slope * float(np.log(probability / (1 - probability))) + self.offset)

    def probability_wrong(self, signs: Mapping[str, Sign]) -> float:
        """Probability, 0 to 1, that something is wrong; at least what each sign asks for by itself (`asked`)."""
        odds = self.bias + sum(self.weights.get(name, 0.0) * sign.value for name, sign in signs.items())
        return max([_share(odds), *(self.asked(sign) for sign in signs.values())])

    def asked(self, sign: Sign) -> float:
        """P(something is wrong) that a sign alone asks for.

        A contradiction asks for its own; a level for what its calibrated confidence leaves, since no case is surer than
        the least sure of its levels. A confidence that was not calibrated asks for nothing.
        """
        if sign.certainty is None or (self.slope, self.offset) == (1.0, 0.0):
            return sign.least
        return max(sign.least, 1.0 - self.confidence(sign.certainty))


@dataclass(frozen=True)
class Verdict:
    """What is thought of a case.

    Attributes:
        probability_wrong: that a level is wrong or a disc in view is missing, 0 to 1.
        kind: "review" where that is above the threshold, else "ok".
        reasons: for a review, in short sentences, the decisive first; empty where it is ok.
        remarks: what else may be worth knowing; they decide nothing.
    """

    probability_wrong: float
    kind: Kind
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]


def judged(signs: Mapping[str, Sign], judgement: Judgement, review_above: float) -> Verdict:
    """The verdict on a case.

    Args:
        signs: by name; those that a judgement does not know say something, and decide nothing.
        judgement: of the model.
        review_above: probability that something is wrong above which a person should look.
    """
    wrong = judgement.probability_wrong(signs)
    added = {name: judgement.weights.get(name, 0.0) * sign.value for name, sign in signs.items()}
    asked = {name: judgement.asked(sign) for name, sign in signs.items()}
    order = sorted(signs, key=lambda name: (-asked[name], -added[name]))
    review = wrong > review_above
    said = [name for name in order if signs[name].sentence]
    heavy = [name for name in said if asked[name] > review_above or added[name] >= _COUNTS]
    reasons = heavy[:_MOST_REASONS] if review else []
    remarks = tuple(signs[name].sentence for name in said if name not in reasons)
    sentences = tuple(signs[name].sentence for name in reasons)
    if review and not sentences:  # many small things
        sentences = (f"Taken together, the evidence leaves a chance of {100 * wrong:.0f} % that something is wrong",)
    return Verdict(wrong, "review" if review else "ok", sentences, remarks)


def judgement_of(facts: Mapping[str, Any] | None) -> Judgement:
    """The judgement that a model's description holds (`levels`); without one the program's own, uncalibrated.

    Raises:
        ValueError: what the description holds is no judgement.
    """
    own = facts is not None
    found = facts if facts is not None else json.loads(a.FILE.read_text(encoding="utf-8"))["verdict"]
    try:
        weights = {str(name): float(weight) for name, weight in found["weights"].items()}
        slope, offset = (float(found["confidence"][key]) for key in ("slope", "offset")) if own else (1.0, 0.0)
        judgement = Judgement(slope, offset, float(found["bias"]), weights)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"levels in a model's description must hold confidence, bias and weights ({error!r}); make them anew with "
            "benchmarks/fit_levels.py"
        ) from error
    numbers = [slope, offset, judgement.bias, *weights.values()]
    if not np.isfinite(numbers).all() or slope <= 0 or min(weights.values(), default=0.0) < 0:
        raise ValueError("levels in a model's description must be finite, the slope above 0, no weight below 0")
    return judgement


def _share(odds: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
