"""One scan stored in different ways, and what two results of it have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.inference.predictor import DiscResult
from ivdjax.volume import Grid, to_index

TABLE_WITHIN = 2e-4
"""Two headers of one place differ by float32's last bits, some 1e-5 mm; tables are rounded to six digits."""


def stored(
    array: NDArray, affine: NDArray[np.float64], order: Sequence[int], flips: Sequence[bool]
) -> tuple[NDArray, NDArray[np.float64]]:
    """An array (I, J, K) with its axes in another order and some of them reversed, and the affine that goes with it.

    Every voxel keeps its place in the world.
    """
    step = np.zeros((4, 4))
    step[3, 3] = 1.0
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        step[old, new] = -1.0 if flip else 1.0
        step[old, 3] = array.shape[old] - 1 if flip else 0.0
    turned = np.transpose(array, order)[_reversed(flips)]
    return np.ascontiguousarray(turned), affine @ step


def unstored(array: NDArray, order: Sequence[int], flips: Sequence[bool]) -> NDArray:
    """The inverse of `stored`."""
    return np.transpose(array[_reversed(flips)], np.argsort(order))


def reframed(
    array: NDArray,
    grid: Grid,
    room: Sequence[tuple[int, int]],
    rng: np.random.Generator | None = None,
    noise: float = 0.0,
) -> tuple[NDArray, NDArray[np.float64]]:
    """An array (..., D, H, W) with so many voxels more (below 0: fewer) at both ends of each axis, and its affine.

    New voxels are air: 0, or with `rng` the magnitude of complex noise, rounded.
    """
    less = tuple(slice(max(-low, 0), size - max(-high, 0)) for (low, high), size in zip(room, grid.shape, strict=True))
    part = array[(..., *less)]
    more = [(0, 0)] * (array.ndim - 3) + [(max(low, 0), max(high, 0)) for low, high in room]
    wide = np.pad(part, more)
    if rng is not None:
        air = np.rint(np.hypot(*rng.normal(0.0, noise, (2, *wide.shape)))).astype(array.dtype)
        new = np.pad(np.zeros(part.shape, bool), more, constant_values=True)
        wide[new] = air[new]
    affine = grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [low for low, _ in room]
    return wide, affine


def assert_same(one: DiscResult, other: DiscResult, labels: NDArray | None = None, signal: bool = True) -> None:
    """The same label map (or `labels`, of the other), the same words, and the same numbers but for float32's last bits.

    Without `signal` the columns of each channel's raw signal are left out.
    """
    np.testing.assert_array_equal(one.label_array(), other.label_array() if labels is None else labels)
    assert (other.verdict, other.reasons) == (one.verdict, one.reasons)
    for row, again in zip(one.table(), other.table(), strict=True):
        assert row.keys() == again.keys()
        for name, value in row.items():
            if not signal and name.endswith(("_mean", "_median", "_sd", "fat_fraction")):
                continue
            if isinstance(value, float):
                assert again[name] is not None and abs(again[name] - value) <= TABLE_WITHIN, (name, value, again[name])
            else:
                assert again[name] == value, name


def centroid_shifts(one: DiscResult, other: DiscResult) -> NDArray[np.float64]:
    """By how many voxels of the first result's grid (N, 3) the centroid of each disc moved; the levels must agree."""
    assert [disc.level for disc in other.discs] == [disc.level for disc in one.discs], (one, other)
    places = [np.array([disc.centroid_mm for disc in result.discs]) for result in (one, other)]
    before, after = (to_index(one.labels.affine, place) for place in places)
    return np.asarray(np.abs(after - before))


def volume_changes(one: DiscResult, other: DiscResult) -> NDArray[np.float64]:
    """Relative change (N,) of the volume of each disc that both hold whole."""
    volumes = [{disc.level: disc.volume_mm3 for disc in result.discs if disc.volume_mm3} for result in (one, other)]
    common = volumes[0].keys() & volumes[1].keys()
    assert common, "no disc is whole in both"
    return np.array([abs(volumes[1][level] / volumes[0][level] - 1.0) for level in sorted(common)])


def differing_share(one: DiscResult, other: DiscResult) -> float:
    """Voxels whose labels differ, but for one, over the labelled voxels of the first result."""
    differing = np.count_nonzero(one.label_array() != other.label_array())
    return max(differing - 1, 0) / max(np.count_nonzero(one.label_array()), 1)


def case_bytes(folder: Path) -> Mapping[str, bytes]:
    """The bytes of every file of a case's output, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _reversed(flips: Sequence[bool]) -> Any:
    return tuple(slice(None, None, -1 if flip else 1) for flip in flips)
