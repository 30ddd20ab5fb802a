"""What each stage learns: networks, samples, targets on the stage's own grid, scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import (
    STAGES,
    Config,
    DiscConfig,
    DiscNetConfig,
    LocalizationConfig,
    PreparationConfig,
    RegionConfig,
    TrainingConfig,
    UNetConfig,
    VNetConfig,
)
from ivdjax.data.preparation import Prepared
from ivdjax.discs.region import spine_region
from ivdjax.learning.augmentation import Crop
from ivdjax.model import tasks
from ivdjax.model.stages import stage_crop
from ivdjax.model.targets import localization_target, region_target
from ivdjax.model.tasks import build_task, stage_network
from ivdjax.networks.disc_net import DiscNet
from ivdjax.networks.unet import UNet
from ivdjax.networks.vnet import VNet
from ivdjax.volume import Grid, UserError

CONFIG = Config(
    "tiny",
    preparation=PreparationConfig(spacing_mm=(1.5, 1.0)),
    region=RegionConfig(
        network=UNetConfig(layers=1),
        spacing_mm=(3.0, 2.0),
        dilation_mm=4.0,
        training=TrainingConfig(crop=(16, 32), disc_fraction=0.25),
    ),
    disc=DiscConfig(
        network=DiscNetConfig(growth=(4, 4, 4), layers=(1, 1, 1), aspp_rates=(3,)),
        training=TrainingConfig(crop=(8, 12), disc_fraction=0.75),
    ),
    localization=LocalizationConfig(
        network=VNetConfig(widths=(8, 16), layers=(1, 1), slice_pooling=(2,)),
        spacing_mm=(8.0, 3.0, 2.0),
        dilation_mm=3.0,
        training=TrainingConfig(crop=(4, 16, 32), disc_fraction=0.0),
    ),
)
SHAPE = (4, 24, 30)


def prepared(name: str = "a", levels: int = 2) -> Prepared:
    """Disc k takes rows 24 - 8 k to 27 - 8 k of all slices, columns 8 to 21; voxels of 4 x 1.5 x 1 mm."""
    labels = np.zeros(SHAPE, np.uint8)
    for level in range(1, levels + 1):
        labels[:, 24 - 8 * level : 28 - 8 * level, 8:22] = level
    grid = Grid(SHAPE, np.diag([4.0, 1.5, 1.0, 1.0]))
    image = np.random.default_rng(0).integers(0, 256, (1, *SHAPE)).astype(np.uint8)
    return Prepared(name, name, ("t2",), image, labels, (labels > 0) * np.uint8(255), 4, grid, grid, grid)


def test_networks_and_samples_of_the_three_stages():
    kinds = {"region": UNet, "disc": DiscNet, "localization": VNet}
    assert all(isinstance(stage_network(CONFIG, stage), kinds[stage]) for stage in STAGES)
    assert [stage_crop(CONFIG, stage) for stage in STAGES] == [
        Crop((16, 32), (3.0, 2.0), 0.25), Crop((8, 12), (1.5, 1.0), 0.75),
        Crop((4, 16, 32), (8.0, 3.0, 2.0), 0.0, levels=True),
    ]  # fmt: skip


def test_the_disc_stage_may_begin_with_samples_from_a_coarser_grid():
    assert build_task(CONFIG, "disc", [prepared()], []).coarse == ()
    config = replace(CONFIG, disc=replace(CONFIG.disc, coarse_until=7, coarse_spacing_mm=(3.0, 2.0)))
    case = prepared()
    region = np.zeros(SHAPE, bool)
    region[:, 8:24, 4:20] = True
    task = build_task(config, "disc", [replace(case, region=region)], [])
    (coarse,) = task.coarse
    assert task.coarse_until == 7 and coarse.grid.spacing_mm == pytest.approx((4.0, 3.0, 2.0))
    assert coarse.region[:, 4:12, 2:10].all() and coarse.region.sum() == region.sum() / 4
    assert set(np.unique(coarse.labels)) == {0, 1, 2} and coarse.classes is not None and coarse.ignore_above == 2
    assert task.training[0].grid.spacing_mm == pytest.approx((4.0, 1.5, 1.0))


def test_a_plain_u_net_may_stand_in_for_the_segmentation_network():
    config = replace(CONFIG, disc=replace(CONFIG.disc, network=DiscNetConfig(architecture="unet", stem=8)))
    assert isinstance(stage_network(config, "disc"), UNet)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_predicts_fits_what_it_is_given(stage):
    task = build_task(CONFIG, stage, [prepared()], [])
    assert task.name == stage and task.settings is getattr(CONFIG, stage) and len(task.training) == 1
    given = jax.eval_shape(
        lambda: task.network.apply(
            task.network.init(jax.random.key(0), jnp.zeros((1, *task.crop.box, 1))), jnp.zeros((1, *task.crop.box, 1))
        )[0]
    )
    assert given.shape == (1, *task.crop.box, *((8,) if stage == "localization" else ()))
    case = task.training[0]
    spacing_mm = {"region": (4, 3, 2), "disc": (4, 1.5, 1), "localization": (8, 3, 2)}[stage]
    np.testing.assert_allclose(case.grid.spacing_mm, spacing_mm)
    assert (
        case.image.shape == (1, *case.grid.shape)
        and case.ignore_above == {"region": 2, "disc": 4, "localization": 0}[stage]
    )


def test_the_region_s_target_is_the_hull_of_the_outlined_discs():
    target = region_target(prepared(), CONFIG)
    assert target.grid.shape == (4, 12, 15) and target.occupancy is not None and target.labels is not None
    assert set(np.unique(target.occupancy)) == {0, 255}
    wanted = spine_region(target.labels > 0, target.grid, 4.0)
    np.testing.assert_array_equal(target.occupancy > 0, wanted)
    # Discs lie in columns 4 to 10 and rows 4 to 9 of 3 x 2 mm; 4 mm are two columns and a row to each side.
    columns, rows = (np.flatnonzero(wanted.any(axis=axes)) for axes in ((0, 1), (0, 2)))
    assert (columns[0], columns[-1]) == (2, 12) and (rows[0], rows[-1]) == (3, 10)
    assert set(np.unique(target.labels)) == {0, 1, 2}  # boxes are drawn near these
    without = region_target(replace(prepared(), labels=None, occupancy=None), CONFIG)
    assert without.labels is None and without.occupancy is None and without.grid.shape == (4, 12, 15)


def test_the_localization_s_target_is_each_disc_dilated_and_none_grows_into_another():
    plain = localization_target(prepared(), replace(CONFIG, localization=replace(CONFIG.localization, dilation_mm=0.0)))
    assert plain.labels is not None
    # Two rows of 3 mm each, two rows apart.
    assert plain.labels[0, :, 7].tolist() == [0, 0, 0, 0, 2, 2, 0, 0, 1, 1, 0, 0]
    grown = localization_target(prepared(), CONFIG)
    assert grown.labels is not None and grown.labels.dtype == np.uint8
    assert grown.labels[0, :, 7].tolist() == [0, 0, 0, 2, 2, 2, 2, 1, 1, 1, 1, 0]  # 3 mm up and down
    assert grown.labels[0, 4].tolist() == [0, 0, 0, *[2] * 9, 0, 0, 0]  # and one column of 2 mm to each side
    np.testing.assert_array_equal(grown.labels[plain.labels > 0], plain.labels[plain.labels > 0])
    for case in (replace(prepared(), labels=None, occupancy=None), prepared(levels=0)):
        empty = localization_target(case, CONFIG)
        assert empty.grid.shape == (2, 12, 15) and (empty.labels is None or not empty.labels.any())


def perfect(stage: str, case: Prepared) -> Any:
    """A network that knows the case's target; one box of the stage's crop covers each slice, or all of them."""

    def predict(params: Any, boxes: np.ndarray) -> np.ndarray:
        if stage == "localization":
            answer = np.zeros((*boxes.shape[:4], 8), np.float32)
            labels = np.pad(case.labels, [(0, n - m) for n, m in zip(boxes.shape[1:4], case.labels.shape, strict=True)])
            np.put_along_axis(answer, labels[None, ..., None].astype(int), 1.0, axis=-1)
            return answer
        answer = np.zeros(boxes.shape[:3], np.float32)
        for place in range(case.grid.shape[0]):
            h, w = case.grid.shape[1:]
            answer[place, :h, :w] = case.occupancy[place] / 255
        return answer

    return predict


@pytest.mark.parametrize(
    ("stage", "figure"), [("region", "region_dice"), ("disc", "all_discs_dice"), ("localization", "level_dice")]
)
def test_a_perfect_network_scores_one_and_a_blind_one_less(stage, figure):
    config = replace(CONFIG, disc=replace(CONFIG.disc, training=replace(CONFIG.disc.training, crop=(24, 32))))
    task = build_task(config, stage, [prepared()], [prepared("b")])
    assert task.figure == figure
    case = task.held_out[0]
    assert task.score(perfect(stage, case), None, case).score == 1.0
    right = perfect(stage, case)
    # Background alone where levels are told apart, as likely as not elsewhere.
    blind = (lambda p, b: np.roll(right(p, b), 1, axis=-1)) if stage == "localization" else lambda p, b: 0 * right(p, b)
    assert task.score(blind, None, case).score < 0.1


def test_prediction_is_that_of_the_stage(monkeypatch):
    asked = []
    monkeypatch.setattr(tasks, "build_predict", lambda apply, levels: asked.append((apply, levels)) or "compiled")
    for stage in STAGES:
        task = build_task(CONFIG, stage, [prepared()], [])
        assert task.predict == "compiled" and asked[-1][0] == task.network.apply
    assert [levels for _, levels in asked] == [False, False, True]


@pytest.mark.parametrize("stage", STAGES)
def test_a_case_without_labels_cannot_be_trained_on_but_held_out(stage):
    bare = replace(prepared("b"), labels=None, occupancy=None)
    with pytest.raises(UserError, match="case b has no reference labels to train on; add b_Labels.nii.gz"):
        build_task(CONFIG, stage, [prepared(), bare], [])
    assert build_task(CONFIG, stage, [prepared()], [bare]).held_out[0].labels is None
