"""From a DICOM header to the signal of a disc: what the header, or a person, says of the weighting decides it all.

The networks' part is drawn: all before and behind them runs as in `ivdjax infer`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivdjax.config import Config, DataConfig, InferenceConfig, PreparationConfig
from ivdjax.data.datasets import read_case
from ivdjax.discs.degeneration import NOT_T2, SIGNAL_MEASURES
from ivdjax.discs.evidence import Evidence
from ivdjax.discs.grades import GRADE_MEASURES
from ivdjax.discs.numbering import Numbering
from ivdjax.inference import corrections
from ivdjax.inference.case_result import CaseResult, conclude, prepare_case
from ivdjax.inference.inputs import find_inputs
from ivdjax.model.model import Model, read_model
from ivdjax.reports.level_sheet import level_text
from tests.dicom_series import write_series
from tests.discs.drawn_levels import SIGNAL, Block, draw_levels
from tests.discs.test_measures import canonical_affine, rotation

BLOCKS, OVERHANGS = [Block((0.0, 37.0 * place)) for place in (-1.5, -0.5, 0.5, 1.5)], (0.0, 0.0, 0.0)
HEADERS: dict[str, dict[str, float | None]] = {
    "t2": {"EchoTime": 100.0, "RepetitionTime": 3500.0},
    "t1": {"EchoTime": 10.0, "RepetitionTime": 600.0},
    "untold": {"EchoTime": None},
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same slices under three headers, a folder each."""
    folder, shape = tmp_path_factory.mktemp("series"), (11, 130, 76)
    affine = canonical_affine((4.0, 1.3, 1.3), shape, rotation(6, 0), (0.0, -4.0, 0.0))
    image = draw_levels(BLOCKS, OVERHANGS, (shape, affine))[2]
    for name, extra in HEADERS.items():
        write_series(folder / name, image.transpose(2, 1, 0).astype(np.int16), affine[:, [2, 1, 0, 3]], extra=extra)
    return folder


def inferred(folder: Path, contrast: str, monkeypatch: pytest.MonkeyPatch) -> CaseResult:
    """The result of a series, of which networks are sure of everything."""
    channels = ("image",)
    (found,) = find_inputs([str(folder)], channels)
    assert found.files is not None
    case = read_case(found.files, channels)
    settings = InferenceConfig(contrast=contrast, sure_outline=0.0)
    facts = {"grades": read_model("lumbar").meta["grades"]}
    config = Config("drawn", data=DataConfig(channels=channels), inference=settings,
                    preparation=PreparationConfig(spacing_mm=(1.3, 1.3)))  # fmt: skip
    model = Model(config, {}, facts)
    prepared = prepare_case(model, case)
    labels, tissues, _ = draw_levels(BLOCKS, OVERHANGS, (prepared.grid.shape, prepared.grid.affine))
    monkeypatch.setattr(corrections, "number_discs", lambda *_: Numbering(
        labels.array, dict.fromkeys(labels.levels, 0.95), "ok", ()))  # fmt: skip
    shares = [(tissues.array == value).astype(np.float32) for value in (1, 2, 3)]
    evidence = Evidence(shares[0], prepared.grid, tissue_probability=np.stack(shares[1:]))
    return conclude(model, case, prepared, evidence)


@pytest.mark.parametrize(
    ("header", "contrast", "given"),
    [
        ("t2", "told", True),
        ("t1", "told", False),
        ("untold", "told", False),
        ("untold", "t2", True),
        ("t2", "t1", False),
    ],
)
def test_the_header_or_a_person_decides_whether_signal_and_grade_are_given(
    series, header, contrast, given, monkeypatch
):
    result = inferred(series / header, contrast, monkeypatch)
    disc = next(disc for disc in result.discs if disc.level == 2)
    assert (
        disc.measures["slip_mm"] is not None and disc.measures["canal_ap_mm"] is not None
    )  # shape is measured in any contrast
    names = (*SIGNAL_MEASURES, *GRADE_MEASURES)
    text = level_text(result.discs, result.lordosis)
    if given:
        assert all(disc.measures[name] is not None for name in names) and not set(names) & set(disc.missing)
        for part in ("csf", "marrow"):
            assert disc.measures[f"nucleus_over_{part}"] == pytest.approx(SIGNAL["nucleus"] / SIGNAL[part], rel=0.03)
        assert sum(disc.measures[name] for name in GRADE_MEASURES[2:]) == pytest.approx(1.0)
        assert "Pfirrmann estimate" in text and NOT_T2 not in text
    else:
        assert all(disc.measures[name] is None and disc.missing[name] == NOT_T2 for name in names)
        assert f"Nucleus to CSF: not given ({NOT_T2})." in text
        assert f"Pfirrmann estimate: not given ({NOT_T2})." in text
