"""What `pip install` gives: the wheel's content and metadata, and the program run from it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ivdjax import __version__


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    before = {path.name for path in root.iterdir()}
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check",
         "-w", str(folder), str(root)], check=True, capture_output=True,
    )  # fmt: skip
    assert {path.name for path in root.iterdir()} == before, "building leaves nothing behind"
    (found,) = folder.glob("*.whl")
    return found


def test_the_package_requires_what_requirements_txt_pins(root, wheel):
    lines = [line.partition(" #")[0].strip() for line in (root / "requirements.txt").read_text("utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {"jax", "flax", "numpy", "nibabel", "SimpleITK"} <= {pin.name for pin in pins}
    assert all(str(pin.specifier).startswith("==") for pin in pins), "options such as -r cannot stand in metadata"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"ivdjax-{__version__}.dist-info/METADATA").decode())
    needed = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    assert {(one.name.lower(), one.specifier) for one in needed if one.marker is None} == {
        (pin.name.lower(), pin.specifier) for pin in pins
    }
    assert metadata["Version"] == __version__ and metadata["Requires-Python"] == ">=3.11"


def test_the_wheel_holds_code_assets_and_models_and_nothing_else(root, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entries = archive.read(f"ivdjax-{__version__}.dist-info/entry_points.txt").decode()
    assert "ivdjax = ivdjax.cli.program:main" in entries
    models = [path for path in (root / "models").rglob("*") if path.is_file()]
    assert models and {f"ivdjax/models/{path.relative_to(root / 'models')}" for path in models} <= names
    tracked = subprocess.run(["git", "ls-files", "ivdjax"], cwd=root, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split("\n")) - {""} <= names
    assert {name.partition("/")[0] for name in names} == {"ivdjax", f"ivdjax-{__version__}.dist-info"}


def test_the_program_runs_from_the_wheel_in_another_folder(wheel, tmp_path):
    """The dependencies are those of this environment; the long test installs them too."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "IVDJAX_MODELS": str(tmp_path / "none")}
    script = "import sys, ivdjax; from ivdjax.cli.program import main; print(ivdjax.__file__); sys.exit(main())"
    done = subprocess.run([sys.executable, "-P", "-c", script, "models", "list"], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    where, *listed = done.stdout.splitlines()
    folders = [line for line in listed if "channels:" in line]
    assert where.startswith(str(tmp_path)) and len(folders) >= 2
    assert all(str(tmp_path / "site" / "ivdjax" / "models") in line for line in folders)


def test_the_version_is_that_of_the_changelog_and_stands_in_one_place(root):
    assert "version" in tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dynamic"]
    assert f"\n## {__version__}" in (root / "CHANGELOG.md").read_text("utf-8")
