"""What `pip install .` asks for beside the package itself."""

from __future__ import annotations

import tomllib

from packaging.requirements import Requirement


def test_the_package_requires_what_requirements_txt_pins(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["dependencies"]
    (file,) = project["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    lines = [line.partition(" #")[0].strip() for line in (root / file).read_text(encoding="utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {"jax", "flax", "numpy", "nibabel", "SimpleITK"} <= {pin.name for pin in pins}
    assert all(str(pin.specifier).startswith("==") for pin in pins), "options such as -r cannot stand in metadata"
