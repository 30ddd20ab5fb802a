"""Configurations that no careful person writes: one message, exit code 2, and no code of theirs runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ivdjax.config import ConfigError, read_config
from ivdjax.data.datasets import find_cases
from ivdjax.schema import parse_yaml
from ivdjax.volume import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def bomb(levels: int = 9, width: int = 9) -> str:
    """Aliases of lists of aliases: a few lines that stand for `width ** levels` words."""
    lines = ["x0: &x0 [w, w]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("tag", ["python/object/apply:os.system [touch ran]", "python/name:os.system", "python/none x"])
def test_tags_run_no_code(tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read as YAML: could not determine a constructor for the tag"):
        read_config(write(tmp_path, f"name: !!{tag}"))
    with pytest.raises(ConfigError, match="--set name=.*the value is not YAML"):
        read_config(write(tmp_path, "seed: 1"), [f"name=!!{tag}"])
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("place", ["name: *x8", "data: {channels: *x8}", "seed: *x8", "data: *x8", "zzz: *x8"])
def test_aliases_that_stand_for_millions_of_words_make_a_short_message(tmp_path, place):
    with pytest.raises(ConfigError) as raised:
        read_config(write(tmp_path, f"{bomb()}\n{place}"))
    assert len(str(raised.value)) < 2000


def test_merges_of_merges_keep_each_key_once():
    """By the letter of YAML's merge key, 9 ** 11 pairs."""
    lines = ["x0: &x0 {k: 1}"]
    lines += [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}], own{n}: {n}}}" for n in range(1, 12)]
    assert parse_yaml("\n".join(lines))["x11"] == {"k": 1} | {f"own{n}": n for n in range(1, 12)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data:\n\troot: a", r"found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("%YAML 9.9\n---\na: 1", "found incompatible YAML document"),
        ("name: x\n? [a, b]\n: 3", "found unhashable key"),
        ("name: \0", "special characters are not allowed"),
        ("# nothing but a comment", "must hold keys and values, not NoneType"),
        ("just words", "must hold keys and values, not str"),
        ("data: &d\n  root: *d", "data.root must be text, not "),
        ("data:\n  root: a\n  Root: b", "unknown key 'data.Root'; did you mean 'root'"),
        ("data:\n  root: a\n  root: b", "line 3: key 'root' is given twice; keep one"),
        ("seed: 1_000", None),
        ("disc: {training: {crop: [192.0, 128]}}", r"disc.training.crop\[0\] must be a whole number, not 192.0"),
        ("name: " + "[" * 1200, "cannot be read as YAML"),
    ],
)
def test_texts_that_are_no_configuration(tmp_path, text, words):
    if words is None:
        assert read_config(write(tmp_path, text)).seed == 1000
        return
    with pytest.raises(ConfigError, match=words):
        read_config(write(tmp_path, text))


def test_a_root_whose_folders_hold_no_channel_is_no_dataset(tmp_path):
    config = read_config(write(tmp_path, "data: {channels: [fat, wat]}"))
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "a_t2.nii.gz").touch()
    with pytest.raises(UserError, match=r"no case in .*root: expected .* for the channels fat, wat"):
        find_cases(tmp_path / "root", config.data)


def test_the_command_ends_with_2_and_one_message(root, tmp_path):
    path = write(tmp_path, "name: !!python/object/apply:os.mkdir [ran]")
    ended = subprocess.run(
        [sys.executable, root / "train.py", "--config", path, "--output", tmp_path / "run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
