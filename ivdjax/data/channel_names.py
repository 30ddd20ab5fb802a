"""What people call the channels of a scan: `W`, `water` or `wat`; `T2`, `T2w` or `t2`."""

from __future__ import annotations

from collections.abc import Sequence

from ivdjax.imaging.files.dixon import channel_part

_SAME = (
    ("t1", "t1w", "t1_tse", "t1tse"),
    ("t2", "t2w", "t2_tse", "t2tse", "t2_space", "t2space"),
    ("pd", "pdw"),
    ("stir", "tirm"),
    ("opp", "oop", "outofphase", "out-of-phase", "out_of_phase", "opposedphase", "op-phase", "opp-phase"),
    ("inn", "in-phase", "ip-phase"),
    ("wat", "water_only", "dixon_w", "dixonw", "dixon-w"),
    ("fat", "fat_only", "dixon_f", "dixonf", "dixon-f"),
)
_MEANING = {name: group[0] for group in _SAME for name in group}

LONGEST_WORDS = 3
"""Most parts of a name, between underscores, that stand for one channel ("out_of_phase")."""


def same_channel(word: str, channel: str) -> bool:
    """Whether a word names a channel: it is its name, in upper or lower case, or a usual name for the same."""
    return _meaning(word) == _meaning(channel)


def named_channel(word: str, channels: Sequence[str]) -> str | None:
    """The one of the channels that a word names, by its own name before all; None where it names none, or several."""
    exact = [channel for channel in channels if channel.casefold() == word.casefold()]
    if exact:
        return exact[0]
    alike = [channel for channel in channels if same_channel(word, channel)]
    return alike[0] if len(alike) == 1 else None


def split_channel(stem: str, channels: Sequence[str]) -> tuple[str, str] | None:
    """A file's name without its ending as (what stands before the channel, the word for the channel); None without one.

    `P01_W` gives ("P01", "W"), `W` alone ("", "W"), for a model that knows water by any name.
    """
    parts = stem.split("_")
    for count in range(min(LONGEST_WORDS, len(parts)), 0, -1):
        word = "_".join(parts[-count:])
        if word and named_channel(word, channels) is not None:
            return "_".join(parts[:-count]), word
    return None


def _meaning(word: str) -> str:
    folded = word.casefold()
    return channel_part(folded) or _MEANING.get(folded, folded)
