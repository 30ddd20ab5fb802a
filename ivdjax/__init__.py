"""ivdjax: automatic localization and segmentation of intervertebral discs in multi-channel MR, in JAX and Flax.

Public names are handed out lazily, so that `import ivdjax` costs nothing and needs neither JAX nor SimpleITK.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:  # what type checkers and editors see; at run time `__getattr__` imports it
    from ivdjax.config import Config, read_config
    from ivdjax.imaging.arrays import volume_of
    from ivdjax.imaging.files import read_volume
    from ivdjax.inference.disc_result import DiscResult
    from ivdjax.inference.predictor import DiscModel, load_model
    from ivdjax.volume import Case, CaseError, Disc, Grid, LabelMap, UserError, Volume

_PUBLIC = {
    "Case": "ivdjax.volume",
    "CaseError": "ivdjax.volume",
    "Disc": "ivdjax.volume",
    "Grid": "ivdjax.volume",
    "LabelMap": "ivdjax.volume",
    "UserError": "ivdjax.volume",
    "Volume": "ivdjax.volume",
    "Config": "ivdjax.config",
    "read_config": "ivdjax.config",
    "read_volume": "ivdjax.imaging.files",
    "volume_of": "ivdjax.imaging.arrays",
    "load_model": "ivdjax.inference.predictor",
    "DiscModel": "ivdjax.inference.predictor",
    "DiscResult": "ivdjax.inference.disc_result",
}

__all__ = [
    "Case", "CaseError", "Config", "Disc", "DiscModel", "DiscResult", "Grid", "LabelMap", "UserError", "Volume",
    "__version__", "load_model", "read_config", "read_volume", "volume_of",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ivdjax' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
