"""What a phantom can be asked for, and which requests make no sense."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from ivdjax.volume import UserError

CHANNELS: tuple[str, ...] = ("fat", "wat", "inn", "opp", "t2")
"""Channels that can be made: the four of a Dixon scan, and one like a T2-weighted turbo spin echo."""

HARD_KINDS: tuple[str, ...] = (
    "faint_disc", "bridged", "collapsed_l5s1", "s1s2", "top_cut", "bottom_cut", "scoliosis", "slip", "bulge",
    "stenosis",
)  # fmt: skip
"""Anatomies and fields of view that mislead a numbering from the bottom up, or a measure of wear."""

FIELDS: tuple[str, ...] = ("full", "slab", "clinical")
"""Fields of view: a research scan's, a slab round the midline, and what clinical scanners make."""

_SHAPES: dict[str, tuple[int, int, int]] = {"full": (36, 256, 256), "slab": (20, 320, 256), "clinical": (24, 300, 300)}
_SPACINGS_MM: dict[str, tuple[float, float, float]] = {
    "full": (2.0, 1.25, 1.25), "slab": (0.9, 0.94, 0.94), "clinical": (3.5, 1.05, 1.05),
}  # fmt: skip
_SHORTEST_MM, _NARROWEST_MM = 260.0, 150.0
_MOST_VOXELS = 100_000_000
"""Forty times an ordinary scan."""


@dataclass(frozen=True)
class PhantomOptions:
    """What `make_phantom` makes.

    Attributes:
        channels: names out of `CHANNELS`, in the order wanted.
        field: full: the whole width of the discs, 36 x 256 x 256 voxels of 2 x 1.25 x 1.25 mm; slab: 13 to 30 slices
            of 0.9 mm round the midline, 0.94 mm in plane; clinical: the whole width of the discs and beyond, 60 to 110
            mm in slices of 2 to 5 mm, 260 to 340 mm high and wide, 0.8 to 1.3 mm in plane, and image quality and
            contrasts of a wider range, drawn for each subject (see `protocol`).
        shape: voxels (D, H, W) in place of those of the field.
        spacing_mm: their size in place of that of the field.
        hard: one of `HARD_KINDS`, or empty.
        binary_labels: whether the seven labelled discs all have the value 1.

    Raises:
        UserError: an unknown name, a size that is not positive, or a field of view too small for seven discs.
    """

    channels: tuple[str, ...] = ("fat", "inn", "opp", "wat")
    field: str = "full"
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    hard: str = ""
    binary_labels: bool = False

    def __post_init__(self) -> None:
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise UserError(f"channels must be one or more different names, not {','.join(self.channels)!r}")
        for name in self.channels:
            _known(name, CHANNELS, "channel")
        _known(self.field, FIELDS, "field")
        if self.hard:
            _known(self.hard, HARD_KINDS, "hard kind")
        shape, spacing_mm = self.grid_shape, self.grid_spacing_mm
        if min(shape) < 1 or not min(spacing_mm) > 0:
            raise UserError(f"shape and spacing must be above 0, not {shape} voxels of {spacing_mm} mm")
        if math.prod(shape) > _MOST_VOXELS:
            raise UserError(f"a phantom may have {_MOST_VOXELS:,} voxels, not the {math.prod(shape):,} of {shape}")
        height_mm, width_mm = shape[1] * spacing_mm[1], shape[2] * spacing_mm[2]
        if height_mm < _SHORTEST_MM or width_mm < _NARROWEST_MM:
            raise UserError(
                f"seven discs need {_SHORTEST_MM:.0f} mm from top to bottom and {_NARROWEST_MM:.0f} mm from front to "
                f"back, not {height_mm:.0f} x {width_mm:.0f} mm; use more or larger voxels"
            )

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels (D, H, W); a slab's slices and a clinical field's size vary unless stated."""
        return self.shape or _SHAPES[self.field]

    @property
    def grid_spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (D, H, W) in mm; without a stated one a clinical field's varies between subjects."""
        return self.spacing_mm or _SPACINGS_MM[self.field]


def _known(name: str, names: tuple[str, ...], noun: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        raise UserError(f"unknown {noun} {name!r}; {advice}")
