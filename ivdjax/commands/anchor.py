"""What a user pins: `--anchor L4/5=x,y,z`, a point in RAS+ mm that lies in the disc of that level."""

from __future__ import annotations

import difflib
import math
import re

from ivdjax.discs.evidence import Anchor
from ivdjax.volume import LEVEL_NAMES, UserError

_FORM = "--anchor takes LEVEL=x,y,z in RAS+ mm, such as L4/5=-3.5,12,-40"


def parse_anchor(text: str) -> Anchor:
    """The anchor that a command line names.

    A level is one of `LEVEL_NAMES`, also written L4-5, L4/L5 or l4/5, or its number (1 = L5/S1).

    Raises:
        UserError: not of the form LEVEL=x,y,z, an unknown level, or other than three finite numbers.
    """
    name, separator, point = text.partition("=")
    if not separator:
        raise UserError(f"{_FORM}; there is no '=' in {text!r}")
    level = _level(name.strip())
    try:
        x, y, z = (float(number) for number in point.split(","))
    except ValueError:
        raise UserError(f"{_FORM}; {point!r} is not three numbers") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise UserError(f"{_FORM}; {point!r} is not a place")
    return Anchor(level, (x, y, z))


def _level(name: str) -> int:
    by_name = {_spelled(known): level for level, known in enumerate(LEVEL_NAMES, start=1)}
    level = int(name) if re.fullmatch("[0-9]{1,3}", name) else by_name.get(_spelled(name), 0)
    if 1 <= level <= len(LEVEL_NAMES):
        return level
    near = difflib.get_close_matches(name.upper(), LEVEL_NAMES, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(LEVEL_NAMES)}, or their numbers from 1"
    raise UserError(f"--anchor: there is no level {name!r}; {advice}")


def _spelled(name: str) -> str:
    """One spelling for L4/5, L4-5, L4/L5 and l4-l5: both vertebrae with their letters."""
    parts = re.fullmatch(r"([A-Z])([0-9]+)[/-]([A-Z]?)([0-9]+)", name.upper())
    if parts is None:
        return name.upper()
    upper, first, lower, second = parts.groups()
    return f"{upper}{first}/{lower or upper}{second}"
