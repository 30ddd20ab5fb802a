"""From a valid input to a damaged one, by the input's kind. The same chance gives the same input."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property

from ivdjax.config import Config
from tests.fuzz.archives import spoiled_model
from tests.fuzz.documents import spoiled_json, spoiled_override, spoiled_table, spoiled_yaml
from tests.fuzz.images import spoiled_metaimage, spoiled_nifti, spoiled_nrrd
from tests.fuzz.sample import Sample
from tests.fuzz.series import spoiled_folder
from tests.fuzz.spoiling import TEXTS, spoiled

_WEIGHTS = {
    "volume": 30,
    "labels": 14,
    "scores": 1,
    "series": 22,
    "model": 12,
    "config": 8,
    "override": 6,
    "subjects": 3,
    "visits": 8,
}
"""How often each kind is drawn; cheap kinds find as much in fewer tries."""


@dataclass(frozen=True)
class Mutator:
    """Draws inputs from valid ones.

    Attributes:
        valid: the samples.
        outside: a folder that no input may reach; its path is put into some of them.
    """

    valid: Sequence[Sample]
    outside: str

    @cached_property
    def _by_kind(self) -> dict[str, list[Sample]]:
        return {kind: [sample for sample in self.valid if sample.kind == kind] for kind in _WEIGHTS}

    @cached_property
    def _keys(self) -> list[str]:
        return list(_dotted(Config(name="x")))

    def draw(self, chance: random.Random, kinds: Sequence[str] = ()) -> Sample:
        """A damaged input; of one of some kinds where they are given."""
        names = list(kinds or _WEIGHTS)
        kind = chance.choices(names, [_WEIGHTS[name] for name in names])[0]
        return self.spoil(chance.choice(self._by_kind[kind]), chance)

    def spoil(self, sample: Sample, chance: random.Random) -> Sample:
        """A valid sample, damaged."""
        others = [content for other in self._by_kind[sample.kind] for content in other.files.values()]
        if sample.kind == "series":
            return spoiled_folder(sample, chance, others)
        if sample.kind == "model":
            return spoiled_model(sample, chance, spoiled_json)
        if sample.kind == "override":
            words = [spoiled_override(word, self._keys, chance) for word in sample.words * chance.choice((1, 1, 2))]
            return Sample(sample.kind, sample.files, tuple(words))
        if sample.kind == "labels" and chance.random() < 0.1:
            place = chance.randrange(3)
            words = [
                *sample.words[:place],
                chance.choice((*TEXTS[:20], ".mhd", ".nhdr", ".txt")),
                *sample.words[place + 1 :],
            ]
            words[2] = words[2].replace("/", "_").replace("\0", "")[:40]
            return Sample(sample.kind, sample.files, tuple(words))
        path = chance.choice(sorted(sample.files))
        content = self._spoiled_file(path, sample.files[path], chance, others)
        return sample.with_file(path, content.replace(b"{outside}", self.outside.encode()))

    def _spoiled_file(self, path: str, content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
        if path.endswith(".json"):
            return spoiled_json(content, chance)
        if path.endswith(".yaml"):
            return spoiled_yaml(content, chance)
        if path.endswith(".csv"):
            return spoiled_table(content, chance)
        if chance.random() < 0.25:
            return spoiled(content, chance, others)
        if path.endswith((".nii", ".nii.gz")):
            return spoiled_nifti(content, chance)
        if path.endswith((".mha", ".mhd")):
            return spoiled_metaimage(content, chance)
        if path.endswith((".nrrd", ".nhdr")):
            return spoiled_nrrd(content, chance)
        return spoiled(content, chance, others)


def _dotted(section: object, prefix: str = "") -> list[str]:
    """Every key of a configuration."""
    keys = []
    for field in fields(section):  # type: ignore[arg-type]
        value = getattr(section, field.name)
        keys.append(prefix + field.name)
        if is_dataclass(value):
            keys += _dotted(value, f"{prefix}{field.name}.")
    return keys
