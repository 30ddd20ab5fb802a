"""All that numbering may look at: what the networks say of one case, the model's reference spine, a user's word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.volume import LUMBAR_DISCS, Grid, LabelMap

CLASSES = LUMBAR_DISCS + 1
"""Classes that every localization network tells apart: background, then levels 1 to 7."""
HIGHER_CLASS, S1_CLASS, L5_CLASS = CLASSES, CLASSES + 1, CLASSES + 2
"""Further classes of networks that know landmarks: any disc above the seventh, the S1 block, the body of L5."""
ALL_CLASSES = CLASSES + 3


@dataclass(frozen=True)
class Anchor:
    """A user's word: this point lies in the disc of this level.

    Attributes:
        level: 1 = L5/S1 upward.
        point_mm: RAS+ mm.

    Raises:
        ValueError: the level is below 1.
    """

    level: int
    point_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.level < 1:
            raise ValueError(f"an anchor's level is 1 (L5/S1) or more, not {self.level}")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of one case.

    Attributes:
        probability: of disc, 0 to 1, (D, H, W).
        grid: of the probability: the working grid.
        region: predicted spine region (D, H, W) on the same grid, or none.
        level_probability: the localization network's (K, D', H', W'), or none. K is 8 (background and levels 1 to 7) or
            11 (then any higher disc, the S1 block and the body of L5).
        level_grid: of the level probability.
        reference: the model's numbered reference mask on a grid of its own, or none.
        anchor: a level that the user has pinned, or none.
        spine_mm: centroids (N, 3) of the reference's discs where they lie in this case, RAS+ mm
            (`ivdjax.discs.spine_line.registered`); None: the reference is registered when it is needed.
        tissue_probability: of vertebra and of canal (2, D, H, W) on the same grid, of a network that outlines them.

    Raises:
        ValueError: arrays that do not lie on their grids, or level probabilities without a grid.
    """

    probability: NDArray[np.float32]
    grid: Grid
    region: NDArray[np.bool_] | None = None
    level_probability: NDArray[np.float32] | None = None
    level_grid: Grid | None = None
    reference: LabelMap | None = None
    anchor: Anchor | None = None
    spine_mm: NDArray[np.float64] | None = None
    tissue_probability: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name, array in (("probability", self.probability), ("region", self.region)):
            if array is not None and array.shape != self.grid.shape:
                raise ValueError(f"the {name}'s shape {array.shape} must be that of the grid, {self.grid.shape}")
        if self.level_probability is None:
            return
        if self.level_grid is None:
            raise ValueError("level probabilities need the grid that they lie on; none was given")
        found, shape = self.level_probability.shape, self.level_grid.shape
        if found not in ((CLASSES, *shape), (ALL_CLASSES, *shape)):
            raise ValueError(f"the level probabilities' shape {found} must be {(CLASSES, *shape)}, or with landmarks "
                             f"{(ALL_CLASSES, *shape)}")  # fmt: skip
