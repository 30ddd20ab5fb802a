"""The run's page in a browser: its order, its filter and its links."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from ivdjax.reports.cohort import CohortRow, write_cohort_page
from tests.reports.chromium import Watched, until

ODD = "a:b #1 100% & 'x'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of 1,000 cases of which two have files, one of them in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("run")
    rows = []
    for number, case in enumerate((ODD, "second")):
        (folder / case).mkdir()
        (folder / case / "report.html").write_text("<title>report</title>")
        (folder / case / "discs.csv").write_text("level")
        Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / case / "overview.png")
        links = {"report": f"{case}/report.html", "table": f"{case}/discs.csv"}
        rows.append(CohortRow(case, "done", "review", ("doubt",), 7, 5.0 + number, 0.4 - 0.1 * number, 0.8, links,
                              f"{case}/overview.png", probability_wrong=0.3 + 0.1 * number))  # fmt: skip
    rows.append(CohortRow("<img src=x onerror=alert(1)>", "failed", reasons=("</script><script>alert(2)</script>",)))
    rows += [CohortRow(f"case_{n}", "done", "ok", (), 7, n / 10, 0.9, None) for n in range(997)]
    write_cohort_page(folder / "index.html", rows)
    return folder


@pytest.fixture(scope="module")
def opened(browser, folder):
    opened = Watched(browser, 1400, 900)
    opened.open(folder / "index.html")
    yield opened
    opened.context.close()


@pytest.fixture
def page(opened):
    yield opened.page
    opened.page.fill("#filter", "")
    opened.assert_quiet()


def names(page):
    return page.evaluate("[...document.querySelectorAll('tbody tr:not([hidden]) th')].map((cell) => cell.textContent)")


def test_cases_stand_in_the_order_of_need(page):
    assert names(page)[:4] == ["<img src=x onerror=alert(1)>", "second", ODD, "case_0"]
    assert len(names(page)) == 1000


def test_filter(page):
    page.fill("#filter", "SECOND review")
    assert names(page) == ["second"] and page.inner_text("#shown") == "1 of 1000"
    page.fill("#filter", "no such case")
    assert names(page) == []
    page.fill("#filter", "alert(2)")
    assert names(page) == ["<img src=x onerror=alert(1)>"]
    page.fill("#filter", "")
    assert len(names(page)) == 1000 and page.inner_text("#shown") == ""


def test_headings_sort_and_cells_without_a_value_stay_last(page):
    page.click("th:has-text('Seconds') button")
    assert names(page)[0] == "case_0" and names(page)[-2:] == ["case_996", "<img src=x onerror=alert(1)>"]
    page.click("th:has-text('Seconds') button")
    assert names(page)[0] == "case_996" and names(page)[-2:] == ["case_0", "<img src=x onerror=alert(1)>"]
    page.click("th:has-text('Case') button")
    assert names(page).index("case_2") + 1 == names(page).index("case_3")  # not case_20: numbers count as such
    page.click("th:has-text('Verdict') button")
    assert names(page)[:3] == ["<img src=x onerror=alert(1)>", "second", ODD]


def test_links_lead_to_files(page, folder):
    links = page.evaluate("[...document.links].map((link) => link.href)")
    found = {Path(unquote(urlsplit(link).path)) for link in links}
    assert found == {folder / case / name for case in (ODD, "second") for name in ("report.html", "discs.csv")}
    assert all(path.is_file() for path in found)


def test_pictures_load(page):
    until(page, "[...document.images].every((picture) => picture.complete && picture.naturalWidth === 40)")
    assert page.evaluate("document.images.length") == 2
