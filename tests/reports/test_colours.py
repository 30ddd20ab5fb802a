from __future__ import annotations

import itertools

import numpy as np
import pytest

from ivdjax.reports.colours import BOTH, PREDICTION, REFERENCE, hex_colour, level_colour

# Protanopia and deuteranopia after Vienot, Brettel and Mollon (1999), on linear RGB.
_SEEN_BY = {
    "normal": np.eye(3),
    "protan": np.array([[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]]),
    "deutan": np.array([[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]]),
}


@pytest.mark.parametrize("vision", _SEEN_BY)
def test_neighbouring_levels_differ_for_every_reader(vision):
    seen = {level: _SEEN_BY[vision] @ np.array(level_colour(level)) ** 2.2 for level in range(1, 16)}
    for lower, upper in itertools.pairwise(seen):
        gap = np.linalg.norm(np.clip(seen[lower], 0, 1) ** (1 / 2.2) - np.clip(seen[upper], 0, 1) ** (1 / 2.2))
        assert gap > (0.4 if upper <= 8 else 0.2), (lower, upper)  # of the 1.73 between black and white


@pytest.mark.parametrize("vision", _SEEN_BY)
def test_reference_prediction_and_agreement_differ_for_every_reader_and_from_gray(vision):
    seen = {name: np.clip(_SEEN_BY[vision] @ np.array(colour) ** 2.2, 0, 1) ** (1 / 2.2)
            for name, colour in {"reference": REFERENCE, "prediction": PREDICTION, "both": BOTH}.items()}  # fmt: skip
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.4, (one, other)


def test_every_level_up_to_the_fifteenth_has_its_own_colour():
    assert len({hex_colour(level_colour(level)) for level in range(1, 16)}) == 15
    assert all(0 <= part <= 1 for level in range(1, 256) for part in level_colour(level))


def test_hex():
    assert hex_colour((1.0, 0.5, 0.0)) == "#ff8000"


def test_level_zero_is_refused():
    with pytest.raises(ValueError, match="1 \\(L5/S1\\) or more"):
        level_colour(0)
