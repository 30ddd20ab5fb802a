"""What must hold of the drawn spine however it is stored, scaled, framed and sliced; and what to try it with."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel
import numpy as np
from hypothesis import strategies as st

from ivdjax import DiscModel, volume_of
from tests.reliability.drawn_spine import NOISE, bright_model, draw_spine, spine_grid
from tests.reliability.same_discs import (
    assert_same,
    centroid_shifts,
    differing_share,
    reframed,
    stored,
    unstored,
    volume_changes,
)

Triple = tuple[float, float, float]

SPACINGS_MM = st.sampled_from([(4.0, 2.0, 2.0), (3.3, 1.9, 1.7), (4.0, 3.4, 3.4), (6.0, 1.7, 1.7)])
TURNS_DEG = st.floats(-35.0, 35.0)
ORDERS = st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
SCALES, OFFSETS = st.floats(1e-3, 1e3), st.floats(-10.0, 10.0)
ROOMS = st.tuples(*[st.tuples(*[st.integers(low, high)] * 2) for low, high in ((0, 3), (-2, 15), (-2, 30))])
"""Voxels of air more, or less, at the ends of each axis."""
SEEDS = st.integers(0, 99)

MOST_DIFFERING = 2e-4
"""Share of the labelled voxels that a scale which float32 cannot hold exactly may change, and one voxel more."""


def axis_orders_change_nothing(model: DiscModel, array: np.ndarray, affine: np.ndarray, how: Sequence) -> None:
    first = model(nibabel.Nifti1Image(array, affine))
    assert first.discs
    order, flips = how
    other = model(nibabel.Nifti1Image(*stored(array, affine, order, flips)))
    assert_same(first, other, unstored(other.label_array(), order, flips))


def scales_change_single_voxels(scale: float, offset: float, spacing_mm: Triple) -> None:
    """Each channel has its own scale, and an offset of so many times the range of its values."""
    grid, model = spine_grid(spacing_mm), bright_model(("t2", "fat"))
    array = np.stack([draw_spine(grid), draw_spine(grid, 1)]).astype(float)
    first = model(volume_of(array, grid.affine, ["t2", "fat"]))
    scales = np.array([scale, 1.0 / scale])[:, None, None, None]
    second = model(volume_of(scales * (array + 200.0 * offset), grid.affine, ["t2", "fat"]))
    assert differing_share(first, second) <= MOST_DIFFERING
    assert (second.verdict, second.reasons) == (first.verdict, first.reasons)


def air_moves_no_disc(room: Sequence[tuple[int, int]], seed: int | None, spacing_mm: Triple) -> None:
    """Air of zeros, or with a seed of noise."""
    grid, model = spine_grid(spacing_mm), bright_model()
    image = draw_spine(grid)
    first = model(volume_of(image, grid.affine, "t2"))
    wide, affine = reframed(image, grid, room, None if seed is None else np.random.default_rng(seed), NOISE)
    other = model(volume_of(wide, affine, "t2"))
    assert centroid_shifts(first, other).max() < 0.5
    # Outlines half a voxel off would change discs of 10 mm by a fifth and more at voxels of 2 mm.
    assert volume_changes(first, other).max() < 0.12
    assert (other.verdict, other.reasons) == (first.verdict, first.reasons)


def slices_keep_volumes(shift: float, thick_mm: float, turn_deg: float) -> None:
    """The same spine, a part of a slice further to the side."""
    model, results = bright_model(), []
    for place in (0.0, shift):
        grid = spine_grid((thick_mm, 1.7, 1.7), turn_deg, place)
        results.append(model(volume_of(draw_spine(grid), grid.affine, "t2")))
    changes = volume_changes(*results)
    assert len(changes) == 7 and np.median(changes) <= 0.03 and changes.max() <= 0.06
