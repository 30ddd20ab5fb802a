"""The valid inputs that are mutated, all made at run time from synthetic arrays: small, and of every form."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from ivdjax.config import parse_config
from ivdjax.imaging.files import write_volume
from ivdjax.imaging.files.seg_nrrd import write_seg_nrrd
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.model.model import Model, write_model
from ivdjax.volume import Grid, LabelMap
from tests.dicom_series import GE, PHILIPS, SIEMENS, sagittal_affine, write_enhanced, write_series
from tests.fuzz.sample import Sample
from tests.inference.visits.stored_visits import disc, document

CHANNELS = ("t2", "wat")
"""Of the model that the cases are for."""

SHAPE = (7, 24, 20)
"""Sagittal slices, rows, columns of every volume."""

_RLE = "1.2.840.10008.1.2.5"


def build(folder: Path, root: Path) -> list[Sample]:
    """Every valid input; `folder` is for files on the way, `root` the repository, whose configurations are used."""
    return [*_volumes(folder), *_label_maps(folder), *_series(folder), *_models(folder), *_texts(root), *_visits()]


def image(seed: int = 0) -> np.ndarray:
    """int16 (D, H, W): a stack of bright discs on a dark ground, with noise."""
    array = np.random.default_rng(seed).integers(0, 60, SHAPE).astype(np.int16)
    array[labels() > 0] += 600
    return array


def labels() -> np.ndarray:
    """uint8 (D, H, W): five discs, 1 the lowest."""
    array = np.zeros(SHAPE, np.uint8)
    for level in range(1, 6):
        row = 22 - 4 * level
        array[1:6, row : row + 2, 6:15] = level
    return array


def grid() -> Grid:
    """A right-handed sagittal grid with voxels of 4 x 5 x 3 mm."""
    affine = np.array([[-4.0, 0, 0, 12], [0, 0, -3, 30], [0, -5, 0, 60], [0, 0, 0, 1]])
    return Grid((SHAPE[0], SHAPE[1], SHAPE[2]), affine)


def _written(folder: Path, ending: str, array: np.ndarray) -> bytes:
    path = folder / f"volume{ending}"
    write_volume(path, array, grid())
    return path.read_bytes()


def _nifti_2(folder: Path, array: np.ndarray) -> bytes:
    import nibabel

    path = folder / "second.nii"
    nibabel.save(nibabel.Nifti2Image(array, grid().affine), path)
    return path.read_bytes()


def _plain(folder: Path, ending: str) -> bytes:
    """A MetaImage or NRRD file whose voxels are not compressed."""
    import SimpleITK

    path = folder / f"plain{ending}"
    packed = folder / f"volume{ending}"
    write_volume(packed, image(), grid())
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(packed)), str(path), False)
    return path.read_bytes()


def _volumes(folder: Path) -> list[Sample]:
    other = _written(folder, ".nii", image(1))
    made = []
    for array in (image(), image().astype(np.float32), image().astype(np.uint8)):
        for ending in (".nii", ".nii.gz", ".mha", ".nrrd"):
            made.append(Sample("volume", {f"case/case_t2{ending}": _written(folder, ending, array),
                                          "case/case_wat.nii": other}))  # fmt: skip
        second = _nifti_2(folder, array)
        made.append(Sample("volume", {"case/case_t2.nii": second}))
        made.append(Sample("volume", {"case/case_t2.nii.gz": gzip.compress(second, mtime=0)}))
    header, _, voxels = _plain(folder, ".mha").partition(b"LOCAL\n")
    made.append(Sample("volume", {"case/case_t2.mhd": header + b"case_t2.raw\n", "case/case_t2.raw": voxels}))
    made.append(Sample("volume", {"case/case_t2.mha": header + b"LOCAL\n" + voxels}))
    header, _, voxels = _plain(folder, ".nrrd").partition(b"\n\n")
    made.append(Sample("volume", {"case/case_t2.nhdr": header + b"\ndata file: case_t2.raw\n",
                                  "case/case_t2.raw": voxels}))  # fmt: skip
    made.append(Sample("volume", {"case/case_t2.nrrd": header + b"\n\n" + voxels}))
    return made


def _label_maps(folder: Path) -> list[Sample]:
    path = folder / "map.seg.nrrd"
    write_seg_nrrd(path, LabelMap(labels(), grid().affine), disc_segments((1, 2, 3, 4, 5)))
    contents = {ending: _written(folder, ending, labels()) for ending in (".nii", ".nii.gz", ".mha", ".nrrd")}
    contents[".seg.nrrd"] = path.read_bytes()
    made = []
    for ending, content in contents.items():
        for words in (("ivdjax", "totalspineseg", ".nii.gz"), ("ivdjax", "spineps", ".seg.nrrd"),
                      ("ivdjax", "spider", ".mha"), ("ivdjax", "ivdjax", ".nrrd")):  # fmt: skip
            made.append(Sample("labels", {f"map{ending}": content}, words))
    volume = contents[".nii.gz"]
    scored = {"data/case/case_t2.nii.gz": _written(folder, ".nii.gz", image()), "data/case/case_Labels.nii.gz": volume,
              "found/case/case_discs.nii.gz": volume}  # fmt: skip
    return [*made, Sample("scores", scored)]


def _series(folder: Path) -> list[Sample]:
    array = np.ascontiguousarray(image().transpose(2, 1, 0)).astype(np.uint16)
    affine = sagittal_affine()
    made = []

    def taken(name: str) -> None:
        home = folder / name
        files = {f"case/{path.relative_to(home).as_posix()}": path.read_bytes() for path in sorted(home.rglob("*"))
                 if path.is_file()}  # fmt: skip
        made.append(Sample("series", files))

    write_series(folder / "classic", array, affine, slope=2.0, series_description="T2 Mustermann")
    write_series(folder / "rle", array, affine, transfer_syntax=_RLE, series_description="sag T2")
    study = "1.2.3.4"
    for number, (name, types) in enumerate((("siemens", SIEMENS), ("philips", PHILIPS)), start=1):
        for place, channel in enumerate(("wat", "inn")):
            write_series(folder / name / channel, array, affine, image_type=types[channel], study=study, seed=number,
                         series_number=place + 1, echo_time_ms=4.8, scanning_sequence="GR")  # fmt: skip
    write_series(folder / "ge", array, affine, series_description=GE["wat"])
    kinds = {tuple(PHILIPS["wat"]): array, tuple(PHILIPS["inn"]): array // 2}
    write_enhanced(folder / "enhanced" / "IM0", kinds, affine, slopes=dict.fromkeys(kinds, 1.5))
    for name in ("classic", "rle", "siemens", "philips", "ge", "enhanced"):
        taken(name)
    return made


def _models(folder: Path) -> list[Sample]:
    """A model of a few numbers: what reads a folder does not look at the shapes of its networks."""
    config = parse_config({"name": "tiny", "data": {"channels": list(CHANNELS), "synthetic": True}})
    parameters = {"disc": {"layer": {"kernel": np.ones((3, 4), np.float32), "bias": np.zeros(4, np.float32)}}}
    meta = {
        "validation": {"mean_dice": 0.9, "cases": 3},
        "training": {"steps": 10},
        "limits": ["none"],
        "outline_calibration": {"scale": 1.0, "power": 1.0},
        "repeatability": {"middle_height_mm": {"smallest_detectable_change": 0.5}, "made_of": "phantoms"},
    }
    model = Model(config, parameters, meta, LabelMap(labels(), grid().affine))
    write_model(folder / "model", model)
    return [Sample("model", {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())})]


def _texts(root: Path) -> list[Sample]:
    made = [Sample("config", {"config.yaml": path.read_bytes()}) for path in sorted((root / "configs").glob("*.yaml"))]
    small = yaml.safe_dump({"data": {"root": "x", "channels": ["t2"], "validation": ["a"]}, "seed": 3})
    made.append(Sample("config", {"config.yaml": small.encode()}))
    for override in ("inference.discs=5", "inference.discs=9", "disc.training.crop=[96, 96]", "data.channels=[fat]",
                     "preparation.percentiles=[1, 99.0]", "inference.numbering=line"):  # fmt: skip
        made.append(Sample("override", {"config.yaml": small.encode()}, (override,)))
    table = b"case,subject,fold\nS01_1,S01,0\nS01_2,S01,0\nS02_1,S02,1\n"
    return [*made, Sample("subjects", {"subjects.csv": table})]


def _visits() -> list[Sample]:
    def stored(case: str, heights: Sequence[float]) -> bytes:
        rows = [disc(level, height) for level, height in enumerate(heights, start=1)]
        return json.dumps(document(case, *rows), indent=1).encode()

    files = {
        "first/first_discs.json": stored("first", (8.0, 9.0)),
        "second/second_discs.json": stored("second", (7, 9)),
    }
    return [Sample("visits", files)]
