"""What is read of a level's wear: heights, signal, overhang, slip, canal and angles, from outlines of all tissues.

docs/measures.md has every definition, with a drawing. A measure that the image does not support is None, and the
reason stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.alignment import lower_face, overhang_mm, plate_angle_deg, slip_mm
from ivdjax.discs.canal import CanalLine, cross_section, crossing, fit_canal
from ivdjax.discs.cuts import cut_sides
from ivdjax.discs.disc_axes import DiscAxes, fit_axes
from ivdjax.discs.tissue_signal import (
    Bias,
    DiscSignal,
    csf_signal,
    fit_bias,
    marrow_voxels,
    median_signal,
    nucleus_and_annulus,
)
from ivdjax.discs.vertebra import Body, EndPlate, fit_body, reaches_disc
from ivdjax.imaging.geometry import covering_box
from ivdjax.volume import TISSUES, LabelMap, to_world_mm

NOT_T2 = "the image is not known to be T2-weighted without fat suppression"
NO_BODY_ABOVE = "the vertebra above is not outlined whole"
NO_BODIES = "a vertebra beside the disc is not outlined whole"
NO_SACRUM = "the sacrum is not outlined"
UNSURE_FACE = "the lower face of the disc, which stands for the sacrum, is unsure"
FEW_VOXELS = "too few voxels show it"
NO_CSF = "the canal is not outlined beside the disc"
NO_LEVELS = "not all discs from L5/S1 to T12/L1 are whole in height"
NO_HEIGHT = "the heights of the disc are not given"
CUT_DISC = "the field of view cuts the disc"
SURE_OUTLINE = 0.7
"""The lower face of a disc stands for the sacrum where its outline is expected to have this Dice or more."""


@dataclass(frozen=True)
class LevelMeasures:
    """What is measured of one disc's level. Lengths in mm, None with its reason in `missing` where not supported.

    Attributes:
        level: of the disc, 1 = L5/S1; the vertebra above it is L5 there.
        nucleus_signal, annulus_signal, marrow_signal, csf_signal: in the image's own units, the bias taken out; of
            T2-weighted images alone.
        nucleus_over_csf, nucleus_over_marrow, nucleus_over_annulus: their ratios.
        disc_body_height_index: the disc's mean height over the mean middle height of the bodies beside it. The other
            index, `disc_height_index` of the disc table, is over the disc's AP width.
        posterior_overhang_mm: how far the disc reaches behind the line between the neighbouring end plates' corners.
        slip_mm: the body above in front of the body below; `slip_percent` is of the depth of the end plate below.
        canal_ap_mm, canal_area_mm2: of the canal at the disc.
        body_canal_ap_mm, body_canal_area_mm2: of the canal at the middle of the vertebra above.
        body_anterior_height_mm, body_middle_height_mm, body_posterior_height_mm: of the vertebra above;
            `body_height_ratio` is anterior over posterior, `body_depth_mm` the mean length of its end plates.
        segmental_angle_deg: between the upper end plates of the vertebrae above and below; positive: lordosis.
        missing: reason by the name of the measure.
    """

    level: int
    nucleus_signal: float | None = None
    annulus_signal: float | None = None
    marrow_signal: float | None = None
    csf_signal: float | None = None
    nucleus_over_csf: float | None = None
    nucleus_over_marrow: float | None = None
    nucleus_over_annulus: float | None = None
    disc_body_height_index: float | None = None
    posterior_overhang_mm: float | None = None
    slip_mm: float | None = None
    slip_percent: float | None = None
    canal_ap_mm: float | None = None
    canal_area_mm2: float | None = None
    body_canal_ap_mm: float | None = None
    body_canal_area_mm2: float | None = None
    body_anterior_height_mm: float | None = None
    body_middle_height_mm: float | None = None
    body_posterior_height_mm: float | None = None
    body_height_ratio: float | None = None
    body_depth_mm: float | None = None
    segmental_angle_deg: float | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float | None]:
        """The measures by name, in their order."""
        return {name: getattr(self, name) for name in LEVEL_MEASURES}


LEVEL_MEASURES: tuple[str, ...] = tuple(f.name for f in fields(LevelMeasures) if f.name not in ("level", "missing"))
"""Names of the measures of a level, in their order."""
SIGNAL_MEASURES = LEVEL_MEASURES[:7]
"""Those that only a T2-weighted image gives."""


@dataclass(frozen=True)
class SpineMeasures:
    """All levels, and what is measured of the spine as a whole.

    Attributes:
        levels: by level, rising.
        lordosis_l1_l5_deg: between the upper end plate of L1 and the lower one of L5.
        lordosis_l1_s1_deg: between the upper end plate of L1 and the lower face of L5/S1, which stands for that of S1.
        missing: reason by the name of either.
    """

    levels: Mapping[int, LevelMeasures]
    lordosis_l1_l5_deg: float | None
    lordosis_l1_s1_deg: float | None
    missing: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Disc:
    """One disc as the measures need it: its mask in a box of the grid, its voxels' places and its axes."""

    box: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]
    points_mm: NDArray[np.float64]
    axes: DiscAxes
    cuts: tuple[str, ...]


def measure_spine(
    labels: LabelMap, tissues: LabelMap, image: NDArray | None, mean_heights_mm: Mapping[int, float] | None = None,
    outline_confidence: Mapping[int, float] | None = None,
) -> SpineMeasures:  # fmt: skip
    """Measures every level of a spine whose discs, vertebrae and canal are outlined.

    Args:
        labels: numbered discs (D, H, W), 1 = L5/S1.
        tissues: values of `ivdjax.volume.TISSUES` on the same grid.
        image: a T2-weighted image (D, H, W) on the same grid; None: there is none, and no signal is given.
        mean_heights_mm: mean of a disc's three heights by level, as the disc table has them; a level without one
            gets no index.
        outline_confidence: expected Dice by level; a level without one is taken as sure.

    Raises:
        ValueError: the maps or the image lie on different grids.
    """
    if not labels.grid.matches(tissues.grid) or (image is not None and image.shape != labels.array.shape):
        raise ValueError("labels, tissues and image must lie on one grid; resample them first")
    discs = _discs(labels)
    vertebrae = tissues.array == TISSUES.index("vertebra") + 1
    canal = tissues.array == TISSUES.index("canal") + 1
    line = fit_canal(canal, labels.affine)
    middle = None if line is None else line.points_mm
    bodies = {
        level: fit_body(vertebrae, labels.affine, disc.axes, discs[level + 1].axes, middle)
        for level, disc in discs.items() if level + 1 in discs
    }  # fmt: skip
    faces = {1: _sacral_face(labels, discs[1], outline_confidence or {})} if 1 in discs else {}
    signals = {} if image is None else _signals(image, labels, vertebrae, canal, discs, bodies, line)
    # The marrow of a body that lacks a corner is sound; its heights and plates are not.
    bodies = {
        level: body if body is None or _is_whole(body, discs[level], discs[level + 1], labels.affine) else None
        for level, body in bodies.items()
    }
    levels = {}
    for level, disc in discs.items():
        found: dict[str, float | None] = {}
        missing: dict[str, str] = {}
        _add_signal(found, missing, signals.get(level), image is not None)
        above, below = bodies.get(level), bodies.get(level - 1)
        _add_height_index(found, missing, (mean_heights_mm or {}).get(level), above, below)
        _add_alignment(found, missing, level, disc, labels.affine, above, below, faces.get(level))
        for prefix, axes in (("", disc.axes), ("body_", None if above is None else above.axes)):
            crossed = None if line is None or axes is None else crossing(line, axes)
            section = cross_section(canal, labels.affine, crossed)
            for name in ("ap_mm", "area_mm2"):
                found[f"{prefix}canal_{name}"] = getattr(section, name)
                if name in section.missing:
                    missing[f"{prefix}canal_{name}"] = section.missing[name] if axes is not None else NO_BODY_ABOVE
        _add_body(found, missing, above)
        levels[level] = LevelMeasures(level, **found, missing=missing)
    return SpineMeasures(levels, *_lordosis(bodies, faces.get(1)))


def _discs(labels: LabelMap) -> dict[int, _Disc]:
    found = {}
    for level, box in enumerate(ndimage.find_objects(labels.array), start=1):
        if box is None:
            continue
        mask = labels.array[box] == level
        index = np.argwhere(mask) + [side.start for side in box]
        points = np.asarray(to_world_mm(labels.affine, index.astype(float)), dtype=float)
        cuts = cut_sides(index, labels.array.shape)
        found[level] = _Disc((box[0], box[1], box[2]), mask, points, fit_axes(points, labels.affine, not cuts), cuts)
    return found


def _is_whole(body: Body, below: _Disc, above: _Disc, affine: NDArray[np.float64]) -> bool:
    """Whether both end plates of a body lie along their discs."""
    return all(
        reaches_disc(plate, side, *_with_rim(disc, affine))
        for plate, side, disc in ((body.upper, 1, above), (body.lower, -1, below))
    )


def _with_rim(disc: _Disc, affine: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """A disc's mask and its affine, with an empty rim in plane, where it ends; at its sides it goes on."""
    inner = np.array(affine)
    inner[:3, 3] = to_world_mm(affine, np.array([disc.box[0].start, disc.box[1].start - 1.0, disc.box[2].start - 1.0]))
    return np.pad(disc.mask, ((0, 0), (1, 1), (1, 1))), inner


def _sacral_face(labels: LabelMap, disc: _Disc, outline_confidence: Mapping[int, float]) -> EndPlate | None:
    """The lower face of L5/S1, where it is whole and its outline is sure."""
    if {"top", "bottom", "front", "back"} & set(disc.cuts) or outline_confidence.get(1, 1.0) < SURE_OUTLINE:
        return None
    return lower_face(labels.array == 1, labels.affine, disc.axes)


def _signals(
    image: NDArray, labels: LabelMap, vertebrae: NDArray[np.bool_], canal: NDArray[np.bool_],
    discs: Mapping[int, _Disc], bodies: Mapping[int, Body | None], line: CanalLine | None,
) -> dict[int, DiscSignal]:  # fmt: skip
    """The signal of every level, the bias taken out."""
    marrow = {level: _voxels_near(image, vertebrae, labels, body) for level, body in bodies.items() if body is not None}
    fluid = _voxels(image, canal, labels)
    parts = {"marrow": tuple(np.concatenate(part) for part in zip(*marrow.values(), strict=True))} if marrow else {}
    bias = fit_bias(parts)  # type: ignore[arg-type]
    medians = {level: median_signal(_flat(*own, bias)) for level, own in marrow.items()}
    fluid_signal = _flat(*fluid, bias)
    found = {}
    for level, disc in discs.items():
        values = image[disc.box][disc.mask].astype(float)
        sound = np.isfinite(values)
        points = disc.points_mm[sound]
        nucleus, annulus = nucleus_and_annulus(disc.axes.project_mm(points), _flat(points, values[sound], bias))
        beside = [value for near in (level, level - 1) if (value := medians.get(near)) is not None]
        csf = None if line is None else csf_signal(fluid[0], fluid_signal, line, disc.axes)
        found[level] = DiscSignal(nucleus, annulus, float(np.mean(beside)) if beside else None, csf)
    return found


def _voxels(
    image: NDArray, mask: NDArray[np.bool_], labels: LabelMap, offset: tuple[int, ...] = (0, 0, 0)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (N, 3) in mm and signal (N,) of a mask's voxels that hold a number."""
    values = image[mask].astype(float)
    sound = np.isfinite(values)
    index = (np.argwhere(mask) + offset)[sound].astype(float)
    return np.asarray(to_world_mm(labels.affine, index)), values[sound]


def _voxels_near(image: NDArray, vertebrae: NDArray[np.bool_], labels: LabelMap,
                 body: Body) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Places and signal of the marrow in the middle of one body."""
    reach = (8.0, body.depth_mm / 2, body.middle_height_mm / 2)
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * reach
    box = covering_box(labels.grid, body.axes.world_mm(corners))
    points, signal = _voxels(image[box], vertebrae[box], labels, tuple(side.start for side in box))
    kept = marrow_voxels(points, body)
    return points[kept], signal[kept]


def _flat(points_mm: NDArray[np.float64], signal: NDArray[np.float64], bias: Bias | None) -> NDArray[np.float64]:
    return signal if bias is None else signal / bias.at(points_mm)


def _add_signal(
    found: dict[str, float | None], missing: dict[str, str], signal: DiscSignal | None, is_t2: bool
) -> None:
    if not is_t2 or signal is None:
        missing |= dict.fromkeys(SIGNAL_MEASURES, FEW_VOXELS if is_t2 else NOT_T2)
        return
    reasons = {"nucleus": FEW_VOXELS, "annulus": FEW_VOXELS, "marrow": NO_BODIES, "csf": NO_CSF}
    for part, reason in reasons.items():
        found[f"{part}_signal"] = getattr(signal, part)
        if getattr(signal, part) is None:
            missing[f"{part}_signal"] = reason
    for part in ("csf", "marrow", "annulus"):
        name, other = f"nucleus_over_{part}", getattr(signal, part)
        if signal.nucleus is None or other is None or other <= 0:
            missing[name] = FEW_VOXELS if signal.nucleus is None else reasons[part]
        else:
            found[name] = signal.nucleus / other


def _add_height_index(
    found: dict[str, float | None], missing: dict[str, str], height_mm: float | None, above: Body | None,
    below: Body | None,
) -> None:  # fmt: skip
    beside = [body.middle_height_mm for body in (above, below) if body is not None]
    if height_mm is None:
        missing["disc_body_height_index"] = NO_HEIGHT
    elif not beside:
        missing["disc_body_height_index"] = NO_BODIES
    else:
        found["disc_body_height_index"] = height_mm / float(np.mean(beside))


def _add_alignment(
    found: dict[str, float | None], missing: dict[str, str], level: int, disc: _Disc, affine: NDArray[np.float64],
    above: Body | None, below: Body | None, sacral: EndPlate | None,
) -> None:  # fmt: skip
    """Overhang, slip and segmental angle; at L5/S1 the angle alone, with the disc's lower face for the sacrum's."""
    names = ("posterior_overhang_mm", "slip_mm", "slip_percent")
    under = below.upper if below is not None else sacral
    if above is None or under is None:
        reason = NO_BODY_ABOVE if above is None else UNSURE_FACE if level == 1 else NO_BODIES
        missing |= dict.fromkeys((*names, "segmental_angle_deg"), reason)
        return
    found["segmental_angle_deg"] = plate_angle_deg(under, above.upper)
    if below is None:
        missing |= dict.fromkeys(names, NO_SACRUM)
        return
    slip = slip_mm(below.upper, above.lower)
    found |= {"slip_mm": slip, "slip_percent": 100 * slip / below.upper.depth_mm}
    if {"front", "back", "top", "bottom"} & set(disc.cuts):
        missing["posterior_overhang_mm"] = CUT_DISC
        return
    found["posterior_overhang_mm"] = overhang_mm(*_with_rim(disc, affine), below.upper, above.lower)
    if found["posterior_overhang_mm"] is None:
        missing["posterior_overhang_mm"] = FEW_VOXELS


def _add_body(found: dict[str, float | None], missing: dict[str, str], body: Body | None) -> None:
    names = ("anterior_height_mm", "middle_height_mm", "posterior_height_mm", "height_ratio", "depth_mm")
    if body is None:
        missing |= {f"body_{name}": NO_BODY_ABOVE for name in names}
    else:
        found |= {f"body_{name}": getattr(body, name) for name in names}


def _lordosis(
    bodies: Mapping[int, Body | None], sacral: EndPlate | None
) -> tuple[float | None, float | None, dict[str, str]]:
    """Lordosis from L1 (the body above L1/2, level 5) to L5 and to S1, and why either is missing."""
    first, last = bodies.get(5), bodies.get(1)
    missing = {}
    lumbar = None if first is None or last is None else plate_angle_deg(last.lower, first.upper)
    sacrum = None if first is None or sacral is None else plate_angle_deg(sacral, first.upper)
    if lumbar is None:
        missing["lordosis_l1_l5_deg"] = NO_LEVELS
    if sacrum is None:
        missing["lordosis_l1_s1_deg"] = NO_LEVELS if first is None else UNSURE_FACE
    return lumbar, sacrum, missing
