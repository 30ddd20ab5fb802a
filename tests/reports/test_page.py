from __future__ import annotations

import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from ivdjax.reports.page import Report, report_page, write_report
from ivdjax.volume import Disc, LabelMap
from tests.reports.page_tags import parse
from tests.reports.spine_case import spine_report

REPORT = Report(
    case="case_01", verdict="review", reasons=("6 of 7 discs were found",),
    discs=[Disc(1, 0.62, (0, 0, 0), 7000.0, {"middle_height_mm": 7.53, "lateral_width_mm": None}, 0.91)],
    overview_png=b"\x89PNG picture", model="lumbar", validated_on="Mean Dice 0.9 on 6 patients.", synthetic=False,
)  # fmt: skip


def test_page_without_a_volume_is_one_file_without_links_and_with_the_script_of_its_buttons_alone():
    tags = parse(report_page(REPORT))
    assert tags.seen.count("script") == 1 and "link" not in tags.seen
    (picture,) = tags.links
    assert picture == "data:image/png;base64," + base64.b64encode(REPORT.overview_png).decode()
    assert tags.policy.count("'sha256-") == 1
    assert "script-src 'none'" in parse(report_page(replace(REPORT, discs=[]))).policy


def test_page_with_a_volume_links_to_nothing_outside():
    tags = parse(report_page(spine_report()))
    assert tags.seen.count("script") == 4  # data, NiiVue, the viewer's, the sheet's
    assert len(tags.links) == 3 and all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert tags.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in tags.policy.split("style-src")[0]


def test_page_says_what_a_reader_needs():
    html = report_page(REPORT)
    for text in ("case_01", "REVIEW", "6 of 7 discs were found", "L5/S1", "<td>7.5</td>",
                 '<td class="unsure">0.62</td>',
                 "<td>0.91</td>", "lumbar. Mean Dice 0.9 on 6 patients."):  # fmt: skip
        assert text in html
    assert "<td>–</td>" in html  # noqa: RUF001 - the lateral width that could not be given
    assert "synthetic" not in html


def test_an_accepted_case_says_by_whom_and_does_not_praise_itself():
    html = report_page(replace(REPORT, verdict="ok", reasons=(), accepted_by=("A<b>",), probability_wrong=0.5))
    assert "<p>Accepted by A&lt;b&gt;. The program&#x27;s own estimate: Chance that a level is wrong" in html
    assert "Nothing found" not in html


def test_verdict_and_reasons_come_first():
    html = report_page(spine_report())
    places = [html.index(text) for text in ("REVIEW", "6 of 7 discs", "<h2>Overview", 'class="strip"', 'id="canvas"',
                                            'class="discs"', "<h2>Model")]  # fmt: skip
    assert places == sorted(places)


def test_provenance_names_plain_values_only():
    facts = {
        "ivdjax_version": "0.1.0", "overrides": [], "anchor": None,
        "model": {"name": "m", "weights_sha256": "ab" * 32, "synthetic": True},
        "input": {"fat": {"file": "<b>.nii.gz", "sha256": "cd" * 32}},
    }  # fmt: skip
    html = report_page(replace(REPORT, provenance=facts))
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', html)
    assert rows == [
        ("ivdjax version", "0.1.0"), ("model name", "m"), ("model weights sha256", "ab" * 32),
        ("model synthetic", "yes"),
        ("input fat file", "&lt;b&gt;.nii.gz"), ("input fat sha256", "cd" * 32),
    ]  # fmt: skip
    assert "Versions and checksums" not in report_page(REPORT)


def test_synthetic_model_says_so():
    assert "trained on synthetic images alone" in report_page(replace(REPORT, synthetic=True))


def test_unknown_validation_is_admitted():
    assert "It is not known on what this model was validated" in report_page(replace(REPORT, validated_on=""))


@pytest.mark.parametrize("field", ["case", "model", "validated_on", "verdict"])
def test_text_from_outside_is_escaped(field):
    html = report_page(replace(REPORT, **{field: '<script>alert("1")</script>'}))
    assert parse(html).seen.count("script") == 1  # of the page itself
    assert re.search(r"&lt;script&gt;", html, re.IGNORECASE)


@pytest.mark.parametrize("field", ["reasons", "warnings"])
def test_lists_from_outside_are_escaped(field):
    html = report_page(replace(REPORT, **{field: ("<b>bold</b>", "a & b")}))
    assert "b" not in parse(html).seen and "a &amp; b" in html


def test_channel_names_are_escaped_as_text_and_as_data():
    report = spine_report()
    volume = replace(report.volume, channels=("</script><b>", "<i>"))
    tags = parse(report_page(replace(report, volume=volume)))
    assert tags.seen.count("script") == 4 and "b" not in tags.seen and "i" not in tags.seen


def test_page_without_disc_or_picture():
    html = report_page(replace(REPORT, discs=[], overview_png=b""))
    assert "No disc was found." in html and "No picture could be drawn." in html
    assert parse(html).links == []


def test_labels_on_another_grid_are_refused():
    report = replace(spine_report(), labels=LabelMap(np.zeros((2, 2, 2), np.uint8), np.eye(4)))
    with pytest.raises(ValueError, match="must lie on the volume's grid"):
        report_page(report)


def test_write_report(tmp_path):
    write_report(tmp_path / "report.html", REPORT)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report_page(REPORT)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
