"""Which contrast an MR image has, told from how it was acquired: T1, T2, proton density, STIR, FLAIR.

Names in headers are no help by themselves: a vendor calls its STIR "t2_tirm". So the times of the sequence decide, and
words of the description only where the header does not give them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ivdjax.imaging.files.dicom_headers import Slice

STIR_TI_MS = (50.0, 350.0)
"""Inversion times that null fat, from low fields to 3 T."""
FLAIR_TI_MS = 1500.0
"""From here on inversion nulls fluid."""
SHORT_TE_MS, LONG_TE_MS = 35.0, 60.0
SHORT_TR_MS, LONG_TR_MS = 1300.0, 1500.0
"""Echo and repetition times of spin echoes: both short is T1, both long T2; short echoes and long repetition PD."""

_SUPPRESSING = {"FS", "FAT_SAT", "FATSAT", "SPIR", "SPAIR", "CHEMSAT", "WE"}
_WORDS = {
    "stir": re.compile(r"\b(stir|tirm|tir)\b"),
    "flair": re.compile(r"\b(flair|dark ?fluid)\b"),
    "t1": re.compile(r"\bt1w?\b"),
    "t2": re.compile(r"\bt2w?\b"),
    "pd": re.compile(r"\b(pd|pdw|dp)\b"),
}
_SUPPRESSED_WORDS = re.compile(r"\b(fs|fatsat|fat ?(sat|sup)\w*|spir|spair)\b")
_CHANNEL = re.compile(r"(t1|t2|pd|stir|tirm|flair)w?(?:[_-]?(fs|fatsat))?", re.IGNORECASE)
_UNTOLD = "untold"
"""An inversion at a time that is not given makes any contrast."""
_NAMES = {"t1": "T1", "t2": "T2", "pd": "proton density", "stir": "STIR", "flair": "FLAIR"}


@dataclass(frozen=True)
class Weighting:
    """One contrast: "t1", "t2", "pd", "stir" or "flair", and whether fat is suppressed by a pulse of its own."""

    kind: str
    fat_suppressed: bool = False

    @property
    def code(self) -> str:
        """In one word: the kind, with "_fs" where fat is suppressed."""
        return self.kind + ("_fs" if self.fat_suppressed else "")

    def __str__(self) -> str:
        return _NAMES[self.kind] + (" with fat suppression" if self.fat_suppressed else "")


def weighting_of(image: Slice) -> Weighting | None:
    """The contrast of an image; None where neither times nor words tell one."""
    words = " ".join(re.findall(r"[a-z0-9]+", image.description.lower()))
    kind = _by_times(image, words)
    if kind == _UNTOLD:
        return None
    if kind is None:
        told = [name for name, pattern in _WORDS.items() if pattern.search(words)]
        # A STIR or FLAIR may be called by the weighting that it has besides.
        kind = told[0] if len(told) == 1 or (told and told[0] in ("stir", "flair")) else None
    if kind is None:
        return None
    suppressed = bool({*image.scan_options, *image.acquisition.suppressed} & (_SUPPRESSING | {"FAT"}))
    return Weighting(kind, kind != "stir" and (suppressed or bool(_SUPPRESSED_WORDS.search(words))))


def weighting_of_channel(channel: str) -> Weighting | None:
    """The contrast that a channel's name stands for: "t2", "T2w", "stir", "t1_fs"; None for other names."""
    match = _CHANNEL.fullmatch(channel)
    if match is None:
        return None
    kind = match[1].lower()
    return Weighting("stir" if kind == "tirm" else kind, match[2] is not None)


def _by_times(image: Slice, words: str) -> str | None:
    acquisition = image.acquisition
    echo, repetition, inversion = (
        acquisition.echo_time_ms, acquisition.repetition_time_ms, acquisition.inversion_time_ms)  # fmt: skip
    if inversion:
        if image.gradient_echo:
            return "t1"  # prepared by inversion, as MPRAGE is
        if STIR_TI_MS[0] <= inversion <= STIR_TI_MS[1]:
            return "stir"
        if inversion >= FLAIR_TI_MS:
            return "flair"
        return "t1" if echo is not None and echo < LONG_TE_MS else None
    if "IR" in acquisition.scanning or re.search(r"\b\*?tir", acquisition.name.lower()):
        return next((kind for kind in ("stir", "flair") if _WORDS[kind].search(words)), _UNTOLD)
    if image.gradient_echo or not echo:
        return None
    if _WORDS["stir"].search(words) or _WORDS["flair"].search(words):
        return None  # its words decide: the inversion time was stripped
    if echo >= LONG_TE_MS and (repetition is None or repetition >= SHORT_TR_MS):
        return "t2"
    if echo <= SHORT_TE_MS and repetition:
        if repetition <= SHORT_TR_MS:
            return "t1"
        return "pd" if repetition >= LONG_TR_MS else None
    return None
