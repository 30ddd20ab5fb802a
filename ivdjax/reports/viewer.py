"""The interactive viewer of a report: the image and its discs as NIfTI bytes in the page, and NiiVue to show them.

The image is cut to the region round the discs, its brightness brought to 8 bits; the discs keep their level as value.
Nothing is turned: the affine carries the canonical grid to the world, and a viewer draws from that.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.imaging.files import nifti
from ivdjax.imaging.geometry import cropped, resample, respaced
from ivdjax.reports.canvas import GAMMA, shown_channel
from ivdjax.reports.colours import level_colour
from ivdjax.reports.disc_table import is_unsure
from ivdjax.reports.document import json_element
from ivdjax.volume import LEVEL_NAMES, LUMBAR_DISCS, Disc, Grid, LabelMap, LeftOut, Volume, level_name

SCRIPTS = ("niivue/niivue.umd.js", "assets/viewer.js")
"""What the viewer needs in the page, in this order."""

_AROUND_MM = (30.0, 35.0, 55.0)
"""What is kept round the discs: to the sides, above and below, in front and behind."""
_MOST_VOXELS = 6_000_000
"""Of all channels together, one byte each; a page then stays under 12 MB. Beyond it the shown channel goes alone, and
is resampled where it is larger still."""

_LEFT_OUT_COLOUR, _DASH = (255, 255, 255), 3
"""Of what was left out below the lowest disc, and the voxels of a dash."""
BETWEEN_DASHES = 255
"""The value of the black voxels between dashes, without which white ones would not show on a white structure."""
_STEPS = 4096

_VIEWS = (("all", "All planes"), ("sagittal", "Sagittal"), ("coronal", "Coronal"), ("axial", "Axial"), ("3d", "3D"))


def viewer_section(volume: Volume, labels: LabelMap, discs: Sequence[Disc], left_out: LeftOut | None = None) -> str:
    """The viewer as HTML with its data; the page that takes it also needs `SCRIPTS`.

    Args:
        volume: image (C, D, H, W) in canonical order.
        labels: numbered discs on the same grid.
        discs: the same discs, for their centroids and confidences.
        left_out: what was left out below the lowest disc.

    Raises:
        ValueError: the labels lie on another grid than the volume.
    """
    data = viewer_data(volume, labels, discs, left_out)
    views = "".join(
        f'<button type="button" data-view="{key}" aria-pressed="{str(key == "all").lower()}">{escape(name)}</button>'
        for key, name in _VIEWS
    )
    names = [channel["name"] for channel in data["channels"]]
    options = "".join(f'<option value="{number}">{escape(name)}</option>' for number, name in enumerate(names))
    channel = f'<label>Channel <select id="channel">{options}</select></label>' if len(names) > 1 else ""
    levels = "".join(f"<option>{escape(name)}</option>" for name in LEVEL_NAMES[:LUMBAR_DISCS])
    note = f'<p class="small">{escape(data["note"])}</p>' if data["note"] else ""
    return f"""<section class="viewer" aria-label="Interactive viewer">
<div class="tools" hidden><span class="views" role="group" aria-label="View">{views}</span>{channel}
<label><input type="checkbox" id="overlay" checked> Discs</label>
<label><input type="checkbox" id="outline"> Outline only</label>
<label>Opacity <input type="range" id="opacity" min="0" max="1" step="0.05" value="0.5"></label>
<label>Zoom <input type="range" id="zoom" min="1" max="6" step="0.25" value="1"></label>
<output id="position" aria-live="off"></output></div>
<div class="stage" hidden><canvas id="canvas" tabindex="0" aria-label="Slices of {escape(names[0])}"></canvas></div>
<p class="small hint" hidden>Drag with the right button for brightness and contrast; a double click brings them back.
A wrong name? Put the cross into the disc, choose its right name
<select id="anchor-level" aria-label="Right name of the disc">{levels}</select> and
<button type="button" id="copy-anchor">copy the option</button> for the same <code>ivdjax infer</code> command:
<output id="anchor"></output></p>
<p class="notice" id="no-viewer">The interactive viewer needs a browser that runs this page's scripts.</p>
{note}</section>
{json_element("viewer-data", data)}"""


def viewer_data(
    volume: Volume, labels: LabelMap, discs: Sequence[Disc], left_out: LeftOut | None = None
) -> dict[str, Any]:
    """What the page's script reads.

    Returns:
        `channels`: name and gzipped NIfTI in base64 of each channel, the shown one first; `labels`: likewise of the
        discs, and of what was left out, whose outline is dashed white on black; `colours`: label, red, green and blue
        (0 to 255) of each level and its name; `discs`: level, name and centroid_mm of each disc, and whether its level
        is unsure; `left_out`: value and name of each; `note`: what a reader must know of the shown image, empty for
        nothing.

    Raises:
        ValueError: the labels lie on another grid than the volume.
    """
    if not volume.grid.matches(labels.grid):
        raise ValueError(f"labels of shape {labels.array.shape} must lie on the volume's grid {volume.grid.shape}")
    others = left_out.values(labels) if left_out is not None else {}
    box = surroundings(labels)
    grid = cropped(volume.grid, box)
    discs_array = np.ascontiguousarray((labels.array if left_out is None else left_out.over(labels))[box])
    first, _ = shown_channel(volume)
    names = [first, *(name for name in volume.channels if name != first)]
    if len(names) * discs_array.size > _MOST_VOXELS:
        names = names[:1]
    target = _coarser(grid)
    notes = [] if len(names) == len(volume.channels) else [f"Of the channels only {first} is here: the image is large."]
    if target is not grid:
        steps = " x ".join(f"{step:.2g}" for step in target.spacing_mm)
        notes.append(f"Shown with voxels of {steps} mm; the files beside this page have the image's own.")
        discs_array = resample(discs_array, grid, target, order=0)
    discs_array = dashed(discs_array, others)
    channels = []
    for name in names:
        gray = _eight_bits(volume.array[volume.channels.index(name)][box])
        if target is not grid:
            gray = np.rint(resample(gray, grid, target, order=1)).astype(np.uint8)
        channels.append({"name": name, "nifti": _base64(gray, target)})
    return {
        "channels": channels,
        "labels": _base64(discs_array.astype(np.uint8, copy=False), target),
        "colours": overlay_colours(labels, others),
        "discs": [{"level": disc.level, "name": disc.level_name, "centroid_mm": [float(x) for x in disc.centroid_mm],
                   "unsure": is_unsure("level_confidence", disc.level_confidence)}
                  for disc in discs],
        "left_out": [[value, name] for value, name in others.items()],
        "note": " ".join(notes),
    }  # fmt: skip


def surroundings(labels: LabelMap) -> tuple[slice, slice, slice]:
    """The box round all discs with its surroundings; the whole grid without a disc."""
    d, h, w = (slice(0, size) for size in labels.array.shape)
    used = labels.array > 0
    if not used.any():
        return d, h, w
    parts = []
    for axis, (step_mm, around_mm) in enumerate(zip(labels.spacing_mm, _AROUND_MM, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(used.any(axis=others))
        margin = int(np.ceil(around_mm / step_mm))
        parts.append(slice(max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, used.shape[axis])))
    return parts[0], parts[1], parts[2]


def dashed(array: NDArray[np.uint8], others: Mapping[int, str]) -> NDArray[np.uint8]:
    """A label map (D, H, W) of discs and others, of which the others are dashed outlines.

    Args:
        array: of `LeftOut.over`.
        others: the values that are no discs (`LeftOut.values`); between their dashes is `BETWEEN_DASHES`.
    """
    plane = ndimage.generate_binary_structure(2, 1)[None]
    h, w = np.indices(array.shape[1:])
    gap = (h + w) // _DASH % 2 == 1
    array = array.copy()
    for value in others:
        mask = array == value
        array[mask & gap] = BETWEEN_DASHES
        array[ndimage.binary_erosion(mask, plane, border_value=1)] = 0
    return array


def overlay_colours(labels: LabelMap, others: Mapping[int, str]) -> list[list[int | str]]:
    """Value, red, green and blue (0 to 255) and name of each disc, and of what was left out (`LeftOut.values`)."""
    colours: list[list[int | str]] = []
    for level in labels.levels:
        colours.append([level, *(round(255 * part) for part in level_colour(level)), level_name(level)])
    colours += [[value, *_LEFT_OUT_COLOUR, name] for value, name in others.items()]
    return colours + [[BETWEEN_DASHES, 0, 0, 0, ""]] * bool(others)


def _coarser(grid: Grid) -> Grid:
    """The grid itself if one channel on it is small enough, else one with its finest axes made coarser alike."""
    steps = list(grid.spacing_mm)
    found = grid
    while np.prod(found.shape) > _MOST_VOXELS:
        fine = min(steps)
        steps = [max(step, 1.1 * fine) for step in steps]
        found = respaced(grid, (steps[0], steps[1], steps[2]))
    return found


def _eight_bits(image: NDArray) -> NDArray[np.uint8]:
    """Brightness as in the overview: the 0.5th to the 99.5th percentile as 0 to 255, dark tones lifted."""
    sample = image[:: 1 + image.shape[0] // 64, ::2, ::2]  # sorting every voxel would take longer than all the rest
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.5)) if sample.size else (0.0, 1.0)
    steps = (image.astype(np.float32) - np.float32(low)) * np.float32((_STEPS - 1) / max(high - low, 1e-6))
    np.nan_to_num(steps, copy=False)
    np.clip(steps, 0, _STEPS - 1, out=steps)
    # A table of the result in fine steps: a power of every voxel would take longer as well.
    table = np.rint(255 * np.linspace(0.0, 1.0, _STEPS) ** GAMMA).astype(np.uint8)
    return np.asarray(table[steps.astype(np.uint16)])


def _base64(array: NDArray[np.uint8], grid: Grid) -> str:
    return base64.b64encode(nifti.encoded(array, grid.affine)).decode("ascii")
