"""Mutations of .npz archives: the zip, its members' names, and the arrays' headers."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import warnings
import zipfile

from tests.fuzz.sample import Sample
from tests.fuzz.spoiling import number, packed, patched, spoiled

_HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': 3, }", "{'descr': '<U9', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 30 + ",), }",
    "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<c8', 'fortran_order': True, 'shape': (3, 2), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3,), }", "__import__('os').system('touch HACKED')", "{",
    "(" * 300, "[" * 9000, "{'descr': '|V0', 'fortran_order': False, 'shape': (99999999999,), }",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (), }", "1",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (7, 24, 20), }",
    "{'descr': '|b1', 'fortran_order': False, 'shape': (2, 2), }",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5), }", "",
)  # fmt: skip
_NAMES = (
    "", "/", "//x.npy", "../../evil.npy", "/tmp/evil.npy", "disc.npy", "disc/layer.npy", "disc/layer/kernel/x.npy",
    "x", "a/b/c.npy", "__proto__.npy", "labels.npy", "affine.npy", "disc//x.npy", "\u202e.npy", "a" * 60000,
    "region/k.npy", ".npy",
)  # fmt: skip


def spoiled_model(sample: Sample, chance: random.Random, spoil_json: object) -> Sample:
    """A model folder with one archive changed, and the checksum that fits, as whoever means it would give it."""
    name = chance.choice(("weights.npz", "reference.npz"))
    turn = chance.random()
    if turn < 0.35:
        content = spoil_json(sample.files["model.json"], chance)  # type: ignore[operator]
        return sample.with_file("model.json", content)
    if turn < 0.38:
        return sample.with_file(chance.choice(sorted(sample.files)), None)
    content = spoiled_npz(sample.files[name], chance) if turn < 0.8 else spoiled(sample.files[name], chance)
    sample = sample.with_file(name, content)
    return signed(sample, name) if chance.random() < 0.9 else sample


def signed(sample: Sample, name: str) -> Sample:
    """The sample with the right checksum of an archive in its description."""
    description = json.loads(sample.files["model.json"])
    description[f"{name.removesuffix('.npz')}_sha256"] = hashlib.sha256(sample.files[name]).hexdigest()
    return sample.with_file("model.json", json.dumps(description).encode())


def spoiled_npz(content: bytes, chance: random.Random) -> bytes:
    """One member of another name, header or content; or one more; or other compression; or other zip records."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    compression = chance.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    )
    place = chance.randrange(len(members))
    name, array = members[place]
    turn = chance.random()
    if turn < 0.35:
        members[place] = name, _with_header(array, chance)
    elif turn < 0.5:
        members[place] = chance.choice(_NAMES), array
    elif turn < 0.6:
        members.append((chance.choice((*_NAMES, name)), array))
    elif turn < 0.7:
        del members[place]
    elif turn < 0.85:
        members[place] = name, spoiled(array, chance)
    elif turn < 0.87:  # far larger unpacked than packed
        header = _header("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000,), }")
        members[place], compression = (name, header + bytes(chance.choice((1, 40_000_000)))), zipfile.ZIP_DEFLATED
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # doubled names are meant
        for member, data in members:
            archive.writestr(zipfile.ZipInfo(member), data, compression)
    result = buffer.getvalue()
    return _with_record(result, chance) if chance.random() < 0.3 else result


def _header(text: str) -> bytes:
    encoded = text.encode("latin-1", "replace")[:65000] + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded


def _with_header(array: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return patched(array, 6, packed(chance, "<h") + packed(chance, "<h"))
    length = struct.unpack_from("<H", array, 8)[0]
    return _header(chance.choice(_HEADERS)) + array[10 + length :]


def _with_record(content: bytes, chance: random.Random) -> bytes:
    """A number in one of the zip's records changed: flags, method, checksum, sizes, counts, offsets."""
    mark, width = chance.choice(((b"PK\3\4", 30), (b"PK\1\2", 46), (b"PK\5\6", 22)))
    at = content.find(mark)
    if at < 0:
        return content
    offset = at + chance.randrange(4, width)
    return patched(content, offset, struct.pack("<I", number(chance) % 2**32)[: chance.choice((1, 2, 4))])
