"""What Dixon images are told by, against the conventions of several vendors."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivdjax.imaging.files.dicom_headers import Acquisition, Slice
from ivdjax.imaging.files.dixon import MAP, channel_part, names_channel, parts_of, phase_by_echo
from tests.dicom_series import GE, PHILIPS, SIEMENS


def image(image_type: str = "ORIGINAL\\PRIMARY\\M\\NORM", description: str = "", **rest) -> Slice:
    return Slice(Path("x"), image_type=tuple(image_type.split("\\")), description=description, **rest)


def one(found: frozenset[str]) -> str | None:
    return next(iter(found)) if len(found) == 1 else None


@pytest.mark.parametrize("part", ["wat", "fat", "inn", "opp"])
def test_the_vendors_of_the_test_series(part):
    assert parts_of(image("\\".join(SIEMENS[part]))) == {part}
    assert parts_of(image("\\".join(PHILIPS[part]))) == {part}
    assert parts_of(image(description=GE[part])) == {part}


@pytest.mark.parametrize(
    ("image_type", "part"),
    [
        ("DERIVED\\PRIMARY\\DIXON\\WATER\\MAGNITUDE", "wat"),  # GE, Siemens XA
        ("ORIGINAL\\PRIMARY\\DIXON\\FAT", "fat"),  # Enhanced Philips
        ("ORIGINAL\\PRIMARY\\W\\WATER", "wat"),
        ("DERIVED\\PRIMARY\\DIXON\\OUT_PHASE", "opp"),  # the standard's term
        ("DERIVED\\PRIMARY\\DIXON\\OUT_OF_PHASE", "opp"),  # Philips R12
        ("ORIGINAL\\PRIMARY\\M\\IN_PHASE\\ND", "inn"),
        ("DERIVED\\PRIMARY\\DIXON\\FAT_FRACTION", MAP),
        ("DERIVED\\PRIMARY\\FF\\FF\\DERIVED", MAP),
        ("ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", None),
        ("ORIGINAL\\PRIMARY\\M\\ND\\NORM", None),
        ("W\\F", None),  # the first two values say how an image came about
    ],
)
def test_image_types(image_type, part):
    assert one(parts_of(image(image_type))) == part


@pytest.mark.parametrize(
    ("description", "part"),
    [
        ("t1_vibe_dixon_sag_W", "wat"),
        ("t1_vibe_dixon_sag_F_ND", "fat"),
        ("Dixon_BH_17s_in", "inn"),
        ("Dixon_BH_17s_opp", "opp"),
        ("T1 SAG VIBE DIXON_W L - LIMB", "wat"),
        ("RT T1 VIBE SAG DIXON_IN", "inn"),
        ("WATER: Ax T2 FSE Flex", "wat"),
        ("OutPhase: Sag LAVA", "opp"),
        ("In Phase sag", "inn"),
        ("T1 out of phase", "opp"),
        ("FatFrac: IDEAL IQ", MAP),
        ("pdff sag", MAP),
        ("t2_tse_sag_fatsat", None),
        ("T2 SAG FAT SAT", None),
        ("T1 water excitation", None),
        ("pd fs sag", None),
        ("t2_tse_sag", None),
        ("T2_W sag", None),
        ("Sag T1 W", None),
        ("in vivo protocol", None),
        ("", None),
    ],
)
def test_descriptions(description, part):
    assert one(parts_of(image(description=description))) == part


def test_the_image_type_outweighs_words_and_contradictions_stay_visible():
    assert parts_of(image("ORIGINAL\\PRIMARY\\M\\IN_PHASE", "Dixon fat water")) == {"inn"}
    assert parts_of(image(description="Dixon fat and water")) == {"fat", "wat"}
    assert parts_of(image(scan_options=("DIXF",))) == {"fat"}


def test_channel_names():
    assert [channel_part(name) for name in ("wat", "Water", "fat", "inn", "IP", "opp", "out_phase", "t2")] == [
        "wat", "wat", "fat", "inn", "inn", "opp", "opp", None,
    ]  # fmt: skip
    assert names_channel(image(description="SAG T2W TSE"), "t2") and names_channel(image(description="t2_sag"), "T2")
    assert not names_channel(image(description="t2star sag"), "t2")


@pytest.mark.parametrize(
    ("field_t", "echo_ms", "part"),
    [
        (1.5, 4.6, "inn"), (1.5, 2.3, "opp"), (1.5, 4.77, "inn"), (1.5, 2.39, "opp"), (1.5, 6.9, "opp"),
        (3.0, 2.3, "inn"), (3.0, 1.15, "opp"), (3.0, 2.46, "inn"), (3.0, 1.23, "opp"), (3.0, 3.45, "opp"),
        (1.5, 3.4, None), (1.5, 0.3, None), (1.5, 90.0, None), (None, 4.6, None), (1.5, None, None),
    ],
)  # fmt: skip
def test_phases_by_echo_time(field_t, echo_ms, part):
    for scanning, expected in (("GR", part), ("SE", None)):
        acquisition = Acquisition((scanning,), echo_time_ms=echo_ms)
        assert phase_by_echo(image(acquisition=acquisition, field_strength_t=field_t)) == expected
