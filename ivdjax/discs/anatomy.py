"""What discs of each level look like, and how likely things go wrong: the numbers behind the numbering.

Levels 1 to 9: measured on the outlined discs of 22 training patients of the SPIDER data (van der Graaf et al., Sci Data
11, 264, 2024; level 9: 3 patients), 1.25 mm in plane. Spreads are widened by a fifth and more, since other scanners,
positions and networks' outlines vary more than these did. Levels 10 to 15 go on with the trend. Levels 0 and -1, the
remnants of S1/S2 and S2/3, are not outlined there: their steps and slopes are those of ordinary sacra (S1/S2 leans some
20 degrees more than L5/S1), their size is 0.6 to 0.75 of L5/S1 from front to back and a fifth to a third in volume.
"""

from __future__ import annotations

import numpy as np

LOWEST, TOP = -1, 15
LEVELS = np.arange(LOWEST, TOP + 1)
"""Levels that a candidate may take."""

# level: slope (deg) and spread, log of AP width and of volume against the spine's median disc, each with its spread,
# step to the disc below (mm; for -1 there is none)
_TABLE = {
    -1: (-52, 14, -0.60, 0.25, -1.9, 0.6, np.nan),
    0: (-52, 12, -0.40, 0.18, -1.4, 0.5, 26.0),
    1: (-33, 11, -0.01, 0.18, -0.10, 0.50, 30.0),
    2: (-12, 7.5, 0.03, 0.15, 0.05, 0.45, 35.6),
    3: (-1, 6.0, 0.05, 0.10, 0.17, 0.30, 36.0),
    4: (7, 6.0, 0.04, 0.10, 0.10, 0.30, 36.6),
    5: (11, 7.0, -0.03, 0.10, -0.04, 0.30, 35.4),
    6: (11, 7.5, -0.08, 0.12, -0.24, 0.35, 33.2),
    7: (8, 7.5, -0.13, 0.16, -0.50, 0.45, 30.3),
    8: (6, 7.5, -0.17, 0.16, -0.60, 0.45, 27.6),
    9: (3, 7.5, -0.21, 0.16, -0.67, 0.45, 26.5),
    10: (-1, 7.5, -0.25, 0.16, -0.74, 0.45, 25.5),
    11: (-5, 7.5, -0.27, 0.16, -0.81, 0.45, 24.5),
    12: (-9, 7.5, -0.29, 0.16, -0.88, 0.45, 23.5),
    13: (-13, 7.5, -0.33, 0.16, -0.95, 0.45, 22.5),
    14: (-17, 7.5, -0.37, 0.16, -1.02, 0.45, 21.5),
    15: (-20, 7.5, -0.41, 0.16, -1.09, 0.45, 20.5),
}
_COLUMNS = np.array([_TABLE[int(level)] for level in LEVELS], dtype=float).T

TILT_DEG, TILT_SD_DEG = _COLUMNS[0], _COLUMNS[1]
"""Slope of each level's long axis; negative: front edge lower."""
LOG_WIDTH, LOG_WIDTH_SD = _COLUMNS[2], _COLUMNS[3]
LOG_VOLUME, LOG_VOLUME_SD = _COLUMNS[4], _COLUMNS[5]
HEIGHT_MM = np.concatenate([[0.0], np.nancumsum(_COLUMNS[6][1:])])
"""Distance of each level's centroid along the spine from that of the lowest level of the table."""

TILT_CORRELATION = 0.65
"""Between the slopes of neighbours: 0.45 to 0.86 (a sacrum that lies steep takes the discs above with it)."""
STEP_SD_MM, STEP_SCALE_SD = 2.3, 0.07
"""Spread of one step, and of all of a spine's steps together (people differ in size)."""
SIDE_SD_MM, SIDE_LIMIT = 6.0, 20.0
"""Spread of a disc's centroid about the centre line, forward and sideways (no more than 15 mm off in 28 patients), and
the largest cost, in log units, of lying off it: the line may be wrong too."""
PLAUSIBLE_STEP_MM = (18.0, 50.0)
"""Steps outside are remarked; 19 to 41 mm occur in the training patients (19: collapsed vertebra)."""

FREEDOM = 5.0
"""Degrees of freedom of Student's t, which stands for all normal distributions here: one odd disc breaks nothing."""

MISSED, MISSED_FIRST = 0.04, 0.08
"""Probability that a disc in view is not among the candidates; L5/S1 collapses most often. Numbered from the bottom up,
2 of 13 patients went wrong by a missed or an extra lowest disc."""
REMNANT = {0: 0.06, -1: 0.01}
"""Probability that the lowest candidate of the sacrum is S1/S2, or S2/3."""
CLUTTER = 0.05
"""Expected number of candidates that are no disc, for each one that is."""
CLUTTER_LOG_WIDTH, CLUTTER_LOG_WIDTH_SD = -0.7, 0.5
CLUTTER_LOG_VOLUME, CLUTTER_LOG_VOLUME_SD = -2.0, 1.2
CLUTTER_SIDE_MM = 60.0
"""Candidates that are no disc lie anywhere within this distance of the line,"""
CLUTTER_REACH_MM = 250.0
"""anywhere along it, and slope by anything."""
CERTAINTY_SD, CLUTTER_CERTAINTY, CLUTTER_CERTAINTY_SD = 0.06, -0.12, 0.10
"""Mean probability within a candidate against the spine's median: discs spread about 0, clutter about less."""

BELOW_MM, BELOW_SD_MM = 70.0, 25.0
"""Image below the centroid of L5/S1: 48 to 89 mm in the training patients; other protocols vary more."""
ODD_VIEW, ODD_VIEW_MM = 0.1, 400.0
"""Share of scans planned in another way, whose lower border may lie anywhere over this length of spine."""

VOTE = {"right": 0.80, "background": 0.05, "neighbour": 0.06}
"""What the localization network says of a disc: its level, nothing, the level above or below (each)."""
VOTE_ELSEWHERE = {"background": 0.9, "nearest": 0.05}
"""What it says of what is not among its levels: nothing, or the nearest level that it knows."""
SHIFT = {0: 0.93, 1: 0.02, -1: 0.02}
"""Probability that the localization network's levels are right, all one too high, or all one too low."""
SHIFT_WHERE_ODD = 0.3
"""Probability of such a shift where the lowest disc is not L5/S1: what misled one network misleads the other too."""
LOST = 0.03
"""Probability that what it says means nothing."""
SHIFT_CHANGE = 0.06
"""Probability that from one disc to the next this changes: such networks err over whole stretches of a spine."""
