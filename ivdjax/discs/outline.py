"""How far the outline of a disc can be trusted: the Dice that it is expected to have with a careful one.

Were each voxel disc with the network's probability p, independently of its neighbours' truth, the Dice of a mask M and
the truth would be about 2 sum(p in M) / (|M| + sum(p round the disc)): near 1 for a map that is 1 inside and 0 outside,
the lower the more it wavers. Networks are no such honest witnesses, so the figure is too low or too high by much the
same amount everywhere; a curve of two parameters, fitted to discs whose Dice is known, brings it to the right size:

    dice = 1 - scale (1 - expected) ** power, clipped to 0 to 1.

The curve rises with the expected Dice whatever its parameters: it changes sizes, never the order of the discs. What
the network is sure of and wrong about, no such figure can see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ivdjax.discs.signs import Sign
from ivdjax.volume import Grid, level_name

REACH_MM = 6.0
"""How far round a disc the probability counts: what lies there beyond its outline may be disc that was missed."""

LEAST_DISCS = 10
"""How many discs a calibration needs."""

_USUAL_ERROR = 0.05
"""Dice; discs that miss the curve by much more (one that the reference lacks has Dice 0) pull at it no harder."""


def outline_confidence(
    probability: NDArray[np.floating],
    levels: NDArray[np.integer],
    grid: Grid,
    calibration: Mapping[str, object] | None = None,
) -> dict[int, float]:
    """The Dice, 0 to 1, that each disc's outline is expected to have with a careful one; by rising level.

    It speaks of the outline alone: whether the level is right is another question. A map without a disc gives an empty
    dictionary.

    Args:
        probability: of disc, 0 to 1, (D, H, W).
        levels: numbered discs (D, H, W) on the same grid, 0 background.
        grid: of both arrays, the working grid.
        calibration: of the model, with `scale` and `power` (`fit_calibration`); without one the uncorrected figure.

    Raises:
        ValueError: an array does not lie on the grid, or the calibration lacks a parameter or holds one that is no
            number above 0.
    """
    expected = expected_dice(probability, levels, grid)
    if calibration is None:
        return expected
    values = calibrated(list(expected.values()), calibration)
    return {level: float(value) for level, value in zip(expected, values, strict=True)}


def expected_dice(probability: NDArray[np.floating], levels: NDArray[np.integer], grid: Grid) -> dict[int, float]:
    """2 sum(p in the disc) / (voxels of the disc + sum(p round it)), 0 to 1, for each disc by rising level.

    Round a disc is the disc itself and every voxel within `REACH_MM` of it that lies no nearer to another disc.

    Raises:
        ValueError: an array does not lie on the grid.
    """
    for name, array in (("probability", probability), ("levels", levels)):
        if array.shape != grid.shape:
            raise ValueError(f"the {name}'s shape {array.shape} must be that of the grid, {grid.shape}")
    found = ndimage.find_objects((levels > 0).astype(np.uint8))
    if not found:
        return {}
    # Far from every disc nothing counts, and distances over the whole volume would cost a second.
    margins = (int(REACH_MM / size) + 1 for size in grid.spacing_mm)
    d, h, w = (
        slice(max(part.start - margin, 0), part.stop + margin) for part, margin in zip(found[0], margins, strict=True)
    )
    discs, certain = levels[d, h, w].astype(np.int64), probability[d, h, w].astype(np.float64)
    distance_mm, nearest = ndimage.distance_transform_edt(discs == 0, sampling=grid.spacing_mm, return_indices=True)
    # The slack keeps voxels that lie exactly so far on one side, whatever the last bit of the file's voxel size.
    owner = np.where(distance_mm <= REACH_MM + 1e-3, discs[tuple(nearest)], 0).ravel()
    size = int(discs.max()) + 1
    voxels = np.bincount(discs.ravel(), minlength=size)
    inside = np.bincount(discs.ravel(), certain.ravel(), size)
    around = np.bincount(owner, certain.ravel(), size)
    return {int(n): float(2 * inside[n] / (voxels[n] + around[n])) for n in np.flatnonzero(voxels) if n > 0}


def calibrated(expected: ArrayLike, calibration: Mapping[str, object]) -> NDArray[np.float64]:
    """Expected Dice (N,) brought to the right size by a model's calibration: 0 to 1, in the same order.

    Raises:
        ValueError: the calibration lacks a parameter, or holds one that is not a number above 0.
    """
    return _curve(np.asarray(expected, dtype=float), _parameter(calibration, "scale"), _parameter(calibration, "power"))


def fit_calibration(expected: Sequence[float], dice: Sequence[float]) -> dict[str, float]:
    """The `scale` and `power` that bring expected Dice (N,) nearest to measured Dice (N,).

    Least squares with a loss that turns linear for errors well above 0.05 (soft L1), so that a few discs that are
    altogether wrong do not bend the curve of all others.

    Raises:
        ValueError: the two differ in length, there are fewer than `LEAST_DISCS`, or a value is not within 0 to 1.
    """
    from scipy import optimize  # slow to import, and finding discs does without

    x, y = np.asarray(expected, dtype=float), np.asarray(dice, dtype=float)
    if x.shape != y.shape:
        raise ValueError(f"each expected Dice needs a measured one, but there are {x.size} and {y.size}")
    if x.size < LEAST_DISCS:
        raise ValueError(f"a calibration needs {LEAST_DISCS} discs or more, not {x.size}; take more cases")
    values = np.concatenate([x, y])
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("expected and measured Dice must lie within 0 to 1")

    def error(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        # Logarithms keep both parameters above 0; unclipped, the curve has a slope everywhere.
        return np.asarray(1 - np.exp(logs[0]) * (1 - x) ** np.exp(logs[1]) - y)

    fit = optimize.least_squares(error, [0.0, 0.0], loss="soft_l1", f_scale=_USUAL_ERROR, bounds=(-3.0, 3.0))
    scale, power = np.exp(fit.x)
    return {"scale": round(float(scale), 4), "power": round(float(power), 4)}


def outline_sign(confidence: Mapping[int, float], threshold: float) -> Sign:
    """The sign of the outlines for the verdict: 1 less the least confidence, and the levels below the threshold.

    Args:
        confidence: by level, 0 to 1 (`outline_confidence`); at least one.
        threshold: 0 to 1; 0 says nothing, ever.
    """
    unsure = [
        level_name(level)
        for _, level in sorted((value, level) for level, value in confidence.items() if value < threshold)
    ]
    say = f"The outline of {', '.join(unsure)} is unsure" if unsure else ""
    return Sign(1 - min(confidence.values()), say)


def _curve(expected: NDArray[np.float64], scale: float, power: float) -> NDArray[np.float64]:
    return np.clip(1 - scale * np.clip(1 - expected, 0, 1) ** power, 0, 1)


def _parameter(calibration: Mapping[str, object], name: str) -> float:
    value = calibration.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(
            f"an outline calibration needs a {name} above 0, not {value!r}; make it anew with "
            "benchmarks/outline_confidence.py"
        )
    return float(value)
