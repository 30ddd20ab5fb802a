"""Prepared cases as arrays on the device: all of them, or a subset that rotates where they exceed the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import TrainingConfig
from ivdjax.data.preparation import Prepared
from ivdjax.learning.augmentation import COUNTED, OUTLINED, DeviceVolumes
from ivdjax.learning.contrast import CLASSES
from ivdjax.learning.devices import share
from ivdjax.learning.hosts import from_leader
from ivdjax.model.targets import class_brightness
from ivdjax.volume import UserError

MAX_DISCS = 15
"""Centroids kept of each case; crops are centred near these."""

MAX_VOXELS = 2**31 - 1
"""Voxels that can lie on the device at once: they are found there by a 32-bit index."""


class DeviceCache:
    """The training volumes that lie on the device at a step; the same for the same seed, whatever was done before.

    Args:
        cases: to train on, on the stage's grid.
        training: gives the budget and the steps between two subsets.
        seed: of the order in which subsets take turns.
        mesh: the devices, each of which gets the whole subset.
        levels: whether the network learns levels and not the share of disc.

    Raises:
        UserError: no case, a case without labels, cases of different channels, or one volume alone exceeds the budget.
    """

    def __init__(
        self, cases: Sequence[Prepared], training: TrainingConfig, seed: int, mesh: Mesh, levels: bool = False
    ) -> None:
        _check_cases(cases)
        self._levels = levels
        self._cases, self._mesh, self._seed, self._period = list(cases), mesh, seed, training.resident_steps
        self._shape = tuple(int(n) for n in np.max([case.grid.shape for case in cases], axis=0))
        self._channels = len(cases[0].channels)
        voxels = int(np.prod(self._shape))
        one = voxels * (len(cases[0].channels) + 4)
        self._size = min(len(cases), training.resident_mib * 2**20 // one, MAX_VOXELS // voxels)
        if self._size == 0:
            raise UserError(
                f"one volume takes {one / 2**20:.1f} MiB, above training.resident_mib = {training.resident_mib}; "
                "raise it, or make preparation.spacing_mm coarser"
            )
        self._turn = -1
        self._current: DeviceVolumes | None = None

    def at(self, step: int) -> DeviceVolumes:
        """The volumes for a step, put on every device when their turn begins."""
        turn = 0 if self._size == len(self._cases) else step // self._period
        if self._current is None or turn != self._turn:
            self._current = None  # gives its memory back before the next subset comes
            chosen = np.random.default_rng([self._seed, turn]).permutation(len(self._cases))[: self._size]
            subset = [self._cases[i] for i in sorted(chosen)]
            self._current = share(from_leader(stack_volumes(subset, self._shape, self._levels)), self._mesh)
            self._turn = turn
        return self._current

    def release(self) -> None:
        """Gives the device's memory back."""
        self._current = None

    @property
    def layout(self) -> dict[str, Any]:
        """What `ReceivedCache` needs to know, in words that JSON can hold."""
        period = 0 if self._size == len(self._cases) else self._period
        return {"count": self._size, "shape": list(self._shape), "channels": self._channels, "period": period}


class ReceivedCache:
    """The volumes of the leader's `DeviceCache`, on a process that has no cases of its own.

    Args:
        layout: of the leader's sets.
        mesh: the devices, those of the leader among them.
    """

    def __init__(self, layout: dict[str, Any], mesh: Mesh) -> None:
        self.layout, self._mesh = layout, mesh
        self._turn = -1
        self._current: DeviceVolumes | None = None

    def at(self, step: int) -> DeviceVolumes:
        """The volumes for a step; they come from the leader when their turn begins."""
        period = self.layout["period"]
        turn = step // period if period else 0
        if self._current is None or turn != self._turn:
            self._current = None
            self._current = share(from_leader(_blank_volumes(self.layout)), self._mesh)
            self._turn = turn
        return self._current

    def release(self) -> None:
        """Gives the device's memory back."""
        self._current = None


class PhasedCache:
    """The volumes of one cache in the first steps, those of another from then on.

    Args:
        first: for the first steps; its volumes leave the device after them.
        until: so many.
        then: for all others.
    """

    def __init__(self, first: DeviceCache | ReceivedCache, until: int, then: DeviceCache | ReceivedCache) -> None:
        self._first, self._until, self._then = first, until, then

    def at(self, step: int) -> DeviceVolumes:
        """The volumes for a step."""
        if step < self._until:
            return self._first.at(step)
        self._first.release()
        return self._then.at(step)

    @property
    def layout(self) -> dict[str, Any]:
        """What `received_cache` needs to know, in words that JSON can hold."""
        return {"until": self._until, "first": self._first.layout, "then": self._then.layout}


def received_cache(layout: dict[str, Any], mesh: Mesh) -> ReceivedCache | PhasedCache:
    """The leader's cache, on a process that has no cases of its own, by its layout."""
    if "until" not in layout:
        return ReceivedCache(layout, mesh)
    return PhasedCache(ReceivedCache(layout["first"], mesh), layout["until"], ReceivedCache(layout["then"], mesh))


def stack_volumes(cases: Sequence[Prepared], shape: tuple[int, ...], levels: bool = False) -> DeviceVolumes:
    """Cases padded with zeros to one shape (D, H, W), channels last; arrays on the host.

    With `levels` the target is the labels as they are, else the share of disc. What counts are the rows that are
    outlined, and of the discs those within the spine region where there is one.

    Raises:
        ValueError: a case without reference labels.
    """
    blank = _blank_volumes({"count": len(cases), "shape": shape, "channels": len(cases[0].channels)})
    image, target, counted, classes, class_mean, class_sd, base, made, low, high, extent, spacing_mm, centres, discs = (
        np.asarray(part) for part in blank
    )
    for place, case in enumerate(cases):
        if case.labels is None or case.occupancy is None:
            raise ValueError(f"case {case.name} has no reference labels to train on")
        d, h, w = case.grid.shape
        image[place, :d, :h, :w] = np.moveaxis(case.image, 0, -1)
        target[place, :d, :h, :w] = case.labels if levels else case.occupancy
        counts = np.ones(case.grid.shape, bool) if levels or case.region is None else case.region.copy()
        counts[:, : case.ignore_above] = False
        counted[place, :d, :h, :w] = counts * np.uint8(COUNTED)
        if case.tissues is not None:
            counted[place, :d, case.ignore_above : h, :w] |= OUTLINED
        if case.classes is not None:
            classes[place, :d, :h, :w] = case.classes
            shown = case.image if case.base is None else np.broadcast_to(case.base, case.image.shape)
            class_mean[place], class_sd[place] = class_brightness(shown, case.classes)
        if case.base is not None:
            base[place, :d, :h, :w], made[place] = case.base, 1
        low[place], high[place] = _ends(counts)
        extent[place], spacing_mm[place] = case.grid.shape, case.grid.spacing_mm
        numbers = [level for level in np.unique(case.labels) if level > 0][:MAX_DISCS]
        discs[place] = len(numbers)
        if numbers:
            centres[place] = np.resize(ndimage.center_of_mass(case.labels > 0, case.labels, numbers), (MAX_DISCS, 3))
    return blank


def _blank_volumes(layout: dict[str, Any]) -> DeviceVolumes:
    """Zeros in the place of so many volumes of a shape (D, H, W) and channels; arrays on the host."""
    count, shape = layout["count"], tuple(layout["shape"])
    # Arrays of the host here, of the devices once they are shared.
    fields: dict[str, Any] = {
        "image": np.zeros((count, *shape, layout["channels"]), np.uint8),
        "target": np.zeros((count, *shape), np.uint8),
        "counted": np.zeros((count, *shape), np.uint8),
        "classes": np.zeros((count, *shape), np.uint8),
        "class_mean": np.zeros((count, CLASSES, layout["channels"]), np.float32),
        "class_sd": np.zeros((count, CLASSES, layout["channels"]), np.float32),
        "base": np.zeros((count, *shape), np.uint8),
        "made": np.zeros(count, np.int32),
        "low": np.zeros((count, 3), np.int32),
        "high": np.zeros((count, 3), np.int32),
        "extent": np.zeros((count, 3), np.int32),
        "spacing_mm": np.zeros((count, 3), np.float32),
        "centres": np.zeros((count, MAX_DISCS, 3), np.float32),
        "discs": np.zeros(count, np.int32),
    }
    return DeviceVolumes(**fields)


def _ends(counts: NDArray[np.bool_]) -> NDArray[np.intp]:
    """First and last position (2, 3) of the voxels that count, along each axis; the whole extent where none does."""
    found = ndimage.find_objects(counts.astype(np.uint8))
    box = found[0] if found else tuple(slice(0, n) for n in counts.shape)
    return np.array([[part.start for part in box], [part.stop - 1 for part in box]])


def _check_cases(cases: Sequence[Prepared]) -> None:
    if not cases:
        raise UserError("no case is left for training; give more cases, or hold out fewer (data.validation)")
    for case in cases:
        if case.labels is None or case.occupancy is None:
            raise UserError(f"case {case.name} has no reference labels to train on; add {case.name}_Labels.nii.gz")
        if case.channels != cases[0].channels:
            raise UserError(
                f"case {case.name} has the channels {', '.join(case.channels)}, but case {cases[0].name} has "
                f"{', '.join(cases[0].channels)}; prepare them again with the same data.channels"
            )
