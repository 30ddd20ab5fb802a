from __future__ import annotations

import numpy as np
import pytest

from ivdjax.reports.paper import paper_rows


def test_the_means_are_those_of_the_abstract():
    rows = paper_rows()
    assert [(row["case"], row["level"]) for row in rows] == [
        (f"Test_0{c}", n) for c in range(1, 9) for n in range(1, 8)
    ]
    assert 100 * np.mean([row["dice"] for row in rows]) == pytest.approx(90.58, abs=5e-3)
    assert np.mean([row["localization_error_mm"] for row in rows]) == pytest.approx(0.78, abs=5e-3)
    assert np.mean([row["asd_mm"] for row in rows]) == pytest.approx(0.607, abs=5e-4)


def test_corners_of_the_tables():
    first, last = paper_rows()[0], paper_rows()[-1]
    assert (first["dice"], first["asd_mm"], first["localization_error_mm"]) == (0.888, 0.73, 0.44)
    assert (last["dice"], last["asd_mm"], last["localization_error_mm"]) == (0.889, 0.58, 0.60)
