"""What people have decided about a case: pinned levels, deleted discs, acceptance and notes, in one file beside it.

`<case>_corrections.json` lies in the case's result folder. It is a history: an entry is added and never changed, so
that it stays known who decided what and when. The program's own settings and images are no part of it, and running a
case again keeps it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ivdjax.commands.commands import describe_os_error
from ivdjax.config import InferenceConfig
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.discs.numbering import Numbering, number_discs
from ivdjax.imaging.folders import write_whole
from ivdjax.volume import LEVEL_NAMES, UserError, level_name, to_world_mm

SCHEMA_VERSION = 1
KIND = "ivdjax corrections"

Action = Literal["anchor", "delete", "transitional", "accept", "note", "outline", "reset"]
"""What an entry does: `anchor` gives the disc at a point its level (the others follow); `delete` takes away the disc at
a point; `transitional` says that the spine has a transitional vertebra; `accept` that a person has looked and agrees;
`note` is a remark; `outline` says that a person has changed the outlines in another program; `reset` takes back
everything before it."""

ACTIONS: tuple[str, ...] = get_args(Action)
_NEED_POINT = ("anchor", "delete")

_NEAR_MM = 15.0
"""How far from the nearest disc a point of a deletion may lie."""


@dataclass(frozen=True)
class Correction:
    """One decision.

    Attributes:
        action: what it does.
        level: of an anchor, 1 = L5/S1 upward; None for the others.
        point_mm: RAS+ mm, in the disc that an anchor or a deletion is about; None for the others.
        by: who decided, as they call themselves; empty: not told.
        at: when, in UTC, as ISO 8601 has it; empty: not told.
        text: of a note; for the others a remark of the person.
        details: anything else that JSON can hold, such as the numbering before and after.

    Raises:
        ValueError: an unknown action, a point or a level that is missing or cannot be.
    """

    action: Action
    level: int | None = None
    point_mm: tuple[float, float, float] | None = None
    by: str = ""
    at: str = ""
    text: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}, not {self.action!r:.100}")
        if self.action in _NEED_POINT and self.point_mm is None:
            raise ValueError(f"{self.action} needs a point_mm in the disc")
        if self.point_mm is not None and (
            len(self.point_mm) != 3 or not all(type(x) in (int, float) and math.isfinite(x) for x in self.point_mm)
        ):
            raise ValueError(f"point_mm must be three finite numbers in RAS+ mm, not {self.point_mm!r:.100}")
        if self.action == "anchor" and not (type(self.level) is int and 1 <= self.level <= len(LEVEL_NAMES)):
            raise ValueError(f"an anchor's level must be 1 to {len(LEVEL_NAMES)}, not {self.level!r:.100}")

    def words(self) -> str:
        """The decision in one short sentence."""
        who = f" by {self.by}" if self.by else ""
        what = {
            "anchor": f"{level_name(self.level or 1)} was pinned",
            "delete": "A disc was deleted",
            "transitional": "A transitional vertebra was noted",
            "accept": "The result was accepted",
            "note": "A note was added",
            "outline": "Outlines were edited",
            "reset": "Earlier corrections were taken back",
        }[self.action]
        return f"{what}{who}{f': {self.text}' if self.text else ''}"


@dataclass(frozen=True)
class Corrections:
    """All decisions about a case, the oldest first."""

    case: str
    history: tuple[Correction, ...] = ()

    @property
    def in_force(self) -> tuple[Correction, ...]:
        """The decisions that were not taken back: all after the last `reset`."""
        resets = [place for place, entry in enumerate(self.history) if entry.action == "reset"]
        return self.history[resets[-1] + 1 :] if resets else self.history

    @property
    def anchor(self) -> Anchor | None:
        """The pinned level; of several the last, since one settles the whole numbering."""
        pinned = [entry for entry in self.in_force if entry.action == "anchor"]
        if not pinned or pinned[-1].level is None or pinned[-1].point_mm is None:
            return None
        return Anchor(pinned[-1].level, pinned[-1].point_mm)

    @property
    def deleted_mm(self) -> tuple[tuple[float, float, float], ...]:
        """A point in each deleted disc, RAS+ mm."""
        return tuple(entry.point_mm for entry in self.in_force if entry.action == "delete" and entry.point_mm)

    @property
    def accepted_by(self) -> tuple[str, ...]:
        """Who has accepted the case since the last decision that changed its result."""
        names: list[str] = []
        for entry in self.in_force:
            if entry.action in ("anchor", "delete", "outline"):
                names.clear()
            elif entry.action == "accept":
                names.append(entry.by or "a person")
        return tuple(dict.fromkeys(names))

    def with_entry(self, entry: Correction) -> Corrections:
        """The same with one more decision, made now unless the entry says when."""
        stamped = entry if entry.at else replace(entry, at=datetime.now(UTC).isoformat(timespec="seconds"))
        return replace(self, history=(*self.history, stamped))

    def with_anchor(self, anchor: Anchor | None, by: str = "") -> Corrections:
        """The same with a pinned level, unless that is the one in force already or None."""
        if anchor is None or anchor == self.anchor:
            return self
        return self.with_entry(Correction("anchor", anchor.level, anchor.point_mm, by))

    def facts(self) -> dict[str, Any]:
        """What a result says of them beside its anchor (`provenance`): deleted discs, and all in words."""
        return {
            "deleted_mm": [list(point) for point in self.deleted_mm],
            "corrections": [entry.words() for entry in self.in_force],
        }


def corrections_text(corrections: Corrections) -> str:
    """The file's content; the same corrections give the same text."""
    entries = [_plain(entry) for entry in corrections.history]
    document = {"kind": KIND, "schema_version": SCHEMA_VERSION, "case": corrections.case, "corrections": entries}
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_corrections(path: Path, corrections: Corrections) -> None:
    """Writes the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, corrections_text(corrections))


def read_corrections(path: Path, case: str) -> Corrections:
    """The corrections of a case; none where there is no file.

    Raises:
        UserError: the file cannot be read, is damaged, is another case's, or a newer version wrote it. It is the work
            of a person, so it is never passed over.
    """
    path = Path(path)
    if not path.exists():
        return Corrections(case)
    advice = "mend it, or move it away to do without these corrections"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["kind"] != KIND:
            raise ValueError(f"kind is {document['kind']!r:.100}, not {KIND!r}")
        version = document["schema_version"]
        if type(version) is int and version > SCHEMA_VERSION:
            raise UserError(f"{path} has schema version {version}, but this ivdjax reads up to {SCHEMA_VERSION}; use a "
                            "newer ivdjax")  # fmt: skip
        if document["case"] != case:
            raise ValueError(f"it is about case {document['case']!r:.100}, not {case}")
        return Corrections(case, tuple(_parsed(entry) for entry in document["corrections"]))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {describe_os_error(error)}; {advice}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} holds no corrections ({type(error).__name__}: {str(error)[:200]}); {advice}"
        ) from error


def corrected_numbering(
    evidence: Evidence, settings: InferenceConfig, corrections: Corrections
) -> tuple[Evidence, Numbering]:
    """The numbering of a case with its corrections applied; no network runs.

    A deleted disc is taken out of the probability, so that the others are numbered as if it had never been found; then
    the anchor decides.

    Args:
        evidence: what the networks said; an anchor in it is replaced by that of the corrections, if they have one.
        settings: as for `number_discs`.
        corrections: of the case.

    Returns:
        The evidence that the numbering rests on, and the numbering.

    Raises:
        ValueError: a deleted point or the anchor lies in no disc and within 15 mm of none.
    """
    for point in corrections.deleted_mm:
        evidence = _without_disc(evidence, settings, point)
    evidence = replace(evidence, anchor=corrections.anchor or evidence.anchor)
    return evidence, number_discs(evidence, settings)


def _without_disc(evidence: Evidence, settings: InferenceConfig, point_mm: tuple[float, float, float]) -> Evidence:
    levels = number_discs(replace(evidence, anchor=None), settings).levels
    said = f"the deleted disc at ({', '.join(f'{x:g}' for x in point_mm)}) mm"
    voxels = np.argwhere(levels > 0)
    if not voxels.size:
        raise ValueError(f"{said} is not there: no disc was found")
    away = np.linalg.norm(to_world_mm(evidence.grid.affine, voxels.astype(float)) - np.array(point_mm), axis=1)
    nearest = int(np.argmin(away))
    if away[nearest] > _NEAR_MM:
        raise ValueError(f"{said} is not there: the nearest disc is {away[nearest]:.0f} mm away")
    probability = evidence.probability.copy()
    probability[levels == levels[tuple(voxels[nearest])]] = 0.0
    return replace(evidence, probability=probability)


def _plain(entry: Correction) -> dict[str, Any]:
    """An entry without what it lacks."""
    values = {
        "action": entry.action, "level": entry.level,
        "point_mm": None if entry.point_mm is None else list(entry.point_mm),
        "by": entry.by, "at": entry.at, "text": entry.text, "details": dict(entry.details),
    }  # fmt: skip
    return {name: value for name, value in values.items() if value not in (None, "", {})}


def _parsed(entry: Mapping[str, Any]) -> Correction:
    unknown = entry.keys() - Correction.__dataclass_fields__.keys()
    if unknown:
        raise ValueError(f"an entry has the unknown key {', '.join(sorted(unknown))}")
    point = entry.get("point_mm")
    texts = {name: entry.get(name, "") for name in ("by", "at", "text")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("by, at and text must be texts")
    return Correction(
        entry["action"], entry.get("level"), None if point is None else tuple(point), **texts,
        details=dict(entry.get("details", {})),
    )  # fmt: skip
