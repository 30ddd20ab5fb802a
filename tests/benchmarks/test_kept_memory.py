"""The table of what is kept for the backward pass."""

from __future__ import annotations

import pytest

from benchmarks.kept_memory import kept_mib, table
from ivdjax.config import read_config


@pytest.mark.soak
def test_less_is_kept_in_bfloat16_and_with_rematerialisation(root):
    config = read_config(root / "configs" / "tiny.yaml")
    for stage in config.stages:
        whole = kept_mib(config, stage, "float32", False)
        assert kept_mib(config, stage, "float32", True) < 0.7 * whole
        assert kept_mib(config, stage, "bfloat16", False) < 0.8 * whole
    assert f"| region (8) | {kept_mib(config, 'region', 'float32', False):.0f} MiB | " in table(config)
