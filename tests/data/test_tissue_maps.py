"""A tissue map beside the labels: read, refused, prepared and stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivdjax.config import DataConfig, PreparationConfig
from ivdjax.data.cache import read_prepared, write_prepared
from ivdjax.data.datasets import find_case, find_cases, read_case
from ivdjax.data.phantom.dataset import write_case
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.phantom.phantom import make_phantom
from ivdjax.data.preparation import prepare, regrid
from ivdjax.imaging.files import write_labels
from ivdjax.volume import CaseError, LabelMap, UserError

OPTIONS = PhantomOptions(channels=("t2",), shape=(14, 96, 64), spacing_mm=(5.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tissues")
    write_case(root / "P1", make_phantom(4, OPTIONS, name="P1"))
    return root / "P1"


def test_the_phantom_s_map_holds_discs_vertebrae_and_canal_and_its_discs_are_the_labels(folder: Path):
    case = read_case(find_case(folder, ("t2",)), ("t2",))
    assert case.tissues is not None and case.labels is not None
    assert case.tissues.levels == (1, 2, 3)
    assert (case.tissues.array[case.labels.array > 0] == 1).all()
    lowest = np.nonzero(case.labels.array == 1)[1].max()
    below = case.tissues.array[:, lowest + 5 :]
    assert (below == 2).sum() < 0.02 * (case.tissues.array == 2).sum(), "the sacrum is not outlined"


def test_it_is_no_channel_and_goes_with_the_case_to_its_grid_and_into_the_cache(folder: Path, tmp_path: Path):
    found = find_case(folder, ("t2",))
    assert found.tissues == folder / "P1_Tissues.nii.gz" and "P1_Tissues.nii.gz" not in found.ignored
    prepared = prepare(read_case(found, ("t2",)), PreparationConfig(spacing_mm=(2.0, 2.0)), False)
    assert prepared.tissues is not None and prepared.tissues.shape == prepared.grid.shape
    assert set(np.unique(prepared.tissues)) == {0, 1, 2, 3}
    again = read_prepared(write_prepared(tmp_path, prepared))
    np.testing.assert_array_equal(again.tissues, prepared.tissues)
    coarse = regrid(replace(prepared, classes=prepared.tissues), (None, 4.0, 4.0))
    assert coarse.tissues is not None and coarse.classes is not None
    assert coarse.tissues.shape == coarse.classes.shape == coarse.grid.shape


def test_other_values_are_refused_with_what_they_should_be(folder: Path, tmp_path: Path):
    write_case(tmp_path / "P1", make_phantom(4, OPTIONS, name="P1"))
    case = read_case(find_case(folder, ("t2",)), ("t2",))
    assert case.tissues is not None
    odd = LabelMap(np.where(case.tissues.array == 3, 7, case.tissues.array), case.tissues.affine, case.tissues.native)
    write_labels(tmp_path / "P1" / "P1_Tissues.nii.gz", odd)
    with pytest.raises(CaseError, match="case P1: the values of P1_Tissues.nii.gz must be 0 or 1 disc"):
        read_case(find_case(tmp_path / "P1", ("t2",)), ("t2",))


def test_a_channel_of_that_name_is_refused(folder: Path):
    with pytest.raises(UserError, match='"tissues" ends a reference\'s file name and is never a channel'):
        find_cases(folder.parent, DataConfig(channels=("Tissues",)))
