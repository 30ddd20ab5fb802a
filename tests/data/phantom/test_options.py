from __future__ import annotations

from typing import Any

import pytest

from ivdjax.data.phantom import PhantomOptions
from ivdjax.volume import UserError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": ()}, "one or more different names"),
        ({"channels": ("fat", "fat")}, "one or more different names"),
        ({"channels": ("fatt",)}, "unknown channel 'fatt'; did you mean 'fat'"),
        ({"field": "cube"}, "unknown field 'cube'; known are full, slab, clinical"),
        ({"hard": "scolios"}, "did you mean 'scoliosis'"),
        ({"shape": (0, 256, 256)}, "must be above 0"),
        ({"shape": (500, 500, 500)}, "may have 100,000,000 voxels, not the 125,000,000 of"),
        ({"spacing_mm": (2.0, 0.0, 1.0)}, "must be above 0"),
        ({"shape": (36, 64, 64)}, "seven discs need 260 mm from top to bottom"),
        ({"shape": (36, 256, 100)}, "150 mm from front to back, not 320 x 125 mm"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PhantomOptions(**given)


def test_each_field_brings_its_own_grid_unless_told_otherwise() -> None:
    assert PhantomOptions().grid_shape == (36, 256, 256)
    assert PhantomOptions(field="slab").grid_spacing_mm == (0.9, 0.94, 0.94)
    assert PhantomOptions(shape=(16, 96, 80), spacing_mm=(4, 3, 3)).grid_shape == (16, 96, 80)
