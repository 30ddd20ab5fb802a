"""Forward pass, gradient and training step of the network in PyTorch, eager or compiled, to time beside ivdjax's own.

Loss, clipping, AdamW, schedule and running average are those of `ivdjax/learning/`, in PyTorch's own fast forms. There
is no augmentation: batches arrive ready on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.torch_disc_net import Flax, TorchDiscNet
from ivdjax.config import LossConfig, StageConfig
from ivdjax.learning.augmentation import Sample

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
"""Orders of the axes in memory: (N, H, W, C) and (N, C, H, W)."""


def focal_sum(logits: Tensor, target: Tensor, mask: Tensor, loss: LossConfig, gamma: Tensor) -> Tensor:
    """The sum of `ivdjax.learning.losses.focal_loss`."""
    log_disc, log_background = F.logsigmoid(logits), F.logsigmoid(-logits)
    disc = -loss.alpha[1] * torch.exp(gamma * log_background) * log_disc
    background = -loss.alpha[0] * torch.exp(gamma * log_disc) * log_background
    return ((target * disc + (1.0 - target) * background) * mask).sum()


def mean_loss(
    network: torch.nn.Module, sample: Sample, loss: LossConfig, gamma: Tensor, compute: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Loss a voxel as in a training step (`path_losses`), and the Dice coefficient of hard decisions."""
    fused, auxiliary = network(sample.image.to(compute))
    total = focal_sum(fused, sample.target, sample.mask, loss, gamma)
    aside = focal_sum(auxiliary, sample.target[None], sample.mask[None], loss, gamma)
    total = total + loss.auxiliary * aside / auxiliary.shape[0]
    found, wanted = (fused.detach() > 0) * sample.mask, (sample.target >= 0.5) * sample.mask
    dice = 2.0 * (found * wanted).sum() / (found.sum() + wanted.sum()).clamp(min=1.0)
    return total / sample.mask.sum().clamp(min=1.0), dice


class TorchTraining:
    """The disc stage's training in PyTorch on one device, with one ready batch.

    Args:
        stage: its configuration; the compute type is that of `training.compute`.
        params: of the Flax network, to begin with.
        batch: arrays as `ivdjax.learning.augmentation.draw_sample` gives them, (N, H, W, C) and (N, H, W).
        rates: the learning rate at each step; after the last it stays.
        device: cpu or cuda.
        layout: of `LAYOUTS`.
        mode: of `torch.compile`; None: eager.

    Raises:
        ValueError: the network is not the paper's, or the parameters are not of the same network.
    """

    def __init__(
        self, stage: StageConfig, params: Flax, batch: Sample, rates: np.ndarray,
        device: str = "cpu", layout: str = "channels_last", mode: str | None = None,
    ) -> None:  # fmt: skip
        memory = LAYOUTS[layout]
        self.network = TorchDiscNet(stage.network, batch.image.shape[-1])
        self.network.load_flax(params)
        self.network.to(device=device, memory_format=memory)
        image, target, mask = (torch.from_numpy(np.array(part)).to(device) for part in batch[:3])
        image = image.permute(0, 3, 1, 2).contiguous(memory_format=memory)
        self._sample = batch._replace(image=image, target=target, mask=mask)
        self._stage, self._rates, self.steps = stage, [float(rate) for rate in rates], 0
        # Tensors, so that the end of the warm-up needs no second compilation.
        self._gammas = tuple(torch.tensor(gamma, device=device) for gamma in (0.0, stage.loss.gamma))
        self._compute = getattr(torch, stage.training.compute)
        self.params = list(self.network.parameters())
        self.average = [p.detach().clone() for p in self.params]
        self._optimizer = self._build_optimizer()
        self._forward: Callable[..., Any] = self.network
        self._loss: Callable[..., Any] = mean_loss
        if mode is not None:
            self._forward = torch.compile(self.network, mode=mode, dynamic=False)
            self._loss = torch.compile(mean_loss, mode=mode, dynamic=False)

    @property
    def works(self) -> dict[str, Callable[[], Any]]:
        """What is timed, as in `benchmarks.flax_programs.WORKS`, without the augmentation."""
        return {"forward": self.forward, "forward+backward": self.gradient, "step": self.step}

    def forward(self) -> Any:
        """Logits of the batch."""
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            return self._forward(self._sample.image.to(self._compute))

    def gradient(self) -> Tensor:
        """Loss of the batch; its gradient lies with the parameters."""
        return self._backward()[0]

    def step(self) -> dict[str, Tensor]:
        """One training step: loss, dice and gradient_norm."""
        loss, dice = self._backward()
        norm = torch.nn.utils.clip_grad_norm_(self.params, self._stage.optimizer.clip_norm, foreach=True)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rates[min(self.steps, len(self._rates) - 1)]
        self._optimizer.step()
        decay = self._stage.optimizer.average_decay
        kept = min(decay, (1.0 + self.steps) / (10.0 + self.steps)) if decay else 0.0
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.params, 1.0 - kept)
        self.steps += 1
        return {"loss": loss, "dice": dice, "gradient_norm": norm}

    def _backward(self) -> tuple[Tensor, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        for parameter in self.params:
            parameter.grad = None
        gamma = self._gammas[self.steps >= self._stage.loss.cross_entropy_steps]
        loss, dice = self._loss(self.network, self._sample, self._stage.loss, gamma, self._compute)
        loss.backward()
        return loss.detach(), dice

    def _build_optimizer(self) -> torch.optim.Optimizer:
        """AdamW or SGD; weight decay acts on kernels only."""
        settings = self._stage.optimizer
        kernels, others = [p for p in self.params if p.ndim > 1], [p for p in self.params if p.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        if settings.name == "adamw":
            return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=True)


def temporary_mib(call: Callable[[], Any], device: str) -> float | None:
    """Largest memory during a call beyond what lay on the device before it; None on the CPU, which does not tell."""
    if device == "cpu":
        return None
    wait_for(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    wait_for(device)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def wait_for(device: str) -> None:
    """Returns when all that was started on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def product_call(size: int, compute: str, device: str) -> Callable[[], Tensor]:
    """A product of two random square matrices of a size in a compute type."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, getattr(torch, compute)) for _ in range(2))
    return lambda: a @ b


def set_precision(allow_tf32: bool) -> str:
    """Sets what float32 products and convolutions may do on a GPU, tunes convolutions; says what is set."""
    torch.set_float32_matmul_precision("high" if allow_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = True
    return f"matmul {torch.get_float32_matmul_precision()}, cudnn.allow_tf32 {torch.backends.cudnn.allow_tf32}"
