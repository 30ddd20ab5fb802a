"""A model as a function: what it takes, what it gives, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK

import ivdjax
from ivdjax import CaseError, UserError, Volume, load_model, read_volume, volume_of
from tests.dicom_series import write_series
from tests.untrained_model import write_untrained

SHAPE = (40, 24, 6)  # axes to posterior, inferior and left
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ivdjax.DiscModel:
    return load_model(write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"]))


@pytest.mark.slow
def test_one_image_in_every_form_gives_one_result(model, image, tmp_path):
    path = tmp_path / "scan.nii.gz"
    opened = nibabel.Nifti1Image(image, AFFINE)
    nibabel.save(opened, path)
    itk = SimpleITK.ReadImage(str(path))
    forms = [path, str(path), opened, itk, {"t2": itk}, volume_of(image, AFFINE, "t2"),
             read_volume({"t2": path}, "scan"), volume_of(image[None], AFFINE, ["t2"]), (image, AFFINE),
             {"t2": (image, AFFINE)}]  # fmt: skip
    results = [model(form) for form in forms]
    first = results[0]
    assert first.discs and first.verdict == "review"
    assert first.label_array().shape == SHAPE and first.probability_array().shape == SHAPE
    assert first.probability.min() >= 0 and first.probability.max() <= 1
    for other in results[1:]:
        np.testing.assert_array_equal(other.label_array(), first.label_array())
        assert other.table() == first.table()
    # The label map in the image's own axis order: its voxels lie where the table says.
    disc = first.discs[0]
    voxels = np.argwhere(first.label_array() == disc.level)
    np.testing.assert_allclose((voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]).mean(axis=0), disc.centroid_mm, atol=1e-3)
    assert all(0 <= found.outline_confidence <= 1 for found in first.discs)


@pytest.mark.slow
def test_a_result_shows_itself_as_words_picture_and_table(model, image):
    result = model(volume_of(image, AFFINE, "t2"), name="<b>a</b>")
    assert result.picture().startswith(b"\x89PNG")
    html = result._repr_html_()
    assert "&lt;b&gt;a&lt;/b&gt;" in html and "<b>a</b>" not in html and "data:image/png;base64," in html
    assert all(disc.level_name in html and disc.level_name in repr(result) for disc in result.discs)
    assert "synthetic" in html and result.verdict in repr(result)


@pytest.mark.slow
def test_what_a_model_says_of_itself_and_what_it_refuses(model, image):
    assert model.channels == ("t2",) and model.name == "untrained" and "untrained" in repr(model)
    volume = volume_of(image, AFFINE, "t1")
    with pytest.raises(UserError, match="no channel t1; it has t2"):
        model(volume)
    # As on the command line, a model of one channel takes any contrast, whatever it is called.
    assert "wat was taken for channel t2" in " ".join(model({"wat": (image, AFFINE)}).warnings)
    with pytest.raises(UserError, match="no channel wat"):
        model({"t2": (image, AFFINE), "wat": (image, AFFINE)})
    with pytest.raises(CaseError, match="none of the model's channels"):
        model({})
    with pytest.raises(UserError, match="no level"):
        model(volume_of(image, AFFINE, "t2"), anchor="Q1=1,2,3")
    with pytest.raises(CaseError, match=r"case here: .*nowhere\.nii"):
        model(Path("nowhere.nii"), name="here")


@pytest.mark.slow
def test_a_model_of_several_channels_wants_their_names_and_answers_to_some(image, tmp_path):
    dixon = load_model(write_untrained(tmp_path / "dixon", ["fat", "t2"]), numbering="bottom")
    with pytest.raises(UserError, match="mapping of fat, t2"):
        dixon(nibabel.Nifti1Image(image, AFFINE))
    result = dixon({"t2": nibabel.Nifti1Image(image, AFFINE)})
    assert "Channel fat is missing" in result.remarks[0]


def test_settings_may_be_lists_and_numbers_of_numpy(tmp_path):
    folder = write_untrained(tmp_path / "untrained", ["t2"])
    settings = load_model(folder, box=(16, 32), review_above=np.float64(0.2), region=np.False_)._segmenter.model.config
    assert settings.inference.box == (16, 32) and settings.inference.review_above == 0.2
    assert settings.inference.region is False


def test_settings_that_do_not_exist_and_models_that_are_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="no model"):
        load_model(tmp_path / "nowhere")
    write_untrained(tmp_path / "m", ["t2"])
    with pytest.raises(UserError, match="nothing"):
        load_model(tmp_path / "m", nothing=1)


def test_public_names_are_there_and_cost_nothing(root):
    assert set(ivdjax._PUBLIC) | {"__version__"} == set(ivdjax.__all__)
    for name in ivdjax.__all__:
        assert getattr(ivdjax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ivdjax.nothing  # noqa: B018
    assert "ivdjax.inference.predictor" in sys.modules and (root / "ivdjax" / "py.typed").is_file()
    assert isinstance(volume_of(np.ones((2, 2, 2)), np.eye(4), "t2"), Volume)


def test_what_is_no_image_is_refused_in_words_that_say_what_to_pass(model, image, tmp_path):
    write_series(tmp_path / "series", image.astype(np.int16), AFFINE)
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "series").iterdir())]
    folder = "pass the folder of the DICOM series in place of its datasets"
    for given, words in (
        (image, r"pass \(array, affine\)"),
        ({"t2": image}, r"pass \(array, affine\)"),
        ((image, 3), "the affine being 4 x 4"),
        ((image[..., None], AFFINE), r"the shape \(40, 24, 6, 1\); it must be \(I, J, K\)"),
        (slices, folder),
        (tuple(slices), folder),
        (slices[0], folder),
        ({"t2": slices}, folder),
        ([image], r"call batch\(\) for many"),
        (None, "NoneType is not an image; pass a path"),
        ({"t2": None}, "NoneType is not an image; pass a path"),
        ({"t2": "a.nii", "T2w": "b.nii"}, "channel t2 is given twice"),
    ):
        with pytest.raises(UserError, match=words):
            model(given)


@pytest.mark.slow
def test_a_result_is_saved_as_infer_writes_it_or_in_parts(model, image, tmp_path):
    from ivdjax.inference.infer import infer
    from ivdjax.inference.request import InferenceRequest

    path = tmp_path / "data" / "scan_t2.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), path)
    result = model(path, name="scan")
    folder = result.save(tmp_path / "saved")
    assert folder == tmp_path / "saved" / "scan"
    infer(InferenceRequest(model.folder, tmp_path / "out", (str(path),)))
    written = {p.name: p for p in (tmp_path / "out" / "scan").iterdir()}
    assert {p.name for p in folder.iterdir()} == set(written)
    for name in ("scan_discs.nii.gz", "scan_discs.csv", "scan_overview.png"):
        assert (folder / name).read_bytes() == written[name].read_bytes(), name
    with pytest.raises(UserError, match="pass overwrite=True"):
        result.save(tmp_path / "saved")
    memory = model((image, AFFINE), name="scan")
    parts = memory.save(tmp_path / "parts", ["labels", "probability"])
    assert sorted(p.name for p in parts.iterdir()) == ["scan_discs.nii.gz", "scan_probability.nii.gz"]
    with pytest.raises(UserError, match="no part picture; parts are labels, csv"):
        memory.save(tmp_path / "parts", ["picture"])
    memory.save(tmp_path / "parts", ["labels"], overwrite=True)  # parts may be saved again
    assert [p.name for p in parts.iterdir()] == ["scan_discs.nii.gz"]
    assert len(list(memory.save(tmp_path / "parts", overwrite=True).iterdir())) > 1
    (parts / "notes.txt").write_text("mine")
    (parts / "scan_discs.json").unlink()
    with pytest.raises(UserError, match="holds no result of case scan"):
        memory.save(tmp_path / "parts", ["labels"], overwrite=True)
    with pytest.raises(UserError, match="cannot be the name of a folder"):
        model((image, AFFINE), name="../scan").save(tmp_path / "saved")
    # What a person has decided is not thrown away.
    decided = folder / "scan_corrections.json"
    decided.write_text("{}")
    with pytest.raises(UserError, match="scan_corrections.json holds what people decided"):
        result.save(tmp_path / "saved", overwrite=True)
    assert decided.is_file()
    decided.unlink()
    assert result.save(tmp_path / "saved", overwrite=True) == folder


@pytest.mark.slow
def test_a_batch_gives_the_results_of_single_calls_in_order_and_leaves_out_what_fails(model, image):
    volumes = {name: (image + shift, AFFINE) for name, shift in (("a", 0), ("b", 50), ("c", 100))}
    single = [model(volume, name=name).table() for name, volume in volumes.items()]
    results = list(model.batch(volumes))
    assert [result.name for result in results] == ["a", "b", "c"] and [r.table() for r in results] == single
    failed: list[str] = []
    given = [volumes["a"], Path("nowhere.nii"), volumes["c"], None]
    results = list(model.batch(given, lambda name, error: failed.append(f"{name}: {type(error).__name__}")))
    assert [result.name for result in results] == ["volume_1", "volume_3"]
    assert failed == ["volume_2: CaseError", "volume_4: UserError"]
    results = model.batch(given)
    assert next(results).name == "volume_1"  # what was found before is not lost
    with pytest.raises(CaseError, match="nowhere"):
        next(results)


@pytest.mark.slow
def test_a_volume_that_nobody_names_is_called_after_its_file(model, image, tmp_path):
    path, opened = tmp_path / "S01_1_t2.nii.gz", nibabel.Nifti1Image(image, AFFINE)
    nibabel.save(opened, path)
    assert model(path).name == model({"t2": str(path)}).name == "S01_1"
    assert model(path, name="mine").name == "mine"
    # The name tells the weighting too, as it does to `ivdjax infer`.
    assert model(path)._found.result.case.weightings == {"t2": "t2"} != model(opened)._found.result.case.weightings
    assert model(opened).name == "volume"
