"""What is kept beside a result so that its discs can be numbered again without a network: `<case>_evidence.npz`.

The file holds what the networks said of the case, the model's settings and reference mask, and where the images lie. It
holds no image. Probabilities below 1 % are kept as 0, the others as float16, those of levels and tissues in 255 steps:
numbers and outlines that come from the file differ from the first ones in a voxel here and there.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import parse_stored, plain_config
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.preparation import Prepared
from ivdjax.discs.evidence import Evidence
from ivdjax.imaging.files import Source
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.source import source_name, source_sha256
from ivdjax.imaging.folders import write_whole
from ivdjax.model.model import Model
from ivdjax.model.weights import read_arrays
from ivdjax.volume import Case, CaseError, Grid, LabelMap

VERSION = 1

_FAINT = 0.01
_STEPS = 255
_Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class StoredEvidence:
    """All that numbering, measuring and writing a case again takes, but for its images.

    Attributes:
        files: where the images are.
        model: without its parameters.
        prepared: the case as the networks saw it; read from a file, without its image.
        evidence: what the networks said, the reference mask registered.
        source: what the result depends on (`ivdjax.model.provenance.provenance`).
    """

    files: CaseFiles
    model: Model
    prepared: Prepared
    evidence: Evidence
    source: dict[str, Any]


def write_stored_evidence(path: Path, kept: StoredEvidence) -> None:
    """Writes the file, whole or not at all; the same content gives the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    evidence, prepared = kept.evidence, kept.prepared
    box = _box(evidence.probability > _FAINT)
    probability = evidence.probability[box]
    arrays: dict[str, NDArray[Any]] = {
        "probability": np.where(probability > _FAINT, probability, 0).astype(np.float16),
        "box": _corners(box),
    }
    for name, grid in (("grid", evidence.grid), ("source", prepared.source), ("native", prepared.native)):
        arrays |= _grid_arrays(name, grid)
    if evidence.region is not None:
        arrays["region"] = np.packbits(evidence.region)
    if evidence.level_probability is not None and evidence.level_grid is not None:
        arrays["levels"] = np.rint(np.clip(evidence.level_probability, 0, 1) * _STEPS).astype(np.uint8)
        arrays |= _grid_arrays("level", evidence.level_grid)
    if evidence.tissue_probability is not None:
        tissues = np.rint(np.clip(evidence.tissue_probability, 0, 1) * _STEPS).astype(np.uint8)
        around = _box(tissues.max(axis=0) > _FAINT * _STEPS)
        arrays |= {"tissues": tissues[:, *around], "tissue_box": _corners(around)}
    if evidence.reference is not None:
        arrays |= {"reference": evidence.reference.array, "reference_affine": evidence.reference.affine}
    if evidence.spine_mm is not None:
        arrays["spine_mm"] = evidence.spine_mm
    text = json.dumps(_facts(kept), ensure_ascii=True, sort_keys=True)
    arrays["facts"] = np.frombuffer(text.encode(), np.uint8)
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    write_whole(path, out.getvalue())


def read_stored_evidence(path: Path, case: str) -> StoredEvidence:
    """What `write_stored_evidence` wrote.

    Raises:
        CaseError: there is no such file, it is damaged, or a newer version wrote it.
    """
    if not path.is_file():
        raise CaseError(
            f"case {case}: there is no {path.name}, which numbering its discs again takes; infer the case again "
            "with --overwrite (results of version 0.1 lack it)"
        )
    try:
        arrays = read_arrays(path, "fui")
        facts = json.loads(arrays["facts"].tobytes())
        if facts["version"] > VERSION:
            raise CaseError(f"case {case}: {path} was written by a newer ivdjax; review it with that one")
        return _read(arrays, facts, case)
    except CaseError:
        raise
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CaseError(f"case {case}: {path} is damaged ({error}); infer the case again with --overwrite") from error


def _read(arrays: dict[str, NDArray[Any]], facts: dict[str, Any], case: str) -> StoredEvidence:
    grid = _grid("grid", arrays)
    probability = np.zeros(grid.shape, np.float32)
    probability[_slices(arrays["box"])] = arrays["probability"]
    region = level_grid = reference = None
    levels: NDArray[np.float32] | None = None
    tissues: NDArray[np.float32] | None = None
    if "tissues" in arrays:
        tissues = np.zeros((len(arrays["tissues"]), *grid.shape), np.float32)
        tissues[:, *_slices(arrays["tissue_box"])] = arrays["tissues"].astype(np.float32) / np.float32(_STEPS)
    if "region" in arrays:
        region = np.unpackbits(arrays["region"], count=int(np.prod(grid.shape))).reshape(grid.shape).astype(bool)
    if "levels" in arrays:
        levels, level_grid = arrays["levels"].astype(np.float32) / np.float32(_STEPS), _grid("level", arrays)
    if "reference" in arrays:
        reference = LabelMap(arrays["reference"].astype(np.uint8), arrays["reference_affine"].astype(float))
    spine = arrays.get("spine_mm")
    evidence = Evidence(probability, grid, region, levels, level_grid, reference, None, spine, tissues)
    model = Model(parse_stored(facts["config"]), {}, facts["meta"], reference)
    channels = {name: _source(stored) for name, stored in facts["files"].items()}
    files = CaseFiles(case, facts["subject"], channels, remarks=tuple(facts["remarks"]))
    prepared = Prepared(
        case, facts["subject"], tuple(facts["channels"]), np.zeros((len(facts["channels"]), 0, 0, 0), np.uint8), None,
        None, 0, grid, _grid("source", arrays), _grid("native", arrays), tuple(facts["warnings"]),
        missing=tuple(facts["missing"]), region=region,
    )  # fmt: skip
    return StoredEvidence(files, model, prepared, evidence, facts["source"])


def images_of(kept: StoredEvidence) -> Case:
    """The images that a case was inferred from.

    Raises:
        CaseError: they are not where they were, cannot be read, or are others: what is measured in them would not
            belong to the outlines, nor to the checksums that the result tells.
    """
    for channel, told in (kept.source.get("input") or {}).items():
        source = kept.files.channels.get(channel)
        if source is None:
            raise CaseError(f"case {kept.files.name}: there is no image for channel {channel} any more")
        if source_sha256(source) != told["sha256"]:
            raise CaseError(
                f"case {kept.files.name}: {source_name(source)} is not the image that was inferred; put that one back, "
                "or infer the case again"
            )
    return read_case(kept.files, kept.model.channels, partial=True)


def moved(kept: StoredEvidence, files: CaseFiles) -> StoredEvidence:
    """The same with its images elsewhere."""
    return replace(kept, files=files)


def _facts(kept: StoredEvidence) -> dict[str, Any]:
    prepared, meta = kept.prepared, dict(kept.model.meta)
    return {
        "version": VERSION, "subject": kept.files.subject, "remarks": list(kept.files.remarks),
        "files": {name: _stored(source) for name, source in kept.files.channels.items()},
        "channels": list(prepared.channels), "missing": list(prepared.missing), "warnings": list(prepared.warnings),
        "config": plain_config(kept.model.config), "meta": meta, "source": kept.source,
    }  # fmt: skip


def _stored(source: Source) -> dict[str, Any]:
    """A source as JSON; absolute, since the review may be started from another folder."""
    if not isinstance(source, DicomSeries):
        return {"path": os.path.abspath(source)}  # noqa: PTH100 - a link keeps its own name
    return {
        "folder": os.path.abspath(source.folder), "uid": source.uid,  # noqa: PTH100
        "files": [os.path.relpath(file, source.folder) for file in source.files], "frames": list(source.frames),
        "frame_of_reference": source.frame_of_reference, "weighting": source.weighting,
    }  # fmt: skip


def _source(stored: dict[str, Any]) -> Source:
    if "path" in stored:
        return Path(stored["path"])
    folder = Path(stored["folder"])
    return DicomSeries(
        folder, stored["uid"], tuple(folder / name for name in stored["files"]), tuple(stored["frames"]),
        stored["frame_of_reference"], stored.get("weighting", ""),
    )  # fmt: skip


def _box(mask: NDArray[np.bool_]) -> _Box:
    """The box round what a mask holds; of no voxels for an empty one."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    d, h, w = found[0]
    return d, h, w


def _corners(box: _Box) -> NDArray[np.int64]:
    """A box as an array (axis, first and one past the last)."""
    return np.array([[part.start, part.stop] for part in box])


def _slices(corners: NDArray[Any]) -> _Box:
    (d0, d1), (h0, h1), (w0, w1) = corners.tolist()
    return slice(d0, d1), slice(h0, h1), slice(w0, w1)


def _grid_arrays(name: str, grid: Grid) -> dict[str, NDArray[Any]]:
    return {f"{name}_shape": np.array(grid.shape), f"{name}_affine": np.asarray(grid.affine, float)}


def _grid(name: str, arrays: dict[str, NDArray[Any]]) -> Grid:
    d, h, w = (int(size) for size in arrays[f"{name}_shape"])
    return Grid((d, h, w), arrays[f"{name}_affine"].astype(float))
