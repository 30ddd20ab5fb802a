from __future__ import annotations

import json

import numpy as np
import pytest

from ivdjax.config import InferenceConfig
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.inference.corrections import (
    Correction,
    Corrections,
    corrected_numbering,
    corrected_outlines,
    corrections_text,
    read_corrections,
)
from ivdjax.volume import Grid, LabelMap, UserError

PIN = Anchor(2, (1.0, 2.0, 3.0))
BOTTOM_UP = InferenceConfig(numbering="bottom", registration=False, min_disc_mm3=1.0)


def decided(*entries: Correction) -> Corrections:
    return Corrections("a", entries)


def test_corrections_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "a_corrections.json"
    assert read_corrections(path, "a") == Corrections("a")
    made = decided(
        Correction("delete", point_mm=(0.5, -1.0, 2.0), by="Ada"),
        Correction("note", text="Schmorl node, L3"),
        Correction("accept", by="Grace", details={"levels": {"1": 1}}),
    ).with_anchor(PIN, by="Ada")
    path.write_text(corrections_text(made), "utf-8")
    assert read_corrections(path, "a") == made
    assert made.history[-1].at.endswith("+00:00") and made.with_anchor(PIN) is made


def test_the_last_anchor_counts_and_a_reset_takes_back_what_was_before():
    made = decided().with_anchor(Anchor(3, (0.0, 0.0, 0.0))).with_anchor(PIN)
    assert made.anchor == PIN and len(made.history) == 2
    made = made.with_entry(Correction("delete", point_mm=(0.0, 0.0, 9.0)))
    assert made.facts() == {
        "deleted_mm": [[0.0, 0.0, 9.0]],
        "corrections": ["L3/4 was pinned", "L4/5 was pinned", "A disc was deleted"],
        "decisions": 3,
    }
    gone = made.with_entry(Correction("reset"))
    assert gone.anchor is None and gone.deleted_mm == () and len(gone.history) == 4
    assert gone.with_anchor(PIN).anchor == PIN


def test_an_acceptance_holds_until_the_result_changes():
    made = decided(Correction("accept", by="Ada"), Correction("note", text="odd"), Correction("accept"))
    assert made.accepted_by == ("Ada", "a person")
    assert made.with_anchor(PIN).accepted_by == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": "b"}, "it is about case 'b', not a"),
        ({"kind": "cake"}, "kind is 'cake'"),
        ({"schema_version": 99}, r"a_corrections.json has schema version 99, but this ivdjax .* use a newer ivdjax$"),
        ({"corrections": [{"action": "eat"}]}, "action must be one of anchor"),
        ({"corrections": [{"action": "anchor", "level": 2}]}, "anchor needs a point_mm"),
        ({"corrections": [{"action": "anchor", "level": 0, "point_mm": [1, 2, 3]}]}, "level must be 1 to"),
        ({"corrections": [{"action": "delete", "point_mm": [1, 2, "x"]}]}, "three finite numbers"),
        ({"corrections": [{"action": "note", "words": "hm"}]}, "unknown key words"),
        ({"corrections": [{"action": "note", "text": 3}]}, "must be texts"),
        ({"corrections": 3}, "TypeError"),
    ],
)
def test_a_file_that_was_spoilt_is_never_passed_over(tmp_path, change, message):
    path = tmp_path / "a_corrections.json"
    path.write_text(
        json.dumps({"kind": "ivdjax corrections", "schema_version": 1, "case": "a", "corrections": []} | change)
    )
    with pytest.raises(UserError, match=message):
        read_corrections(path, "a")
    path.write_text("{")
    with pytest.raises(UserError, match="a_corrections.json holds no corrections .*move it away"):
        read_corrections(path, "a")


def stack(count: int) -> Evidence:
    """Discs of 4 x 4 x 2 mm, 8 mm from centre to centre, the lowest at z = 0."""
    affine = np.array([[-1.0, 0, 0, 4], [0, 0, -1.0, 4], [0, -1.0, 0, 8.0 * count], [0, 0, 0, 1]])
    probability = np.full((8, 8 * count + 8, 8), 0.01, np.float32)
    for place in range(count):
        row = 8 * (count - place)
        probability[2:6, row - 1 : row + 1, 2:6] = 0.9
    return Evidence(probability, Grid(probability.shape, affine))


def heights(evidence: Evidence, corrections: Corrections) -> dict[int, float]:
    """z in mm of the middle of each level."""
    used, numbering = corrected_numbering(evidence, BOTTOM_UP, corrections)
    z = used.grid.affine[2, 3] - np.argwhere(numbering.levels)[:, 1]
    levels = numbering.levels[numbering.levels > 0]
    return {int(level): float(z[levels == level].mean()) for level in np.unique(levels)}


def test_a_deleted_disc_is_gone_and_the_others_are_numbered_without_it():
    evidence = stack(4)
    assert heights(evidence, decided()) == {1: 0.5, 2: 8.5, 3: 16.5, 4: 24.5}
    deletion = Correction("delete", point_mm=(0.0, 0.0, 1.0))
    assert heights(evidence, decided(deletion)) == {1: 8.5, 2: 16.5, 3: 24.5}
    pinned = decided(deletion).with_anchor(Anchor(3, (0.0, 0.0, 16.0)))
    assert heights(evidence, pinned) == {2: 8.5, 3: 16.5, 4: 24.5}
    assert evidence.probability.max(axis=(0, 2))[31] == np.float32(0.9), "the evidence itself stays as it is"


def test_a_point_in_no_disc_is_refused():
    far = decided(Correction("delete", point_mm=(0.0, 0.0, 90.0)))
    with pytest.raises(
        ValueError, match=r"the deleted disc at \(0, 0, 90\) mm is not there: the nearest disc is 65 mm"
    ):
        corrected_numbering(stack(4), BOTTOM_UP, far)


@pytest.mark.parametrize(("level", "steps"), [(2, -1), (3, 0), (5, 2)])
def test_drawn_outlines_move_with_a_level_that_is_pinned_later(level, steps):
    """The middle one of three drawn discs is L3/4; it becomes what is pinned, and the others follow."""
    drawn = LabelMap(np.zeros((3, 12, 3), np.uint8), np.eye(4))
    for row, own in ((2, 4), (6, 3), (10, 2)):
        drawn.array[:, row, :] = own
    pinned = Correction("anchor", level=level, point_mm=(1.0, 6.0, 1.0))
    made = decided().with_outlines(drawn, "Ada", "map.nii.gz").with_entry(pinned)
    moved = corrected_outlines(made)
    assert moved.levels == (2 + steps, 3 + steps, 4 + steps)
    np.testing.assert_array_equal(moved.array, np.where(drawn.array > 0, drawn.array.astype(int) + steps, 0))


def test_drawn_outlines_do_not_move_below_the_lowest_level():
    drawn = LabelMap(np.zeros((3, 6, 3), np.uint8), np.eye(4))
    drawn.array[:, 1], drawn.array[:, 4] = 2, 1
    made = decided().with_outlines(drawn, "Ada", "m.nii.gz").with_entry(
        Correction("anchor", level=1, point_mm=(1.0, 1.0, 1.0)))  # fmt: skip
    with pytest.raises(ValueError, match="levels must stay within 1 to"):
        corrected_outlines(made)
