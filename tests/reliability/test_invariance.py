"""What a result must not depend on: axis orders, scale and offset, air, the place of the slices, company, devices."""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import nibabel
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ivdjax import DiscModel, load_model, volume_of
from ivdjax.discs.outline import expected_dice
from ivdjax.discs.region import whole_region, widened
from ivdjax.imaging.components import components
from ivdjax.imaging.files import read_labels
from ivdjax.imaging.intensity import normalized, to_uint8
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.volume import Grid
from tests.dicom_series import sagittal_affine, write_series
from tests.reliability.drawn_spine import bright_model, draw_spine, spine_grid
from tests.reliability.properties import (
    OFFSETS,
    ORDERS,
    ROOMS,
    SCALES,
    SEEDS,
    SPACINGS_MM,
    TURNS_DEG,
    air_moves_no_disc,
    axis_orders_change_nothing,
    scales_change_single_voxels,
    slices_keep_volumes,
)
from tests.reliability.same_discs import assert_same, case_bytes
from tests.untrained_model import write_untrained

pytestmark = pytest.mark.slow

# A failing example is told as it is: making it smaller would take minutes.
FEW = settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])

SHAPE = (40, 24, 6)  # of a small file, whose axes run to posterior, inferior and left
AFFINE = np.array([[0, 0, -4.0, 12.3], [-2.0, 0, 0, 40.7], [0, -3.0, 0, -8.1], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """Of a network that says about one half everywhere: the last bit of a voxel decides what it finds."""
    return write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"])


@pytest.fixture(scope="module")
def wavering(untrained) -> DiscModel:
    return load_model(untrained)


def noisy(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, SHAPE).round().astype(np.int16)


@FEW
@given(how=ORDERS, spacing_mm=SPACINGS_MM, turn_deg=TURNS_DEG)
def test_the_order_and_the_sense_of_a_files_axes_change_nothing(how, spacing_mm, turn_deg):
    grid = spine_grid(spacing_mm, turn_deg)
    axis_orders_change_nothing(bright_model(), draw_spine(grid), grid.affine, how)


@FEW
@given(how=ORDERS, seed=SEEDS)
def test_not_even_where_the_last_bit_of_a_voxel_decides(wavering, how, seed):
    axis_orders_change_nothing(wavering, noisy(seed), AFFINE, how)


@pytest.mark.parametrize("last_bits", [1e-7, -1e-7])
def test_the_last_bits_of_a_voxels_size_decide_nothing(last_bits):
    """The same header in float64 and in float32: distances and volumes that equal a bound stay on one side of it."""
    grid = spine_grid((2.0, 4.0, 3.0))
    other = Grid(grid.shape, grid.affine @ np.diag([1 + last_bits] * 3 + [1.0]))
    seen = np.zeros(grid.shape, bool)
    seen[10:14, 20:30, 15:25] = True
    for margin_mm in (8.0, 5.0):  # two voxels; 3 and 4 mm at a right angle
        np.testing.assert_array_equal(widened(seen, grid, margin_mm), widened(seen, other, margin_mm))
    unsure = np.where(seen, 0.9, 0.2)
    assert expected_dice(unsure, seen.astype(int), grid) == expected_dice(unsure, seen.astype(int), other)
    split = np.where(seen, 0.9, 0.0).astype(np.float32)
    split[:, 24:26] = 0.0
    np.testing.assert_array_equal(whole_region(split, grid), whole_region(split, other))
    least_mm3 = np.count_nonzero(seen) * 24.0
    assert components(seen, grid, least_mm3).any() and components(seen, other, least_mm3).any()


@FEW
@given(power=st.integers(-8, 8), offset=st.integers(-20_000, 20_000), seed=SEEDS)
def test_a_scale_and_an_offset_that_lose_no_bit_change_nothing(wavering, power, offset, seed):
    """Powers of two, and offsets that float32 holds exactly beside the image."""
    array = noisy(seed)
    first = wavering(volume_of(array, AFFINE, "t2"))
    other = wavering(volume_of((array + offset) * 2.0**power, AFFINE, "t2"))
    assert_same(first, other, signal=False)


@FEW
@given(scale=SCALES, offset=OFFSETS, spacing_mm=SPACINGS_MM)
def test_any_scale_and_offset_of_each_channel_change_no_more_than_single_voxels(scale, offset, spacing_mm):
    """float32 rounds the file's numbers, and a voxel on the edge between two grays may then take the other one."""
    scales_change_single_voxels(scale, offset, spacing_mm)


def test_a_scale_does_not_change_what_counts_as_tissue():
    """20,000 voxels lie where tissue begins: 1 + 0.05 (201 - 1) = 11. A last bit must not decide about all of them."""
    rng = np.random.default_rng(0)
    parts = [np.zeros(100), np.full(49_900, 1), np.full(20_000, 11), rng.integers(12, 201, 29_000),
             np.full(505, 201), rng.integers(202, 400, 495)]  # fmt: skip
    array = np.concatenate(parts).astype(float).reshape(10, 100, 100)
    plain = to_uint8(normalized(array)[0]).astype(int)
    for scale, offset in ((0.1, 0.0), (1 / 3, 5.0), (0.7, -3.3), (1e-3, 0.0)):
        scaled = to_uint8(normalized((array * scale + offset).astype(np.float32))[0])
        assert np.abs(scaled - plain).max() <= 1


@FEW
@given(room=ROOMS, seed=st.none() | SEEDS, spacing_mm=SPACINGS_MM)
def test_air_added_or_cut_off_moves_no_disc_by_half_a_voxel(room, seed, spacing_mm):
    air_moves_no_disc(room, seed, spacing_mm)


@FEW
@given(shift=st.floats(0.1, 0.9), thick_mm=st.sampled_from([3.0, 4.0, 4.5]), turn_deg=st.floats(-15.0, 15.0))
def test_a_spine_between_two_slices_keeps_its_volumes(shift, thick_mm, turn_deg):
    slices_keep_volumes(shift, thick_mm, turn_deg)


@pytest.fixture(scope="module")
def runs(untrained, tmp_path_factory) -> Path:
    """Outputs of three cases together, in the reverse order, and of one of them alone; b is a DICOM series."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("a", 1), ("c", 3)):
        (folder / "data" / name).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(noisy(seed), AFFINE), folder / "data" / name / f"{name}_t2.nii.gz")
    write_series(folder / "data" / "b", noisy(2), sagittal_affine((2.0, 3.0, 4.0)), series_description="t2")
    cases = tuple(str(folder / "data" / name) for name in "abc")
    for output, inputs in {"alone": cases[1:2], "together": cases, "reversed": cases[::-1]}.items():
        rows = infer(InferenceRequest(untrained, folder / output, inputs))
        assert all(row.status == "done" and row.discs for row in rows)
    return folder


def test_a_case_has_the_same_bytes_alone_in_company_and_in_any_order(runs):
    together = {name: case_bytes(runs / "together" / name) for name in "abc"}
    assert {name: case_bytes(runs / "reversed" / name) for name in "abc"} == together
    assert case_bytes(runs / "alone" / "b") == together["b"] and "b_discs.dcm" in together["b"]
    tables = []
    for output in ("together", "reversed"):
        with (runs / output / "summary.csv").open() as stream:
            tables.append({row["case"]: row | {"seconds": ""} for row in csv.DictReader(stream)})
    assert tables[0] == tables[1] and sorted(tables[0]) == ["a", "b", "c"]


def test_one_device_and_four_find_the_same(runs, wavering):
    """The workers had one device, this process has four."""
    assert jax.device_count() == 4
    for name in "ac":
        one = read_labels(runs / "together" / name / f"{name}_discs.nii.gz", name)
        four = wavering(runs / "data" / name / f"{name}_t2.nii.gz")
        assert one.array.any()
        np.testing.assert_array_equal(one.array, four.labels.array)
