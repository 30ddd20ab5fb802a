"""Checkpoints: bit-exact, never skipped, and a damaged one costs an interval and not the run."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore

from ivdjax.learning.checkpoint import Checkpoints
from ivdjax.learning.checkpoint_damage import checksum
from ivdjax.volume import UserError


@flax.struct.dataclass
class State:
    step: jax.Array
    params: Any
    optimizer: Any


def make_state(step: int) -> State:
    params = {
        "conv": {"kernel": jax.random.normal(jax.random.key(step), (40, 30))},
        "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
    }
    return State(jnp.int32(step), params, optax.adamw(1e-3).init(params))


def abstract_state() -> Any:
    return jax.eval_shape(lambda: make_state(0))


def assert_equal(state: Any, other: Any) -> None:
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def save(folder, *steps: int) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"seconds": step / 2})


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip_bit(folder):
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(folder):
    path = largest_file(folder)
    path.write_bytes(path.read_bytes()[:100])


def remove_data(folder):
    shutil.rmtree(folder / "state" / "ocdbt.process_0")


def shorten_arrays(folder):
    """What is stored can be read, but makes no arrays of their shapes."""
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": (folder / "state").as_uri() + "/"}).result()
    for chunk in [key for key in store.list().result() if not key.endswith(b"zarr.json")]:
        store.write(chunk, store.read(chunk).result().value[:-1]).result()


def flip_bit_of_index(folder):
    path = folder / "state" / "manifest.ocdbt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty_metadata(folder):
    (folder / "_CHECKPOINT_METADATA").write_text("")


def test_round_trip_is_bit_exact_and_brings_the_metadata(tmp_path):
    save(tmp_path, 7)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(abstract_state())
    assert restored.step == 7 and restored.metadata == {"seconds": 3.5} and restored.remarks == ()
    assert_equal(restored.state, make_state(7))
    assert isinstance(restored.state, State)


def test_no_save_is_skipped_and_the_newest_three_stay(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(abstract_state()) is None
        for step in range(1, 7):  # in a tight loop: each finds the one before still under way
            checkpoints.save(step, make_state(step))
        checkpoints.wait()
        assert checkpoints.steps == (4, 5, 6)
        checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5", "6"]


def test_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        for leaf in jax.tree.leaves(state):
            leaf.delete()
        assert_equal(checkpoints.restore_latest(abstract_state()).state, make_state(1))


def test_state_goes_to_the_devices_of_the_abstract_state(tmp_path):
    save(tmp_path, 1)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), abstract_state())
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore_latest(target).state
        checkpoints.save(2, state)
        again = checkpoints.restore_latest(state)
    assert all(leaf.sharding == everywhere for leaf in jax.tree.leaves(again.state))
    assert again.step == 2
    assert_equal(again.state, make_state(1))


@pytest.mark.parametrize("damage", [flip_bit, flip_bit_of_index, truncate, remove_data, shorten_arrays, empty_metadata])
def test_damaged_newest_is_named_and_the_one_before_used(tmp_path, damage, capfd):
    save(tmp_path, 1, 2)
    damage(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(abstract_state())
        assert restored.step == 1
        assert_equal(restored.state, make_state(1))
        assert len(restored.remarks) == 1
        assert restored.remarks[0].startswith(f"checkpoint {tmp_path / '2'} is damaged and was passed over: ")
        # Found before Orbax loads it, whose failing reads may print tracebacks from other threads.
        assert "Failed to load" not in restored.remarks[0]
        checkpoints.save(2, make_state(2))  # the resumed run comes by the same step again
        assert checkpoints.restore_latest(abstract_state()).step == 2
    gc.collect()
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_usable_is_refused_and_never_taken_for_a_fresh_start(tmp_path):
    save(tmp_path, 1, 2)
    flip_bit(tmp_path / "1")
    truncate(tmp_path / "2")
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="remove the folder to begin anew"):
        checkpoints.restore_latest(abstract_state())


def other_shape(target):
    target.params["conv"]["kernel"] = jax.ShapeDtypeStruct((40, 31), jnp.float32)


def other_type(target):
    target.params["half"] = jax.ShapeDtypeStruct((5,), jnp.float32)


def other_name(target):
    target.params["dense"] = target.params.pop("half")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_shape, r"params/conv/kernel is float32\[40,30\] there and float32\[40,31\] here; remove"),
        (other_type, r"params/half is bfloat16\[5\] there and float32\[5\] here"),
        (other_name, r"params/dense is missing there and bfloat16\[5\] here"),
    ],
)
def test_state_of_another_network_is_refused_by_name(tmp_path, change, words):
    save(tmp_path, 1)
    target = abstract_state()
    change(target)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match=words):
        checkpoints.restore_latest(target)


def test_folder_of_an_interrupted_save_is_ignored_and_removed(tmp_path):
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(abstract_state()).step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_save_that_cannot_end_well_is_refused_with_a_remedy(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(0, make_state(0))
        checkpoints.wait()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 2000))
        with pytest.raises(OSError, match="0 MiB free.*make room or mend the disk"):
            checkpoints.save(1, make_state(1))
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("in the way")
        with pytest.raises(OSError, match="could not be written to .*run: .*exists"):
            checkpoints.save(1, make_state(1))
        (tmp_path / "run").unlink()
        checkpoints.save(1, make_state(1))
        assert checkpoints.restore_latest(abstract_state()).step == 1


LIMITED = """
import resource, sys
from tests.learning.test_checkpoint import make_state
from ivdjax.learning.checkpoint import Checkpoints
from ivdjax.commands.commands import run_command
def main():
    with Checkpoints(sys.argv[1]) as checkpoints:
        checkpoints.save(1, make_state(1))
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # files stop growing, as on a full disk
        checkpoints.save(2, make_state(2))
    return 0
sys.exit(run_command(main))
"""


def test_disk_that_fills_up_in_mid_save_is_one_message_and_keeps_the_one_before(tmp_path, root):
    process = run_script(LIMITED, tmp_path, root)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith("error: a checkpoint could not be written") and errors.count("\n") == 1, errors
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(abstract_state()).step == 1


def test_checksum_depends_on_every_bit():
    state = make_state(1)
    assert checksum(state) == checksum(make_state(1)) != checksum(make_state(2))
    assert checksum({}) == 0
    assert checksum({"a": jnp.zeros(3)}) != checksum({"a": -jnp.zeros(3)})


def run_script(code: str, folder, root) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip


SCRIPT = """
import sys
from tests.learning.test_checkpoint import make_state
from ivdjax.learning.checkpoint import Checkpoints
with Checkpoints(sys.argv[1]) as checkpoints:
    for step in range(1, 100000):
        checkpoints.save(step, make_state(step))
        print(step, flush=True)
"""


def test_killed_run_leaves_a_sound_checkpoint_and_saving_is_silent(tmp_path, root):
    process = run_script(SCRIPT, tmp_path, root)
    for _ in range(6):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate()
    assert errors == "" and all(line.isdigit() for line in output.split())
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(abstract_state())
    assert restored.step >= 5 and restored.remarks == ()
    assert_equal(restored.state, make_state(restored.step))
    assert not list(tmp_path.glob("*tmp*"))


@pytest.mark.soak
def test_kills_at_random_moments_never_cost_more_than_one_save(tmp_path, root):
    random = np.random.default_rng(0)
    for _ in range(20):
        process = run_script(RESUMING, tmp_path, root)
        last = 0
        for _ in range(int(random.integers(1, 30))):
            last = int(process.stdout.readline())
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        output, errors = process.communicate()
        assert errors == ""
        last = max([last, *map(int, output.split())])  # the save of `last` had begun, that before it had ended
        with Checkpoints(tmp_path) as checkpoints:
            restored = checkpoints.restore_latest(abstract_state())
        assert restored.step >= last - 1 and restored.remarks == ()
        assert_equal(restored.state, make_state(restored.step))


RESUMING = """
import sys
from tests.learning.test_checkpoint import abstract_state, make_state
from ivdjax.learning.checkpoint import Checkpoints
with Checkpoints(sys.argv[1]) as checkpoints:
    restored = checkpoints.restore_latest(abstract_state())
    for step in range(restored.step + 1 if restored else 1, 100000):
        checkpoints.save(step, make_state(step))
        print(step, flush=True)
"""
