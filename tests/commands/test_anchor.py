from __future__ import annotations

import pytest

from ivdjax.commands.anchor import parse_anchor
from ivdjax.discs.evidence import Anchor
from ivdjax.volume import LEVEL_NAMES, UserError


@pytest.mark.parametrize("name", ["L4/5", "L4/L5", "L4-5", "l4-l5", "2", " L4/5 "])
def test_one_level_in_all_its_spellings(name):
    assert parse_anchor(f"{name}=-3.5, 12,-4e1") == Anchor(2, (-3.5, 12.0, -40.0))


def test_every_level_has_its_name_and_its_number():
    for level, name in enumerate(LEVEL_NAMES, start=1):
        assert parse_anchor(f"{name}=0,0,0").level == parse_anchor(f"{level}=0,0,0").level == level


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
    ],
)
def test_what_is_no_anchor_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_anchor(text)
