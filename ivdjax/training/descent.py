"""Where a model comes from: the model that its training began with, that one's data, and so on back to the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from ivdjax.data.datasets import folded
from ivdjax.data.preparation import Prepared
from ivdjax.model.model import Model

_DIGITS = 16


def case_marks(cases: Iterable[Prepared]) -> list[str]:
    """Marks of cases and their subjects, by which it can be asked whether one trained a model; no names.

    Each is the beginning of the SHA-256 of a name.
    """
    return sorted({_mark(name) for case in cases for name in (case.name, case.subject)})


def descent_of(base: Model, networks: Sequence[str]) -> list[dict[str, Any]]:
    """The ancestors of a model that begins with another one, the nearest first.

    Args:
        base: the model that training begins with.
        networks: that are taken from it.
    """
    meta = base.meta
    training = meta.get("training") or {}
    nearest = {
        "name": base.name, "weights_sha256": base.weights_sha256, "networks": list(networks),
        "channels": list(base.channels), "credit": meta.get("credit", ""), "licence": meta.get("licence", ""),
        "synthetic": bool(meta.get("synthetic", False)), "cases": training.get("cases"),
        "held_out": list(training.get("held_out") or ()), "case_marks": list(training.get("case_marks") or ()),
    }  # fmt: skip
    return [nearest, *(dict(ancestor) for ancestor in meta.get("descent") or ())]


def seen_before(held_out: Iterable[Prepared], descent: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Held-out cases that trained an ancestor, they or another visit of their subject; by the ancestor's name."""
    held_out = list(held_out)
    found = {}
    for ancestor in descent:
        marks = set(ancestor.get("case_marks") or ())
        names = [case.name for case in held_out if {_mark(case.name), _mark(case.subject)} & marks]
        if names:
            found[str(ancestor["name"])] = names
    return found


def _mark(name: str) -> str:
    return hashlib.sha256(folded(name).encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
