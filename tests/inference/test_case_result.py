"""Conclusions from what the networks said, on a probability whose half lies between voxels, where a hand can tell."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.config import Config, DataConfig, InferenceConfig, PreparationConfig
from ivdjax.discs.evidence import Evidence
from ivdjax.discs.numbering import Numbering
from ivdjax.discs.outline import expected_dice
from ivdjax.discs.verdict import Judgement
from ivdjax.inference import corrections
from ivdjax.inference.case_result import CaseResult, conclude, prepare_case
from ivdjax.model.model import Model
from ivdjax.volume import Case, Grid, Volume, to_world_mm

EDGE_MM = 3.3
"""Half the height of the disc, at probability 0.5; a working voxel is 2 mm high, one of the file 0.5 mm."""

LOWER_MM = 12.0
"""So far below lies another one, which the numbering leaves out."""


GRADES = {"features": {"l4_to_s1": {"centre": 0.0, "spread": 1.0, "weight": 1.0}}, "thresholds": [-2, -1, 1.5, 3]}
"""A grader that needs no image to be T2-weighted."""


@pytest.fixture
def concluded(monkeypatch: pytest.MonkeyPatch) -> tuple[CaseResult, Evidence]:
    return conclusion(monkeypatch, InferenceConfig())


def conclusion(monkeypatch: pytest.MonkeyPatch, settings: InferenceConfig, **meta) -> tuple[CaseResult, Evidence]:
    affine = np.array([[-4.0, 0, 0, 0], [0, 0, -0.5, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]])
    array = np.random.default_rng(0).uniform(1, 2, (1, 2, 64, 48)).astype(np.float32)
    case = Case("a", "a", Volume(array, affine, ("t2",), native=Grid((2, 64, 48), affine)))
    preparation = PreparationConfig(spacing_mm=(2.0, 2.0))
    config = Config("m", data=DataConfig(channels=("t2",)), preparation=preparation, inference=settings)
    model = Model(config, {}, meta)
    prepared = prepare_case(model, case)
    away_mm = np.abs(heights_mm(prepared.grid) + 16)  # from the disc's middle, in the middle of the image
    away_mm = np.minimum(away_mm, np.abs(heights_mm(prepared.grid) + 16 + LOWER_MM))
    probability = np.clip(0.5 + (EDGE_MM - away_mm) / 8, 0, 1).astype(np.float32)

    def number(evidence: Evidence, settings: InferenceConfig, judgement: Judgement) -> Numbering:
        below = (0, LOWER_MM / 2, 0)
        voxels = np.argwhere(disc_of(evidence) > 0) + np.array(below, int)
        return Numbering(disc_of(evidence), {2: 0.9}, "ok", (), left_out=(("S1/S2", voxels),))

    monkeypatch.setattr(corrections, "number_discs", number)
    beside = np.stack([away_mm > EDGE_MM + 2, away_mm > 100]).astype(np.float32)  # vertebra all round, and no canal
    evidence = Evidence(probability, prepared.grid, tissue_probability=beside)
    return conclude(model, case, prepared, evidence), evidence


def disc_of(evidence: Evidence) -> np.ndarray:
    """The upper one of the two, as L4/5 on the working grid."""
    upper = heights_mm(evidence.grid) > -16 - LOWER_MM / 2
    return ((evidence.probability > 0.5) & upper) * np.uint8(2)


def heights_mm(grid: Grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return to_world_mm(grid.affine, index.reshape(-1, 3).astype(float))[:, 2].reshape(grid.shape)


def test_outlines_follow_the_probability_between_the_networks_voxels(concluded):
    """Interpolated from the labels alone, the edge would lie half-way between two voxels of 2 mm."""
    labels = concluded[0].labels
    inside = np.abs(heights_mm(labels.grid) + 16) < EDGE_MM
    assert np.array_equal(labels.array, inside * np.uint8(2))


def test_the_outlines_confidence_is_that_of_the_probability(concluded):
    """A map of labels is sure of every outline: it would give 1."""
    result, evidence = concluded
    (disc,) = result.discs
    levels = disc_of(evidence)
    assert disc.outline_confidence == pytest.approx(expected_dice(evidence.probability, levels, evidence.grid)[2])
    assert disc.outline_confidence < 0.8 and disc.level_confidence == 0.9


def test_grades_are_given_by_models_that_hold_them_unless_told_not_to_or_the_outline_is_unsure(monkeypatch):
    def grade(settings, **meta):
        (disc,) = conclusion(monkeypatch, settings, **meta)[0].discs
        return disc.measures["pfirrmann_grade"]

    calibration = {"scale": 1.0, "power": 1.0}
    assert grade(InferenceConfig(), grades=GRADES) == 3
    assert grade(InferenceConfig()) is None
    assert grade(InferenceConfig(grades=False), grades=GRADES) is None
    for least, given in ((0.5, 3), (0.9, None)):
        settings = InferenceConfig(sure_outline=least)
        assert grade(settings, grades=GRADES, outline_calibration=calibration) == given


def test_what_was_left_out_is_as_fine_as_the_discs(concluded):
    result, _ = concluded
    assert result.left_out is not None and result.left_out.names == ("S1/S2",)
    heights = heights_mm(result.labels.grid)
    inside, whole = np.abs(heights + 16 + LOWER_MM) < EDGE_MM, heights > -30  # below, the image ends
    assert np.array_equal(result.left_out.labels.array[whole], inside[whole] * np.uint8(1))
    assert set(np.unique(result.left_out.over(result.labels))) == {0, 2, *result.left_out.values(result.labels)}


def test_what_tissues_show_of_the_level_is_measured_or_its_absence_explained(concluded):
    result, _ = concluded
    assert result.tissues is not None and result.tissues.levels == (1, 2)
    (disc,) = result.discs
    assert disc.measures["nucleus_over_csf"] is None and "T2" in disc.missing["nucleus_over_csf"]
    assert disc.measures["slip_mm"] is None and "vertebra above" in disc.missing["slip_mm"]
    assert "canal" in disc.missing["canal_ap_mm"] and result.lordosis.measures["lordosis_l1_l5_deg"] is None
