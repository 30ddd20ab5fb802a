"""What the pages promise of faults, each row with a test: that the test is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

PAGES = ("docs/reliability.md", "SECURITY.md")
_NAMED = re.compile(r"`(?P<file>[\w/]*test_\w+\.py)?(?:::)?(?P<test>test_\w+)?(?:\[.*?\])?`")


def named_tests(text: str) -> list[tuple[str, str]]:
    """Every test that a page names, as its file (that before it, if it names none; "": none yet) and its name."""
    found, file = [], ""
    for match in _NAMED.finditer(text):
        file = match["file"] or file
        if match["file"] or match["test"]:
            found.append((match["file"] or (file if match[0].startswith("`::") else ""), match["test"] or ""))
    return found


def has_proof(row: str) -> bool:
    """Whether the last cell of a table's row names a test, or says that it is the row's before."""
    return bool(re.search(r"test_\w+|make fuzz|^ the same", row.strip().removesuffix("|").rpartition("|")[2]))


@cache
def functions(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^\s*def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_every_named_test_is_there(root, page):
    named = named_tests((root / page).read_text("utf-8"))
    assert len(named) >= 10
    everywhere = list((root / "tests").rglob("test_*.py"))
    missing = []
    for file, test in named:
        paths = [path for path in everywhere if not file or path.as_posix().endswith(f"/{file}")]
        if not paths or (test and not any(test in functions(path) for path in paths)):
            missing.append(f"{file}::{test}")
    assert missing == []


def test_no_situation_lacks_its_proof(root):
    """Last cells of the tables of situations."""
    lines = (root / "docs" / "reliability.md").read_text("utf-8").splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("| situation |")]
    assert len(heads) >= 8
    for head in heads:
        for line in lines[head + 2 :]:
            if not line.startswith("|"):
                break
            assert has_proof(line), line


def test_names_are_read_as_they_are_written():
    text = "`tests/a/test_b.py::test_c`, `::test_d`; `test_e.py`; `make fuzz`; soak: `test_f`, `test_g[x]`"
    assert named_tests(text) == [
        ("tests/a/test_b.py", "test_c"), ("tests/a/test_b.py", "test_d"), ("test_e.py", ""), ("", "test_f"),
        ("", "test_g"),
    ]  # fmt: skip


def test_an_empty_cell_is_no_proof():
    assert has_proof("| killed | goes on | soak: `test_kills` |") and has_proof("| as above | refuses | the same |")
    assert not has_proof("| killed | the same command again goes on; a test | |")
