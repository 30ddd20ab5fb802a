from __future__ import annotations

import numpy as np
import pytest

from ivdjax.data.phantom.discs import disc_distance
from ivdjax.data.phantom.spine import DiscShape, sample_spine

# AP length, mean height (mm) and tilt (deg) of discs 1 to 8 with their spread, and the step to the disc below.
MEASURED = np.array(
    [
        (35, 5, 7.1, 2.1, -31, 9, np.nan, np.nan),
        (37, 5, 7.9, 2.5, -12, 6, 35.0, 2.5),
        (38, 4, 8.1, 2.0, -2, 5, 35.6, 2.6),
        (37, 4, 7.5, 1.9, 6, 5, 36.6, 2.1),
        (35, 4, 6.7, 1.5, 12, 6, 35.4, 1.8),
        (32, 4, 5.7, 1.3, 10, 7, 33.6, 2.7),
        (31, 5, 4.7, 1.3, 8, 6, 30.5, 3.4),
        (29, 5, 4.3, 1.0, 6, 6, 27.9, 1.4),
    ]
)


def outline(disc: DiscShape) -> np.ndarray:
    """Points (n, 2) in mm (front, top) of the median cut through a disc, on a grid of 0.5 mm."""
    front, top = np.meshgrid(np.arange(-30, 30, 0.5), np.arange(-22, 22, 0.5), indexing="ij")
    centre = disc.frame.centre_mm
    cut = np.stack([np.full(front.shape, centre[0]), front + centre[1], top + centre[2]]).astype(np.float32)
    inside = disc_distance(disc, cut) <= 0
    return np.stack([front[inside] + centre[1], top[inside] + centre[2]], axis=1)


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    """Length, mean height, tilt and step (subjects, 8, 4) of sampled discs, measured as on patients."""
    rows = []
    for seed in range(80):
        spine = sample_spine(np.random.default_rng(seed))
        below = None
        for level in range(1, 9):
            cut = outline(spine.disc(level))
            middle = cut.mean(axis=0)
            axis = np.linalg.eigh(np.cov(cut.T))[1][:, 1]
            axis *= np.sign(axis[0])
            length = np.ptp((cut - middle) @ axis)
            step = np.nan if below is None else float(np.linalg.norm(middle - below))
            rows.append((length, len(cut) * 0.25 / length, np.degrees(np.arctan2(axis[1], axis[0])), step))
            below = middle
    return np.array(rows).reshape(80, 8, 4)


@pytest.mark.parametrize(("column", "name", "tolerance"), [(0, "length", 1.2), (1, "height", 0.7), (2, "tilt", 2.5)])
def test_sampled_discs_have_the_measured_median_and_spread(
    measured: np.ndarray, column: int, name: str, tolerance: float
) -> None:
    np.testing.assert_allclose(np.median(measured[:, :, column], axis=0), MEASURED[:, 2 * column], atol=tolerance)
    np.testing.assert_allclose(measured[:, :, column].std(axis=0), MEASURED[:, 2 * column + 1], rtol=0.4)


def test_steps_between_discs_have_the_measured_median_and_spread(measured: np.ndarray) -> None:
    np.testing.assert_allclose(np.median(measured[:, 1:, 3], axis=0), MEASURED[1:, 6], atol=1.2)
    np.testing.assert_allclose(measured[:, 1:, 3].std(axis=0), MEASURED[1:, 7], rtol=0.5)


def test_neighbouring_discs_of_a_subject_deviate_together(measured: np.ndarray) -> None:
    for column in range(3):
        neighbours = [np.corrcoef(measured[:, k, column], measured[:, k + 1, column])[0, 1] for k in range(7)]
        assert np.mean(neighbours) > 0.3


def test_discs_rise_from_the_sacrum_and_never_touch() -> None:
    for seed in range(20):
        spine = sample_spine(np.random.default_rng(seed))
        assert [disc.level for disc in spine.discs] == list(range(-3, 16))
        gaps = np.diff([disc.frame.centre_mm[2] for disc in spine.discs if disc.level >= 1])
        heights = np.array([disc.height for disc in spine.discs if disc.level >= 1])
        assert (gaps > (heights[1:] + heights[:-1]) / 2 + 5).all()


def test_hard_kinds_change_the_anatomy_as_named() -> None:
    rng = np.random.default_rng
    assert sample_spine(rng(1), "collapsed_l5s1").disc(1).height <= 3
    faint = [disc for disc in sample_spine(rng(1), "faint_disc").discs if disc.contrast < 1]
    assert len(faint) == 1 and 1 <= faint[0].level <= 7 and faint[0].contrast <= 0.25
    assert sample_spine(rng(1), "s1s2").disc(0).height >= 4.5
    straight = np.ptp([disc.frame.centre_mm[0] for disc in sample_spine(rng(1)).discs])
    assert np.ptp([disc.frame.centre_mm[0] for disc in sample_spine(rng(1), "scoliosis").discs]) > max(15, 2 * straight)
