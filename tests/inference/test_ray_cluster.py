"""Joining a cluster, as far as it needs no Ray: what is wrong is said at once, in one line."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from ivdjax.inference.ray_cluster import MISSING
from ivdjax.inference.ray_cohort import RayOptions, run_on_ray
from ivdjax.inference.supervisor import CaseTask
from ivdjax.inference.worker import Pipeline
from ivdjax.volume import UserError


def refusal(address: str, tmp_path) -> str:
    pipeline = Pipeline(lambda: int, lambda: int, lambda: int)
    with pytest.raises(UserError) as caught:
        list(run_on_ray([CaseTask("a", 1)], pipeline, RayOptions(address), shared=tmp_path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refusal("local", tmp_path) == MISSING
    assert "pip install 'ivdjax[ray]'" in MISSING


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_where_nothing_answers_ray_itself_is_not_asked(monkeypatch, tmp_path, address):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # it has no init to be called
    said = refusal(address, tmp_path)
    assert said.startswith(f"--ray {address}: no cluster could be reached") and "refused" in said
