"""Mutations of what people and programs write as text: JSON, YAML, tables and overrides."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml

from tests.fuzz.spoiling import TEXTS, number, spoiled

_YAML = (
    "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\ndata: *c\n",
    "x: !!python/object/apply:os.system ['touch HACKED']\n", "seed: !!int x\n", "seed: !!float x\n",
    "seed: 2001-99-99\n", "seed: 2001-01-01\n", "data: {<<: *nothing}\n", "data: !!set {a, b}\n",
    "data: !!omap [a: 1]\n", "data: !!binary '!!!'\n", "data: &d {root: *d}\n", "stages: &s [*s]\n",
    "? [a, b]\n: c\n", "? {a: b}\n: c\n", "null: 1\n", "1: 2\n", "true: x\n", "seed: 0b12\n", "seed: 190:20:30\n",
    "seed: " + "9" * 5000 + "\n", "name: " + "9" * 5000 + "\n", "seed: 1e-3\n", "seed: .inf\n", "seed: .nan\n",
    "seed: 0x\n", "seed: -0o8\n", "%YAML 9.9\n---\n", "---\na: 1\n---\nb: 2\n", "\ta: 1\n",
    "data: " + "[" * 3000 + "\n", "data: " + "{a: " * 3000 + "\n", "data: !<tag:yaml.org,2002:timestamp> x\n",
    "data: ! x\n", "name: \"\\ud800\"\n", "name: \x07\n", "name: null\n", "data: {channels: [t2, t2]}\n",
    "data: {subject_pattern: '('}\n", "=: 1\n", "seed: !!bool maybe\n", "seed: !!null x\n", "seed: !!timestamp x\n",
    "<<: [1]\n", "<<: {seed: 2}\n", "seed: !!python/name:os.system\n",
)  # fmt: skip
"""Lines at which a reader of YAML goes wrong."""

_JSON = (
    b"[" * 100000, b'{"a":' * 20000, b"\xef\xbb\xbf{}", b"null", b"1" * 6000, b"{}", b"[]", b"NaN", b'"\\ud800"',
)  # fmt: skip
"""Texts at which a reader of JSON goes wrong."""


def odd_value(chance: random.Random) -> Any:
    """A plain value where another was expected."""
    pick = chance.randrange(12)
    if pick == 0:
        return chance.choice(TEXTS)
    if pick == 1:
        return number(chance)
    if pick == 2:
        return chance.choice((float("nan"), float("inf"), -1.5, 1e308, 1e-320, 0.5, -0.0))
    if pick == 3:
        nested: Any = []
        for _ in range(chance.choice((1, 3, 60))):
            nested = [nested]
        return nested
    return (None, True, False, "", [], {}, {"a": {"b": 1}}, [None], 10**400, -1, "x", [1, "a", None])[pick]


def changed_tree(tree: Any, chance: random.Random) -> Any:
    """A copy with one node replaced, left out, renamed or swapped for another."""
    tree = copy.deepcopy(tree)
    places = _places(tree)
    if not places:
        return odd_value(chance)
    node, key = chance.choice(places)
    turn = chance.random()
    if turn < 0.6:
        node[key] = odd_value(chance)
    elif turn < 0.75:
        del node[key]
    elif turn < 0.85:
        other, place = chance.choice(places)
        node[key] = copy.deepcopy(other.get(place) if isinstance(other, dict) else odd_value(chance))
    elif isinstance(node, dict):
        node[chance.choice(("", "x", "level", "seed", "a" * 300, "\u0000", str(key).upper()))] = odd_value(chance)
    else:
        node.extend(odd_value(chance) for _ in range(chance.choice((1, 50))))
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict):
        return [(tree, key) for key in tree] + [place for value in tree.values() for place in _places(value)]
    if isinstance(tree, list):
        return [(tree, i) for i in range(len(tree))] + [place for value in tree for place in _places(value)]
    return []


def spoiled_json(content: bytes, chance: random.Random) -> bytes:
    """A JSON document with another tree, or another text."""
    turn = chance.random()
    if turn < 0.75:
        tree = json.loads(content)
        for _ in range(chance.choice((1, 1, 2, 3))):
            tree = changed_tree(tree, chance)
        return json.dumps(tree).encode()
    if turn < 0.8:
        long_number = content.replace(b": 1", b": " + b"1" * 5000, 1)
        return chance.choice((*_JSON, long_number, content.replace(b"8.0", b"1e999")))
    return spoiled(content, chance)


def spoiled_yaml(content: bytes, chance: random.Random) -> bytes:
    """A YAML document with another tree, other lines, or another text."""
    turn = chance.random()
    if turn < 0.4:
        tree = changed_tree(yaml.safe_load(content), chance)
        try:
            return yaml.safe_dump(tree, default_flow_style=chance.choice((True, False, None))).encode(
                "utf-8", "replace"
            )
        except (yaml.YAMLError, ValueError):
            return json.dumps(tree).encode()
    if turn < 0.8:
        lines = content.decode("utf-8").splitlines(keepends=True)
        place = chance.randrange(len(lines))
        if chance.random() < 0.7:
            lines.insert(place, chance.choice(_YAML))
        else:
            lines[place] = chance.choice((" ", "- ", "\t", "& ", "* ", "! ", "| ", "> ")) + lines[place]
        return "".join(lines).encode("utf-8", "replace")
    if turn < 0.85:
        return chance.choice(_YAML).encode("utf-8", "replace")
    if turn < 0.87:
        return _laughs(chance.choice((5, 9, 30)))
    return spoiled(content, chance)


def _laughs(depth: int) -> bytes:
    """Aliases of aliases: a few lines that stand for 10 ** depth words."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for place in range(1, depth):
        lines.append(f"a{place}: &a{place} [{', '.join([f'*a{place - 1}'] * 10)}]")
    return ("\n".join([*lines, f"data: *a{depth - 1}", f"name: *a{depth - 1}"]) + "\n").encode()


def spoiled_override(word: str, keys: list[str], chance: random.Random) -> str:
    """Another key, another value, or another text."""
    key, _, value = word.partition("=")
    if chance.random() < 0.6:
        key = chance.choice(keys)
        if chance.random() < 0.2:
            key = chance.choice((key[:-1], f"{key}.x", f".{key}", key.upper(), "", "a..b", key.partition(".")[0]))
    if chance.random() < 0.8:
        values = (*TEXTS[:22], *(line.partition(": ")[2].strip() for line in _YAML), json.dumps(odd_value(chance)))
        value = chance.choice(values)
    return f"{key}{'=' if chance.random() < 0.95 else ''}{value}"


def spoiled_table(content: bytes, chance: random.Random) -> bytes:
    """A CSV with one cell, row or heading changed, or another text."""
    if chance.random() < 0.4:
        return spoiled(content, chance)
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(chance.choice((1, 2, 3))):
        row = chance.choice(rows)
        turn = chance.random()
        if turn < 0.6 and row:
            row[chance.randrange(len(row))] = chance.choice((*TEXTS, '"', '"a\nb"', "a" * 200000, "\r", ";", "\u00bd"))
        elif turn < 0.8:
            row.append("x")
        else:
            rows.insert(chance.randrange(len(rows)), list(row))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
