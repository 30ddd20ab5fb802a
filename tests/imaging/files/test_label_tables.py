"""Label tables, read back by the rules of the programs that read them."""

from __future__ import annotations

import csv
import re

import pytest

from ivdjax.imaging.files.label_tables import bids_labels, itksnap_labels, slicer_colors
from ivdjax.imaging.files.segment import Segment

CATEGORY, CODE = ("91723000", "SCT", "Anatomical Structure"), ("1537001", "SCT", "T11/T12 disc")
SEGMENTS = (
    Segment(7, "T11/12", CATEGORY, CODE, (0.0, 0.62, 0.45)),
    Segment(1, "L5/S1 disc", CATEGORY, CODE, (1.0, 0.5, 0.0)),
)


def test_itksnap_reads_its_own_layout() -> None:
    lines = itksnap_labels(SEGMENTS).splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert header[1] == "# ITK-SnAP Label Description File"
    assert header[3] == "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL"
    # What ITK-SNAP's reader does: seven numbers between blanks, then what stands between the quotes.
    rows = [re.fullmatch(r'((?:\s*[0-9.]+){7})\s+"([^"]*)"', line) for line in lines if not line.startswith("#")]
    found = [(*map(float, row[1].split()), row[2]) for row in rows if row is not None]
    assert found == [
        (0, 0, 0, 0, 0, 0, 0, "Clear Label"),
        (1, 255, 128, 0, 1, 1, 1, "L5/S1 disc"),
        (7, 0, 158, 115, 1, 1, 1, "T11/12"),
    ]


def test_slicer_splits_at_blanks() -> None:
    lines = slicer_colors(SEGMENTS).splitlines()
    assert lines[:2] == ["# Color table file", "# 3 values"]
    assert [line.split(" ") for line in lines[2:]] == [
        ["0", "Background", "0", "0", "0", "0"],
        ["1", "L5/S1_disc", "255", "128", "0", "255"],
        ["7", "T11/12", "0", "158", "115", "255"],
    ]


def test_bids_table() -> None:
    rows = list(csv.DictReader(bids_labels(SEGMENTS).splitlines(), delimiter="\t"))
    assert rows == [
        {"index": "1", "name": "L5/S1 disc", "color": "#ff8000"},
        {"index": "7", "name": "T11/12", "color": "#009e73"},
    ]


def test_no_segment_leaves_the_background() -> None:
    assert itksnap_labels([]).endswith('"Clear Label"\n')
    assert slicer_colors([]).splitlines()[1:] == ["# 1 values", "0 Background 0 0 0 0"]
    assert bids_labels([]) == "index\tname\tcolor\n"


@pytest.mark.parametrize("write", [itksnap_labels, slicer_colors, bids_labels])
def test_two_segments_of_one_value(write) -> None:
    with pytest.raises(ValueError, match="'a' and 'b' both have the value 3"):
        write([Segment(3, "a", CATEGORY, CODE, (0, 0, 0)), Segment(3, "b", CATEGORY, CODE, (0, 0, 0))])
