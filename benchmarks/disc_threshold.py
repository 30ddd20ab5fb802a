"""Which probability a voxel must exceed to count as disc: the mean Dice of all discs together at several thresholds.

    python -m benchmarks.disc_threshold --model models/NAME [--training] FOLDER [FOLDER ...]

FOLDERs and cases are those of `benchmarks.real_scans`; only cases with outlines count. `--training` leaves out the
patients that the model's configuration holds out: a setting must not be chosen on those that it is validated on. The
outlines are the ones that inference restores at the images' resolution, within 10 mm of a reference disc, whatever
their levels. What the networks say is kept under `cache/evidence`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence_cache import looked_at, read_evidence
from benchmarks.real_scans import find_scans
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.preparation import restore_probability
from ivdjax.discs.metrics import dice
from ivdjax.model.model import read_model
from ivdjax.volume import UserError

THRESHOLDS = (0.35, 0.4, 0.45, 0.475, 0.5, 0.525, 0.55, 0.575, 0.6, 0.65)
_NEAR_MM = 10.0


def main() -> int:
    """Prints a row for each threshold; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--model", required=True, metavar="M")
    parser.add_argument("--training", action="store_true", help="without the patients that the model holds out")
    options = parser.parse_args()

    def run() -> int:
        config = read_model(options.model).config
        held_out = config.data.validation if options.training else ()
        cases = [files for files in find_scans(options.folders, config.data.channels)
                 if files.labels is not None and files.name not in held_out]  # fmt: skip
        print(threshold_table(options.model, cases, config.data.channels))
        return 0

    return run_command(run)


def threshold_table(model: str, cases: Sequence[CaseFiles], channels: Sequence[str]) -> str:
    """Mean Dice, and predicted over true volume, at each threshold, in markdown.

    Raises:
        UserError: no case has outlines.
    """
    if not cases:
        raise UserError("no case with outlined discs was found; give folders of cases that have a label map")
    looked = tqdm(looked_at(model, cases), total=len(cases), desc="thresholds", unit="case")
    dices, shares = np.mean([_case_scores(files, path, channels) for files, _, path in looked], axis=0).T
    rows = ["| threshold | mean Dice | predicted over true volume |", "|---|---|---|"]
    rows += [f"| {at:g} | {dices[i]:.4f} | {shares[i]:.3f} |" for i, at in enumerate(THRESHOLDS)]
    return "\n".join([f"{len(cases)} cases", "", *rows])


def _case_scores(files: CaseFiles, path: Path, channels: Sequence[str]) -> list[tuple[float, float]]:
    looked, labels = read_evidence(path), read_case(files, channels, partial=True).labels
    assert labels is not None
    true = labels.array > 0
    away_mm = ndimage.distance_transform_edt(~true, sampling=labels.spacing_mm)
    probability = np.where(away_mm <= _NEAR_MM, restore_probability(looked.evidence.probability, looked.prepared), 0.0)
    masks = [probability > at for at in THRESHOLDS]
    return [(dice(mask, true), float(mask.sum() / true.sum())) for mask in masks]


if __name__ == "__main__":
    sys.exit(main())
