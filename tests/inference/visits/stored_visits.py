"""Results of visits as infer.py stores them, as far as a comparison reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPEATABILITY = {
    "middle_height_mm": {"within_sd": 0.18, "smallest_detectable_change": 0.5, "icc": 0.9, "n": 70},
    "made_of": "10 phantoms",
}


def disc(level: int, height: float | None = 8.0, **columns: Any) -> dict[str, Any]:
    return {
        "level": level, "level_name": "L", "level_confidence": 0.99, "outline_confidence": None,
        "centroid_x_mm": 1.0, "volume_mm3": 9000.0, "middle_height_mm": height, "wat_mean": 100.0,
    } | columns  # fmt: skip


def document(case: str, *discs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1, "case": case, "verdict": "ok", "reasons": [], "discs": list(discs),
        "input": {"wat": {"file": f"{case}_wat.nii.gz", "sha256": f"sum of {case}"}},
        "model": {"name": "m", "weights_sha256": "w" * 64, "sha256": "s", "synthetic": True},
        "anchor": None, "ivdjax_version": "0.1.0", "repeatability": REPEATABILITY,
    } | changes  # fmt: skip


def store(folder: Path, *discs: dict[str, Any], **changes: Any) -> Path:
    """Writes a case's result into a folder of its name; gives the folder."""
    folder.mkdir(parents=True)
    text = json.dumps(document(folder.name, *discs, **changes))
    (folder / f"{folder.name}_discs.json").write_text(text)
    return folder
