"""The signal of a disc's parts and of what lies beside it, as painted: before the scanner's gain, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.phantom.canvas import Canvas
from ivdjax.data.phantom.discs import disc_box, disc_distance, disc_surfaces
from ivdjax.data.phantom.posterior import canal_height_mm
from ivdjax.data.phantom.spine import Spine
from ivdjax.volume import TISSUES

_ACROSS_MM, _CSF_WITHIN_MM, _CSF_PERCENTILE = 8.0, 30.0, 90.0
_NUCLEUS, _ANNULUS, _HEIGHT, _MARROW = (0.30, 0.75), 0.12, 0.25, 0.3


@dataclass(frozen=True)
class SignalTruth:
    """Signal of the T2 plane in the regions of docs/measures.md, laid out by the solids; None: not in view."""

    nucleus: float | None = None
    annulus: float | None = None
    marrow: float | None = None
    csf: float | None = None


def signal_truth(canvas: Canvas, spine: Spine, level: int) -> SignalTruth:
    """The painted signal at the disc of a level; the last plane of the canvas is the T2 one."""
    plane, disc = canvas.planes[-1], spine.disc(level)
    box = disc_box(canvas, disc)
    if box is None:
        return SignalTruth()
    points = canvas.at(box)
    x, y, z = disc.frame.local(points)
    top, bottom = disc_surfaces(disc, x, y)
    inner = (disc_distance(disc, points) <= 0) & (np.abs(x) <= _ACROSS_MM)
    inner &= np.abs(z - (top + bottom) / 2) <= _HEIGHT * (top - bottom)
    length = disc.half_ap + disc.bulge
    share = (length - y) / (2 * length)
    nucleus = plane[box][inner & (share >= _NUCLEUS[0]) & (share <= _NUCLEUS[1])]
    annulus = plane[box][inner & ((share <= _ANNULUS) | (share >= 1 - _ANNULUS))]
    near = np.abs(canvas.points[2] - canal_height_mm(disc)) <= _CSF_WITHIN_MM
    fluid = plane[near & (canvas.tissues == TISSUES.index("canal") + 1)]
    beside = [median for at in (level, level - 1) if at > 0 and (median := _marrow(canvas, spine, at)) is not None]
    return SignalTruth(_mean(nucleus), _mean(annulus), float(np.mean(beside)) if beside else None,
                       float(np.percentile(fluid, _CSF_PERCENTILE)) if fluid.size else None)  # fmt: skip


def _marrow(canvas: Canvas, spine: Spine, level: int) -> float | None:
    """The median in the middle of the body above a disc."""
    index = level - spine.discs[0].level
    lower, upper, frame = spine.discs[index], spine.discs[index + 1], spine.body_frames[index]
    height = float(np.linalg.norm(upper.frame.centre_mm - lower.frame.centre_mm)) - (lower.height + upper.height) / 2
    half = (_ACROSS_MM, _MARROW * (lower.half_ap + upper.half_ap), _MARROW * height)
    box = canvas.frame_box(frame, half)
    if box is None:
        return None
    local = np.abs(frame.local(canvas.at(box)))
    values = canvas.planes[-1][box][(local <= np.reshape(half, (3, 1, 1, 1))).all(axis=0)]
    return float(np.median(values)) if values.size else None


def _mean(values: NDArray[np.floating]) -> float | None:
    return float(values.mean()) if values.size else None
