"""docs/architecture.md, whose diagram and table must name what there is: files, imports, functions."""

from __future__ import annotations

import ast
import re

import pytest

from tests.test_floors import ROOT, imports_of

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DIAGRAM = PAGE.split("```mermaid")[1].split("```")[0]
FILES = dict(re.findall(r'(\w+)\["([^"]+)"\]', DIAGRAM))
ARROWS = re.findall(r'^ *(\w+)(?:\["[^"]+"\])? -->(?:\|[^|]*\|)? (\w+)', DIAGRAM, re.MULTILINE)
PLACES = re.findall(r"`([\w/]+\.py)`((?: `\w+`)?)", PAGE.split("## Where is")[1])


def source(path: str) -> str:
    return (ROOT / "ivdjax" / path).read_text(encoding="utf-8")


def test_the_diagram_is_read():
    assert len(ARROWS) == len([line for line in DIAGRAM.splitlines() if "-->" in line]) > 20
    assert len(PLACES) >= 10


@pytest.mark.parametrize("arrow", ARROWS, ids=" to ".join)
def test_every_arrow_is_an_import(arrow):
    start, end = (FILES[name] for name in arrow)
    wanted = "ivdjax." + end.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert wanted in {item.module for item in imports_of(source(start))}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[0])
def test_what_the_table_names_is_there(place):
    path, name = place[0], place[1].strip(" `")
    defined = {node.name for node in ast.parse(source(path)).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert not name or name in defined


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("how one case is run", "inference/segmenter.py"),
        ("what decides a disc's level", "discs/numbering.py"),
        ("the loss", "learning/losses.py"),
        ("a file format", "imaging/files/__init__.py"),
        ("a new measure", "discs/measures.py"),
        ("the server of the review page", "review/server.py"),
    ],
)
def test_a_newcomer_finds_it_in_two_steps(question, path):
    assert "](docs/architecture.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {question} |")]
    assert f"`{path}`" in row
