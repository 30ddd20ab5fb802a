"""Cases of another sequence as cases of a Dixon protocol, for a training on `data.made_from`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ivdjax.data.preparation import Prepared
from ivdjax.imaging.intensity import to_uint8
from ivdjax.learning.contrast import Classes
from ivdjax.learning.dixon import make_dixon
from ivdjax.model.targets import class_brightness, with_classes

_make = jax.jit(make_dixon, static_argnames="channels")
"""Compiled once for all cases of a shape."""


def as_dixon(case: Prepared, channels: Sequence[str]) -> Prepared:
    """A case of one channel with Dixon channels made from it, the same for the same name.

    Training draws others at every sample (`base`); these are what the region network sees of the case, and what a
    held-out case is validated on.

    Args:
        case: of one channel.
        channels: out of `ivdjax.volume.DIXON`.
    """
    told = with_classes(case)
    assert told.classes is not None  # for the type checker: `with_classes` gives them
    mean, sd = class_brightness(case.image, told.classes)
    classes = Classes(jnp.asarray(told.classes, jnp.int32), jnp.asarray(mean), jnp.asarray(sd))
    key = jax.random.key(zlib.crc32(case.name.encode()))
    made = np.asarray(_make(key, jnp.asarray(case.image[0]) / 255.0, classes, channels=tuple(channels)))
    return replace(told, channels=tuple(channels), image=to_uint8(np.moveaxis(made, -1, 0)), base=case.image[0])
