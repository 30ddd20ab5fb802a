"""What `ablation.py` compares: the variants of the disc stage, each as overrides of one configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from ivdjax.config import Config, ConfigError, config_differences, read_config
from ivdjax.learning.steps import abstract_state
from ivdjax.model.tasks import stage_network
from ivdjax.volume import UserError

PAPER, EVERYWHERE = "paper", "everywhere"
PAPER_CHOICES = ("disc.network.architecture=densenet", "disc.network.pyramid=dense", "disc.within_region=true")
PLAIN_UNET = "disc.network.architecture=unet"
VARIANTS: dict[str, tuple[str, ...]] = {
    PAPER: (),
    "parallel": ("disc.network.pyramid=parallel",),
    "serial": ("disc.network.pyramid=serial",),
    "unet": (PLAIN_UNET,),
    "wide_unet": (PLAIN_UNET,),
    "cross_entropy": ("disc.loss.gamma=0.0",),
    "no_path_losses": ("disc.loss.auxiliary=0.0",),
    EVERYWHERE: ("disc.within_region=false",),
}
"""What each variant changes in `paper`; for the width of the plain U-Nets see `variant_config`."""


@dataclass(frozen=True)
class Study:
    """A configuration file with its overrides, as every variant begins from.

    The overrides are those of the user and of the budget.
    """

    path: Path
    overrides: tuple[str, ...]

    def config(self, *more: str) -> Config:
        """The configuration with the paper's choices and further overrides."""
        return read_config(self.path, (*self.overrides, *PAPER_CHOICES, *more))


def budgeted(path: Path, overrides: tuple[str, ...], steps: int | None) -> Study:
    """The study of a configuration under a budget of steps, warm-up and cross-entropy shortened in proportion.

    Raises:
        ConfigError: the configuration cannot be used, or the number of steps is not positive.
    """
    config = read_config(path, overrides)
    quiet = (*overrides, "disc.training.validate_every=0")
    if steps is None:
        return Study(path, quiet)
    if steps < 1:
        raise ConfigError(f"--steps must be 1 or more, not {steps}")
    share = steps / config.disc.training.steps
    pace = (
        f"disc.training.steps={steps}",
        f"disc.loss.cross_entropy_steps={round(config.disc.loss.cross_entropy_steps * share)}",
        f"disc.optimizer.warmup_steps={round(config.disc.optimizer.warmup_steps * share)}",
    )
    return Study(path, (*quiet, *pace))


def variant_config(study: Study, variant: str, seed: int) -> Config:
    """The configuration of one training.

    Of the plain U-Nets, `unet` is as wide as brings its parameters nearest in number to those of the paper's network,
    and `wide_unet` its arithmetic.

    Raises:
        ConfigError: the variant does not differ from the paper's choices under this configuration.
    """
    changes = (f"seed={seed}", "stages=[disc]", *VARIANTS[variant])
    if variant == "unet":
        changes += (f"disc.network.stem={unet_width(study, parameter_count)}",)
    elif variant == "wide_unet":
        changes += (f"disc.network.stem={unet_width(study, flops)}",)
    config, paper = study.config(*changes), study.config(*changes[:2])
    loss = paper.disc.loss
    if variant == "cross_entropy" and loss.cross_entropy_steps >= paper.disc.training.steps:
        raise ConfigError(
            f"disc.loss.cross_entropy_steps is {loss.cross_entropy_steps}, so that no focal loss is used in any of the "
            f"{paper.disc.training.steps} steps; lower it, or leave out the variant cross_entropy"
        )
    if variant != PAPER and not config_differences(paper, config):
        raise ConfigError(
            f"the variant {variant} is the same as {PAPER} here ({', '.join(VARIANTS[variant])} holds for both); "
            "change the configuration, or leave the variant out"
        )
    return config


@functools.cache
def unet_width(study: Study, measure: Callable[[Config], float]) -> int:
    """The even width that brings a plain U-Net nearest to the paper's network by a measure that grows with width."""
    wanted = measure(study.config())
    below, width = 0.0, 2
    while (found := measure(study.config(PLAIN_UNET, f"disc.network.stem={width}"))) < wanted:
        below, width = found, width + 2
    return width - 2 if width > 2 and wanted - below < found - wanted else width


def parameter_count(config: Config) -> int:
    """Parameters of the segmentation network."""
    state = abstract_state(stage_network(config, "disc"), config.disc, len(config.data.channels))
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def flops(config: Config) -> float:
    """Floating-point operations of the segmentation network forward on one box, as XLA counts them.

    Raises:
        UserError: the device's compiler does not count them.
    """
    network = stage_network(config, "disc")
    box = jax.ShapeDtypeStruct((1, *config.disc.training.crop, len(config.data.channels)), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), box)
    counted = jax.jit(network.apply).lower(params, box).cost_analysis()
    if not counted or "flops" not in counted:
        raise UserError(
            f"the compiler for {jax.default_backend()} counts no operations; set JAX_PLATFORMS=cpu to compare there"
        )
    return float(counted["flops"])
