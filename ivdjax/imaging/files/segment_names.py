"""Which disc the name of a segment means, as people and programs write it."""

from __future__ import annotations

import re
from itertools import pairwise

from ivdjax.imaging.files.codes import DISC_CODES

_UPWARD = ("S1", *(f"L{n}" for n in range(5, 0, -1)), *(f"T{n}" for n in range(12, 0, -1)),
           *(f"C{n}" for n in range(7, 1, -1)))  # fmt: skip
_LEVEL_OF_PAIR = {(upper, lower): level for level, (lower, upper) in enumerate(pairwise(_UPWARD), 1)}

_PAIR = re.compile(r"(Th|[CTDLS]) ?(\d{1,2}) ?[-/_\u2013|,.]? ?(Th|[CTDLS])? ?(\d{1,2})", re.IGNORECASE)
_WORDS = re.compile(r"\b(discus|dis[ck]s?|ivds?|intervertebral(is)?|of|the|vertebral?)\b", re.IGNORECASE)
_DISC_WORD = re.compile(r"\b(discus|dis[ck]s?|ivds?|intervertebral\w*)\b", re.IGNORECASE)

assert len(_LEVEL_OF_PAIR) == len(DISC_CODES)


def level_of_name(name: str) -> int | None:
    """The level of the disc that a name tells of: "L5/S1", "L5-S1 disc" and "Disc L5S1" are 1, "Th12/L1" is 6; None
    where it tells of no disc, or of one that has no level (L6/S1, L4/S1)."""
    pair = _pair(name)
    return None if pair is None else _LEVEL_OF_PAIR.get(pair)


def is_disc_name(name: str) -> bool:
    """Whether a name tells of a disc, be it of one that has no level or of none in particular."""
    return _pair(name) is not None or bool(_DISC_WORD.search(name.replace("_", " ")))


def _pair(name: str) -> tuple[str, str] | None:
    """The two vertebrae round a disc, the upper one first; of "L4/5" L4 and L5."""
    match = _PAIR.fullmatch(" ".join(_WORDS.sub(" ", name.replace("_", " ")).split()).strip(" -:()"))
    if match is None:
        return None
    letter, number, below, last = match.groups()
    upper, lower = (_vertebra(kind, count) for kind, count in ((letter, number), (below or letter, last)))
    return upper, lower


def _vertebra(letter: str, number: str) -> str:
    return f"{'T' if letter.upper() in ('TH', 'D') else letter.upper()}{int(number)}"
