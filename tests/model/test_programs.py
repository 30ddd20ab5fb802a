"""Programs that are kept between runs give what the network gives, and are made anew for any change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from ivdjax.config import Config, DataConfig, UNetConfig
from ivdjax.learning.steps import abstract_state, build_predict
from ivdjax.model import programs
from ivdjax.model.programs import predict_program
from ivdjax.model.tasks import stage_network

DATA = DataConfig(root="", channels=("fat", "t2"))


@pytest.fixture
def config() -> Config:
    base = Config(name="tiny", data=DATA)
    training = replace(base.region.training, crop=(16, 16))
    return replace(base, region=replace(base.region, network=UNetConfig(width=2, groups=2), training=training))


def test_a_kept_program_gives_what_the_network_gives_without_tracing_it(config, tmp_path, monkeypatch):
    network = stage_network(config, "region")
    shapes = abstract_state(network, config.region, 2).params
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 1, leaf.shape).astype(np.float32), shapes)
    boxes = random.integers(0, 256, (3, 16, 16, 2), np.uint8)
    wanted = build_predict(network.apply)(params, boxes)
    first = predict_program(config, "region", params, 3, tmp_path)(params, boxes)
    (kept,) = (tmp_path / "programs").iterdir()

    with monkeypatch.context() as patch:
        patch.setattr(programs, "_traced", lambda *_: pytest.fail("it was traced again"))
        again = predict_program(config, "region", params, 3, tmp_path)(params, boxes)
        with pytest.raises(pytest.fail.Exception):
            predict_program(config, "region", params, 4, tmp_path)
    np.testing.assert_allclose(first, wanted, atol=1e-6)
    np.testing.assert_array_equal(first, again)

    kept.write_bytes(kept.read_bytes()[:100])
    mended = predict_program(config, "region", params, 3, tmp_path)(params, boxes)
    np.testing.assert_array_equal(first, mended)
    assert kept.stat().st_size > 100, "a damaged file is replaced"


@pytest.mark.parametrize("change", ["network", "source", "batch"])
def test_any_change_has_a_program_of_its_own(config, tmp_path, monkeypatch, change):
    boxes = jax.ShapeDtypeStruct((3, 16, 16, 2), np.uint8)
    before = programs._key(config, "region", boxes)
    assert programs._key(replace(config, seed=5), "region", boxes) == before
    if change == "network":
        config = replace(config, region=replace(config.region, network=UNetConfig(width=4, groups=2)))
    elif change == "source":
        (tmp_path / "networks").mkdir()
        (tmp_path / "networks" / "unet.py").write_text("other")
        monkeypatch.setattr(programs, "_PACKAGE", Path(tmp_path))
    else:
        boxes = jax.ShapeDtypeStruct((4, 16, 16, 2), np.uint8)
    assert programs._key(config, "region", boxes) != before
