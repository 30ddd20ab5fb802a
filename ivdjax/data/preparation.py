"""From a case to the arrays that the networks see, and back to the file's own grid.

The working grid keeps the directions of the canonical axes. It is resampled in plane only, to the configuration's
spacing; sagittal slices stay as acquired. Slices thicker than `max_slice_mm` are resampled to `reformat_slice_mm`, and
so is an axial or coronal acquisition (h or w more than twice as coarse as d): its own slices then only make the plane
blurred, and its left-right axis, as fine as a pixel, would give hundreds of slices. Oblique scans keep their own
sagittal plane, which the scanner's operator laid along the spine; no volume is rotated. Beyond 20 degrees this is
remarked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import PreparationConfig
from ivdjax.imaging.files.image import MAX_VOXELS
from ivdjax.imaging.geometry import corners_mm, covering_box, cropped, obliqueness_deg, resample, respaced
from ivdjax.imaging.intensity import normalized, to_uint8
from ivdjax.volume import TISSUES, Case, CaseError, Grid, LabelMap

ABOVE_TOP_DISC_MM = 5.0
"""How far above the top outlined disc voxels still take part in a loss, where higher discs are not outlined."""

_OBLIQUE_DEG = 20.0
_REFORMAT_RATIO = 2.0


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case on the working grid.

    Attributes:
        name: the case.
        subject: whose visit it is.
        channels: names of the channels.
        image: uint8 (C, D, H, W); 0 to 255 stand for 0 to 1.
        labels: uint8 (D, H, W), 0 background, 1 = L5/S1 upward; None without a reference.
        occupancy: uint8 (D, H, W), the share of the voxel that is disc, 0 to 255 for 0 to 1; None without a reference.
            It keeps the outline's position inside a voxel: on a working grid of 1.25 mm, labels alone would cost a
            perfect prediction of 0.94 mm masks 4 to 5 % of Dice when it is restored, occupancy 0.2 %.
        ignore_above: the first h that takes part in a loss; 0: all do.
        grid: the working grid.
        source: the canonical grid of the file, full resolution.
        native: the file's own grid, in its own axis order.
        warnings: what was remarked on the way.
        fold: the fold that the subject table assigns, if it does.
        missing: channels that the case lacks, or that have one value everywhere; they are 0 everywhere.
        region: bool (D, H, W), the spine region, outside of which there are no discs; None: unknown, or not wanted.
        tissues: uint8 (D, H, W) with the values of `ivdjax.volume.TISSUES`, 0 elsewhere; None without a reference.
        classes: uint8 (D, H, W), what augmentation takes each voxel for; for training alone, else None.
        base: uint8 (D, H, W), the image of another sequence that the channels were made from; else None.
    """

    name: str
    subject: str
    channels: tuple[str, ...]
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    occupancy: NDArray[np.uint8] | None
    ignore_above: int
    grid: Grid
    source: Grid
    native: Grid
    warnings: tuple[str, ...] = ()
    fold: int | None = None
    missing: tuple[str, ...] = ()
    region: NDArray[np.bool_] | None = None
    tissues: NDArray[np.uint8] | None = None
    classes: NDArray[np.uint8] | None = None
    base: NDArray[np.uint8] | None = None


def prepare(
    case: Case, preparation: PreparationConfig, all_discs_outlined: bool, channels: Sequence[str] | None = None
) -> Prepared:
    """A case on its working grid, each channel normalised by its own percentiles.

    `channels` are those wanted, in their order; what the case lacks of them is 0. None stands for those it has.

    `all_discs_outlined` says whether every visible disc of the reference is outlined; if not, what lies more than
    `ABOVE_TOP_DISC_MM` above the top outlined disc is kept out of the losses of the region and the discs by
    `ignore_above` (all of it where no disc is outlined at all).

    Raises:
        CaseError: no channel shows anything, each of those that are there having one value everywhere; or the working
            grid would have more voxels than an MR volume can have.
    """
    source = case.volume.grid
    grid = _affordable(working_grid(source, preparation), source, case.name)
    remarks = [*case.warnings, *_geometry_remarks(source, grid, case.name)]
    wanted = tuple(channels if channels is not None else case.volume.channels)
    there = [channel for channel in wanted if channel in case.volume.channels]
    empty = []
    image = np.zeros((len(wanted), *grid.shape), np.uint8)
    for channel in there:
        values = case.volume.array[case.volume.channels.index(channel)]
        scaled, notes = normalized(values, preparation.percentiles)
        remarks += [f"case {case.name}: channel {channel}: {note}" for note in notes]
        if scaled.any():
            image[wanted.index(channel)] = to_uint8(resample(scaled, source, grid, order=1))
        else:
            empty.append(channel)
    if there and len(empty) == len(there):
        raise CaseError(
            f"case {case.name}: channel {', '.join(empty)} shows nothing: one value everywhere; export the image again"
        )
    labels = occupancy = None
    ignore_above = 0
    if case.labels is not None:
        labels, shares = resample_labels(case.labels.array, case.labels.grid, grid)
        occupancy = to_uint8(shares)
        if not all_discs_outlined:
            ignore_above = _first_row(labels, grid)
    tissues = None
    if case.tissues is not None:
        tissues, _ = resample_labels(case.tissues.array, case.tissues.grid, grid)
    return Prepared(
        case.name, case.subject, wanted, image, labels, occupancy, ignore_above, grid, source,
        case.volume.native or source, tuple(remarks),
        missing=tuple(channel for channel in wanted if channel not in there or channel in empty), tissues=tissues,
    )  # fmt: skip


def regrid(prepared: Prepared, spacing_mm: tuple[float | None, float, float]) -> Prepared:
    """A prepared case on a coarser grid over the same field of view, as the region and localization networks see it.

    None leaves the slices as they are. The region is left out.
    """
    grid = respaced(prepared.grid, spacing_mm)
    image = np.stack([to_uint8(resample(c, prepared.grid, grid, order=1) / 255.0) for c in prepared.image])
    labels = occupancy = None
    if prepared.labels is not None:
        labels, shares = resample_labels(prepared.labels, prepared.grid, grid)
        occupancy = to_uint8(shares)
    tissues = None
    if prepared.tissues is not None:
        tissues, _ = resample_labels(prepared.tissues, prepared.grid, grid)
    classes = None if prepared.classes is None else resample(prepared.classes, prepared.grid, grid, order=0)
    base = None
    if prepared.base is not None:
        base = to_uint8(resample(prepared.base, prepared.grid, grid, order=1) / 255.0)
    rows = prepared.ignore_above * prepared.grid.spacing_mm[1] / grid.spacing_mm[1]
    return replace(
        prepared, image=image, labels=labels, occupancy=occupancy, grid=grid, region=None, tissues=tissues,
        classes=classes, base=base,
        ignore_above=min(int(np.ceil(rows - 1e-6)), grid.shape[1]),
    )  # fmt: skip


def working_grid(source: Grid, preparation: PreparationConfig) -> Grid:
    """The grid on which a volume with the canonical grid `source` is processed; see the module's rules."""
    d_mm, h_mm, w_mm = source.spacing_mm
    thick = d_mm > preparation.max_slice_mm
    across = max(h_mm, w_mm) > _REFORMAT_RATIO * d_mm
    d_wanted = preparation.reformat_slice_mm if thick or across else None
    return respaced(source, (d_wanted, preparation.spacing_mm[0], preparation.spacing_mm[1]))


def _affordable(grid: Grid, source: Grid, case: str) -> Grid:
    """The working grid, if it has no more voxels than an image file may have."""
    if np.prod(grid.shape, dtype=float) > MAX_VOXELS:
        d_mm, h_mm, w_mm = (size * step for size, step in zip(source.shape, source.spacing_mm, strict=True))
        raise CaseError(
            f"case {case}: its field of view of {d_mm:.0f} x {h_mm:.0f} x {w_mm:.0f} mm would take "
            f"{' x '.join(str(size) for size in grid.shape)} voxels; crop the image to the lumbar spine"
        )
    return grid


def _geometry_remarks(source: Grid, grid: Grid, case: str) -> list[str]:
    """What is unusual about how the slices lie: turned, in another plane, thick, or but one."""
    remarks = []
    tilt = obliqueness_deg(source.affine)
    if tilt > _OBLIQUE_DEG:
        remarks.append(f"case {case}: the slices are turned {tilt:.0f} degrees against the body; used as acquired")
    d_mm, h_mm, w_mm = source.spacing_mm
    if max(h_mm, w_mm) > _REFORMAT_RATIO * d_mm:
        plane, slice_mm = ("axial", h_mm) if h_mm >= w_mm else ("coronal", w_mm)
        remarks.append(
            f"case {case}: {plane} slices of {slice_mm:.1f} mm, reformatted to sagittal ones of "
            f"{grid.spacing_mm[0]:.1f} mm: the sagittal plane is as coarse as they are"
        )
    elif not np.isclose(grid.spacing_mm[0], d_mm):
        remarks.append(f"case {case}: thick slices of {d_mm:.1f} mm, resampled to {grid.spacing_mm[0]:.1f} mm")
    if source.shape[0] == 1:
        remarks.append(f"case {case}: a single sagittal slice: what lies beside it is not known")
    return remarks


def resample_labels(
    labels: NDArray[np.uint8], source: Grid, target: Grid
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels (D, H, W) on another grid with smooth outlines, and the share of each voxel that is labelled (0 to 1).

    Each level's mask is resampled linearly; a voxel is foreground where they sum to more than one half, and takes the
    strongest level.
    """
    total = np.zeros(target.shape, np.float32)
    best = np.zeros(target.shape, np.float32)
    result = np.zeros(target.shape, np.uint8)
    for level, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is None:
            continue
        # Only the level's surroundings are resampled; the margin leaves room for the anti-alias filter.
        box = _widened(found, labels.shape, _margin(source, target))
        part = cropped(source, box)
        there = covering_box(target, corners_mm(part))
        share = resample((labels[box] == level).astype(np.float32), part, cropped(target, there), order=1)
        total[there] += share
        wins = share > best[there]
        result[there][wins] = level
        best[there][wins] = share[wins]
    result[total <= 0.5] = 0
    return result, total


def restore_probability(probability: NDArray[np.float32], prepared: Prepared) -> NDArray[np.float32]:
    """Probabilities (D, H, W) on the working grid at the voxels of the file's canonical grid, linearly.

    Raises:
        ValueError: the array does not lie on the working grid.
    """
    return resample(probability, prepared.grid, prepared.source, order=1)


def restore_labels(
    levels: NDArray[np.uint8],
    prepared: Prepared,
    probability: NDArray[np.float32] | None = None,
    threshold: float = 0.5,
) -> LabelMap:
    """Levels (D, H, W) on the working grid as a label map at the file's resolution, ready for `write_labels`.

    Without `probability` (D, H, W) the levels' own outlines are interpolated (`resample_labels`). With it, outlines are
    finer: foreground is where the interpolated probability exceeds `threshold`, no farther than one working voxel from
    a labelled disc, and takes the level of the nearest one.

    Raises:
        ValueError: an array does not lie on the working grid.
    """
    if levels.shape != prepared.grid.shape:
        raise ValueError(f"levels of shape {levels.shape} must lie on the working grid, {prepared.grid.shape}")
    if probability is None:
        restored, _ = resample_labels(levels, prepared.grid, prepared.source)
    else:
        near = resample(_spread(levels, prepared.grid), prepared.grid, prepared.source, order=0)
        restored = np.where(restore_probability(probability, prepared) > threshold, near, 0).astype(np.uint8)
    return LabelMap(restored, prepared.source.affine, prepared.native)


def restore_tissues(
    probability: NDArray[np.float32], discs: LabelMap, prepared: Prepared, threshold: float = 0.5
) -> LabelMap:
    """A tissue map at the file's resolution: its discs, and round them the likelier of vertebra and canal.

    Args:
        probability: of vertebra and canal (2, D, H, W), on the working grid.
        discs: numbered discs, as `restore_labels` gives them.
        prepared: the case.
        threshold: probability above which a voxel is one of the two.
    """
    vertebra, canal = (restore_probability(one, prepared) for one in probability)
    found = np.where(vertebra >= canal, TISSUES.index("vertebra") + 1, TISSUES.index("canal") + 1)
    found[np.maximum(vertebra, canal) <= threshold] = 0
    found[discs.array > 0] = TISSUES.index("disc") + 1
    return discs.with_array(found.astype(np.uint8))


def _first_row(labels: NDArray[np.uint8], grid: Grid) -> int:
    """The first h no more than `ABOVE_TOP_DISC_MM` above the highest labelled voxel; all rows without a label."""
    rows = np.nonzero(labels.any(axis=(0, 2)))[0]
    if rows.size == 0:
        return grid.shape[1]
    return max(0, int(np.ceil(rows[0] - ABOVE_TOP_DISC_MM / grid.spacing_mm[1] - 1e-6)))


def _spread(levels: NDArray[np.uint8], grid: Grid) -> NDArray[np.uint8]:
    """The levels grown by one voxel to all sides, each new voxel with the level nearest in mm."""
    found = ndimage.find_objects((levels > 0).astype(np.uint8))
    if not found:
        return levels.copy()
    box = _widened(found[0], levels.shape, (1, 1, 1))
    part = levels[box]
    nearest = ndimage.distance_transform_edt(
        part == 0, sampling=grid.spacing_mm, return_distances=False, return_indices=True
    )
    grown = ndimage.binary_dilation(part > 0, np.ones((3, 3, 3), bool))
    result = np.zeros_like(levels)
    result[box] = np.where(grown, part[tuple(nearest)], 0)
    return result


def _margin(source: Grid, target: Grid) -> tuple[int, int, int]:
    """Voxels of `source` around a label that the smoothed mask can reach."""
    factors = [t / s for s, t in zip(source.spacing_mm, target.spacing_mm, strict=True)]
    d, h, w = (2 + int(np.ceil(1.5 * max(1.0, factor))) for factor in factors)
    return d, h, w


def _widened(
    box: tuple[slice, ...], shape: tuple[int, ...], margin: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    d, h, w = (
        slice(max(0, part.start - m), min(n, part.stop + m)) for part, n, m in zip(box, shape, margin, strict=True)
    )
    return d, h, w
