"""A training that is killed and given the same command again, beside one that nobody disturbs; more in `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training_run import STAGES, Training, assert_same_run, newest_step, overrides, rows

STEPS = 8

# configs/tiny.yaml, small enough to be started five times.
SMALL = overrides({
    "region.network.downsamplings": 2, "disc.network.layers": "[1,1,1]", "disc.network.aspp_rates": "[3]",
    "localization.network.widths": "[4,8]", "localization.network.layers": "[1,1]",
    "localization.network.slice_pooling": "[1]",
    **{f"{stage}.training.{key}": value for stage in STAGES
       for key, value in {"steps": STEPS, "log_every": 1, "checkpoint_every": 2, "validate_every": 4}.items()},
})  # fmt: skip
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles in half of the time what runs for milliseconds


@pytest.mark.soak
def test_three_stages_that_resume_after_three_kills_end_as_without_any(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    moments = [
        lambda: len(rows(run / "region" / "journal.csv")) >= 5,
        lambda: newest_step(run, "disc") >= 2 and any((run / "disc" / "checkpoints").glob("*tmp*")),
        lambda: newest_step(run, "localization") == STEPS,  # all steps are done, its result is not written yet
    ]
    with Training(whole, SMALL, QUICK) as undisturbed:
        for moment in moments:
            with Training(run, SMALL, QUICK) as training:
                assert training.until(moment), training.said
                training.kill()
        assert not (run / "model").exists()
        with Training(run, SMALL, QUICK) as training:
            assert training.wait() == 0, training.said
        assert undisturbed.wait() == 0, undisturbed.said
    assert "resumed from step" in training.said
    assert_same_run(run, whole, dict.fromkeys(STAGES, STEPS))
