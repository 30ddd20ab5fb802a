"""A headless Chromium, and a page in it whose complaints are heard."""

from __future__ import annotations

import os
import shutil
import time

ARGUMENTS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
"""No network of its own, and WebGL2 drawn by the processor."""


def find_chromium():
    """Path of a Chromium or Chrome; None where none is installed."""
    wanted = os.environ.get("IVDJAX_CHROMIUM")
    if wanted:
        return wanted
    names = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def until(page, expression, seconds=20):
    """Waits for an expression to hold. Playwright's own waiting needs `eval`, which the pages' policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(f"Boolean({expression})"):
        assert time.monotonic() < end, f"{expression} did not hold within {seconds} s"
        page.wait_for_timeout(30)


class Watched:
    """A page that loads from the disk without a network, and what it complained of, asked for or popped up."""

    def __init__(self, browser, width=800, height=640):
        self.context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        self.page = self.context.new_page()
        self.complaints, self.foreign = [], []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self._asked(request.url))

    def _heard(self, kind, text):
        # Without a graphics card Chromium remarks on the speed of reading pixels, which screenshots do.
        if kind in ("error", "warning") and "GPU stall due to ReadPixels" not in text:
            self.complaints.append(f"{kind}: {text}")

    def _asked(self, url):
        if not url.startswith(("file:", "data:", "blob:")):
            self.foreign.append(url)

    def _refuse(self, dialog):
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path, ready="true"):
        """The page of a file, once an expression holds in it."""
        self.page.goto(path.resolve().as_uri())
        until(self.page, ready)
        return self.page

    def assert_quiet(self):
        assert self.complaints == [] and self.foreign == []
