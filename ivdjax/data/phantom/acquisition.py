"""The scanner: where its grid lies in the patient and in the world, and what it makes of the tissue's signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.data.phantom.canvas import Canvas
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.phantom.protocol import Protocol
from ivdjax.data.phantom.shapes import Array, rotation
from ivdjax.data.phantom.spine import DiscShape, Spine
from ivdjax.volume import Grid

_CLINICAL_SLICES = (15, 40)
_MOST_VOXELS = 2.9e6


@dataclass(frozen=True, eq=False)
class Pose:
    """The grid (D, H, W) and two affines of its index: to the patient's own mm, and to the file's RAS+ mm."""

    shape: tuple[int, int, int]
    patient: NDArray[np.float64]
    world: NDArray[np.float64]

    @property
    def file_grid(self) -> Grid:
        """The same voxels in the axis order of converted sagittal scans: to the back, the top and the right."""
        d, h, w = self.world[:3, 0], self.world[:3, 1], self.world[:3, 2]
        stored = np.eye(4)
        stored[:3, :3] = np.stack([w, -h, -d], axis=1)
        stored[:3, 3] = self.world[:3, 3] + d * (self.shape[0] - 1) + h * (self.shape[1] - 1)
        return Grid((self.shape[2], self.shape[1], self.shape[0]), stored)


def sample_pose(rng: np.random.Generator, spine: Spine, options: PhantomOptions, protocol: Protocol) -> Pose:
    """Lays the field of view over the spine: seven discs whole in view, and 8 to 10 visible where the height allows."""
    shape, spacing = _size(rng, spine, options, protocol)
    height, width = shape[1] * spacing[1], shape[2] * spacing[2]
    turn = rotation(*rng.normal(0, 1, 3) * (1.2, 1.0, 1.5))
    # Rows of `turn` are the image's right, front and top in the patient; indices run left, down and back.
    steps = np.stack([-turn[0] * spacing[0], -turn[2] * spacing[1], -turn[1] * spacing[2]], axis=1)
    top = _top_mm(rng, spine, turn, height, options.hard)
    seven = [spine.disc(level) for level in range(1, 8)]
    across = np.array([turn @ d.frame.centre_mm for d in seven])
    middle = (across[:, 0].min() + across[:, 0].max()) / 2 + rng.normal(0, 0.6)
    back_share = rng.uniform(0.36, 0.46)
    wall = np.median([(turn @ d.frame.world((0, -d.half_ap, 0)))[1] for d in seven])
    front = wall + width * (1 - back_share)
    low, high = _extent(seven, turn, axis=1)
    front = float(np.clip(front, high + 8, low - 8 + width)) if width > high - low + 16 else (low + high + width) / 2
    corner = turn.T @ np.array([middle + (shape[0] - 1) / 2 * spacing[0], front, top])
    patient = np.eye(4)
    patient[:3, :3], patient[:3, 3] = steps, corner
    # The patient lies a little askew; the scanner's isocentre is near the middle of the field of view.
    askew = rotation(*rng.normal(0, 1, 3) * (2.0, 2.0, 2.0))
    world = np.eye(4)
    centre = patient[:3, :3] @ ((np.array(shape) - 1) / 2) + corner
    world[:3, :3] = askew @ steps
    world[:3, 3] = askew @ (corner - centre) + rng.normal(0, 1, 3) * (3, 8, 15)
    return Pose(shape, patient, world)


def _size(rng: np.random.Generator, spine: Spine, options: PhantomOptions,
          protocol: Protocol) -> tuple[tuple[int, int, int], NDArray]:  # fmt: skip
    """Shape and spacing; slabs vary in slices, and strong scoliosis gets the slices that its discs need."""
    if protocol.size_mm is not None and protocol.spacing_mm is not None:
        return _drawn_size(spine, options, protocol.size_mm, protocol.spacing_mm)
    depth, height, width = options.grid_shape
    spacing = np.array(options.grid_spacing_mm)
    if options.shape is None and options.field == "slab":
        depth = int(rng.integers(13, 31))
    elif options.shape is None:
        seven = [spine.disc(level) for level in range(1, 8)]
        low, high = _extent(seven, np.eye(3), axis=0)
        depth = max(depth, int(np.ceil((high - low + 8) / spacing[0] / 2)) * 2)
    return (depth, height, width), spacing


def _drawn_size(spine: Spine, options: PhantomOptions, size_mm: tuple[float, float, float],
                spacing_mm: tuple[float, float, float]) -> tuple[tuple[int, int, int], NDArray]:  # fmt: skip
    """Shape and spacing for a field of that size, enlarged where the seven discs need it; stated ones go first.

    Where the voxels would be more than can be painted in a few seconds, they are made larger in plane.
    """
    seven = [spine.disc(level) for level in range(1, 8)]
    low, high = _extent(seven, np.eye(3), axis=0)
    bottom, top = _extent(seven, np.eye(3), axis=2)
    across, tall, wide = size_mm[0], max(size_mm[1], top - bottom + 30), size_mm[2]
    thick, fine, _ = spacing_mm
    if options.spacing_mm is not None:
        thick = options.spacing_mm[0]
    depth = max(int(np.clip(round(across / thick), *_CLINICAL_SLICES)), int(np.ceil((high - low + 8) / thick)))
    if options.shape is not None:
        depth, rows, columns = options.shape
        fine = max(fine, tall / rows)
    else:
        fine = max(fine, float(np.sqrt(depth * tall * wide / _MOST_VOXELS)))
    spacing = np.array(options.spacing_mm or (thick, fine, fine))
    if options.shape is None:
        rows, columns = (2 * int(np.ceil(mm / step / 2)) for mm, step in zip((tall, wide), spacing[1:], strict=True))
    return (depth, rows, columns), spacing


def _extent(discs: list[DiscShape], axes: NDArray[np.float64], axis: int) -> tuple[float, float]:
    """Lowest and highest coordinate along an image axis (0 right, 1 front, 2 top) that the discs reach, in mm."""
    low, high = [], []
    for disc in discs:
        half = np.array([disc.half_width, disc.half_ap, disc.height / 2]) + disc.bulge + 1
        depth = max([abs(node[2]) for node in disc.nodes], default=0.0)
        half[2] += depth
        half[1] += disc.bend
        reach = np.abs(axes[axis] @ disc.frame.axes.T) @ half
        centre = axes[axis] @ disc.frame.centre_mm
        low.append(centre - reach)
        high.append(centre + reach)
    return float(min(low)), float(max(high))


def _top_mm(rng: np.random.Generator, spine: Spine, turn: NDArray, height: float, hard: str) -> float:
    """Height along the image of its uppermost row."""
    extents = {d.level: _extent([d], turn, axis=2) for d in spine.discs}
    lowest = extents[1][0]
    if hard == "bottom_cut":
        hidden = int(rng.integers(1, 3))
        return (extents[hidden][1] + extents[hidden + 1][0]) / 2 + height
    if hard == "top_cut":
        last = int(rng.integers(5, 7))
        return (extents[last][1] + extents[last + 1][0]) / 2
    choices = []
    for last, weight in ((8, 0.45), (9, 0.4), (10, 0.15), (7, 1e-6)):
        # A level's top edge up to the middle of the next disc, but never so high that L5/S1 nears the lower border.
        start = extents[last][1] + 2
        above = extents[last + 1]
        stop = min(above[0] - 1 if last == 10 else (above[0] + above[1]) / 2, lowest - 22 + height)
        if stop > start:
            choices.append((weight, start, stop))
    if not choices:
        return max(extents[7][1] + 2, lowest - 22 + height)
    weights = np.array([c[0] for c in choices])
    _, start, stop = choices[int(rng.choice(len(choices), p=weights / weights.sum()))]
    return float(rng.uniform(start, stop))


def acquire(canvas: Canvas, spine: Spine, behind: Array, rng: np.random.Generator,
            options: PhantomOptions, protocol: Protocol) -> Array:  # fmt: skip
    """The channels (C, D, H, W) that the scanner delivers: whole numbers as float32, from the painted planes.

    With W and F the signals of water and fat and n1, n2 complex noise, a Dixon scan measures I = W + F + n1 and
    O = W - F + n2, and gives inn = |I|, opp = |O|, wat = |I + O| / 2 and fat = |I - O| / 2.
    A swapped reconstruction gives wat as fat and fat as wat.
    """
    dixon = [name for name in options.channels if name != "t2"]
    planes = [_blur(plane, rng, protocol.blur) for plane in canvas.planes]
    scale = float(np.exp(rng.uniform(np.log(250), np.log(900))))
    made: dict[str, Array] = {}
    shape = canvas.planes.shape[1:]
    if dixon:
        water, fat = planes[0], _shift(planes[1], rng)
        gain = _bias(shape, rng, 0.18 * protocol.bias) * _coil(behind, rng, surface=rng.uniform(0, 0.35))
        noise = rng.uniform(0.008, 0.035) * protocol.noise
        inn = (water + fat) * gain + _complex_noise(shape, rng, noise)
        opp = (water - fat) * gain + _complex_noise(shape, rng, noise)
        pairs = {"inn": (inn, 1.0), "opp": (opp, 1.0), "wat": (inn + opp, 0.5), "fat": (inn - opp, 0.5)}
        if protocol.swapped:
            pairs["wat"], pairs["fat"] = pairs["fat"], pairs["wat"]
        made = {name: _magnitude(*pairs[name]) for name in dixon}
    if "t2" in options.channels:
        turbo = planes[-1]
        gain = _bias(shape, rng, 0.15 * protocol.bias) * _coil(behind, rng, surface=rng.uniform(0.45, 1.0))
        gain *= _saturation(canvas.points, spine, rng)
        noise = rng.uniform(0.015, 0.07) * protocol.noise
        made["t2"] = _magnitude(
            turbo * gain + _complex_noise(shape, rng, noise), 0.35 if options.field == "slab" else 1.0
        )
    full = np.stack([made[name] for name in options.channels]) * np.float32(scale)
    return np.minimum(np.rint(full), 4095).astype(np.float32)


def _blur(plane: Array, rng: np.random.Generator, factor: float) -> Array:
    sigma = (rng.uniform(0.2, 0.5), rng.uniform(0.25, 0.6) * factor, rng.uniform(0.25, 0.6) * factor)
    return ndimage.gaussian_filter(plane, sigma, truncate=3.0)


def _shift(fat: Array, rng: np.random.Generator) -> Array:
    """Fat is seen up to half a voxel away along the readout: its resonance is not water's."""
    share = np.float32(rng.uniform(-0.5, 0.5))
    axis = int(rng.integers(1, 3))
    return (1 - abs(share)) * fat + abs(share) * np.roll(fat, int(np.sign(share)), axis=axis)


def _complex_noise(shape: tuple[int, ...], rng: np.random.Generator, deviation: float) -> NDArray[np.complex64]:
    noise = np.empty(shape, dtype=np.complex64)
    noise.real = rng.standard_normal(shape, dtype=np.float32)
    noise.imag = rng.standard_normal(shape, dtype=np.float32)
    return noise * np.float32(deviation)


def _magnitude(signal: NDArray[np.complex64], factor: float) -> Array:
    return np.sqrt(signal.real**2 + signal.imag**2) * np.float32(factor)


def _bias(shape: tuple[int, ...], rng: np.random.Generator, strength: float) -> Array:
    """A smooth positive field (D, H, W) round 1: the exponential of a random polynomial of the third degree."""
    d, h, w = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    field = np.zeros(shape, dtype=np.float32)
    for i, j, k in [(i, j, k) for i in range(2) for j in range(4) for k in range(4) if 0 < i + j + k <= 3]:
        term = (d**i)[:, None, None] * (h**j)[:, None] * w**k
        field += np.float32(rng.normal(0, strength / 2)) * term
    return np.exp(field)


def _coil(behind: Array, rng: np.random.Generator, surface: float) -> Array:
    """Gain of the coil under the back: falls with the distance from it; `surface` 0 (even) to 1 (steep)."""
    depth = np.clip(60 - behind, 0, None)
    fall = 1 / (1 + (depth / np.float32(rng.uniform(55, 90))) ** 2)
    return (1 - np.float32(surface)) + np.float32(surface * 2.2) * fall


def _saturation(points: Array, spine: Spine, rng: np.random.Generator) -> Array:
    """A flat band in front of the spine, silenced against the motion of breath and bowel in most scans."""
    fronts = [disc.frame.world((0, disc.half_ap, 0)) for disc in spine.discs if 2 <= disc.level <= 8]
    edge = max(front[1] for front in fronts) + rng.uniform(0, 40)
    lean = rng.normal(0, 0.06)
    floor = 1.0 if rng.random() < 0.15 else rng.uniform(0.05, 0.35)
    ahead = points[1] - np.float32(edge) - np.float32(lean) * (points[2] - 100)
    share = 1 / (1 + np.exp(np.clip(ahead / np.float32(rng.uniform(2, 12)), -30, 30)))
    return np.float32(floor) + np.float32(1 - floor) * share
