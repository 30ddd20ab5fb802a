"""The contrast of an image, by the times of its sequence before its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivdjax.imaging.files.dicom_headers import Acquisition, Slice
from ivdjax.imaging.files.weighting import Weighting, weighting_of, weighting_of_channel


def image(words="", options=(), scanning=("SE",), name="", te=None, tr=None, ti=None, suppressed=()) -> Slice:
    return Slice(Path("x"), description=words, scan_options=tuple(options),
                 acquisition=Acquisition(scanning, name, te, tr, ti, suppressed))  # fmt: skip


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (image("t2_tse_sag", te=100, tr=3500), "t2"),
        (image("t2_tirm_sag", te=60, tr=4000, ti=160), "stir"),  # Siemens, 1.5 T
        (image("T2 sag", te=50, tr=5000, ti=220), "stir"),  # 3 T
        (image("STIR", te=30, tr=2000, ti=85), "stir"),  # 0.3 T
        (image("t2_tirm_dark-fluid", te=90, tr=9000, ti=2500), "flair"),
        (image("T1 FLAIR", te=20, tr=2000, ti=860), "t1"),
        (image("mprage", scanning=("GR", "IR"), te=3, tr=2000, ti=900), "t1"),
        (image("t1_tse_sag", te=10, tr=600), "t1"),
        (image("pd", te=15, tr=2500), "pd"),
        (image("t2_space", te=120, tr=1500), "t2"),
        (image("", te=90), "t2"),
        (image("", te=10), None),
        (image("", te=45, tr=2500), None),
        (image("t1 vibe", scanning=("GR",), te=2.4, tr=5), "t1"),
        (image("t2 medic", scanning=("GR",), te=17, tr=500), "t2"),
        (image("unnamed", scanning=("GR",), te=17, tr=500), None),
        (image("T2 STIR", te=90), "stir"),  # its inversion time was stripped
        (image("t2 sag", scanning=("SE", "IR"), te=60, tr=4000), None),
        (image("t2_tirm", scanning=("SE",), name="*TIR2D1_15", te=60, tr=4000), "stir"),
        (image("sag t2 and t1"), None),
        (image("sag T2W"), "t2"),
        (image("knee"), None),
    ],
)
def test_a_contrast_by_its_header(found, kind):
    told = weighting_of(found)
    assert (told.kind if told else None) == kind


@pytest.mark.parametrize(
    "found",
    [image("t2", ["FS"], te=90, tr=3000), image("t2_fs", te=90, tr=3000), image("T2 SPAIR sag", te=90, tr=3000),
     image("t2", te=90, tr=3000, suppressed=("FAT",))],
)  # fmt: skip
def test_fat_suppression(found):
    assert weighting_of(found) == Weighting("t2", True)
    assert str(weighting_of(found)) == "T2 with fat suppression"


@pytest.mark.parametrize(
    ("name", "weighting"),
    [("t2", Weighting("t2")), ("T2w", Weighting("t2")), ("t1", Weighting("t1")), ("stir", Weighting("stir")),
     ("TIRM", Weighting("stir")), ("pdw", Weighting("pd")), ("t2_fs", Weighting("t2", True)), ("wat", None),
     ("mr", None), ("t2star", None)],
)  # fmt: skip
def test_a_contrast_by_a_channels_name(name, weighting):
    assert weighting_of_channel(name) == weighting
