"""What can be set, read from the configuration's dataclasses: keys, types, defaults and meanings.

The meanings are those of the docstrings, so that help, documentation and code say the same.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ivdjax.config import Config, plain_config

_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): ", re.MULTILINE)
_NUMBERS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One key of a section.

    Attributes:
        key: its name in the section.
        kind: of value, in words.
        default: as YAML writes it; empty: it must be given.
        meaning: what it does, in words.
    """

    key: str
    kind: str
    default: str
    meaning: str


def settings_of(section: type, made: Any = None) -> list[Setting]:
    """The settings of a section, in their order, without the sections inside it.

    Args:
        section: one of the dataclasses of `ivdjax.config`.
        made: the section with the defaults that hold at its place; None: its own.
    """
    meanings, hints = _meanings(section), typing.get_type_hints(section)
    found = []
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(hints[field.name]):
            continue
        value = getattr(made, field.name) if made is not None else field.default
        default = "" if value is dataclasses.MISSING or (made is not None and _is_required(field)) else _yaml(value)
        found.append(Setting(field.name, _words(hints[field.name]), default, meanings.get(field.name, "")))
    return found


def sections_of(config: Any = None, prefix: str = "") -> Iterator[tuple[str, type, Any]]:
    """Every section of a configuration with its dotted name ("" for the top), its class and its defaults."""
    config = Config(name="name") if config is None else config
    yield prefix, type(config), config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from sections_of(value, f"{prefix}.{field.name}" if prefix else field.name)


def reference_page() -> str:
    """The reference of the configuration in markdown, made from the dataclasses."""
    parts = [_HEAD]
    for name, section, made in sections_of():
        settings = settings_of(section, made)
        parts.append(f"## `{name}`" if name else "## Top level")
        parts.append(_summary(section))
        if settings:
            rows = [f"| `{s.key}` | {s.kind} | {f'`{s.default}`' if s.default else 'must be given'} | "
                    f"{s.meaning.replace('|', chr(92) + '|')} |" for s in settings]  # fmt: skip
            parts.append("\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


_HEAD = """\
# Configuration reference

A configuration is a YAML file that holds what differs from the defaults below; `configs/` has examples, and
[training.md](training.md) shows how to use one. On the command line, `--set section.key=value` changes one value of
`train` and `cross-validate`, and `--set inference.key=value` one of `infer`. Unknown keys and values out of range are
refused. This page is made from `ivdjax/config/` by `python -m ivdjax.settings`."""


def _summary(section: type) -> str:
    return " ".join((inspect.getdoc(section) or "").partition("\n\nAttributes:")[0].split())


def _meanings(section: type) -> dict[str, str]:
    """The text of each attribute in the docstrings of a class and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
        starts = list(_ENTRY.finditer(text))
        for place, start in enumerate(starts):
            end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
            words = " ".join(textwrap.dedent(text[start.end() : end]).split())
            found |= dict.fromkeys(start[1].split(", "), words)
    return found


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _words(kind: Any) -> str:
    if typing.get_origin(kind) is not tuple:
        return _NUMBERS[kind]
    inner = typing.get_args(kind)
    words = _NUMBERS[inner[0]]
    plural = "texts" if words == "text" else f"{words}s"
    return f"list of {plural}" if inner[-1] is Ellipsis else f"list of {len(inner)} {plural}"


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(plain_config(value), default_flow_style=True, width=10**6)).partition("\n")[0]


if __name__ == "__main__":
    print(reference_page(), end="")
