"""One colour per level, told apart on gray images and by readers with any kind of color vision.

The set is that of Okabe and Ito (2008), without black, in the order in which neighbouring discs differ most for the
reader who sees them least apart; levels from the eighth on repeat it in lighter tints.
"""

from __future__ import annotations

RGB = tuple[float, float, float]

_BASE: tuple[RGB, ...] = (
    (0.94, 0.89, 0.26),  # yellow
    (0.22, 0.50, 0.92),  # blue, lighter than theirs: it lies on dark tissue
    (0.90, 0.62, 0.00),  # orange
    (0.80, 0.47, 0.65),  # reddish purple
    (0.84, 0.37, 0.00),  # vermillion
    (0.34, 0.71, 0.91),  # sky blue
    (0.00, 0.62, 0.45),  # bluish green
)
_TINT = 0.5

REFERENCE: RGB = (0.95, 0.50, 0.0)
PREDICTION: RGB = (0.20, 0.55, 1.0)
BOTH: RGB = (1.0, 1.0, 0.75)
"""Reference orange, prediction blue, both pale yellow; the paper's red, green and yellow (Fig. 5) are one colour to one
man in twelve."""

VERDICT: dict[str, str] = {"ok": "#1b8a5a", "review": "#c26a00"}
"""Background of a verdict's badge; white text on it stays legible."""


def level_colour(level: int) -> RGB:
    """Red, green and blue, 0 to 1, of a level from 1 upward.

    Raises:
        ValueError: the level is below 1.
    """
    if level < 1:
        raise ValueError(f"a level is 1 (L5/S1) or more, not {level}")
    turn, place = divmod(level - 1, len(_BASE))
    red, green, blue = _BASE[place]
    tint = 1.0 - (1.0 - _TINT) ** min(turn, 2)
    return red + (1 - red) * tint, green + (1 - green) * tint, blue + (1 - blue) * tint


def hex_colour(rgb: RGB) -> str:
    """A color as #rrggbb."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
