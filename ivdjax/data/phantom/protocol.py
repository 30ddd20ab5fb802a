"""How a scan is made: what differs from scanner to scanner, beyond the usual draws of position, coil and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ivdjax.data.phantom.options import PhantomOptions


@dataclass(frozen=True)
class Protocol:
    """One subject's scan; as it stands here, that of the fields "full" and "slab".

    Attributes:
        size_mm: field of view (D, H, W) and
        spacing_mm: size of its voxels (D, H, W), where neither is the options'; None: as the field says.
        bias: factor on the unevenness of the coils' gain.
        noise: factor on the noise.
        blur: factor on the width of the blur, in voxels.
        dixon_turbo_ms: repetition and echo time of a turbo spin echo that takes the gradient echo's place in the
            Dixon scan; None: a gradient echo.
        leak: share of fat's signal in the water image, and of water's in the fat image, beyond the usual.
        swapped: whether the reconstruction took water for fat and fat for water.
    """

    size_mm: tuple[float, float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    bias: float = 1.0
    noise: float = 1.0
    blur: float = 1.0
    dixon_turbo_ms: tuple[float, float] | None = None
    leak: tuple[float, float] = (0.0, 0.0)
    swapped: bool = False


def sample_protocol(rng: np.random.Generator, options: PhantomOptions) -> Protocol:
    """Draws a subject's protocol: from wide ranges for the field "clinical", the usual one for the others.

    A clinical Dixon scan is a gradient echo in 60 %, and a turbo spin echo with the timing of a T1-weighted scan in
    15 % and of a T2-weighted one in 25 %; in 4 % water and fat are swapped throughout.
    """
    if options.field != "clinical":
        return Protocol()
    thick, fine = float(rng.uniform(2, 5)), float(rng.uniform(0.8, 1.3))
    size = (float(rng.uniform(60, 110)), float(rng.uniform(260, 340)), float(rng.uniform(260, 340)))
    kind = rng.random()
    turbo = (float(rng.uniform(450, 800)), float(rng.uniform(8, 16)))
    if kind >= 0.75:
        turbo = (float(rng.uniform(2200, 5000)), float(rng.uniform(60, 115)))
    return Protocol(
        size, (thick, fine, fine), bias=float(rng.uniform(0.8, 2.6)),
        noise=float(np.exp(rng.uniform(np.log(0.6), np.log(2.5)))), blur=float(rng.uniform(0.8, 1.9)),
        dixon_turbo_ms=turbo if kind >= 0.6 else None,
        leak=(float(rng.uniform(0, 0.12)), float(rng.uniform(0, 0.08))), swapped=bool(rng.random() < 0.04),
    )  # fmt: skip
