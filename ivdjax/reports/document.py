"""One HTML document that opens from a disk: its style and its scripts are in it, and it says what it may load.

A content security policy names the page's own scripts by their SHA-256 and allows no network at all, so that a text
that slipped through escaping would still run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from ivdjax.reports.colours import VERDICT

_FAILED = "#a3262a"
_OTHER = "#555555"


def html_document(title: str, body: str, style: str, scripts: Sequence[str] = (), images: str = "data: blob:") -> str:
    """A whole document.

    Args:
        title: plain text.
        body: HTML.
        style: name of a style sheet of this package.
        scripts: names of scripts of this package, run in this order after the body.
        images: where pictures may come from, as in the `img-src` of a content security policy.
    """
    sources = [_script(name) for name in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for _, digest in sources) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src {images}; font-src data:; "
        "connect-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>", f"<style>{_asset(style)}</style>", "</head>", "<body>",
    ]  # fmt: skip
    return "\n".join([*head, body, *(f"<script>{text}</script>" for text, _ in sources), "</body>", "</html>"]) + "\n"


def json_element(identity: str, value: Any) -> str:
    """A value as JSON that scripts of the page read by its id; no text in it can end the element.

    Raises:
        ValueError: a number that is not finite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: line separators are escaped already
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{escape(identity)}">{text}</script>'


def badge(verdict: str) -> str:
    """A verdict on its colour."""
    colour = _FAILED if verdict == "failed" else VERDICT.get(verdict, _OTHER)
    return f'<span class="badge" style="background:{colour}">{escape(verdict.upper())}</span>'


def items(texts: Sequence[str]) -> str:
    """A list of plain texts; empty for none."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def data_url(kind: str, content: bytes) -> str:
    """Bytes of a media type, such as image/png, as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@cache
def _asset(name: str) -> str:
    return (files("ivdjax.reports") / name).read_text(encoding="utf-8")


@cache
def _script(name: str) -> tuple[str, str]:
    """A script as it stands in the page, and the base64 of its SHA-256.

    The two sequences that would end a script element, or open one within it, are spelt so that they mean the same in a
    string or a regular expression.
    """
    text = re.sub(r"<(?=/script|!--|script)", r"\\x3C", _asset(name), flags=re.IGNORECASE)
    return text, base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
