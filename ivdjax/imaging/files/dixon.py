"""What a Dixon image shows (water, fat, in phase, opposed phase), told from the headers of several vendors.

ImageType tells it for Siemens (WATER, FAT, IN_PHASE, OPP_PHASE; older ones have DIXW and DIXF in ScanOptions), Philips
(W, F, IP, OP; later WATER, FAT, IN_PHASE, OUT_OF_PHASE), GE and the Enhanced format (DIXON with WATER, FAT, IN_PHASE,
OUT_PHASE); where it does not, the words of SeriesDescription do ("..._W", "WATER: ...", "... in phase"), and for plain
gradient echoes the echo time.
"""

from __future__ import annotations

import re

from ivdjax.imaging.files.dicom_headers import Slice

MAP = "map"
"""What is computed of a Dixon scan and is no channel of it: fat fraction, relaxation, field."""

_TOKENS = {
    "wat": ("W", "WATER"),
    "fat": ("F", "FAT"),
    "inn": ("IP", "IN", "IN_PHASE", "INPHASE", "IN PHASE"),
    "opp": ("OP", "OPP", "OUT", "OPP_PHASE", "OUT_PHASE", "OUT_OF_PHASE", "OPPOSED_PHASE", "OUTPHASE", "OPPPHASE",
            "OUT PHASE", "OPP PHASE"),
    MAP: ("FF", "FAT_FRACTION", "FATFRACTION", "FAT_FRAC", "WATER_FRACTION", "WF", "T2_STAR", "T2STAR", "R2_STAR",
          "R2STAR", "B0", "B0_MAP", "B0 MAP"),
}  # fmt: skip
_PART_OF_TOKEN = {token: part for part, tokens in _TOKENS.items() for token in tokens}

_PART_OF_SCAN_OPTION = {"DIXW": "wat", "DIXF": "fat"}

_WEIGHTED = re.compile(r"\b(t1|t2|pd) w\b")
"""T2_W is a weighting, not the water of a T2."""
_SUPPRESSED = re.compile(r"\b(fat|water) ?(sat|sup|free|null|exc|sel|only sat)\w*\b")
_ENDING = re.compile(r"( (nd|norm|dis2d|dis3d|\d+))+$")
_WORDS = {
    MAP: re.compile(r"\b((fat|water) ?frac\w*|pdff|ff)\b"),
    "wat": re.compile(r"\b(water|wat)\b|\bdixon w\b|(^| )w$"),
    "fat": re.compile(r"\bfat\b|\bdixon f\b|(^| )f$"),
    "inn": re.compile(r"\bin ?phase\b|\bdixon (in|ip)\b|(^| )(in|inn|ip)$"),
    "opp": re.compile(r"\b(out|out of|opp|opposed) ?phase\b|\bopposed\b|\bdixon (opp|op|out)\b|(^| )(opp|op|oop|out)$"),
}

_CHANNEL_NAMES = {
    "wat": ("wat", "water", "w"),
    "fat": ("fat", "f"),
    "inn": ("inn", "in", "ip", "in_phase", "inphase"),
    "opp": ("opp", "op", "out", "opp_phase", "out_phase", "opposed_phase", "opposed", "outphase"),
}
_PART_OF_CHANNEL = {name: part for part, names in _CHANNEL_NAMES.items() for name in names}

FAT_SHIFT_PPM = 3.4
"""By how much fat resonates below water."""

_PROTON_MHZ_PER_T = 42.577
_TURNS_OFF = 0.12
_MOST_TURNS = 3


def parts_of(image: Slice) -> frozenset[str]:
    """What an image shows of "wat", "fat", "inn", "opp" and `MAP`; nothing where headers do not tell, two where they
    contradict each other."""
    tokens = {_PART_OF_TOKEN[token] for token in image.image_type[2:] if token in _PART_OF_TOKEN}
    if tokens:
        return frozenset({MAP} if MAP in tokens else tokens)
    options = {_PART_OF_SCAN_OPTION[option] for option in image.scan_options if option in _PART_OF_SCAN_OPTION}
    if options:
        return frozenset(options)
    text = " ".join(words_of(image.description))
    if _WORDS[MAP].search(text):
        return frozenset({MAP})
    text = _ENDING.sub("", _SUPPRESSED.sub(" ", _WEIGHTED.sub(" ", text))).strip()
    return frozenset(part for part, pattern in _WORDS.items() if pattern.search(text))


def words_of(description: str) -> list[str]:
    """The words of a description in lower case: runs of letters and digits."""
    return re.findall(r"[a-z0-9]+", description.lower())


def channel_part(channel: str) -> str | None:
    """The Dixon part that a channel's name stands for; None for other channels, such as t2."""
    return _PART_OF_CHANNEL.get(channel.casefold())


def names_channel(image: Slice, channel: str) -> bool:
    """Whether a description has a channel's name as a word, alone or with "w" for weighted (T2, T2W)."""
    return any(word in (channel.casefold(), f"{channel.casefold()}w") for word in words_of(image.description))


def phase_by_echo(image: Slice) -> str | None:
    """ "inn" or "opp" by the echo time of a gradient echo; None where it is no such image, or in between.

    Fat and water are in phase after whole turns of 1 / (3.4 ppm x 42.577 MHz/T x field): about 4.6 ms at 1.5 T and 2.3
    ms at 3 T; and opposed after halves of them.
    """
    if not image.gradient_echo or not image.echo_time_ms or not image.field_strength_t:
        return None
    turns = image.echo_time_ms * 1e-3 * FAT_SHIFT_PPM * _PROTON_MHZ_PER_T * image.field_strength_t
    halves = round(2 * turns)
    if not 1 <= halves <= 2 * _MOST_TURNS or abs(turns - halves / 2) > _TURNS_OFF:
        return None
    return "opp" if halves % 2 else "inn"
