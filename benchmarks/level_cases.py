"""Cases for fitting the numbering: patients and phantoms in many views, and what is true of each candidate."""

from __future__ import annotations

import hashlib
import pickle
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.evidence_cache import CONTRASTS, Looked, View, looked_at, read_evidence
from benchmarks.real_scans import RIGHT_MM, Points, reference_points
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.centre_line import CentreLine
from ivdjax.discs.evidence import Evidence
from ivdjax.discs.numbering import looked_candidates
from ivdjax.discs.outline import outline_confidence
from ivdjax.imaging.folders import write_whole
from ivdjax.imaging.geometry import resample
from ivdjax.model.model import Model, read_model
from ivdjax.volume import LUMBAR_DISCS, Case, LabelMap

_FORMAT = 3
_LEFT_IN_VIEW = 0.4
"""Share of a disc of the whole scan that a view must hold for the disc to count as in view."""
_COVERED = 0.3
"""Share of a candidate's voxels that must lie in a reference disc."""


@dataclass(frozen=True, eq=False)
class LevelCase:
    """One view of one case.

    Attributes:
        name: case and view.
        group: the patient or phantom, which all its views share.
        kind: "patient", "phantom" or "real".
        candidates: without their voxels.
        line: the spine's centre line.
        guide_off_mm: of the registered reference's line from the candidates.
        outlines: (N,), the expected Dice of each candidate's outline; not a number where the model is not calibrated.
        allowed: bool (N, L + 1), levels (and, last, no disc) that may be true of each candidate.
        wanted: levels up to the seventh that a right answer has.
    """

    name: str
    group: str
    kind: str
    candidates: tuple[Candidate, ...]
    line: CentreLine
    guide_off_mm: float
    outlines: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    wanted: tuple[int, ...]

    def is_level(self, index: int, level: int) -> bool | None:
        """Whether a candidate truly has a level; None where the reference does not tell."""
        may = self.allowed[index, :-1]
        if not may[level - a.LOWEST]:
            return False
        return True if may.sum() == 1 else None

    def right(self, levels: Sequence[int | None]) -> bool:
        """Whether an answer is: every level wanted is given, and none to what has another level or is no disc."""
        columns = [-1 if level is None or level < 1 else level - a.LOWEST for level in levels]
        # Remnants are left out as what is no disc, and whatever lies above the seventh is not given out.
        outside = self.allowed[:, : 1 - a.LOWEST].any(axis=1) | self.allowed[:, -1]
        high = self.allowed[:, LUMBAR_DISCS + 1 - a.LOWEST : -1].any(axis=1)
        fine = [
            outside[i] if c == -1 else high[i] or outside[i] if c > LUMBAR_DISCS - a.LOWEST else self.allowed[i, c]
            for i, c in enumerate(columns)
        ]
        return all(fine) and set(self.wanted) <= {level for level in levels if level}


def patient_views(files: CaseFiles) -> tuple[View, ...]:
    """A whole scan, and parts and contrasts of it: the same ones for a case of the same name."""
    draw = np.random.default_rng(int(hashlib.sha256(files.name.encode()).hexdigest()[:8], 16))
    below, above = draw.uniform(25, 115, 4), draw.uniform(30, 130, 4)
    dark = list(CONTRASTS)[1:]
    return (
        View(),
        View(below_mm=round(below[0]), slices=9),
        View(above_mm=round(above[0]), slices=9),
        View(below_mm=round(below[1] / 2), above_mm=round(above[1]), merged=4),
        View(below_mm=-round(below[2]), above_mm=-round(above[2] / 2), slices=9),
        View(merged=5, contrast=str(draw.choice(dark))),
        View(below_mm=round(below[3] / 2), merged=4, contrast=str(draw.choice(dark))),
        View(above_mm=round(above[3]), slices=7, contrast=str(draw.choice(dark))),
    )


def phantom_views(files: CaseFiles) -> tuple[View, ...]:
    """A whole phantom, and every other one in a part of it."""
    digest = int(hashlib.sha256(files.name.encode() + files.subject.encode()).hexdigest()[:8], 16)
    draw = np.random.default_rng(digest)
    if digest % 2:
        return (View(),)
    return (View(), View(below_mm=round(draw.uniform(10, 110)), above_mm=round(draw.uniform(-20, 100)), slices=9))


def level_cases(
    model: str, patients: Sequence[CaseFiles], phantoms: Sequence[CaseFiles], real: Sequence[CaseFiles] = ()
) -> list[LevelCase]:
    """The cases in their views (real scans as they are), from the evidence that is kept (`evidence_cache`)."""
    work = [("patient", *item) for item in looked_at(model, patients, patient_views)]
    work += [("phantom", *item) for item in looked_at(model, phantoms, phantom_views)]
    work += [("real", *item) for item in looked_at(model, real)]
    with ProcessPoolExecutor(2) as pool:
        found = pool.map(partial(level_case, read_model(model)), work, chunksize=4)
        return [case for case in tqdm(found, total=len(work), desc="candidates", unit="case") if case is not None]


def level_case(model: Model, item: tuple[str, CaseFiles, View, Path]) -> LevelCase | None:
    """One view of one case; None where nothing in it may be a disc."""
    kind, files, view, path = item
    kept = path.with_suffix(f".case{_FORMAT}")
    if kept.exists() and kept.stat().st_mtime > path.stat().st_mtime:
        loaded: LevelCase | None = pickle.loads(zlib.decompress(kept.read_bytes()))
        return loaded
    looked = read_evidence(path)
    candidates, line, guide_off_mm = looked_candidates(looked.evidence, model.config.inference)
    found = None
    if line is not None:
        if files.labels is None:
            allowed, wanted = _by_points(candidates, reference_points(files))
        else:
            allowed, wanted = _by_labels(candidates, read_case(files, model.channels, partial=True), view, looked)
        group = f"{files.subject}/{files.name}"
        bare = tuple(replace(candidate, voxels=candidate.voxels[:1]) for candidate in candidates)
        outlines = _outlines(candidates, looked.evidence, model)
        found = LevelCase(f"{group} {view}", group, kind, bare, line, guide_off_mm, outlines, allowed, wanted)
    write_whole(kept, zlib.compress(pickle.dumps(found)))
    return found


def _by_labels(
    candidates: Sequence[Candidate], case: Case, view: View, looked: Looked
) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """What may be true of each candidate by an outlined reference, and the levels that are wanted."""
    whole, seen = case.labels, view.of(case).labels
    assert whole is not None and seen is not None
    grid, partly = looked.evidence.grid, _partly(whole, seen)
    allowed = truths(candidates, np.asarray(resample(seen.array, seen.grid, grid, order=0), dtype=np.uint8), partly)
    return allowed, tuple(level for level in seen.levels if level <= LUMBAR_DISCS and level not in partly)


def _by_points(candidates: Sequence[Candidate], points: Points) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """The same by points: whoever lies nearest to one, within 10 mm, has its level; of others nothing is known."""
    allowed = np.ones((len(candidates), len(a.LEVELS) + 1), bool)
    for level in points:
        allowed[:, level - a.LOWEST] = False
    for level, point in points.items():
        apart = [float(np.hypot(*(c.centroid_mm[1:] - np.array(point[1:])))) for c in candidates]
        nearest = int(np.argmin(apart))
        if apart[nearest] <= RIGHT_MM:
            allowed[nearest] = False
            allowed[nearest, level - a.LOWEST] = True
    return allowed, tuple(points)


def _outlines(candidates: Sequence[Candidate], evidence: Evidence, model: Model) -> NDArray[np.float64]:
    calibration = model.meta.get("outline_calibration")
    if not calibration:  # the verdict does without, see `ivdjax.inference.case_result`
        return np.full(len(candidates), np.nan)
    numbers = np.zeros(evidence.grid.shape, np.uint8)
    for number, candidate in enumerate(candidates, start=1):
        numbers[tuple(candidate.voxels.T)] = number
    found = outline_confidence(evidence.probability, numbers, evidence.grid, calibration)
    return np.array([found[number] for number in range(1, len(candidates) + 1)])


def truths(
    candidates: Sequence[Candidate], truth: NDArray[np.uint8], partly: frozenset[int] = frozenset()
) -> NDArray[np.bool_]:
    """What may be true of each candidate (N, L + 1): its reference level, or no disc.

    Of several candidates in one reference disc the largest is it. Below the lowest outlined disc a candidate may be
    whatever lies lower (of L5/S1: a remnant), above the highest whatever lies higher, and no disc in both.

    Args:
        candidates: from the lowest up.
        truth: outlined levels (D, H, W) on the candidates' grid.
        partly: levels of which so little is in view that they may count as discs or not.
    """
    count = len(candidates)
    allowed = np.zeros((count, len(a.LEVELS) + 1), bool)
    levels = [int(level) for level in np.unique(truth) if level]
    heights = {level: np.argwhere(truth == level)[:, 1].mean() for level in levels}
    best: dict[int, tuple[int, int]] = {}
    for index, candidate in enumerate(candidates):
        covered = np.bincount(truth[tuple(candidate.voxels.T)], minlength=2)
        level = int(covered[1:].argmax()) + 1
        if covered[level] >= _COVERED * len(candidate.voxels) and covered[level] > best.get(level, (0, 0))[0]:
            best[level] = (int(covered[level]), index)
    own = {index: level for level, (_, index) in best.items()}
    for index, candidate in enumerate(candidates):
        if index in own:
            allowed[index, own[index] - a.LOWEST] = True
            allowed[index, -1] = own[index] in partly
            continue
        allowed[index, -1] = True
        row = candidate.voxels[:, 1].mean()
        if levels and row > heights[levels[0]]:
            allowed[index, :-1] = levels[0] > a.LEVELS
        elif levels and row < heights[levels[-1]]:
            allowed[index, :-1] = levels[-1] < a.LEVELS
    return allowed


def _partly(whole: LabelMap, seen: LabelMap) -> frozenset[int]:
    """Levels of which less is left in a view than counts."""
    voxel = [float(abs(np.linalg.det(labels.affine[:3, :3]))) for labels in (whole, seen)]
    before, after = (np.bincount(labels.array.ravel(), minlength=256) * mm3
                     for labels, mm3 in zip((whole, seen), voxel, strict=True))  # fmt: skip
    # Views of fewer slices hold less of every disc; of one that is cut off, less than of the others.
    share = {level: after[level] / before[level] for level in whole.levels if before[level] and after[level]}
    most = max(share.values(), default=1.0)
    return frozenset(level for level, left in share.items() if left < _LEFT_IN_VIEW * most)
