"""The sections of the configuration on networks: widths and depths, a dataclass for each kind of network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DiscNetConfig:
    """Widths and depths of the segmentation network (paper, section 2.1, Fig. 3).

    Attributes:
        architecture: densenet (the paper's), or unet for comparison: a plain U-Net with four downsamplings, whose
            widths are set by `stem` and `groups` only.
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
        downsamplings: number of downsamplings by two, 1 to 8.
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
        places: whether the network gets the position of each voxel in its box. It then learns levels faster, but
            depends on the field of view.
    """

    widths: tuple[int, ...] = (8, 16, 32, 64, 96)
    layers: tuple[int, ...] = (1, 2, 2, 2, 3)
    slice_pooling: tuple[int, ...] = (1, 2, 2, 1)
    groups: int = 8
    places: bool = True
