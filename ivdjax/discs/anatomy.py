"""What discs of each level look like, and how likely things go wrong: the numbers behind the numbering.

They stand in `anatomy.json`, which `python -m benchmarks.fit_levels` writes: fitted to training patients of the SPIDER
data (van der Graaf et al., Sci Data 11, 264, 2024), to phantoms and to parts of both, starting from what was measured
on the outlined discs. Levels -1 to 9 have numbers of their own, those above go on with a trend. Levels 0 and -1 are the
remnants of S1/S2 and S2/3, which are left out of the result.

Every distribution is Student's t; what a name stands for is told in `MEANING`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LOWEST, TOP = -1, 15
LEVELS = np.arange(LOWEST, TOP + 1)
"""Levels that a candidate may take."""
KNOWN_TOP = 9
"""The highest level with numbers of its own."""

FILE = Path(__file__).with_name("anatomy.json")
Numbers = Mapping[str, Any]
"""Numbers by name, as arrays; see `MEANING`."""

MEANING: dict[str, tuple[str, str]] = {
    # of levels -1 to 9
    "tilt_deg": ("real", "slope of the long axis; negative: front edge lower"),
    "log_width": ("real", "log of the AP width against the spine's median disc"),
    "log_volume": ("real", "log of the volume against the spine's median disc"),
    "step_mm": ("positive", "distance along the spine to the disc below, from level 0 up"),
    # for levels -1 and 0, for 1, for 2, and for those above
    "tilt_sd_deg": ("positive", "spread of the slope"),
    "log_width_sd": ("positive", "spread of the log width"),
    "log_volume_sd": ("positive", "spread of the log volume"),
    # one number each
    "tilt_trend_deg": ("real", "change of the slope with each level above 9"),
    "log_width_trend": ("real", "change of the log width with each level above 9"),
    "log_volume_trend": ("real", "change of the log volume with each level above 9"),
    "step_trend_mm": ("real", "change of the step with each level above 9"),
    "tilt_correlation": ("share", "between the slopes of neighbours"),
    "tilt_short_deg": ("positive", "doubt about the slope of an axis of 10 mm, falling with the square of its length"),
    "tilt_cut_deg": ("positive", "doubt about the slope of a disc that the image's border cuts"),
    "cut_blur": ("positive", "how many times as wide the spreads of size are for a cut disc"),
    "step_sd_mm": ("positive", "spread of one step"),
    "step_scale_sd": ("share", "spread of all of a spine's steps together: people differ in size"),
    "side_sd_mm": ("positive", "spread of a disc's centroid about the centre line"),
    "side_limit": ("positive", "largest cost, in log units, of lying off it: the line may be wrong too"),
    "freedom": ("positive", "degrees of freedom of every t: one odd disc breaks nothing"),
    "missed": ("share", "probability that a disc in view is not among the candidates"),
    "missed_first": ("share", "the same of L5/S1"),
    "remnant_s1": ("share", "probability that the lowest candidate is a remnant of S1/S2, against a disc"),
    "remnant_s2": ("share", "the same of S2/3"),
    "clutter": ("positive", "candidates that are no disc, for each one that is"),
    "clutter_log_width": ("real", "their log width"),
    "clutter_log_width_sd": ("positive", "its spread"),
    "clutter_log_volume": ("real", "their log volume"),
    "clutter_log_volume_sd": ("positive", "its spread"),
    "clutter_certainty": ("real", "their mean probability against the spine's median"),
    "clutter_certainty_sd": ("positive", "its spread"),
    "certainty_sd": ("positive", "spread of a disc's mean probability about the spine's median"),
    "below_mm": ("positive", "image below the centroid of L5/S1"),
    "below_sd_mm": ("positive", "its spread"),
    "odd_view": ("share", "share of scans whose lower border may lie anywhere"),
    "vote_right": ("share", "share of a disc's votes for its own level"),
    "vote_background": ("share", "of the rest: for no disc"),
    "vote_neighbour": ("share", "of the rest: for the levels above and below"),
    "vote_elsewhere": ("share", "votes for no disc where there is none, or one that the network does not know"),
    "vote_weight": ("share", "what a disc's votes count: those of neighbours go together"),
    "shift_up": ("share", "probability that the localization network's levels are all one too high"),
    "shift_down": ("share", "all one too low"),
    "shift_where_odd": ("share", "of such a shift where the lowest disc is not L5/S1: it is then taken for L5/S1"),
    "lost": ("share", "probability that what it says means nothing"),
    "shift_change": ("share", "probability that from one disc to the next this changes"),
    "sure_right": ("share", "chance that the localization network is sure of its levels where they are right"),
    "sure_wrong": ("share", "where they are one off or mean nothing"),
    "landmark_seen": ("share", "chance that S1 or L5 is seen beside a disc that it lies beside"),
    "landmark_false": ("share", "chance that it is seen beside another"),
    "landmark_weight": ("share", "what landmarks count beside the votes"),
    "faint_missed": ("share", "chance of a faint band one step below the lowest disc where a disc was missed there"),
    "faint_none": ("share", "where there is none"),
    "level_missed": ("share", "chance that the localization network sees a disc there where one was missed"),
    "level_none": ("share", "where there is none"),
    "region_missed": ("share", "chance that the spine region goes on there where a disc was missed"),
    "region_none": ("share", "where there is none"),
}  # fmt: skip
"""Kind of each number (any real one, a positive one, a share between 0 and 1), and what it is."""

ODD_VIEW_MM = 400.0
"""Length of spine over which the lower border of an oddly planned scan may lie."""
CLUTTER_PLACES = float(np.pi * 60.0**2 * 180.0 * 250.0)
"""What is no disc lies anywhere within 60 mm of the line and 250 mm along it, and slopes by anything (mm3 deg)."""
PLAUSIBLE_STEP_MM = (18.0, 50.0)
"""Steps outside are remarked; 19 to 41 mm occur in the training patients (19: collapsed vertebra)."""


def read_numbers(path: Path) -> Numbers:
    """The numbers in a file that `fit_levels` wrote.

    Raises:
        ValueError: the names in the file are not those of `MEANING`.
    """
    found = json.loads(path.read_text(encoding="utf-8"))["numbers"]
    if found.keys() != MEANING.keys():
        raise ValueError(f"{path} must hold the numbers of MEANING; they differ in {found.keys() ^ MEANING.keys()}")
    return {name: np.array(value, dtype=float) for name, value in found.items()}


def by_level(numbers: Numbers, xp: Any = np) -> Numbers:
    """Shapes of each of `LEVELS` (L,): tilt_deg, log_width, log_volume, their `_sd`, and height_mm above the lowest.

    Args:
        numbers: by name.
        xp: the array module of the numbers.
    """
    beyond = xp.arange(1, TOP - KNOWN_TOP + 1)
    table = {}
    for name, trend in (("tilt_deg", "tilt_trend_deg"), ("log_width", "log_width_trend"),
                        ("log_volume", "log_volume_trend"), ("step_mm", "step_trend_mm")):  # fmt: skip
        known = numbers[name]
        table[name] = xp.concatenate([known, known[-1] + numbers[trend] * beyond])
    steps = xp.concatenate([xp.zeros(1), xp.maximum(table.pop("step_mm"), 5.0)])
    group = np.clip(LEVELS, 0, 3)
    spreads = {name: numbers[name][group] for name in ("tilt_sd_deg", "log_width_sd", "log_volume_sd")}
    return {**table, **spreads, "height_mm": xp.cumsum(steps)}


NUMBERS = read_numbers(FILE)
_SHAPES = by_level(NUMBERS)
TILT_DEG, LOG_WIDTH, LOG_VOLUME, HEIGHT_MM = (
    np.asarray(_SHAPES[name]) for name in ("tilt_deg", "log_width", "log_volume", "height_mm")
)
"""Of each of `LEVELS`: slope, log of AP width and of volume against the median disc, height along the spine."""
