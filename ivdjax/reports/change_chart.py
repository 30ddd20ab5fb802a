"""A small picture of one measure at every visit of a subject: inline SVG, disc by disc, with the band of the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape

from ivdjax.volume import level_name

BEYOND = "#b3261e"
"""Marks a change beyond the noise, here and in the tables."""

_SLOT, _LEFT, _TOP, _HEIGHT, _BELOW = 62, 46, 10, 120, 22
_LINE, _DOT, _BAND, _GRID = "#5b6770", "#2b3a42", "#d7e3ea", "#e4e4e4"

Course = Sequence[float | None]
"""A measure's value at each visit, the first being the baseline; None where it was not measured."""


def course_svg(
    title: str, unit: str, courses: Mapping[int, Course], detectable: float | None,
    unjudged: Collection[tuple[int, int]] = (),
) -> str:  # fmt: skip
    """Dots by visit for each disc, the highest level at the left, on one axis.

    The band reaches the smallest detectable change to both sides of the disc's first visit. A later visit outside of it
    is drawn as a diamond in another color.

    Args:
        title: what is drawn.
        unit: of the values, for the reader.
        courses: by level.
        detectable: smallest detectable change; None: no band, and no visit is set off.
        unjudged: levels and visits (0 is the first) whose change is not judged; they are not set off either, and a disc
            without any other later visit has no band.

    Returns:
        An <svg> element; empty where nothing was measured.
    """
    values = [value for course in courses.values() for value in course if value is not None]
    if not values:
        return ""
    margin = detectable or 0.0
    ticks = _ticks(min(values) - margin, max(values) + margin)
    low, high = ticks[0], ticks[-1]
    width, bottom = _LEFT + _SLOT * len(courses) + 4, _TOP + _HEIGHT

    def y_of(value: float) -> float:
        return bottom - (value - low) / (high - low) * _HEIGHT

    words = f"{title}{', ' + unit if unit else ''}, disc by disc, at each visit"
    parts = [
        f'<svg role="img" viewBox="0 0 {width} {bottom + _BELOW}" width="{width}" height="{bottom + _BELOW}" '
        f'aria-label="{escape(words)}">'
    ]
    for tick in ticks:
        parts.append(f'<line x1="{_LEFT}" x2="{width}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for slot, level in enumerate(sorted(courses, reverse=True)):
        left = _LEFT + slot * _SLOT
        doubted = {visit for own, visit in unjudged if own == level}
        parts += _disc(left, courses[level], detectable, y_of, doubted)
        parts.append(
            f'<text x="{left + _SLOT / 2}" y="{bottom + 16}" text-anchor="middle">{escape(level_name(level))}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _disc(
    left: float, course: Course, detectable: float | None, y_of: Callable[[float], float], doubted: Collection[int]
) -> list[str]:
    """The band, line and dots of one disc."""
    parts = []
    first = course[0]
    later = {visit for visit, value in enumerate(course) if visit and value is not None}
    if doubted and later <= set(doubted):
        detectable = None
    if first is not None and detectable is not None:
        top, below = y_of(first + detectable), y_of(first - detectable)
        parts.append(
            f'<rect x="{left + 3}" y="{top:.1f}" width="{_SLOT - 6}" height="{below - top:.1f}" fill="{_BAND}"/>'
        )
    step = (_SLOT - 24) / max(len(course) - 1, 1)
    points = [
        (left + 12 + visit * step, y_of(value), value, visit) for visit, value in enumerate(course) if value is not None
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_LINE}" stroke-width="1.3"/>')
    for x, y, value, visit in points:
        known = visit > 0 and visit not in doubted
        beyond = known and first is not None and detectable is not None and abs(value - first) > detectable
        words = f"<title>visit {visit + 1}: {value:.6g}</title>"
        if beyond:
            parts.append(f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z" fill="{BEYOND}">{words}</path>')
        else:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{_DOT}">{words}</circle>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose an interval, evenly spaced."""
    span = max(high - low, 1e-6 * max(abs(low), abs(high), 1.0))
    rough = span / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(step * number, 12) for number in range(first, last + 1)]
