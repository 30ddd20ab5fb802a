"""Checkpoints of a training stage: written in the background, checked when read, the newest three kept.

The state is any pytree of arrays. Orbax writes it; what Orbax leaves open is closed here: a save is never skipped, a
flipped bit does not pass for a number, and a damaged checkpoint costs one interval and not the run.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import checkpoint_manager
from orbax.checkpoint import v1 as ocp

from ivdjax.learning.checkpoint_damage import (
    empty_damaged_notes,
    metadata_in,
    notes_of,
    read_through,
    refuse_other_layout,
    refuse_other_numbers,
    sound_notes,
)
from ivdjax.volume import UserError

_FAILED = "a checkpoint could not be written"


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
        state: as it was saved, bit for bit, on the devices of the abstract state.
        step: the step it was saved under.
        metadata: what was saved beside it.
        remarks: one sentence for each newer checkpoint that was damaged; for the user's eyes.
    """

    state: Any
    step: int
    metadata: dict[str, Any]
    remarks: tuple[str, ...]


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints in one folder, which is made if need be; leftovers of interrupted saves are removed.

    Use it as a context manager, or call `close`: a save may still be under way when the program ends.

    Args:
        folder: holds a folder for each kept step, and nothing else.
        keep: how many of the newest are kept.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, keep: int = 3) -> None:
        # Orbax reports on the terminal through absl; what the user must know is raised or returned here instead.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pending: Any = None
        self._keep = keep
        empty_damaged_notes(self.folder)
        with _by_itself():
            self._checkpointer = ocp.training.Checkpointer(
                str(self.folder),
                preservation_policy=ocp.training.preservation_policies.LatestN(keep),
                cleanup_tmp_directories=True,
            )

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps with a checkpoint, rising; one that is being written counts once it is whole."""
        return tuple(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

    def check_room(self, abstract_state: Any) -> None:
        """Makes sure, before hours of training, that all checkpoints to be kept can be written.

        Raises:
            OSError: the disk has too little room for them, or the folder cannot be written.
        """
        _check_room(self.folder, abstract_state, max(self._keep + 1 - len(self.steps), 1))

    def save(self, step: int, state: Any, metadata: Mapping[str, Any] | None = None) -> None:
        """Starts to save the state after `step` steps, with metadata that JSON can hold.

        The arrays are copied to the host before it returns, so the state may be donated to the next step at once; the
        writing goes on in the background. A save still under way is waited for, never dropped. A checkpoint of the
        same step is replaced.

        Raises:
            OSError: this or the save before it could not be written.
        """
        self.wait()
        _check_room(self.folder, state)
        if jax.process_count() > 1:  # Orbax takes an array on one device for a part of what all processes save
            state = jax.tree.map(np.asarray, state)
        # By default Orbax skips a save while another is under way or a newer step exists, and only says so by None.
        with _saving(self.folder):
            self._pending = self._checkpointer.save_async(
                step, state, force=True, overwrite=True, custom_metadata=notes_of(state, metadata or {})
            )
        if self._pending is None:
            raise OSError(f"the checkpoint of step {step} in {self.folder} was not written")

    def restore_latest(self, abstract_state: Any) -> Restored | None:
        """The newest checkpoint that is whole; None if there is no checkpoint at all.

        `abstract_state` is a pytree like the saved one, of `jax.ShapeDtypeStruct` (or of arrays, whose values do not
        matter). Leaves come back with its shardings, on the first device where it has none. A damaged checkpoint is
        named in the remarks and left in place until its step is saved again.

        Raises:
            UserError: there are checkpoints, but none is whole, or they are of another state than `abstract_state`.
        """
        self.wait()
        target = jax.tree.map(_with_sharding, abstract_state)
        remarks: list[str] = []
        for checkpoint in reversed(self._checkpointer.checkpoints):
            try:
                state, metadata = self._load(checkpoint.step, target)
            except UserError:
                raise
            except Exception as error:  # Orbax and its storage raise whatever the damage leads them to
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                remarks.append(f"checkpoint {checkpoint.path} is damaged and was passed over: {reason}")
            else:
                return Restored(state, checkpoint.step, metadata, tuple(remarks))
            _drop_unfinished_reads()
        if remarks:
            raise UserError(f"no checkpoint in {self.folder} is whole; remove the folder to begin anew\n"
                            + "\n".join(remarks))  # fmt: skip
        return None

    def wait(self) -> None:
        """Waits until the save under way, if any, is on the disk.

        Raises:
            OSError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with _saving(self.folder):
                pending.result()

    def close(self) -> None:
        """Waits for the save under way and ends the background threads; may be called twice.

        Raises:
            OSError: the save could not be written.
        """
        try:
            self.wait()
        finally:
            with _saving(self.folder):
                self._checkpointer.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _load(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        read_through(self.folder / str(step) / "state")  # before Orbax looks into it at all
        found = self._checkpointer.metadata(step)
        notes = sound_notes(found.custom_metadata)
        refuse_other_layout(found.path, notes, target)
        state = self._checkpointer.load(step, target)
        refuse_other_numbers(state, notes)
        return state, metadata_in(notes)


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a folder, whole or not; 0 without one, or without the folder."""
    return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)


@contextlib.contextmanager
def _by_itself() -> Iterator[None]:
    """Orbax made in this block waits for no other process: of several that train together one alone saves.

    They all hold the same state, and the others need not reach the folder.
    """
    if jax.process_count() == 1:
        yield
        return
    me = jax.process_index()
    own = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    # Orbax refuses to make a folder for some processes alone, and asks for it to be made by the caller, as here it is;
    # but its v1 interface has no word for that (`create=False` in v0).
    make, checkpoint_manager._create_root_directory = checkpoint_manager._create_root_directory, _made_already
    try:
        with ocp.Context(multiprocessing_options=own):
            yield
    finally:
        checkpoint_manager._create_root_directory = make


def _made_already(*args: Any, **kwargs: Any) -> None:
    """Stands for Orbax's making of a folder that is there."""


def _drop_unfinished_reads() -> None:
    """Collects, in silence, the reads that Orbax leaves unfinished when a load fails; else each prints a traceback when
    the collector comes by it, at some later moment.
    """
    shown, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = shown


def _check_room(folder: Path, state: Any, copies: int = 1) -> None:
    """Refuses a save that cannot end well; half-way, Orbax may wait for minutes before it says so."""
    one = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) + (1 << 20)
    needed = copies * one
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed >> 20} MiB needed, {free >> 20} MiB free", str(folder))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _failure(folder, error) from error


def _failure(folder: Path, error: Exception) -> OSError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return OSError(f"{_FAILED} to {folder}: {reason}; make room or mend the disk, then "
                   "the same command resumes from the checkpoint before")  # fmt: skip


@contextlib.contextmanager
def _saving(folder: Path) -> Iterator[None]:
    """Turns what Orbax and its storage raise while saving into an OSError that says what to do."""
    try:
        yield
    except OSError as error:
        # One that was said before, of the save under way, is not wrapped into itself.
        raise error if str(error).startswith(_FAILED) else _failure(folder, error) from error
    except Exception as error:
        raise _failure(folder, error) from error


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
