"""Whether a spine would fit better the other way round: a file whose header has head and feet exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ivdjax.discs.candidates import Candidate, line_through
from ivdjax.discs.levels import log_evidence

WAYS = {"upside down": (True, False), "back to front": (False, True), "upside down and back to front": (True, True)}
"""What a header can have wrong, and whether that exchanges the lower and the upper end, and front and back."""

_ROOM_MM = 50.0
"""The same at both ends: what lies beyond them then speaks for no way round. It is what is usual below L5/S1; 20 to 100
mm tell 28 patients and 20 phantoms apart as well."""


_LEAST_VOLUME = 0.25
"""Share of the median volume below which a candidate's slope means nothing."""


def turned_gain(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Gain in log evidence, for each of `WAYS`, of candidates seen the other way round, under the model of a spine.

    The candidates' sizes, slopes and distances alone have a say in it: neither the localization network, nor where the
    image ends. How well this tells the two apart is told in docs/reliability.md.

    Args:
        candidates: from the lowest centroid up; none gives gains of 0.
    """
    if not candidates:
        return dict.fromkeys(WAYS, 0.0)
    bare = _bare(candidates)
    as_it_is = _log_evidence(bare)
    return {way: _log_evidence(_turned(bare, *ends)) - as_it_is for way, ends in WAYS.items()}


def slope_off_deg(candidates: Sequence[Candidate]) -> float:
    """How far candidates are from lying across the spine's course, in degrees, as a mean over all but specks.

    Discs lie across the spine whichever way round it is seen. Networks that have learned what a disc's slope is where
    in the body, however, may outline discs in a turned image as they would slope in a proper one.

    Args:
        candidates: from the lowest centroid up; none gives 0.
    """
    if not candidates:
        return 0.0
    least_mm3 = _LEAST_VOLUME * float(np.median([candidate.volume_mm3 for candidate in candidates]))
    discs = [candidate for candidate in candidates if candidate.volume_mm3 > least_mm3]
    up = line_through(discs).direction(np.array([disc.centroid_mm[2] for disc in discs]))
    across_deg = -np.degrees(np.arctan2(up[:, 1], up[:, 2]))
    return float(np.abs(np.array([disc.tilt_deg for disc in discs]) - across_deg).mean())


def _bare(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates without votes, in an image that ends `_ROOM_MM` beyond the lowest and the highest."""
    heights = [float(candidate.centroid_mm[2]) for candidate in candidates]
    return [
        replace(
            candidate,
            votes=None,
            around=None,
            below_mm=height - heights[0] + _ROOM_MM,
            above_mm=heights[-1] - height + _ROOM_MM,
        )
        for candidate, height in zip(candidates, heights, strict=True)
    ]


def _log_evidence(candidates: Sequence[Candidate]) -> float:
    return log_evidence(candidates, line_through(candidates))


def _turned(candidates: Sequence[Candidate], upside_down: bool, back_to_front: bool) -> list[Candidate]:
    """Candidates as they would be in a file that is read the other way round, from the lowest centroid up."""
    signs = np.array([1.0, -1.0 if back_to_front else 1.0, -1.0 if upside_down else 1.0])
    turned = [
        replace(
            candidate,
            centroid_mm=signs * candidate.centroid_mm,
            tilt_deg=candidate.tilt_deg if upside_down == back_to_front else -candidate.tilt_deg,
            below_mm=candidate.above_mm if upside_down else candidate.below_mm,
            above_mm=candidate.below_mm if upside_down else candidate.above_mm,
        )
        for candidate in candidates
    ]
    return turned[::-1] if upside_down else turned
