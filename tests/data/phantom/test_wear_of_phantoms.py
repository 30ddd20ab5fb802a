"""The measures of wear find what the phantom's truth says of its slip, its bulge and its stenosis."""

from __future__ import annotations

import pytest

from ivdjax.data.phantom import PhantomOptions, make_phantom
from ivdjax.discs.degeneration import measure_spine


@pytest.mark.parametrize(
    ("hard", "truth", "measure", "near"),
    [
        ("slip", "slip_mm", "slip_mm", 0.8),
        ("bulge", "bulge_mm", "posterior_overhang_mm", 0.8),
        ("stenosis", "canal_ap_mm", "canal_ap_mm", 0.5),
    ],
)
def test_what_a_phantom_was_given_is_measured(hard, truth, measure, near):
    options = PhantomOptions(channels=("t2",), shape=(36, 200, 150), spacing_mm=(1.6, 1.3, 1.3), hard=hard)
    phantom = make_phantom(2, options)
    labels, tissues = phantom.case.labels, phantom.case.tissues
    found = measure_spine(labels, tissues, phantom.case.volume.array[0]).levels
    given = {one.level: getattr(one, truth) for one in phantom.truth if 2 <= one.level <= 5}
    level = min(given, key=given.get) if hard == "stenosis" else max(given, key=given.get)
    others = [value for other, value in given.items() if other != level]
    assert given[level] < 0.8 * min(others) if hard == "stenosis" else given[level] > max(others) + 1
    assert getattr(found[level], measure) == pytest.approx(given[level], abs=near)
