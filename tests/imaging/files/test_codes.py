"""The codes of discs against pydicom's copy of the standard."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from ivdjax.imaging.files.codes import ANATOMICAL_STRUCTURE, DISC_CODES, disc_code
from ivdjax.volume import LEVEL_NAMES

CID_INTERVERTEBRAL_DISC = codes.cid7604
NAMES = ("L5S1", "L4L5", "L3L4", "L2L3", "L1L2", "T12L1", *(f"T{n - 1}T{n}" for n in range(12, 1, -1)), "C7T1",
         *(f"C{n - 1}C{n}" for n in range(7, 2, -1)))  # fmt: skip


@pytest.mark.parametrize(("level", "name"), list(enumerate(NAMES, start=1)))
def test_every_level_has_the_standards_code(level, name):
    standard = getattr(CID_INTERVERTEBRAL_DISC, f"{name}Disc")
    code = disc_code(level)
    assert (code.value, code.scheme, code.meaning) == (standard.value, standard.scheme_designator, standard.meaning)


def test_the_whole_context_group_is_there_and_nothing_else():
    assert len(DISC_CODES) == len(NAMES) == len(CID_INTERVERTEBRAL_DISC.dir()) == 23


def test_meanings_agree_with_the_levels_names():
    for level, name in enumerate(LEVEL_NAMES, start=1):
        upper, lower = name.split("/")
        region = upper[0] if lower[0].isdigit() else ""  # "L4/5" is written L4/L5 in the standard
        assert disc_code(level).meaning == f"{upper}/{region}{lower} disc"


def test_category():
    standard = codes.cid7150.AnatomicalStructure
    found = (ANATOMICAL_STRUCTURE.value, ANATOMICAL_STRUCTURE.scheme, ANATOMICAL_STRUCTURE.meaning)
    assert found == (standard.value, standard.scheme_designator, standard.meaning)


@pytest.mark.parametrize("level", [0, -1, 24])
def test_no_such_disc(level):
    with pytest.raises(ValueError, match=r"level is 1 \(L5/S1\) to 23 \(C2/C3\)"):
        disc_code(level)
