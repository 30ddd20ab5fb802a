"""Disc numbers of other tools, and label maps converted from them and to them.

Levels here count discs upward from the sacrum (1 = L5/S1). TotalSpineSeg and SPINEPS name a disc by its vertebrae
instead. Both ways agree where a spine has five lumbar and twelve thoracic vertebrae, and are off by one above the place
where it has not; so a map that says that it has a sixth lumbar or a thirteenth thoracic vertebra is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ivdjax.imaging.files.codes import DISC_CODES
from ivdjax.volume import CaseError, LabelMap, UserError, level_name

Remark = Callable[[str], None]

LEVELS = range(1, len(DISC_CODES) + 1)
"""The levels that every scheme has a number for: L5/S1 to C2/C3."""


@dataclass(frozen=True)
class Scheme:
    """How a tool or dataset numbers what it outlines.

    Attributes:
        name: as on the command line.
        title: in messages.
        values: of the discs, from level 1 (L5/S1) to level 23 (C2/C3).
        others: values of structures that are no discs of these levels; they are dropped.
        beyond: values that say that the spine has more than its usual vertebrae, and what each says.
        hint: what a map with unknown values may be instead.
    """

    name: str
    title: str
    values: tuple[int, ...]
    others: frozenset[int] = frozenset()
    beyond: dict[int, str] = field(default_factory=dict)
    hint: str = ""


def _set(*parts: Iterable[int]) -> frozenset[int]:
    return frozenset(value for part in parts for value in part)


IVDJAX = Scheme("ivdjax", "ivdjax", tuple(LEVELS))

# TotalSpineSeg, output of step 2: `README.md`, "List of classes", and `resources/labels_maps/tss_map.json` of
# github.com/neuropoly/totalspineseg; 46 (L6) and 96 (L5/L6) from its `inference.py`, 47 (L7) from the map. Its first
# versions numbered discs 202 to 224 (an older state of the README); such a map has unknown values here and is refused.
TOTALSPINESEG = Scheme(
    "totalspineseg",
    "TotalSpineSeg",
    (100, *range(95, 90, -1), *range(82, 71, -1), 71, *range(67, 62, -1)),
    others=_set((1, 2), range(11, 18), range(21, 33), range(41, 46), (50,)),
    beyond={46: "vertebra L6", 47: "vertebra L7", 96: "disc L5/L6"},
    hint="step 2's output has discs from 63 to 100; the first versions' numbers (202 to 224) are not read",
)

# SPINEPS, the instance mask (seg-vert): `README.md` of github.com/Hendrik-code/spineps ("100+X are their corresponding
# IVD", X the vertebra), whose `phase_post.py` gives a disc to the vertebra above it. Vertebrae are those of TPTBox
# (`core/vert_constants.py`, `Vertebra_Instance`): C1 = 1 to C7 = 7, T1 = 8 to T12 = 19, L1 = 20 to L5 = 24, L6 = 25,
# S1 = 26, T13 = 28, S2 to S6 = 29 to 33; ribs are 40 to 55, endplates 200 + X.
SPINEPS = Scheme(
    "spineps",
    "SPINEPS",
    tuple(range(124, 101, -1)),
    others=_set(range(1, 25), (26, 27), range(29, 34), range(40, 56), (101, 126, 127), range(129, 134),
                range(200, 225), (226, 227), range(229, 234)),
    beyond={25: "vertebra L6", 28: "vertebra T13", 125: "disc L6/S1", 128: "disc T13/L1",
            225: "endplate of L6", 228: "endplate of T13"},
    hint="give the instance mask (seg-vert), not the mask of subregions (seg-spine), whose 100 stands for any disc",
)  # fmt: skip

# SPIDER: "1-25: different vertebrae numbered from the bottom (i.e. L5 = 1), 100: spinal canal, 101-125 for partially
# visible vertebrae, 201-225: different intervertebral discs (also numbered from the bottom, i.e. L5/S1 = 201)", from
# grand-challenge.org/algorithms/spider-baseline-iis; the data: van der Graaf et al., Sci Data 11, 264, 2024. Vertebrae
# are counted, not named, so that nothing in a map tells a transitional one.
SPIDER = Scheme(
    "spider",
    "SPIDER",
    tuple(range(201, 224)),
    others=_set(range(1, 25), (100,), range(101, 125)),
    beyond={25: "a 25th vertebra", 125: "a 25th vertebra", 224: "a 24th disc", 225: "a 25th disc"},
    hint="its discs are 201 and above, counted from the lowest",
)

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (IVDJAX, TOTALSPINESEG, SPINEPS, SPIDER)}
"""Every scheme by its name."""


def find_scheme(name: str) -> Scheme:
    """The scheme of a name.

    Raises:
        UserError: there is none.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    near = difflib.get_close_matches(name.lower(), SCHEMES, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(SCHEMES)}"
    raise UserError(f"there is no label scheme {name!r}; {advice}")


def to_scheme(labels: LabelMap, scheme: Scheme, case: str) -> LabelMap:
    """Levels as the numbers of a scheme, on the same grid; an empty map stays empty.

    Args:
        labels: levels, 1 = L5/S1 upward.
        scheme: of the result.
        case: for messages.

    Raises:
        CaseError: a level that no scheme has a number for.
    """
    beyond = [level for level in labels.levels if level not in LEVELS]
    if beyond:
        names = ", ".join(f"{level_name(level)} ({level})" for level in beyond)
        raise CaseError(
            f"case {case}: {scheme.title} has no number for {names}; its discs are levels 1 (L5/S1) to {len(LEVELS)} "
            "(C2/C3): is this a map of another scheme?"
        )
    return _mapped(labels, dict(zip(LEVELS, scheme.values, strict=True)))


def from_scheme(labels: LabelMap, scheme: Scheme, case: str, on_remark: Remark | None = None) -> LabelMap:
    """The numbers of a scheme as levels, 1 = L5/S1 upward, on the same grid; structures other than discs are dropped.

    Args:
        labels: values as the scheme's tool writes them.
        scheme: that they follow.
        case: for messages.
        on_remark: told how much was dropped, of a map without any disc, and of one that may be a binary mask.

    Raises:
        CaseError: values that the scheme does not have, or one that says that the spine has more than five lumbar or
            twelve thoracic vertebrae: its discs have no level then.
    """
    remark = on_remark or (lambda text: None)
    present = set(labels.levels)
    unknown = sorted(present - {*scheme.values, *scheme.others, *scheme.beyond})
    if unknown:
        hint = f"; {scheme.hint}" if scheme.hint else ""
        raise CaseError(f"case {case}: {scheme.title} has no value {', '.join(map(str, unknown))}{hint}")
    beyond = sorted(present & set(scheme.beyond))
    if beyond:
        words = ", ".join(f"{value} is {scheme.beyond[value]}" for value in beyond)
        raise CaseError(
            f"case {case}: {words} in {scheme.title}; levels are for five lumbar and twelve thoracic vertebrae, above "
            "another number they would be off by one: number these discs by hand"
        )
    dropped = sorted(present & scheme.others)
    if dropped:
        voxels = int(np.isin(labels.array, dropped).sum())
        things = "structure" if len(dropped) == 1 else "structures"
        remark(f"case {case}: dropped {len(dropped)} {things} of {scheme.title} other than discs of levels 1 to "
               f"{len(LEVELS)} (values {', '.join(map(str, dropped))}; {voxels} voxels)")  # fmt: skip
    found = _mapped(labels, dict(zip(scheme.values, LEVELS, strict=True)))
    if not found.levels:
        remark(f"case {case}: no disc in it")
    if scheme is IVDJAX and found.levels == (1,):
        remark(f"case {case}: its only value is 1, read as L5/S1; a binary mask has no levels to convert")
    return found


def _mapped(labels: LabelMap, values: dict[int, int]) -> LabelMap:
    """A label map with each value replaced; those that are not named become 0."""
    table = np.zeros(256, dtype=np.uint8)  # every scheme stays below 256
    for before, after in values.items():
        table[before] = after
    return labels.with_array(table[labels.array.astype(np.uint8, copy=False)])
