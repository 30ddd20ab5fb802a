"""Whether the localization network's levels depend on where in the field of view a disc lies.

    python -m benchmarks.added_air --model models/NAME [--only NAMES] FOLDER [FOLDER ...]

Air is added above or below each image, and the network's level of every outlined disc, up to the seventh, is compared
with its level in the image as it is. FOLDERs and cases are those of `benchmarks.real_scans`; only cases with outlines
count. What the networks say is kept under `cache/evidence`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence_cache import View, looked_at, read_evidence
from benchmarks.real_scans import find_scans
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.candidates import disc_votes
from ivdjax.discs.evidence import Evidence
from ivdjax.model.model import read_model
from ivdjax.volume import LUMBAR_DISCS, LabelMap, UserError, to_world_mm

ADDED_MM: tuple[tuple[float, float], ...] = ((0, 0), (20, 0), (40, 0), (80, 0), (0, 20), (0, 40), (0, 80))
"""Air above and below."""
_MOST_POINTS = 2000


def main() -> int:
    """Prints a row for each amount of air; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--model", required=True, metavar="M")
    parser.add_argument("--only", metavar="NAMES", help="cases of these names alone, separated by commas")
    options = parser.parse_args()

    def run() -> int:
        channels = read_model(options.model).channels
        cases = find_scans(options.folders, channels, options.only.split(",") if options.only else None)
        print(air_table(options.model, [files for files in cases if files.labels is not None], channels))
        return 0

    return run_command(run)


def air_table(model: str, cases: Sequence[CaseFiles], channels: Sequence[str]) -> str:
    """Levels that are right, and that differ from those without air, for each amount of air, in markdown.

    Raises:
        UserError: no case has outlines, or the model has no localization network.
    """
    views = {View(above_mm=0.0 - above, below_mm=0.0 - below): (above, below) for above, below in ADDED_MM}
    said: dict[tuple[float, float], list[tuple[int, int]]] = {added: [] for added in ADDED_MM}
    for files, view, path in looked_at(model, cases, lambda _: tuple(views)):
        labels = read_case(files, channels, partial=True).labels
        assert labels is not None
        said[views[view]] += network_levels(labels, read_evidence(path).evidence)
    plain = said[ADDED_MM[0]]
    if not plain:
        raise UserError("no case has an outlined disc")
    lines = ["| air above, mm | air below, mm | levels right | other than without air |", "|---" * 4 + "|"]
    for (above, below), found in said.items():
        right = sum(true == seen for true, seen in found)
        other = sum(first != second for (_, first), (_, second) in zip(plain, found, strict=True))
        lines.append(f"| {above:g} | {below:g} | {right} of {len(found)} | {other} |")
    return "\n".join(lines)


def network_levels(labels: LabelMap, evidence: Evidence) -> list[tuple[int, int]]:
    """Each outlined level up to the seventh, and what the network takes it for (0: none, 8: any higher disc).

    Raises:
        UserError: the model has no localization network.
    """
    pairs = []
    for level in (level for level in labels.levels if level <= LUMBAR_DISCS):
        voxels = np.argwhere(labels.array == level)
        few = voxels[:: max(1, len(voxels) // _MOST_POINTS)].astype(float)
        points_mm = np.asarray(to_world_mm(labels.grid.affine, few), float)
        votes = disc_votes(points_mm, evidence)
        if votes is None:
            raise UserError("the model has no localization network")
        pairs.append((level, int(votes.mean(axis=1).argmax())))
    return pairs


if __name__ == "__main__":
    sys.exit(main())
