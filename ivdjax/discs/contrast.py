"""Whether channels are what they are called: no label maps; a Dixon scan's, by what is known of discs and of bone.

A disc is water: little of its signal is fat. The marrow between two discs of an adult holds much. Where fat and water
are exchanged, by a wrong file name or by the scanner (a fat-water swap, often in a part of the scan alone), a disc is
brighter in `fat` than in `wat`, and more so than the bone beside it. How other channels are mixed up shows in the
tissue itself: in phase is fat + water, out of phase the difference of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.imaging.geometry import cropped
from ivdjax.volume import DIXON, LabelMap, Volume, level_name, to_index, to_world_mm

_FATTY, _ABOVE_BONE = 0.5, 0.1
"""A disc looks like fat where its fat fraction is at least this, and by at least this above that of the bone beside it:
a dark disc in noise goes up to about one half, and the fattest of discs stays below its bone."""
_STEP_MM = (10.0, 60.0)
"""The way to the next disc lies within these; else the middle of a vertebra is taken to be `_HALF_STEP_MM` off."""
_HALF_STEP_MM = 17.0
_MISFIT, _BETTER = 0.08, 0.5
"""Channels do not fit together where they miss by more than this share of the signal; others must fit this much
better."""
_MOST = 0.75
"""Share of the discs from which all of them are meant: among exchanged channels a network finds some wrong places."""
_LEAST_VOXELS = 20
_LABELS, _EMPTY = 16, 0.8
"""A label map has no more than so many values (a spine's discs, and background), and as large a share of background."""


@dataclass(frozen=True, eq=False)
class _Place:
    """Signal of every channel in the middle of a disc (C, N), and in the bone above and below it (C, M)."""

    disc: NDArray[np.float64]
    bone: NDArray[np.float64]


def contrast_doubts(volume: Volume, labels: LabelMap) -> list[str]:
    """Why channels may not be what they are called, in plain words; empty where nothing speaks for it.

    - Any channel: it holds a few whole numbers and is mostly empty, as a label map.
    - With `fat` and `wat`: all discs, or some of them, look like fat against the bone between them.
    - With all four of `DIXON`: they fit together only under other names.

    Of fat and water nothing is said without both, without a disc, or where the values are no magnitudes (below 0 in
    more than a twentieth of what is looked at). The ratio of a scan's own two channels is compared within it, so that
    units of intensity do not matter.

    Args:
        volume: raw intensities (C, D, H, W), in which channels go by their names.
        labels: numbered discs (D, H, W) on the volume's grid, 1 = L5/S1 upward.

    Raises:
        ValueError: the volume lies on another grid than the labels.
    """
    if not volume.grid.matches(labels.grid):
        raise ValueError(
            f"the volume must lie on the labels' grid: shape {volume.grid.shape} against {labels.grid.shape}; "
            "resample one of them first"
        )
    doubts = [_label_map(name) for name, array in zip(volume.channels, volume.array, strict=True) if _few_values(array)]
    if doubts or not {"fat", "wat"} <= set(volume.channels):
        return doubts
    places = {
        level: place
        for level, place in _places(volume, labels).items()
        if min(place.disc.shape[1], place.bone.shape[1]) >= _LEAST_VOXELS
    }
    if not places or not _magnitudes(list(places.values())):
        return []
    mixed = _mixed_up(volume.channels, places)
    return [mixed] if mixed else _swapped(volume.channels, places)


def _label_map(channel: str) -> str:
    return (
        f"channel {channel} holds at most {_LABELS} whole numbers and is mostly empty, as a label map: is it the right "
        "file?"
    )


def _few_values(array: NDArray) -> bool:
    """Whether a channel (D, H, W) looks like a label map."""
    values = array[np.isfinite(array)]
    if not _EMPTY * values.size <= np.count_nonzero(values == 0) < values.size:
        return False
    met = np.unique(values[values != 0])
    return len(met) < _LABELS and bool((met == np.rint(met)).all())


def _swapped(channels: Sequence[str], places: Mapping[int, _Place]) -> list[str]:
    """What the fat fractions of discs and bone say."""
    fat, wat = channels.index("fat"), channels.index("wat")
    discs = {level: _share(place.disc, fat, wat) for level, place in places.items()}
    bones = {level: _share(place.bone, fat, wat) for level, place in places.items()}
    fatty = [level for level, share in discs.items() if share >= max(_FATTY, bones[level] + _ABOVE_BONE)]
    if not fatty:
        return []
    share, bone = (float(np.median([of[level] for level in fatty])) for of in (discs, bones))
    found = f"fat fraction {share:.2f}, and {bone:.2f} in the bone beside"
    others = [level for level in discs if level not in fatty]
    if len(fatty) >= _MOST * len(discs):
        return [f"the discs look like fat: are fat and wat exchanged? ({found})"]
    rest = float(np.median([discs[level] for level in others]))
    return [
        f"{_names(fatty)} look{'s' * (len(fatty) == 1)} like fat ({found}), but not {_names(others)} ({rest:.2f}): "
        "are fat and wat exchanged, at least in a part of the scan?"
    ]


def _mixed_up(channels: Sequence[str], places: Mapping[int, _Place]) -> str:
    """The other names under which four channels fit together; empty where they fit as they are, or never do.

    The names of fat and water, which take the same part in sums and differences, go by the discs: of the two ways, that
    in which discs hold less fat than bone is meant.
    """
    if not set(DIXON) <= set(channels):
        return ""
    disc, bone = (
        np.concatenate([getattr(place, part) for place in places.values()], axis=1)[[channels.index(c) for c in DIXON]]
        for part in ("disc", "bone")
    )
    every = np.concatenate([disc, bone], axis=1)
    given = _misfit(every)
    if given <= _MISFIT:
        return ""
    # One of each two that differ in fat and water alone, which have the same misfit.
    orders = [list(order) for order in permutations(range(4)) if order[0] < order[3]]
    best = min(orders, key=lambda order: _misfit(every[order]))
    if _misfit(every[best]) >= _BETTER * given:
        return ""
    if _share(disc[best], 0, 3) > _share(bone[best], 0, 3):
        best[0], best[3] = best[3], best[0]
    meant = " and ".join(f"{DIXON[best[i]]} were {name}" for i, name in enumerate(DIXON) if best[i] != i)
    return (
        "fat, inn, opp and wat do not fit together (in phase is fat + water, out of phase their difference), but would "
        f"if {meant}: are channels exchanged?"
    )


def _misfit(signal: NDArray[np.float64]) -> float:
    """The share by which signals in and out of phase miss fat + water and |fat - water|; up to one factor.

    `signal` is (4, N) in the order of `DIXON`. The factor stands for pairs that are stored in other units.
    """
    fat, inn, opp, wat = signal
    made, seen = np.concatenate([fat + wat, np.abs(fat - wat)]), np.concatenate([inn, opp])
    factor = float(made @ seen) / max(float(made @ made), 1e-12)
    return float(np.abs(seen - factor * made).sum()) / max(float(np.abs(seen).sum()), 1e-12)


def _places(volume: Volume, labels: LabelMap) -> dict[int, _Place]:
    """Every disc's middle, and the bone half the way to its neighbours, by level."""
    points: dict[int, NDArray[np.float64]] = {}
    for level, tight in enumerate(ndimage.find_objects(labels.array), start=1):
        if tight is not None:
            d, h, w = tight
            inside = np.argwhere(labels.array[d, h, w] == level).astype(float)
            points[level] = np.asarray(to_world_mm(cropped(labels.grid, (d, h, w)).affine, inside))
    centres = {level: found.mean(axis=0) for level, found in points.items()}
    places = {}
    for level, found in points.items():
        off_mm = np.linalg.norm(found - centres[level], axis=1)
        middle = found[off_mm <= np.median(off_mm)]
        step = _half_step(level, centres, labels.affine)
        bone = np.concatenate([middle + step, middle - step])
        places[level] = _Place(_signal(volume, middle), _signal(volume, bone))
    return places


def _half_step(level: int, centres: Mapping[int, NDArray[np.float64]], affine: NDArray[np.float64]) -> NDArray:
    """From a disc to the middle of the vertebra above, in mm."""
    up = np.asarray(-affine[:3, 1] / np.linalg.norm(affine[:3, 1]) * _HALF_STEP_MM)
    low, high = (centres.get(other, centres[level]) for other in (level - 1, level + 1))
    steps = (level - 1 in centres) + (level + 1 in centres)
    if not steps:
        return up
    half = (high - low) / steps / 2
    return half if _STEP_MM[0] <= 2 * float(np.linalg.norm(half)) <= _STEP_MM[1] else up


def _signal(volume: Volume, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signal (C, N) of the voxels at world points; those out of view or not finite in a channel are left out."""
    index = np.rint(to_index(volume.affine, points_mm)).astype(int)
    d, h, w = index[((index >= 0) & (index < volume.grid.shape)).all(axis=1)].T
    signal = volume.array[:, d, h, w].astype(float)
    return signal[:, np.isfinite(signal).all(axis=0)]


def _magnitudes(places: Sequence[_Place]) -> bool:
    """Whether the values can be magnitudes: hardly one below 0, and not all 0."""
    values = np.concatenate([part.ravel() for place in places for part in (place.disc, place.bone)])
    return bool((values < 0).mean() <= 0.05 and (values > 0).any())


def _share(signal: NDArray[np.float64], part: int, other: int) -> float:
    """Sum of one channel over the sum of two, 0 to 1; 0 without signal."""
    one, two = (max(float(signal[channel].sum()), 0.0) for channel in (part, other))
    return one / (one + two) if one + two > 0 else 0.0


def _names(levels: Sequence[int]) -> str:
    names = [level_name(level) for level in levels]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
