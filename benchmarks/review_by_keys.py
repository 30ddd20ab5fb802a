"""How many keys a case takes in a review, and how long the page takes: a scripted reader who knows the truth.

    python benchmarks/review_by_keys.py OUT REFERENCES

OUT is a folder that infer.py wrote, REFERENCES holds the cases with their reference labels. The reader opens every
case, moves all levels where most of them are off by one and the same, deletes what lies in no reference disc, gives a
disc its level where a single one is wrong, and accepts. Keys alone are used. OUT is changed: give a copy.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ivdjax.commands.commands import run_command
from ivdjax.imaging.files import read_labels
from ivdjax.volume import LabelMap, UserError, to_world_mm
from tests.reports.chromium import ARGUMENTS, find_chromium

_READY = "window.ivdjaxReview && ivdjaxReview.ready"
_NEAR_MM = 8.0
_MOST_KEYS = 30
_PATIENCE_S = 120.0


def true_level(reference: LabelMap, point_mm: tuple[float, float, float]) -> int:
    """The level of the reference disc at a point, or of the nearest within 8 mm; 0: none."""
    voxels = np.argwhere(reference.array > 0)
    away = np.linalg.norm(to_world_mm(reference.affine, voxels.astype(float)) - np.array(point_mm), axis=1)
    nearest = int(away.argmin())
    return int(reference.array[tuple(voxels[nearest])]) if away[nearest] <= _NEAR_MM else 0


def next_keys(discs: list[dict], reference: LabelMap, chosen: int) -> list[str]:
    """The keys that a reader who knows the truth presses now; none where all levels are right.

    Discs above the highest reference disc cannot be judged and are left.
    """
    top = max(reference.levels)
    points = {d["level"]: (d["centroid_x_mm"], d["centroid_y_mm"], d["centroid_z_mm"]) for d in discs}
    truth = {level: true_level(reference, point) for level, point in points.items()}
    top_mm = max(to_world_mm(reference.affine, np.argwhere(reference.array == top).astype(float))[:, 2])
    judged = {level: true for level, true in truth.items() if true or points[level][2] < top_mm}
    off = Counter(true - level for level, true in judged.items() if true)
    if off and (common := off.most_common(1)[0][0]):
        return ["+" if common > 0 else "-"]
    order = sorted(points)
    for level, true in judged.items():
        if true == level:
            continue
        steps = order.index(level) - (order.index(chosen) if chosen in order else 0)
        moves = ["ArrowUp" if steps > 0 else "ArrowDown"] * abs(steps)
        return [*moves, "x"] if true == 0 else [*moves, str(true)]
    return []


def main() -> int:
    """Reviews and prints a table in markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("references", type=Path)
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        raise UserError("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "ivdjax.review", str(options.output), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as driver:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        page = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS)).new_page(
            viewport={"width": 1280, "height": 800}
        )
        page.on("pageerror", lambda error: print("page:", error))
        page.on("console", lambda said: print("console:", said.text))
        page.goto(address.group())

        def wait(expression: str) -> None:
            end = time.monotonic() + _PATIENCE_S
            while not page.evaluate(f"Boolean({expression})"):
                if time.monotonic() > end:
                    said = [page.inner_text(f"#{part}") for part in ("name", "message", "saved")]
                    raise UserError(f"the page does not go on: {expression}; it says {said}")
                page.wait_for_timeout(10)

        wait(_READY)
        keys: dict[str, int] = {}
        while (name := page.inner_text("#name")) not in keys:
            reference = read_labels(next(options.references.glob(f"**/{name}_Labels.nii.gz")), name)
            keys[name] = 0
            while keys[name] < _MOST_KEYS:
                discs = page.evaluate("ivdjaxReview.state.discs")
                chosen = page.evaluate("+(document.querySelector('#discs tr.chosen')?.dataset.level ?? 0)")
                wanted = next_keys(discs, reference, chosen)
                for key in wanted:
                    seen = page.evaluate("ivdjaxReview.timings.length")
                    page.keyboard.press(key)
                    if not key.startswith("Arrow"):
                        wait(f"{_READY} && ivdjaxReview.timings.length > {seen}")
                keys[name] += len(wanted)
                refused = page.evaluate("ivdjaxReview.timings.at(-1).what === 'refused'")
                if refused:
                    print(f"{name}: {page.inner_text('#message')}")
                if not wanted or refused:
                    break
            page.keyboard.press("a")
            keys[name] += 1
            wait(f"{_READY} && (document.querySelector('#name').textContent !== {name!r} || "
                 "document.querySelector('#message').textContent.includes('decided'))")  # fmt: skip
            print(f"{name}: {keys[name]} keys", flush=True)
        timings = page.evaluate("ivdjaxReview.timings")
        server.send_signal(2)
        server.stdout.read()
    counts = np.array(list(keys.values()))
    print(f"\n{len(counts)} cases, {counts.sum()} keys: {counts.mean():.1f} a case, at most {counts.max()}")
    print(f"one key was enough for {np.sum(counts == 1)}")
    print("\n| what | times | median ms | longest ms |\n|---|---|---|---|")
    for what in dict.fromkeys(timing["what"] for timing in timings):
        own = np.array([timing["ms"] for timing in timings if timing["what"] == what])
        print(f"| {what} | {len(own)} | {np.median(own):.0f} | {own.max():.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
