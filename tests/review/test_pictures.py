from __future__ import annotations

import base64
import gzip

import nibabel
import numpy as np
import pytest
from matplotlib.patches import PathPatch

from ivdjax.imaging.files import read_labels
from ivdjax.inference.figure import FigureRequest, draw_figure
from ivdjax.inference.results import read_document
from ivdjax.review.decision import Decision
from ivdjax.review.folder import ResultFolder
from ivdjax.review.open_case import OpenCase
from ivdjax.review.pictures import discs_data
from tests.review.results import store_case


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with the case "odd", below whose L5/S1 a remnant was left out."""
    root = tmp_path_factory.mktemp("pictures")
    store_case(root, "odd", remnant=True)
    return root / "out"


def test_what_was_left_out_of_a_stored_result_is_dashed_and_named_in_the_review(out):
    case = OpenCase(ResultFolder(out, False, {}), "odd")
    data = discs_data(case.own, case.own)
    ((other),) = data["left_out"]
    value = other["value"]
    assert (value, other["name"]) == (8, "S1/S2") and [value, 255, 255, 255, "S1/S2"] in data["colours"]
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data["labels"])))
    array = np.asarray(image.dataobj)
    whole = case.own.left_out.labels.array > 0
    assert 0 < (array == value).sum() < 0.3 * whole.sum(), "a dashed outline"
    points = nibabel.affines.apply_affine(image.affine, np.argwhere(array == value))
    assert np.abs(points.mean(axis=0) - other["centroid_mm"]).max() < 3
    lowest = min(data["discs"], key=lambda disc: disc["level"])
    assert other["centroid_mm"][2] < lowest["centroid_z_mm"] - 15


def test_what_was_left_out_is_dashed_and_named_in_a_figure_of_a_stored_result(out, monkeypatch):
    drawn = []
    monkeypatch.setattr("ivdjax.inference.figure.figure_bytes", lambda figure, kind: drawn.append(figure) or b"drawn")
    draw_figure(FigureRequest(out / "odd" / "odd_discs.json", out, panels=("sagittal",)))
    ((axes,),) = [figure.axes for figure in drawn]
    assert "(S1/S2)" in [text.get_text() for text in axes.texts]
    styles = [patch.get_linestyle() for patch in axes.findobj(PathPatch)]
    assert len(styles) == 8 and styles.count("solid") == 7


def test_tissues_and_what_was_measured_of_them_outlast_an_acceptance_and_a_correction(out):
    case = OpenCase(ResultFolder(out, False, {}), "odd")
    before = read_document(out / "odd" / "odd_discs.json")
    tissues = read_labels(out / "odd" / "odd_tissues.nii.gz", "odd").array
    assert before["spine"] and before["not_measured"] and before["discs"][2]["canal_ap_mm"] is not None
    case.decide(Decision("accept"), "Ada", case.state()[0])
    case.write()
    after = read_document(out / "odd" / "odd_discs.json")
    for key in ("spine", "not_measured", "discs"):
        assert after[key] == before[key]
    assert np.array_equal(read_labels(out / "odd" / "odd_tissues.nii.gz", "odd").array, tissues)
    case.decide(Decision("delete", disc=7), "Ada", case.state()[0])
    case.write()
    discs = read_document(out / "odd" / "odd_discs.json")["discs"]
    assert len(discs) == 6 and discs[2]["canal_ap_mm"] == pytest.approx(before["discs"][2]["canal_ap_mm"], rel=0.05)
    assert (out / "odd" / "odd_tissues.nii.gz").is_file()
