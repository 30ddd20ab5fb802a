from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

from ivdjax.reports import document
from ivdjax.reports.document import badge, data_url, html_document, items, json_element
from ivdjax.reports.viewer import SCRIPTS
from tests.reports.page_tags import parse


def test_policy_allows_the_scripts_that_are_there_and_no_other():
    html = html_document("t", "<p>body</p>", "assets/page.css", SCRIPTS)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(digests) == 2
    assert re.search(r"script-src ([^;]*);", html)[1] == " ".join(f"'sha256-{digest}'" for digest in digests)


def test_title_is_escaped():
    assert "<title>&lt;b&gt;</title>" in html_document("<b>", "", "assets/page.css")


def test_a_script_cannot_end_its_element(monkeypatch):
    document._script.cache_clear()
    source = 'a = "</script><SCRIPT><!--"; b = /</'
    monkeypatch.setattr(document, "_asset", lambda name: source)
    text, _ = document._script("x.js")
    document._script.cache_clear()
    assert text == 'a = "\\x3C/script>\\x3CSCRIPT>\\x3C!--"; b = /</'


def test_json_survives_and_cannot_end_its_element():
    value = {"name": "</script><!-- & \u2028 é", "list": [1, 2.5, None]}
    html = json_element("id", value)
    (text,) = re.findall(r'^<script type="application/json" id="id">(.*)</script>$', html)
    assert json.loads(text) == value
    assert not re.search("[<>&\u2028]", text)


def test_json_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_element("id", float("nan"))


def test_small_parts():
    assert items([]) == "" and items(["<a>"]) == "<ul><li>&lt;a&gt;</li></ul>"
    assert "OK</span>" in badge("ok") and parse(badge("<b>")).seen == ["span"]
    assert badge("failed") != badge("ok").replace("OK", "FAILED")
    assert data_url("image/png", b"abc") == "data:image/png;base64,YWJj"


def test_bundled_viewer_is_the_one_that_its_readme_names():
    folder = files("ivdjax.reports") / "niivue"
    digest = hashlib.sha256((folder / "niivue.umd.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (folder / "README.md").read_text(encoding="utf-8")
    assert "Redistributions in binary form" in (folder / "LICENSE").read_text(encoding="utf-8")
