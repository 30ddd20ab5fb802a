"""The measures of wear find what holds on a phantom's solids, and the signal that was painted."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.data.phantom import PhantomOptions, acquisition, make_phantom, phantom
from ivdjax.data.phantom.alignment_truth import alignment_truth
from ivdjax.data.phantom.protocol import Protocol
from ivdjax.data.phantom.shapes import rotation
from ivdjax.discs.degeneration import measure_spine
from tests.data.phantom.solids import solid_masks

ASLANT = rotation(7, 5, 6)


@pytest.mark.parametrize(("seed", "hard"), [(2, "slip"), (3, "bulge")])
@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((30, 220, 120), (2.0, 1.0, 1.0)), ((16, 234, 128), (3.6, 0.94, 0.94))]
)
def test_shapes_are_measured_as_they_are(seed, hard, shape, spacing_mm):
    spine, labels, tissues = solid_masks(seed, hard, shape, spacing_mm, ASLANT)
    truth, found = alignment_truth(spine, range(1, 5)), measure_spine(labels, tissues, None).levels
    assert found[1].slip_mm is None and truth[1].slip_mm is None
    for level in (2, 3, 4):
        for name in ("slip_mm", "posterior_overhang_mm"):
            assert getattr(found[level], name) == pytest.approx(getattr(truth[level], name), abs=0.3)
        assert found[level].segmental_angle_deg == pytest.approx(truth[level].segmental_angle_deg, abs=1.0)
        heights = [getattr(found[level], f"body_{name}_height_mm") for name in ("anterior", "middle", "posterior")]
        assert heights == pytest.approx(truth[level].body_heights_mm, abs=0.3)
        assert found[level].body_depth_mm == pytest.approx(truth[level].body_depth_mm, abs=0.3)
    given = {"slip": max(abs(truth[level].slip_mm) for level in (2, 3, 4)),
             "bulge": max(truth[level].posterior_overhang_mm for level in (2, 3, 4))}  # fmt: skip
    assert given[hard] > 2.5  # there is something to measure


def test_signal_and_stenosis_of_an_even_scan_without_noise(monkeypatch):
    monkeypatch.setattr(phantom, "sample_protocol", lambda *_: Protocol(noise=0.0, bias=0.0))
    for gain in ("_coil", "_saturation"):
        monkeypatch.setattr(acquisition, gain, lambda *_, **__: np.float32(1))
    options = PhantomOptions(channels=("t2",), shape=(30, 208, 136), spacing_mm=(2.0, 1.25, 1.25), hard="stenosis")
    made = make_phantom(3, options)
    found = measure_spine(made.case.labels, made.case.tissues, made.case.volume.array[0]).levels
    truth = {one.level: one for one in made.truth if one.level in found}
    narrow = min((2, 3, 4), key=lambda level: truth[level].canal_ap_mm)
    assert truth[narrow].canal_ap_mm < 0.8 * truth[5].canal_ap_mm
    assert found[narrow].canal_ap_mm == pytest.approx(truth[narrow].canal_ap_mm, abs=0.5)
    for part in ("csf", "marrow"):
        off = [getattr(found[level], f"nucleus_over_{part}") / (own.nucleus_signal / getattr(own, f"{part}_signal")) - 1
               for level, own in truth.items()]  # fmt: skip
        assert np.median(off) == pytest.approx(0.0, abs=0.02), part
        assert max(map(abs, off)) < 0.08
