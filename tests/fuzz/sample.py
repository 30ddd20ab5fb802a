"""What is fuzzed: the files of one input with the words of its command, in memory and in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

_FILES, _ABOUT, _REASON = "files", "input.json", "reason.txt"


@dataclass(frozen=True)
class Sample:
    """One input.

    Attributes:
        kind: what reads it; a key of `targets.TARGETS`.
        files: bytes by relative path.
        words: of the command line: overrides, schemes, an ending.
    """

    kind: str
    files: dict[str, bytes] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(map(len, self.files.values()))

    def with_file(self, path: str, content: bytes | None) -> Sample:
        """Another content of one file; None leaves it out."""
        files = {name: old for name, old in self.files.items() if name != path}
        return replace(self, files=files if content is None else files | {path: content})


def store(sample: Sample, folder: Path, reason: str = "") -> None:
    """Writes a sample into a folder, its files below `files/`."""
    (folder / _FILES).mkdir(parents=True, exist_ok=True)
    for name, content in sample.files.items():
        path = folder / _FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    about = {"kind": sample.kind, "words": sample.words}
    (folder / _ABOUT).write_text(json.dumps(about), encoding="ascii")
    if reason:
        (folder / _REASON).write_text(reason, encoding="utf-8", errors="backslashreplace")


def load(folder: Path) -> Sample:
    """The sample that `store` wrote."""
    about = json.loads((folder / _ABOUT).read_text(encoding="ascii"))
    home = folder / _FILES
    files = {path.relative_to(home).as_posix(): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
    return Sample(about["kind"], files, tuple(about["words"]))
