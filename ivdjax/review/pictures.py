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
from ivdjax.reports.viewer import surroundings, viewer_data
from ivdjax.volume import LabelMap, Volume, level_name


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
    """The discs of a result: `labels` (NIfTI, the levels as values) in the image's cut, `colours`, and `discs` as rows.

    Args:
        own: the program's own result, whose discs say what the image was cut to.
        result: to be shown.
    """
    box = surroundings(own.labels)
    part = LabelMap(np.ascontiguousarray(result.labels.array[box]), cropped(result.labels.grid, box).affine)
    rows = disc_rows(result.discs)
    for row in rows:
        row["colour"] = hex_colour(level_colour(row["level"]))
        row["unsure"] = [key for key in ("level_confidence", "outline_confidence") if is_unsure(key, row[key])]
    return {
        "labels": base64.b64encode(nifti.encoded(part.array, part.affine)).decode("ascii"),
        "colours": [[level, *(round(255 * share) for share in level_colour(level)), level_name(level)]
                    for level in result.labels.levels],
        "discs": rows,
    }  # fmt: skip
