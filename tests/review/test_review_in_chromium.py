"""A review as a person does it: by keys, in a browser, with a server that may be killed."""

from __future__ import annotations

import csv
import http.client
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from ivdjax.imaging.files import read_labels, write_labels
from tests.review.browsing import Page, Served
from tests.review.results import store_cases

ALL, HIGH = list(range(1, 8)), list(range(2, 8))


@pytest.fixture(scope="module")
def output(browser, tmp_path_factory) -> Path:
    return store_cases(tmp_path_factory.mktemp("review"), high=1, right=0)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def on_disk(output, case):
    try:
        return list(read_labels(output / case / f"{case}_discs.nii.gz", case).levels)
    except ValueError:  # the folder is being replaced
        return []


def ask(url, path, method="GET", body=None, **headers):
    """Status of a request that is sent as it stands: no client tidies its path."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)) as connection:
        connection.putrequest(method, path, skip_host="host" in headers)
        for name, value in {"content-length": str(len(body or b"")), **headers}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as answer:
            return answer.status, answer.read()


@pytest.mark.slow
def test_a_review_from_the_first_key_to_the_last(browser, output, root):
    # Taken before the first decision, since the folder's own files follow decisions a little later.
    whole = shutil.copy(output / "right" / "right_discs.seg.nrrd", output.parent / "whole.seg.nrrd")
    edited = read_labels(output / "right" / "right_discs.nii.gz", "right")
    edited = edited.with_array(np.where(edited.array == 1, 0, edited.array).astype(np.uint8))
    write_labels(output.parent / "edited.nii.gz", edited)
    served = Served(root, output)
    page = Page(browser)
    try:
        page.open(served.url)
        shown = page.page.evaluate("[...document.querySelectorAll('#cases li')].map((li) => li.dataset.case)")
        assert shown == ["broken", "high", "right"]  # those in need first
        assert page.page.inner_text("#name") == "high" and page.page.inner_text("#verdict") == "REVIEW"
        assert page.levels() == (HIGH, HIGH)
        page.page.fill("#reader", "Ada")
        page.press("Enter")  # the case is opened anew

        page.press("-")  # every level is one too high: one key puts it right
        assert page.levels() == (ALL, ALL)
        wait_for(lambda: on_disk(output, "high") == ALL)
        with (output / "high" / "high_discs.csv").open() as stream:
            assert [int(row["level"]) for row in csv.DictReader(stream)] == ALL

        page.page.reload()
        page.wait()
        assert page.levels() == (ALL, ALL) and "moved by -1 by Ada" in page.page.inner_text("#history")

        page.press("t")
        served.end(signal.SIGKILL)  # before anything of the mark can have been written
        served = Served(root, output)
        page.open(served.url, "high")
        page.complaints.clear()  # the server was gone for a while
        assert page.levels() == (ALL, ALL) and "transitional" in page.page.inner_text("#history")
        page.page.wait_for_timeout(100)

        page.page.keyboard.press("m")
        page.page.fill("#text", "<b>odd</b>")
        page.page.keyboard.press("Control+Enter")
        page.wait("document.querySelector('#remarks').textContent.includes('<b>odd</b>')")
        page.press("a")  # accepted, and on to the next one that nobody has decided about
        page.wait("document.querySelector('#name').textContent === 'right' && ivdjaxReview.ready")
        assert page.page.inner_text("#progress") == "1 of 3 decided"
        assert "(S1/S2)" in page.page.eval_on_selector_all(
            ".stage .level", "(all) => all.map((one) => one.textContent)"
        )

        first = page.page.evaluate("document.querySelector('#discs tr.chosen').dataset.level")
        page.page.keyboard.press("ArrowUp")
        assert page.page.evaluate("document.querySelector('#discs tr.chosen').dataset.level") == str(int(first) + 1)
        page.press("x")
        assert len(page.levels()[0]) < 7
        page.press("z")
        assert page.levels() == (ALL, ALL)

        # Outlines that were edited in ITK-SNAP and in 3D Slicer are read back: the lowest disc was wiped away.
        page.page.set_input_files("#outlines", output.parent / "edited.nii.gz")
        page.wait("document.querySelector('#message').textContent.includes('edited.nii.gz were taken')")
        assert page.levels() == (HIGH, HIGH)
        page.page.set_input_files("#outlines", whole)
        page.wait("document.querySelector('#message').textContent.includes('whole.seg.nrrd were taken')")
        assert page.levels() == (ALL, ALL)
        page.press("z")
        page.press("z")

        assert page.page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.page.set_viewport_size({"width": 800, "height": 900})
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 800
        assert page.complaints == []
        assert served.end(signal.SIGINT) == 0
    finally:
        page.context.close()
        if served.process.poll() is None:
            served.end(signal.SIGKILL)
    with (output / "summary.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert rows["high"]["verdict"] == "ok" and "The result was accepted by Ada" in rows["high"]["corrected"]
    assert rows["right"]["corrected"] == ""


@pytest.mark.slow
def test_strangers_are_refused_and_paths_stay_in_the_folder(output, root):
    served = Served(root, output)
    try:
        host = urlsplit(served.url).netloc
        assert ask(served.url, "/api/cases/right")[0] == 200
        body = b'{"deed": "accept", "seen": 0}'
        for headers in ({}, {"x-ivdjax-token": "guessed"}, {"origin": "https://evil.example"}):
            assert ask(served.url, "/api/cases/right/decisions", "POST", body, **headers)[0] == 403
        assert ask(served.url, "/api/cases", origin="https://evil.example")[0] == 403
        assert ask(served.url, "/api/cases", host="evil.example")[0] == 403
        assert ask(served.url, "/api/cases", host=host)[0] == 200
        (output.parent / "secret_discs.csv").write_text("secret")
        for path in (
            "/api/cases/../files/csv", "/api/cases/%2e%2e/files/csv", "/api/cases/..%2f../files/labels",
            "/api/cases/right/files/..%2f..%2fsecret", "/assets/..%2f..%2fserver.py", "/assets/%2e%2e/server.py",
            "/api/cases/%2fetc%2fpasswd/files/csv", "/api/cases/right/files/corrections", "/api/cases/secret/picture",
        ):  # fmt: skip
            status, content = ask(served.url, path)
            assert status == 404 and b"secret" not in content and b"import" not in content
        assert not (output / "right" / "right_corrections.json").exists() or b"accept" not in (
            output / "right" / "right_corrections.json").read_bytes()  # fmt: skip
    finally:
        served.end(signal.SIGTERM)
