"""The sections of the configuration on stages: loss, optimizer, length and pace, and what is each stage's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from ivdjax.config.networks import DiscNetConfig, UNetConfig, VNetConfig

STAGES: tuple[str, ...] = ("region", "disc", "localization")
"""The stages of a training in the order in which they run: each may use what the ones before it have learned."""


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
    """How the parameters are updated.

    Attributes:
        name: adamw or sgd.
        learning_rate: the peak, reached after `warmup_steps`; from there a cosine falls to `final_fraction` of it.
        warmup_steps: steps of the linear rise, which begins at the peak divided by `warmup_steps + 1`.
        decay_steps: number of last steps over which the rate falls, after it has stayed at the peak; 0: it falls from
            the end of the warm-up on. Before the fall begins, `training.steps` may be changed and the run resumed.
        final_fraction: learning rate at the last step, as a fraction of the peak.
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
        batch_size: crops per step, over all devices.
        crop: box in voxels of the stage's grid, (H, W) or for localization (D, H, W); inference uses the same box.
        disc_fraction: share of the crops that are centred near a disc; the others lie anywhere (in the spine region,
            where there is one).
        log_every: steps between two rows of the journal; the first and the last step have one too.
        checkpoint_every: steps between two checkpoints.
        validate_every: steps between two validations on the held-out cases; 0: only at the end.
        validation_cases: how many held-out cases a validation during training looks at.
        resident_mib: most memory that volumes may take on the device; if they need more, a rotating subset is kept.
        resident_steps: steps after which the subset changes.
        compute: type in which the network computes, float32 or bfloat16; parameters, statistics of normalisations,
            logits, losses and sums of gradients are float32 either way.
        micro_batches: number of parts in which each device processes its share of a batch, one after the other. The
            step is that of the whole batch, but takes the memory of one part.
        remat: whether values between convolutions are recomputed in the backward pass instead of stored, which takes
            less memory and some more time.
        keep: which parameters become the model: best (those with the best mean validation score) or last.
        calm_after: step after which changes of contrast are rarer and weaker (`augmentation.calm`); 0: never.
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
    calm_after: int = 0


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
        within_region: whether the loss of the discs counts only inside the predicted spine region (paper, section
            2.3).
        outputs: what is outlined: disc (the paper's), or disc, vertebra and canal.
        coarse_until: step until which the samples are cut from a coarser grid, on which a box shows more of the image
            and training gets further in the same time; 0: all from the working grid.
        coarse_spacing_mm: in-plane spacing (H, W) of that grid.
    """

    network: DiscNetConfig = field(default_factory=DiscNetConfig)
    within_region: bool = True
    outputs: tuple[str, ...] = ("disc",)
    coarse_until: int = 0
    coarse_spacing_mm: tuple[float, float] = (1.25, 1.25)


@dataclass(frozen=True)
class LocalizationConfig(StageConfig):
    """The stage that decides which disc is which (paper, section 2.2).

    Attributes:
        spacing_mm: of its grid (D, H, W).
        dilation_mm: by how much each outlined disc is dilated to be the target of this stage. On a coarse grid a disc
            is only one or two voxels thick. Its level can be learned from its surroundings; its outline is the task of
            the disc stage.
        landmarks: whether the network learns, beside the seven discs, discs above them, the block of bone below L5/S1
            and the body of L5.
    """

    network: VNetConfig = field(default_factory=VNetConfig)
    spacing_mm: tuple[float, float, float] = (6.0, 4.0, 4.0)
    dilation_mm: float = 6.0
    landmarks: bool = False
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(batch_size=4, crop=(4, 80, 80)))
