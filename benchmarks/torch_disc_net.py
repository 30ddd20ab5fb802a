"""The segmentation network of `ivdjax/networks/disc_net.py` in PyTorch, to measure its speed against.

Written as one would for PyTorch: maps in channels-last memory, PyTorch's own convolutions, group normalisation and
interpolation. `load_flax` copies the parameters of the Flax network, after which both give the same logits.

The compute type is that of the input: parameters stay float32 and are cast where they are used, as Flax does it.
PyTorch's autocast would leave every normalised map in float32, which doubles the memory traffic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ivdjax.config import DiscNetConfig

EPSILON = 1e-5
"""Beside the variance in every group normalisation, as in `ivdjax.networks.layers.GroupNorm`."""

Flax = Mapping[str, Any]
"""Parameters of a Flax module: arrays, and the mappings of the modules inside it, by name."""


class TorchDiscNet(nn.Module):
    """`DiscNet` with the dense atrous pyramid: (N, C, H, W) with intensities 0 to 1 to fused and auxiliary logits.

    Raises:
        ValueError: the settings ask for another architecture or pyramid than the paper's.
    """

    def __init__(self, settings: DiscNetConfig, channels: int) -> None:
        super().__init__()
        if (settings.architecture, settings.pyramid) != ("densenet", "dense"):
            raise ValueError(
                "the network in PyTorch is the paper's, with architecture=densenet and pyramid=dense, not "
                f"{settings.architecture} and {settings.pyramid}; leave PyTorch out"
            )
        groups = settings.groups
        self.stem = ConvUnit(channels, settings.stem, 3, groups)
        width, widths = settings.stem, []
        blocks, transitions = [], []
        for level in range(3):
            if level:
                half = max(width // 2 // groups, 1) * groups
                transitions.append(ConvUnit(width, half, 1, groups))
                width = half
            blocks.append(DenseBlock(width, settings, level))
            width = blocks[-1].features
            widths.append(width)
        self.blocks, self.transitions = nn.ModuleList(blocks), nn.ModuleList(transitions)
        self.pyramid = DenseAtrousPyramid(width, settings.aspp_rates, settings.aspp_growth, groups)
        widths[-1] = self.pyramid.features
        self.paths = nn.ModuleList(
            nn.Sequential(ConvUnit(width, path, 1, groups), *(ConvUnit(path, path, 3, groups) for _ in range(layers)))
            for width, path, layers in zip(widths, settings.path, settings.path_layers, strict=True)
        )
        self.auxiliary = nn.ModuleList(Pointwise(path, 1) for path in settings.path)
        fused = settings.path[0]
        self.merge = nn.ModuleList(Pointwise(path, fused, bias=False) for path in settings.path)
        self.norm = GroupNorm(fused, groups)
        self.last = ConvUnit(fused, fused, 3, groups)
        self.head = Pointwise(fused, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, H, W) of the fused output and (3, N, H, W) of the paths; float32. H and W divisible by 4."""
        x = self.stem(4.0 * x - 2.0)
        maps = [self.blocks[0](x)]
        for transition, block in zip(self.transitions, self.blocks[1:], strict=True):
            maps.append(block(F.avg_pool2d(transition(maps[-1]), 2)))
        maps[-1] = self.pyramid(maps[-1])
        maps = [path(x) for path, x in zip(self.paths, maps, strict=True)]
        auxiliary = [
            enlarge(head(x.float()), 2**level)[:, 0]
            for level, (head, x) in enumerate(zip(self.auxiliary, maps, strict=True))
        ]
        full, half, quarter = (
            enlarge(merge(x), 2**level) for level, (merge, x) in enumerate(zip(self.merge, maps, strict=True))
        )
        y = self.last(F.relu(self.norm(full + half + quarter)))
        return self.head(y.float())[:, 0], torch.stack(auxiliary)

    @torch.no_grad()
    def load_flax(self, params: Flax) -> None:
        """Copies the parameters of a Flax `DiscNet` with the same settings.

        Raises:
            ValueError: a parameter has another shape, or is left over: another network.
        """
        units = [self.stem, *self.transitions, *(unit for path in self.paths for unit in path), self.last]
        dense = [*self.auxiliary, *self.merge, self.head]
        modules = {
            **_numbered("ConvUnit", units),
            **_numbered("DenseBlock", self.blocks),
            **_numbered("Dense", dense),
            "DenseAtrousPyramid_0": self.pyramid,
            "GroupNorm_0": self.norm,
        }
        _load(modules, params, "")


class ConvUnit(nn.Module):
    """Convolution, group normalisation, ReLU."""

    def __init__(self, channels: int, features: int, kernel: int, groups: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = Convolution(channels, features, kernel, dilation)
        self.norm = GroupNorm(features, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features, H, W)."""
        return F.relu(self.norm(self.conv(x)), inplace=True)

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies a Flax `ConvUnit`: its kernel is a dense layer's where it has one tap."""
        name = "Dense_0" if self.conv.kernel_size == (1, 1) else "Conv_0"
        _load({name: self.conv, "GroupNorm_0": self.norm}, params, place)


class Convolution(nn.Conv2d):
    """A convolution of the same size without bias, in the type of its input."""

    def __init__(self, channels: int, features: int, kernel: int, dilation: int = 1) -> None:
        super().__init__(channels, features, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features, H, W)."""
        return self._conv_forward(x, self.weight.to(x.dtype), None)

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies a kernel (kernel, kernel, C, features), or (C, features) of a dense layer."""
        kernel = np.asarray(params["kernel"])
        if kernel.ndim == 2:
            kernel = kernel[None, None]
        _copy(self, {"weight": kernel.transpose(3, 2, 0, 1)}, params, place)


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution, in the type of its input."""

    def __init__(self, channels: int, features: int, bias: bool = True) -> None:
        super().__init__(channels, features, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features, H, W)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies a Flax dense layer."""
        values = {"weight": np.asarray(params["kernel"]).T[:, :, None, None]}
        _copy(self, values | ({"bias": params["bias"]} if self.bias is not None else {}), params, place)


class Linear(nn.Linear):
    """A dense layer, in the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, features)."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies a Flax dense layer."""
        _copy(self, {"weight": np.asarray(params["kernel"]).T, "bias": params["bias"]}, params, place)


class GroupNorm(nn.GroupNorm):
    """Group normalisation of `group_size` neighbouring channels, in the type of its input; statistics are float32."""

    def __init__(self, channels: int, group_size: int) -> None:
        super().__init__(channels // math.gcd(group_size, channels), channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape and type."""
        return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies scale and bias."""
        _copy(self, {"weight": params["scale"], "bias": params["bias"]}, params, place)


class SqueezeExcitation(nn.Module):
    """Each channel scaled by a factor 0 to 1 from its mean over the box."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = max(channels // ratio, 4)
        self.squeeze, self.excite = Linear(channels, hidden), Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        factor = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))))
        return x * factor[:, :, None, None]

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies both dense layers."""
        _load(_numbered("Dense", [self.squeeze, self.excite]), params, place)


class DenseBlock(nn.Module):
    """Layers that read all maps before them, and squeeze-and-excitation on the joint output of `features` channels."""

    def __init__(self, channels: int, settings: DiscNetConfig, level: int) -> None:
        super().__init__()
        growth, groups = settings.growth[level], settings.groups
        wide = settings.bottleneck * growth
        layers = []
        for _ in range(settings.layers[level]):
            before = [ConvUnit(channels, wide, 1, groups)] if wide else []
            layers.append(nn.Sequential(*before, ConvUnit(wide or channels, growth, 3, groups)))
            channels += growth
        self.layers, self.features = nn.ModuleList(layers), channels
        self.attention = SqueezeExcitation(channels, settings.se_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features, H, W)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.attention(x)

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies the layers in their order, and the attention."""
        units = _numbered("ConvUnit", (unit for layer in self.layers for unit in layer))
        _load(units | {"SqueezeExcitation_0": self.attention}, params, place)


class DenseAtrousPyramid(nn.Module):
    """Dilated convolutions, each reading the input and the outputs of all smaller rates; `features` channels result."""

    def __init__(self, channels: int, rates: Iterable[int], growth: int, groups: int) -> None:
        super().__init__()
        rungs = []
        for rate in rates:
            rungs.append(
                nn.Sequential(
                    ConvUnit(channels, 2 * growth, 1, groups), ConvUnit(2 * growth, growth, 3, groups, dilation=rate)
                )
            )
            channels += growth
        self.rungs, self.features = nn.ModuleList(rungs), channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, features, H, W)."""
        for rung in self.rungs:
            x = torch.cat([x, rung(x)], dim=1)
        return x

    def load_flax(self, params: Flax, place: str) -> None:
        """Copies the units in their order."""
        _load(_numbered("ConvUnit", (unit for rung in self.rungs for unit in rung)), params, place)


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear interpolation by a whole factor: (N, C, H, W) to (N, C, H * factor, W * factor)."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _numbered(kind: str, modules: Iterable[Any]) -> dict[str, Any]:
    """Modules under the names that Flax gives them: kind and place in the order in which they are made."""
    return {f"{kind}_{number}": module for number, module in enumerate(modules)}


def _load(modules: Mapping[str, Any], params: Flax, place: str) -> None:
    """Has each module copy its own part of the parameters.

    Raises:
        ValueError: a module or a part has no counterpart.
    """
    odd = sorted(modules.keys() ^ params.keys())
    if odd:
        where = f"{place}/{odd[0]}"
        raise ValueError(f"{where} is in one of the two networks alone; build both from the same settings")
    for name, module in modules.items():
        module.load_flax(params[name], f"{place}/{name}")


def _copy(module: nn.Module, values: Mapping[str, Any], params: Flax, place: str) -> None:
    """Copies arrays, already in PyTorch's order of axes, into a module's own parameters."""
    own = dict(module.named_parameters(recurse=False))
    if len(values) != len(params) or len(own) != len(params):
        raise ValueError(f"{place} holds {sorted(params)}; build both networks from the same settings")
    for name, value in values.items():
        value = np.array(value, dtype=np.float32, order="C")
        if own[name].shape != value.shape:
            raise ValueError(
                f"{place}: {value.shape} in Flax, {tuple(own[name].shape)} in PyTorch; build both networks from the "
                "same settings and channels"
            )
        own[name].copy_(torch.from_numpy(value))
