"""What a finished stage leaves: a round trip, and a damaged record that counts as none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ivdjax.training.stage import StageResult
from ivdjax.training.stage_record import read_record, write_record


@pytest.fixture
def result() -> StageResult:
    random = np.random.default_rng(0)
    parameters = {"Conv_0": {"kernel": random.normal(size=(3, 2)).astype(np.float32), "bias": np.zeros(2, np.float32)}}
    return StageResult(parameters, {"region_dice": 0.875, "worst_region_dice": 0.5}, 12.5, 80, 40)


def test_a_record_comes_back_bit_for_bit(tmp_path, result):
    assert read_record(tmp_path / "region") is None
    write_record(tmp_path / "region", result)
    back = read_record(tmp_path / "region")
    assert back is not None
    assert (back.validation, back.seconds, back.steps, back.chosen) == (result.validation, 12.5, 80, 40)
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(back.parameters["Conv_0"][name], result.parameters["Conv_0"][name])
        assert back.parameters["Conv_0"][name].dtype == np.float32
    assert [path.name for path in (tmp_path / "region").iterdir()] == ["result"]  # nothing half written beside it


def test_a_later_record_takes_the_place_of_an_earlier_one(tmp_path, result):
    write_record(tmp_path, result)
    write_record(tmp_path, StageResult(result.parameters, {}, 1.0, 90, 90))
    back = read_record(tmp_path)
    assert back is not None and back.steps == 90 and back.validation == {}


def cut(place: Path) -> None:
    path = place / "weights.npz"
    path.write_bytes(path.read_bytes()[:-20])


def lacks_steps(place: Path) -> None:
    facts = json.loads((place / "result.json").read_text())
    del facts["steps"]
    (place / "result.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lacks_steps,
        lambda place: (place / "weights.npz").unlink(),
        lambda place: (place / "result.json").unlink(),
        lambda place: (place / "result.json").write_text("{"),
        lambda place: (place / "result.json").write_text("[]"),
        lambda place: (place / "result.json").write_bytes(b"\xff\xfe"),
    ],
)
def test_a_damaged_record_counts_as_none_and_is_replaced(tmp_path, result, damage):
    write_record(tmp_path, result)
    damage(tmp_path / "result")
    assert read_record(tmp_path) is None
    write_record(tmp_path, result)
    assert read_record(tmp_path) is not None


def test_parameters_that_cannot_be_kept_leave_the_earlier_record(tmp_path, result):
    write_record(tmp_path, result)
    with pytest.raises(ValueError, match="not finite"):
        write_record(tmp_path, StageResult({"kernel": np.array([np.nan], np.float32)}, {}, 1.0, 90, 90))
    back = read_record(tmp_path)
    assert back is not None and back.steps == 80
