"""A review's server in a process of its own, and a browser's page on it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ivdjax.reports.viewer import BETWEEN_DASHES
from tests.reports.chromium import until

READY = "window.ivdjaxReview && ivdjaxReview.ready"


class Served:
    """A review of a folder, from its start to its end."""

    def __init__(self, root: Path, output: Path, *options: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ivdjax.review", str(output), "--no-browser", *options],
            cwd=root, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        self.url = re.search(r"http://\S+", line).group()

    def end(self, signal: int = 2) -> int:
        self.process.send_signal(signal)
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(60)


class Page:
    """A page of a review, which tells what it complained of."""

    def __init__(self, browser, width=1280, height=800):
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.complaints = []
        self.page.on("console", lambda said: self._heard(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, kind, text):
        if kind in ("error", "warning") and "GPU stall due to ReadPixels" not in text:
            self.complaints.append(f"{kind}: {text}")

    def open(self, url, case=""):
        self.page.goto("about:blank")
        self.page.goto(f"{url}#{case}")
        self.wait()

    def wait(self, expression=READY, seconds=60):
        try:
            until(self.page, expression, seconds)
        except AssertionError as error:
            said = self.page.evaluate(
                "['name', 'message', 'saved'].map((id) => document.getElementById(id).textContent)"
            )
            raise AssertionError(f"{error}; the page says {said} and complained of {self.complaints}") from None

    def press(self, *keys):
        """Presses keys one after the other, each when the one before has been answered."""
        for key in keys:
            seen = self.page.evaluate("JSON.stringify(ivdjaxReview.timings)")
            self.page.keyboard.press(key)
            self.wait(f"{READY} && JSON.stringify(ivdjaxReview.timings) !== {seen!r}")

    def levels(self):
        """Levels in the table, from the lowest up, and in the picture (but for what was left out)."""
        rows = self.page.evaluate("[...document.querySelectorAll('#discs tbody tr')].map((r) => +r.dataset.level)")
        shown = self.page.evaluate("[...new Set(ivdjaxReview.viewer.nv.volumes[1].img)].filter((v) => v > 0)")
        others = self.page.evaluate("ivdjaxReview.state.left_out.map((one) => one.value)")
        return rows[::-1], sorted(value for value in shown if value not in (*others, BETWEEN_DASHES))
