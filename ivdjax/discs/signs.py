"""What may speak against a numbering: named signs, each with a number and a sentence.

A sign's number is 0 where nothing is unusual and about 1 where it is as unusual as it gets. What each is worth, alone
and beside the others, is not decided here but fitted to cases whose levels are known (`verdict`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.levels import Chain
from ivdjax.volume import level_name

_BORDER_MM = 10.0
_SACRUM_SEEN = 0.3
"""Share of the half body below the lowest disc that must be S1 for the sacrum to be in view."""
_SACRAL: Mapping[int | None, str] = {0: "S1/S2", -1: "S2/3"}
"""Names of the levels of remnants."""
_SPECK, _STRAY = 0.1, 0.25
"""Share of the median disc's volume below which a remnant, or a stray, is left out without a word."""
_DISC_WIDTH, _DISC_VOLUME = 0.8, 0.4
"""A remnant of this share of a disc's AP width and volume, or more, may well be one: a transitional vertebra."""
_NEAR_MM = 25.0
_CLEARLY = 1.5
"""How many times the votes for the given level another level needs for the networks to disagree."""
FEW = 3
"""Fewer discs do not tell what is usual in this spine."""
LIKELIER = 1.0
"""Gain in log evidence from which the other way round is the likelier one: at most -5 in 28 patients and 20 phantoms as
they are, at least 5 upside down."""
_NEARLY, _ACROSS_DEG = -3.0, 10.0
"""The same gain, from which the other way round is nearly as likely, where discs lie this far from across the spine's
course: one of 176 views of the training patients is both, and no scan of others."""
_LOST_MM = 15.0
"""A registered line this far off most of the candidates has not found the spine."""
_SURE = 0.999
"""Confidence that is as good as certain."""


@dataclass(frozen=True)
class Sign:
    """One thing that may speak against a numbering.

    Attributes:
        value: 0 (nothing unusual) to about 1.
        sentence: what a person should know, in one short sentence; empty: nothing worth saying.
        least: P(something is wrong) that this alone asks for: what contradicts a numbering whatever else is known.
        certainty: probability, not yet calibrated, of a level that this is about; None: of none.
    """

    value: float
    sentence: str = ""
    least: float = 0.0
    certainty: float | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """A numbering as it is judged.

    Attributes:
        candidates: from the lowest centroid up.
        levels: of each candidate; None: no disc. 0 and below: remnants in the sacrum.
        chain: the probabilities of levels.
        geometry: the same without the localization network's votes: a second opinion.
        off_mm: distance of each candidate from the spine's centre line.
        guide_off_mm: how far the registered reference's line lies from the candidates.
        anchored: whether the user has pinned a level.
        discs: how many discs are wanted, from the lowest.
        turned: gain in log evidence of the candidates seen the other way round (`ivdjax.discs.orientation`).
        slope_off_deg: how far the candidates are from lying across the spine's course.
    """

    candidates: Sequence[Candidate]
    levels: Sequence[int | None]
    chain: Chain
    geometry: Chain
    off_mm: Sequence[float]
    guide_off_mm: float
    anchored: bool
    discs: int
    turned: Mapping[str, float] = field(default_factory=dict)
    slope_off_deg: float = 0.0

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Index of the candidate of each level that is given out, rising from 1."""
        return {level: index for index, level in enumerate(self.levels) if level and 1 <= level <= self.discs}

    @cached_property
    def confidence(self) -> Mapping[int, float]:
        """Probability of each level that is given out, for the disc that has it."""
        return {level: self.chain.probability(index, level) for level, index in self.places.items()}

    @cached_property
    def median(self) -> tuple[float, float]:
        """Median volume in mm3 and AP width in mm of the numbered discs."""
        found = [self.candidates[index] for index in self.places.values()]
        return float(np.median([c.volume_mm3 for c in found])), float(np.median([c.ap_width_mm for c in found]))

    @property
    def lowest(self) -> int:
        """The lowest level that is given out."""
        return min(self.places)

    def disc(self, level: int) -> Candidate:
        """The disc of a level that is given out."""
        return self.candidates[self.places[level]]


def signs_of(answer: Answer) -> dict[str, Sign]:
    """All signs of an answer by name: of `SIGNS`, or only that nothing was found."""
    if not answer.places:
        return {"nothing": Sign(1.0, "No disc was found", 1.0)}
    return {name: judge(answer) for name, judge in SIGNS.items()}


def transitional(answer: Answer) -> str:
    """A sentence where what was left out below the lowest disc may be one: a transitional vertebra; else empty."""
    if not answer.places or answer.anchored:
        return ""
    for candidate, _, share, depth in _below_the_lowest(answer):
        if depth >= _DISC_WIDTH and share >= _DISC_VOLUME:
            return (
                f"Likely a transitional vertebra: a structure as large as a disc ({candidate.ap_width_mm:.0f} mm from "
                f"front to back) lies below {level_name(answer.lowest)}; counted as L5/S1, every level would be one "
                "higher"
            )
    return ""


def left_out_below(answer: Answer) -> list[tuple[int, str]]:
    """What was left out below the lowest disc: index of each candidate and what it was taken for, the lowest first.

    Specks are not among them. A name is that of a remnant between sacral vertebrae, S1/S2 or S2/3, or "no disc".
    """
    if not answer.places:
        return []
    return [(index, _SACRAL.get(answer.levels[index], "no disc")) for _, index, share, _ in _below_the_lowest(answer)
            if share >= _SPECK]  # fmt: skip


def doubt(confidence: float) -> float:
    """Log odds against a confidence, 0 where it is as good as certain, 1 at one half, up to 2."""
    return float(np.clip(1 + np.log((1 - confidence + 1e-9) / (confidence + 1e-9)) / np.log(_SURE / (1 - _SURE)), 0, 2))


def _names(levels: Sequence[int]) -> str:
    """"L5/S1", "L5/S1 and L4/5", "L5/S1, L4/5 and L3/4"."""  # fmt: skip
    names = [level_name(level) for level in levels]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _any_name(level: int) -> str:
    return level_name(level) if level >= 1 else f"a remnant of {_SACRAL.get(level, _SACRAL[-1])}"


def _uncertain(answer: Answer) -> Sign:
    """The least confidence of a level."""
    level = min(answer.confidence, key=lambda level: answer.confidence[level])
    least = answer.confidence[level]
    row = np.array(answer.chain.posterior[answer.places[level]])
    if level <= a.TOP:
        row[level - a.LOWEST] = 0.0
    other = int(row.argmax())
    say = "no disc" if other == len(a.LEVELS) else _any_name(int(a.LEVELS[other]))
    return Sign(doubt(least), f"{level_name(level)} may be {say}" if least < 0.95 else "", certainty=least)


def _geometry(answer: Answer) -> Sign:
    """What the shape of the spine alone makes of the lowest disc's level."""
    if answer.anchored:
        return Sign(0.0)
    alone = answer.geometry.probability(answer.places[answer.lowest], answer.lowest)
    return Sign(doubt(alone), "The shape of the spine alone speaks for other levels" if alone < 0.5 else "")


def _disagreement(answer: Answer) -> Sign:
    """Discs that the localization network takes for others."""
    apart = {level: disc.favourite for level in answer.places if _disagrees(disc := answer.disc(level), level)}
    # A user who pins a level has settled a shift of the whole spine, not disagreement on parts of it.
    shifts = {level - seen for level, seen in apart.items()}
    if not apart or (answer.anchored and len(shifts) == 1 and len(apart) >= len(answer.places) - 1):
        return Sign(0.0)
    level = min(apart)
    more = f" and {len(apart) - 1} more otherwise" if len(apart) > 1 else ""
    return Sign(
        len(apart) / len(answer.places),
        f"The localization network takes {level_name(level)} for {level_name(apart[level])}{more}",
    )


def _disagrees(disc: Candidate, level: int) -> bool:
    if not disc.favourite or disc.votes is None or disc.favourite == level:
        return False
    own = disc.votes[level] if level < len(disc.votes) else 0.0
    return bool(disc.votes[disc.favourite] > _CLEARLY * own)


def _unseen(answer: Answer) -> Sign:
    """Whether the localization network sees a disc at the lowest one."""
    votes = answer.disc(answer.lowest).votes
    if votes is None or answer.anchored:
        return Sign(0.0)
    say = f"The localization network sees no disc at {level_name(answer.lowest)}" if votes[0] > 0.5 else ""
    return Sign(float(votes[0]), say)


def _border(answer: Answer) -> Sign:
    """A lowest disc near the lower border, without the sacrum in view."""
    lowest = answer.disc(answer.lowest)
    seen = lowest.around is not None and (lowest.around.s1_below or 0.0) >= _SACRUM_SEEN
    if answer.anchored or seen or lowest.below_mm >= _BORDER_MM:
        return Sign(0.0)
    say = "The lowest disc lies at the lower border of the image: without the sacrum in view its level is a guess"
    return Sign(1 - lowest.below_mm / _BORDER_MM, say, 0.5)


def _missing_below(answer: Answer) -> Sign:
    """Levels below the lowest: not found where the image should show them, or out of view, and the sacrum with them."""
    missing = range(1, answer.lowest)
    if not missing:
        return Sign(0.0)
    lowest = answer.disc(answer.lowest)
    step_mm = a.HEIGHT_MM[answer.lowest - a.LOWEST] - a.HEIGHT_MM[answer.lowest - 1 - a.LOWEST]
    in_view = float(np.clip((lowest.below_mm - step_mm + 10) / 20, 0, 1))
    say = f"{_names(missing)} not found below {level_name(answer.lowest)}"
    if in_view < 1 and not answer.anchored:
        say = f"{level_name(1)} is not in view: without the sacrum, levels are a guess"
    # Networks that count from the look of the discs alone can be sure and one level off, all of them alike.
    return Sign(in_view, say, 0.5 * (in_view == 1 or not answer.anchored))


def _gaps(answer: Answer) -> Sign:
    """Levels that are missing between others."""
    missing = [level for low, high in pairwise(answer.places) for level in range(low + 1, high)]
    return Sign(
        float(len(missing)), f"{_names(missing)} not found between others" if missing else "", 0.5 * bool(missing)
    )


def _missing_above(answer: Answer) -> Sign:
    """Levels above the highest that the image should show."""
    top = max(answer.places)
    missing = range(top + 1, min(answer.discs, a.TOP) + 1)
    room = answer.disc(top).above_mm
    heights = [float(a.HEIGHT_MM[level - a.LOWEST] - a.HEIGHT_MM[top - a.LOWEST]) for level in missing]
    seen = sum(float(np.clip((room - height + 5) / 15, 0, 1)) for height in heights)
    if not missing:
        return Sign(0.0)
    return Sign(
        seen, f"{_names(missing)} not found above {level_name(top)}" + ("" if seen else ", where the image ends")
    )


def _below_the_lowest(answer: Answer) -> Iterator[tuple[Candidate, int, float, float]]:
    """What was left out below the lowest disc: candidate, its index, and share of a disc's volume and AP width."""
    lowest = answer.disc(answer.lowest)
    volume, width = (min(pair) for pair in zip(answer.median, (lowest.volume_mm3, lowest.ap_width_mm), strict=True))
    for index in range(answer.places[answer.lowest]):
        candidate = answer.candidates[index]
        if answer.levels[index] is None and answer.off_mm[index] > _NEAR_MM:
            continue
        yield candidate, index, candidate.volume_mm3 / volume, candidate.ap_width_mm / width


def _remnant(answer: Answer) -> Sign:
    """What was left out below the lowest disc, by its size and what the networks make of it."""
    if answer.anchored:
        return Sign(0.0)
    worst = Sign(0.0)
    for candidate, _, share, _ in _below_the_lowest(answer):
        seen = 1.0 if candidate.votes is None else float(1 - candidate.votes[0])
        value = min(share, 1.0) * (0.25 + 0.75 * seen)
        if share >= _SPECK and value > worst.value:
            say = "A smaller structure below the lowest disc was left out: if it is L5/S1, every level is one too low"
            worst = Sign(value, say)
    return worst


def _stray(answer: Answer) -> Sign:
    """Structures as large as a disc that were left out beside or between the discs."""
    lowest, top = min(answer.places.values()), max(answer.places.values())
    complete = max(answer.places) == answer.discs
    worst = Sign(0.0)
    for index, (candidate, level) in enumerate(zip(answer.candidates, answer.levels, strict=True)):
        share = candidate.volume_mm3 / answer.median[0]
        if level is not None or index < lowest or (complete and index > top) or share < _STRAY:
            continue
        if (answer.off_mm[index] <= _NEAR_MM or candidate.favourite) and share > worst.value:
            say = f"A structure of {candidate.volume_mm3:.0f} mm3 beside the spine's line was left out"
            worst = Sign(min(share, 1.0), say)
    return worst


def _slope(answer: Answer) -> Sign:
    """How far the slope of L5/S1 is from the usual, in either direction."""
    if answer.anchored or 1 not in answer.places or (first := answer.disc(1)).cut:
        return Sign(0.0)
    off = first.tilt_deg - a.TILT_DEG[1 - a.LOWEST]
    value = float(np.clip((abs(off) - 15) / 25, 0, 1.5))
    say = "L5/S1 is steeper than usual and may be a remnant in the sacrum" if off < 0 else (
        "L5/S1 is flatter than usual and may be L4/5")  # fmt: skip
    return Sign(value, say if value > 0.2 else "")


def _made_up(answer: Answer) -> Sign:
    """Discs cut out of a larger structure or put together from pieces, where the network does not agree."""
    made = [
        level for level in answer.places if (disc := answer.disc(level)).origin != "whole" and disc.favourite != level
    ]
    if not made:
        return Sign(0.0)
    how = {"split": "cut out of a larger structure", "joined": "put together from pieces"}
    ways = " or ".join(dict.fromkeys(how[answer.disc(level).origin] for level in made))
    return Sign(len(made) / len(answer.places), f"{_names(made)} {'was' if len(made) == 1 else 'were'} {ways}")


def _steps(answer: Answer) -> Sign:
    """Neighbours that lie too near to each other or too far apart."""
    least, most = a.PLAUSIBLE_STEP_MM
    worst = Sign(0.0)
    for low, high in pairwise(answer.places):
        if high - low > 1 or high > a.TOP:
            continue
        length = float(np.linalg.norm(answer.disc(high).centroid_mm - answer.disc(low).centroid_mm))
        usual = float(a.HEIGHT_MM[high - a.LOWEST] - a.HEIGHT_MM[low - a.LOWEST])
        value = float(np.clip((abs(length - usual) - 6) / 12, 0, 1.5))
        if value > worst.value:
            odd = not least <= length <= most
            worst = Sign(value, f"{level_name(low)} and {level_name(high)} lie {length:.0f} mm apart" if odd else "")
    return worst


def _sizes(answer: Answer) -> Sign:
    """Discs much smaller or larger than their level is in this spine."""
    if len(answer.places) < FEW:
        return Sign(0.0)
    worst = Sign(0.0)
    for level in answer.places:
        usual = answer.median[0] * float(np.exp(a.LOG_VOLUME[min(level, a.TOP) - a.LOWEST]))
        share = answer.disc(level).volume_mm3 / usual
        value = float(np.clip((abs(np.log(share)) - np.log(2)) / np.log(5), 0, 1.5))
        if value > worst.value:
            meaning = "a fragment" if share < 1 else "more than one disc"
            odd = not 0.3 <= share <= 2.5
            worst = Sign(
                value,
                f"{level_name(level)} is unusually {'small' if share < 1 else 'large'} and may be {meaning}"
                if odd
                else "",
            )
    return worst


def _turned(answer: Answer) -> Sign:
    """Whether the discs make a better spine the other way round."""
    if len(answer.places) < FEW or not answer.turned:
        return Sign(0.0)
    way = max(answer.turned, key=lambda way: answer.turned[way])
    gain = answer.turned[way]
    if gain <= (_NEARLY if answer.slope_off_deg > _ACROSS_DEG else LIKELIER):
        return Sign(float(np.clip(1 + gain / 10, 0, 1)))
    return Sign(
        1.0, f"The image may be stored {way}: the sacrum should be at its bottom and the belly on its left", 0.9
    )


def _cut_by_region(answer: Answer) -> Sign:
    """Discs that reach the border of the spine region, beyond which nothing is outlined."""
    level = max(answer.places, key=lambda level: answer.disc(level).at_border)
    share = answer.disc(level).at_border
    say = f"The spine region may have cut {level_name(level)}: compare with inference.region=false"
    return Sign(min(share / 0.2, 1.0), say if share >= 0.03 else "")


def _lost_line(answer: Answer) -> Sign:
    """How far the registered reference spine lies from the discs."""
    off = answer.guide_off_mm
    say = "The registered reference spine does not lie on the discs that were found"
    return Sign(min(off / (2 * _LOST_MM), 1.0), say if off > _LOST_MM else "")


SIGNS: Mapping[str, Callable[[Answer], Sign]] = {
    "uncertain": _uncertain, "geometry": _geometry, "disagreement": _disagreement, "unseen": _unseen,
    "border": _border, "missing_below": _missing_below, "gaps": _gaps, "missing_above": _missing_above,
    "remnant": _remnant, "stray": _stray, "slope": _slope, "made_up": _made_up, "steps": _steps, "sizes": _sizes,
    "turned": _turned, "cut_by_region": _cut_by_region, "lost_line": _lost_line,
}  # fmt: skip
"""Every sign of a numbering by name."""
OUTLINE = "outline"
"""The sign of the outlines, which numbering does not see: 1 less the least outline confidence."""
