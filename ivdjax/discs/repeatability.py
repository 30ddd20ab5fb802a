"""How much a measure varies when an unchanged disc is scanned and measured anew.

Rows of values are discs (a subject's level), columns are scans (visits) in which nothing has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_PAIR_95 = 1.96 * np.sqrt(2.0)
"""The difference of two measurements has sqrt(2) times the deviation of one; 95 % lie within 1.96 deviations."""


@dataclass(frozen=True)
class Repeatability:
    """How one measure repeats.

    Attributes:
        within_sd: within-subject standard deviation, in the measure's unit.
        smallest_detectable_change: what two measurements of one unchanged disc exceed in 5 % of pairs.
        icc: ICC(2,1) within levels (see `icc_agreement`); None where it is not defined.
        n: discs with two values or more.
    """

    within_sd: float
    smallest_detectable_change: float
    icc: float | None
    n: int


def repeatability_of(values: ArrayLike, levels: Sequence[int]) -> Repeatability | None:
    """How a measure repeats; None if no disc has two values.

    The smallest detectable change is 1.96 sqrt(2) within_sd (J. M. Bland and D. G. Altman, Measurement error, BMJ 313,
    744, 1996: the repeatability; also known as the repeatability coefficient).

    Args:
        values: (N, K), one row per disc, one column a scan; not a number where nothing was measured.
        levels: N, of each disc.

    Raises:
        ValueError: the values are not two-dimensional, or the counts differ.
    """
    table = _table(values, levels)
    deviation, discs = within_sd(table)
    if deviation is None:
        return None
    return Repeatability(deviation, float(_PAIR_95 * deviation), icc_agreement(table, levels), discs)


def within_sd(values: ArrayLike) -> tuple[float | None, int]:
    """Within-subject standard deviation, and the number of discs with two values or more.

    The root of the mean of the discs' variances over their scans, each variance weighted by its degrees of freedom:
    sw^2 = sum_i sum_j (x_ij - mean_i)^2 / sum_i (k_i - 1). None without a disc of two values.

    Args:
        values: (N, K), one row per disc; not a number where nothing was measured.
    """
    rows = [row[np.isfinite(row)] for row in np.asarray(values, dtype=float)]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        return None, 0
    squares = sum(float(((row - row.mean()) ** 2).sum()) for row in rows)
    return float(np.sqrt(squares / sum(len(row) - 1 for row in rows))), len(rows)


def icc_agreement(values: ArrayLike, levels: Sequence[int]) -> float | None:
    """ICC(2,1): two-way random effects, absolute agreement, a single measurement; discs of one level as targets.

    ICC(2,1) = (MSR - MSE) / (MSR + (K - 1) MSE + K (MSC - MSE) / N), with the mean squares of discs (MSR), scans (MSC)
    and error (MSE) of an analysis of variance of N discs by K scans (P. E. Shrout and J. L. Fleiss, Intraclass
    correlations, Psychological Bulletin 86, 420, 1979; chosen after T. K. Koo and M. Y. Li, A guideline of selecting
    and reporting intraclass correlation coefficients, Journal of Chiropractic Medicine 15, 155, 2016).

    Discs of different levels differ by anatomy, which would raise the coefficient without telling anything of the
    measurement. So the mean of each level is taken off first, and MSR has N - L degrees of freedom for L levels; with
    one level it is the plain ICC(2,1).

    Args:
        values: (N, K), one row per disc, one column per scan. Discs with a value that is not a number are left
            out, and so are levels of a single disc.
        levels: N, of each disc.

    Returns:
        The coefficient, at most 1 (negative where discs differ less than scans do); None with one scan alone, with no
        level of two discs, or if nothing varies.
    """
    table, level = _table(values, levels), np.asarray(levels)
    keep = np.isfinite(table).all(axis=1)
    numbers, counts = np.unique(level[keep], return_counts=True)
    keep &= np.isin(level, numbers[counts > 1])
    table, level = table[keep], level[keep]
    n, k = table.shape
    if n < 2 or k < 2:
        return None
    centred = table.copy()
    for number in np.unique(level):
        centred[level == number] -= table[level == number].mean()
    of_discs, of_scans = centred.mean(axis=1), centred.mean(axis=0)
    error = centred - of_discs[:, None] - of_scans
    msr = k * float((of_discs**2).sum()) / (n - len(np.unique(level)))
    msc = n * float((of_scans**2).sum()) / (k - 1)
    mse = float((error**2).sum()) / ((n - 1) * (k - 1))
    total = msr + (k - 1) * mse + k * (msc - mse) / n
    return (msr - mse) / total if total > 0 else None


def _table(values: ArrayLike, levels: Sequence[int]) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or len(table) != len(levels):
        raise ValueError(f"values must be (discs, scans) with a level a disc, not {table.shape} and {len(levels)}")
    return table
