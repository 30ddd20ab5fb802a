"""A picture of a stored result in any form: its images are read again, its discs are those of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivdjax.data.datasets import folded
from ivdjax.imaging.files import read_labels
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.case_result import structures_left_out
from ivdjax.inference.corrections import read_corrections
from ivdjax.inference.names import bids_names, natural, plain_names
from ivdjax.inference.results import read_document, result_documents
from ivdjax.inference.selection import selected
from ivdjax.inference.stored_evidence import images_of, read_stored_evidence
from ivdjax.inference.visits.visits import result_paths
from ivdjax.reports.canvas import DARK, WHITE, figure_bytes
from ivdjax.reports.overview import PANELS, Heading, overview_figure
from ivdjax.volume import Disc, UserError


@dataclass(frozen=True)
class FigureRequest:
    """What to draw.

    Attributes:
        result: the case's disc JSON, beside which the other files of its result lie.
        output: the folder of the picture.
        kind: "png", "svg" or "pdf".
        dpi: pixels per inch.
        background: "white" or "black".
        panels: planes from left to right, of `PANELS`.
        badge: whether name, verdict and reasons stand above.
    """

    result: Path
    output: Path
    kind: str = "png"
    dpi: float = 300.0
    background: str = "white"
    panels: tuple[str, ...] = PANELS
    badge: bool = True


def draw_figure(request: FigureRequest) -> Path:
    """Writes `<case>_figure.<kind>`, whole or not at all; gives its path.

    Raises:
        UserError: the file is no result, a plane does not exist, or the case's corrections cannot be read.
        CaseError: the images cannot be read, or what is kept of the case is missing.
        OSError: the file cannot be written.
    """
    unknown = [name for name in request.panels if name not in PANELS]
    if unknown or not request.panels:
        raise UserError(f"--panels takes {', '.join(PANELS)}, not {', '.join(unknown) or 'none'}")
    folder = request.result.parent
    document = read_document(request.result)
    if "case" not in document:
        raise UserError(f"{request.result} is not a result of ivdjax infer, or damaged; infer the case again")
    case = str(document["case"])
    names = plain_names(case) if request.result.name.endswith("_discs.json") else bids_names(case)
    kept = read_stored_evidence(folder / names.name("evidence"), case)
    volume = images_of(kept).volume
    labels = read_labels(folder / names.name("labels"), case)
    discs = [_disc(row) for row in document["discs"]]
    heading = Heading(case, str(document["verdict"]), tuple(document["reasons"])) if request.badge else None
    look = replace(WHITE if request.background == "white" else DARK, dpi=request.dpi)
    corrections = read_corrections(folder / names.name("corrections"), case)
    left_out = structures_left_out(kept.model, kept.prepared, kept.evidence, corrections)
    figure = overview_figure(volume, labels, discs, heading, look, request.panels, left_out)
    path = request.output / f"{case}_figure.{request.kind}"
    write_whole(path, figure_bytes(figure, request.kind))
    return path


def results_of(places: Sequence[Path], where: Sequence[str] = ()) -> list[Path]:
    """The disc JSON of each result that is to be drawn.

    Args:
        places: result folders, or a BIDS subject's; with conditions, output folders of `ivdjax infer`.
        where: conditions on the rows of their summaries (`ivdjax.inference.selection`).

    Raises:
        UserError: a folder holds no result or no summary, no case fulfils the conditions, or two results have one case
            name.
    """
    found: list[Path] = []
    for place in places:
        folders = [place]
        if where:
            there = result_paths(place) if place.is_dir() else {}
            folders = [there[case] for case in sorted(selected(place, where) & there.keys(), key=natural)]
        for folder in folders:
            documents = result_documents(folder) if folder.is_dir() else [folder] if folder.suffix == ".json" else []
            if not documents:
                raise UserError(f"{folder} holds no result; give a folder OUT/<case> that ivdjax infer wrote")
            found += documents
    if not found:
        raise UserError(f"no case that {' and '.join(where)} chooses has a result")
    seen: dict[str, Path] = {}
    for document in found:
        twin = seen.setdefault(folded(document.name), document)
        if twin is not document:
            raise UserError(f"{twin.parent} and {document.parent} are results of one case name, whose pictures would "
                            "replace each other; draw them into different --output folders")  # fmt: skip
    return found


def _disc(row: dict[str, Any]) -> Disc:
    """A disc as far as a picture needs it."""
    centroid = (row["centroid_x_mm"], row["centroid_y_mm"], row["centroid_z_mm"])
    return Disc(row["level"], row["level_confidence"], centroid, row["volume_mm3"])
