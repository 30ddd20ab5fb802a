"""What the page draws: the image cut to the spine, and the discs on it, as gzipped NIfTI in base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from ivdjax.imaging.files import nifti
from ivdjax.imaging.geometry import cropped
from ivdjax.inference.case_result import CaseResult
from ivdjax.reports.canvas import shown_channel
from ivdjax.reports.colours import hex_colour, level_colour
from ivdjax.reports.disc_table import is_unsure
from ivdjax.reports.tables import disc_rows
from ivdjax.reports.viewer import dashed, overlay_colours, surroundings, viewer_data
from ivdjax.volume import Volume, to_world_mm


def image_data(result: CaseResult, channel: str = "") -> dict[str, Any]:
    """One channel of a case: `channel`, all `channels`, `nifti`, and a `note` for the reader.

    Args:
        result: the program's own, whose discs say what is cut out.
        channel: its name; empty: the one that pictures show.

    Raises:
        KeyError: there is no such channel.
    """
    volume = result.case.volume
    names = volume.channels
    shown = channel or shown_channel(volume)[0]
    if shown not in names:
        raise KeyError(shown)
    place = names.index(shown)
    alone = Volume(volume.array[place : place + 1], volume.affine, (shown,), volume.native)
    data = viewer_data(alone, result.labels, result.discs)
    return {"channel": shown, "channels": list(names), "nifti": data["channels"][0]["nifti"], "note": data["note"]}


def discs_data(own: CaseResult, result: CaseResult) -> dict[str, Any]:
    """The discs of a result, and what was left out below the lowest one.

    `labels` (NIfTI) has the levels as values, in the image's cut, and dashed outlines of what was left out; `colours`
    are those of both; `discs` has a row for each disc; `left_out` value, name and centroid_mm of each other structure.

    Args:
        own: the program's own result, whose discs say what the image was cut to.
        result: to be shown.
    """
    box = surroundings(own.labels)
    affine = cropped(result.labels.grid, box).affine
    over = result.labels.array if result.left_out is None else result.left_out.over(result.labels)
    others = {} if result.left_out is None else result.left_out.values(result.labels)
    array = np.ascontiguousarray(over[box])
    centroids = {value: to_world_mm(affine, np.argwhere(array == value).mean(axis=0)).tolist()
                 for value in others if (array == value).any()}  # fmt: skip
    rows = disc_rows(result.discs)
    for row in rows:
        row["colour"] = hex_colour(level_colour(row["level"]))
        row["unsure"] = [key for key in ("level_confidence", "outline_confidence") if is_unsure(key, row[key])]
    return {
        "labels": base64.b64encode(nifti.encoded(dashed(array, others), affine)).decode("ascii"),
        "colours": overlay_colours(result.labels, others),
        "discs": rows,
        "left_out": [{"value": value, "name": others[value], "centroid_mm": centroids[value]} for value in centroids],
    }
