"""One small picture a disc: its mid-sagittal slice round the disc, with the outline in the level's colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.reports.canvas import GAMMA, shown_channel
from ivdjax.reports.colours import level_colour
from ivdjax.volume import Disc, LabelMap, Volume, to_index

SIZE_MM = (42.0, 60.0)
"""Height and width of what is shown, the disc's centroid in the middle."""

_PIXEL_MM = 0.25
_LINE_PIXELS = 3
_QUALITY = 88


def draw_thumbnails(volume: Volume, labels: LabelMap, discs: Sequence[Disc]) -> dict[int, bytes]:
    """A JPEG of every disc by its level; brightness is common to all, and black lies beyond the image.

    Args:
        volume: image (C, D, H, W); shown is the channel that the overview shows.
        labels: numbered discs on the same grid.
        discs: those to draw.

    Raises:
        ValueError: the labels lie on another grid than the volume.
    """
    if not volume.grid.matches(labels.grid):
        raise ValueError(f"labels of shape {labels.array.shape} must lie on the volume's grid {volume.grid.shape}")
    if not discs:
        return {}
    _, image = shown_channel(volume)
    centres = [to_index(labels.affine, np.array(disc.centroid_mm)) for disc in discs]
    slices = [_slice_of(labels, disc.level, centre) for disc, centre in zip(discs, centres, strict=True)]
    low, high = _brightness(image[sorted(set(slices))])
    pictures = {}
    for disc, centre, d in zip(discs, centres, slices, strict=True):
        gray, rim = _cut(image[d], labels.array[d] == disc.level, centre[1:], labels.spacing_mm[1:])
        shade = np.clip((gray - low) / (high - low), 0.0, 1.0) ** GAMMA
        picture = np.repeat((255 * shade)[..., None], 3, axis=-1)
        picture[rim] = 255 * np.array(level_colour(disc.level))
        pictures[disc.level] = _jpeg(np.rint(picture).astype(np.uint8))
    return pictures


def _slice_of(labels: LabelMap, level: int, centre: NDArray[np.floating]) -> int:
    """The sagittal slice nearest to a disc's centroid in which the disc lies."""
    middle = int(np.clip(np.rint(centre[0]), 0, labels.array.shape[0] - 1))
    if (labels.array[middle] == level).any():
        return middle
    used = np.flatnonzero((labels.array == level).any(axis=(1, 2)))
    return int(used[np.abs(used - centre[0]).argmin()]) if used.size else middle


def _brightness(slices: NDArray) -> tuple[float, float]:
    finite = slices[np.isfinite(slices)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def _cut(
    image: NDArray, mask: NDArray[np.bool_], centre: NDArray[np.floating], steps_mm: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A fine raster round `centre` (h, w) of a plane (H, W), and the inner rim of the mask on it."""
    shape = tuple(round(mm / _PIXEL_MM) for mm in SIZE_MM)
    factors = [_PIXEL_MM / step for step in steps_mm]
    offset = [float(c) - (n - 1) / 2 * f for c, n, f in zip(centre, shape, factors, strict=True)]
    # Only what is shown, with a margin: the interpolation would otherwise walk the whole plane.
    low = [int(np.clip(np.floor(o) - 2, 0, size - 1)) for o, size in zip(offset, image.shape, strict=True)]
    high = [max(int(np.ceil(o + n * f)) + 3, first + 1)
            for o, n, f, first in zip(offset, shape, factors, low, strict=True)]  # fmt: skip
    part = slice(low[0], high[0]), slice(low[1], high[1])
    offset = [o - start for o, start in zip(offset, low, strict=True)]
    gray = np.nan_to_num(image[part].astype(np.float32), posinf=0.0, neginf=0.0)
    fine = _finer(gray, factors, offset, shape, order=3)
    inside = _finer(mask[part].astype(np.float32), factors, offset, shape, order=1)
    solid = inside >= 0.5
    return fine, solid & ~ndimage.binary_erosion(solid, iterations=_LINE_PIXELS)


def _finer(
    plane: NDArray[np.float32], factors: list[float], offset: list[float], shape: tuple[int, ...], order: Literal[1, 3]
) -> NDArray[np.float32]:
    """A plane on another raster; zero beyond its edge."""
    return np.asarray(
        ndimage.affine_transform(plane, factors, offset, shape, order=order, mode="grid-constant", cval=0.0)
    )


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, format="JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()
