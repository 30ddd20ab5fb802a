"""The settings that docs/method.md tells are those of the configurations."""

from __future__ import annotations

import re

import pytest

from ivdjax.config import Config, read_config

COLUMNS = ("default", "tiny", "dixon", "lumbar", "ivdm3seg")


def table(root) -> list[list[str]]:
    lines = (root / "docs" / "method.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| setting | " + " | ".join(COLUMNS) + " |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize("column", range(len(COLUMNS)))
def test_settings_of_the_method_page(root, column):
    name = COLUMNS[column]
    config = Config(name) if name == "default" else read_config(root / "configs" / f"{name}.yaml")
    rows = table(root)
    assert len(rows) > 20
    for key, *cells in rows:
        value = config
        for part in re.findall(r"`([\w.]+)`", key)[0].split("."):
            value = getattr(value, part)
        numbers = [float(v) for v in (value if isinstance(value, tuple) else (value,))]
        assert [float(text) for text in cells[column].split(",")] == numbers, f"{key} in column {name}"
