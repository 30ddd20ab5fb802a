"""What speaks for a person to look at a numbering, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.levels import Chain
from ivdjax.volume import level_name

_BORDER_MM = 10.0
_FIRST_TILT_DEG = (-60.0, -14.0)
"""Slopes of L5/S1 between which nothing is remarked: -54 to -17 in 22 patients, and L4/5 sloped by -2 to -27 there."""
_FLATTEST_DEG = -8.0
"""Slope of L5/S1 up to which a flat one is passed over where all evidence agrees on it."""
_FRAGMENT, _SMALL, _HUGE = 0.2, 0.3, 2.5
"""Volumes, against those usual for the level in this spine, outside which a disc is remarked: small ones where the
level is not certain, fragments always. L5/S1 has 0.24 in one of 22 patients, and 0.28 in one after surgery."""
_CERTAIN = 0.99
_SPECK, _STRAY = 0.1, 0.25
"""Share of the median disc's volume below which a remnant, or a stray, is left out without a word."""
_DISC_WIDTH, _DISC_VOLUME = 0.8, 0.4
"""A remnant of this share of a disc's AP width and volume, or more, may well be one: a transitional vertebra."""
_AT_BORDER = 0.03
"""Share of a disc's voxels at the spine region's border from which the region has cut it: 0.026 where 7 % of a disc are
lost (once in 196 discs of 28 patients), 0.04 to 0.10 where up to a third is."""
_NEAR_MM = 25.0
_CLEARLY = 1.5
"""How many times the votes for the given level another level needs for the networks to disagree."""
_AGAINST = 0.8
"""Confidence without the localization network below which geometry contradicts it."""
_ALONE = 0.95
"""Confidence in every level without the localization network from which geometry stands by itself."""
FEW = 3
"""Fewer discs do not tell what is usual in this spine."""
_LIKELIER = 1.0
"""Gain in log evidence from which the other way round is the likelier one: at most -5 in 28 patients and 20 phantoms as
they are, at least 5 upside down."""
_LOST_MM = 15.0
"""A registered line this far off most of the candidates has not found the spine."""


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
        sure: probability below which a level is in doubt.
        turned: gain in log evidence of the candidates seen the other way round (`ivdjax.discs.orientation`).
    """

    candidates: Sequence[Candidate]
    levels: Sequence[int | None]
    chain: Chain
    geometry: Chain
    off_mm: Sequence[float]
    guide_off_mm: float
    anchored: bool
    discs: int
    sure: float
    turned: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Index of the candidate of each level that is given out, rising from 1."""
        return {level: index for index, level in enumerate(self.levels) if level and 1 <= level <= self.discs}

    @cached_property
    def confidence(self) -> Mapping[int, float]:
        """Probability of each level that is given out, for the disc that has it."""
        return {level: self.chain.probability(index, level) for level, index in self.places.items()}

    @cached_property
    def certain(self) -> bool:
        """Whether every level is certain, and nearly so by the shape of the spine alone."""
        alone = [self.geometry.probability(index, level) for level, index in self.places.items()]
        return min(self.confidence.values()) >= _CERTAIN and min(alone) >= _ALONE

    @cached_property
    def median(self) -> tuple[float, float]:
        """Median volume in mm3 and AP width in mm of the numbered discs."""
        found = [self.candidates[index] for index in self.places.values()]
        return float(np.median([c.volume_mm3 for c in found])), float(np.median([c.ap_width_mm for c in found]))

    def disc(self, level: int) -> Candidate:
        """The disc of a level that is given out."""
        return self.candidates[self.places[level]]


def reasons_for_review(answer: Answer) -> tuple[str, ...]:
    """All that speaks for a look at an answer, most important first; nothing: none."""
    if not answer.places:
        return ("no disc was found",)
    judges = (_turned, _lower_border, _below, _uncertain, _geometry, _gaps, _networks, _transitional, _slope, _above,
              _made_up, _steps, _sizes, _cut_by_region, _left_out, _lost_line)  # fmt: skip
    return tuple(reason for judge in judges for reason in judge(answer))


def _names(levels: Sequence[int]) -> str:
    """"L5/S1", "L5/S1 and L4/5", "L5/S1, L4/5 and L3/4"."""  # fmt: skip
    names = [level_name(level) for level in levels]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _turned(answer: Answer) -> Iterator[str]:
    """Whether the discs make a better spine the other way round."""
    if len(answer.places) < FEW or max(answer.turned.values(), default=0.0) <= _LIKELIER:
        return
    way = max(answer.turned, key=lambda way: answer.turned[way])
    yield (f"the image may be stored {way}: seen the other way round, its discs would make a likelier spine; the "
           "picture should have the sacrum at its bottom and the belly on its left")  # fmt: skip


def _lower_border(answer: Answer) -> Iterator[str]:
    lowest = answer.disc(min(answer.places))
    if answer.anchored or lowest.below_mm >= _BORDER_MM:
        return
    where = "touches the lower border of the image" if lowest.below_mm <= 0 else (
        f"lies {lowest.below_mm:.0f} mm above the lower border of the image")  # fmt: skip
    yield f"the lowest disc {where}: without the sacrum in view its level is a guess"


def _below(answer: Answer) -> Iterator[str]:
    missing = range(1, min(answer.places))
    if missing:
        yield f"{_names(missing)} not found below {level_name(min(answer.places))}"


def _above(answer: Answer) -> Iterator[str]:
    top = max(answer.places)
    missing = range(top + 1, answer.discs + 1)
    if missing:
        room = answer.disc(top).above_mm
        yield (f"{_names(missing)} not found above {level_name(top)}, above which the image goes on for {room:.0f} mm; "
               f"{len(answer.places)} of {answer.discs} discs were found")  # fmt: skip


def _gaps(answer: Answer) -> Iterator[str]:
    for low, high in pairwise(answer.places):
        if high - low > 1:
            between = np.linalg.norm(answer.disc(high).centroid_mm - answer.disc(low).centroid_mm)
            yield (f"{_names(range(low + 1, high))} not found in the {between:.0f} mm between {level_name(low)} and "
                   f"{level_name(high)}")  # fmt: skip


def _uncertain(answer: Answer) -> Iterator[str]:
    doubtful = [level for level, sure in answer.confidence.items() if sure < answer.sure]
    if not doubtful:
        return
    least = min(doubtful, key=lambda level: answer.confidence[level])
    row = np.array(answer.chain.posterior[answer.places[least]])
    if least <= a.TOP:
        row[least - a.LOWEST] = 0.0
    other = int(row.argmax())
    say = "no disc" if other == len(a.LEVELS) else _any_name(int(a.LEVELS[other]))
    yield (f"the level is uncertain for {_names(doubtful)}: {level_name(least)} has a confidence of "
           f"{answer.confidence[least]:.2f} and may be {say}")  # fmt: skip


def _geometry(answer: Answer) -> Iterator[str]:
    """Whether the shape of the spine alone speaks against the level of the lowest disc."""
    level, index = next(iter(answer.places.items()))
    if answer.anchored or answer.confidence[level] < answer.sure:
        return
    alone = answer.geometry.probability(index, level)
    if alone < _AGAINST:
        yield (f"by its shape alone the spine would be numbered otherwise: {level_name(level)} would have a confidence "
               f"of {alone:.2f} without the localization network")  # fmt: skip


def _any_name(level: int) -> str:
    return level_name(level) if level >= 1 else ("a remnant of S1/S2" if level == 0 else "a remnant of S2/3")


def _networks(answer: Answer) -> Iterator[str]:
    """Discs that the localization network takes for others, and remnants that it takes for discs."""
    apart = {level: disc.favourite for level in answer.places if _disagrees(disc := answer.disc(level), level)}
    # A user who pins a level has settled a shift of the whole spine, not disagreement on parts of it.
    shifts = {level - seen for level, seen in apart.items()}
    settled = answer.anchored and len(shifts) == 1 and len(apart) >= len(answer.places) - 1
    first = answer.places.get(1)
    # Where it agrees on L5/S1 and the shape of the spine stands by itself, that it loses count further up is its own
    # affair: such a network errs over whole stretches of a spine.
    overruled = answer.certain and first is not None and answer.candidates[first].favourite == 1
    if apart and not settled and not overruled:
        said = ", ".join(f"{level_name(level)} (it sees {level_name(seen)})" for level, seen in apart.items())
        yield f"the localization network disagrees on {said}"
    if not answer.anchored and first is not None and _unseen(answer.candidates[first]):
        yield "the localization network sees no disc at L5/S1"
    for candidate, level in zip(answer.candidates, answer.levels, strict=True):
        if level is not None and level < 1 and candidate.favourite and not answer.anchored:
            yield (f"the localization network takes the structure left out as {_any_name(level)} for "
                   f"{level_name(candidate.favourite)}")  # fmt: skip


def _disagrees(disc: Candidate, level: int) -> bool:
    if not disc.favourite or disc.votes is None or disc.favourite == level:
        return False
    own = disc.votes[level] if level < len(disc.votes) else 0.0
    return bool(disc.votes[disc.favourite] > _CLEARLY * own)


def _unseen(disc: Candidate) -> bool:
    return disc.votes is not None and disc.favourite == 0


def _transitional(answer: Answer) -> Iterator[str]:
    """What was left out below the lowest disc and may be one."""
    if answer.anchored:
        return
    lowest = answer.disc(min(answer.places))
    volume, width = (min(pair) for pair in zip(answer.median, (lowest.volume_mm3, lowest.ap_width_mm), strict=True))
    for index in range(min(answer.places.values())):
        candidate, level = answer.candidates[index], answer.levels[index]
        share, depth = candidate.volume_mm3 / volume, candidate.ap_width_mm / width
        if share < _SPECK or (level is None and answer.off_mm[index] > _NEAR_MM):
            continue
        kept_out = float(answer.chain.posterior[index, : 1 - a.LOWEST].sum() + answer.chain.posterior[index, -1])
        size = f"{candidate.ap_width_mm:.0f} mm from front to back and {candidate.volume_mm3:.0f} mm3"
        if depth >= _DISC_WIDTH and share >= _DISC_VOLUME:
            yield (f"a lowest structure of {size}, as large as a disc, was left out: with a transitional vertebra "
                   "every level may be one too low")  # fmt: skip
        elif not _unseen(candidate) or kept_out < answer.sure:
            yield (f"a lowest structure of {size} was left out as a remnant of S1/S2; if it is L5/S1, every level is "
                   "one too low")  # fmt: skip


def _slope(answer: Answer) -> Iterator[str]:
    if answer.anchored or 1 not in answer.places or (first := answer.disc(1)).cut:
        return
    least, most = _FIRST_TILT_DEG
    if first.tilt_deg < least:
        yield (f"L5/S1 slopes by {first.tilt_deg:.0f} degrees, steeper than it usually does: it may be a remnant "
               "within the sacrum")  # fmt: skip
    elif first.tilt_deg > (_FLATTEST_DEG if answer.certain and first.favourite == 1 else most):
        yield (f"L5/S1 tilts by {first.tilt_deg:.0f} degrees, and it usually slopes down to the front by about 33: it "
               "may be L4/5 or higher")  # fmt: skip


def _made_up(answer: Answer) -> Iterator[str]:
    for level in answer.places:
        disc = answer.disc(level)
        if disc.origin == "whole" or disc.favourite == level:
            continue
        how = "was cut out of a larger structure" if disc.origin == "split" else "was put together from pieces"
        yield f"{level_name(level)} {how}"


def _steps(answer: Answer) -> Iterator[str]:
    least, most = a.PLAUSIBLE_STEP_MM
    for low, high in pairwise(answer.places):
        if high - low > 1:
            continue
        length = float(np.linalg.norm(answer.disc(high).centroid_mm - answer.disc(low).centroid_mm))
        if not least <= length <= most:
            yield (f"{level_name(low)} and {level_name(high)} lie {length:.0f} mm apart, and neighbours usually "
                   f"{least:.0f} to {most:.0f} mm")  # fmt: skip


def _sizes(answer: Answer) -> Iterator[str]:
    if len(answer.places) < FEW:
        return
    for level in answer.places:
        disc = answer.disc(level)
        share = disc.volume_mm3 / answer.median[0] / float(np.exp(a.LOG_VOLUME[min(level, a.TOP) - a.LOWEST]))
        least = _FRAGMENT if answer.confidence[level] >= _CERTAIN else _SMALL
        if not least <= share <= _HUGE:
            meaning = "a fragment or no disc" if share < 1 else "more than one disc"
            yield f"{level_name(level)} has {100 * share:.0f} % of the volume to be expected: it may be {meaning}"


def _cut_by_region(answer: Answer) -> Iterator[str]:
    for level in answer.places:
        if (share := answer.disc(level).at_border) >= _AT_BORDER:
            yield (f"{level_name(level)} reaches the border of the spine region with {100 * share:.0f} % of its "
                   "voxels: part of it may be missing; compare with inference.region=false")  # fmt: skip


def _left_out(answer: Answer) -> Iterator[str]:
    """Strays as large as a disc that lie near the spine or that the localization network takes for a disc."""
    lowest, top = min(answer.places.values()), max(answer.places.values())
    complete = max(answer.places) == answer.discs
    for index, (candidate, level) in enumerate(zip(answer.candidates, answer.levels, strict=True)):
        share = candidate.volume_mm3 / answer.median[0]
        if level is not None or index < lowest or (complete and index > top) or share < _STRAY:
            continue
        if (
            answer.off_mm[index] <= _NEAR_MM
            or candidate.favourite
            or answer.chain.probability(index, None) < answer.sure
        ):
            yield (f"a structure of {candidate.volume_mm3:.0f} mm3, {answer.off_mm[index]:.0f} mm off the line of the "
                   "spine, was left out")  # fmt: skip


def _lost_line(answer: Answer) -> Iterator[str]:
    if answer.guide_off_mm > _LOST_MM:
        yield (f"the registered reference spine lies {answer.guide_off_mm:.0f} mm off the discs that were found")
