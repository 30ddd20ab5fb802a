"""Phantoms in exactly the layout of IVDM3Seg's public sets, for the tests of what a holder of that data does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ivdjax.data.phantom import PhantomOptions, PhantomSet, make_phantom
from ivdjax.imaging.files import write_volume
from ivdjax.volume import Case, Grid

SHIFT_MM = (6.0, -7.0, 5.0)
"""About how far the displaced label's grid lies off its image's: 10.5 mm; it is rounded to whole voxels."""

SMALL = PhantomOptions(shape=(18, 88, 64), spacing_mm=(4.0, 3.5, 3.5))


def write_ivdm3seg(
    root: Path,
    sets: int = 16,
    options: PhantomOptions = SMALL,
    seed: int = 3,
    labels_aside: bool = True,
    displaced: str = "16",
) -> Path:
    """Writes `<root>/<id>/<id>_{fat,inn,opp,wat}.nii` and `<id>_Labels.nii`, ids 01 upward, two visits a subject.

    The labels are binary uint8, in `<root>/labels/` or beside the images; those of the set `displaced` have their
    image's voxels under another affine, off by about `SHIFT_MM`: voxel by voxel they miss the discs, in the world they
    lie on them. `<root>/subjects.csv` has the columns case and subject.

    Args:
        root: folder to write into.
        sets: how many; an even number.
        options: size and voxels of the phantoms; their channels and labels are the challenge's.
        seed: of all of them.
        labels_aside: whether the labels lie in `labels/`.
        displaced: id of the set whose label lies on another grid; empty for none.

    Returns:
        The folder.
    """
    options = replace(options, channels=("fat", "inn", "opp", "wat"), binary_labels=True)
    phantoms = PhantomSet(sets, seed, 2, options)
    rows = ["case,subject"]
    for index in range(sets):
        _, subject, member_seed, visit = phantoms.member(index)
        name = f"{index + 1:02d}"
        case = make_phantom(member_seed, options, visit, name).case
        _write_images(root / name, case)
        _write_labels((root / "labels" if labels_aside else root / name), case, name == displaced)
        rows.append(f"{name},{subject}")
    (root / "subjects.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def _write_images(folder: Path, case: Case) -> None:
    folder.mkdir(parents=True)
    assert case.volume.native is not None
    for channel, array in zip(case.volume.channels, case.volume.array, strict=True):
        write_volume(folder / f"{case.name}_{channel}.nii", array.astype(np.int16), case.volume.native)


def _write_labels(folder: Path, case: Case, displaced: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    assert case.labels is not None and case.labels.native is not None
    array, native = case.labels.array, case.labels.native
    if displaced:
        array, native = _displaced(array, native, case.labels.affine)
    write_volume(folder / f"{case.name}_Labels.nii", array, native)


def _displaced(array: np.ndarray, native: Grid, affine: np.ndarray) -> tuple[np.ndarray, Grid]:
    """The label on a grid that lies off by whole voxels; the discs stay where they are in the world."""
    steps = np.rint(np.linalg.solve(affine[:3, :3], np.array(SHIFT_MM))).astype(int)
    moved = native.affine.copy()
    moved[:3, 3] += affine[:3, :3] @ steps
    return np.roll(array, tuple(-steps), axis=(0, 1, 2)), Grid(native.shape, moved)
