"""The image under construction: planes of signal on a grid, painted from the back to the front with soft edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.data.phantom.shapes import Array, Frame, occupancy
from ivdjax.volume import TISSUES

Box = tuple[slice, slice, slice]

_LATTICE = 32


@dataclass(frozen=True, eq=False)
class Canvas:
    """Signal planes (K, D, H, W), and where in the patient their voxels lie.

    Attributes:
        planes: brightness so far; painting changes it in place.
        points: patient's RAS mm (3, D, H, W) of the voxel centres.
        affine: from (d, h, w, 1) to those coordinates.
        edge_mm: width over which a surface fades, about one voxel.
        grain: fine random texture (D, H, W), mean 0 and deviation 1, fixed to the patient.
        tissues: uint8 (D, H, W), what has been painted so far of `ivdjax.volume.TISSUES`; 0 elsewhere.
    """

    planes: Array
    points: Array
    affine: NDArray[np.float64]
    edge_mm: float
    grain: Array
    tissues: NDArray[np.uint8]

    def box(self, centre_mm: NDArray[np.float64], reach_mm: float | tuple[float, float, float]) -> Box | None:
        """Index slices that hold all points within `reach_mm` of a centre along each patient axis; None: no voxel."""
        reach = np.broadcast_to(np.asarray(reach_mm, dtype=float), (3,))
        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
        corners = np.asarray(centre_mm) + signs * reach
        index = (corners - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        low = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, self.planes.shape[1:])
        if np.any(low >= high):
            return None
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def frame_box(self, frame: Frame, half_mm: tuple[float, float, float]) -> Box | None:
        """Index slices that hold a cuboid of half sides `half_mm` (right, front, top) in a frame; None: no voxel."""
        reach = np.abs(frame.axes.T) @ np.array(half_mm)
        return self.box(frame.centre_mm, (float(reach[0]), float(reach[1]), float(reach[2])))

    def at(self, box: Box) -> Array:
        """Patient's RAS mm (3, d, h, w) of a box."""
        return self.points[(slice(None), *box)]

    def paint(self, box: Box, share: Array, signal: NDArray[np.float32], grain: float = 0.05) -> None:
        """Covers `share` (0 to 1) of each voxel of the box with a tissue of brightness (K,), textured by `grain`."""
        texture = share * (1 + np.float32(grain) * self.grain[box])
        rest = 1 - share
        for plane, value in zip(self.planes, signal, strict=True):
            part = plane[box]
            part *= rest
            part += value * texture

    def cover(self, box: Box, distance: Array, signal: NDArray[np.float32], grain: float = 0.05) -> None:
        """Paints a solid given by its signed distance in mm, with edges a voxel wide."""
        self.paint(box, occupancy(distance, self.edge_mm), signal, grain)

    def mark(self, box: Box, distance: Array, tissue: str) -> None:
        """Notes a solid, given by its signed distance in mm, as a tissue of the reference, over what is there."""
        self.tissues[box][distance <= 0] = TISSUES.index(tissue) + 1

    def noise(self, rng: np.random.Generator, scale_mm: float | tuple[float, float, float]) -> Array:
        """A random field (D, H, W) fixed to the patient; see `smooth_noise`."""
        return smooth_noise(rng, self.planes.shape[1:], self.affine, scale_mm)

    @property
    def whole(self) -> Box:
        """The box of all voxels."""
        d, h, w = self.planes.shape[1:]
        return slice(0, d), slice(0, h), slice(0, w)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], affine: NDArray[np.float64],
                 scale_mm: float | tuple[float, float, float]) -> Array:  # fmt: skip
    """A random field (D, H, W) with features of about `scale_mm` (right, front, top), mean 0 and deviation about 1.

    The field belongs to the patient, to whose mm `affine` leads: another grid sees the same field. It repeats after 32
    features.
    """
    lattice = rng.normal(size=(_LATTICE,) * 3).astype(np.float32)
    lattice = ndimage.gaussian_filter(lattice, 0.7, mode="wrap")
    lattice /= lattice.std()
    scale = np.broadcast_to(np.asarray(scale_mm, dtype=float), (3,))
    # Coarse fields are computed on every second row and column: four times as fast, and not to be told apart.
    step = 2 if scale.min() >= 3 * np.linalg.norm(affine[:3, 1:3], axis=0).max() else 1
    thin = tuple([shape[0], *((n + step - 1) // step + (step > 1) for n in shape[1:])])
    matrix = affine[:3, :3] * [1, step, step] / scale[:, None]
    field = ndimage.affine_transform(
        lattice, matrix, affine[:3, 3] / scale, output_shape=thin, output=np.float32, order=1, mode="grid-wrap"
    )
    if step == 1:
        return field
    rows = np.empty((shape[0], 2 * (thin[1] - 1), thin[2]), dtype=np.float32)
    rows[:, ::2], rows[:, 1::2] = field[:, :-1], (field[:, :-1] + field[:, 1:]) * np.float32(0.5)
    out = np.empty((shape[0], rows.shape[1], 2 * (thin[2] - 1)), dtype=np.float32)
    out[:, :, ::2], out[:, :, 1::2] = rows[:, :, :-1], (rows[:, :, :-1] + rows[:, :, 1:]) * np.float32(0.5)
    return out[:, : shape[1], : shape[2]]


def make_canvas(rng: np.random.Generator, planes: int, shape: tuple[int, int, int],
                affine: NDArray[np.float64]) -> Canvas:  # fmt: skip
    """An empty canvas (air) on the grid whose `affine` leads to the patient's RAS mm; `rng` draws the texture."""
    steps = affine[:3, :3].astype(np.float32)
    d, h, w = (np.arange(n, dtype=np.float32) for n in shape)
    points = np.empty((3, *shape), dtype=np.float32)
    for i in range(3):
        points[i] = np.float32(affine[i, 3]) + (
            steps[i, 0] * d[:, None, None] + steps[i, 1] * h[:, None] + steps[i, 2] * w
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grain = smooth_noise(rng, shape, affine, 2.6) + 0.8 * smooth_noise(rng, shape, affine, 9.0)
    empty = np.zeros((planes, *shape), dtype=np.float32)
    blank = np.zeros(shape, np.uint8)
    return Canvas(empty, points, affine, float(np.mean(spacing[1:])), grain.astype(np.float32), blank)
