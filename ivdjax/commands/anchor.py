"""Levels that a user pins: `--anchor L4/5=x,y,z`, or a table of them, each a point in the disc of that level."""

from __future__ import annotations

import csv
import difflib
import math
import re
from pathlib import Path

from ivdjax.commands.commands import describe_os_error
from ivdjax.discs.evidence import Anchor
from ivdjax.volume import LEVEL_NAMES, UserError

_FORM = "an anchor is LEVEL=x,y,z in RAS+ mm, such as L4/5=-3.5,12,-40, or as a viewer shows the point, such as " \
        "L4/5=R 3.5 A 12 I 40"  # fmt: skip

_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Axis and sign, in RAS+, of each letter of an anatomical direction."""

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_LETTERED = re.compile(rf"\s*([RLAPSIHF])\s*({_NUMBER})\s*(?:mm)?\s*[,;]?", re.IGNORECASE)

_COLUMNS = ("case", "level", "x", "y", "z")


def parse_anchor(text: str) -> Anchor:
    """The anchor that a text such as `L4/5=-3.5,12,-40` names.

    A level is one of `LEVEL_NAMES`, also written L4-5, L4/L5 or l4/5, or its number (1 = L5/S1). A point is three
    numbers in RAS+ mm, or three with the letter of their direction before them (`L 7.6 P 122.8 I 222.2`).

    Raises:
        UserError: not of the form LEVEL=POINT, an unknown level, or a point that is not three finite numbers.
    """
    name, separator, point = text.partition("=")
    if not separator:
        raise UserError(f"{_FORM}; there is no '=' in {text!r}")
    level = parse_level(name)
    try:
        return Anchor(level, parse_point(point))
    except ValueError as error:
        raise UserError(f"{_FORM}; {error}") from None


def parse_level(name: str) -> int:
    """The number of a level that is given by its name, in any usual spelling, or by that number.

    Raises:
        UserError: there is no such level.
    """
    name = name.strip()
    by_name = {_spelled(known): level for level, known in enumerate(LEVEL_NAMES, start=1)}
    level = int(name) if re.fullmatch("[0-9]{1,3}", name) else by_name.get(_spelled(name), 0)
    if 1 <= level <= len(LEVEL_NAMES):
        return level
    near = difflib.get_close_matches(name.upper(), LEVEL_NAMES, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(LEVEL_NAMES)}, or their numbers from 1"
    raise UserError(f"anchor: there is no level {name!r}; {advice}")


def parse_point(text: str) -> tuple[float, float, float]:
    """A point in RAS+ mm from `x,y,z` or from `L 7.6 P 122.8 I 222.2` (H and F stand for S and I).

    Raises:
        ValueError: it is neither, or not finite.
    """
    if re.match(r"\s*[A-Za-z]\s*[-+.0-9]", text):
        return _lettered(text)
    try:
        x, y, z = (float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not three numbers") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise ValueError(f"{text!r} is not a place")
    return x, y, z


def read_anchors(path: Path) -> dict[str, Anchor]:
    """The anchors of a CSV table with the columns case, level, x, y and z, by case; one a case, which the rest follow.

    A cell of x, y and z is a number in RAS+ mm, or has the letter of its direction before it (`L 7.6`).

    Raises:
        UserError: the file cannot be read, lacks a column, or has a row that is no anchor, or two of one case.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--anchors {path} cannot be read: {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--anchors {path} is not UTF-8: {error}; save it as CSV with UTF-8") from error
    lines = text.splitlines()
    # A spreadsheet of many countries writes semicolons, and then commas in numbers.
    mark = ";" if lines and ";" in lines[0] else "\t" if lines and "\t" in lines[0] else ","
    table = csv.DictReader(lines, delimiter=mark)
    fields = {str(name).strip().casefold(): name for name in table.fieldnames or ()}
    lacking = [name for name in _COLUMNS if name not in fields]
    if lacking:
        raise UserError(f"--anchors {path} lacks the column {', '.join(lacking)}; it needs {', '.join(_COLUMNS)}")
    anchors: dict[str, Anchor] = {}
    for number, row in enumerate(table, start=2):
        case, level, *point = (str(row.get(fields[name]) or "").strip() for name in _COLUMNS)
        if not any((case, level, *point)):
            continue
        where = f"--anchors {path}, line {number}"
        if not case:
            raise UserError(f"{where}: the case is missing")
        if case in anchors:
            raise UserError(f"{where}: case {case} has an anchor already; pin one disc, and the others follow")
        if mark == ";":
            point = [cell.replace(",", ".") for cell in point]
        try:
            lettered = re.match(r"[A-Za-z]\s*[-+.0-9]", point[0])
            anchors[case] = Anchor(parse_level(level), parse_point((" " if lettered else ",").join(point)))
        except (ValueError, UserError) as error:
            raise UserError(f"{where}, case {case}: {error}") from None
    if not anchors:
        raise UserError(f"--anchors {path} holds no anchor; give a row for each case to correct")
    return anchors


def _lettered(text: str) -> tuple[float, float, float]:
    point: dict[int, float] = {}
    place = 0
    while place < len(text) and text[place:].strip():
        found = _LETTERED.match(text, place)
        if found is None:
            raise ValueError(f"{text[place:].strip()!r} is no direction and distance, such as L 7.6")
        axis, sign = _AXES[{"H": "S", "F": "I"}.get(found[1].upper(), found[1].upper())]
        if axis in point:
            raise ValueError(f"{text!r} names one direction twice")
        point[axis] = sign * float(found[2])
        place = found.end()
    if len(point) != 3 or not all(math.isfinite(value) for value in point.values()):
        raise ValueError(f"{text!r} must name three directions: R or L, A or P, S or I")
    return point[0] + 0.0, point[1] + 0.0, point[2] + 0.0


def _spelled(name: str) -> str:
    """One spelling for L4/5, L4-5, L4/L5 and l4-l5: both vertebrae with their letters."""
    parts = re.fullmatch(r"([A-Z])([0-9]+)[/-]([A-Z]?)([0-9]+)", name.upper())
    if parts is None:
        return name.upper()
    upper, first, lower, second = parts.groups()
    return f"{upper}{first}/{lower or upper}{second}"
