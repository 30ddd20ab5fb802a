"""Which disc is which: levels for the discs of a mask, how sure they are, and whether a person should look.

Three ways, by `InferenceConfig.numbering`: the solver, which weighs all evidence and leaves a gap where a disc is
missing; the paper's, which numbers what the spine's centre line crosses from the bottom up; and all components from the
bottom up. The last two are right as long as the lowest component is L5/S1 and no disc is missing or doubled. All three
are judged by the same model of a spine: the confidence of a level is its probability there, however it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ivdjax.config import InferenceConfig
from ivdjax.discs.candidates import Candidate, blinded, find_candidates
from ivdjax.discs.centre_line import CentreLine
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.discs.levels import Chain, solve_levels
from ivdjax.discs.orientation import slope_off_deg, turned_gain
from ivdjax.discs.signs import FEW, Answer, Sign, left_out_below, signs_of, transitional
from ivdjax.discs.spine_line import SpineLine, own_line, paper_line, predicted_levels
from ivdjax.discs.surroundings import surroundings
from ivdjax.discs.verdict import Judgement, Kind, judged, judgement_of
from ivdjax.volume import LabelMap, level_name, to_world_mm

_ANCHOR_MM = 15.0
"""How far from the nearest disc an anchor may lie: less than half of a step, so that no other disc can be meant."""


@dataclass(frozen=True, eq=False)
class Numbering:
    """Numbered discs, and how far the numbers can be trusted.

    Attributes:
        levels: (D, H, W), 0 background, 1 = L5/S1 upward.
        confidence: per level that occurs, 0 to 1: the probability of that level in the model of a spine that weighs all
            evidence (`ivdjax.discs.levels`), calibrated where the model of the networks is. Five lumbar vertebrae are
            assumed, and it does not say how well the disc is outlined.
        verdict: "review" where `probability_wrong` is above the setting `review_above`, else "ok".
        reasons: for a review, in short sentences, the decisive first.
        probability_wrong: that a level is wrong or a disc in view is missing, 0 to 1.
        remarks: what else may be worth knowing; they decide nothing.
        findings: what was found of the spine itself: a likely transitional vertebra.
        signs: what the verdict is made of, by name (`ivdjax.discs.signs`).
        left_out: what was left out below the lowest disc: name and voxels (N, 3) of each (`left_out_below`).
    """

    levels: NDArray[np.uint8]
    confidence: Mapping[int, float]
    verdict: Kind
    reasons: tuple[str, ...]
    probability_wrong: float = 0.0
    remarks: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    signs: Mapping[str, Sign] = field(default_factory=dict)
    left_out: tuple[tuple[str, NDArray[np.intp]], ...] = ()


def number_discs(evidence: Evidence, settings: InferenceConfig, judgement: Judgement | None = None) -> Numbering:
    """Finds the discs of a case and their levels.

    Levels above `settings.discs` are dropped: discs of the thoracic spine look like lumbar ones. What cannot be a disc
    of this spine is dropped; whatever speaks against the numbering sends the case to review. No disc at all gives an
    empty map, no confidence and the verdict review. An anchor fixes the level of the disc that it lies in, or of the
    nearest within 15 mm; the others follow.

    Args:
        evidence: what the networks, the model and the user say.
        settings: which of it counts, how discs are numbered, and when a case goes to review.
        judgement: the model's calibration and verdict; the program's own if not given.

    Raises:
        ValueError: `settings.discs` is not 1 to 255; the anchor lies in no disc, or its level cannot be told apart.
    """
    if not 1 <= settings.discs <= 255:
        raise ValueError(f"the number of discs to keep must be 1 to 255, not {settings.discs}")
    answer = _solved(evidence, settings) if settings.numbering == "solver" else _counted(evidence, settings)
    levels = np.zeros(evidence.grid.shape, np.uint8)
    for level in answer.places:
        levels[tuple(answer.disc(level).voxels.T)] = level
    own = judgement or judgement_of(None)
    signs = signs_of(answer)
    verdict = judged(signs, own, settings.review_above)
    confidence = {level: own.confidence(value) for level, value in answer.confidence.items()}
    finding = transitional(answer)
    return Numbering(
        levels, confidence, verdict.kind, verdict.reasons, verdict.probability_wrong, verdict.remarks,
        (finding,) if finding else (), signs,
        tuple((name, answer.candidates[index].voxels) for index, name in left_out_below(answer)),
    )  # fmt: skip


def looked_candidates(
    evidence: Evidence, settings: InferenceConfig
) -> tuple[list[Candidate], CentreLine | None, float]:
    """What the solver looks at: candidates from the lowest up with their surroundings, and the line; none without any.

    The last value is how far the registered reference's line lies from the candidates, in mm.

    Args:
        evidence: of the case.
        settings: which of it counts.
    """
    candidates = find_candidates(evidence, settings)
    if not candidates:
        return [], None, 0.0
    line, off_mm = own_line(candidates, paper_line(candidates, evidence, settings))
    return _with_surroundings(candidates, line, evidence, settings), line, off_mm


def _with_surroundings(
    candidates: Sequence[Candidate], line: CentreLine, evidence: Evidence, settings: InferenceConfig
) -> list[Candidate]:
    centroids = np.array([c.centroid_mm for c in candidates])
    around = surroundings(centroids, line, evidence, settings.region, settings.localization)
    return [replace(c, around=seen) for c, seen in zip(candidates, around, strict=True)]


def _solved(evidence: Evidence, settings: InferenceConfig) -> Answer:
    candidates = find_candidates(evidence, settings)
    guide = paper_line(candidates, evidence, settings) if candidates else None
    return _judged(candidates, None, _pinned(candidates, evidence), guide, evidence, settings)


def _counted(evidence: Evidence, settings: InferenceConfig) -> Answer:
    """Numbered from the bottom up: what the paper's centre line crosses, or all components."""
    by_line = settings.numbering == "line"
    confined = by_line and settings.localization and evidence.level_probability is not None
    if confined:
        evidence = _within(evidence, predicted_levels(evidence, settings))
        settings = replace(settings, region=True)
    candidates = find_candidates(evidence, settings, whole_discs=False)
    if confined:  # to discs, whose border every candidate reaches
        candidates = [replace(candidate, at_border=0.0) for candidate in candidates]
    guide, kept = None, candidates
    if by_line and candidates:
        guide = paper_line(candidates, evidence, settings)
        kept = [c for c in candidates if guide.line.crosses(_mask(c, evidence), evidence.grid)]
    pinned = _pinned(kept, evidence)
    first = 1 if pinned is None else pinned[1] - pinned[0]
    given: dict[int, int] = {id(c): level for level, c in enumerate(kept, start=first) if level >= 1}
    levels = [given.get(id(c)) for c in candidates]
    if pinned is not None:
        pinned = (next(i for i, c in enumerate(candidates) if c is kept[pinned[0]]), pinned[1])
    return _judged(candidates, levels, pinned, guide, evidence, settings)


def judge_candidates(
    candidates: Sequence[Candidate], line: CentreLine, guide_off_mm: float, settings: InferenceConfig,
    levels: Sequence[int | None] | None = None, pinned: tuple[int, int] | None = None,
) -> Answer:  # fmt: skip
    """Levels for candidates (the solver's where none are given), with the probability of each.

    Args:
        candidates: from the lowest centroid up with their surroundings, at least one (`looked_candidates`).
        line: the spine's centre line.
        guide_off_mm: how far the registered reference's line lies from them.
        settings: how many discs are wanted.
        levels: that were given to them otherwise.
        pinned: index of a candidate and the level that it certainly has.
    """
    chain = solve_levels(candidates, line, pinned)
    blind = solve_levels([blinded(candidate) for candidate in candidates], line, pinned)
    given = chain.levels if levels is None else levels
    many = sum(1 <= level <= settings.discs for level in given if level is not None) >= FEW
    off_mm = line.distance_mm(np.array([c.centroid_mm for c in candidates]))
    return Answer(
        candidates, given, chain, blind, [float(off) for off in off_mm], guide_off_mm, pinned is not None,
        settings.discs, turned_gain(candidates) if many else {}, slope_off_deg(candidates) if many else 0.0,
    )  # fmt: skip


def _judged(
    candidates: Sequence[Candidate], levels: Sequence[int | None] | None, pinned: tuple[int, int] | None,
    guide: SpineLine | None, evidence: Evidence, settings: InferenceConfig,
) -> Answer:  # fmt: skip
    if not candidates:
        nothing = Chain((), np.zeros((0, 0)))
        return Answer((), (), nothing, nothing, (), 0.0, False, settings.discs)
    line, guide_off_mm = own_line(candidates, guide)
    candidates = _with_surroundings(candidates, line, evidence, settings)
    return judge_candidates(candidates, line, guide_off_mm, settings, levels, pinned)


def _within(evidence: Evidence, predicted: LabelMap) -> Evidence:
    """The evidence with the discs of both networks (paper, section 2.2) as region."""
    region = np.zeros(evidence.grid.shape, bool)
    start = np.rint(np.linalg.solve(evidence.grid.affine, predicted.affine[:, 3])[:3]).astype(int)
    box = tuple(slice(first, first + size) for first, size in zip(start, predicted.array.shape, strict=True))
    region[box] = predicted.array > 0
    return replace(evidence, region=region)


def _mask(candidate: Candidate, evidence: Evidence) -> NDArray[np.bool_]:
    mask = np.zeros(evidence.grid.shape, bool)
    mask[tuple(candidate.voxels.T)] = True
    return mask


def _pinned(candidates: Sequence[Candidate], evidence: Evidence) -> tuple[int, int] | None:
    """Index of the candidate that the anchor lies in or nearest to, and its level; None without an anchor."""
    if evidence.anchor is None:
        return None
    anchor, point = evidence.anchor, np.array(evidence.anchor.point_mm)
    said = f"the anchor of {level_name(anchor.level)} at ({', '.join(f'{x:g}' for x in anchor.point_mm)}) mm"
    if not candidates:
        raise ValueError(f"{said} must lie in a disc, and no disc was found")
    away = [
        float(np.linalg.norm(to_world_mm(evidence.grid.affine, c.voxels.astype(float)) - point, axis=1).min())
        for c in candidates
    ]
    nearest = int(np.argmin(away))
    if away[nearest] > _ANCHOR_MM:
        raise ValueError(f"{said} must lie in a disc or within {_ANCHOR_MM:.0f} mm of one, and the nearest is "
                         f"{away[nearest]:.0f} mm away; give the point in RAS mm, or leave the anchor out")  # fmt: skip
    return nearest, anchor.level


__all__ = ["Anchor", "Evidence", "Numbering", "number_discs"]
