"""Five seconds of `make fuzz`, and that it finds what it is there to find."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from tests.fuzz.corpus import build
from tests.fuzz.hunt import Reader, Tally, hunt, keep
from tests.fuzz.mutation import Mutator
from tests.fuzz.sample import Sample, load, store
from tests.fuzz.targets import TARGETS

SECONDS = 5.0


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory, root: Path) -> list[Sample]:
    return build(tmp_path_factory.mktemp("made"), root)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory):
    """One for all tests: it starts anew where a test ends it."""
    reading = Reader(tmp_path_factory.mktemp("fuzz") / "reading")
    yield reading
    reading.stop()


def test_damaged_inputs_end_as_success_or_as_a_documented_error(valid, reader, tmp_path):
    """Every valid input is read; then damaged ones for a few seconds. `make fuzz` draws others every time."""
    for sample in valid:
        assert reader.read(sample) == ("read", ""), sample
    tally, until = Tally(), time.monotonic() + SECONDS
    hunt(Mutator(valid, str(reader.outside)), reader, "suite", until, tmp_path / "findings", tally)
    assert not tally.findings
    assert tally.outcomes["read"] > 0 and tally.outcomes["refused"] > 0


def test_a_seed_gives_the_same_inputs_again(valid):
    mutator = Mutator(valid, "/outside")
    first, again, other = (
        [mutator.draw(random.Random(f"{seed} {n}")) for n in range(40)] for seed in ("a", "a", "b")
    )  # fmt: skip
    assert first == again != other
    assert {sample.kind for sample in first} <= TARGETS.keys()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("import time; time.sleep(60)", "hangs: no end after 10 s of its own, or 0.5 s in all"),
        ("while True: pass", "hangs: no end after 0.5 s of its own, or 60 s in all"),
        ("import os; os._exit(3)", "the process died: exit code 3"),
        ("bytearray(5 << 30)", "MemoryError"),
        ("held = b'x' * (1100 << 20)", "took 1[01].. MiB for an input of 0 KiB"),
        ("(output / 'half').write_text('x'); raise CaseError('no')", "output in part after an error: .*half"),
        ("(output.parent.parent / 'stray').write_text('x')", "open outside of the output: .*stray"),
        ("(output.parents[2] / 'outside/secret.raw').read_bytes()", "read outside of the input: .*secret"),
        ("said.append('Name: MUSTERMANN')", "words of the patient in a message: .*Mustermann"),
        ("import warnings; warnings.warn('MRN-4711')", "words of the patient in a message: .*MRN-4711"),
        ("import pickle; pickle.loads(pickle.dumps(CaseError))", "pickle.find_class"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("raise CaseError('')", "an error without a message"),
        ("raise UserError('x' * 30_000)", "a message of 30000 letters"),
    ],
)
def test_what_must_not_happen_is_a_finding(reader, monkeypatch, code, words):
    """The worker runs `code` in place of a reader."""
    if "while" in code:
        monkeypatch.setattr("tests.fuzz.hunt.INPUT_LIMIT_S", 0.5)
    if "sleep" in code:
        monkeypatch.setattr("tests.fuzz.hunt.WAITING_LIMIT_S", 0.5)
    outcome, reason = reader.read(Sample("probe", {}, (code,)))
    assert outcome == "finding"
    assert re.search(words, reason), reason


def test_a_finding_is_stored_and_read_again(reader, tmp_path):
    tally, sample = Tally(), Sample("subjects", {"subjects.csv": b"case,subject\na,b\n"}, ("w",))
    for number in range(5):
        reason = 'File "/x/ivdjax/data/folds.py", line 7, in f\nKeyError: 1'
        keep(sample, reason, f"seed 1, input {number}", tmp_path / "found", tally)
    folders = sorted((tmp_path / "found").iterdir())
    assert [folder.name for folder in folders] == ["subjects-KeyError-folds_7-1", "subjects-KeyError-folds_7-2"]
    assert load(folders[0]) == sample and "seed 1, input 0" in (folders[0] / "reason.txt").read_text()
    assert tally.alike == {"subjects-KeyError-folds_7": 5}
    store(sample, tmp_path / "again")
    assert reader.read(load(tmp_path / "again")) == ("read", "")
