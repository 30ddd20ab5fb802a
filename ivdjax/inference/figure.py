"""A picture of a stored result in any form: its images are read again, its discs are those of the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivdjax.data.datasets import read_case
from ivdjax.imaging.files import read_labels
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.kept import read_kept
from ivdjax.inference.names import bids_names, plain_names
from ivdjax.inference.results import read_document
from ivdjax.reports.canvas import DARK, WHITE, figure_bytes
from ivdjax.reports.overview import PANELS, Heading, overview_figure
from ivdjax.volume import Disc, UserError


@dataclass(frozen=True)
class FigureRequest:
    """What to draw.

    Attributes:
        folder: the case's result folder.
        output: the folder of the picture.
        kind: "png", "svg" or "pdf".
        dpi: pixels per inch.
        background: "white" or "black".
        panels: planes from left to right, of `PANELS`.
        badge: whether name, verdict and reasons stand above.
    """

    folder: Path
    output: Path
    kind: str = "png"
    dpi: float = 300.0
    background: str = "white"
    panels: tuple[str, ...] = PANELS
    badge: bool = True


def draw_figure(request: FigureRequest) -> Path:
    """Writes `<case>_figure.<kind>`, whole or not at all; gives its path.

    Raises:
        UserError: the folder holds no result, or a plane does not exist.
        CaseError: the images cannot be read, or what is kept of the case is missing.
        OSError: the file cannot be written.
    """
    unknown = [name for name in request.panels if name not in PANELS]
    if unknown or not request.panels:
        raise UserError(f"--panels takes {', '.join(PANELS)}, not {', '.join(unknown) or 'none'}")
    folder = request.folder
    documents = sorted([*folder.glob("*_discs.json"), *folder.glob("*_desc-discs_result.json")])
    document = read_document(documents[0]) if documents else {}
    if "case" not in document:
        raise UserError(f"{folder} holds no result; give a folder OUT/<case> that ivdjax infer wrote")
    case = str(document["case"])
    names = plain_names(case) if documents[0].name.endswith("_discs.json") else bids_names(case)
    kept = read_kept(folder / names.name("evidence"), case)
    volume = read_case(kept.files, tuple(kept.files.channels)).volume
    labels = read_labels(folder / names.name("labels"), case)
    discs = [_disc(row) for row in document["discs"]]
    heading = Heading(case, str(document["verdict"]), tuple(document["reasons"])) if request.badge else None
    look = replace(WHITE if request.background == "white" else DARK, dpi=request.dpi)
    figure = overview_figure(volume, labels, discs, heading, look, request.panels)
    path = request.output / f"{case}_figure.{request.kind}"
    write_whole(path, figure_bytes(figure, request.kind))
    return path


def _disc(row: dict[str, Any]) -> Disc:
    """A disc as far as a picture needs it."""
    centroid = (row["centroid_x_mm"], row["centroid_y_mm"], row["centroid_z_mm"])
    return Disc(row["level"], row["level_confidence"], centroid, row["volume_mm3"])
