"""Prediction and reference on one picture: outlines in orange, blue and, where they agree, pale yellow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.reports.canvas import (
    FAINT,
    INK,
    add_plane,
    new_figure,
    own_style,
    printable,
    save_figure,
    shown_channel,
    write_text,
)
from ivdjax.reports.colours import BOTH, PREDICTION, REFERENCE, hex_colour
from ivdjax.volume import LUMBAR_DISCS, LabelMap, Volume, level_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = 5
_PANEL_IN = 7.0
_WIDEST_IN = 18.0
_HEADER_IN = 0.8
_FOOTER_IN = 0.35
_GAP_IN = 0.12
_AROUND_MM = (14.0, 22.0)
"""Margin round the discs, from top to bottom and from front to back: names need room at the sides."""
_PIXEL_MM = 0.25
_LINE_PIXELS = 2


@own_style()
def write_comparison(path: Path, volume: Volume, prediction: LabelMap, reference: LabelMap, title: str) -> None:
    """Writes one row of sagittal slices, evenly spread over the discs, as a PNG; whole or not at all.

    Outlines of the reference are orange, of the prediction blue, and pale yellow where both run together. In the middle
    panel each disc carries its level: the reference's in front, the prediction's behind, so that a spine numbered one
    level off shows. Reference discs above the seventh are left out, as in scoring. Without any disc the slices are
    plain.

    Args:
        path: the PNG.
        volume: image (C, D, H, W) in canonical order.
        prediction: numbered discs on the volume's grid.
        reference: numbered reference discs on the volume's grid.
        title: heading.

    Raises:
        ValueError: labels on another grid than the volume.
        OSError: the file cannot be written.
    """
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if not volume.grid.matches(labels.grid):
            raise ValueError(f"the {name} of shape {labels.array.shape} must lie on the volume's {volume.grid.shape}")
    channel, image = shown_channel(volume)
    outlined = np.where(reference.array <= LUMBAR_DISCS, reference.array, 0)
    _, step_h, step_w = volume.spacing_mm
    slices, rows, columns = _view((outlined > 0) | (prediction.array > 0), (step_h, step_w))
    size_mm = ((rows.stop - rows.start) * step_h, (columns.stop - columns.start) * step_w)
    scale = min(_PANEL_IN / size_mm[0], _WIDEST_IN / (len(slices) * size_mm[1]))
    panel_in, tall_in = size_mm[1] * scale, size_mm[0] * scale
    width = max(len(slices) * (panel_in + _GAP_IN) + _GAP_IN, 7.0)
    height = _HEADER_IN + tall_in + _FOOTER_IN
    figure = new_figure(width, height)
    figure.text(_GAP_IN / width, 1 - 0.3 / height, printable(title), color=INK, fontsize=14, weight="bold", va="center",
                parse_math=False)  # fmt: skip
    x = _GAP_IN / width
    for name, colour in (("reference", REFERENCE), ("prediction", PREDICTION), ("both", BOTH)):
        figure.text(
            x, 1 - 0.62 / height, f"\N{BLACK SQUARE} {name}", color=hex_colour(colour), fontsize=11, va="center"
        )
        x += 1.15 / width
    for number, d in enumerate(slices):
        left = _GAP_IN + number * (panel_in + _GAP_IN)
        place = (left / width, _FOOTER_IN / height, panel_in / width, tall_in / height)
        axes = add_plane(figure, place, image[d, rows, columns], size_mm)
        planes = prediction.array[d, rows, columns], outlined[d, rows, columns]
        _draw_outlines(axes, *planes, size_mm)
        if number == len(slices) // 2:
            _write_levels(axes, *planes, size_mm)
        caption = f"{channel}, slice {d + 1} of {image.shape[0]}" if number == 0 else f"slice {d + 1}"
        figure.text((left + panel_in / 2) / width, 0.1 / height, printable(caption), color=FAINT, fontsize=9,
                    ha="center", parse_math=False)  # fmt: skip
    save_figure(figure, Path(path))


def _view(discs: NDArray[np.bool_], steps_mm: tuple[float, float]) -> tuple[list[int], slice, slice]:
    """Slice indices, rows and columns to show: round the discs, or everything where there are none."""
    size_d, size_h, size_w = discs.shape
    if not discs.any():
        return _spread(0, size_d - 1), slice(0, size_h), slice(0, size_w)
    (d0, d1), (h0, h1), (w0, w1) = ((int(axis.min()), int(axis.max())) for axis in np.nonzero(discs))
    margin_h, margin_w = (int(np.ceil(mm / step)) for mm, step in zip(_AROUND_MM, steps_mm, strict=True))
    rows = slice(max(h0 - margin_h, 0), min(h1 + 1 + margin_h, size_h))
    return _spread(d0, d1), rows, slice(max(w0 - margin_w, 0), min(w1 + 1 + margin_w, size_w))


def _spread(first: int, last: int) -> list[int]:
    """Up to `_PANELS` different slices between a tenth and nine tenths of the way."""
    share = np.linspace(0.1, 0.9, _PANELS)
    return sorted({round(first + (last - first) * float(s)) for s in share})


def _draw_outlines(
    axes: Axes, predicted: NDArray[np.integer], reference: NDArray[np.integer], size_mm: tuple[float, float]
) -> None:
    """Both outlines as one transparent picture: drawn as lines, the second would hide the first."""
    predicted_rim, reference_rim = (_outline(labels, size_mm) for labels in (predicted, reference))
    near = np.ones((3, 3), bool)
    agree = (reference_rim & ndimage.binary_dilation(predicted_rim, near)) | (
        predicted_rim & ndimage.binary_dilation(reference_rim, near)
    )
    picture = np.zeros((*reference_rim.shape, 4), np.float32)
    for mask, colour in ((reference_rim, REFERENCE), (predicted_rim, PREDICTION), (agree, BOTH)):
        picture[mask] = (*colour, 1.0)
    axes.imshow(picture, extent=(0.0, size_mm[1], size_mm[0], 0.0), interpolation="nearest", aspect="equal")


def _outline(labels: NDArray[np.integer], size_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """The inner rim of every disc on a fine raster, discs that touch kept apart."""
    shape = [max(1, round(mm / _PIXEL_MM)) for mm in size_mm]
    rim = np.zeros(shape, bool)
    for level in np.unique(labels[labels > 0]):
        fine = _enlarged(labels == level, (shape[0], shape[1])) >= 0.5
        rim |= fine & ~ndimage.binary_erosion(fine, iterations=_LINE_PIXELS, border_value=1)
    return rim


def _enlarged(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A mask's occupancy on a finer raster over the same field of view, linear between pixel centres."""
    factors = [old / new for old, new in zip(mask.shape, shape, strict=True)]
    offset = [(factor - 1) / 2 for factor in factors]
    return np.asarray(
        ndimage.affine_transform(mask.astype(np.float32), factors, offset, shape, order=1, mode="nearest")
    )


def _write_levels(
    axes: Axes, predicted: NDArray[np.integer], reference: NDArray[np.integer], size_mm: tuple[float, float]
) -> None:
    """Reference levels in front of their discs, predicted ones behind theirs."""
    step_y, step_x = size_mm[0] / predicted.shape[0], size_mm[1] / predicted.shape[1]
    for labels, colour, in_front in ((reference, REFERENCE, True), (predicted, PREDICTION, False)):
        for level in np.unique(labels[labels > 0]):
            rows, columns = np.nonzero(labels == level)
            edge = columns.min() if in_front else columns.max()
            y = (rows[columns == edge].mean() + 0.5) * step_y
            x = edge * step_x - 1.5 if in_front else (edge + 1) * step_x + 1.5
            write_text(axes, x, y, level_name(int(level)), color=hex_colour(colour), fontsize=9, weight="bold",
                       ha="right" if in_front else "left")  # fmt: skip
