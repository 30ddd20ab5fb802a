"""Which level each candidate has: a chain up the spine, solved exactly.

The model is a semi-Markov chain over candidates from the bottom up. Each is a disc of some level, from a remnant of
S2/3 (-1) upward, or no disc; levels rise strictly. It holds, as log densities (numbers in `anatomy`):

- size, certainty and place beside the centre line of each candidate, under a disc of its level and under clutter;
- its slope, given its level and the slope of the disc below it: slopes along a spine go together;
- the distance to the disc below it, given both levels; a level left out between them costs a miss;
- the room between the lowest disc and the image's lower border, and discs below or above that are in view but missed;
- the localization network's votes. Such a network errs over whole stretches of a spine, so a hidden state says whether
  its levels are right here, all one too high or too low, or mean nothing. Agreement of seven discs is then no seven
  independent witnesses, and a spine shifted by one is a hypothesis that the geometry can speak for.

The answer is the most probable chain; probabilities are sums over every chain (see `chain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.centre_line import CentreLine
from ivdjax.discs.chain import Array, Factors, best_states, log_sum, state_probabilities
from ivdjax.volume import LUMBAR_DISCS

_STATES = len(a.SHIFT) + 1
"""Of the localization network's hidden state: the shifts, and lost."""
_IMPOSSIBLE = -1e9
_SHORT_MM, _SHORT_DEG = 10.0, 15.0
"""A long axis no longer than this may slope by so much by chance; with the length the doubt falls by its square."""
_CUT_DEG = 30.0
"""What the slope of a disc cut by the image's border may be off by."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The solved chain.

    Attributes:
        levels: of each candidate in the best chain; None: no disc.
        posterior: (N, L + 1), probability of each of `anatomy.LEVELS` and, last, of no disc; rows sum to 1.
    """

    levels: tuple[int | None, ...]
    posterior: Array

    def probability(self, index: int, level: int | None) -> float:
        """Probability that a candidate has a level, or is no disc (None); 0 for a level that the model does not know.

        It is what the model makes of all the evidence that it knows, and as good as the model: a case unlike those that
        it was fitted to, or networks that are wrong for one hidden cause, may still mislead it.
        """
        if level is not None and not a.LOWEST <= level <= a.TOP:
            return 0.0
        return float(self.posterior[index, -1 if level is None else level - a.LOWEST])


def solve_levels(
    candidates: Sequence[Candidate], line: CentreLine, pinned: tuple[int, int] | None = None
) -> Chain:  # fmt: skip
    """The most probable levels of candidates, and the probability of every level of each.

    Args:
        candidates: from the lowest centroid up; none gives an empty chain.
        line: the spine's centre line.
        pinned: index of a candidate and the level that it certainly has, or none.

    Raises:
        ValueError: the pinned level is not among `anatomy.LEVELS`.
    """
    if not candidates:
        return Chain((), np.zeros((0, len(a.LEVELS) + 1)))
    factors = _factors(candidates, line)
    if pinned is not None:
        factors = _pinned(factors, *pinned)
    levels = tuple(None if state is None else int(a.LEVELS[state]) for state in best_states(factors))
    return Chain(levels, state_probabilities(factors))


def log_evidence(candidates: Sequence[Candidate], line: CentreLine) -> float:
    """Log density of the candidates under the model of a spine, over every chain; for comparing ways to see them.

    Args:
        candidates: from the lowest centroid up, at least one.
        line: the spine's centre line.
    """
    return log_sum(_factors(candidates, line))


def _factors(candidates: Sequence[Candidate], line: CentreLine) -> Factors:
    centroids = np.array([c.centroid_mm for c in candidates])
    shape, clutter = _shape(candidates, line.distance_mm(centroids))
    start, end = _ends(candidates, line)
    return Factors(
        none=clutter + np.array([_vote(c, None) for c in candidates]),
        own=shape[:, :, None] + np.array([_level_votes(c) for c in candidates]),
        first=start[:, :, None] + _first_state(),
        last=end,
        pair=_pairs(candidates, centroids),
        hidden=np.log(np.where(np.eye(_STATES, dtype=bool), 1 - a.SHIFT_CHANGE, a.SHIFT_CHANGE / (_STATES - 1))),
    )


def _pinned(factors: Factors, index: int, level: int) -> Factors:
    """The factors with all but one level of one candidate made impossible."""
    if not a.LOWEST <= level <= a.TOP:
        raise ValueError(f"levels {a.LOWEST} to {a.TOP} can be told apart, and {level} is none of them")
    none, own = factors.none.copy(), factors.own.copy()
    none[index] = own[index] = _IMPOSSIBLE
    own[index, level - a.LOWEST] = factors.own[index, level - a.LOWEST]
    return replace(factors, none=none, own=own)


def _first_state() -> Array:
    """Log probability (L, S) of the localization network's state at the lowest disc, given its level."""
    usual = np.array([*a.SHIFT.values(), a.LOST])
    table = np.tile(usual, (len(a.LEVELS), 1))
    shifts = list(a.SHIFT)
    for row, level in zip(table, a.LEVELS, strict=True):
        if level != 1:
            # It takes the lowest disc that is seen for L5/S1, or for the level next to its own on that side.
            row[shifts.index(-1 if level > 1 else 1)] = a.SHIFT_WHERE_ODD
            row /= row.sum()
    return np.asarray(np.log(table))


def _student(x: Array | float, mean: Array | float, sd: Array | float) -> Array:
    """Log density of Student's t of `FREEDOM` degrees about a mean, of scale `sd`."""
    nu = a.FREEDOM
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
    return np.asarray(constant - np.log(sd) - (nu + 1) / 2 * np.log1p(((x - np.asarray(mean)) / sd) ** 2 / nu))


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _shape(candidates: Sequence[Candidate], off_mm: Array) -> tuple[Array, Array]:
    """Size, certainty and place beside the line: (N, L) under discs of each level, (N,) under clutter (slope and place
    along the spine included, which for discs stand elsewhere)."""  # fmt: skip
    volume = np.log([c.volume_mm3 for c in candidates])
    width = np.log([max(c.ap_width_mm, 1.0) for c in candidates])
    sure = np.array([c.certainty for c in candidates])
    weights = np.exp(volume)
    # Large candidates are most likely discs: the median disc is told without knowing which they are.
    volume, width, sure = (x - _weighted_median(x, weights) for x in (volume, width, sure))
    # A disc cut by the border may have any share of its size.
    blur = np.array([3.0 if c.cut else 1.0 for c in candidates])[:, None]
    disc = _student(volume[:, None], a.LOG_VOLUME, a.LOG_VOLUME_SD * blur)
    disc += _student(width[:, None], a.LOG_WIDTH, a.LOG_WIDTH_SD * blur)
    disc += _student(sure, 0.0, a.CERTAINTY_SD)[:, None]
    beside = np.minimum(0.5 * (off_mm / a.SIDE_SD_MM) ** 2, a.SIDE_LIMIT)
    disc -= (beside + np.log(2 * np.pi * a.SIDE_SD_MM**2))[:, None]
    clutter = np.log(a.CLUTTER) + _student(volume, a.CLUTTER_LOG_VOLUME, a.CLUTTER_LOG_VOLUME_SD)
    clutter += _student(width, a.CLUTTER_LOG_WIDTH, a.CLUTTER_LOG_WIDTH_SD)
    clutter += _student(sure, a.CLUTTER_CERTAINTY, a.CLUTTER_CERTAINTY_SD)
    clutter -= np.log(np.pi * a.CLUTTER_SIDE_MM**2) + np.log(180.0) + np.log(a.CLUTTER_REACH_MM)
    return disc, clutter


def _tilt_sd(candidate: Candidate) -> Array:
    """Spread (L,) of the slope under each level; a short or cut candidate's slope tells less."""
    doubt = _CUT_DEG if candidate.cut else _SHORT_DEG * (_SHORT_MM / max(candidate.ap_width_mm, 0.5 * _SHORT_MM)) ** 2
    return np.hypot(a.TILT_SD_DEG, doubt)


def _pairs(candidates: Sequence[Candidate], centroids: Array) -> Array:
    """Log factors (N, N, L, L) of neighbours: distance and slope given both levels, and levels missed between them."""
    count, levels = len(candidates), a.LEVELS
    step = levels[None, :] - levels[:, None]  # (lower level, upper level)
    rises = step > 0
    length = a.HEIGHT_MM[None, :] - a.HEIGHT_MM[:, None]
    length_sd = np.sqrt(np.maximum(step, 1) * a.STEP_SD_MM**2 + (a.STEP_SCALE_SD * length) ** 2)
    between = [[[low < level < high for level in range(1, a.TOP + 1)] for high in levels] for low in levels]
    missed = np.array(between) @ _log_missed(np.arange(1, a.TOP + 1))
    # Slopes: a Gauss-Markov chain along the spine, its correlation falling with the number of steps.
    rho = a.TILT_CORRELATION ** np.maximum(step, 1)
    pair = np.full((count, count, len(levels), len(levels)), -np.inf)
    for low in range(count):
        sd_low = _tilt_sd(candidates[low])
        deviation = (candidates[low].tilt_deg - a.TILT_DEG) / sd_low
        # What the lower disc's slope tells of the upper one's is less where that slope itself is doubtful.
        link = rho * (a.TILT_SD_DEG / sd_low)[:, None]
        for high in range(low + 1, count):
            sd = _tilt_sd(candidates[high])
            mean = a.TILT_DEG + link * deviation[:, None] * a.TILT_SD_DEG
            tilt = _student(candidates[high].tilt_deg, mean, np.sqrt(sd**2 - (link * a.TILT_SD_DEG) ** 2))
            distance = float(np.linalg.norm(centroids[high] - centroids[low]))
            score = _student(distance, length, length_sd) + tilt + missed
            pair[low, high] = np.where(rises, score, -np.inf)
    return pair


def _ends(candidates: Sequence[Candidate], line: CentreLine) -> tuple[Array, Array]:
    """Log factors (N, L) of the lowest and of the highest disc: its slope, the view, discs missed beyond it."""
    centroids = np.array([c.centroid_mm for c in candidates])
    upright = line.direction(centroids[:, 2])[:, 2]
    start = np.array([_student(c.tilt_deg, a.TILT_DEG, _tilt_sd(c)) for c in candidates])
    prior = np.zeros(len(a.LEVELS))
    prior[a.LEVELS < 1] = np.log([a.REMNANT[int(level)] for level in a.LEVELS[a.LEVELS < 1]])
    start += prior + _view(candidates, upright) + _missed_below(candidates, upright)
    return start, _missed_above(candidates, upright)


def _centre_below_mm(candidate: Candidate) -> float:
    """Image below the centre of a candidate; half its height on top of what lies below it is near enough."""
    return candidate.below_mm + 0.5 * abs(np.sin(np.radians(candidate.tilt_deg))) * candidate.ap_width_mm + 4.0


def _view(candidates: Sequence[Candidate], upright: Array) -> Array:
    """Log density (N, L) of the image below L5/S1 that each level of a lowest disc would mean."""
    first = 1 - a.LOWEST
    below = np.array([_centre_below_mm(c) for c in candidates])
    of_lowest = below[:, None] - (a.HEIGHT_MM - a.HEIGHT_MM[first]) * upright[:, None]
    usual = np.log1p(-a.ODD_VIEW) + _student(of_lowest, a.BELOW_MM, a.BELOW_SD_MM)
    return np.logaddexp(usual, np.log(a.ODD_VIEW / a.ODD_VIEW_MM))


def _missed_below(candidates: Sequence[Candidate], upright: Array) -> Array:
    """Log probability (N, L) that the lumbar discs below a lowest disc of that level are out of view or missed."""
    total = np.zeros((len(candidates), len(a.LEVELS)))
    for index, candidate in enumerate(candidates):
        room = _centre_below_mm(candidate) / upright[index]
        for place, level in enumerate(a.LEVELS):
            total[index, place] = _unseen(int(level), np.arange(1, level), room)
    return total


def _missed_above(candidates: Sequence[Candidate], upright: Array) -> Array:
    """The same (N, L) of lumbar discs above a highest one; thoracic discs may be missed freely."""
    total = np.zeros((len(candidates), len(a.LEVELS)))
    for index, candidate in enumerate(candidates):
        room = (candidate.above_mm + 4.0) / upright[index]
        for place, level in enumerate(a.LEVELS):
            total[index, place] = _unseen(int(level), np.arange(max(int(level) + 1, 1), LUMBAR_DISCS + 1), room)
    return total


def _unseen(level: int, others: NDArray[np.signedinteger], room_mm: float) -> float:
    """Log probability that discs of other levels, with so much room along the spine, are not among the candidates."""
    away_mm = np.abs(a.HEIGHT_MM[others - a.LOWEST] - a.HEIGHT_MM[level - a.LOWEST])
    in_view = np.exp(log_ndtr((room_mm - away_mm) / np.hypot(5.0, a.STEP_SCALE_SD * away_mm)))
    return float(np.log(in_view * np.exp(_log_missed(others)) + (1 - in_view)).sum())


def _log_missed(levels: NDArray[np.signedinteger]) -> Array:
    return np.log(np.where(levels == 1, a.MISSED_FIRST, a.MISSED))


def _vote(candidate: Candidate, shown: int | None) -> float:
    """Log likelihood of the votes for a candidate where the network looks at `shown`; None: at no disc."""
    votes = candidate.votes
    if votes is None:
        return 0.0
    weights = np.full(LUMBAR_DISCS + 1, (1 - a.VOTE_ELSEWHERE["background"]) / LUMBAR_DISCS)
    weights[0] = a.VOTE_ELSEWHERE["background"]
    if shown is not None and 1 <= shown <= LUMBAR_DISCS:
        spare = 1 - a.VOTE["right"] - a.VOTE["background"] - 2 * a.VOTE["neighbour"]
        weights = np.full(LUMBAR_DISCS + 1, spare / LUMBAR_DISCS)
        weights[0] = a.VOTE["background"]
        weights[max(1, shown - 1) : shown + 2] += a.VOTE["neighbour"]
        weights[shown] = a.VOTE["right"]
    elif shown is not None:
        nearest = 1 if shown < 1 else LUMBAR_DISCS
        weights *= (1 - a.VOTE_ELSEWHERE["nearest"] - a.VOTE_ELSEWHERE["background"]) / (
            1 - a.VOTE_ELSEWHERE["background"])  # fmt: skip
        weights[0] = a.VOTE_ELSEWHERE["background"]
        weights[nearest] += a.VOTE_ELSEWHERE["nearest"]
    return float(np.log(votes @ (weights / weights.sum())))


def _level_votes(candidate: Candidate) -> Array:
    """Log likelihood (L, S) of the votes under each level and each state of the localization network."""
    lost = 0.0 if candidate.votes is None else -np.log(LUMBAR_DISCS + 1)
    return np.array([[*(_vote(candidate, int(level) + shift) for shift in a.SHIFT), lost] for level in a.LEVELS])
