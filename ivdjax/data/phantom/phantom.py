"""One synthetic lumbar spine from one seed: the case with its labels, and the truth about every visible disc."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import gamma
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.phantom.acquisition import acquire, sample_pose
from ivdjax.data.phantom.alignment_truth import AlignmentTruth, alignment_truth
from ivdjax.data.phantom.body import paint_body
from ivdjax.data.phantom.canvas import Canvas, make_canvas
from ivdjax.data.phantom.discs import disc_box, disc_distance, paint_bridge, paint_column, paint_wings
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.phantom.posterior import (
    SAC_POWER,
    canal_height_mm,
    column_coordinates,
    paint_arches,
    paint_canal,
)
from ivdjax.data.phantom.protocol import sample_protocol
from ivdjax.data.phantom.shapes import occupancy
from ivdjax.data.phantom.signal_truth import SignalTruth, signal_truth
from ivdjax.data.phantom.spine import TOP_LEVEL, Spine, sample_spine
from ivdjax.data.phantom.tissues import sample_signals
from ivdjax.volume import LUMBAR_DISCS, Case, Grid, LabelMap, Volume, level_name, to_world_mm

_ANATOMY, _TISSUES, _PAINT, _POSE, _SCAN, _PROTOCOL = range(6)


@dataclass(frozen=True)
class DiscTruth:
    """What is known of one visible disc.

    Attributes:
        level: 1 = L5/S1 upward.
        level_name: its anatomical name.
        labelled: whether the label map holds it (levels 1 to 7).
        whole: whether no part of it lies outside the field of view.
        centroid_mm: of its labelled voxels, RAS+ mm.
        volume_mm3: of its labelled voxels.
        anterior_height_mm, mid_height_mm, posterior_height_mm: distance between the endplates of the model, in the
            median plane, at 80 % of the way to the front edge, in the middle, and at 80 % to the back.
        ap_width_mm, lateral_width_mm: of the model.
        wear: 0 (young) to 1 (worn).
        slip_mm, posterior_overhang_mm, segmental_angle_deg: as docs/measures.md defines them, on the solids; None at
            L5/S1, where they take the sacrum.
        given_slip_mm: how far the spine above was moved to the front along the disc's plane.
        bulge_mm: how far the disc reaches past the bodies all round, before a slip.
        canal_ap_mm, canal_area_mm2: of the sac where it crosses the disc's plane, before the disc covers some of it.
        body_anterior_height_mm, body_middle_height_mm, body_posterior_height_mm, body_depth_mm: of the vertebra above,
            as docs/measures.md defines them, on the solid; None above the uppermost disc of the model.
        nucleus_signal, annulus_signal, marrow_signal, csf_signal: of the T2 channel as painted, before the scanner's
            gain, blur and noise, in a scale of its own: ratios count. None without that channel.
    """

    level: int
    level_name: str
    labelled: bool
    whole: bool
    centroid_mm: tuple[float, float, float]
    volume_mm3: float
    anterior_height_mm: float
    mid_height_mm: float
    posterior_height_mm: float
    ap_width_mm: float
    lateral_width_mm: float
    wear: float
    slip_mm: float | None
    posterior_overhang_mm: float | None
    segmental_angle_deg: float | None
    given_slip_mm: float
    bulge_mm: float
    canal_ap_mm: float
    canal_area_mm2: float
    body_anterior_height_mm: float | None
    body_middle_height_mm: float | None
    body_posterior_height_mm: float | None
    body_depth_mm: float | None
    nucleus_signal: float | None
    annulus_signal: float | None
    marrow_signal: float | None
    csf_signal: float | None

    def plain(self) -> dict[str, Any]:
        """The same as a mapping for JSON, rounded to a thousandth."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic case.

    Attributes:
        case: volume (C, D, H, W) of whole numbers as float32, and labels of the discs 1 to 7.
        truth: every visible disc, rising in level.
        all_labels: like the case's labels, but with every visible disc and always numbered.
        hard: the hard kind that was asked for, or empty.
    """

    case: Case
    truth: tuple[DiscTruth, ...]
    all_labels: LabelMap
    hard: str


def make_phantom(seed: int, options: PhantomOptions | None = None, visit: int = 1, name: str = "") -> Phantom:
    """Makes one case; the same arguments give the same bytes.

    Args:
        seed: the subject: its anatomy, tissues and the timing of the scan. Not negative.
        options: channels, field of view and hardness; the defaults of `PhantomOptions` if not given.
        visit: 1, 2 ...: another position, noise and coil of the same subject.
        name: the case's name; made from seed and visit if empty.

    Raises:
        ValueError: `seed` or `visit` is negative.
    """
    options = options or PhantomOptions()
    if seed < 0 or visit < 0:
        raise ValueError(f"seed and visit must not be negative, but are {seed} and {visit}")
    spine = sample_spine(_rng(seed, _ANATOMY), options.hard)
    protocol = sample_protocol(_rng(seed, _PROTOCOL), options)
    pose = sample_pose(_rng(seed, _POSE, visit), spine, options, protocol)
    planes = (("water", "fat") if set(options.channels) - {"t2"} else ()) + (
        ("t2",) if "t2" in options.channels else ()
    )
    signals = sample_signals(_rng(seed, _TISSUES), planes, spine.age, protocol)
    paint = _rng(seed, _PAINT)
    canvas = make_canvas(paint, len(planes), pose.shape, pose.patient)
    right, behind = column_coordinates(spine, canvas.points)
    skin = paint_body(canvas, spine, signals, right, behind, paint)
    paint_wings(canvas, spine, signals)
    paint_arches(canvas, spine, signals, paint)
    sac = paint_canal(canvas, spine, signals, right, behind, paint)
    paint_column(canvas, spine, signals, paint)
    if options.hard == "bridged":
        paint_bridge(canvas, spine, signals, int(paint.integers(1, LUMBAR_DISCS)))
    canvas.planes[:] *= occupancy(skin, canvas.edge_mm)
    every, places = _labels(canvas, spine)
    truth = _truths(canvas, spine, pose.world, places, sac, planes[-1] == "t2")
    array = acquire(canvas, spine, behind, _rng(seed, _SCAN, visit), options, protocol)

    kept = np.where(every <= LUMBAR_DISCS, every, 0).astype(np.uint8)
    labels = LabelMap((kept > 0).astype(np.uint8) if options.binary_labels else kept, pose.world, pose.file_grid)
    volume = Volume(array, pose.world, options.channels, pose.file_grid)
    # Discs come last: a bulge lies over the canal, and what is labelled is always disc.
    tissues = LabelMap(np.where(every > 0, np.uint8(1), canvas.tissues), pose.world, pose.file_grid)
    case = Case(name or f"phantom_{seed}_{visit}", f"phantom_{seed}", volume, labels, tissues=tissues)
    return Phantom(case, truth, LabelMap(every, pose.world, pose.file_grid), options.hard)


def _rng(seed: int, *stream: int) -> np.random.Generator:
    """A generator of its own for each purpose, so that one more draw for one leaves the others as they were."""
    return np.random.default_rng([seed, *stream])


def _labels(canvas: Canvas, spine: Spine) -> tuple[NDArray[np.uint8], dict[int, NDArray[np.intp]]]:
    """Labels (D, H, W) of all visible discs, and the index (N, 3) of each one's voxels by level.

    A voxel belongs to a disc if its centre lies inside: for surfaces smooth on the scale of a voxel the same as at
    least half of it.
    """
    every = np.zeros(canvas.planes.shape[1:], dtype=np.uint8)
    places = {}
    for disc in spine.discs:
        box = disc_box(canvas, disc)
        if disc.level < 1 or box is None:
            continue
        inside = disc_distance(disc, canvas.at(box)) <= 0
        inside &= every[box] == 0
        if not inside.any():
            continue
        every[box][inside] = disc.level
        places[disc.level] = np.argwhere(inside) + [side.start for side in box]
    return every, places


def _truths(canvas: Canvas, spine: Spine, world: NDArray, places: Mapping[int, NDArray[np.intp]],
            sac: NDArray[np.float64] | None, has_t2: bool) -> tuple[DiscTruth, ...]:  # fmt: skip
    """The facts about the visible discs, from solids and paint."""
    shape = canvas.planes.shape[1:]
    alignment = alignment_truth(spine, [level for level in places if level < TOP_LEVEL])
    truth = []
    for level, index in places.items():
        disc, own = spine.disc(level), alignment.get(level, AlignmentTruth())
        signal = signal_truth(canvas, spine, level) if has_t2 else SignalTruth()
        # A visible disc has a visible canal beside it, but for a field of view that ends at the back of the bodies.
        at = canal_height_mm(disc)
        ap, width = (0.0, 0.0) if sac is None else (float(np.interp(at, spine.z_mm, size)) for size in sac)
        area = ap * width * gamma(1 + 1 / SAC_POWER) ** 2 / gamma(1 + 2 / SAC_POWER)
        whole = bool((index.min(axis=0) > 0).all() and (index.max(axis=0) < np.array(shape) - 1).all())
        centroid = to_world_mm(world, index.mean(axis=0))
        truth.append(DiscTruth(
            level, level_name(level), level <= LUMBAR_DISCS, whole,
            (float(centroid[0]), float(centroid[1]), float(centroid[2])),
            len(index) * Grid((shape[0], shape[1], shape[2]), world).voxel_mm3,
            disc.height_at(0.8), disc.height_at(0.0), disc.height_at(-0.8),
            2 * (disc.half_ap + disc.bulge), 2 * (disc.half_width + disc.bulge), disc.wear,
            own.slip_mm, own.posterior_overhang_mm, own.segmental_angle_deg,
            spine.slip[1] if level == spine.slip[0] else 0.0, disc.bulge, ap, area,
            *own.body_heights_mm, own.body_depth_mm,
            signal.nucleus, signal.annulus, signal.marrow, signal.csf,
        ))  # fmt: skip
    return tuple(truth)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return [_rounded(item) for item in value] if isinstance(value, tuple) else value
