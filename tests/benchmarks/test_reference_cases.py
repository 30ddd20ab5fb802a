from __future__ import annotations

import pytest

from benchmarks.reference_cases import reference_cases
from ivdjax.volume import UserError


@pytest.fixture
def root(tmp_path):
    for case, files in {"a": ("t2", "Labels"), "b": ("t2",), "c": ("t2", "Labels")}.items():
        (tmp_path / case).mkdir()
        for name in files:
            (tmp_path / case / f"{case}_{name}.nii.gz").touch()
    return tmp_path


def test_case_folders_and_folders_of_them_with_references(root):
    assert [files.name for files in reference_cases([str(root)], ("t2",))] == ["a", "c"]
    assert [files.name for files in reference_cases([str(root / "c"), str(root / "a")], ("t2",))] == ["c", "a"]


def test_no_reference_at_all(root):
    with pytest.raises(UserError, match=r"no case in .*b has a reference"):
        reference_cases([str(root / "b")], ("t2",))
