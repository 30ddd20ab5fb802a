"""Dixon cases made from patients of another sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_dixon import write_as_dixon
from ivdjax.data.datasets import find_case, read_case
from ivdjax.data.phantom import PhantomOptions, PhantomSet, write_phantoms
from ivdjax.volume import DIXON, UserError


def test_a_case_gets_four_channels_on_the_grid_of_its_file(tmp_path):
    options = PhantomOptions(channels=("t2",), shape=(14, 110, 60), spacing_mm=(2.0, 3.0, 3.0))
    write_phantoms(tmp_path / "in", PhantomSet(1, 3, options=options))
    source = next(Path(tmp_path / "in").glob("*/"))
    files = find_case(source, ["t2"])
    was = read_case(files, ["t2"])
    now = read_case(find_case(write_as_dixon(files, "t2", tmp_path / "out"), DIXON), DIXON)
    assert now.volume.channels == DIXON and now.volume.grid.shape == was.volume.grid.shape
    np.testing.assert_allclose(now.volume.affine, was.volume.affine, atol=1e-4)
    np.testing.assert_array_equal(now.labels.array, was.labels.array)
    fat, inn, opp, wat = now.volume.array.astype(float)
    disc = was.labels.array > 0
    assert wat[disc].mean() > 4 * fat[disc].mean(), "discs are water"
    assert np.corrcoef(inn.ravel(), opp.ravel())[0, 1] < 0.99

    (source / f"{source.name}_Tissues.nii.gz").unlink()
    with pytest.raises(UserError, match="no tissue map"):
        write_as_dixon(find_case(source, ["t2"]), "t2", tmp_path / "out")
