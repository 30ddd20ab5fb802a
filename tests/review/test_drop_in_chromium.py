"""A DICOM folder and a zip archive dropped on the page by the mouse, in a browser."""

from __future__ import annotations

import shutil
import signal

import numpy as np
import pytest

from tests.dicom_series import sagittal_affine, write_series
from tests.reports.chromium import until
from tests.review.browsing import Served
from tests.untrained_model import write_untrained

pytestmark = pytest.mark.soak


def drop(page, path) -> None:
    """Lets the mouse bring a file or a folder onto the page."""
    devtools = page.context.new_cdp_session(page)
    box = page.locator("#zone").bounding_box()
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data})


def test_a_dicom_folder_and_a_zip_are_dropped_and_give_reports(browser, root, tmp_path):
    model = write_untrained(tmp_path / "model", ["t2"])
    image = np.random.default_rng(0).normal(100, 20, (40, 24, 6)).astype(np.int16)
    write_series(
        tmp_path / "study" / "series", image, sagittal_affine((2.0, 3.0, 4.0)), series_description="t2_tse_sag"
    )
    zipped = shutil.make_archive(str(tmp_path / "study_zipped"), "zip", tmp_path / "study")
    served = Served(root, f"--model={model}")
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    try:
        page.goto(served.url)
        until(page, "document.getElementById('model').textContent !== '…'", 120)
        for given in (tmp_path / "study", zipped):
            drop(page, given)
            until(page, "document.getElementById('message').textContent !== ''", 300)
            assert page.inner_text("#message").startswith("Done in "), page.inner_text("#message")
            assert "viewer" in page.request.get(f"{served.url}report").text()
        (tmp_path / "notes.txt").write_text("no image")
        drop(page, tmp_path / "notes.txt")
        until(page, "document.getElementById('message').classList.contains('bad')", 120)
        assert "notes.txt" in page.inner_text("#message")
    finally:
        page.context.close()
        served.end(signal.SIGINT)
