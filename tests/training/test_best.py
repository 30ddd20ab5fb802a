"""What did best so far is kept whole, and nothing worse takes its place."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.training.best import Chosen, offer_best, read_best


def parameters(value: float) -> dict[str, dict[str, np.ndarray]]:
    return {"layer": {"kernel": np.full((2, 2), value, np.float32)}}


def kept(folder) -> tuple[int, float, float]:
    best = read_best(folder)
    assert isinstance(best, Chosen)
    return best.step, best.value, float(best.parameters["layer"]["kernel"][0, 0])


def test_the_best_stays_and_of_equals_the_first(tmp_path):
    assert read_best(tmp_path) is None
    assert offer_best(tmp_path, 10, 0.5, parameters(1))
    assert kept(tmp_path) == (10, 0.5, 1)
    assert not offer_best(tmp_path, 20, 0.4, parameters(2))
    assert not offer_best(tmp_path, 20, 0.5, parameters(2))
    assert kept(tmp_path) == (10, 0.5, 1)
    assert offer_best(tmp_path, 30, 0.6, parameters(3))
    assert kept(tmp_path) == (30, 0.6, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("name", ["weights.npz", "best.json"])
def test_what_is_damaged_counts_as_none_and_is_replaced(tmp_path, name):
    offer_best(tmp_path, 10, 0.5, parameters(1))
    path = tmp_path / "best" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert read_best(tmp_path) is None
    assert offer_best(tmp_path, 20, 0.1, parameters(2))
    assert kept(tmp_path) == (20, 0.1, 2)
