"""What `ablation.py` compares: the variants of the disc stage, each as overrides of one configuration.

There are two studies: the paper's choices against their alternatives, and the groups of contrast augmentation, each
left out in turn. The first variant of a study is the one that the others are compared with.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from ivdjax.config import Config, ConfigError, config_differences, plain_config, read_config
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

RECOLOURED = Path(__file__).resolve().parent.parent / "configs" / "lumbar.yaml"
"""The configuration whose contrast augmentation is looked at: that of the shipped model for any contrast."""

GROUPS: dict[str, tuple[str, ...]] = {
    "classes": ("redistribution=0.0", "new_means=0.0"),
    "inversion": ("inversion=0.0",),
    "curves": ("equalization=0.0", "remap=0.0", "gamma=[1.0, 1.0]"),
    "random_convolution": ("random_convolution=0.0",),
    "edges": ("edges=0.0",),
    "slices": ("slice_mm=0.0",),
    "resolution": ("blur=0.0", "noise=0.0"),
    "bias": ("bias=0.0",),
}
"""The groups of changes of contrast, and what switches each off in `augmentation`."""

ALL_GROUPS, NO_CONTRAST = "all_groups", "no_contrast"
WITHOUT_GROUPS: dict[str, tuple[str, ...]] = {
    ALL_GROUPS: (),
    **{f"no_{name}": tuple(f"augmentation.{key}" for key in keys) for name, keys in GROUPS.items()},
    NO_CONTRAST: tuple(f"augmentation.{key}" for keys in GROUPS.values() for key in keys),
}
"""What each variant changes in `all_groups`."""

STUDIES = {"paper": VARIANTS, "contrast": WITHOUT_GROUPS}


@dataclass(frozen=True)
class Study:
    """A configuration file with its overrides, as every variant begins from.

    The overrides are those of the user and of the budget; `name` is one of `STUDIES`.
    """

    path: Path
    overrides: tuple[str, ...]
    name: str = "paper"

    @property
    def variants(self) -> dict[str, tuple[str, ...]]:
        """What each variant changes in the first of them."""
        return STUDIES[self.name]

    @property
    def reference(self) -> str:
        """The variant that the others are compared with."""
        return next(iter(self.variants))

    def config(self, *more: str) -> Config:
        """The configuration with the paper's choices and further overrides."""
        return read_config(self.path, (*self.overrides, *PAPER_CHOICES, *more))


def budgeted(path: Path, overrides: tuple[str, ...], steps: int | None, name: str = "paper") -> Study:
    """The study of a configuration under a budget of steps, warm-up and cross-entropy shortened in proportion.

    The study of contrast begins with the contrast augmentation of `RECOLOURED`, unless an override says otherwise.

    Raises:
        ConfigError: the configuration cannot be used, or the number of steps is not positive.
    """
    config = read_config(path, overrides)
    if name == "contrast":
        overrides = (*recolouring(config), *overrides)
    quiet = (*overrides, "disc.training.validate_every=0")
    if steps is None:
        return Study(path, quiet, name)
    if steps < 1:
        raise ConfigError(f"--steps must be 1 or more, not {steps}")
    share = steps / config.disc.training.steps
    pace = (
        f"disc.training.steps={steps}",
        f"disc.loss.cross_entropy_steps={round(config.disc.loss.cross_entropy_steps * share)}",
        f"disc.optimizer.warmup_steps={round(config.disc.optimizer.warmup_steps * share)}",
    )
    return Study(path, (*quiet, *pace), name)


def recolouring(config: Config) -> tuple[str, ...]:
    """The contrast augmentation of `RECOLOURED` as overrides.

    Its blur, in voxels, becomes as many millimetres on this working grid as on the one where that training begins.
    """
    source = read_config(RECOLOURED, ())
    keys = [setting.partition("=")[0] for settings in GROUPS.values() for setting in settings]
    values = {
        key: plain_config(source)["augmentation"][key] for key in (*keys, "remap_probability", "slice_probability")
    }
    begun_mm = source.disc.coarse_spacing_mm if source.disc.coarse_until else source.preparation.spacing_mm
    values["blur"] *= begun_mm[0] / config.preparation.spacing_mm[0]
    return tuple(f"augmentation.{key}={json.dumps(value)}" for key, value in values.items())


def variant_config(study: Study, variant: str, seed: int) -> Config:
    """The configuration of one training.

    Of the plain U-Nets, `unet` is as wide as brings its parameters nearest in number to those of the paper's network,
    and `wide_unet` its arithmetic.

    Raises:
        ConfigError: the variant does not differ from the study's first one under this configuration.
    """
    changes = (f"seed={seed}", "stages=[disc]", *study.variants[variant])
    if variant == "unet":
        changes += (f"disc.network.stem={unet_width(study, parameter_count)}",)
    elif variant == "wide_unet":
        changes += (f"disc.network.stem={unet_width(study, flops)}",)
    config, reference = study.config(*changes), study.config(*changes[:2])
    loss = reference.disc.loss
    if variant == "cross_entropy" and loss.cross_entropy_steps >= reference.disc.training.steps:
        raise ConfigError(
            f"disc.loss.cross_entropy_steps is {loss.cross_entropy_steps}, so that no focal loss is used in any of the "
            f"{reference.disc.training.steps} steps; lower it, or leave out the variant cross_entropy"
        )
    if variant != study.reference and not config_differences(reference, config):
        raise ConfigError(
            f"the variant {variant} is the same as {study.reference} here ({', '.join(study.variants[variant])} holds "
            "for both); change the configuration, or leave the variant out"
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
