"""The model of a spine: log factors of a chain over candidates, from what was measured of them and a table of numbers.

It holds, as log densities (numbers in `anatomy`):

- size, certainty and place beside the centre line of each candidate, under a disc of its level and under clutter;
- its slope, given its level and the slope of the disc below it: slopes along a spine go together;
- the distance to the disc below it, given both levels; a level left out between them costs a miss;
- the room between the lowest disc and the image's lower border, and discs below or above that are in view but missed;
- what the image shows one step below the lowest disc: a faint band, a disc that the localization network sees, spine
  region. Where nothing is seen, a missed disc is unlikely;
- the localization network's votes, and whether S1 lies below a disc and L5 above it. Such a network errs over whole
  stretches of a spine, so a hidden state says whether its levels are right here, all one too high or too low, or mean
  nothing; where it is sure of them, they are seldom one off. Agreement of seven discs is then no seven independent
  witnesses, and a spine shifted by one is a hypothesis that the geometry can speak for.

All of it is computed in the array module of the numbers, so that the script that fits them can differentiate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.centre_line import CentreLine
from ivdjax.discs.chain import Factors
from ivdjax.volume import LUMBAR_DISCS

Array = NDArray[np.float64]

SHIFTS = (0, 1, -1)
"""By how much the localization network's levels may be off; a further hidden state says that they mean nothing."""
STATES = len(SHIFTS) + 1
_DISCS = slice(1 - a.LOWEST, None)
_SURE_SHARE, _SURE_SPREAD = 0.74, 0.015
"""Share of a disc's votes that goes to one level where a network is sure. Of 36 spines that networks had one off, the
surest had 0.77; in more than half of their training patients' views they are surer."""
_VIEW_SD_MM = 5.0
"""What the border of the view may be off from where a disc counts as in view."""


@dataclass(frozen=True, eq=False)
class Observations:
    """What the model looks at, for N candidates from the lowest up.

    Attributes:
        log_volume, log_width, certainty: (N,), against those of the spine's median disc.
        off_mm: (N,), distance from the centre line.
        cut: (N,), 1 where the image's border cuts the candidate, else 0.
        width_mm, tilt_deg: (N,).
        distance_mm: (N, N), between centroids.
        upright: (N,), vertical part of the line's direction.
        below_mm, above_mm: (N,), image below the centre and above the top, along the vertical.
        votes: (N, K), shares of classes; rows of NaN where there are none. K is 9: background, levels 1 to 8 (the last
            one stands for all higher ones; NaN where the network does not know it).
        landmarks: (N, 4), S1 below, S1 above, L5 above, L5 below; NaN where unknown.
        beyond: (N, 4), share in view of the place of the next disc below, and there: faint band, disc of the
            localization network, region; NaN where unknown.
        sure: (N,), 0 to 1, the same of all: whether the localization network is sure of the levels that it gives; NaN
            where unknown.
    """

    log_volume: Any
    log_width: Any
    certainty: Any
    off_mm: Any
    cut: Any
    width_mm: Any
    tilt_deg: Any
    distance_mm: Any
    upright: Any
    below_mm: Any
    above_mm: Any
    votes: Any
    landmarks: Any
    beyond: Any
    sure: Any


def observe(candidates: Sequence[Candidate], line: CentreLine) -> Observations:
    """What the model looks at of candidates from the lowest centroid up, at least one."""
    centroids = np.array([c.centroid_mm for c in candidates])
    volume = np.log([c.volume_mm3 for c in candidates])
    width = np.array([max(c.ap_width_mm, 1.0) for c in candidates])
    certainty = np.array([c.certainty for c in candidates])
    # Large candidates are most likely discs: the median disc is told without knowing which they are.
    weights = np.exp(volume)
    volume, log_width, certainty = (x - _weighted_median(x, weights) for x in (volume, np.log(width), certainty))
    tilt = np.array([c.tilt_deg for c in candidates])
    votes = np.array([_votes(c) for c in candidates])
    # Half its height on top of what lies below it is near enough to its centre.
    below = np.array([c.below_mm for c in candidates]) + 0.5 * np.abs(np.sin(np.radians(tilt))) * width + 4.0
    return Observations(
        volume, log_width, certainty, line.distance_mm(centroids), np.array([float(c.cut) for c in candidates]), width,
        tilt,
        np.linalg.norm(centroids[:, None] - centroids[None], axis=2), line.direction(centroids[:, 2])[:, 2], below,
        np.array([c.above_mm for c in candidates]) + 4.0, votes,
        np.array([_landmarks(c) for c in candidates]), np.array([_beyond(c) for c in candidates]),
        np.full(len(candidates), _sure(votes)),
    )  # fmt: skip


def _votes(candidate: Candidate) -> Array:
    found = np.full(LUMBAR_DISCS + 2, np.nan)
    if candidate.votes is not None:
        found[: len(candidate.votes)] = candidate.votes
    return found


def _sure(votes: Array) -> float:
    """Whether a network that tells landmarks gives most of its votes for a disc to one level, in the mean of its discs.

    Networks that number by the place in the field of view are as sure where they are wrong.
    """
    discs = votes[(votes[:, 0] < 0.5) & ~np.isnan(votes[:, -1]), 1:]
    if not len(discs):
        return float("nan")
    most = float(np.mean(discs.max(axis=1) / discs.sum(axis=1)))
    return float(1 / (1 + np.exp(-(most - _SURE_SHARE) / _SURE_SPREAD)))


def _landmarks(candidate: Candidate) -> Array:
    around = candidate.around
    seen = [] if around is None else [around.s1_below, around.s1_above, around.l5_above, around.l5_below]
    return np.array([np.nan if x is None else x for x in seen or [None] * 4])


def _beyond(candidate: Candidate) -> Array:
    around = candidate.around
    if around is None:
        return np.array([0.0, np.nan, np.nan, np.nan])
    seen = [around.in_view, around.faint_below, around.level_below, around.region_below]
    return np.array([np.nan if x is None else x for x in seen])


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def spine_factors(seen: Observations, numbers: a.Numbers, xp: Any = np) -> Factors:
    """Log factors of the chain: L levels (`anatomy.LEVELS`), S hidden states of the localization network.

    Args:
        seen: of N candidates.
        numbers: as `anatomy.MEANING` names them.
        xp: the array module of the numbers; the factors are arrays of it.
    """
    table = a.by_level(numbers, xp)
    first, last = _ends(seen, numbers, table, xp)
    return Factors(
        none=_clutter(seen, numbers, xp) + _votes_elsewhere(seen, numbers, xp),
        own=_discs(seen, numbers, table, xp)[:, :, None] + _level_votes(seen, numbers, xp),
        first=first[:, :, None] + _first_state(numbers, xp) + _sure_log(seen, numbers, xp)[:, None, :],
        last=last,
        pair=_pairs(seen, numbers, table, xp),
        hidden=_state_changes(numbers, xp),
    )


def _student(x: Any, mean: Any, sd: Any, numbers: a.Numbers, xp: Any) -> Any:
    """Log density of Student's t about a mean, of scale `sd`."""
    nu = numbers["freedom"]
    # log Gamma((nu + 1) / 2) - log Gamma(nu / 2), to 0.2 % from 2 degrees up, in any array module.
    ratio = 0.5 * xp.log(nu / 2) - 1 / (4 * nu)
    constant = ratio - 0.5 * xp.log(nu * np.pi)
    return constant - xp.log(sd) - (nu + 1) / 2 * xp.log1p(((x - mean) / sd) ** 2 / nu)


def _discs(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> Any:
    """Size, certainty and place beside the line under discs of each level (N, L)."""
    # A disc cut by the border may have any share of its size.
    blur = xp.where(seen.cut > 0, numbers["cut_blur"], 1.0)[:, None]
    found = _student(seen.log_volume[:, None], table["log_volume"], table["log_volume_sd"] * blur, numbers, xp)
    found = found + _student(seen.log_width[:, None], table["log_width"], table["log_width_sd"] * blur, numbers, xp)
    side, limit = numbers["side_sd_mm"], numbers["side_limit"]
    beside = xp.minimum(0.5 * (seen.off_mm / side) ** 2, limit) + xp.log(2 * np.pi * side**2)
    return found + (_student(seen.certainty, 0.0, numbers["certainty_sd"], numbers, xp) - beside)[:, None]


def _clutter(seen: Observations, numbers: a.Numbers, xp: Any) -> Any:
    """Size, certainty, slope and place anywhere of what is no disc (N,)."""
    found = xp.log(numbers["clutter"]) - np.log(a.CLUTTER_PLACES)
    for name in ("log_volume", "log_width", "certainty"):
        mean, sd = numbers[f"clutter_{name}"], numbers[f"clutter_{name}_sd"]
        found = found + _student(getattr(seen, name), mean, sd, numbers, xp)
    return found


def _tilt_sd(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> Any:
    """Spread (N, L) of the slope under each level; a short or cut candidate's slope tells less."""
    short = numbers["tilt_short_deg"] * (10.0 / xp.maximum(seen.width_mm, 5.0)) ** 2
    doubt = xp.where(seen.cut > 0, numbers["tilt_cut_deg"], short)
    return xp.sqrt(table["tilt_sd_deg"] ** 2 + doubt[:, None] ** 2)


def _pairs(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> Any:
    """Log factors (N, N, L, L) of neighbours: distance and slope given both levels, and levels missed between them."""
    levels = a.LEVELS
    step = levels[None, :] - levels[:, None]  # (lower level, upper level)
    least = np.maximum(step, 1)
    length = table["height_mm"][None, :] - table["height_mm"][:, None]
    length_sd = xp.sqrt(least * numbers["step_sd_mm"] ** 2 + (numbers["step_scale_sd"] * length) ** 2)
    between = np.array([[[low < level < high for level in levels[_DISCS]] for high in levels] for low in levels])
    missed = between.astype(float) @ xp.log(_missed(numbers, xp))
    distance = _student(seen.distance_mm[:, :, None, None], length, length_sd, numbers, xp)
    # Slopes: a Gauss-Markov chain along the spine, its correlation falling with the number of steps.
    rho = numbers["tilt_correlation"] ** least
    own_sd, sd = table["tilt_sd_deg"], _tilt_sd(seen, numbers, table, xp)
    deviation = (seen.tilt_deg[:, None] - table["tilt_deg"]) / sd
    # What the lower disc's slope tells of the upper one's is less where that slope itself is doubtful.
    link = rho * (own_sd / sd)[:, :, None]  # (N, lower level, upper level)
    mean = table["tilt_deg"] + link * deviation[:, :, None] * own_sd
    variance = sd[None, :, None, :] ** 2 - ((link * own_sd) ** 2)[:, None]
    tilt = _student(seen.tilt_deg[None, :, None, None], mean[:, None], xp.sqrt(variance), numbers, xp)
    return xp.where(step > 0, distance + tilt + missed, -np.inf)


def _ends(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> tuple[Any, Any]:
    """Log factors (N, L) of the lowest and of the highest disc: its slope, the view, discs missed beyond it."""
    slope = _student(seen.tilt_deg[:, None], table["tilt_deg"], _tilt_sd(seen, numbers, table, xp), numbers, xp)
    remnants = xp.stack([numbers["remnant_s2"], numbers["remnant_s1"]])
    prior = xp.concatenate([xp.log(remnants), xp.zeros(len(a.LEVELS) - len(remnants))])
    lowest = slope + prior + _view(seen, numbers, table, xp) + _missed_below(seen, numbers, table, xp)
    return lowest, _missed_above(seen, numbers, table, xp)


def _view(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> Any:
    """Log density (N, L) of the image below L5/S1 that each level of a lowest disc would mean."""
    height = table["height_mm"]
    of_first = seen.below_mm[:, None] - (height - height[1 - a.LOWEST]) * seen.upright[:, None]
    usual = xp.log1p(-numbers["odd_view"])
    usual = usual + _student(of_first, numbers["below_mm"], numbers["below_sd_mm"], numbers, xp)
    return xp.logaddexp(usual, xp.log(numbers["odd_view"] / a.ODD_VIEW_MM))


def _missed_below(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> Any:
    """Log probability (N, L) that the lumbar discs below a lowest disc of that level are out of view or missed.

    The next one down, where it would be in view, must fit with what the image shows there too.
    """
    away = table["height_mm"][:, None] - table["height_mm"][None, _DISCS]
    steps_down = a.LEVELS[:, None] - a.LEVELS[None, _DISCS]
    in_view = _in_view(seen.below_mm / seen.upright, away, numbers, xp)
    lost = in_view * _missed(numbers, xp)
    missed, none = (xp.exp(_signs(seen, numbers, case, xp))[:, None] for case in ("missed", "none"))
    # The part of the next disc's place that is out of view says nothing.
    next_down = xp.log(lost * missed[:, :, None] + (1 - in_view) * none[:, :, None])
    gone = xp.where(steps_down == 1, next_down, xp.log(lost + (1 - in_view)))
    ends_there = xp.where(a.LEVELS <= 1, xp.log(none), 0.0)
    return xp.where(steps_down > 0, gone, 0.0).sum(axis=2) + ends_there


def _signs(seen: Observations, numbers: a.Numbers, case: str, xp: Any) -> Any:
    """Log likelihood (N,) of what is seen one step below, where a disc was missed there ("missed") or is none."""
    total = 0.0
    for column, name in enumerate(("faint", "level", "region"), start=1):
        total = total + _seen_log(seen.beyond[:, column], numbers[f"{name}_{case}"], xp)
    return total * seen.beyond[:, 0]


def _seen_log(share: Any, chance: Any, xp: Any) -> Any:
    """Log likelihood of something seen to a share, 0 to 1, given the chance that it is seen; 0 where unknown (NaN)."""
    known = xp.where(xp.isnan(share), 0.5, share)
    return xp.where(xp.isnan(share), 0.0, xp.log(known * chance + (1 - known) * (1 - chance)))


def _missed_above(seen: Observations, numbers: a.Numbers, table: a.Numbers, xp: Any) -> Any:
    """The same (N, L) of lumbar discs above a highest one; thoracic discs may be missed freely."""
    lumbar = slice(1 - a.LOWEST, 1 - a.LOWEST + LUMBAR_DISCS)
    away = table["height_mm"][None, lumbar] - table["height_mm"][:, None]
    higher = a.LEVELS[:, None] < a.LEVELS[None, lumbar]
    in_view = _in_view(seen.above_mm / seen.upright, away, numbers, xp)
    gone = xp.log(in_view * _missed(numbers, xp)[:LUMBAR_DISCS] + (1 - in_view))
    return xp.where(higher, gone, 0.0).sum(axis=2)


def _in_view(room_mm: Any, away_mm: Any, numbers: a.Numbers, xp: Any) -> Any:
    """Probability (N, L, others) that a disc so far along the spine lies within the room."""
    away = xp.maximum(away_mm, 0.0)
    z = (room_mm[:, None, None] - away) / xp.sqrt(_VIEW_SD_MM**2 + (numbers["step_scale_sd"] * away) ** 2)
    return 1 / (1 + xp.exp(-xp.clip(1.702 * z, -40.0, 40.0)))  # the normal distribution, to 0.01


def _missed(numbers: a.Numbers, xp: Any) -> Any:
    """Probability that each level from 1 up is missed where it is in view."""
    higher = xp.ones(a.TOP - 1) * numbers["missed"]
    return xp.concatenate([numbers["missed_first"][None], higher])


def _level_votes(seen: Observations, numbers: a.Numbers, xp: Any) -> Any:
    """Log likelihood (N, L, S) of votes and landmarks under each level and each state of the localization network."""
    shown = a.LEVELS[:, None] + np.array(SHIFTS)  # what it looks at (L, S - 1)
    votes = _vote_log(seen, shown, numbers, xp)
    beside = numbers["landmark_weight"] * _landmark_log(seen, shown, numbers, xp)
    known = ~xp.isnan(seen.votes[:, 0])
    lost = xp.where(known, -numbers["vote_weight"] * np.log(LUMBAR_DISCS + 1), 0.0)
    marks = (~xp.isnan(seen.landmarks)).sum(axis=1) * numbers["landmark_weight"] * np.log(0.5)
    lost = xp.broadcast_to((lost + marks)[:, None, None], (*votes.shape[:2], 1))
    return xp.concatenate([votes + beside, lost], axis=2)


def _vote_log(seen: Observations, shown: NDArray[np.int64], numbers: a.Numbers, xp: Any) -> Any:
    """Log likelihood (N, L, S - 1) of votes where the network looks at a disc of the level `shown`."""
    classes = LUMBAR_DISCS + 2
    knows = ~xp.isnan(seen.votes)
    votes = xp.where(knows, seen.votes, 0.0)
    right, rest = numbers["vote_right"], 1 - numbers["vote_right"]
    background = rest * numbers["vote_background"]
    near = rest * (1 - numbers["vote_background"]) * numbers["vote_neighbour"]
    spare = rest * (1 - numbers["vote_background"]) * (1 - numbers["vote_neighbour"]) / LUMBAR_DISCS
    level = np.clip(shown, 0, classes - 1)  # 0: nothing that it knows; 8: the eighth or higher
    of = np.arange(classes)
    own, beside = of == level[..., None], np.abs(of - level[..., None]) == 1
    disc = xp.where(own, right, xp.where(of == 0, background, xp.where(beside, near / 2, spare)))
    elsewhere = xp.where(of == 0, numbers["vote_elsewhere"], (1 - numbers["vote_elsewhere"]) / LUMBAR_DISCS)
    # Networks without a class for higher discs call them nothing, or the highest that they know.
    some = (1 - numbers["vote_elsewhere"]) * np.where(of == LUMBAR_DISCS, 0.65, 0.35 / (LUMBAR_DISCS - 1))
    higher = xp.where(of == 0, numbers["vote_elsewhere"], some)
    weights = xp.where((level == 0)[..., None], elsewhere, disc)
    old = xp.where((level == 0)[..., None], elsewhere, xp.where((level > LUMBAR_DISCS)[..., None], higher, disc))
    plain = xp.einsum("nk,lsk->nls", votes, weights)
    without = xp.einsum("nk,lsk->nls", votes, old)
    chosen = xp.where(knows[:, -1, None, None], plain, without)
    return xp.where(knows[:, 0, None, None], numbers["vote_weight"] * xp.log(xp.maximum(chosen, 1e-6)), 0.0)


def _votes_elsewhere(seen: Observations, numbers: a.Numbers, xp: Any) -> Any:
    """Log likelihood (N,) of votes for what is no disc."""
    knows = ~xp.isnan(seen.votes)
    votes = xp.where(knows, seen.votes, 0.0)
    share = votes[:, 0] * numbers["vote_elsewhere"] + (1 - votes[:, 0]) * (1 - numbers["vote_elsewhere"]) / LUMBAR_DISCS
    marks = (~xp.isnan(seen.landmarks)).sum(axis=1) * numbers["landmark_weight"] * np.log(0.5)
    return xp.where(knows[:, 0], numbers["vote_weight"] * xp.log(share), 0.0) + marks


def _landmark_log(seen: Observations, shown: NDArray[np.int64], numbers: a.Numbers, xp: Any) -> Any:
    """Log likelihood (N, L, S - 1) of S1 and L5 beside a disc of the level `shown`; 0 where they are unknown."""
    beside = ((shown == 1), (shown == 0), (shown == 1), (shown == 2))  # S1 below, S1 above, L5 above, L5 below
    total = 0.0
    for column, there in enumerate(beside):
        chance = xp.where(there, numbers["landmark_seen"], numbers["landmark_false"])
        total = total + _seen_log(seen.landmarks[:, column, None, None], chance, xp)
    return total


def _first_state(numbers: a.Numbers, xp: Any) -> Any:
    """Log probability (L, S) of the localization network's state at the lowest disc, given its level."""
    up, down, lost = numbers["shift_up"], numbers["shift_down"], numbers["lost"]
    odd, level = numbers["shift_where_odd"], a.LEVELS
    # It takes the lowest disc that is seen for L5/S1, or for the level next to its own on that side.
    rows = [xp.where(level < 1, odd, up), xp.where(level > 1, odd, down), xp.ones(len(level)) * lost]
    right = xp.maximum(1 - sum(rows), 0.02)
    table = xp.stack([right, *rows], axis=1)
    return xp.log(table / table.sum(axis=1, keepdims=True))


def _sure_log(seen: Observations, numbers: a.Numbers, xp: Any) -> Any:
    """Log likelihood (N, S) of how sure the localization network is, under each of its states; 0 where unknown."""
    chances = [numbers["sure_right"], *[numbers["sure_wrong"]] * (STATES - 1)]
    return xp.stack([_seen_log(seen.sure, chance, xp) for chance in chances], axis=1)


def _state_changes(numbers: a.Numbers, xp: Any) -> Any:
    change = numbers["shift_change"]
    return xp.log(xp.where(np.eye(STATES, dtype=bool), 1 - change, change / (STATES - 1)))
