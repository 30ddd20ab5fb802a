"""The configuration: plain YAML into frozen dataclasses, strictly.

An unknown key is refused with the nearest known one, a value of the wrong type or length is named with its key, and a
number that YAML read as text (`1e-3` without a dot) is explained; so is one out of its range (see `schema`). Overrides
have the form `section.key=value`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ivdjax.schema import ConfigError, check_values, parse, parse_yaml

_GONE = ("inference.sure",)
"""Keys of earlier versions that nothing heeds any more."""

STAGES: tuple[str, ...] = ("region", "disc", "localization")
"""The stages of a training in the order in which they run: each may use what the ones before it have learned."""


@dataclass(frozen=True)
class DataConfig:
    """Which cases are read, and which of them train.

    Attributes:
        root: dataset folder (`<root>/<case>/<case>_<channel>.nii.gz`); empty where phantoms are made.
        channels: channel names in the order in which the network sees them.
        made_from: the channel that the cases of `root` have, from which Dixon channels (fat, inn, opp, wat) are made in
            training, for want of real ones; empty: the cases have `channels` themselves.
        subject_pattern: regular expression whose first group, searched in a case's name, is its subject; empty: every
            case is a subject of its own.
        subject_table: CSV with the columns case and subject, and fold where folds are given, in place of the pattern.
        validation: case names held out from training (with every other case of the same subject).
        folds: number of folds by subject, for `train --fold K` and `cross-validate`; 0: none.
        phantom_cases: synthetic cases to make in the run's folder; beside a `root` they only ever train.
        phantom_seed: seed of those cases.
        phantom_visits: cases of one synthetic subject.
        phantom_shape: voxels (D, H, W) of those cases; empty: the phantom's own.
        phantom_spacing_mm: voxel size (D, H, W) of those cases; empty: the phantom's own.
        phantom_fields: fields of view of those cases in turn (full, slab, clinical); empty: full.
        phantom_hard: hard kinds of those cases in turn, "" for an ordinary one; empty: all ordinary.
        cache: folder for prepared cases, enough in itself where the images are not at hand; empty: the run's folder.
        all_discs_outlined: whether every visible disc has a label. If not, voxels more than 5 mm above the top
            outlined disc take no part in the loss of the region and disc stages.
        credit: who made the training data; kept in the model.
        licence: licence of the training data; kept in the model.
        limits: sentences on what the model was not trained for; kept in the model.
        synthetic: whether the training data are phantoms; kept in the model and shown with its results.
        paper_figures: whether the data are IVDM3Seg's public sets, so that a cross-validation's tables show the figures
            of the paper beside its own.
    """

    root: str = ""
    channels: tuple[str, ...] = ("t2",)
    made_from: str = ""
    subject_pattern: str = ""
    subject_table: str = ""
    validation: tuple[str, ...] = ()
    folds: int = 0
    phantom_cases: int = 0
    phantom_seed: int = 0
    phantom_visits: int = 1
    phantom_shape: tuple[int, ...] = ()
    phantom_spacing_mm: tuple[float, ...] = ()
    phantom_fields: tuple[str, ...] = ()
    phantom_hard: tuple[str, ...] = ()
    cache: str = ""
    all_discs_outlined: bool = False
    credit: str = ""
    licence: str = ""
    limits: tuple[str, ...] = ()
    synthetic: bool = False
    paper_figures: bool = False


@dataclass(frozen=True)
class PreparationConfig:
    """The working grid and the intensity normalisation; the same for training and inference.

    Attributes:
        spacing_mm: in-plane spacing (H, W) of the working grid.
        max_slice_mm: sagittal slices up to this thickness stay as acquired; thicker ones, and axial or coronal
            acquisitions, are resampled to `reformat_slice_mm`.
        reformat_slice_mm: slice thickness after reformatting.
        percentiles: intensities of the volume's tissue that become 0 and 1, per channel.
    """

    spacing_mm: tuple[float, float] = (1.25, 1.25)
    max_slice_mm: float = 5.5
    reformat_slice_mm: float = 2.0
    percentiles: tuple[float, float] = (0.5, 99.5)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training sample, drawn inside the compiled step (paper, section 3.1).

    Attributes:
        rotation_deg: largest rotation in the sagittal plane; a third of it about the two other axes.
        scale: factors (smallest, largest) of size.
        elastic_mm: standard deviation of the displacement at the control points of the 3D deformation.
        elastic_step_mm: distance between those control points.
        noise: largest standard deviation of the Gaussian noise, on intensities of 0 to 1.
        gamma: exponents (smallest, largest), drawn on a logarithmic scale.
        remap: strength, 0 to 1, of a random monotone or non-monotone remapping of intensities.
        remap_probability: how often a sample is remapped.
        bias: largest relative change of a smooth multiplicative field over the crop.
        blur: largest standard deviation in voxels of a blur along rows and along columns, standing for coarser scans.
        channel_dropout: probability with which each channel is blanked; one always stays.
        redistribution: probability that each class of tissue grows brighter or darker against the others.
        new_means: probability that each class gets a brightness drawn anew, its own texture kept.
        inversion: probability that bright and dark are exchanged.
        equalization: probability of a histogram equalization.
        random_convolution: probability of half a convolution with a random kernel.
        edges: probability of half an edge filter, or of sharpening.
        slice_mm: largest thickness of the slice that a 2D box is averaged over; 0: slices stay as acquired.
        slice_probability: how often that is done.
        cut: largest shares of a volume's height and depth that are cut from the field of view above, below, in front
            and behind.
        cut_probability: how often each of the four sides is cut.
        overhang: share of its sides by which a box may stand out of the volume in plane, so that the body lies anywhere
            in it. Inference then looks for levels with half as much air round the image.
    """

    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.85, 1.2)
    elastic_mm: float = 2.0
    elastic_step_mm: float = 32.0
    noise: float = 0.05
    gamma: tuple[float, float] = (0.7, 1.4)
    remap: float = 0.0
    remap_probability: float = 0.5
    bias: float = 0.2
    blur: float = 0.0
    channel_dropout: float = 0.0
    redistribution: float = 0.0
    new_means: float = 0.0
    inversion: float = 0.0
    equalization: float = 0.0
    random_convolution: float = 0.0
    edges: float = 0.0
    slice_mm: float = 0.0
    slice_probability: float = 0.5
    cut: tuple[float, float, float, float] = (0.5, 0.35, 0.3, 0.25)
    cut_probability: float = 0.0
    overhang: float = 0.0


@dataclass(frozen=True)
class DiscNetConfig:
    """Widths and depths of the segmentation network (paper, section 2.1, Fig. 3).

    Attributes:
        architecture: densenet (the paper's), or unet: a plain U-Net of four downsamplings, of which only `stem` and
            `groups` tell the widths, to compare with.
        pyramid: how the atrous rates are connected: dense (the paper's), parallel or serial.
        stem: channels after the first convolution.
        growth: channels that each dense layer adds, for the blocks at full, half and quarter resolution.
        layers: number of dense layers in the three blocks.
        bottleneck: channels of the 1 x 1 convolution before each 3 x 3 one, as a multiple of the growth; 0: none.
        se_ratio: reduction inside squeeze-and-excitation.
        aspp_rates: dilation rates of the densely connected atrous pyramid on the coarsest map.
        aspp_growth: channels that each rate adds.
        path: channels of the three resolution paths.
        path_layers: convolutions of the three resolution paths.
        groups: channels in one group of the group normalisation.
    """

    architecture: str = "densenet"
    pyramid: str = "dense"
    stem: int = 16
    growth: tuple[int, int, int] = (16, 16, 16)
    layers: tuple[int, int, int] = (4, 4, 8)
    bottleneck: int = 0
    se_ratio: int = 4
    aspp_rates: tuple[int, ...] = (3, 6, 12, 18, 24)
    aspp_growth: int = 32
    path: tuple[int, int, int] = (16, 32, 64)
    path_layers: tuple[int, int, int] = (1, 1, 1)
    groups: int = 8


@dataclass(frozen=True)
class UNetConfig:
    """Widths and depth of a U-Net (paper, section 2.3 and reference 13).

    Attributes:
        width: channels at full resolution; each level below has twice as many.
        downsamplings: by two each; 1 to 8.
        layers: convolutions at each resolution, on the way down and on the way up.
        groups: channels in one group of the group normalisation.
    """

    width: int = 8
    downsamplings: int = 4
    layers: int = 2
    groups: int = 8


@dataclass(frozen=True)
class VNetConfig:
    """Widths and depths of the 3D localization network (paper, section 2.2 and reference 11).

    Attributes:
        widths: channels at each resolution, from the finest.
        layers: convolutions in the residual block of each resolution.
        slice_pooling: factors by which slices are pooled between the resolutions; in plane it is always 2, so that a
            slab of few slices survives.
        groups: channels in one group of the group normalisation.
        places: whether the network is told where in its box a voxel lies. It then learns levels sooner, and leans on
            the field of view.
    """

    widths: tuple[int, ...] = (8, 16, 32, 64, 96)
    layers: tuple[int, ...] = (1, 2, 2, 2, 3)
    slice_pooling: tuple[int, ...] = (1, 2, 2, 1)
    groups: int = 8
    places: bool = True


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy first, focal loss after it (paper, section 2.4, eq. 1).

    One form serves all stages; "disc" stands for every class that is not background.

    Attributes:
        cross_entropy_steps: steps of cross-entropy (weighted by alpha) before the focal loss takes over.
        alpha: weights (background, disc) in eq. 1; equal values give the paper's single alpha.
        gamma: exponent in eq. 1; 0 is cross-entropy.
        auxiliary: weight of each resolution path's own loss beside the fused output's.
        tissues: weight of a voxel's loss of vertebra and canal beside one of the discs, where they are outlined too.
    """

    cross_entropy_steps: int = 300
    alpha: tuple[float, float] = (1.0, 1.0)
    gamma: float = 2.0
    auxiliary: float = 0.3
    tissues: float = 0.2


@dataclass(frozen=True)
class OptimizerConfig:
    """How parameters move.

    Attributes:
        name: adamw or sgd.
        learning_rate: the peak, reached after `warmup_steps` and falling to `final_fraction` of itself by a cosine.
        warmup_steps: linear rise, from the peak over `warmup_steps + 1`.
        decay_steps: over how many last steps the rate falls, after it has stayed at the peak; 0: from the warm-up on. A
            run that has not begun to fall may be made longer or shorter, by other `training.steps`, and goes on.
        final_fraction: share of the peak left at the last step.
        weight_decay: decoupled decay, of kernels only.
        momentum: for sgd.
        clip_norm: largest global norm of a gradient.
        average_decay: decay of the running average of the parameters that is validated and shipped; 0: none.
    """

    name: str = "adamw"
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    decay_steps: int = 0
    final_fraction: float = 0.01
    weight_decay: float = 1e-2
    momentum: float = 0.9
    clip_norm: float = 1.0
    average_decay: float = 0.99


@dataclass(frozen=True)
class TrainingConfig:
    """Length and pace of a stage.

    Attributes:
        steps: optimizer steps.
        batch_size: crops a step, over all devices.
        crop: box in voxels of the stage's grid, (H, W) or for localization (D, H, W); inference uses the same box.
        disc_fraction: share of the crops that are centred near a disc; the others lie anywhere (in the spine region,
            where there is one).
        log_every: steps between two rows of the journal; the first and the last step have one too.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two validations on the held-out cases; 0: only at the end.
        validation_cases: how many held-out cases a validation during training looks at.
        resident_mib: volumes that lie on the device at once, at most; beyond it a subset that rotates.
        resident_steps: steps between two such subsets.
        compute: type in which the network computes, float32 or bfloat16; parameters, statistics of normalisations,
            logits, losses and sums of gradients are float32 either way.
        micro_batches: parts in which each device works off its share of a batch, one after the other; the step is that
            of the whole batch, in the memory of one part.
        remat: whether the backward pass computes again what lies between convolutions and did not keep it: less
            memory for some more time.
        keep: which parameters become the model: best (of the validations, by their mean figure) or last.
    """

    steps: int = 1000
    batch_size: int = 8
    crop: tuple[int, ...] = (192, 128)
    disc_fraction: float = 0.6
    log_every: int = 10
    checkpoint_every: int = 100
    validate_every: int = 0
    validation_cases: int = 4
    resident_mib: int = 4096
    resident_steps: int = 200
    compute: str = "float32"
    micro_batches: int = 1
    remat: bool = False
    keep: str = "best"


@dataclass(frozen=True)
class StageConfig:
    """What every stage is trained with."""

    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class RegionConfig(StageConfig):
    """The stage that finds the spine region (paper, section 2.3).

    Attributes:
        spacing_mm: in-plane spacing (H, W) of its grid; a region needs no fine detail.
        dilation_mm: by how much the outlined discs are dilated before their convex hull is taken.
        margin_mm: by how much the predicted region is widened before it is used, in training and inference.
    """

    network: UNetConfig = field(default_factory=UNetConfig)
    spacing_mm: tuple[float, float] = (2.5, 2.5)
    dilation_mm: float = 10.0
    margin_mm: float = 6.0
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(crop=(128, 128)))


@dataclass(frozen=True)
class DiscConfig(StageConfig):
    """The stage that outlines discs (paper, section 2.1), on the working grid.

    Attributes:
        within_region: whether the loss of the discs counts inside the predicted spine region alone (paper, section
            2.3).
        outputs: what is outlined: disc (the paper's), or disc, vertebra and canal.
    """

    network: DiscNetConfig = field(default_factory=DiscNetConfig)
    within_region: bool = True
    outputs: tuple[str, ...] = ("disc",)


@dataclass(frozen=True)
class LocalizationConfig(StageConfig):
    """The stage that tells the seven discs apart (paper, section 2.2).

    Attributes:
        spacing_mm: of its grid (D, H, W).
        dilation_mm: by how much each outlined disc is dilated to be this stage's target. On a coarse grid a disc is one
            or two voxels thin; which one it is can be learned from its surroundings far sooner than its outline,
            which the disc stage gives.
        landmarks: whether the network learns, beside the seven discs, discs above them, the block of bone below L5/S1
            and the body of L5.
    """

    network: VNetConfig = field(default_factory=VNetConfig)
    spacing_mm: tuple[float, float, float] = (6.0, 4.0, 4.0)
    dilation_mm: float = 6.0
    landmarks: bool = False
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(batch_size=4, crop=(4, 80, 80)))


@dataclass(frozen=True)
class InferenceConfig:
    """From probabilities to discs. Each step of the paper can be left out.

    Attributes:
        batch_size: boxes that the segmentation network sees at once.
        overlap: smallest share of a box that neighbouring boxes share.
        slice_smoothing_mm: standard deviation of a Gaussian over neighbouring slices' probabilities; 0: none.
        threshold: probability above which a voxel is disc.
        min_disc_mm3: smaller components are dropped.
        discs: the highest level that is given out (7: T11/12); what lies above is dropped.
        region: whether discs are looked for in the predicted spine region alone (paper, section 2.3).
        localization: whether the localization network is used (paper, section 2.2).
        registration: whether the reference mask is registered and gives the spine's centre line (paper, section 2.2,
            Fig. 4); if not, the line is fitted through the components themselves.
        numbering: solver (weighs all evidence; a missed disc leaves a gap), line (the paper's: what the centre line
            crosses, from the bottom up) or bottom (all components from the bottom up).
        review_above: probability that a level is wrong or a disc missing above which a case is sent to review.
        sure_outline: expected Dice of an outline below which it is remarked, for models that are calibrated; 0: never.
        grades: whether a Pfirrmann grade is estimated, by models that can.
    """

    batch_size: int = 8
    overlap: float = 0.25
    slice_smoothing_mm: float = 0.0
    threshold: float = 0.5
    min_disc_mm3: float = 200.0
    discs: int = 7
    region: bool = True
    localization: bool = True
    registration: bool = True
    numbering: str = "solver"
    review_above: float = 0.1
    sure_outline: float = 0.7
    grades: bool = True


@dataclass(frozen=True)
class Config:
    """One training run, and the model that comes of it.

    Attributes:
        name: of the run and its model.
        seed: of everything random.
        stages: that are trained, out of region, disc and localization; they run in this order.
        weights: how the model's parameters are stored, float32 or float16; half of the file at a relative error of
            2^-11 at most.
    """

    name: str
    seed: int = 0
    stages: tuple[str, ...] = STAGES
    weights: str = "float32"
    data: DataConfig = field(default_factory=DataConfig)
    preparation: PreparationConfig = field(default_factory=PreparationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    region: RegionConfig = field(default_factory=RegionConfig)
    disc: DiscConfig = field(default_factory=DiscConfig)
    localization: LocalizationConfig = field(default_factory=LocalizationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


def read_config(path: str | Path, overrides: Sequence[str] = (), base: Config | None = None) -> Config:
    """The configuration in a YAML file, with overrides of the form `section.key=value` (the value in YAML).

    Args:
        path: of the file.
        overrides: further values, in place of the file's.
        base: gives what neither says, in place of the defaults (`shaped_like`).

    Raises:
        ConfigError: no such file, not YAML, a key that is unknown or stands twice, a wrong type or length, or a value
            out of its range.
    """
    path = Path(path)
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration at {path}; see the configs/ folder for those that exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold keys and values, not {type(tree).__name__}")
    for override in overrides:
        _override(tree, override)
    tree.setdefault("name", path.stem)
    return parse_config(tree, base)


def parse_config(tree: dict[str, Any], base: Config | None = None) -> Config:
    """The configuration in nested plain mappings, as YAML or JSON gives them; `base` gives what they leave out.

    Raises:
        ConfigError: as `read_config`.
    """
    config: Config = parse(Config, tree, base=base)
    check_values(_flat(plain_config(config)))
    return config


def shaped_like(model: Config) -> Config:
    """The defaults for a training that begins with a model: its channels, its working grid, and of each stage the
    network, the grid and the boxes. How it was trained (loss, optimizer, steps, augmentation) is not taken over.
    """
    made = Config(name=model.name)
    stages = {}
    for stage in STAGES:
        own, its = getattr(made, stage), getattr(model, stage)
        training = dataclasses.replace(own.training, crop=its.training.crop)
        stages[stage] = dataclasses.replace(its, loss=own.loss, optimizer=own.optimizer, training=training)
    data = dataclasses.replace(made.data, channels=model.data.channels)
    return dataclasses.replace(made, data=data, preparation=model.preparation, inference=model.inference, **stages)


def parse_stored(tree: dict[str, Any]) -> Config:
    """The configuration that a model of this version or an earlier one stores: keys that are gone are left out.

    Raises:
        ConfigError: as `read_config`.
    """
    kept = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" not in _GONE}
        if isinstance(values, dict)
        else values
        for section, values in tree.items()
    }
    return parse_config(kept)


def plain_config(config: Any) -> Any:
    """Nested plain mappings and lists that `parse_config` turns back into the same configuration."""
    if dataclasses.is_dataclass(config):
        return {f.name: plain_config(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, tuple):
        return [plain_config(item) for item in config]
    return config


def config_differences(old: Config, new: Config) -> list[str]:
    """Dotted keys whose values differ, each as `key: old -> new`; empty for equal configurations."""
    before, after = _flat(plain_config(old)), _flat(plain_config(new))
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
            for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]  # fmt: skip


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}


def _override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set takes section.key=value, not {override!r}")
    *sections, last = key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section")
        node = child
    try:
        node[last] = parse_yaml(text) if text else ""  # YAML reads an empty text as null
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}") from error


__all__ = [
    "STAGES", "AugmentationConfig", "Config", "ConfigError", "DataConfig", "DiscConfig", "DiscNetConfig",
    "InferenceConfig", "LocalizationConfig", "LossConfig", "OptimizerConfig", "PreparationConfig", "RegionConfig",
    "StageConfig", "TrainingConfig", "UNetConfig", "VNetConfig", "config_differences", "parse_config", "parse_stored",
    "plain_config", "read_config", "shaped_like",
]  # fmt: skip
