"""Views of a scan keep what is seen where it was in the world; evidence comes back as it was kept."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.evidence_cache import CONTRASTS, Looked, View, read_evidence, write_evidence
from ivdjax.data.preparation import Prepared
from ivdjax.discs.evidence import Evidence
from ivdjax.volume import Case, Grid, LabelMap, Volume, to_world_mm

AFFINE = np.array([[-3.0, 0, 0, 5], [0, 0, -1.0, 7], [0, -2.0, 0, 9], [0, 0, 0, 1]])
SHAPE = (6, 20, 8)


def case():
    """One bright voxel at (3, 9, 4), which is also disc 2."""
    array, labels = np.ones((1, *SHAPE), np.float32), np.zeros(SHAPE, np.uint8)
    array[0, 3, 9, 4], labels[3, 9, 4] = 50.0, 2
    return Case("a", "a", Volume(array, AFFINE, ("t2",)), LabelMap(labels, AFFINE))


def bright_mm(seen):
    place = np.argwhere(seen.volume.array[0] > 20)
    return to_world_mm(seen.volume.affine, place.astype(float)).tolist()


@pytest.mark.parametrize(
    ("view", "shape"),
    [
        (View(), SHAPE),
        (View(below_mm=8, above_mm=6), (6, 13, 8)),
        (View(below_mm=-8, above_mm=-6), (6, 27, 8)),
        (View(slices=2, above_mm=4), (2, 18, 8)),
    ],
)
def test_what_is_left_stays_where_it_was(view, shape):
    seen = view.of(case())
    assert seen.volume.grid.shape == seen.labels.grid.shape == shape
    assert bright_mm(seen) == bright_mm(case())
    marked = np.argwhere(seen.labels.array == 2).astype(float)
    assert to_world_mm(seen.labels.affine, marked).tolist() == bright_mm(case())


def test_merged_slices_are_means_at_their_middle():
    seen = View(merged=2).of(case())
    assert seen.volume.grid.shape == (3, 20, 8) and seen.volume.grid.spacing_mm == pytest.approx((6.0, 2.0, 1.0))
    assert seen.volume.array[0, 1, 9, 4] == pytest.approx(25.5)
    assert to_world_mm(seen.volume.affine, np.array([1.0, 9, 4]))[0] == pytest.approx(5 - 3 * 2.5)
    assert seen.labels.array[1, 9, 4] == 2


def test_a_view_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing is left of 20 rows"):
        View(below_mm=25, above_mm=15).of(case())


def test_inversion_leaves_air_dark_and_turns_tissue_round():
    values = np.array([[[[0.0, 0.0, 40.0, 60.0, 100.0] * 4]]], np.float32)
    dark, low, mid, high = CONTRASTS["inverted"](values)[0, 0, 0, [0, 2, 3, 4]]
    assert dark == 0 and low > mid > high


def test_evidence_comes_back_to_half_precision(tmp_path):
    grid = Grid(SHAPE, AFFINE)
    draw = np.random.default_rng(0)
    probability, levels = draw.random(SHAPE, np.float32), draw.random((8, *SHAPE), np.float32)
    region = probability > 0.5
    prepared = Prepared("a", "a", ("t2",), np.ones((1, *SHAPE), np.uint8), None, None, 0, grid, grid, grid)
    path = tmp_path / "kept" / "a.pickle"
    write_evidence(path, Looked(prepared, Evidence(probability, grid, region, levels, grid)))
    back = read_evidence(path)
    assert back.evidence.probability.dtype == np.float32 and back.prepared.name == "a"
    assert back.evidence.probability == pytest.approx(probability, abs=1e-3)
    assert back.evidence.level_probability == pytest.approx(levels, abs=1e-3)
    assert (back.evidence.region == region).all()
