from __future__ import annotations

import re

from ivdjax.reports.disc_table import disc_table_html, number_text, selectable_table
from ivdjax.volume import Disc
from tests.reports.page_tags import parse

WHOLE = Disc(1, 0.92, (0, 0, 0), 7000.4, {"middle_height_mm": 7.53, "fat_fraction": 0.125}, 0.65)
CUT = Disc(2, 0.41, (0, 0, 0), None, {"volume_in_view_mm3": 5000.0, "fat_fraction": None}, cut_at="left")


def cells(html):
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr.*?>(.*?)</tr>", html)]  # fmt: skip


def test_table_has_the_uppermost_disc_first_and_a_dash_for_nothing():
    head, upper, lower = cells(disc_table_html([WHOLE, CUT]))
    assert head[:6] == ["Disc", "Level confidence", "Outline confidence", "Volume mm³", "Volume in view mm³", "Cut at"]
    dash = "–"  # noqa: RUF001
    assert upper[:6] == ["L4/5", "0.41", dash, dash, "5000", "left"]
    assert lower[:6] == ["L5/S1", "0.92", "0.65", "7000", dash, dash]
    assert lower[-1] == "0.12" and upper[-1] == dash


def test_columns_that_concern_no_disc_are_left_out():
    (head, _) = cells(disc_table_html([Disc(1, 0.9, (0, 0, 0), 7000.0)]))
    assert "Cut at" not in head and "Volume in view mm³" not in head and "Fat fraction" not in head
    assert "Lateral width mm" in head


def test_both_tables_show_the_same_cells():
    assert cells(selectable_table([WHOLE, CUT], {})) == cells(disc_table_html([WHOLE, CUT]))


def test_notebook_table_stands_alone():
    html = disc_table_html([WHOLE, CUT])
    assert parse(html).links == [] and "class=" not in html and "<button" not in html


def test_rows_can_be_chosen_by_mouse_and_by_key():
    html = selectable_table([WHOLE, CUT], {})
    assert re.findall(r'<tr data-level="(\d)"><th scope="row"><button type="button"', html) == ["2", "1"]
    parse(html)


def test_low_confidences_are_marked():
    html = selectable_table([WHOLE, CUT], {})
    assert re.findall(r'class="unsure">(.*?)<', html) == ["0.41", "0.65"]


def test_detectable_changes_stand_below_their_columns():
    html = selectable_table([WHOLE], {"middle_height_mm": 0.31, "no_such_column": 1.0})
    head, _, foot = cells(html)
    assert foot[0] == "Smallest detectable change" and foot[head.index("Middle height mm")] == "0.3"
    assert foot[head.index("Volume mm³")] == "–"  # noqa: RUF001
    assert "<tfoot>" not in selectable_table([WHOLE], {"no_such_column": 1.0})


def test_tables_of_no_disc_say_so():
    assert disc_table_html([]) == selectable_table([], {}) == "<p>No disc was found.</p>"


def test_texts_in_cells_are_escaped():
    assert number_text("<b>", 1) == "&lt;b&gt;" and number_text(1.25, 1) == "1.2"
    assert number_text(-0.2, 0) == "0" and number_text(-0.6, 0) == "-1"
    assert "<b>" not in disc_table_html([Disc(1, 0.5, (0, 0, 0), None, cut_at="<b>")])
