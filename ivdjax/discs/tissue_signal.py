"""Signal of a disc's nucleus and annulus, of the marrow beside it and of the fluid in the canal, on T2-weighted images.

The parts are told by shape alone: what is bright is what is to be measured. A smooth bias of the coils is taken out
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.discs.canal import CanalLine
from ivdjax.discs.disc_axes import DiscAxes
from ivdjax.discs.vertebra import Body

NUCLEUS_SHARE, ANNULUS_SHARE = (0.30, 0.75), 0.12
"""The nucleus lies between these shares of the AP width counted from the front; the annulus in this share of it at each
end."""
MIDDLE_SHARE = 0.25
"""Of a disc's height, to both sides of its middle: what is nearer to the end plates is left out."""
HALF_WIDTH_MM = 8.0
"""Signal is read this far to both sides of the median plane."""
CSF_WITHIN_MM, CSF_PERCENTILE = 30.0, 90.0
_MARROW_DEPTH, _MARROW_HEIGHT = 0.3, 0.3
"""Shares of a body's depth and height, to both sides of its middle: the marrow that is read."""
_LEAST_VOXELS = 12
_MOST_VOXELS = 4000
"""Of each tissue, for the fit of the bias."""
_MOST_BIAS = np.log(4.0)
_FITS = 3
"""Each leaves out what lies far from the one before."""


@dataclass(frozen=True)
class DiscSignal:
    """Mean signal of parts of one disc and of what lies beside it, in the image's own units; None where not seen.

    Attributes:
        nucleus, annulus: of the disc.
        marrow: median over the middle of the bodies beside it.
        csf: 90th percentile of the canal within 30 mm along it.
    """

    nucleus: float | None
    annulus: float | None
    marrow: float | None
    csf: float | None


@dataclass(frozen=True, eq=False)
class Bias:
    """A smooth factor over the image: exp of a polynomial of second order in mm about a centre."""

    centre_mm: NDArray[np.float64]
    scale_mm: NDArray[np.float64]
    weights: NDArray[np.float64]

    def at(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """The factor (N,) at points (N, 3), about 1 in the mean; divide by it."""
        log = _terms((points_mm - self.centre_mm) / self.scale_mm) @ self.weights
        return np.asarray(np.exp(np.clip(log, -_MOST_BIAS, _MOST_BIAS)))


def fit_bias(tissues: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Bias | None:
    """The bias that makes every tissue alike all along the spine; None with too little to fit it to.

    The logarithm of the signal is taken as a level of each tissue plus one polynomial of second order from front to
    back and from top to bottom, fitted with the tenths of each tissue left out that lie furthest above and below the
    fit.

    Args:
        tissues: points (N, 3) in mm and signal (N,) by tissue.
    """
    points: list[NDArray[np.float64]] = []
    logs: list[NDArray[np.float64]] = []
    levels: list[NDArray[np.int_]] = []
    for own_points, signal in tissues.values():
        step = max(1, len(signal) // _MOST_VOXELS)
        own_points, signal = own_points[::step], signal[::step]
        positive = signal > 0
        if positive.sum() < 100:
            continue
        points.append(own_points[positive])
        logs.append(np.log(signal[positive]))
        levels.append(np.full(int(positive.sum()), len(levels)))
    if not points:
        return None
    where, which, log = np.concatenate(points), np.concatenate(levels), np.concatenate(logs)
    centre, scale = where.mean(axis=0), np.maximum(np.ptp(where, axis=0) / 2, 1.0)
    terms = np.concatenate([_terms((where - centre) / scale), np.eye(len(points))[which]], axis=1)
    kept = np.ones(len(log), bool)
    # Odd voxels are told by their distance from the fit: leaving out the darkest and brightest would flatten the bias.
    for _ in range(_FITS):
        fitted, *_ = np.linalg.lstsq(terms[kept], log[kept], rcond=None)
        off = log - terms @ fitted
        bounds = [np.percentile(off[which == tissue], (10, 90)) for tissue in range(len(points))]
        low, high = np.array(bounds)[which].T
        kept = (off >= low) & (off <= high)
    return Bias(centre, scale, fitted[: terms.shape[1] - len(points)])


def _terms(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polynomial terms (N, 4) of positions in a unit box; from side to side a slab is too thin to tell."""
    y, z = unit[:, 1], unit[:, 2]
    return np.stack([y, z, y * z, z * z], axis=1)


def nucleus_and_annulus(
    local_mm: NDArray[np.float64], signal: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Mean signal of a disc's nucleus and annulus; None for a part of fewer than twelve voxels.

    Args:
        local_mm: the disc's voxels (N, 3) along its own right, anterior and superior axes.
        signal: of them (N,).
    """
    strip = np.abs(local_mm[:, 0]) <= HALF_WIDTH_MM
    right, along, up = local_mm[strip].T
    signal = signal[strip]
    if len(along) < 2 * _LEAST_VOXELS:
        return None, None
    back, front = np.percentile(along, (0.5, 99.5))
    share = (front - along) / max(front - back, 1e-6)
    # The middle of the height bends with the disc, from front to back and from side to side.
    terms = np.stack([np.ones_like(along), along, along**2, right], axis=1)
    middle, *_ = np.linalg.lstsq(terms, up, rcond=None)
    off = np.abs(up - terms @ middle)
    half = float(np.sqrt(3.0) * np.sqrt(np.mean(off**2)))  # of a slab of even density
    inner = off <= 2 * MIDDLE_SHARE * half
    nucleus = inner & (share >= NUCLEUS_SHARE[0]) & (share <= NUCLEUS_SHARE[1])
    annulus = inner & ((share <= ANNULUS_SHARE) | (share >= 1 - ANNULUS_SHARE))
    return _mean(signal[nucleus]), _mean(signal[annulus])


def marrow_voxels(points_mm: NDArray[np.float64], body: Body) -> NDArray[np.bool_]:
    """Which points (N, 3) lie in the middle of a body."""
    right, along, up = body.axes.project_mm(points_mm).T
    return np.asarray(
        (np.abs(right) <= HALF_WIDTH_MM) & (np.abs(along) <= _MARROW_DEPTH * body.depth_mm)
        & (np.abs(up) <= _MARROW_HEIGHT * body.middle_height_mm)
    )  # fmt: skip


def median_signal(values: NDArray[np.float64]) -> float | None:
    """The median of a tissue's signal (N,); None for fewer than twelve voxels."""
    return float(np.median(values)) if len(values) >= _LEAST_VOXELS else None


def csf_signal(points_mm: NDArray[np.float64], signal: NDArray[np.float64], line: CanalLine,
               disc: DiscAxes) -> float | None:  # fmt: skip
    """The 90th percentile of the canal's signal (N,) at points (N, 3) within 30 mm of a disc's plane, along the canal.

    None where the canal does not reach the disc's plane, or shows fewer than twelve voxels.
    """
    heights = disc.project_mm(line.points_mm)[:, 2]
    at = int(np.argmin(np.abs(heights)))
    if abs(heights[at]) > CSF_WITHIN_MM / 2:
        return None
    near = np.abs((points_mm - line.points_mm[at]) @ line.tangents[at]) <= CSF_WITHIN_MM
    values = signal[near]
    return float(np.percentile(values, CSF_PERCENTILE)) if len(values) >= _LEAST_VOXELS else None


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) >= _LEAST_VOXELS else None
