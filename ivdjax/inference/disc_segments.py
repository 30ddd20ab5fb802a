"""The segments of a label map of discs: each level with its name, colour and code, in any scheme's numbers."""

from __future__ import annotations

from collections.abc import Iterable

from ivdjax.discs.schemes import IVDJAX, LEVELS, Scheme
from ivdjax.imaging.files.codes import ANATOMICAL_STRUCTURE, Code, disc_code
from ivdjax.imaging.files.segment import Segment, Term
from ivdjax.reports.colours import level_colour
from ivdjax.volume import LEVEL_NAMES, LUMBAR_DISCS, level_name


def disc_segments(levels: Iterable[int], scheme: Scheme = IVDJAX) -> tuple[Segment, ...]:
    """The lumbar levels, 1 to 7, and those of `levels` beyond them, in rising order.

    A table of all the lumbar levels serves every case of a cohort, also one in which a disc was missed and is drawn by
    hand.

    Args:
        levels: that occur, 1 (L5/S1) to 23 (C2/C3).
        scheme: whose numbers the segments' values are.

    Raises:
        ValueError: a level that no disc has.
    """
    wanted = sorted({*range(1, LUMBAR_DISCS + 1), *levels})
    numbers = dict(zip(LEVELS, scheme.values, strict=True))
    return tuple(_segment(level, disc_code(level), numbers[level]) for level in wanted)


def _segment(level: int, code: Code, value: int) -> Segment:
    # Above the levels that our tables name, the standard's name.
    label = level_name(level) if level <= len(LEVEL_NAMES) else code.meaning.removesuffix(" disc")
    return Segment(value=value, label=label, category=_term(ANATOMICAL_STRUCTURE), code=_term(code),
                   rgb=level_colour(level))  # fmt: skip


def _term(code: Code) -> Term:
    return code.value, code.scheme, code.meaning
