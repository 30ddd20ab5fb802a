"""Cases of another sequence that train as cases of a Dixon protocol."""

from __future__ import annotations

import jax
import numpy as np

from ivdjax.config import AugmentationConfig
from ivdjax.learning.augmentation import Crop, draw_sample
from ivdjax.training.device_cache import stack_volumes
from ivdjax.training.dixon_cases import as_dixon
from ivdjax.volume import DIXON
from tests.model.test_targets import prepared

STILL = AugmentationConfig(rotation_deg=0, scale=(1, 1), elastic_mm=0, noise=0, gamma=(1, 1), bias=0)


def test_a_case_gets_the_channels_and_keeps_the_image_that_they_come_from():
    case = prepared(levels=2)
    made = as_dixon(case, DIXON)
    assert made.channels == DIXON and made.image.shape == (4, *case.grid.shape) and made.classes is not None
    np.testing.assert_array_equal(made.base, case.image[0])
    np.testing.assert_array_equal(made.image, as_dixon(case, DIXON).image)


def test_every_sample_of_such_a_case_has_other_channels_and_others_keep_their_own():
    made = as_dixon(prepared(levels=2), DIXON)
    crop = Crop((24, 28), (1.5, 1.0), 0.0, made=DIXON)
    volumes = jax.tree.map(jax.numpy.asarray, stack_volumes([made], made.grid.shape))
    draw = jax.jit(jax.vmap(lambda key, given: draw_sample(key, given, crop, STILL), in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), 12)
    drawn = np.asarray(draw(keys, volumes).image)
    assert drawn.shape == (12, 24, 28, 4)
    assert drawn.mean(axis=(1, 2)).std(axis=0).min() > 0.02, "each is a scan of its own"
    kept = np.asarray(draw(keys, volumes._replace(made=0 * volumes.made)).image)
    assert kept.mean(axis=(1, 2)).std(axis=0).max() < 0.05
