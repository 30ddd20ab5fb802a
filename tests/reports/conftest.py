"""A headless Chromium for the tests that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reports.chromium import ARGUMENTS, Watched, find_chromium


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pages are not opened")
    executable = find_chromium()
    if executable is None or not Path(executable).exists():
        pytest.skip("no Chromium is installed (IVDJAX_CHROMIUM may name one): pages are not opened")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def watched(browser):
    opened = Watched(browser)
    yield opened
    opened.context.close()
