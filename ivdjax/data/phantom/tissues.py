"""What tissues are made of, and how bright a sequence shows them.

A tissue is a proton density of water and of fat and three relaxation times. A spoiled gradient echo (the Dixon scan)
and a turbo spin echo (T2) of random timing turn these into signals, so that contrasts vary from case to case together
and stay within what physics allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.phantom.protocol import Protocol


@dataclass(frozen=True)
class Tissue:
    """Proton density (0 to 1), fat share of it, and water's T1 and T2 in ms at 1.5 T."""

    density: float
    fat: float
    t1_ms: float
    t2_ms: float


TISSUES: dict[str, Tissue] = {
    "air": Tissue(0.0, 0.0, 1000, 50),
    "lung": Tissue(0.06, 0.0, 1100, 30),
    "gas": Tissue(0.01, 0.0, 1000, 10),
    "skin": Tissue(0.45, 0.1, 900, 30),
    "fat": Tissue(0.95, 0.94, 900, 45),
    "visceral_fat": Tissue(0.92, 0.88, 900, 45),
    "muscle": Tissue(0.80, 0.06, 950, 38),
    "fascia": Tissue(0.25, 0.05, 800, 18),
    "ligament": Tissue(0.18, 0.02, 700, 16),
    "flavum": Tissue(0.40, 0.08, 800, 28),
    "cortex": Tissue(0.07, 0.05, 600, 8),
    "marrow": Tissue(0.72, 0.42, 750, 48),
    "fatty_marrow": Tissue(0.78, 0.75, 750, 48),
    "edema": Tissue(0.80, 0.2, 1100, 90),
    "sclerosis": Tissue(0.25, 0.15, 800, 25),
    "csf": Tissue(1.0, 0.0, 3500, 1500),
    "cord": Tissue(0.80, 0.0, 850, 90),
    "root": Tissue(0.80, 0.05, 900, 100),
    "blood": Tissue(0.85, 0.0, 1350, 180),
    "nucleus": Tissue(0.92, 0.0, 1250, 112),
    "worn_nucleus": Tissue(0.70, 0.0, 900, 52),
    "annulus": Tissue(0.68, 0.0, 900, 50),
    "outer_annulus": Tissue(0.38, 0.0, 700, 26),
    "cleft": Tissue(0.60, 0.0, 800, 45),
    "bowel_wall": Tissue(0.80, 0.05, 900, 60),
    "bowel_fluid": Tissue(0.90, 0.0, 2200, 300),
    "bowel_content": Tissue(0.70, 0.15, 700, 60),
    "liver": Tissue(0.75, 0.05, 580, 46),
    "bladder": Tissue(1.0, 0.0, 3200, 1200),
}

_FAT_T1_MS, _FAT_T2_MS = 290.0, 105.0


@dataclass(frozen=True, eq=False)
class Signals:
    """Brightness of every tissue in the planes that are painted: water and fat of the Dixon scan, and T2."""

    planes: tuple[str, ...]
    values: dict[str, NDArray[np.float32]]

    def __getitem__(self, tissue: str) -> NDArray[np.float32]:
        """Brightness (planes,) of a tissue; subcutaneous fat is near 1 in its brightest plane."""
        return self.values[tissue]

    def blend(self, first: str, second: str, share: float) -> NDArray[np.float32]:
        """Brightness (planes,) of a mixture with `share` (0 to 1) of the second tissue."""
        return (1 - np.float32(share)) * self.values[first] + np.float32(share) * self.values[second]


def sample_signals(rng: np.random.Generator, planes: tuple[str, ...], age: float,
                   protocol: Protocol | None = None) -> Signals:  # fmt: skip
    """Draws the timing of both sequences and a subject's tissues, and gives their signals.

    The protocol may have a turbo spin echo as Dixon scan, of its own timing; None: the usual one.

    Spoiled gradient echo: S = PD sin(a) (1 - E1) / (1 - E1 cos(a)), E1 = exp(-TR / T1).
    Turbo spin echo: S = PD (1 - exp(-TR / T1)) exp(-TE / T2).
    """
    protocol = protocol or Protocol()
    tissues = {name: _vary(rng, name, tissue, age) for name, tissue in TISSUES.items()}
    repeat_ms, flip = rng.uniform(5, 14), np.radians(rng.uniform(3.0, 11.0))
    turbo_repeat_ms, echo_ms = rng.uniform(2200, 4500), rng.uniform(75, 125)
    leak, stray = rng.uniform(0.02, 0.09) + protocol.leak[0], rng.uniform(0.0, 0.03) + protocol.leak[1]

    def dixon(t1_ms: float, t2_ms: float) -> float:
        if protocol.dixon_turbo_ms is not None:
            return _spin_echo(t1_ms, t2_ms, *protocol.dixon_turbo_ms)
        e1 = np.exp(-repeat_ms / t1_ms)
        return float(np.sin(flip) * (1 - e1) / (1 - e1 * np.cos(flip)))

    fat_shot = dixon(_FAT_T1_MS, _FAT_T2_MS)
    fat_turbo = _spin_echo(_FAT_T1_MS, _FAT_T2_MS, turbo_repeat_ms, echo_ms)
    values = {}
    for name, tissue in tissues.items():
        water, fat = tissue.density * (1 - tissue.fat), tissue.density * tissue.fat
        shot = dixon(tissue.t1_ms, tissue.t2_ms)
        turbo = _spin_echo(tissue.t1_ms, tissue.t2_ms, turbo_repeat_ms, echo_ms)
        # Fat's olefinic and glycerol lines lie near water: a few per cent of it shows in the water image.
        signal = {
            "water": (water * shot + leak * fat * fat_shot) / fat_shot,
            "fat": ((1 - leak) * fat * fat_shot + stray * water * shot) / fat_shot,
            "t2": (water * turbo + fat * fat_turbo) / fat_turbo,
        }
        values[name] = np.array([signal[plane] for plane in planes], dtype=np.float32)
    return Signals(planes, values)


def _spin_echo(t1_ms: float, t2_ms: float, repeat_ms: float, echo_ms: float) -> float:
    return float((1 - np.exp(-repeat_ms / t1_ms)) * np.exp(-echo_ms / t2_ms))


def _vary(rng: np.random.Generator, name: str, tissue: Tissue, age: float) -> Tissue:
    """One subject's own version of a tissue: older ones have fattier marrow and muscle."""
    density, t1, t2, fat = np.exp(rng.normal(0, [0.05, 0.1, 0.1, 0.12]))
    share = tissue.fat * fat
    if name == "marrow":
        share = 0.25 + 0.35 * age + rng.normal(0, 0.06)
        density *= rng.uniform(0.8, 1.25)
    if name == "muscle":
        share *= 0.6 + 1.2 * age
    if name in ("annulus", "outer_annulus", "worn_nucleus"):
        density, t2 = density * np.exp(rng.normal(0, 0.08)), t2 * np.exp(rng.normal(0, 0.12))
    limit = 0.96 if tissue.fat > 0.8 else 0.85
    return Tissue(min(tissue.density * density, 1.1), float(np.clip(share, 0, limit)), tissue.t1_ms * t1,
                  tissue.t2_ms * t2)  # fmt: skip
