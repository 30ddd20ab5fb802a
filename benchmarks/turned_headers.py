"""What becomes of scans whose header names the wrong ends: whether the verdict is review, and whether it says why.

    python benchmarks/turned_headers.py --model models/NAME CASES [CASES ...]

CASES are folders of cases with references, or case folders; the references are not used. Each scan is read as it is,
upside down, back to front, and both, as a header with those axes exchanged gives it. Columns:

- review: scans with that verdict.
- said: scans of which a reason says that they may be stored the other way round, whichever.
- told: of these, those whose reason names the right way.
- least and largest gain: in log evidence, of the likeliest other way round (`ivdjax.discs.orientation`); above 0 it is
  said, where three discs and more were found.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reference_cases import reference_cases
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.candidates import find_candidates
from ivdjax.discs.orientation import WAYS, turned_gain
from ivdjax.inference.case_result import conclude, prepare_case
from ivdjax.inference.segmenter import Segmenter, load_segmenter, look
from ivdjax.model.model import read_model
from ivdjax.volume import Case, Volume

AS_IT_IS = "as it is"
_SAID = "The image may be stored "


@dataclass(frozen=True)
class Outcome:
    """One scan under one header.

    Attributes:
        review: whether the verdict is review.
        said: the way that a reason names, of `WAYS`; empty: none.
        gain: of the likeliest other way round; not a number without any candidate.
    """

    review: bool
    said: str
    gain: float


def main() -> int:
    """Works on every scan under every header, and prints a table in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASES")
    parser.add_argument("--model", required=True, metavar="M")
    options = parser.parse_args()

    def run() -> int:
        cases = reference_cases(options.cases, read_model(options.model).channels)
        print(table(measure(load_segmenter(options.model), cases)))
        return 0

    return run_command(run)


def measure(segmenter: Segmenter, cases: Sequence[CaseFiles]) -> dict[str, list[Outcome]]:
    """The outcome of every scan, by what its header has wrong."""
    outcomes: dict[str, list[Outcome]] = {way: [] for way in (AS_IT_IS, *WAYS)}
    with tqdm(total=len(cases) * len(outcomes), desc="headers", unit="volume") as bar:
        for files in cases:
            case = read_case(files, segmenter.model.channels)
            for way, found in outcomes.items():
                found.append(_outcome(segmenter, stored(case, way)))
                bar.update()
    return outcomes


def stored(case: Case, way: str) -> Case:
    """The case as a file gives it whose header has that wrong: other voxels in the same places."""
    upside_down, back_to_front = WAYS.get(way, (False, False))
    axes = [axis for axis, wrong in ((2, upside_down), (3, back_to_front)) if wrong]
    volume = case.volume
    array = np.ascontiguousarray(np.flip(volume.array, axes))
    return replace(case, volume=Volume(array, volume.affine, volume.channels, volume.native), labels=None)


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """One row a header, in markdown."""
    lines = ["| header | scans | review | said | told | least gain | largest gain |", "|---" * 7 + "|"]
    for way, rows in outcomes.items():
        gains = [row.gain for row in rows if not math.isnan(row.gain)]
        cells = [len(rows), sum(row.review for row in rows), sum(bool(row.said) for row in rows),
                 sum(row.said == way for row in rows)]  # fmt: skip
        ends = [f"{end(gains):.1f}" if gains else "-" for end in (min, max)]
        lines.append(f"| {way} | {' | '.join(map(str, cells))} | {' | '.join(ends)} |")
    return "\n".join(lines)


def _outcome(segmenter: Segmenter, case: Case) -> Outcome:
    prepared, evidence = look(segmenter, prepare_case(segmenter.model, case))
    result = conclude(segmenter.model, case, prepared, evidence)
    said = next((reason.removeprefix(_SAID) for reason in result.reasons if reason.startswith(_SAID)), "")
    candidates = find_candidates(evidence, segmenter.config.inference)
    gain = max(turned_gain(candidates).values()) if candidates else math.nan
    return Outcome(result.verdict == "review", said.partition(":")[0], gain)


if __name__ == "__main__":
    sys.exit(main())
