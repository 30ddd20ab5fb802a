"""Network parameters in one file: a zip of .npy arrays under flattened names, readable by `numpy.load`.

Equal parameters give equal bytes, so that a checksum names a model. Reading never runs code from the file.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameters = Mapping[str, Any]
"""Nested mappings whose leaves are arrays, the first key being the network's name."""

PRECISIONS = ("float32", "float16")

MOST_INFLATED = 2**28
"""Bytes to which the compressed arrays of an archive may unpack, together."""

_LONGEST_NAME = 500
_SUFFIX, _NPY_VERSION = ".npy", (1, 0)
_KINDS = {"f": "floating-point numbers", "i": "whole numbers", "u": "whole numbers of 0 or more"}


def flatten(parameters: Parameters, prefix: str = "") -> dict[str, NDArray]:
    """Arrays under their paths, `network/layer/.../kernel`, in sorted order; empty mappings vanish.

    Raises:
        ValueError: a key is empty or holds a slash.
    """
    flat: dict[str, NDArray] = {}
    for key in sorted(parameters):
        if not key or "/" in key:
            raise ValueError(f"a parameter's name must be text without a slash, not {key!r} (under {prefix!r})")
        value = parameters[key]
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = np.asarray(value)
    return flat


def unflatten(flat: Mapping[str, NDArray]) -> dict[str, Any]:
    """The nested mappings whose `flatten` this is.

    Raises:
        ValueError: one path runs through another's array.
    """
    nested: dict[str, Any] = {}
    for path, array in flat.items():
        *sections, last = path.split("/")
        node = nested
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path} runs through an array")
        if last in node:
            raise ValueError(f"{path} occurs twice")
        node[last] = array
    return nested


def write_weights(path: Path, parameters: Parameters, precision: str = "float32") -> str:
    """Writes floating-point parameters in the given precision; gives the file's SHA-256 in hexadecimal.

    float16 halves the file at a relative error of at most 2^-11 per parameter; `read_weights` gives float32 either way.

    Raises:
        ValueError: there are no parameters, a precision other than float32 or float16, an array that does not hold
            floating-point numbers, or a number that is not finite (float16: beyond 65504).
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    flat = flatten(parameters)
    if not flat:
        raise ValueError("there are no parameters to write")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in flat.items():
            # The default date of a ZipInfo is fixed (1980): equal parameters give equal bytes.
            archive.writestr(zipfile.ZipInfo(name + _SUFFIX), _npy_bytes(name, array, precision))
    return sha256_of(path)


def read_weights(path: Path) -> dict[str, Any]:
    """The nested parameters in a file of `write_weights`, as float32 arrays.

    Raises:
        ValueError: as `read_arrays`; or a number that is not finite, or a path that runs through another's array.
        OSError: it cannot be read.
    """
    flat = {name: array.astype(np.float32) for name, array in read_arrays(path, "f").items()}
    for name, array in flat.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds a number that is not finite")
    return unflatten(flat)


def read_arrays(path: Path, kinds: str) -> dict[str, NDArray]:
    """The arrays in an .npz archive by name, from plain numbers alone: a pickle is refused unread.

    Nothing is taken from memory on a header's word: what is stored is read, and must be as much as the header says.
    Names are names; nothing is unpacked.

    Args:
        path: of the archive.
        kinds: NumPy's letters for the kinds of numbers that it may hold: f, i, u.

    Raises:
        ValueError: the file is no such archive, is cut off, holds anything but such arrays, two of one name, or
            compressed ones of more than `MOST_INFLATED` bytes together.
        OSError: it cannot be read.
    """
    arrays: dict[str, NDArray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist() if entry.compress_type)
            if inflated > MOST_INFLATED:
                raise ValueError(f"it would unpack to {inflated} bytes, more than {MOST_INFLATED}")
            for entry in archive.infolist():
                name = entry.filename.removesuffix(_SUFFIX)
                if len(name) > _LONGEST_NAME:
                    raise ValueError(f"a name in it has {len(name)} letters, more than {_LONGEST_NAME}")
                if name in arrays or name == entry.filename:
                    what = "is given twice" if name in arrays else "is no array (.npy)"
                    raise ValueError(f"{entry.filename} {what}")
                arrays[name] = _read_array(archive, entry, kinds)
    except (OSError, ValueError):
        raise
    except Exception as error:  # on damaged bytes zipfile, its unpackers and NumPy's reader of headers raise anything
        raise ValueError(f"it is no whole archive of arrays: {type(error).__name__}: {str(error)[:200]}") from error
    return arrays


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, kinds: str) -> NDArray:
    """One array of an archive; a ValueError if it is damaged or of another kind."""
    with archive.open(entry) as stream:
        if np.lib.format.read_magic(stream) != _NPY_VERSION:
            raise ValueError(f"{entry.filename} is of another version of NumPy's format")
        shape, by_column, kind = np.lib.format.read_array_header_1_0(stream)
        if kind.kind not in kinds:
            raise ValueError(f"{entry.filename} must hold {' or '.join(_KINDS[k] for k in kinds)}, not {kind}")
        content = stream.read()
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"{entry.filename} holds {len(content)} bytes, not the {kind} {shape} that it promises")
    return np.frombuffer(content, kind).reshape(shape, order="F" if by_column else "C").copy()


def misfits(parameters: Parameters, wanted: Parameters) -> list[str]:
    """What keeps parameters from being those of a network, a sentence each, by rising name; empty where they fit.

    Args:
        parameters: nested arrays.
        wanted: the same nesting of anything with a `shape`, as the network has it.
    """
    given, needed = ({name: leaf.shape for name, leaf in _leaves(tree)} for tree in (parameters, wanted))
    return [
        f"{name} is missing" if name not in given
        else f"{name or 'an array in place of layers'} belongs to no layer" if name not in needed
        else f"{name} has the shape {tuple(given[name])}, and the network needs {tuple(needed[name])}"
        for name in sorted(given.keys() | needed.keys())
        if given.get(name) != needed.get(name)
    ]  # fmt: skip


def shortened(misfits: Sequence[str]) -> str:
    """The first three misfits, and how many more there are, for a message."""
    more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
    return "; ".join(misfits[:3]) + more


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a nesting with its path, `layer/kernel`."""
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{path}/{key}" if path else str(key))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _npy_bytes(name: str, array: NDArray, precision: str) -> bytes:
    # jax's bfloat16 is of kind V for NumPy, but a name tells.
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ValueError(f"parameter {name} must hold floating-point numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array.astype(precision)).reshape(array.shape)
    if not np.isfinite(stored).all():
        raise ValueError(f"parameter {name} holds a number that is not finite in {precision}")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, stored, version=_NPY_VERSION, allow_pickle=False)
    return buffer.getvalue()
