"""The overview, the comparison and the canvas that both draw on."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.patches import PathPatch

from ivdjax.reports.canvas import WHITE, figure_bytes, printable, shown_channel
from ivdjax.reports.colours import BOTH, PREDICTION, REFERENCE, level_colour
from ivdjax.reports.comparison import write_comparison
from ivdjax.reports.overview import overview_figure, overview_png
from ivdjax.reports.panel import PanelCase, validation_panel
from ivdjax.volume import Disc, LabelMap, LeftOut, Volume, to_world_mm

SHAPE = (16, 60, 50)
AFFINE = np.array([[-4.0, 0, 0, 30], [0, 0, -2.0, 60], [0, -2.5, 0, 40], [0, 0, 0, 1]])


def volume(array=None, channels=("t2",)):
    array = np.full((len(channels), *SHAPE), 50.0, np.float32) if array is None else array
    return Volume(array, AFFINE, channels)


def spine(levels=(1, 2, 3), confidence=0.9):
    array = np.zeros(SHAPE, np.uint8)
    discs = []
    for level in levels:
        top = 52 - 12 * level
        array[3:13, top : top + 4, 15 + level : 33 + level] = level
        x, y, z = to_world_mm(AFFINE, np.argwhere(array == level).mean(axis=0))
        discs.append(Disc(level, confidence, (x, y, z), 1.0))
    return LabelMap(array, AFFINE), discs


def pixels(source):
    from matplotlib.image import imread

    return imread(source)[..., :3]


def overview(*told):
    return pixels(io.BytesIO(overview_png(*told)))


def count_near(picture, colour, tolerance=0.06):
    return int((np.abs(picture - np.array(colour, np.float32)).max(axis=-1) < tolerance).sum())


def test_overview_draws_every_disc_in_its_own_colour():
    labels, discs = spine()
    picture = overview(volume(), labels, discs, "case", "ok", ())
    for level in (1, 2, 3):
        assert count_near(picture, level_colour(level)) > 100
    assert count_near(picture, level_colour(4)) < 20


def test_overview_keeps_proportions_of_anisotropic_voxels():
    # The coronal panel shows 16 slices of 4 mm (64 mm) beside 150 mm of height.
    labels, discs = spine()
    array = np.zeros((1, *SHAPE), np.float32)
    array[:, ::2] = 100  # stripes along the slices: seen in the coronal panel only
    bright = overview(volume(array), labels, discs, "case", "ok", ()).min(axis=-1) > 0.3
    columns, rows = np.flatnonzero(bright[200:].mean(axis=0) > 0.5), np.flatnonzero(bright.mean(axis=1) > 0.05)
    # From the middle of the first bright slice to that of the last: 14 slices; the outer halves add up to one more.
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(60 / 150, abs=0.02)


def test_coronal_panel_shows_the_patients_left_on_the_right():
    labels, discs = spine()
    array = np.zeros((1, *SHAPE), np.float32)
    array[0, 13:] = 100  # D rises towards the left
    picture = overview(volume(array), labels, discs, "case", "ok", ())
    bright = np.flatnonzero(picture[200:600].min(axis=-1).mean(axis=0) > 0.6)
    # 3 of 16 slices, at the right end of the coronal panel and in no other.
    assert 0.5 * picture.shape[1] < bright.min() and np.ptp(bright) == pytest.approx(8.0 * 110 * 12 / 150, abs=6)


def test_overview_without_discs_is_plain():
    labels, _ = spine(())
    picture = overview(volume(), labels, [], "case", "review", ("no disc was found",))
    assert picture.shape[0] > 800
    assert all(count_near(picture, level_colour(level), 0.03) < 60 for level in (1, 2, 3))


def test_overview_follows_a_spine_that_leaves_its_slice():
    array = np.zeros(SHAPE, np.uint8)
    discs = []
    for level, d in ((1, 2), (2, 8), (3, 13)):  # 24 and 20 mm to the side: no single slice meets two of them
        top = 52 - 12 * level
        array[d : d + 2, top : top + 4, 15:33] = level
        x, y, z = to_world_mm(AFFINE, np.argwhere(array == level).mean(axis=0))
        discs.append(Disc(level, 0.9, (x, y, z), 1.0))
    picture = overview(volume(), LabelMap(array, AFFINE), discs, "case", "ok", ())[
        :, : int(8.0 * 110 * 200 / 150 + 40)
    ]  # the two sagittal panels
    assert all(count_near(picture, level_colour(level)) > 60 for level in (1, 2, 3))


def test_overview_of_one_slice_with_odd_values_and_names():
    affine = AFFINE.copy()
    array = np.full((1, 1, 60, 50), np.nan, np.float32)
    labels = np.zeros((1, 60, 50), np.uint8)
    labels[0, 20:24, 0:20] = 1  # cut by the field of view
    disc = Disc(1, 0.1, tuple(to_world_mm(affine, np.argwhere(labels).mean(axis=0))), 1.0)
    picture = overview(Volume(array, affine, ("t2",)), LabelMap(labels, affine), [disc],
                       "$x^2$ \u4e2d\n", "review", ("a $\\frac", "b" * 300))  # fmt: skip
    assert count_near(picture, level_colour(1)) > 20


def test_overview_refuses_labels_on_another_grid():
    labels = LabelMap(np.zeros((2, 2, 2), np.uint8), AFFINE)
    with pytest.raises(ValueError, match="volume's grid"):
        overview_png(volume(), labels, [], "case", "ok", ())


def compare(tmp_path, prediction, reference):
    write_comparison(tmp_path / "c.png", volume(), prediction, reference, "case")
    picture = pixels(tmp_path / "c.png")[100:]  # without the legend
    return [count_near(picture, colour) for colour in (REFERENCE, PREDICTION, BOTH)]


def test_comparison_of_equal_discs_is_pale_yellow(tmp_path):
    labels, _ = spine()
    _, _, both = compare(tmp_path, labels, labels)
    from matplotlib.image import imread

    assert both > 1000
    outlines = imread(tmp_path / "c.png")[100:, :250, :3]  # within the first panel: no names in it
    assert count_near(outlines, BOTH) > 100
    assert count_near(outlines, REFERENCE) == 0 and count_near(outlines, PREDICTION) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_comparison_shows_missed_discs_orange_and_extra_ones_blue(tmp_path):
    low, high = spine((1,))[0], spine((3,))[0]
    red, green, both = compare(tmp_path, prediction=high, reference=low)
    assert red > 300 and green > 300 and both < 30


def test_comparison_leaves_out_reference_discs_above_the_seventh(tmp_path):
    labels, _ = spine((1,))
    above = labels.array.copy()
    above[3:13, 5:9, 18:36] = 8
    red, _, both = compare(tmp_path, labels, labels.with_array(above))
    alone = compare(tmp_path, labels, labels)
    assert (red, both) == (alone[0], alone[2])


def test_comparison_without_any_disc_is_plain(tmp_path):
    empty, _ = spine(())
    assert compare(tmp_path, empty, empty) == [0, 0, 0]


def test_comparison_refuses_labels_on_another_grid(tmp_path):
    labels, _ = spine()
    other = LabelMap(np.zeros((2, 2, 2), np.uint8), AFFINE)
    with pytest.raises(ValueError, match="prediction of shape"):
        write_comparison(tmp_path / "c.png", volume(), other, labels, "case")
    with pytest.raises(ValueError, match="reference of shape"):
        write_comparison(tmp_path / "c.png", volume(), labels, other, "case")


def test_shown_channel_prefers_t2_then_water():
    four = volume(channels=("fat", "inn", "opp", "wat"))
    assert shown_channel(four)[0] == "wat"
    assert shown_channel(volume(channels=("x", "t2")))[0] == "t2"
    assert shown_channel(volume(channels=("x", "y")))[0] == "x"


def test_printable_replaces_what_the_font_lacks():
    assert printable("Жé L5/S1\t\u4e2d") == "Жé L5/S1 ?"


def test_letters_lie_on_no_disc():
    """A spine that reaches the lower edge and both sides of the plane, where letters would stand."""
    array = np.zeros(SHAPE, np.uint8)
    array[3:13, 56:60, :], array[3:13, 26:34, 0:50] = 1, 2
    discs = [Disc(level, 0.9, tuple(to_world_mm(AFFINE, np.argwhere(array == level).mean(axis=0))), 1.0)
             for level in (1, 2)]  # fmt: skip
    figure = overview_figure(volume(), LabelMap(array, AFFINE), discs, shown=("sagittal",))
    (axes,) = figure.axes
    height, width = 150.0, 100.0
    letters = {text.get_text(): text.get_position() for text in axes.texts if len(text.get_text()) == 1}
    assert "A" in letters and "S" in letters
    for x, y in letters.values():
        row, column = int(y / height * 60), int(x / width * 50)
        assert not array[8, max(row, 0) : row + 1, column].any(), letters


def test_a_slab_has_a_coronal_plane_that_can_be_read():
    thin = AFFINE.copy()
    thin[0, 0] = -0.9
    labels, discs = spine()
    wide = overview_figure(volume(), labels, discs, shown=("coronal",))
    slab = overview_figure(
        Volume(volume().array, thin, ("t2",)), LabelMap(labels.array, thin), discs, shown=("coronal",)
    )
    widths = [figure.axes[0].get_xlim()[1] for figure in (wide, slab)]
    assert min(widths) >= 60 and "5 times as wide" in slab.texts[0].get_text()
    assert "as wide" not in wide.texts[0].get_text()


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_figure_in_every_form_is_the_same_each_time(kind, begins):
    labels, discs = spine()
    made = [figure_bytes(overview_figure(volume(), labels, discs, None, WHITE, ("sagittal",)), kind) for _ in range(2)]
    assert made[0].startswith(begins) and made[0] == made[1]


def test_a_white_page_at_another_resolution_without_a_badge():
    labels, discs = spine()
    coarse, fine = (
        pixels(io.BytesIO(figure_bytes(overview_figure(volume(), labels, discs, None, replace(WHITE, dpi=dpi)), "png")))
        for dpi in (50, 100)
    )
    assert fine.shape[0] == pytest.approx(2 * coarse.shape[0], abs=2)
    np.testing.assert_allclose(fine[0, 0], 1.0)
    assert not count_near(fine, (0xC2 / 255, 0x6A / 255, 0.0)), "no badge"


def test_a_users_matplotlibrc_decides_nothing(tmp_path):
    labels, discs = spine()

    def drawn(name):
        write_comparison(tmp_path / name, volume(), labels, labels, name)
        panel = validation_panel([PanelCase("a", volume().array[0], labels.array, labels.array, (4.0, 2.0, 2.5), 0.5)])
        figure = overview_figure(volume(), labels, discs, None, WHITE)
        forms = tuple(figure_bytes(figure, kind) for kind in ("svg", "pdf"))
        return overview_png(volume(), labels, discs, "case", "ok", ()), panel.tobytes(), *forms

    plain = drawn("x.png"), (tmp_path / "x.png").read_bytes()
    theirs = {
        "font.family": "monospace", "text.usetex": True, "text.color": "red", "lines.linewidth": 9.0,
        "image.cmap": "hot", "savefig.dpi": 30, "savefig.bbox": "tight", "axes.xmargin": 0.4, "image.origin": "lower",
        "patch.linewidth": 7.0, "svg.fonttype": "none", "figure.autolayout": True, "path.sketch": (3.0, 50.0, 5.0),
        "figure.dpi": 33,
    }  # fmt: skip
    with rc_context(theirs):
        assert (drawn("x.png"), (tmp_path / "x.png").read_bytes()) == plain
        assert rcParams["font.family"] == ["monospace"] and rcParams["figure.dpi"] == 33


def below(labels) -> LeftOut:
    """A remnant right below the lowest disc of `spine`."""
    array = np.zeros(SHAPE, np.uint8)
    array[3:13, 48:51, 18:30] = 1
    return LeftOut(("S1/S2",), LabelMap(array, AFFINE))


def test_what_was_left_out_below_is_dashed_and_named():
    labels, discs = spine()
    plain = overview_figure(volume(), labels, discs)
    told = overview_figure(volume(), labels, discs, left_out=below(labels))
    for axes, before in zip(told.axes[1:], plain.axes[1:], strict=True):
        texts = {text.get_text() for text in axes.texts} - {text.get_text() for text in before.texts}
        assert texts == {"(S1/S2)"}
        patches = [patch for patch in axes.get_children() if isinstance(patch, PathPatch)]
        dashed = [patch for patch in patches if patch.get_linestyle() not in ("-", "solid")]
        assert len(dashed) == 1 and dashed[0].get_facecolor()[3] == 0
    assert len(told.axes[0].texts) == len(plain.axes[0].texts), "the plane without overlay stays as it is"


def test_dashes_show_on_a_white_structure():
    labels, discs = spine()
    array = np.full((1, *SHAPE), 50.0, np.float32)
    array[..., 45:54, :] = 100
    plain, told = (overview(volume(array), labels, discs, "case", "ok", (), left_out)
                   for left_out in (None, below(labels)))  # fmt: skip
    assert ((plain.min(axis=-1) > 0.9) & (told.max(axis=-1) < 0.1)).sum() > 200


def test_names_in_front_of_a_narrow_plane_leave_the_plane_beside_it_free():
    labels, discs = spine(confidence=0.5)  # with question marks
    near = LabelMap(np.ascontiguousarray(labels.array[..., 13:]), AFFINE.copy())
    near.affine[:3, 3] += 13 * near.affine[:3, 2]
    image = Volume(np.full((1, *near.array.shape), 50.0, np.float32), near.affine, ("t2",))
    plain, sagittal, _ = overview_figure(image, near, discs).axes
    names = [text for text in sagittal.texts if text.get_text().endswith("?")]
    assert len(names) == 3
    assert min(text.get_window_extent().x0 for text in names) > plain.get_window_extent().x1
