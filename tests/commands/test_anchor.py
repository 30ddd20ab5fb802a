from __future__ import annotations

import pytest

from ivdjax.commands.anchor import parse_anchor, read_anchors
from ivdjax.discs.evidence import Anchor
from ivdjax.volume import LEVEL_NAMES, UserError


@pytest.mark.parametrize("name", ["L4/5", "L4/L5", "L4-5", "l4-l5", "2", " L4/5 "])
def test_one_level_in_all_its_spellings(name):
    assert parse_anchor(f"{name}=-3.5, 12,-4e1") == Anchor(2, (-3.5, 12.0, -40.0))


def test_every_level_has_its_name_and_its_number():
    for level, name in enumerate(LEVEL_NAMES, start=1):
        assert parse_anchor(f"{name}=0,0,0").level == parse_anchor(f"{level}=0,0,0").level == level


@pytest.mark.parametrize(
    "point", ["L 7.6 P 122.8 I 222.2", "L7.6P122.8I222.2", "I 222.2, L 7.6, P 122.8 mm", "R -7.6 A -122.8 S -222.2",
              "l 7.6  p 122.8  f 222.2"],
)  # fmt: skip
def test_a_point_as_viewers_show_it(point):
    assert parse_anchor(f"L4/5={point}") == Anchor(2, (-7.6, -122.8, -222.2))


@pytest.mark.parametrize(
    "text",
    [
        "case,level,x,y,z\nP01,L4/5,-7.6,-122.8,-222.2\n\nP02,1,0,1,2\n",
        "\ufeffz;Y;X;Case;Level\n-222,2;-122,8;-7,6;P01;l4-5\n2;1;0;P02;L5/S1\n",
        "case\tlevel\tx\ty\tz\nP01\tL4/5\tL 7.6\tP 122.8\tI 222.2\nP02\tL5/S1\t0\t1\t2\n",
    ],
)
def test_a_table_of_anchors_from_any_spreadsheet(tmp_path, text):
    (tmp_path / "anchors.csv").write_text(text, encoding="utf-8")
    assert read_anchors(tmp_path / "anchors.csv") == {
        "P01": Anchor(2, (-7.6, -122.8, -222.2)), "P02": Anchor(1, (0.0, 1.0, 2.0))
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,level,x,y\n", "lacks the column z"),
        ("case,level,x,y,z\n", "holds no anchor"),
        ("case,level,x,y,z\na,L4/6,1,2,3\n", "line 2, case a: .*did you mean L4/5"),
        ("case,level,x,y,z\na,2,1,2,\n", "line 2, case a: .*is not three numbers"),
        ("case,level,x,y,z\na,2,a,0,0\n", "line 2, case a: 'a,0,0' is not three numbers"),
        ("case,level,x,y,z\n,2,1,2,3\n", "line 2: the case is missing"),
        ("case,level,x,y,z\na,2,1,2,3\na,1,1,2,3\n", "line 3: case a has an anchor already"),
    ],
)
def test_a_table_that_cannot_be_used_names_its_line(tmp_path, text, message):
    (tmp_path / "anchors.csv").write_text(text)
    with pytest.raises(UserError, match=f"anchors.csv.*{message}"):
        read_anchors(tmp_path / "anchors.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L4/5", "there is no '=' in 'L4/5'"),
        ("L4/6=1,2,3", r"no level 'L4/6'; did you mean L4/5\?"),
        ("T12/S1=1,2,3", "no level 'T12/S1'; did you mean"),
        ("sacrum=1,2,3", "no level 'sacrum'; known are L5/S1"),
        ("0=1,2,3", "no level '0'; known are"),
        ("16=1,2,3", "no level '16'"),
        ("=1,2,3", "no level ''"),
        ("L4/5=1,2", "'1,2' is not three numbers"),
        ("L4/5=1,2,3,4", "'1,2,3,4' is not three numbers"),
        ("L4/5=1;2;3", "'1;2;3' is not three numbers"),
        ("L4/5=1,nan,3", "'1,nan,3' is not a place"),
        ("L4/5=L 7.6 P 122.8", "must name three directions"),
        ("L4/5=L 7.6 R 1 I 2", "names one direction twice"),
        ("L4/5=L 7.6 Q 1 I 2", "'Q 1 I 2' is no direction"),
    ],
)
def test_what_is_no_anchor_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_anchor(text)
