"""A model whose network was never trained, for tests of what is round it."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from ivdjax.config import parse_config
from ivdjax.learning.steps import initial_state
from ivdjax.model.model import Model, write_model
from ivdjax.networks.disc_net import build_disc_net


def write_untrained(folder: Path, channels: list[str]) -> Path:
    """An untrained network whose output is almost everywhere just above one half: it "finds" something to write."""
    config = parse_config(
        {
            "name": "untrained",
            "data": {"channels": channels, "synthetic": True},
            "preparation": {"spacing_mm": [3.0, 2.0]},
            "disc": {
                "network": {"stem": 4, "growth": [4, 4, 4], "layers": [1, 1, 1], "aspp_growth": 4, "path": [4, 4, 4]},
                "training": {"crop": [16, 24]},
            },
        }
    )
    state = initial_state(build_disc_net(config.disc.network), config.disc, len(channels), 0)
    write_model(folder, Model(config, {"disc": jax.tree.map(np.asarray, state.params)}))
    return folder
