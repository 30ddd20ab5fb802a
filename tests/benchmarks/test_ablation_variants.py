"""What the ablation's variants change, and under which budget."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import ablation_variants
from benchmarks.ablation_variants import (
    ALL_GROUPS,
    GROUPS,
    NO_CONTRAST,
    PAPER,
    RECOLOURED,
    VARIANTS,
    Study,
    budgeted,
    flops,
    parameter_count,
    unet_width,
    variant_config,
)
from ivdjax.config import AugmentationConfig, ConfigError, config_differences, read_config
from ivdjax.learning.contrast import change_contrast
from ivdjax.volume import UserError

YAML = """
name: small
data: {validation: [b]}
disc:
  network:
    {stem: 4, growth: [4, 4, 4], layers: [1, 1, 1], aspp_rates: [1, 2], aspp_growth: 4, path: [4, 4, 4], groups: 4}
  loss: {cross_entropy_steps: 20, gamma: 1.0}
  optimizer: {warmup_steps: 10}
  training: {steps: 100, crop: [16, 16], validate_every: 7}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(YAML, encoding="utf-8")
    return file


@pytest.fixture
def study(path: Path) -> Study:
    return budgeted(path, (), None)


def test_a_budget_scales_warm_up_and_cross_entropy_with_the_steps(path):
    config = budgeted(path, ("disc.network.stem=8",), 50).config()
    training, loss, optimizer = config.disc.training, config.disc.loss, config.disc.optimizer
    assert (training.steps, loss.cross_entropy_steps, optimizer.warmup_steps) == (50, 10, 5)
    assert (training.validate_every, config.disc.network.stem) == (0, 8)


def test_without_a_budget_the_configuration_sets_the_steps(study):
    config = study.config()
    assert (config.disc.training.steps, config.disc.loss.cross_entropy_steps) == (100, 20)


def test_a_budget_of_no_steps_is_refused(path):
    with pytest.raises(ConfigError, match="--steps must be 1 or more, not 0"):
        budgeted(path, (), 0)


@pytest.mark.parametrize(
    ("variant", "keys"),
    [
        ("parallel", ["disc.network.pyramid"]),
        ("serial", ["disc.network.pyramid"]),
        ("cross_entropy", ["disc.loss.gamma"]),
        ("no_path_losses", ["disc.loss.auxiliary"]),
        ("everywhere", ["disc.within_region"]),
    ],
)
def test_a_variant_differs_from_paper_in_one_choice(study, variant, keys):
    changes = config_differences(variant_config(study, PAPER, 3), variant_config(study, variant, 3))
    assert [change.partition(":")[0] for change in changes] == keys


def test_each_group_of_changes_is_left_out_alone(path):
    study = budgeted(path, (), None, "contrast")
    for group, settings in GROUPS.items():
        changes = config_differences(variant_config(study, ALL_GROUPS, 3), variant_config(study, f"no_{group}", 3))
        keys = {setting.partition("=")[0] for setting in settings}
        assert {change.partition(":")[0] for change in changes} == {f"augmentation.{key}" for key in keys}


def test_all_groups_are_those_of_the_shipped_model_with_its_blur_in_millimetres(path):
    study = budgeted(path, ("preparation.spacing_mm=[2.5, 2.5]", "augmentation.edges=0.3"), None, "contrast")
    source, found = read_config(RECOLOURED, ()), variant_config(study, ALL_GROUPS, 1).augmentation
    wanted = source.augmentation
    assert source.disc.coarse_until and found.blur * 2.5 == pytest.approx(
        wanted.blur * source.disc.coarse_spacing_mm[0]
    )
    assert (found.gamma, found.new_means, found.slice_probability) == (
        wanted.gamma, wanted.new_means, wanted.slice_probability
    )  # fmt: skip
    assert found.edges == 0.3, "what the user sets comes last"
    assert found.rotation_deg == AugmentationConfig().rotation_deg, "geometry is not contrast"


def test_without_any_change_of_contrast_a_box_keeps_its_intensities(path):
    settings = variant_config(budgeted(path, (), None, "contrast"), NO_CONTRAST, 1).augmentation
    image = jnp.linspace(0.1, 0.9, 16 * 16).reshape(16, 16, 1)
    assert jnp.allclose(change_contrast(jax.random.key(0), image, settings), image, atol=1e-6)


def test_every_variant_trains_the_disc_stage_alone_with_its_seed(study, monkeypatch):
    monkeypatch.setattr(ablation_variants, "unet_width", lambda *args: 6)
    for variant in VARIANTS:
        config = variant_config(study, variant, 5)
        assert (config.seed, config.stages) == (5, ("disc",))


def test_the_paper_s_choices_hold_whatever_the_configuration_says(path):
    study = budgeted(path, ("disc.network.pyramid=serial", "disc.within_region=false"), None)
    config = variant_config(study, PAPER, 1)
    assert config.disc.network.pyramid == "dense" and config.disc.within_region


def test_variants_that_change_nothing_are_refused(path):
    study = budgeted(path, ("disc.loss.gamma=0.0",), None)
    with pytest.raises(ConfigError, match=r"cross_entropy is the same as paper here \(disc.loss.gamma=0.0 holds"):
        variant_config(study, "cross_entropy", 1)


def test_cross_entropy_is_refused_where_no_focal_loss_would_be_used(path):
    study = budgeted(path, ("disc.loss.cross_entropy_steps=100",), None)
    with pytest.raises(ConfigError, match="no focal loss is used in any of the 100 steps"):
        variant_config(study, "cross_entropy", 1)


@pytest.mark.parametrize(("wanted", "width"), [(1.0, 2), (16.0, 4), (27.0, 6), (24.0, 4)])
def test_the_nearest_even_width_is_taken(study, wanted, width):
    """With a measure of width squared: 4, 16, 36, 64 ..."""

    def square(config):
        network = config.disc.network
        return float(network.stem**2) if network.architecture == "unet" else wanted

    assert unet_width(study, square) == width


def test_parameters_and_operations_are_those_of_a_network_counted_by_hand(path):
    """A plain U-Net of width 2 begins with a 3 x 3 convolution from one channel: only its input's channels change."""
    one = budgeted(path, ("disc.network.architecture=unet",), None)
    two = budgeted(path, ("disc.network.architecture=unet", "data.channels=[a, b]"), None)
    unet = ("disc.network.architecture=unet", "disc.network.stem=2")
    assert parameter_count(two.config(*unet)) - parameter_count(one.config(*unet)) == 3 * 3 * 2
    # At each of 16 x 16 voxels 2 outputs gain up to 9 products and sums; at the rim there are fewer.
    assert 2 * 14 * 14 * 9 * 2 <= flops(two.config(*unet)) - flops(one.config(*unet)) <= 2 * 16 * 16 * 9 * 2 + 2 * 256


def test_a_compiler_that_counts_nothing_is_named(study, monkeypatch):
    class Mute:
        def lower(self, *args):
            return self

        def cost_analysis(self):
            return None

    monkeypatch.setattr(ablation_variants.jax, "jit", lambda function: Mute())
    with pytest.raises(UserError, match="the compiler for cpu counts no operations; set JAX_PLATFORMS=cpu"):
        flops(study.config())
