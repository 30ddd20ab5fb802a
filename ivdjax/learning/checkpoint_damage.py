"""How damage to a checkpoint is found: checksums beside its arrays, and a first reading of all that is stored.

The notes beside a checkpoint are CRC-32 and layout of its arrays, the caller's metadata, and a CRC-32 of all these.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore
from orbax.checkpoint.metadata import get_step_metadata

from ivdjax.volume import UserError

_CHECKSUM, _LAYOUT, _METADATA, _NOTES = "crc32", "layout", "metadata", "notes_crc32"

_ARRAY_FORMATS = {"zarr3": "zarr.json", "zarr": ".zarray"}
"""How Orbax may store an array: tensorstore's driver, and the file that describes the array."""


def notes_of(state: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What is saved beside a state, with the caller's metadata; JSON can hold it if it can hold these."""
    notes = {_CHECKSUM: checksum(state), _LAYOUT: layout(state), _METADATA: dict(metadata)}
    return {**notes, _NOTES: _notes_checksum(notes)}


def sound_notes(notes: Any) -> dict[str, Any]:
    """The notes beside a checkpoint, if they are those that were written.

    Raises:
        ValueError: they are missing or damaged.
    """
    if not isinstance(notes, dict) or not notes.keys() >= {_CHECKSUM, _LAYOUT, _METADATA}:
        raise ValueError("what was saved beside it is missing")
    if notes.get(_NOTES) != _notes_checksum(notes):  # before a flipped bit passes for another network
        raise ValueError("what was saved beside it is not what was written (checksum)")
    return notes


def metadata_in(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's metadata in the notes."""
    metadata: dict[str, Any] = notes[_METADATA]
    return metadata


def refuse_other_layout(path: Any, notes: Mapping[str, Any], target: Any) -> None:
    """Makes sure that a checkpoint holds arrays of the types and shapes that are wanted.

    Raises:
        UserError: it is of another network or optimizer.
    """
    saved, wanted = notes[_LAYOUT], layout(target)
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise UserError(
                f"checkpoint {path} is of another network or optimizer: {name} is {saved.get(name, 'missing')} there "
                f"and {wanted.get(name, 'missing')} here; remove the folder to begin anew, or train with what wrote it"
            )


def refuse_other_numbers(state: Any, notes: Mapping[str, Any]) -> None:
    """Makes sure that the arrays are those that were saved.

    Raises:
        ValueError: another checksum.
    """
    if checksum(state) != notes[_CHECKSUM]:
        raise ValueError("its numbers are not those that were saved (checksum)")


def checksum(state: Any) -> int:
    """CRC-32 over the bytes of all arrays of a pytree, in the order of its leaves; an empty tree gives 0."""
    value = 0
    for leaf in jax.tree.leaves(state):
        value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
    return value


def layout(state: Any) -> dict[str, str]:
    """Type and shape of every array of a pytree by its path, such as `{"params/conv/kernel": "float32[3,3,1,8]"}`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in leaves
    }


def _notes_checksum(notes: Mapping[str, Any]) -> int:
    kept = {name: notes[name] for name in (_CHECKSUM, _LAYOUT, _METADATA)}
    return zlib.crc32(json.dumps(kept, sort_keys=True).encode())


def empty_damaged_notes(folder: Path) -> None:
    """Empties notes beside a checkpoint that Orbax would stumble over, so that the checkpoint counts as damaged.

    It reads those of all checkpoints when it begins, and where a key in one is none of its own it gives up altogether.
    """
    for path in folder.glob("*/_CHECKPOINT_METADATA"):
        try:
            get_step_metadata(path.parent)
        except (ValueError, TypeError, KeyError):
            path.write_text("")


def read_through(folder: Path) -> None:
    """Reads and decodes every stored array once, so that a missing, shortened or damaged file is found here.

    Orbax's own load, when it fails on one array, leaves unfinished reads of the others behind, whose tracebacks reach
    the terminal at once and much later.

    Raises:
        ValueError: a file is missing or damaged.
    """
    base = {"driver": "ocdbt", "base": folder.as_uri() + "/"}
    keys = tensorstore.KvStore.open(base).result().list().result()
    arrays = [(driver, path.removesuffix(name)) for driver, name in _ARRAY_FORMATS.items()
              for path in (key.decode() for key in keys) if path.endswith(name)]  # fmt: skip
    if not arrays:
        raise ValueError("it holds no arrays")
    for driver, path in arrays:
        tensorstore.open({"driver": driver, "kvstore": {**base, "path": path}}).result().read().result()
