"""The report in a browser: it loads without a network or a complaint, and its viewer does what it is told."""

from __future__ import annotations

import io

import numpy as np
import pytest

from ivdjax.reports.colours import level_colour
from ivdjax.reports.page import write_report
from tests.reports.chromium import Watched, until
from tests.reports.spine_case import SPACING_MM, spine_report

READY = "window.ivdjaxViewer"
NASTY = "<img src=x onerror=alert(1)>"
BREAKING = "</script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def report():
    return spine_report(case=NASTY, reasons=(BREAKING, "<!--<script>", "plain"))


@pytest.fixture(scope="module")
def path(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report)
    return path


@pytest.fixture(scope="module")
def opened(browser, path):
    opened = Watched(browser)
    opened.open(path, READY)
    yield opened
    opened.context.close()


@pytest.fixture
def page(opened):
    """The page as it was opened: loading it anew for every test takes seconds."""
    page = opened.page
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 800, "height": 640})
    page.select_option("#channel", index=0)
    page.check("#overlay")
    set_opacity(page, 0.5)
    page.click('[data-view="all"]')
    yield page
    opened.assert_quiet()


def picture(page):
    from PIL import Image

    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")).astype(int)


def count_near(pixels, level):
    return int((np.abs(pixels - np.rint(255 * np.array(level_colour(level)))).max(axis=-1) <= 10).sum())


def set_opacity(page, share):
    page.locator("#opacity").fill(str(share))


def crosshair_mm(page):
    return np.array(page.evaluate("Array.from(ivdjaxViewer.frac2mm(ivdjaxViewer.scene.crosshairPos, 0, true))")[:3])


def test_page_loads_and_says_its_texts(page):
    assert page.inner_text("h1") == NASTY
    assert page.title() == f"Discs of {NASTY}"
    assert page.locator("main > ul").first.inner_text().split("\n") == [BREAKING, "<!--<script>", "plain"]
    assert page.locator("img[src=x]").count() == 0
    assert not page.is_visible("#no-viewer")


def test_viewer_shows_image_and_discs(page, report):
    names = page.evaluate("ivdjaxViewer.volumes.map((volume) => volume.name)")
    assert names == ["image.nii.gz", "discs.nii.gz"]
    assert page.evaluate("Array.from(ivdjaxViewer.volumes[1].img).reduce((sum, value) => sum + (value > 0), 0)") == (
        np.count_nonzero(report.labels.array)
    )
    set_opacity(page, 0)
    plain = picture(page)
    assert plain.std() > 15  # not blank
    gray = np.ptp(plain, axis=-1) <= 3
    assert gray.mean() > 0.99
    assert all(count_near(plain, level) == 0 for level in (1, 2, 3))
    set_opacity(page, 1)
    shown = picture(page)
    assert all(count_near(shown, level) > 200 for level in (1, 2, 3))


def test_discs_can_be_switched_off(page):
    set_opacity(page, 1)
    page.uncheck("#overlay")
    assert all(count_near(picture(page), level) == 0 for level in (1, 2, 3))
    page.check("#overlay")
    assert all(count_near(picture(page), level) > 200 for level in (1, 2, 3))


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("target", ['tr[data-level="{}"] td:last-child', '.thumbnail[data-level="{}"]'])
def test_click_moves_to_the_disc_and_marks_it(page, report, level, target):
    page.click(target.format(level))
    disc = next(disc for disc in report.discs if disc.level == level)
    assert np.abs(crosshair_mm(page) - disc.centroid_mm).max() < min(SPACING_MM) / 2
    assert page.evaluate("[...document.querySelectorAll('.chosen')].map((e) => Number(e.dataset.level))") == [level] * 2
    x, y, z = disc.centroid_mm
    words = f"{'R' if x >= 0 else 'L'} {abs(x):.1f}  {'A' if y >= 0 else 'P'} {abs(y):.1f}  {'S' if z >= 0 else 'I'} "
    assert page.inner_text("#position") == f"{words}{abs(z):.1f} mm  {disc.level_name}"


def test_disc_is_reached_by_key(page, report):
    page.focus('tr[data-level="2"] button')
    page.keyboard.press("Enter")
    assert np.abs(crosshair_mm(page) - report.discs[1].centroid_mm).max() < min(SPACING_MM) / 2
    assert page.get_attribute('tr[data-level="2"] button', "aria-pressed") == "true"
    assert page.get_attribute('tr[data-level="1"] button', "aria-pressed") == "false"


def test_click_in_the_image_marks_the_disc_below_it(page):
    page.click('tr[data-level="1"]')
    page.click('[data-view="sagittal"]')
    page.evaluate("""() => {
        const [x, y, z] = JSON.parse(document.getElementById("viewer-data").textContent).discs[2].centroid_mm;
        ivdjaxViewer.scene.crosshairPos = ivdjaxViewer.mm2frac([x, y, z], 0, true);
        ivdjaxViewer.createOnLocationChange();
    }""")  # as NiiVue does on a click
    assert page.evaluate("document.querySelector('tr.chosen').dataset.level") == "3"
    page.mouse.click(*corner(page))
    assert page.locator(".chosen").count() == 0


def corner(page):
    """A point of the sagittal slice far from every disc: its upper left, in the middle of the canvas."""
    box = page.locator("#canvas").bounding_box()
    return box["x"] + box["width"] / 2 - box["height"] * 0.25, box["y"] + box["height"] * 0.03


def test_views_differ(page):
    seen = []
    for view in ("all", "sagittal", "coronal", "axial", "3d"):
        page.click(f'[data-view="{view}"]')
        assert page.get_attribute(f'[data-view="{view}"]', "aria-pressed") == "true"
        seen.append(picture(page))
    for number, one in enumerate(seen):
        assert one.std() > 3
        assert all(np.abs(one - other).mean() > 1 for other in seen[number + 1 :])
    page.click('[data-view="all"]')
    assert np.abs(picture(page) - seen[0]).mean() < 0.5


def test_sagittal_view_has_the_front_at_the_left_and_the_coronal_one_the_right_side(page, report):
    set_opacity(page, 1)
    page.click('tr[data-level="2"]')
    page.click('[data-view="sagittal"]')
    shown = picture(page)
    # Each higher disc lies 5 mm farther back and 27 mm higher.
    rows, columns = zip(*(middle_of(shown, level) for level in (1, 2, 3)), strict=True)
    assert rows[0] > rows[1] > rows[2] and columns[0] < columns[1] < columns[2]
    assert page.evaluate("ivdjaxViewer.opts.isRadiologicalConvention")


def middle_of(pixels, level):
    found = np.argwhere(np.abs(pixels - np.rint(255 * np.array(level_colour(level)))).max(axis=-1) <= 10)
    return found.mean(axis=0)


def test_channels_can_be_switched(page):
    assert page.locator("#channel option").all_inner_texts() == ["wat", "fat"]
    set_opacity(page, 0)
    page.click('[data-view="sagittal"]')
    first = picture(page)
    page.select_option("#channel", label="fat")
    page.wait_for_timeout(300)
    second = picture(page)
    page.select_option("#channel", label="wat")
    assert np.abs(first - second).mean() > 1
    assert np.abs(first - picture(page)).mean() < 0.5


def test_without_webgl2_the_page_says_so_and_the_rest_works(watched, path):
    watched.context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page = watched.open(path, "document.getElementById('no-viewer').textContent.includes('WebGL2')")
    assert page.is_visible("#no-viewer") and not page.is_visible("#canvas") and not page.is_visible("#opacity")
    page.click('tr[data-level="2"]')
    assert page.evaluate("document.querySelector('tr.chosen').dataset.level") == "2"
    watched.assert_quiet()


def test_without_scripts_the_page_says_so(browser, path):
    context = browser.new_context(java_script_enabled=False, offline=True)
    try:
        page = context.new_page()
        page.goto(path.as_uri())
        assert page.is_visible("#no-viewer") and not page.is_visible("#opacity")
        assert page.is_visible('tr[data-level="2"]')
    finally:
        context.close()


def test_print_leaves_the_viewer_out(page):
    page.emulate_media(media="print")
    assert not page.is_visible(".viewer") and page.is_visible(".discs") and page.is_visible(".strip")
    assert page.is_visible(".levels") and not page.is_visible("#copy-levels")


def test_the_levels_are_copied_as_text(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy-levels")
    until(page, 'document.getElementById("levels-said").textContent')
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.evaluate('document.getElementById("levels-text").textContent')
    assert copied.startswith("T12/L1: ") and "L5/S1: height 7.5 mm" in copied


def test_narrow_screen_needs_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert picture(page).std() > 15


def test_page_without_a_disc(watched, tmp_path):
    write_report(tmp_path / "report.html", spine_report(levels=()))
    page = watched.open(tmp_path / "report.html", READY)
    assert picture(page).std() > 10
    assert "No disc was found." in page.inner_text("main")
    watched.assert_quiet()


def test_the_option_that_pins_a_level_is_copied_as_a_whole(page, report):
    from ivdjax.commands.anchor import parse_anchor

    disc = report.discs[2]
    page.click(f'tr[data-level="{disc.level}"] button')
    page.select_option("#anchor-level", "L4/5")
    page.click("#copy-anchor")
    until(page, 'document.getElementById("anchor").textContent')
    option, text = page.inner_text("#anchor").split(" ", 1)
    pinned = parse_anchor(text.strip('"'))
    assert option == "--anchor" and pinned.level == 2
    np.testing.assert_allclose(pinned.point_mm, disc.centroid_mm, atol=0.1)


def test_discs_as_outlines_zoom_and_brightness(page):
    page.evaluate("window.ivdjaxViewer.setPan2Dxyzmm([0, 0, 0, 1])")
    before = picture(page)
    page.check("#outline")
    outlined = picture(page)
    page.uncheck("#outline")
    coloured = [np.count_nonzero(np.ptp(shown, axis=-1) > 40) for shown in (before, outlined)]
    assert 0 < coloured[1] < 0.7 * coloured[0]
    page.evaluate(
        "(() => { const z = document.getElementById('zoom'); z.value = 2; z.dispatchEvent(new Event('input')); })()"
    )
    assert np.count_nonzero(np.ptp(picture(page), axis=-1) > 40) > 1.5 * coloured[0]
    page.evaluate(
        "(() => { const z = document.getElementById('zoom'); z.value = 1; z.dispatchEvent(new Event('input')); })()"
    )
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 160, box["y"] + 150)
    page.mouse.down(button="right")
    page.mouse.move(box["x"] + 110, box["y"] + 150, steps=5)
    page.mouse.up(button="right")
    image = "window.ivdjaxViewer.volumes[0]"
    until(page, f"{image}.cal_min !== 0 || {image}.cal_max !== 255")
    page.locator("#canvas").dblclick(position={"x": 100, "y": 150})
    until(page, f"{image}.cal_min === 0 && {image}.cal_max === 255")
