"""What counts as right on scans with few references, and which scans count."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.real_scans import Scored, faults, find_scans, reference_points, summary_table
from ivdjax.imaging.files import write_labels, write_volume
from ivdjax.volume import Disc, Grid, LabelMap, UserError

AFFINE = np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
AFFINE[0, 0], AFFINE[2, 1], AFFINE[1, 2] = -1.0, -1.0, -1.0
GRID = Grid((4, 12, 10), AFFINE)


def scan(folder, file, seed, points=None, labels=False):
    folder.mkdir(parents=True)
    values = np.random.default_rng(seed).integers(0, 100, GRID.shape).astype(np.int16)
    write_volume(folder / f"{folder.name}_{file}.nii.gz", values, GRID)
    if points:
        (folder / f"{folder.name}_Points.json").write_text(json.dumps(points))
    if labels:
        array = np.zeros(GRID.shape, np.uint8)
        array[:, 8:10], array[:, 2:4] = 1, 2
        write_labels(folder / f"{folder.name}_Labels.nii.gz", LabelMap(array, AFFINE))


def test_a_scan_that_stands_twice_counts_once_and_those_without_reference_not_at_all(tmp_path):
    scan(tmp_path / "one" / "a", "wat", 1, {"2": [0, 0, 0]})
    scan(tmp_path / "one" / "b", "wat", 1, {"2": [0, 0, 0]})
    scan(tmp_path / "two" / "c", "t1", 1, {"2": [0, 0, 9]})
    scan(tmp_path / "two" / "d", "t2", 1)
    found = find_scans([str(tmp_path)], ("t2",))
    assert [(files.subject, files.name) for files in found] == [("one", "a"), ("two", "c")]
    assert [files.name for files in find_scans([str(tmp_path / "two")], ("t2",))] == ["c"]
    assert [files.name for files in find_scans([str(tmp_path)], ("fat", "wat"))] == ["a"]
    with pytest.raises(UserError, match="no case with a reference"):
        find_scans([str(tmp_path)], ("t2",), names=["d"])


def test_references_are_points_or_the_centroids_of_outlines(tmp_path):
    scan(tmp_path / "s" / "p", "t2", 1, {"2": [1, 2, 3]})
    scan(tmp_path / "s" / "q", "t2", 2, labels=True)
    by_points, by_outlines = (reference_points(files) for files in find_scans([str(tmp_path)], ("t2",)))
    assert by_points == {2: (1, 2, 3)}
    assert by_outlines == {1: pytest.approx((-1.5, -4.5, -8.5)), 2: pytest.approx((-1.5, -4.5, -2.5))}


def test_a_level_is_right_within_10_mm_in_the_sagittal_plane_under_its_own_number():
    discs = [Disc(level, 1.0, (50.0, 0.0, 35.0 * level), None) for level in (1, 2, 3)]
    there = {level: (0.0, 6.0, 35.0 * level + 7.9) for level in (1, 2, 3)}
    assert faults(discs, there) == {}
    assert faults(discs, {2: (0.0, 6.1, 35.0 * 2 + 8.0)}) == {2: 0}
    assert faults(discs, {1: (0.0, 0.0, 70.0), 4: (0.0, 0.0, 140.0)}) == {1: 2, 4: 0}
    assert faults([], there) == {1: 0, 2: 0, 3: 0}


def test_summary_counts_by_set():
    rows = [
        Scored("x", "1", True, 4, 4, "ok", (), 1.0, None, {}),
        Scored("x", "2", False, 0, 4, "ok", (), 1.0, None, {1: 2}),
        Scored("y", "3", True, 5, 5, "review", ("why",), 0.4, 0.8, {}),
    ]
    table = summary_table(rows).splitlines()
    assert table[2] == "| x | 2 | 1 | 4 of 8 | 1 of 1 | 2 | 1 | - |"
    assert table[4] == "| all | 3 | 2 | 9 of 13 | 1 of 2 | 2 | 1 | 0.800 (1) |"
