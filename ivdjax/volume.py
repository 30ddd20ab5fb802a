"""The nouns that every floor shares: grids, volumes, label maps, cases and discs.

Arrays on the host are (C, D, H, W): channel, sagittal slice (index rising towards the left), superior to inferior,
anterior to posterior. An affine maps a homogeneous voxel index (d, h, w, 1) to RAS+ millimetres; the spacing is
derived from it and never stored beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

LEVEL_NAMES: tuple[str, ...] = (
    "L5/S1", "L4/5", "L3/4", "L2/3", "L1/2", "T12/L1", "T11/12",
    "T10/11", "T9/10", "T8/9", "T7/8", "T6/7", "T5/6", "T4/5", "T3/4",
)  # fmt: skip
"""Names of levels 1 to 15, counted upward from the sacrum as in the challenge's annotation."""

LUMBAR_DISCS = 7
"""The discs the challenge annotates: L5/S1 up to T11/12 (paper, section 1)."""

DIXON: tuple[str, ...] = ("fat", "inn", "opp", "wat")
"""Channels of a Dixon protocol: fat, in phase, opposed phase, water."""

TISSUES: tuple[str, ...] = ("disc", "vertebra", "canal")
"""Names of the values 1, 2 and 3 of a tissue map: discs, vertebrae with their posterior elements, spinal canal."""


class CaseError(ValueError):
    """One case cannot be read or processed; the message names the case, the file, the value met and the remedy."""


class UserError(ValueError):
    """Options, configuration, model or input cannot be used at all; the message says what to change."""


ASSUMPTION = "Levels assume five lumbar vertebrae."
"""What every level rests on, since the image of a lumbar spine alone cannot tell how many there are."""

PFIRRMANN_GRADES = (1, 2, 3, 4, 5)
READERS = "Readers agree with each other to a kappa of about 0.6 on this grade. An estimate, not a diagnosis."
"""Said wherever an estimated Pfirrmann grade is shown."""


def level_name(level: int) -> str:
    """Anatomical name of a level: 1 gives "L5/S1", 7 "T11/12"; levels beyond 15 give "level N".

    Raises:
        ValueError: the level is below 1.
    """
    if level < 1:
        raise ValueError(f"a level is 1 (L5/S1) or more, not {level}")
    return LEVEL_NAMES[level - 1] if level <= len(LEVEL_NAMES) else f"level {level}"


def spacing_of(affine: FloatArray) -> tuple[float, float, float]:
    """Length in mm of one voxel step along each of the three axes of a (4, 4) affine."""
    d, h, w = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return float(d), float(h), float(w)


def to_world_mm(affine: FloatArray, index: FloatArray) -> FloatArray:
    """World RAS+ mm (..., 3) of voxel indices (..., 3) under a (4, 4) affine."""
    affine = np.asarray(affine, dtype=float)
    return np.asarray(index, dtype=float) @ affine[:3, :3].T + affine[:3, 3]


def to_index(affine: FloatArray, world_mm: FloatArray) -> FloatArray:
    """Fractional voxel indices (..., 3) of world RAS+ mm points (..., 3) under a (4, 4) affine."""
    return to_world_mm(np.linalg.inv(np.asarray(affine, dtype=float)), world_mm)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: a shape (D, H, W) and the affine from (d, h, w, 1) to RAS+ mm.

    The same type describes a file's own (native) grid, whose axes then have the file's order.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of one voxel step along each axis, in mm."""
        return spacing_of(self.affine)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm3; right for oblique and sheared grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def matches(self, other: Grid, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have one shape and every corner lies within `tolerance_mm` of the other's."""
        return self.shape == other.shape and self.displacement_mm(other) <= tolerance_mm

    def displacement_mm(self, other: Grid) -> float:
        """The largest distance in mm between corners of the same index (the corners of this grid's shape)."""
        last = np.array(self.shape, dtype=float) - 1
        corners = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
        gap = to_world_mm(self.affine, corners) - to_world_mm(other.affine, corners)
        return float(np.linalg.norm(gap, axis=1).max())


@dataclass(frozen=True, eq=False)
class Volume:
    """Aligned channels of one scan: array (C, D, H, W), affine, channel names; `native` is the file's own grid.

    Raises:
        ValueError: the array is not 4D, or the number of names differs from C.
    """

    array: NDArray
    affine: NDArray[np.float64]
    channels: tuple[str, ...]
    native: Grid | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 4:
            raise ValueError(f"a volume's array is (C, D, H, W); this one has shape {self.array.shape}")
        if self.array.shape[0] != len(self.channels):
            raise ValueError(f"{self.array.shape[0]} channels in the array, but {len(self.channels)} names")

    @property
    def grid(self) -> Grid:
        """The canonical grid of this volume."""
        return Grid((self.array.shape[1], self.array.shape[2], self.array.shape[3]), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (D, H, W) in mm."""
        return spacing_of(self.affine)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels (D, H, W) on a grid: 0 background, 1 = L5/S1 upward, or 1 alone for a binary mask."""

    array: NDArray[np.uint8]
    affine: NDArray[np.float64]
    native: Grid | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a label map's array is (D, H, W); this one has shape {self.array.shape}")

    @property
    def grid(self) -> Grid:
        """The canonical grid of this label map."""
        return Grid((self.array.shape[0], self.array.shape[1], self.array.shape[2]), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (D, H, W) in mm."""
        return spacing_of(self.affine)

    @property
    def levels(self) -> tuple[int, ...]:
        """The positive values that occur, rising; empty for an empty map."""
        return tuple(int(v) for v in np.unique(self.array) if v > 0)

    def with_array(self, array: NDArray[np.uint8]) -> LabelMap:
        """The same grid with other labels of the same shape."""
        return replace(self, array=array)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Structures below the lowest disc that might be taken for discs and were left out of the result.

    Attributes:
        names: what each was taken for: a remnant S1/S2 or S2/3, or "no disc".
        labels: value 1 for the first name and so on, on the grid of the result's label map.
    """

    names: tuple[str, ...]
    labels: LabelMap

    def values(self, discs: LabelMap) -> dict[int, str]:
        """The value of each in `over`, right above those of all discs, with its name."""
        return dict(enumerate(self.names, start=max(discs.levels, default=0) + 1))

    def over(self, discs: LabelMap) -> NDArray[np.uint8]:
        """The label map of the discs (D, H, W) with these structures in it where no disc is."""
        free = (self.labels.array > 0) & (discs.array == 0)
        return np.where(free, self.labels.array + np.uint8(max(discs.levels, default=0)), discs.array).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Case:
    """One visit of one subject: its volume, its references if there are any, and what was remarked on reading.

    `labels` numbers the discs; `tissues` has the values of `TISSUES`. Both lie on the volume's grid. `weightings` has
    "t1", "t2" ... of the channels whose file tells it.
    """

    name: str
    subject: str
    volume: Volume
    labels: LabelMap | None = None
    warnings: tuple[str, ...] = ()
    tissues: LabelMap | None = None
    weightings: dict[str, str] = field(default_factory=dict)


LORDOSIS = {"lordosis_l1_l5_deg": "L1 to L5", "lordosis_l1_s1_deg": "L1 to S1"}
"""What is measured of the spine as a whole, in degrees, and between which vertebrae."""


@dataclass(frozen=True)
class Lordosis:
    """The angles of `LORDOSIS` by name; empty where no vertebrae are outlined.

    Attributes:
        measures: each in degrees, None where not measured, and its standard error (name and `_se`) where known.
        missing: why one is None, by its name.
    """

    measures: Mapping[str, float | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def why(self, name: str) -> str:
        """Why an angle is not given; empty where it is."""
        if self.measures.get(name) is not None:
            return ""
        return self.missing.get(name) or "no vertebrae are outlined"

    @property
    def document(self) -> dict[str, Any]:
        """As the disc JSON has it under `spine`."""
        return {**self.measures, **({"not_measured": dict(self.missing)} if self.missing else {})}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Lordosis:
        """From what the disc JSON has under `spine`."""
        measures = {name: value for name, value in document.items() if name != "not_measured"}
        return cls(measures, dict(document.get("not_measured") or {}))


@dataclass(frozen=True)
class Disc:
    """One disc: its level (1 = L5/S1), confidence in that level (0 to 1), centroid in RAS+ mm, volume in mm3.

    `volume_mm3` is None where the field of view cuts the disc; `cut_at` then names the borders of the grid that it
    reaches, separated by spaces ("left right"), and is empty for a whole disc. `measures` holds further columns of the
    disc table, each name with its unit; None where a measure cannot be given. `outline_confidence` is the Dice (0 to 1)
    that a careful outline of the disc is expected to have with this one; None where nothing was predicted, as for a
    reference. `missing` says why, by the name of a measure that is None; those without an entry have the column's own
    reason.
    """

    level: int
    level_confidence: float
    centroid_mm: tuple[float, float, float]
    volume_mm3: float | None
    measures: dict[str, float | None] = field(default_factory=dict)
    outline_confidence: float | None = None
    cut_at: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def level_name(self) -> str:
        """Anatomical name of the level."""
        return level_name(self.level)
