"""Prepared cases as arrays on the device: all of them, or a subset that rotates where they exceed the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from scipy import ndimage

from ivdjax.config import TrainingConfig
from ivdjax.data.preparation import Prepared
from ivdjax.learning.augmentation import Residents
from ivdjax.learning.devices import share
from ivdjax.volume import UserError

MAX_DISCS = 15
"""Centroids kept of each case; crops are centred near these."""

MAX_VOXELS = 2**31 - 1
"""Voxels that can lie on the device at once: they are found there by a 32-bit index."""


class ResidentSets:
    """The training volumes that lie on the device at a step; the same for the same seed, whatever was done before.

    Args:
        cases: to train on.
        training: gives the budget and the steps between two subsets.
        seed: of the order in which subsets take turns.
        mesh: the devices, each of which gets the whole subset.

    Raises:
        UserError: no case, a case without labels, cases of different channels, or one volume alone exceeds the budget.
    """

    def __init__(self, cases: Sequence[Prepared], training: TrainingConfig, seed: int, mesh: Mesh) -> None:
        _check_cases(cases)
        self._cases, self._mesh, self._seed, self._period = list(cases), mesh, seed, training.resident_steps
        self._shape = tuple(int(n) for n in np.max([case.grid.shape for case in cases], axis=0))
        voxels = int(np.prod(self._shape))
        one = voxels * (len(cases[0].channels) + 1)
        self._size = min(len(cases), training.resident_mib * 2**20 // one, MAX_VOXELS // voxels)
        if self._size == 0:
            raise UserError(
                f"one volume takes {one / 2**20:.1f} MiB, above disc.training.resident_mib = {training.resident_mib}; "
                "raise it, or make preparation.spacing_mm coarser"
            )
        self._turn = -1
        self._current: Residents | None = None

    def at(self, step: int) -> Residents:
        """The volumes for a step, put on every device when their turn begins."""
        turn = 0 if self._size == len(self._cases) else step // self._period
        if self._current is None or turn != self._turn:
            self._current = None  # gives its memory back before the next subset comes
            chosen = np.random.default_rng([self._seed, turn]).permutation(len(self._cases))[: self._size]
            self._current = share(stack_residents([self._cases[i] for i in sorted(chosen)], self._shape), self._mesh)
            self._turn = turn
        return self._current


def stack_residents(cases: Sequence[Prepared], shape: tuple[int, ...]) -> Residents:
    """Cases padded with zeros to one shape (D, H, W), channels last; arrays on the host.

    Raises:
        ValueError: a case without reference labels.
    """
    count, channels = len(cases), len(cases[0].channels)
    image = np.zeros((count, *shape, channels), np.uint8)
    occupancy = np.zeros((count, *shape), np.uint8)
    centres = np.zeros((count, MAX_DISCS, 3), np.float32)
    discs = np.zeros(count, np.int32)
    for place, case in enumerate(cases):
        if case.labels is None or case.occupancy is None:
            raise ValueError(f"case {case.name} has no reference labels to train on")
        d, h, w = case.grid.shape
        image[place, :d, :h, :w] = np.moveaxis(case.image, 0, -1)
        occupancy[place, :d, :h, :w] = case.occupancy
        levels = [level for level in np.unique(case.labels) if level > 0][:MAX_DISCS]
        discs[place] = len(levels)
        if levels:
            centres[place] = np.resize(ndimage.center_of_mass(case.labels > 0, case.labels, levels), (MAX_DISCS, 3))
    # Arrays of the host here, of the devices once they are shared.
    fields: dict[str, Any] = {
        "image": image,
        "occupancy": occupancy,
        "extent": np.array([case.grid.shape for case in cases], np.int32),
        "ignore_above": np.array([case.ignore_above for case in cases], np.int32),
        "spacing_mm": np.array([case.grid.spacing_mm for case in cases], np.float32),
        "centres": centres,
        "discs": discs,
    }
    return Residents(**fields)


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
