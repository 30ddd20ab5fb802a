"""What changed in a subject's discs between two visits, measure by measure, beside what measuring anew changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivdjax.volume import level_name

YES, NO, UNKNOWN = "yes", "no", "unknown"
"""Whether a change lies beyond the measurement's own repeatability."""

SURE = 0.9
"""A level of lower confidence may be another disc's."""

DETECTABLE = "smallest_detectable_change"
"""Key of that figure in a model's repeatability facts, within each measure."""

_LARGEST = 1e12
"""Beyond every measure; differences and shares of what lies below stay finite."""

_NO_MEASURES = {"level", "level_name", "level_confidence", "outline_confidence", "cut_at"}
_SIGNALS = ("_mean", "_median", "_sd", "_signal")
_ERROR = "_se"
_IN_VIEW = "_in_view"
_OF_SECTION = (
    "_height_mm", "disc_height_index", "ap_width_mm", "wedge_angle_deg", "tilt_deg", "disc_body_height_index",
    "nucleus_over_csf", "nucleus_over_marrow", "nucleus_over_annulus", "overhang_mm", "slip_mm", "slip_percent",
    "canal_ap_mm", "height_ratio", "depth_mm", "segmental_angle_deg",
)  # fmt: skip
"""What is measured in the mid-sagittal section, which a slab round the midline shows whole."""
_OF_WHOLE = "volume_mm3"
_UNITS = {"_mm3": "mm3", "_mm2": "mm2", "_mm": "mm", "_deg": "deg", "_percent": "%"}


@dataclass(frozen=True)
class Visit:
    """One visit as its disc table tells it.

    Attributes:
        name: of the visit, different from those of the subject's other visits.
        verdict: "ok" or "review".
        discs: the rows of the disc table (column names to values; None where nothing was measured) by level.
        pinned: whether a person has pinned a level, and with it the numbering.
    """

    name: str
    verdict: str
    discs: Mapping[int, Mapping[str, Any]]
    pinned: bool = False


@dataclass(frozen=True)
class Change:
    """One measure of one disc at two visits; the fields are the columns of the table of changes.

    Attributes:
        level, level_name: of the disc.
        measure: the column of the disc table.
        unit: "mm", "mm3", "deg", or empty for a ratio.
        visit_from, visit_to: names of the two visits.
        before, after: the values; None where one is missing.
        change: after less before; None if one of them is missing.
        change_percent: of `before`; None for an angle, and where `before` is 0.
        smallest_detectable_change: what two measurements of one unchanged disc exceed in 5 % of pairs; None: not known.
        beyond_noise: whether the change is larger than that ("yes", "no"); "unknown" where that is not known, where
            the two values may be of different discs, or where the field of view cuts the disc.
        remark: what speaks against comparing the two values, in plain words; empty: nothing known.
    """

    level: int
    level_name: str
    measure: str
    unit: str
    visit_from: str
    visit_to: str
    before: float | None
    after: float | None
    change: float | None
    change_percent: float | None
    smallest_detectable_change: float | None
    beyond_noise: str
    remark: str


def is_measure(column: str) -> bool:
    """Whether a column of the disc table holds a measure of the disc that means the same at every visit.

    Levels, confidences and texts are none; neither are centroids, which follow the patient's position, nor signal
    levels (mean, median, sd of a channel, signal of a tissue), which follow the scanner's scale, nor standard errors,
    nor estimated grades, whose error from visit to visit nobody has measured.
    """
    return (column not in _NO_MEASURES and not column.startswith(("centroid_", "pfirrmann_"))
            and not column.endswith((*_SIGNALS, _ERROR)))  # fmt: skip


def numeric_measures(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the measures (`is_measure`) that are a number in at least one row of a disc table, in their order."""
    names = dict.fromkeys(name for row in rows for name in row if is_measure(name))
    return tuple(name for name in names if any(_number(row.get(name)) is not None for row in rows))


def unit_of(measure: str) -> str:
    """The unit that a measure's name ends in: "mm3", "mm" or "deg"; empty for a ratio."""
    return next((unit for ending, unit in _UNITS.items() if measure.endswith(ending)), "")


def detectable_changes(repeatability: Mapping[str, Any] | None) -> dict[str, float]:
    """The smallest detectable change of each measure in a model's repeatability facts; empty for None."""
    figures = {
        name: _number(facts.get(DETECTABLE))
        for name, facts in (repeatability or {}).items()
        if isinstance(facts, Mapping)
    }
    return {name: value for name, value in figures.items() if value is not None and value >= 0}


def changes_between(first: Visit, later: Visit, detectable: Mapping[str, float]) -> list[Change]:
    """Every measure of every disc, from the lowest level up, that has a value at one of two visits at least.

    Discs are matched by their level. A disc that one visit lacks is listed with the values of the other and a remark.
    A change is "unknown", with a remark, where the numbers of the discs may have shifted between the visits: a verdict
    `review`, a level confidence below `SURE`, a level that was pinned in one visit alone, or another lowest disc. The
    discs' sizes cannot show such a shift. It is also "unknown" where the field of view cuts the disc: what is measured
    of it then depends on where the field lay. Two slabs, which cut the disc at its sides alone, are an exception: the
    measures of the mid-sagittal section are judged, if the noise was measured on slabs. Where both visits have the
    whole volume, the volume in view is the same figure and left out.

    Args:
        first: the earlier visit.
        later: the other.
        detectable: smallest detectable change by measure, as `detectable_changes` gives it.
    """
    rows = [*first.discs.values(), *later.discs.values()]
    measures = numeric_measures(rows)
    changes = []
    for level in sorted(first.discs.keys() | later.discs.keys()):
        discs = first.discs.get(level), later.discs.get(level)
        doubts = [*_shifted(first, later), *_doubts(level, first, later)]
        cut = [] if None in discs else _cut_remarks(level, first, later)
        slabs = _OF_WHOLE not in detectable and all(disc is not None and _is_slab(disc) for disc in discs)
        for measure in measures:
            before, after = (None if disc is None else _number(disc.get(measure)) for disc in discs)
            if (before is None and after is None) or _told_whole(measure, *discs):
                continue
            partial = [] if slabs and measure.endswith(_OF_SECTION) else cut
            absent = [_absence(visit, level) for visit, value in ((first, before), (later, after)) if value is None]
            remark = "; ".join([*absent, *([] if absent else partial), *doubts])
            changes.append(
                _change(
                    level,
                    measure,
                    (first.name, later.name),
                    (before, after),
                    detectable,
                    remark,
                    bool(partial or doubts),
                )
            )
    return changes


def _change(
    level: int,
    measure: str,
    names: tuple[str, str],
    values: tuple[float | None, float | None],
    detectable: Mapping[str, float],
    remark: str,
    doubtful: bool,
) -> Change:
    before, after = values
    change = percent = None
    unit, limit, beyond = unit_of(measure), detectable.get(measure), UNKNOWN
    if before is not None and after is not None:
        change = after - before
        if before and unit not in ("deg", "%"):  # an angle has no natural zero to take shares of
            percent = 100 * change / abs(before)
            percent = percent if math.isfinite(percent) else None
        if limit is not None and not doubtful:
            beyond = YES if abs(change) > limit else NO
    return Change(
        level, level_name(level), measure, unit, *names, before, after, change, percent, limit, beyond, remark
    )  # fmt: skip


def _told_whole(measure: str, *discs: Mapping[str, Any] | None) -> bool:
    """Whether a measure of the part in view has its counterpart of the whole disc at every visit."""
    whole = measure.replace(_IN_VIEW, "")
    return whole != measure and all(disc is not None and _number(disc.get(whole)) is not None for disc in discs)


def _doubts(level: int, first: Visit, later: Visit) -> list[str]:
    """What may have shifted the number of a disc between the visits."""
    found = []
    for visit in (first, later):
        confidence = _number(visit.discs.get(level, {}).get("level_confidence"))
        words = [f"verdict {visit.verdict}"] if visit.verdict != "ok" else []
        if confidence is not None and confidence < SURE:
            words.append(f"confidence in the level {confidence:.2f}")
        if words:
            found.append(f"{visit.name}: {', '.join(words)}")
    return [f"the discs may be numbered differently ({' and '.join(found)})"] if found else []


def _shifted(first: Visit, later: Visit) -> list[str]:
    """What speaks for numbers that differ between two visits as a whole."""
    found = []
    if first.pinned != later.pinned:
        pinned, other = (first, later) if first.pinned else (later, first)
        found.append(f"a level was pinned in {pinned.name} alone; pin the same disc in {other.name}")
    if first.discs and later.discs and min(first.discs) != min(later.discs):
        lowest = " and ".join(f"{level_name(min(visit.discs))} in {visit.name}" for visit in (first, later))
        found.append(f"the lowest disc is {lowest}")
    return found


def _absence(visit: Visit, level: int) -> str:
    return f"{visit.name}: not measured" if level in visit.discs else f"{visit.name}: disc not found"


def _cut_remarks(level: int, first: Visit, later: Visit) -> list[str]:
    names = [visit.name for visit in (first, later) if visit.discs[level].get("cut_at")]
    return [f"{name}: the field of view cuts the disc" for name in names]


def _is_slab(disc: Mapping[str, Any]) -> bool:
    """Whether the field of view cuts a disc at its sides and nowhere else."""
    return bool(sides := set(str(disc.get("cut_at") or "").split())) and sides <= {"left", "right"}


def _number(value: Any) -> float | None:
    """The value of a table as a number; None for a text, an empty cell or what no measure can be."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        return None
    return float(value)
