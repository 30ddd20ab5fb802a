"""Random contrast, on boxes that a person can follow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import AugmentationConfig
from ivdjax.learning.contrast import CLASSES, S1_BLOCK, Classes, calmed, change_contrast
from tests.learning.test_augmentation import quick_keys, still


def contrast(settings: AugmentationConfig, image: np.ndarray, count: int = 32) -> np.ndarray:
    return np.asarray(
        jax.jit(jax.vmap(lambda key: change_contrast(key, jnp.asarray(image), settings)))(quick_keys(3, count))
    )


GREY = np.random.default_rng(4).uniform(0.1, 0.9, (16, 12, 3)).astype(np.float32)


def test_gamma_is_an_exponent_of_each_channel():
    np.testing.assert_allclose(contrast(still(gamma=(2, 2)), GREY, 1)[0], GREY**2, rtol=1e-4)
    exponents = np.log(contrast(still(gamma=(0.5, 2)), GREY)) / np.log(GREY)
    np.testing.assert_allclose(exponents, np.broadcast_to(exponents[:, :1, :1], exponents.shape), rtol=1e-3)
    found = exponents[:, 0, 0]
    assert 0.5 <= found.min() < 0.6 and 1.6 < found.max() <= 2 and (np.ptp(found, axis=1) > 0).all()


def test_calm_makes_changes_rarer_or_weaker_and_leaves_the_rest():
    strong = AugmentationConfig(
        noise=0.1, blur=2.0, redistribution=0.4, edges=0.2, slice_probability=0.5, channel_dropout=0.3, calm=0.5
    )
    calm = calmed(strong)
    assert (calm.noise, calm.blur, calm.redistribution, calm.edges) == (0.05, 1.0, 0.2, 0.1)
    assert calm.slice_probability == 0.25 and calm.channel_dropout == 0.3
    assert (calm.gamma, calm.bias, calm.scale, calm.remap) == (strong.gamma, strong.bias, strong.scale, strong.remap)


@pytest.mark.parametrize("dropout", [0.5, 1.0])
def test_one_channel_survives_dropout(dropout):
    alive = contrast(still(channel_dropout=dropout), GREY, 128).any(axis=(1, 2))
    assert (alive.sum(axis=1) >= 1).all()
    assert set(alive.argmax(axis=1)) == {0, 1, 2}
    if dropout == 1:
        assert (alive.sum(axis=1) == 1).all()
    else:  # 0.5 of the two that are not spared
        assert 0.55 < alive.mean() < 0.8
    alone = contrast(still(channel_dropout=dropout), GREY[..., :1])
    np.testing.assert_allclose(alone, np.broadcast_to(GREY[..., :1], alone.shape), rtol=1e-5)


def test_remapping_is_one_curve_a_channel_and_leaves_air_dark():
    image = np.broadcast_to(np.linspace(0, 1, 16 * 12, dtype=np.float32).reshape(16, 12, 1), (16, 12, 2))
    mapped = contrast(still(remap=1, remap_probability=1), image, 64)
    air = image <= 0.02
    np.testing.assert_allclose(mapped[:, air], np.broadcast_to(image[air], mapped[:, air].shape), atol=1e-5)
    assert (np.abs(mapped - image).max(axis=(1, 2)) > 0).all()  # every channel of every sample
    rises = np.diff(mapped.reshape(64, -1, 2)[:, 8:], axis=1)
    assert (rises >= -1e-5).all(axis=1).mean() > 0.4  # half of the curves only rise; some fall
    assert (rises <= 1e-5).all(axis=1).any()
    never = contrast(still(remap=1, remap_probability=0), image, 4)
    np.testing.assert_allclose(never, np.broadcast_to(image, never.shape), atol=1e-5)


def test_a_bias_field_is_smooth_and_shared_by_the_channels():
    image = np.full((16, 12, 2), 0.5, np.float32)
    field = contrast(still(bias=0.3), image) / 0.5
    np.testing.assert_allclose(field[..., 0], field[..., 1], rtol=1e-6)
    assert (np.abs(field - 1) < 1.5 * 0.3).all()  # the cubic may overshoot its control points
    assert (np.ptp(field, axis=(1, 2)) > 0.01).all()
    assert (np.abs(np.diff(field, axis=1)) < np.ptp(field, axis=(1, 2))[:, None, None] / 3).all()


def test_noise_is_drawn_for_each_voxel_within_its_strength():
    image = np.full((16, 12, 2), 0.5, np.float32)
    image[:, :6] = 1.0
    noisy = contrast(still(noise=0.1), image)
    strength = (noisy[:, :, 6:] - 0.5).std(axis=(1, 2, 3))
    assert strength.min() < 0.02 < 0.07 < strength.max() < 0.12
    assert noisy.max() == 1.0  # intensities stay between 0 and 1


def test_blur_keeps_the_sum_and_smooths():
    point = np.zeros((15, 15, 1), np.float32)
    point[7, 7] = 1.0
    blurred = contrast(still(blur=1.0), point)
    np.testing.assert_allclose(blurred.sum(axis=(1, 2, 3)), 1.0, rtol=1e-3)
    peaks = blurred[:, 7, 7, 0]
    assert peaks.min() < 0.35 and peaks.max() > 0.9
    rows, columns = blurred[..., 0].max(axis=2)[:, 6], blurred[..., 0].max(axis=1)[:, 6]
    assert np.abs(rows - columns).max() > 0.05, "rows and columns lose their resolution apart from each other"
    np.testing.assert_allclose(blurred, blurred[:, ::-1], atol=1e-6)


def test_a_solid_box_is_blurred_in_plane_and_has_one_exponent_and_one_choice_of_channels():
    point = np.zeros((5, 9, 9, 1), np.float32)
    point[2, 4, 4] = 1.0
    blurred = contrast(still(blur=1.0), point)
    assert not blurred[:, [0, 1, 3, 4]].any(where=blurred[:, [0, 1, 3, 4]] > 1e-5)
    np.testing.assert_allclose(blurred[:, 2].sum(axis=(1, 2, 3)), 1.0, rtol=1e-3)
    solid = np.broadcast_to(GREY[None], (2, *GREY.shape))
    assert set(map(tuple, contrast(still(channel_dropout=0.5), solid).any(axis=(2, 3)).sum(axis=1).tolist())) <= {
        tuple(2 * kept for kept in choice) for choice in np.ndindex(2, 2, 2) if any(choice)
    }
    exponents = np.log(contrast(still(gamma=(0.5, 2)), solid)) / np.log(solid)
    np.testing.assert_allclose(exponents, np.broadcast_to(exponents[:, :1, :1, :1], exponents.shape), rtol=1e-3)
    biased = contrast(still(bias=0.3), np.full((4, 16, 12, 2), 0.5, np.float32)) / 0.5
    assert (np.ptp(biased, axis=1).max(axis=(1, 2, 3)) > 0.005).all()  # the field changes from slice to slice too


STRIPES = np.repeat(np.arange(CLASSES), 4)[:, None] * np.ones((1, 12), int)
"""Classes (36, 12): four rows each."""
MEANS = np.linspace(0.0, 0.8, CLASSES, dtype=np.float32)
TEXTURE = np.random.default_rng(5).normal(0, 0.02, STRIPES.shape).astype(np.float32)


def recoloured(settings: AugmentationConfig, count: int = 64) -> np.ndarray:
    """Boxes (count, 36, 12) whose classes have the means `MEANS` and a spread of 0.02."""
    image = jnp.asarray(np.where(STRIPES > 0, MEANS[STRIPES] + TEXTURE, 0.0)[..., None])
    classes = Classes(jnp.asarray(STRIPES), jnp.asarray(MEANS[:, None]), jnp.full((CLASSES, 1), 0.02))
    change = jax.jit(jax.vmap(lambda key: change_contrast(key, image, settings, classes)))
    return np.asarray(change(quick_keys(6, count)))[..., 0]


@pytest.mark.parametrize("kind", ["redistribution", "new_means"])
def test_classes_change_against_each_other_and_air_stays_dark(kind):
    drawn = recoloured(still(**{kind: 1.0}))
    inner = drawn.reshape(64, CLASSES, 4, 12)[:, :, 1:3]
    means = inner.mean(axis=(2, 3))
    assert (drawn[:, :3] < 1e-3).all()
    assert (means[:, 1:].std(axis=0) > 0.1).all()
    order = np.argsort(means[:, 1:], axis=1)
    assert len({tuple(row) for row in order}) > 10, "no order of brightness is kept"
    alike = np.abs(means[:, S1_BLOCK] - means[:, 2]) < (0.05 if kind == "new_means" else 0.25)
    assert alike.mean() > 0.6, "the bone below L5/S1 goes with the vertebrae as a rule"
    if kind == "new_means":
        own = TEXTURE.reshape(CLASSES, 4, 12)[6, 1:3].ravel()
        texture = np.corrcoef(inner[:, 6].reshape(64, -1), own)[-1, :-1]
        assert np.mean(np.abs(texture) > 0.5) > 0.7, "a class keeps its own texture, upside down at times"
    np.testing.assert_allclose(recoloured(still(**{kind: 0.0}), 2), recoloured(still(), 2))


def test_an_inversion_exchanges_bright_and_dark_but_for_air():
    ramp = np.linspace(0, 1, 48, dtype=np.float32).reshape(8, 6, 1)
    turned = contrast(still(inversion=1.0), ramp, 2)[0]
    lit = ramp > 0.02
    np.testing.assert_allclose(turned[lit], 1 - ramp[lit], atol=1e-4)
    assert (turned[~lit] < 0.021).all()


def test_an_equalization_moves_each_intensity_towards_its_rank():
    skewed = (np.linspace(0.02, 1, 4000, dtype=np.float32) ** 4).reshape(80, 50, 1)
    equal = contrast(still(equalization=1.0), skewed, 1)[0]
    lit = skewed > 0.02
    rank = np.linspace(0, 1, 4000).reshape(80, 50, 1)
    np.testing.assert_allclose(equal[lit], (0.4 * skewed + 0.6 * rank)[lit], atol=0.03)


@pytest.mark.parametrize("kind", ["random_convolution", "edges"])
def test_filters_leave_half_of_the_image_and_stay_within_range(kind):
    image = np.zeros((24, 20, 1), np.float32)
    image[6:18, 5:15] = 0.8
    drawn = contrast(still(**{kind: 1.0}), image, 16)
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert len({box.tobytes() for box in drawn}) > 1 and np.abs(drawn - image).max() > 0.1
    assert (drawn[:, :4, :4] < 0.02).all(), "air stays dark"
