"""What a model's networks say of cases, kept on disk: numbering can then be run again within seconds.

The networks take 3 to 15 s a case on 2 cores and do not change; how discs are numbered does. Files lie under
`cache/evidence/`, named by the model's weights, what of the configuration the networks heed, the image's files and the
view; they are pickled, so a folder from elsewhere must not be used. `--cached` folders may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.preparation import Prepared
from ivdjax.discs.evidence import Evidence
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.case_result import prepare_case
from ivdjax.model.model import DESCRIPTION
from ivdjax.model.shipped import model_folder
from ivdjax.volume import Case

CACHE = Path("cache/evidence")
_FORMAT = 1


@dataclass(frozen=True)
class View:
    """A scan as another protocol would have shown it; by default as it is.

    Attributes:
        below_mm: cut off at the bottom; below 0: so much air added there.
        above_mm: cut off at the top; below 0: so much air added there.
        slices: of the middle that are kept; 0: all.
        merged: so many slices are averaged to one.
        contrast: one of `CONTRASTS`.
    """

    below_mm: float = 0.0
    above_mm: float = 0.0
    slices: int = 0
    merged: int = 1
    contrast: str = ""

    def of(self, case: Case) -> Case:
        """The case in this view, with its labels.

        Raises:
            ValueError: nothing of the case is left.
        """
        volume, labels = case.volume, case.labels
        depth, height, _ = volume.grid.shape
        first = 0 if not self.slices else max(0, (depth - self.slices) // 2)
        last = depth if not self.slices else min(depth, first + self.slices)
        top, bottom = (round(mm / volume.grid.spacing_mm[1]) for mm in (self.above_mm, self.below_mm))
        if height - max(top, 0) - max(bottom, 0) < 1:
            raise ValueError(f"case {case.name}: nothing is left of {height} rows in the view {self}")
        rows = slice(max(top, 0), height - max(bottom, 0))
        air = ((0, 0), (max(-top, 0), max(-bottom, 0)), (0, 0))
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, 0] * first + affine[:3, 1] * top
        array = CONTRASTS[self.contrast](volume.array[:, first:last, rows].astype(np.float32))
        array = np.pad(array, ((0, 0), *air))
        found = None if labels is None else np.pad(labels.array[first:last, rows], air)
        if self.merged > 1:
            count = max(1, array.shape[1] // self.merged)
            size = min(self.merged, array.shape[1])
            array = array[:, : count * size].reshape(len(array), count, size, *array.shape[2:]).mean(axis=2)
            found = None if found is None else found[size // 2 :: size][:count]
            affine[:3, 3] += affine[:3, 0] * (size - 1) / 2
            affine[:3, 0] *= size
        if labels is not None:
            labels = replace(labels, array=found, affine=affine, native=None)
        return replace(case, volume=replace(volume, array=array, affine=affine, native=None), labels=labels)


def _scaled(array: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(array, (1, 99.5))
    return np.asarray(np.clip((array - low) / max(float(high - low), 1e-6), 0, 1))


def _inverted(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bright tissue dark and dark tissue bright, air left dark."""
    scaled = _scaled(array)
    return np.asarray(np.where(scaled > 0.06, 1.06 - scaled, scaled))


def _soft(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blurred in plane and noisy, as a fast scan."""
    scaled = ndimage.gaussian_filter(_scaled(array), (0, 0, 1.6, 1.6))
    return np.asarray(np.abs(scaled + np.random.default_rng(0).normal(0, 0.05, scaled.shape)), dtype=np.float32)


CONTRASTS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "": lambda array: array,
    "bright": lambda array: _scaled(array) ** 0.5,
    "deep": lambda array: _scaled(array) ** 2,
    "inverted": _inverted,
    "soft": _soft,
}
"""Contrasts that a model was not trained on, made of one that it was."""


@dataclass(frozen=True, eq=False)
class Looked:
    """A case as the networks saw it, without its image, and what they said of it."""

    prepared: Prepared
    evidence: Evidence


def looked_at(
    model: str, cases: Sequence[CaseFiles], views: Callable[[CaseFiles], Sequence[View]] = lambda files: (View(),)
) -> Iterator[tuple[CaseFiles, View, Path]]:
    """Each case in each of its views, and where what the networks say of it is kept; they run where nothing is yet."""
    wanted = [(files, view) for files in cases for view in views(files)]
    kept = _Paths(model)
    paths = {(id(files), view): kept.of(files, view) for files, view in wanted}
    missing = [pair for pair in wanted if not paths[(id(pair[0]), pair[1])].exists()]
    if missing:
        from ivdjax.inference.segmenter import load_segmenter, look  # JAX is needed here alone

        segmenter = load_segmenter(model)
        for files, view in tqdm(missing, desc="networks", unit="case"):
            case = view.of(read_case(files, segmenter.config.data.channels, partial=True))
            prepared, evidence = look(segmenter, prepare_case(segmenter.model, case))
            write_evidence(paths[(id(files), view)], Looked(prepared, evidence))
    for files, view in wanted:
        yield files, view, paths[(id(files), view)]


class _Paths:
    """Where the evidence of cases is kept, for one model."""

    def __init__(self, model: str) -> None:
        # As it is stored: a default that this version adds to the configuration is no other model.
        description = json.loads((model_folder(model) / DESCRIPTION).read_text(encoding="utf-8"))
        settings = description["config"]
        heeded = {key: settings.get(key) for key in ("preparation", "region", "disc", "localization")}
        inference = {key: settings["inference"].get(key) for key in ("overlap", "slice_smoothing_mm", "batch_size")}
        weights = str(description.get("weights_sha256", "unknown"))
        self._described = json.dumps([_FORMAT, weights, heeded, inference], sort_keys=True)
        self._folder = CACHE / weights[:8]

    def of(self, files: CaseFiles, view: View) -> Path:
        digest = hashlib.sha256(f"{self._described}{view!r}".encode())
        for channel, path in files.channels.items():
            digest.update(channel.encode() + Path(str(path)).read_bytes())
        return self._folder / f"{files.name}_{digest.hexdigest()[:16]}.pickle"


def write_evidence(path: Path, looked: Looked) -> None:
    """Keeps evidence, probabilities to half precision."""
    prepared, evidence = looked.prepared, looked.evidence
    bare = replace(prepared, image=prepared.image[:, :0], labels=None, occupancy=None)
    levels = None if evidence.level_probability is None else evidence.level_probability.astype(np.float16)
    kept = replace(evidence, probability=evidence.probability.astype(np.float16), level_probability=levels)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, zlib.compress(pickle.dumps(Looked(bare, kept)), 1))


def read_evidence(path: Path) -> Looked:
    """What `write_evidence` kept."""
    looked: Looked = pickle.loads(zlib.decompress(path.read_bytes()))
    evidence = looked.evidence
    levels = None if evidence.level_probability is None else evidence.level_probability.astype(np.float32)
    return Looked(
        looked.prepared,
        replace(evidence, probability=evidence.probability.astype(np.float32), level_probability=levels),
    )
