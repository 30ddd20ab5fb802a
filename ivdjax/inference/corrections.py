"""What people have decided about a case: pinned levels, deleted discs, acceptance and notes, in one file beside it.

`<case>_corrections.json` lies in the case's result folder. It is a history: an entry is added and never changed, so
that it stays known who decided what and when. The program's own settings and images are no part of it, and running a
case again keeps it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ivdjax.commands.commands import describe_os_error
from ivdjax.config import InferenceConfig
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.discs.numbering import Numbering, number_discs
from ivdjax.discs.verdict import Judgement
from ivdjax.volume import LEVEL_NAMES, LabelMap, UserError, level_name, to_world_mm

SCHEMA_VERSION = 1
KIND = "ivdjax corrections"

Action = Literal["anchor", "delete", "transitional", "accept", "note", "outline", "reset"]
"""What an entry does: `anchor` gives the disc at a point its level (the others follow); `delete` takes away the disc at
a point; `transitional` says that the spine has a transitional vertebra; `accept` that a person has looked and agrees;
`note` is a remark; `outline` says that a person has changed the outlines in another program; `reset` takes back
everything before it."""

ACTIONS: tuple[str, ...] = get_args(Action)
_NEED_POINT = ("anchor", "delete")

LARGEST_LEVEL = len(LEVEL_NAMES)
"""The highest level that a disc can be given."""

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

    @property
    def blind(self) -> bool:
        """Whether it is a second reader's, kept for the agreement alone: no result follows it."""
        return bool(self.details.get("blind"))

    @property
    def map_number(self) -> int:
        """Of an `outline`: which of the drawn maps it is about; the first where the entry does not tell."""
        number = self.details.get("map", 1)
        return number if type(number) is int and number > 0 else 1

    def _shift_words(self) -> dict[str, str]:
        steps = self.details.get("shift")
        return {"anchor": f"All levels were moved by {steps:+d}"} if type(steps) is int else {}

    def words(self) -> str:
        """The decision in one short sentence."""
        who = f" by {self.by}" if self.by else ""
        what = {
            "anchor": f"{level_name(self.level or 1)} was pinned",
            **self._shift_words(),
            "delete": "A disc was deleted",
            "transitional": "A transitional vertebra was noted",
            "accept": "The result was accepted",
            "note": "A note was added",
            "outline": "Outlines were edited",
            "reset": "Earlier corrections were taken back",
        }[self.action]
        return f"{what}{who}{f': {self.text}' if self.text else ''}"


def map_numbers(entries: Iterable[Correction]) -> list[int]:
    """Numbers of the drawn maps that entries are about, in their order."""
    return [entry.map_number for entry in entries if entry.action == "outline"]


@dataclass(frozen=True)
class Corrections:
    """All decisions about a case, the oldest first.

    Attributes:
        case: its name.
        history: the decisions.
        drawn: numbered discs as people have drawn them, on the image's canonical grid, by the number that the
            `outline` entry about them has (`map_number`). Those that were taken back are kept as well.
    """

    case: str
    history: tuple[Correction, ...] = ()
    drawn: Mapping[int, LabelMap] = field(default_factory=dict)

    @property
    def in_force(self) -> tuple[Correction, ...]:
        """The decisions that a result follows: all after the last `reset`, but for those of blind readers."""
        followed = tuple(entry for entry in self.history if not entry.blind)
        resets = [place for place, entry in enumerate(followed) if entry.action == "reset"]
        return followed[resets[-1] + 1 :] if resets else followed

    def read_blind_by(self, reader: str) -> Corrections:
        """A blind reader's own decisions alone, as if they were to be followed; nothing of anybody else."""
        own = (entry for entry in self.history if entry.blind and entry.by == reader)
        plain = (replace(entry, details={k: v for k, v in entry.details.items() if k != "blind"}) for entry in own)
        return Corrections(self.case, tuple(plain))

    @property
    def outlines(self) -> LabelMap | None:
        """The map that the last `outline` entry in force is about; None: nobody has drawn one, or it was taken back."""
        numbers = map_numbers(self.in_force)
        return self.drawn[numbers[-1]] if numbers else None

    def with_outlines(self, labels: LabelMap, by: str, file: str) -> Corrections:
        """The same with a map that a person has drawn, under the next number.

        Args:
            labels: the map.
            by: who drew it.
            file: name of the file that it came in.
        """
        number = 1 + max(map_numbers(self.history), default=0)
        entry = Correction("outline", by=by, text=file, details={"map": number})
        return replace(self.with_entry(entry), drawn={**self.drawn, number: labels})

    @property
    def since_outline(self) -> tuple[Correction, ...]:
        """Of the decisions in force those that came after the outlines were edited; all where they were not."""
        edits = [place for place, entry in enumerate(self.in_force) if entry.action == "outline"]
        return self.in_force[edits[-1] + 1 :] if edits else self.in_force

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

    @property
    def changes_result(self) -> bool:
        """Whether a decision in force changes which discs there are or what they are called."""
        return any(entry.action in ("anchor", "delete", "outline") for entry in self.in_force)

    def facts(self) -> dict[str, Any]:
        """What a result says of them beside its anchor (`provenance`): deleted discs, all in words, and how many
        decisions there were, since two of the same words may be about different discs."""
        return {
            "deleted_mm": [list(point) for point in self.deleted_mm],
            "corrections": [entry.words() for entry in self.in_force],
            "decisions": sum(not entry.blind for entry in self.history),
        }


def corrections_text(corrections: Corrections) -> str:
    """The file's content; the same corrections give the same text."""
    entries = [_plain(entry) for entry in corrections.history]
    document = {"kind": KIND, "schema_version": SCHEMA_VERSION, "case": corrections.case, "corrections": entries}
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


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
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {describe_os_error(error)}; {advice}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} holds no corrections ({type(error).__name__}: {str(error)[:200]}); {advice}"
        ) from error


def corrected_numbering(
    evidence: Evidence, settings: InferenceConfig, corrections: Corrections, judgement: Judgement | None = None
) -> tuple[Evidence, Numbering]:
    """The numbering of a case with its corrections applied; no network runs.

    A deleted disc is taken out of the probability, so that the others are numbered as if it had never been found; then
    the anchor decides.

    Args:
        evidence: what the networks said; an anchor in it is replaced by that of the corrections, if they have one.
        settings: as for `number_discs`.
        corrections: of the case.
        judgement: as for `number_discs`.

    Returns:
        The evidence that the numbering rests on, and the numbering.

    Raises:
        ValueError: a deleted point or the anchor lies in no disc and within 15 mm of none.
    """
    for point in corrections.deleted_mm:
        evidence = _without_disc(evidence, settings, point)
    evidence = replace(evidence, anchor=corrections.anchor or evidence.anchor)
    return evidence, number_discs(evidence, settings, judgement)


def corrected_outlines(corrections: Corrections) -> LabelMap:
    """The edited outlines with what was decided after they were edited; every level moves with a pinned one.

    Raises:
        ValueError: nobody has edited them; a point lies in no disc and within 15 mm of none; or a level would fall
            below L5/S1 or rise above what a label map can hold.
    """
    labels = corrections.outlines
    if labels is None:
        raise ValueError("the outlines were not edited")
    for entry in corrections.since_outline:
        if entry.point_mm is None or entry.action not in ("anchor", "delete"):
            continue
        what = "the deleted disc" if entry.action == "delete" else f"the anchor of {level_name(entry.level or 1)}"
        level = _level_at(labels.array, labels.affine, entry.point_mm, what)
        if entry.action == "delete":
            labels = labels.with_array(np.where(labels.array == level, 0, labels.array).astype(np.uint8))
            continue
        steps = (entry.level or 1) - level
        if min(labels.levels) + steps < 1 or max(labels.levels) + steps > LARGEST_LEVEL:
            raise ValueError(f"{what}: levels must stay within 1 to {LARGEST_LEVEL}, and would be moved by {steps:+d}")
        moved = labels.array.astype(np.int16) + steps  # in uint8 no level could go down
        labels = labels.with_array(np.where(labels.array > 0, moved, 0).astype(np.uint8))
    return labels


def _without_disc(evidence: Evidence, settings: InferenceConfig, point_mm: tuple[float, float, float]) -> Evidence:
    levels = number_discs(replace(evidence, anchor=None), settings).levels
    level = _level_at(levels, evidence.grid.affine, point_mm, "the deleted disc")
    probability = evidence.probability.copy()
    probability[levels == level] = 0.0
    return replace(evidence, probability=probability)


def _level_at(
    levels: NDArray[np.uint8], affine: NDArray[np.float64], point_mm: tuple[float, float, float], what: str
) -> int:
    """The level of the disc that a point lies in, or of the nearest one within `_NEAR_MM`."""
    said = f"{what} at ({', '.join(f'{x:g}' for x in point_mm)}) mm"
    voxels = np.argwhere(levels > 0)
    if not voxels.size:
        raise ValueError(f"{said} is not there: no disc was found")
    away = np.linalg.norm(to_world_mm(affine, voxels.astype(float)) - np.array(point_mm), axis=1)
    nearest = int(np.argmin(away))
    if away[nearest] > _NEAR_MM:
        raise ValueError(f"{said} is not there: the nearest disc is {away[nearest]:.0f} mm away")
    return int(levels[tuple(voxels[nearest])])


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
