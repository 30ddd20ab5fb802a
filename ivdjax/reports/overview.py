"""The overview picture of one case: a mid-sagittal and a mid-coronal plane with every disc coloured and named.

Both planes follow the discs: the coronal one always (the lumbar spine is curved, and no flat coronal plane meets all of
its discs), the sagittal one if the spine leaves its median slice. They share one scale and one height, so that a disc
stands at one height in both.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ivdjax.reports.canvas import (
    DARK,
    FAINT,
    INK,
    Look,
    add_plane,
    figure_png,
    new_figure,
    own_style,
    printable,
    shown_channel,
    write_text,
)
from ivdjax.reports.colours import VERDICT, level_colour
from ivdjax.reports.disc_table import is_unsure
from ivdjax.reports.planes import NARROW_MM, Plane, spine_planes
from ivdjax.volume import Disc, LabelMap, LeftOut, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Path2D

_PLANE_IN = 8.0
_WIDEST_IN = 16.0
_HEADER_IN = 0.75
_FOOTER_IN = 0.5
_LINE_IN = 0.24
_LETTERS_PER_IN = 13.0
"""Of a caption, so that those of narrow planes do not run into each other."""
_GAP_IN = 0.15
_NAMES_IN = 0.85
_LINE_MM = 9.0
"""From a disc to its name in front of it."""
_LETTER_MM = 8.0

PANELS = ("plain", "sagittal", "coronal")
"""The planes of the overview, from left to right."""


@dataclass(frozen=True)
class Heading:
    """What stands above the planes: the case, its verdict on a badge, and the reasons for it."""

    title: str
    verdict: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Panel:
    """A plane as it is shown; names stand before (in front of) the discs, beside the plane, or not at all."""

    plane: Plane
    caption: str
    names: Literal["before", "beside", ""]


def overview_png(
    volume: Volume, labels: LabelMap, discs: Sequence[Disc], title: str, verdict: str, reasons: Sequence[str],
    left_out: LeftOut | None = None,
) -> bytes:  # fmt: skip
    """The overview as the bytes of a PNG.

    From left to right: the sagittal plane as it is, the same with outlined and named discs, the coronal plane. A level
    of low confidence (`is_unsure`) carries a question mark. What was left out below the lowest disc is dashed. Without
    any disc the planes through the middle of the volume are shown, plain.

    Args:
        volume: image (C, D, H, W) in canonical order.
        labels: numbered discs on the same grid.
        discs: the same discs, for names, confidences and centroids.
        title: heading, usually the case's name.
        verdict: "ok" or "review".
        reasons: why, one line each.
        left_out: what was left out below the lowest disc.

    Raises:
        ValueError: the labels lie on another grid than the volume.
    """
    return figure_png(
        overview_figure(volume, labels, discs, Heading(title, verdict, tuple(reasons)), left_out=left_out)
    )


@own_style()
def overview_figure(
    volume: Volume,
    labels: LabelMap,
    discs: Sequence[Disc],
    heading: Heading | None = None,
    look: Look = DARK,
    shown: Sequence[str] = PANELS,
    left_out: LeftOut | None = None,
) -> Figure:
    """The picture of `overview_png` as a figure.

    Args:
        volume: image (C, D, H, W) in canonical order.
        labels: numbered discs on the same grid.
        discs: the same discs.
        heading: what stands above the planes; None: nothing.
        look: colours and resolution.
        shown: which planes, of `PANELS`, from left to right; the plain one goes where there is no disc.
        left_out: what was left out below the lowest disc.

    Raises:
        ValueError: the labels lie on another grid than the volume, or no plane is left.
    """
    if not volume.grid.matches(labels.grid):
        raise ValueError(f"labels of shape {labels.array.shape} must lie on the volume's grid {volume.grid.shape}")
    channel, image = shown_channel(volume)
    others = left_out.values(labels) if left_out is not None else {}
    drawn = labels if left_out is None else labels.with_array(left_out.over(labels))
    sagittal, coronal = spine_planes(image, drawn, discs)
    reasons = heading.reasons if heading is not None else ()
    lines = [line for reason in reasons for line in textwrap.wrap(printable(reason), 110)]
    known = {
        "plain": _Panel(sagittal, f"{channel}, without overlay", names=""),
        "sagittal": _Panel(sagittal, sagittal.caption, names="before"),
        "coronal": _Panel(coronal, coronal.caption, names="beside"),
    }
    panels = [known[name] for name in shown if discs or name != "plain"]
    if not panels:
        raise ValueError(f"no plane is left to show of {', '.join(shown)}")
    sides_mm = sum(panel.plane.size_mm[1] for panel in panels)
    scale = min(_PLANE_IN / sagittal.size_mm[0], _WIDEST_IN / sides_mm)
    plane_in = sagittal.size_mm[0] * scale
    widths_in = [panel.plane.size_mm[1] * scale for panel in panels]
    named_in = {"before": _missing_room_in(sagittal, scale), "beside": _NAMES_IN, "": 0.0}
    header_in = _HEADER_IN + _LINE_IN * len(lines) if heading is not None else _GAP_IN
    sides_in = sum(widths_in) + sum(named_in[panel.names] for panel in panels)
    width = max(sides_in + (len(panels) + 1) * _GAP_IN, 7.0 if heading is not None else 0.0)
    height = header_in + plane_in + _FOOTER_IN
    figure = new_figure(width, height, look)
    if heading is not None:
        _write_header(figure, heading, lines, look)
    left = _GAP_IN
    for panel, panel_in in zip(panels, widths_in, strict=True):
        left += named_in["before"] if panel.names == "before" else 0.0
        place = (left / width, _FOOTER_IN / height, panel_in / width, plane_in / height)
        axes = add_plane(figure, place, panel.plane.image, panel.plane.size_mm)
        _write_letters(axes, panel.plane, look)
        if panel is panels[0]:
            _draw_scale(axes, panel.plane)
        if panel.names:
            _draw_discs(axes, panel.plane, discs, others, panel.names == "beside", look)
        caption = textwrap.fill(printable(panel.caption), max(int(panel_in * _LETTERS_PER_IN), 12))
        figure.text((left + panel_in / 2) / width, 0.1 / height, caption, color=look.faint, fontsize=9, ha="center",
                    parse_math=False)  # fmt: skip
        left += panel_in + _GAP_IN
    return figure


def _missing_room_in(plane: Plane, scale: float) -> float:
    """Inches that names in front of the discs reach beyond a plane that is drawn at `scale` inches a millimetre."""
    columns = np.flatnonzero(plane.labels.any(axis=0))
    if not len(columns):
        return 0.0
    front_mm = columns[0] * plane.size_mm[1] / plane.labels.shape[1]
    return max(0.0, _NAMES_IN - (front_mm - _LINE_MM) * scale)


def _write_header(figure: Figure, heading: Heading, lines: Sequence[str], look: Look) -> None:
    width, height = figure.get_size_inches()
    y = 1 - 0.36 / height
    badge = {"boxstyle": "round,pad=0.45", "facecolor": VERDICT.get(heading.verdict, "#555555"), "edgecolor": "none"}
    figure.text(_GAP_IN / width, y, printable(heading.title), color=look.ink, fontsize=15, weight="bold", va="center",
                parse_math=False)  # fmt: skip
    figure.text(1 - 0.2 / width, y, printable(heading.verdict.upper()), color="white", fontsize=12, weight="bold",
                ha="right", va="center", bbox=badge, parse_math=False)  # fmt: skip
    for number, line in enumerate(lines):
        figure.text(_GAP_IN / width, 1 - (_HEADER_IN + _LINE_IN * number) / height, line, color=look.ink, fontsize=10.5,
                    va="center", parse_math=False)  # fmt: skip


def _write_letters(axes: Axes, plane: Plane, look: Look) -> None:
    """Where superior, inferior and the two sides are: each letter at the middle of its edge, or beside it where a disc
    lies there; below the plane where it is too narrow for letters inside."""
    height, width = plane.size_mm
    edge = 5.0
    if width < NARROW_MM:
        for x, letter in ((edge, plane.letters[0]), (width - edge, plane.letters[1])):
            axes.text(x, height + 4.0, letter, fontsize=11, weight="bold", color=look.faint, ha="center", va="center")
    else:
        for x, letter in ((edge, plane.letters[0]), (width - edge, plane.letters[1])):
            _write_letter(axes, plane, letter, [(x, share * height) for share in (0.5, 0.35, 0.65, 0.2, 0.8)])
    for y, letter in ((edge, "S"), (height - edge, "I")):
        _write_letter(axes, plane, letter, [(share * width, y) for share in (0.5, 0.3, 0.7, 0.12, 0.88)])


def _write_letter(axes: Axes, plane: Plane, letter: str, places: Sequence[tuple[float, float]]) -> None:
    """Writes a letter at the first place where no disc lies; nowhere if there is none."""
    for x, y in places:
        if not _is_on_disc(plane, x, y):
            write_text(axes, x, y, letter, fontsize=11, weight="bold", color=FAINT)
            return


def _is_on_disc(plane: Plane, x: float, y: float) -> bool:
    step_y, step_x = plane.size_mm[0] / plane.labels.shape[0], plane.size_mm[1] / plane.labels.shape[1]
    half = _LETTER_MM / 2
    rows = slice(max(int((y - half) / step_y), 0), int(np.ceil((y + half) / step_y)))
    columns = slice(max(int((x - half) / step_x), 0), int(np.ceil((x + half) / step_x)))
    return bool(plane.labels[rows, columns].any())


def _draw_scale(axes: Axes, plane: Plane) -> None:
    height, _ = plane.size_mm
    axes.plot([8, 58], [height - 8, height - 8], color=INK, linewidth=2)
    write_text(axes, 33, height - 13, "50 mm", fontsize=9)


def _draw_discs(
    axes: Axes, plane: Plane, discs: Sequence[Disc], others: Mapping[int, str], outside: bool, look: Look
) -> None:
    """The discs with their names, and dashed white on black, by value, the structures that were left out."""
    from matplotlib.patches import PathPatch
    from matplotlib.patheffects import withStroke

    for disc in discs:
        mask = plane.labels == disc.level
        if not mask.any():
            continue
        colour = level_colour(disc.level)
        patch = PathPatch(_outline(plane, mask), facecolor=(*colour, 0.32), edgecolor=colour, linewidth=1.6)
        axes.add_artist(patch)  # add_patch would work out limits that are set below
        name = disc.level_name + (" ?" if is_unsure("level_confidence", disc.level_confidence) else "")
        _write_name(axes, plane, name, colour, mask, outside, look)
    for value, name in others.items():
        mask = plane.labels == value
        if mask.any():
            patch = PathPatch(_outline(plane, mask), facecolor="none", edgecolor=INK, linewidth=1.2,
                              linestyle=(0, (3, 2)))  # fmt: skip
            whole = {"dash_offset": 0, "dash_list": None}
            patch.set_path_effects([withStroke(linewidth=2.8, foreground="black", dashes=whole)])
            axes.add_artist(patch)
            _write_name(axes, plane, f"({name})", INK, mask, outside, look)
    axes.set_xlim(0, plane.size_mm[1])
    axes.set_ylim(plane.size_mm[0], 0)


def _outline(plane: Plane, mask: NDArray[np.bool_]) -> Path2D:
    """A mask's outline in mm, half-way between voxel centres; closed also where the field of view cuts the disc."""
    import contourpy
    from matplotlib.path import Path as Path2D

    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    # Only the disc's own box, padded so that the outline closes; the whole plane takes much longer.
    box = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1).astype(float)
    step_y, step_x = plane.size_mm[0] / mask.shape[0], plane.size_mm[1] / mask.shape[1]
    x = (np.arange(columns[0] - 1, columns[-1] + 2) + 0.5) * step_x
    y = (np.arange(rows[0] - 1, rows[-1] + 2) + 0.5) * step_y
    lines = contourpy.contour_generator(x, y, box).lines(0.5)
    return Path2D.make_compound_path(*(Path2D(np.asarray(line), closed=True) for line in lines))


def _write_name(
    axes: Axes, plane: Plane, name: str, colour: Any, mask: NDArray[np.bool_], outside: bool, look: Look
) -> None:
    """The name in front of the disc, or to the right of the whole plane, joined to it by a thin line."""
    rows, columns = np.nonzero(mask)
    step_y, step_x = plane.size_mm[0] / mask.shape[0], plane.size_mm[1] / mask.shape[1]
    edge = columns.max() if outside else columns.min()
    y = (rows[columns == edge].mean() + 0.5) * step_y
    if outside:
        x, text_x, side = (edge + 1) * step_x, plane.size_mm[1] + 3, "left"
    else:
        x, side = edge * step_x, "right"
        text_x = x - _LINE_MM
    axes.plot([x, text_x], [y, y], color=colour, linewidth=0.9, clip_on=False)
    if outside and look is not DARK:  # on a light page the colours of discs are too pale for letters
        axes.text(text_x + 1, y, name, color=look.ink, weight="bold", fontsize=11, ha=side, va="center")
        return
    write_text(axes, text_x + (1 if outside else -1), y, name, color=colour, weight="bold", fontsize=11, ha=side)
