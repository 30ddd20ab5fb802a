"""The standard's codes for discs: what a level is called in SNOMED CT, for DICOM segmentations and 3D Slicer.

The codes are those of DICOM PS3.16, context group CID 7604 "Intervertebral Disc", and of CID 7150 "Segmentation
Property Category", as pydicom's dictionary (`pydicom.sr.codedict.codes`) holds them; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEME = "SCT"
"""Coding scheme designator of SNOMED CT in DICOM."""


@dataclass(frozen=True)
class Code:
    """One coded concept, as DICOM writes it: the value, its scheme's designator and its meaning in plain words."""

    value: str
    scheme: str
    meaning: str


ANATOMICAL_STRUCTURE = Code("91723000", SCHEME, "Anatomical Structure")
"""Segmented property category of every disc (CID 7150)."""

DISC_CODES: tuple[Code, ...] = tuple(
    Code(value, SCHEME, f"{name} disc")
    for name, value in (
        ("L5/S1", "715056000"), ("L4/L5", "84020006"), ("L3/L4", "62551000"), ("L2/L3", "67459009"),
        ("L1/L2", "80064006"), ("T12/L1", "76206002"), ("T11/T12", "1537001"), ("T10/T11", "34959001"),
        ("T9/T10", "113209001"), ("T8/T9", "9188009"), ("T7/T8", "28693002"), ("T6/T7", "74401007"),
        ("T5/T6", "72692000"), ("T4/T5", "82965004"), ("T3/T4", "2620004"), ("T2/T3", "6004007"),
        ("T1/T2", "40908007"), ("C7/T1", "37414007"), ("C6/C7", "75095006"), ("C5/C6", "73959003"),
        ("C4/C5", "49400002"), ("C3/C4", "58820006"), ("C2/C3", "1078209008"),
    )
)  # fmt: skip
"""Segmented property types, from level 1 upward (CID 7604). Five lumbar and twelve thoracic vertebrae are assumed."""


def disc_code(level: int) -> Code:
    """The concept for the disc of a level: 1 gives (715056000, SCT, "L5/S1 disc"), 7 (1537001, SCT, "T11/T12 disc").

    Args:
        level: 1 (L5/S1) to 23 (C2/C3).

    Raises:
        ValueError: no disc has that level.
    """
    if not 1 <= level <= len(DISC_CODES):
        raise ValueError(f"a disc's level is 1 (L5/S1) to {len(DISC_CODES)} (C2/C3), not {level}")
    return DISC_CODES[level - 1]
