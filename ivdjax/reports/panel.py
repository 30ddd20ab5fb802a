"""The picture of a validation during training: one sagittal slice a held-out case, reference and prediction on it.

Slice and surroundings follow from the reference alone, so that from one validation to the next only the prediction
changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ivdjax.reports.canvas import INK, add_plane, new_figure, own_style, printable
from ivdjax.reports.colours import PREDICTION, REFERENCE, RGB, hex_colour, level_colour
from ivdjax.volume import level_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_TILE_IN = 3.4
_TALLEST_IN = 4.8
_CAPTION_IN = 0.28
_HEADER_IN = 0.34
_GAP_IN = 0.16
_LONGEST_NAME = 30
_AROUND_MM = 40.0
"""What is shown round the reference: discs stay large, and most of what is found outside of the spine is seen."""


@dataclass(frozen=True, eq=False)
class PanelCase:
    """One held-out case, on the grid of the stage that is validated.

    Attributes:
        name: of the case.
        image: (D, H, W), the channel to show.
        reference: uint8 (D, H, W); 0 background, else a level, or 1 for the spine region.
        predicted: uint8 (D, H, W), likewise; a stage that does not tell discs apart gives 1.
        spacing_mm: of the voxels (D, H, W).
        score: of the case, better if larger; not a number where there is none.

    Raises:
        ValueError: the three arrays are not of one shape (D, H, W), or empty.
    """

    name: str
    image: NDArray
    reference: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    score: float

    def __post_init__(self) -> None:
        shapes = {self.image.shape, self.reference.shape, self.predicted.shape}
        if len(shapes) > 1 or self.image.ndim != 3 or not self.image.size:
            raise ValueError(f"case {self.name}: image, reference and prediction must have one shape (D, H, W), not "
                             f"{self.image.shape}, {self.reference.shape} and {self.predicted.shape}")  # fmt: skip

    @property
    def shown_slice(self) -> int:
        """The slice with most reference; of several the one in their middle, and the middle one of all without any."""
        areas = np.count_nonzero(self.reference, axis=(1, 2))
        most = np.flatnonzero(areas == areas.max())
        return int(most[len(most) // 2])

    @property
    def view(self) -> tuple[slice, slice]:
        """Rows and columns that are shown: round the reference, or all without any; as wide as fills a tile."""
        _, height, width = self.image.shape
        _, used_h, used_w = np.nonzero(self.reference)
        if not used_h.size:
            return slice(0, height), slice(0, width)
        _, step_h, step_w = self.spacing_mm
        rows = _widened(used_h, _AROUND_MM / step_h, height)
        missing_mm = (rows.stop - rows.start) * step_h * _TILE_IN / _TALLEST_IN - (np.ptp(used_w) + 1) * step_w
        return rows, _widened(used_w, max(_AROUND_MM, missing_mm / 2) / step_w, width)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of what is shown."""
        rows, columns = self.view
        return (rows.stop - rows.start) * self.spacing_mm[1], (columns.stop - columns.start) * self.spacing_mm[2]


@own_style()
def validation_panel(cases: Sequence[PanelCase], levels: bool = False) -> NDArray[np.uint8]:
    """A picture (H, W, 3), at most four cases in a row and 1,600 pixels wide; the same cases give the same bytes.

    Reference outlines are orange and predicted ones blue on top, thinner, so that where they agree both are seen. With
    `levels` each predicted level is an area of its own colour, and each reference level an outline of that colour: a
    spine numbered one level off has areas and outlines that differ.

    Raises:
        ValueError: no case.
    """
    if not cases:
        raise ValueError("a panel shows at least one case")
    columns = min(len(cases), _COLUMNS)
    rows = -(-len(cases) // columns)
    sizes_mm = [case.size_mm for case in cases]
    tile_in = min(_TALLEST_IN, max(_TILE_IN * height / width for height, width in sizes_mm))
    pitch_in = tile_in + _CAPTION_IN + _GAP_IN
    width_in, height_in = columns * (_TILE_IN + _GAP_IN) + _GAP_IN, _HEADER_IN + rows * pitch_in
    figure = new_figure(width_in, height_in)
    shown = sorted({int(v) for case in cases for v in np.unique(case.reference) if v}) if levels else []
    _write_header(figure, shown, levels)
    for number, (case, size_mm) in enumerate(zip(cases, sizes_mm, strict=True)):
        row, column = divmod(number, columns)
        left_in = _GAP_IN + column * (_TILE_IN + _GAP_IN)
        top_in = height_in - _HEADER_IN - row * pitch_in
        _write_caption(figure, case, left_in, top_in - _CAPTION_IN / 2)
        scale = min(_TILE_IN / size_mm[1], tile_in / size_mm[0])
        plane_in = (size_mm[0] * scale, size_mm[1] * scale)
        corner_in = (left_in + (_TILE_IN - plane_in[1]) / 2, top_in - _CAPTION_IN - plane_in[0])
        place = (corner_in[0] / width_in, corner_in[1] / height_in, plane_in[1] / width_in, plane_in[0] / height_in)
        where = (case.shown_slice, *case.view)
        axes = add_plane(figure, place, case.image[where], size_mm)
        _draw_case(axes, case.reference[where], case.predicted[where], size_mm, levels)
    return _pixels(figure)


def _widened(used: NDArray[np.intp], margin: float, size: int) -> slice:
    """From the first to the last position that is used, and `margin` more on either side, as far as there are any."""
    more = int(np.ceil(margin))
    return slice(max(int(used.min()) - more, 0), min(int(used.max()) + 1 + more, size))


def _draw_case(
    axes: Axes, reference: NDArray[np.uint8], predicted: NDArray[np.uint8], size_mm: tuple[float, float], levels: bool
) -> None:
    if levels:
        for level in _values(predicted):
            _draw(axes, predicted == level, size_mm, level_colour(level), filled=True)
        for level in _values(reference):
            _draw(axes, reference == level, size_mm, level_colour(level), 1.5)
    else:
        for level in _values(reference):  # one by one: discs that touch are told apart
            _draw(axes, reference == level, size_mm, REFERENCE, 2.2)
        for level in _values(predicted):
            _draw(axes, predicted == level, size_mm, PREDICTION, 0.9)
    axes.set_xlim(0, size_mm[1])
    axes.set_ylim(size_mm[0], 0)


def _draw(
    axes: Axes, mask: NDArray[np.bool_], size_mm: tuple[float, float], colour: RGB, width: float = 1.0,
    filled: bool = False,
) -> None:  # fmt: skip
    """The outline of a mask (H, W), or its area, half transparent."""
    step_y, step_x = size_mm[0] / mask.shape[0], size_mm[1] / mask.shape[1]
    # Padded, so that an outline closes where the field of view cuts the mask.
    x, y = (np.arange(-1, mask.shape[1] + 1) + 0.5) * step_x, (np.arange(-1, mask.shape[0] + 1) + 0.5) * step_y
    padded = np.pad(mask, 1).astype(float)
    if filled:
        axes.contourf(x, y, padded, levels=[0.5, 1.5], colors=[colour], alpha=0.45)
    else:
        axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width)


def _write_header(figure: Figure, shown: Sequence[int], levels: bool) -> None:
    """What the colours stand for."""
    entries = [("reference", REFERENCE), ("prediction", PREDICTION)]
    if levels:
        entries = [(level_name(level), level_colour(level)) for level in shown]
    width, height = figure.get_size_inches()
    step_in = min(1.1, (width - 2 * _GAP_IN) / max(len(entries), 1))
    for number, (name, colour) in enumerate(entries):
        figure.text((_GAP_IN + number * step_in) / width, 1 - _HEADER_IN / 2 / height, name, color=hex_colour(colour),
                    fontsize=min(11.0, 17 * step_in), weight="bold", va="center", parse_math=False)  # fmt: skip


def _write_caption(figure: Figure, case: PanelCase, left_in: float, y_in: float) -> None:
    """Name on the left, score on the right."""
    width, height = figure.get_size_inches()
    name = case.name if len(case.name) <= _LONGEST_NAME else case.name[: _LONGEST_NAME - 3] + "..."
    score = f"{case.score:.3f}" if np.isfinite(case.score) else "no score"
    for x_in, text, side in ((left_in, name, "left"), (left_in + _TILE_IN, score, "right")):
        figure.text(x_in / width, y_in / height, printable(text), color=INK, fontsize=10.5, ha=side, va="center",
                    parse_math=False)  # fmt: skip


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """The drawn figure (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _values(labels: NDArray[np.uint8]) -> list[int]:
    return [int(value) for value in np.unique(labels) if value]
