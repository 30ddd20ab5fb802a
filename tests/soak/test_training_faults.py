"""Faults that a long training meets: kills, pre-emption, damaged checkpoints, numbers that are none.

Everything is done to real processes of train.py, at moments that a seed chooses; each run is given the same command
again and has to end as the undisturbed one. The seed and every moment are printed (pytest -s). IVDJAX_SOAK_SEED gives
other moments. What it proves is told in docs/reliability.md.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivdjax.learning.checkpoint import Checkpoints
from tests.learning.test_checkpoint import abstract_state, assert_equal, make_state, save
from tests.training_run import (
    CHECKPOINT_EVERY,
    MUCH_TO_TEAR,
    STAGES,
    Training,
    assert_same_run,
    finish,
    leftovers,
    newest_step,
    overrides,
    rows,
)

pytestmark = pytest.mark.soak

CHECKPOINT, BEST, RESULT, MODEL = "{}/checkpoints/*tmp*", "{}/.best.*.part", "{}/.result.*.part", ".model.*.part"


def kill_while_writing(folder: Path, pattern: str, skip: int = 0) -> tuple[str, bool]:
    """Kills a training while something of that name is being written, or as soon as it is beyond that.

    Returns:
        Where it was; and whether that was what was wanted.
    """
    seen: set[str] = set()
    stage = pattern.partition("/")[0]
    beyond = folder / (stage if stage in STAGES else "none") / "result"

    def moment() -> bool:
        seen.update(str(path.relative_to(folder)) for path in folder.glob(pattern))
        return len(seen) > skip or beyond.exists()

    seen.clear()
    with Training(folder) as training:
        old = {str(path.relative_to(folder)) for path in folder.glob(pattern)}
        # What the kill before left is cleared away first.
        training.until(lambda: not any((folder / name).exists() for name in old))
        met = training.until(moment)
        training.kill()
        return f"{training.seconds:4.1f} s, {', '.join(sorted(seen)) or 'nothing'}", met and len(seen) > skip


def kill_after_seconds(folder: Path, seconds: float) -> tuple[str, bool]:
    """Kills a training some time after its start."""
    with Training(folder) as training:
        met = training.until(lambda: training.seconds >= seconds)
        training.kill()
        return f"{seconds:4.1f} s after the start", met


def kill_after_rows(folder: Path, stage: str, count: int, pause_s: float) -> tuple[str, bool]:
    """Kills a training when a stage has written some more rows of its journal."""
    path = folder / stage / "journal.csv"
    with Training(folder) as training:
        training.until(lambda: f"{stage}: resumed" in training.said or path.exists())
        first = newest_step(folder, stage)
        met = training.until(lambda: len(rows(path)) >= first + count or (folder / stage / "result").exists())
        time.sleep(pause_s)
        training.kill()
        return f"{training.seconds:4.1f} s, {stage} at row {len(rows(path))}", met


def twenty_moments(chance: random.Random) -> Iterator[tuple[str, ...]]:
    """What to kill at: spread over the stages, in any order within them."""
    yield ("start",)
    for stage in STAGES:
        moments = [("writing", CHECKPOINT.format(stage))] * (3 if stage == "localization" else 2)
        moments += [("load", stage), ("rows", stage)] if stage != "localization" else [("rows", stage)]
        chance.shuffle(moments)
        # The best parameters are soon found; what a stage comes to is written at its end.
        yield from [("writing", BEST.format(stage)), *moments, ("writing", RESULT.format(stage))]
    yield ("writing", MODEL)


def test_twenty_kills_at_random_moments_change_nothing(tmp_path, whole, chance):
    run, met, torn = tmp_path / "run", Counter(), Counter()
    moments = list(twenty_moments(chance))
    assert len(moments) == 20
    for number, (kind, *where) in enumerate(moments, 1):
        if kind == "start":
            place, hit = kill_after_seconds(run, chance.uniform(0.2, 4))
        elif kind == "load":
            place, hit = kill_after_seconds(run, chance.uniform(3, 12))
        elif kind == "rows":
            place, hit = kill_after_rows(run, where[0], chance.randint(1, 7), chance.uniform(0, 0.05))
        else:
            place, hit = kill_while_writing(run, where[0], chance.randint(0, 2) if "checkpoints" in where[0] else 0)
        what = where[0].partition("/")[2] or where[0] if kind == "writing" else kind
        met[what] += hit
        torn[what] += bool(leftovers(run))
        print(
            f"kill {number:2} ({kind} {' '.join(where)}): {place}{'' if hit else ' (too late)'}; left {leftovers(run)}"
        )
    finish(run)
    assert_same_run(run, whole)
    print(f"met {dict(met)}, torn {dict(torn)}")
    assert met["checkpoints/*tmp*"] >= 6 and torn["checkpoints/*tmp*"] >= 3, "kills came too late to tear anything"
    assert min(met[".best.*.part"], met[".result.*.part"], met[".model.*.part"]) >= 1


def test_sigterm_at_random_moments_saves_and_ends_with_143(tmp_path, whole, chance):
    run, codes = tmp_path / "run", []
    # The first validation of a sitting takes some time: one that comes with its step's row will be cut off.
    moments = [("", 0), ("region", 10), ("disc", 0), ("disc", 30), ("localization", 0)]
    for number, (stage, validated) in enumerate(moments, 1):
        journal = run / stage / "journal.csv"
        with Training(run) as training:
            if stage:
                count = validated or newest_step(run, stage) + chance.randint(1, 20)
                training.until(lambda: len(rows(journal)) >= count)  # noqa: B023
            time.sleep(0 if validated else chance.uniform(0, 0.3 if stage else 3))
            codes.append(training.terminate())
            said = training.said
        last = rows(journal)[-1]["step"] if stage else "0"
        print(
            f"SIGTERM {number} at step {last} of {stage or 'nothing'}: exit code {codes[-1]}, {said.splitlines()[-1:]}"
        )
        assert codes[-1] in (143, 0), said
        assert "Traceback" not in said
        assert leftovers(run) == []
        if stage and codes[-1] and not (run / stage / "result").exists():  # nothing is lost: the last row is saved
            assert newest_step(run, stage) == int(last)
    assert codes.count(143) >= 4
    finish(run)
    assert_same_run(run, whole)


DATA, INDEX, NOTES = "state/ocdbt.process_0/d/*", "state/manifest.ocdbt", "_CHECKPOINT_METADATA"


def damage(checkpoint: Path, pattern: str, how: str, chance: random.Random) -> str:
    """Damages one file of a checkpoint; says what was done."""
    path = max(checkpoint.glob(pattern), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if how == "flip":
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[:place])
    else:
        path.unlink()
    return f"{how} {path.relative_to(checkpoint)} at {place} of {len(content)}"


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, whole, chance):
    stopped = tmp_path / "stopped"
    stage = "localization"
    with Training(stopped) as training:
        assert training.until(lambda: newest_step(stopped, stage) >= 15)
        training.kill()
    rounds = [(DATA, "flip")] * 4 + [(DATA, "cut"), (DATA, "gone"), (INDEX, "flip"), (INDEX, "cut"), (INDEX, "gone"),
                                     (NOTES, "cut")]  # fmt: skip
    for pattern, how in rounds:
        run = tmp_path / "run"
        shutil.copytree(stopped, run)
        newest = newest_step(run, stage)
        done = damage(run / stage / "checkpoints" / str(newest), pattern, how, chance)
        said = finish(run)
        print(f"{done}: {[line[:200] for line in said.splitlines() if 'damaged' in line or 'resumed' in line]}")
        assert f"checkpoint {run}/{stage}/checkpoints/{newest} is damaged and was passed over" in said
        assert f"{stage}: resumed from step {newest - CHECKPOINT_EVERY} of" in said
        assert "Traceback" not in said
        assert_same_run(run, whole)
        shutil.rmtree(run)


def test_whatever_happens_to_a_checkpoint_no_wrong_number_comes_back(tmp_path, chance):
    sound = tmp_path / "sound"
    save(sound, 1, 2)
    files = sorted(str(path.relative_to(sound / "2")) for path in (sound / "2").rglob("*") if path.is_file())
    outcomes = Counter()
    for _ in range(200):
        name, how = chance.choice(files), chance.choice(("flip", "cut", "gone"))
        if not (sound / "2" / name).stat().st_size:
            continue
        folder = tmp_path / "damaged"
        shutil.copytree(sound, folder)
        done = damage(folder / "2", name, how, chance)
        with Checkpoints(folder) as checkpoints:
            found = checkpoints.restore_latest(abstract_state())
        assert (found.step, len(found.remarks)) in ((2, 0), (1, 1)), done
        assert_equal(found.state, make_state(found.step))
        outcomes["passed over" if found.remarks else "harmless"] += 1
        shutil.rmtree(folder)
    print(dict(outcomes))
    assert outcomes["passed over"] >= 40


@pytest.mark.parametrize(("rate", "at_once"), [("1.0e+30", True), ("1.0e+4", False)])
def test_a_loss_that_is_no_number_names_stage_step_and_the_last_good_checkpoint(tmp_path, rate, at_once):
    run = tmp_path / "run"
    options = [*MUCH_TO_TEAR, *overrides({"region.optimizer.learning_rate": rate})]
    messages = []
    for _ in range(2):  # the second from the last good checkpoint, if there is one
        with Training(run, options) as training:
            assert training.wait() == 1, training.said
            messages.append(training.said.splitlines()[-1])
        assert "Traceback" not in training.said and leftovers(run) == []
    print(messages[0])
    good, last = newest_step(run, "region"), int(rows(run / "region" / "journal.csv")[-1]["step"])
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"error: stage region: the loss at step {last + 1} is nan")
    assert (good == 0) is at_once
    told = f"the last good checkpoint is step {good} in {run}/region/checkpoints" if good else "there is no checkpoint"
    assert told in messages[0] and "Lower region.optimizer.learning_rate" in messages[0]
