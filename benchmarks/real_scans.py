"""How many patients a model numbers right on scans that it never saw, and what it says of them.

    python -m benchmarks.real_scans --model models/NAME [--set inference.KEY=VALUE] [--details FILE] FOLDER [FOLDER ...]

A FOLDER holds cases, or sets of cases (folders of case folders). A case has the model's channels; for a model of one
channel, one image of any name. Its reference is `<case>_Labels` (numbered discs) or `<case>_Points.json` (level to the
midpoint of the bodies beside that disc, RAS mm). What the networks say is kept under `cache/evidence`, so that another
way of numbering takes seconds a case.

- right: every level that has a reference lies within 10 mm of it, in the sagittal plane, under its own number.
- silent: cases that are not right and have the verdict ok.
- Dice: mean over the outlined discs up to the seventh, a missing one counting 0.

Cases whose images and references are the same bytes are one scan and count once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence_cache import View, looked_at, read_evidence
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.metrics import score_case
from ivdjax.imaging.components import component_list
from ivdjax.imaging.files import split_suffix
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.case_result import conclude
from ivdjax.model.model import override_inference, read_model
from ivdjax.reports.tables import csv_text
from ivdjax.volume import LUMBAR_DISCS, Disc, UserError

RIGHT_MM = 10.0
LABELS, POINTS = "Labels", "Points"
Points = dict[int, tuple[float, float, float]]


@dataclass(frozen=True)
class Scored:
    """What came out for one case.

    Attributes:
        set_name: folder that the case lies in.
        case: its name.
        right: whether every level with a reference is right.
        levels_right, levels_total: of those levels.
        verdict: "ok" or "review".
        reasons: for a review.
        least_confidence: of the levels that were given; 0 without any.
        dice: mean over outlined discs; None without outlines.
        wrong: levels that are not where their reference is, each with the level that lies there (0: none).
    """

    set_name: str
    case: str
    right: bool
    levels_right: int
    levels_total: int
    verdict: str
    reasons: tuple[str, ...]
    least_confidence: float
    dice: float | None
    wrong: dict[int, int]

    @property
    def silent(self) -> bool:
        """Whether it is wrong and nothing says so."""
        return not self.right and self.verdict == "ok"


def main() -> int:
    """Scores every case and prints the tables in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--model", required=True, metavar="M")
    parser.add_argument("--set", action="append", default=[], metavar="inference.KEY=VALUE", dest="overrides")
    parser.add_argument("--only", metavar="NAMES", help="cases of these names alone, parted by commas")
    parser.add_argument("--details", metavar="FILE", help="a CSV with one row a case")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    options = parser.parse_args()

    def run() -> int:
        names = options.only.split(",") if options.only else None
        cases = find_scans(options.folders, read_model(options.model).channels, names)
        scored = score_scans(options.model, cases, options.overrides, options.processes)
        print(summary_table(scored))
        print()
        print(case_table(scored))
        if options.details:
            rows = [asdict(row) | {"reasons": "; ".join(row.reasons)} for row in scored]
            write_whole(Path(options.details), csv_text(tuple(rows[0]), rows))
        return 0

    return run_command(run)


def find_scans(folders: Iterable[str], channels: Sequence[str], names: Sequence[str] | None = None) -> list[CaseFiles]:
    """The cases with a reference in folders of cases or of sets, each scan once; the subject is the set's name.

    Raises:
        UserError: no such folder, or no case with a reference that the model can take.
    """
    found: dict[str, CaseFiles] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder")
        places = sorted({*folder.glob("*/"), *folder.glob("*/*/"), folder})
        for place in places:
            files = _scan(place, channels)
            if files is not None and (names is None or files.name in names):
                found.setdefault(_digest(files), files)
    if not found:
        raise UserError(f"no case with a reference and {', '.join(channels)} in {', '.join(map(str, folders))}")
    return list(found.values())


def score_scans(
    model: str, cases: Sequence[CaseFiles], overrides: Sequence[str] = (), processes: int = 2
) -> list[Scored]:
    """Every case scored, in order."""
    looked = [(files, path) for files, _, path in looked_at(model, cases)]
    work = partial(score_scan, model, tuple(overrides))
    if processes < 2:
        return [work(pair) for pair in tqdm(looked, desc="numbering", unit="case")]
    with ProcessPoolExecutor(processes) as pool:
        return list(tqdm(pool.map(work, looked), total=len(looked), desc="numbering", unit="case"))


def score_scan(model: str, overrides: Sequence[str], looked: tuple[CaseFiles, Path]) -> Scored:
    """One case, concluded from the evidence that is kept at a path."""
    files, path = looked
    loaded = override_inference(read_model(model), overrides)
    kept = read_evidence(path)
    case = View().of(read_case(files, loaded.channels, partial=True))
    found = conclude(loaded, case, kept.prepared, kept.evidence)
    dice = None
    if files.labels is not None and files.labels.name.partition(".")[0].endswith(LABELS):
        assert case.labels is not None
        scores = score_case(found.labels, case.labels).discs
        dice = float(np.mean([disc.dice for disc in scores])) if scores else None
    wanted = reference_points(files)
    wrong = faults(found.discs, wanted)
    return Scored(
        files.subject, files.name, not wrong, len(wanted) - len(wrong), len(wanted), found.verdict, found.reasons,
        min((disc.level_confidence for disc in found.discs), default=0.0), dice, wrong,
    )  # fmt: skip


def reference_points(files: CaseFiles) -> Points:
    """Where the disc of each level up to the seventh should lie: RAS mm."""
    path = files.labels or next(_points_files(Path(str(next(iter(files.channels.values())))).parent))
    if path.suffix == ".json":
        return {int(level): tuple(point) for level, point in json.loads(path.read_text(encoding="utf-8")).items()}
    case = read_case(files, tuple(files.channels))
    assert case.labels is not None
    found = component_points(case.labels.array, case.labels.grid)
    return {level: point for level, point in found.items() if level <= LUMBAR_DISCS}


def faults(discs: Sequence[Disc], wanted: Points) -> dict[int, int]:
    """Levels of a reference that are not right, and for each the level of the disc that lies there (0: none)."""
    wrong = {}
    for level, point in wanted.items():
        near = {disc.level: _apart_mm(disc, point) for disc in discs}
        if near.get(level, np.inf) > RIGHT_MM:
            nearest = min(near, key=lambda found: near[found], default=0)
            wrong[level] = nearest if near.get(nearest, np.inf) <= RIGHT_MM else 0
    return wrong


def summary_table(scored: Sequence[Scored]) -> str:
    """One row a set and one for all, in markdown."""
    lines = ["| set | cases | numbered right | levels right | ok, of the right ones | ok in all | silent | Dice |",
             "|---" * 8 + "|"]  # fmt: skip
    sets = list(dict.fromkeys(row.set_name for row in scored))
    for name in [*sets, "all"] if len(sets) > 1 else sets:
        rows = [row for row in scored if name in (row.set_name, "all")]
        right = [row for row in rows if row.right]
        dices = [row.dice for row in rows if row.dice is not None]
        ok = [row.verdict == "ok" for row in right]
        lines.append(
            f"| {name} | {len(rows)} | {len(right)} | {sum(row.levels_right for row in rows)} of "
            f"{sum(row.levels_total for row in rows)} | {sum(ok)} of {len(right)} | "
            f"{sum(row.verdict == 'ok' for row in rows)} | {sum(row.silent for row in rows)} | "
            f"{f'{np.mean(dices):.3f} ({len(dices)})' if dices else '-'} |"
        )
    return "\n".join(lines)


def case_table(scored: Sequence[Scored]) -> str:
    """One row a case, in markdown."""
    lines = ["| case | right | verdict | least confidence | Dice | reasons |", "|---" * 6 + "|"]
    for row in scored:
        shift = ", ".join(f"{level} found as {found or 'none'}" for level, found in row.wrong.items())
        right = "yes" if row.right else f"no: {shift}"
        dice = "-" if row.dice is None else f"{row.dice:.3f}"
        lines.append(
            f"| {row.set_name}/{row.case} | {right} | {row.verdict} | {row.least_confidence:.2f} | {dice} | "
            f"{'; '.join(row.reasons) or '-'} |"
        )
    return "\n".join(lines)


def component_points(labels: np.ndarray, grid) -> Points:  # type: ignore[no-untyped-def]
    """Centroid of each value of a label map, RAS mm."""
    return {part.number: tuple(part.centroid_mm) for part in component_list(labels, grid)}  # type: ignore[misc]


def _scan(folder: Path, channels: Sequence[str]) -> CaseFiles | None:
    """The case in a folder, if it is one with a reference."""
    images = {}
    for path in sorted(folder.iterdir()):
        stem, suffix = split_suffix(path)
        if suffix and not path.name.startswith(".") and path.is_file():
            images[stem.removeprefix(f"{folder.name}_")] = path
    labels = images.pop(LABELS, None)
    images.pop("Tissues", None)
    points = next(_points_files(folder), None)
    if not images or (labels is None and points is None):
        return None
    if len(channels) == 1 and len(images) == 1:
        chosen = {channels[0]: next(iter(images.values()))}
    else:
        chosen = {name: images[name] for name in channels if name in images}
    if not chosen:
        return None
    return CaseFiles(folder.name, folder.resolve().parent.name, dict(chosen), labels)


def _points_files(folder: Path) -> Iterable[Path]:
    return iter(sorted(folder.glob(f"*_{POINTS}.json")))


def _digest(files: CaseFiles) -> str:
    paths = [Path(str(path)) for path in files.channels.values()]
    paths += [files.labels] if files.labels else list(_points_files(paths[0].parent))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _apart_mm(disc: Disc, point: tuple[float, float, float]) -> float:
    return float(np.hypot(disc.centroid_mm[1] - point[1], disc.centroid_mm[2] - point[2]))


if __name__ == "__main__":
    sys.exit(main())
