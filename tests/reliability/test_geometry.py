"""Scans that lie oddly in space, each as a case of one cohort: what is refused, what is mended and what is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.data.phantom import PhantomOptions, make_phantom
from ivdjax.imaging.files import read_labels
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.reports.tables import CaseSummary
from ivdjax.volume import to_world_mm
from tests.dicom_series import sagittal_affine, write_series
from tests.untrained_model import write_untrained

# The file's axes run to posterior, inferior and left.
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
IMAGE = np.rint(np.random.default_rng(0).normal(100, 20, (40, 24, 6))).astype(np.int16)
MIRRORED = AFFINE @ np.array([[-1.0, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

Images = dict[str, tuple[np.ndarray, np.ndarray]]
"""Array and affine of each channel."""


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 3] += mm
    return affine


def turned(degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(np.int16)


def alone(array: np.ndarray = IMAGE, *steps: float, affine: np.ndarray = AFFINE) -> Images:
    """One channel; `steps` are voxel sizes along the file's axes (posterior, inferior, left)."""
    scale = np.array(steps or (2, 3, 4)) / (2, 3, 4)
    return {"t2": (array, affine @ np.diag([*scale, 1.0]))}


def half_as_fine() -> tuple[np.ndarray, np.ndarray]:
    """Every second voxel along the first axis, over the same field of view."""
    affine = AFFINE @ np.diag([2.0, 1, 1, 1])
    affine[:3, 3] += AFFINE[:3, 0] / 2
    return IMAGE[::2], affine


REFUSED: dict[str, tuple[Images, str]] = {
    "elsewhere": ({"t2": (IMAGE, AFFINE), "fat": (IMAGE, moved(6))}, "lies up to 6.0 mm off channel t2"),
    "other_view": ({"t2": (IMAGE, AFFINE), "fat": (IMAGE[:30], AFFINE)}, "lies up to 20.0 mm off channel t2"),
    "one_voxel": (alone(noise(1, 1, 1)), "channel t2 shows nothing: one value everywhere"),
    "meters_wide": (alone(noise(30, 30, 30), 95, 95, 95), "crop the image to the lumbar spine"),
}
FRAMES = "channel fat has another DICOM frame of reference than channel t2"

TOLD: dict[str, tuple[Images, str]] = {
    "other_grid": ({"t2": (IMAGE, AFFINE), "fat": half_as_fine()}, "is on another grid than channel t2"),
    "near": ({"t2": (IMAGE, AFFINE), "fat": (IMAGE, moved(4))}, "(up to 4.0 mm off): resampled to it"),
    "oblique": (alone(affine=turned(30)), "the slices are turned 30 degrees against the body; used as acquired"),
    "thick": (alone(IMAGE, 2, 3, 8), "thick slices of 8.0 mm, resampled to 2.0 mm"),
    "axial": (alone(noise(40, 12, 40), 2, 6, 2), "axial slices of 6.0 mm, reformatted to sagittal ones of 2.0 mm"),
    "coronal": (alone(noise(12, 40, 40), 6, 2, 2), "coronal slices of 6.0 mm, reformatted to sagittal ones of 2.0 mm"),
    "one_slice": (alone(IMAGE[:, :, :1]), "a single sagittal slice"),
    "one_axial_slice": (alone(noise(40, 1, 40), 2, 6, 2), "axial slices of 6.0 mm"),
}

QUIET: dict[str, Images] = {
    "plain": alone(),
    "left_handed": {"t2": (IMAGE[::-1], MIRRORED)},
    "two_cubed": alone(noise(2, 2, 2)),
    "three_cubed": alone(noise(3, 3, 3)),
    "one_row": alone(noise(1, 40, 6)),
    "one_column": alone(noise(40, 1, 6), 2, 3, 4),
    "fine": alone(noise(1500, 1500, 2), 0.1, 0.1, 4),
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the cohort of all cases gave."""
    folder = tmp_path_factory.mktemp("geometry")
    cases = {name: images for cases in (REFUSED, TOLD) for name, (images, _) in cases.items()} | QUIET
    for name, images in cases.items():
        (folder / "data" / name).mkdir(parents=True)
        for channel, (array, affine) in images.items():
            nibabel.save(nibabel.Nifti1Image(array, affine), folder / "data" / name / f"{name}_{channel}.nii")
    for channel, frame in (("t2", "1.2.3"), ("fat", "1.2.4")):
        values = np.arange(240, dtype=np.uint16).reshape(8, 6, 5)
        write_series(
            folder / "data" / "frames" / channel, values, sagittal_affine(), frame_of_reference=frame, study="1.2.5"
        )
    model = write_untrained(folder / "untrained", ["t2", "fat"])
    rows = infer(InferenceRequest(model, folder / "out", (str(folder / "data"),)))
    assert len(rows) == len(cases) + 1
    log = folder / "out" / "infer.log"
    assert not log.exists() or "Traceback" not in log.read_text("utf-8")
    return folder / "out"


@pytest.fixture(scope="module")
def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def warnings_of(output: Path, name: str) -> list[str]:
    return json.loads((output / name / f"{name}_discs.json").read_text("utf-8"))["warnings"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REFUSED, "frames"])
def test_channels_apart_and_views_of_nothing_are_refused(output, rows, name):
    assert rows[name]["status"] == "failed" and not (output / name).exists()
    assert rows[name]["reasons"].startswith(f"case {name}: ")
    assert (REFUSED[name][1] if name in REFUSED else FRAMES) in rows[name]["reasons"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_what_lies_oddly_goes_on_and_is_said(output, rows, name):
    assert rows[name]["status"] == "done"
    assert any(TOLD[name][1] in warning for warning in warnings_of(output, name)), warnings_of(output, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUIET)
def test_what_is_merely_unusual_needs_no_word_and_the_label_map_fits_the_image(output, rows, name):
    assert rows[name]["status"] == "done" and warnings_of(output, name) == []
    array, affine = QUIET[name]["t2"]
    labels = nibabel.load(output / name / f"{name}_discs.nii.gz")
    assert labels.shape == array.shape
    np.testing.assert_allclose(labels.affine, affine, atol=1e-4)


@pytest.fixture(scope="module")
def misleading_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("misleading")


@pytest.fixture(scope="module")
def misleading(misleading_folder: Path, root: Path) -> dict[str, CaseSummary]:
    """What a trained model makes of a phantom whose header names the wrong ends, and of views without a spine."""
    folder = misleading_folder
    volume = make_phantom(34, PhantomOptions(channels=("t2",), field="slab")).case.volume
    _, rows_, columns = volume.grid.shape
    middle_mm = to_world_mm(volume.affine, (np.array(volume.grid.shape) - 1) / 2)
    swapped = {"plain": (), "feet_first": (2,), "front_is_back": (1,), "turned_over": (1, 2), "left_is_right": (0,)}
    for name, axes in swapped.items():
        mirror = np.eye(4)
        for axis in axes:
            mirror[axis, axis], mirror[axis, 3] = -1, 2 * middle_mm[axis]
        write_channels(folder / "data" / name, volume.array, mirror @ volume.affine, volume.channels)
    air = volume.array[:, :, :, : columns // 4]
    write_channels(folder / "data" / "no_spine", air, volume.affine, volume.channels)
    random = np.random.default_rng(0).normal(200, 40, (1, 20, rows_ // 2, columns // 2))
    write_channels(folder / "data" / "noise", random, volume.affine, volume.channels)
    model = root / "models" / "lumbar"
    rows = infer(InferenceRequest(model, folder / "out", (str(folder / "data"),)))
    return {row.case: row for row in rows}


def write_channels(folder: Path, array: np.ndarray, affine: np.ndarray, channels: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    for values, channel in zip(array, channels, strict=True):
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), folder / f"{channel}.nii")


@pytest.mark.slow
def test_a_header_that_names_the_wrong_ends_ends_in_review(misleading):
    assert misleading["plain"].verdict == "ok" and misleading["plain"].discs == 7
    for name in ("feet_first", "front_is_back", "turned_over"):
        assert misleading[name].status == "done" and misleading[name].verdict == "review", misleading[name]
    assert misleading["feet_first"].reasons[0].startswith("The image may be stored upside down: ")


@pytest.mark.slow
def test_a_header_that_swaps_left_and_right_swaps_them_and_nothing_else(misleading, misleading_folder):
    assert misleading["left_is_right"].verdict == "ok"
    plain, swapped = (
        json.loads((misleading_folder / "out" / name / f"{name}_discs.json").read_text("utf-8"))["discs"]
        for name in ("plain", "left_is_right")
    )
    assert [disc["level"] for disc in plain] == [disc["level"] for disc in swapped] == list(range(1, 8))
    for disc, other in zip(plain, swapped, strict=True):
        assert disc["volume_in_view_mm3"] == pytest.approx(other["volume_in_view_mm3"], rel=0.03)
        assert disc["centroid_z_mm"] == pytest.approx(other["centroid_z_mm"], abs=0.5)


@pytest.mark.slow
def test_a_view_without_a_spine_ends_in_review(misleading):
    for name in ("no_spine", "noise"):
        assert misleading[name].status == "done" and misleading[name].verdict == "review"
        assert misleading[name].discs == 0, misleading[name]


@pytest.mark.slow
def test_a_left_handed_file_gives_the_same_discs_in_space(output, rows):
    mirrored, plain = (read_labels(output / n / f"{n}_discs.nii.gz", n) for n in ("left_handed", "plain"))
    assert plain.array.any() and np.array_equal(mirrored.array, plain.array)
    np.testing.assert_allclose(mirrored.affine, plain.affine, atol=1e-5)
