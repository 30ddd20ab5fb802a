"""ivdjax: automatic localization and segmentation of intervertebral discs in multi-channel MR, in JAX and Flax.

Public names are handed out lazily, so that `import ivdjax` costs nothing and needs neither JAX nor SimpleITK.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

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
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ivdjax' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
