"""The documentation: every page has its place in the site, every link a target, every command its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from ivdjax.cli.program import available_commands, program_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_page_has_its_place_in_the_site():
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:")[2]
    named = set(re.findall(r"[\w]+\.md", nav))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["docs_dir"] == "docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands(page: Path) -> list[list[str]]:
    """The words of every `ivdjax` command in a page's code blocks, without comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = [
        line
        for language, block in blocks
        if language in ("", "sh", "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ivdjax ") and "[" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_has_the_options_that_it_is_shown_with(page):
    for words in commands(page):
        assert words[0] in available_commands(), words
        program_parser("ivdjax", words[0]).parse_args(words)


def test_the_readme_shows_commands():
    assert len(commands(ROOT / "README.md")) >= 12
