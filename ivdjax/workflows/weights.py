"""Network parameters in one file: a zip of .npy arrays under flattened names, readable by `numpy.load`.

Equal parameters give equal bytes, so that a checksum names a model. Reading never runs code from the file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameters = Mapping[str, Any]
"""Nested mappings whose leaves are arrays, the first key being the network's name."""

PRECISIONS = ("float32", "float16")


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
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy_bytes(name, array, precision))
    return sha256_of(path)


def read_weights(path: Path) -> dict[str, Any]:
    """The nested parameters in a file of `write_weights`, as float32 arrays.

    Raises:
        ValueError: the file is no such archive, or is cut off.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            flat = {name: np.asarray(archive[name], dtype=np.float32) for name in archive.files}
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no whole weights file: {error}") from error
    return unflatten(flat)


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
    np.lib.format.write_array(buffer, stored, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
