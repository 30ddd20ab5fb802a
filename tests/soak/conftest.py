"""What the soak tests share: an undisturbed run to compare with, and chance with a seed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.training_run import finish

SEED = int(os.environ.get("IVDJAX_SOAK_SEED", "1"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(folder)
    return folder


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of a test's own; another IVDJAX_SOAK_SEED gives others."""
    print(f"\n{request.node.name}: seed {SEED}")
    return random.Random(f"{SEED} {request.node.name}")
