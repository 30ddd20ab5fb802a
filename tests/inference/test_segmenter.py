"""A loaded model: which networks it runs, what they see of a case, overrides, and channels that are missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivdjax.config import (
    Config,
    ConfigError,
    DataConfig,
    DiscConfig,
    InferenceConfig,
    LocalizationConfig,
    PreparationConfig,
    RegionConfig,
    TrainingConfig,
)
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.discs.numbering import Numbering
from ivdjax.discs.verdict import Judgement
from ivdjax.inference import case_result, corrections
from ivdjax.inference import segmenter as workflow
from ivdjax.inference.segmenter import Segmenter, find_discs, load_segmenter
from ivdjax.model.model import Model, override_inference, write_model
from ivdjax.model.stages import stage_crop
from ivdjax.volume import Case, CaseError, LabelMap, UserError, Volume

CONFIG = Config(
    "tiny",
    data=DataConfig(channels=("fat", "t2")),
    preparation=PreparationConfig(spacing_mm=(7.0, 2.5)),
    region=RegionConfig(spacing_mm=(7.0, 2.5), margin_mm=0.0, training=TrainingConfig(crop=(16, 32))),
    disc=DiscConfig(training=TrainingConfig(crop=(20, 12))),
    localization=LocalizationConfig(spacing_mm=(4.0, 14.0, 5.0), training=TrainingConfig(crop=(4, 16, 16))),
    inference=InferenceConfig(batch_size=3),
)
REFERENCE = LabelMap(np.ones((1, 2, 2), np.uint8), np.eye(4))
SHAPE = (4, 24, 20)


def model(*networks: str, config: Config = CONFIG) -> Model:
    weights = {name: {"layer": {"weight": np.full(1, place + 1.0)}} for place, name in enumerate(networks)}
    return Model(config, weights, reference=REFERENCE)


class Networks:
    """Networks that say of each voxel what the bright voxels of its first channel are; they note what they are asked.

    All of them say yes where that channel is bright; levels are 2 there.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, tuple[int, ...]]] = []
        self.compiled: dict[str, tuple[int, ...]] = {}

    def build(self, config: Config, stage: str, params: Any, batch: int, cache: Path | None) -> Any:
        levels = stage == "localization"
        self.compiled[stage] = (batch, *stage_crop(config, stage).box, len(config.data.channels))

        def predict(params: Any, boxes: np.ndarray) -> np.ndarray:
            self.asked.append((stage, float(params["layer"]["weight"][0]), boxes.shape))
            bright = boxes[..., 0] > 127
            return np.eye(8, dtype=np.float32)[2 * bright] if levels else bright.astype(np.float32)

        return predict


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Networks:
    made = Networks()
    monkeypatch.setattr(workflow, "predict_program", made.build)
    monkeypatch.setattr(workflow, "use_compilation_cache", lambda: None)
    return made


def load(tmp_path: Path, given: Model, *overrides: str) -> Segmenter:
    write_model(tmp_path / "model", given)
    return load_segmenter(tmp_path / "model", overrides)


def case(channels: tuple[str, ...] = ("fat", "t2")) -> Case:
    """Voxels of 4 x 7 x 2.5 mm; the first channel is bright in a block 40 mm long."""
    array = np.random.default_rng(0).uniform(0, 1, (len(channels), *SHAPE)).astype(np.float32)
    array[0, :, 8:12, 2:18] = 100.0
    affine = np.array([[-4.0, 0, 0, 10], [0, 0, -2.5, 20], [0, -7, 0, 30], [0, 0, 0, 1]])
    volume = Volume(array, affine, channels)
    return Case("a", "a", replace(volume, native=volume.grid))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Evidence]:
    """What numbering is shown; it takes everything for level 3."""
    shown: list[Evidence] = []

    def number(evidence: Evidence, settings: InferenceConfig, judgement: Judgement) -> Numbering:
        shown.append(evidence)
        if evidence.anchor is not None and evidence.anchor.point_mm[0] > 1000:
            raise ValueError("no disc lies at (2000, 0, 0) mm")
        found = (evidence.probability > settings.threshold) * np.uint8(3)
        return Numbering(found, {3: 0.75}, "ok", ())

    monkeypatch.setattr(corrections, "number_discs", number)
    return shown


def test_every_network_of_a_model_is_compiled_for_the_one_shape_that_it_will_see(tmp_path, networks, seen):
    loaded = load(tmp_path, model("disc", "localization", "region"))
    assert not networks.asked, "nothing runs"
    assert networks.compiled == {
        "disc": (3, 20, 12, 2), "localization": (1, 4, 16, 16, 2), "region": (16, 16, 32, 2)
    }  # fmt: skip
    find_discs(loaded, case())
    assert {(stage, weight, shape) for stage, weight, shape in networks.asked} == {
        ("disc", 1.0, (3, 20, 12, 2)), ("localization", 2.0, (1, 4, 16, 16, 2)), ("region", 3.0, (16, 16, 32, 2))
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "left"),
    [
        ([], ["disc", "localization", "region"]),
        (["inference.region=false"], ["disc", "localization"]),
        (["inference.localization=false"], ["disc", "region"]),
        (["inference.region=false", "inference.localization=false"], ["disc"]),
    ],
)
def test_a_network_that_the_settings_leave_out_is_not_loaded(tmp_path, networks, overrides, left):
    assert sorted(load(tmp_path, model("disc", "localization", "region"), *overrides).networks) == left


def test_a_model_without_region_and_localization_works_and_one_without_discs_is_refused(tmp_path, networks, seen):
    loaded = load(tmp_path, model("disc"))
    assert list(loaded.networks) == ["disc"] and find_discs(loaded, case()).labels.array.any()
    with pytest.raises(UserError, match="model holds localization, region, but no network for disc; train that stage"):
        load(tmp_path, model("localization", "region"))


def test_overrides_change_the_inference_section_alone():
    given = model("disc")
    assert override_inference(given, []) is given
    changed = override_inference(given, ["inference.threshold=0.25", "inference.numbering=line", "inference.discs=5"])
    assert changed.config.inference == replace(CONFIG.inference, threshold=0.25, numbering="line", discs=5)
    assert replace(changed.config, inference=CONFIG.inference) == CONFIG
    assert changed.parameters is given.parameters and changed.reference is given.reference


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "preparation.spacing_mm=[1, 1]",
            "--set takes inference.key=value, not 'preparation.*; the rest of a model is",
        ),
        ("inference.threshold", "--set takes inference.key=value, not 'inference.threshold'"),
        ("inference=1", "--set takes inference.key=value"),
        ("inference.=1", "--set takes inference.key=value"),
        ("=1", "--set takes inference.key=value"),
        ("inference.treshold=0.5", "unknown key 'inference.treshold'; did you mean 'threshold'"),
        ("inference.threshold=2", "inference.threshold must be above 0 and below 1, not 2.0"),
        ("inference.threshold=5e-1", "inference.threshold must be a number, not '5e-1'; YAML reads 5e-1 as text"),
        ("inference.threshold=", "inference.threshold must be a number, not ''"),
        ("inference.threshold=[1", r"--set inference.threshold=\[1: the value is not YAML"),
        ("inference.numbering=top", "inference.numbering must be solver, line or bottom, not 'top'"),
        ("inference.region=maybe", "inference.region must be true or false, not 'maybe'"),
    ],
)
def test_overrides_that_cannot_be_used(override, words):
    with pytest.raises(ConfigError, match=words):
        override_inference(model("disc"), [override])


def test_numbering_is_shown_what_every_network_says(tmp_path, networks, seen):
    anchor = Anchor(3, (0.0, 0.0, 0.0))
    result = find_discs(load(tmp_path, model("disc", "localization", "region")), case(), anchor)
    (evidence,) = seen
    block = np.zeros(SHAPE, bool)
    block[:, 8:12, 2:18] = True
    np.testing.assert_array_equal(evidence.probability, block)
    np.testing.assert_array_equal(evidence.region, block)
    assert evidence.grid.shape == SHAPE and evidence.anchor is anchor
    assert evidence.reference is not None and evidence.reference.levels == (1,)
    # The localization network sees voxels twice as large.
    assert evidence.level_grid is not None and evidence.level_grid.shape == (4, 12, 10)
    assert evidence.level_probability is not None and evidence.level_probability.shape == (8, 4, 12, 10)
    assert set(np.unique(evidence.level_probability.argmax(axis=0))) == {0, 2}
    assert (result.verdict, result.reasons) == ("ok", ()) and [disc.level for disc in result.discs] == [3]
    assert result.discs[0].level_confidence == 0.75 and result.labels.array.shape == SHAPE


def test_numbering_is_shown_nothing_of_networks_that_are_left_out(tmp_path, networks, seen):
    loaded = load(tmp_path, model("disc", "localization", "region"), "inference.region=false",
                  "inference.localization=false")  # fmt: skip
    find_discs(loaded, case())
    (evidence,) = seen
    assert evidence.region is evidence.level_probability is evidence.level_grid is None
    assert {stage for stage, _, _ in networks.asked} == {"disc"}


def test_a_missing_channel_is_a_remark_that_says_which(tmp_path, networks, seen):
    loaded = load(tmp_path, model("disc"))
    result = find_discs(loaded, case(("fat",)))
    assert (result.verdict, result.reasons) == ("ok", ())
    assert result.remarks == ("Channel t2 is missing: outlines and levels rest on fat alone",)
    assert find_discs(loaded, case(("t2", "fat"))).remarks == ()  # in another order, none is missing


def test_a_case_with_none_of_the_channels_and_an_anchor_in_no_disc_are_refused(tmp_path, networks, seen):
    loaded = load(tmp_path, model("disc"))
    with pytest.raises(CaseError, match="case a: none of the model's channels fat, t2 is there"):
        find_discs(loaded, case(("inn", "opp")))
    with pytest.raises(CaseError, match=r"case a: no disc lies at \(2000, 0, 0\) mm"):
        find_discs(loaded, case(), Anchor(3, (2000.0, 0.0, 0.0)))


def test_an_unsure_outline_is_said_and_counts_by_the_models_own_weight_where_it_is_calibrated(tmp_path, networks, seen):
    """Certain and sharp here, every outline has an expected Dice of 1, which the curve brings to 1 - 0.5 * 0 = 1."""
    certain = find_discs(load(tmp_path, model("disc")), case())
    assert certain.discs[0].outline_confidence == pytest.approx(1.0) and certain.verdict == "ok"
    judgement = {"confidence": {"slope": 1, "offset": 0}, "bias": -3, "weights": {"outline": 12}}
    calibrated = replace(model("disc"), meta={"outline_calibration": {"scale": 1.0, "power": 1.0}, "levels": judgement})
    (tmp_path / "b").mkdir()
    loaded = load(tmp_path / "b", calibrated)
    assert find_discs(loaded, case()).verdict == "ok"
    strict = load(tmp_path / "b", calibrated, "inference.sure_outline=1")
    wavering = replace(strict.networks["disc"], predict=lambda params, boxes: 0.7 * (boxes[..., 0] > 127))
    result = find_discs(replace(strict, networks=strict.networks | {"disc": wavering}), case())
    # 2 * 0.7 n / (n + 0.7 n)
    assert result.discs[0].outline_confidence == pytest.approx(1.4 / 1.7, abs=1e-3)
    odds = -3 + 12 * (1 - 1.4 / 1.7)
    assert result.probability_wrong == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-3) and result.verdict == "review"
    assert result.reasons == ("The outline of L3/4 is unsure",)
    off = replace(strict, model=override_inference(strict.model, ["inference.review_above=0.5"]))
    found = find_discs(replace(off, networks=strict.networks | {"disc": wavering}), case())
    assert (found.verdict, found.reasons, found.remarks) == ("ok", (), result.reasons)


def test_a_calibration_that_cannot_be_used_is_refused_when_the_model_is_loaded(tmp_path, networks):
    with pytest.raises(UserError, match="outline_calibration must be keys and values with a scale and a power"):
        load(tmp_path, replace(model("disc"), meta={"outline_calibration": {"scale": -1.0, "power": 1.0}}))


def test_the_probability_is_kept_where_it_is_asked_for(tmp_path, networks, seen):
    loaded = load(tmp_path, model("disc"))
    assert find_discs(loaded, case()).probability is None
    kept = find_discs(loaded, case(), keep_probability=True)
    assert kept.probability is not None and kept.probability.shape == SHAPE
    np.testing.assert_array_equal(kept.probability > 0.5, kept.labels.array > 0)


def test_a_doubt_about_the_channels_is_a_reason_for_review(tmp_path, networks, seen, monkeypatch):
    """It rests on the raw signals and the discs on the case's own grid."""
    given, shown = case(), []
    monkeypatch.setattr(case_result, "contrast_doubts", lambda *args: shown.append(args) or ["the discs look like fat"])
    result = find_discs(load(tmp_path, model("disc")), given)
    assert result.verdict == "review" and result.reasons == ("the discs look like fat",)
    assert result.probability_wrong == 0.5
    assert shown == [(given.volume, result.labels)]


def test_vertebra_and_canal_come_out_beside_the_discs_where_they_are_outlined(tmp_path, networks, seen, monkeypatch):
    config = replace(CONFIG, disc=replace(CONFIG.disc, outputs=("disc", "vertebra", "canal")))
    one = networks.build

    def three(config: Config, stage: str, params: Any, batch: int, cache: Path | None) -> Any:
        predict = one(config, stage, params, batch, cache)

        def outlined(params: Any, boxes: np.ndarray) -> np.ndarray:
            disc = predict(params, boxes)
            if stage != "disc":
                return disc
            front = np.broadcast_to(np.arange(disc.shape[-1]) < disc.shape[-1] // 2, disc.shape)
            return np.stack([disc, 0.9 * front, 0.8 * ~front], axis=-1).astype(np.float32)

        return outlined

    monkeypatch.setattr(workflow, "predict_program", three)
    result = find_discs(load(tmp_path, model("disc", config=config)), case())
    assert result.tissues is not None and result.tissues.levels == (1, 2, 3)
    np.testing.assert_array_equal(result.tissues.array == 1, result.labels.array > 0)
    monkeypatch.setattr(workflow, "predict_program", one)
    assert find_discs(load(tmp_path / "plain", model("disc")), case()).tissues is None
