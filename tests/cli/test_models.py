from __future__ import annotations

import shutil

import pytest

from ivdjax.cli.program import main
from ivdjax.model.model import read_model
from ivdjax.model.shipped import default_model, known_models, model_folder, shipped_folder
from ivdjax.volume import UserError


@pytest.fixture(autouse=True)
def own_models(tmp_path, monkeypatch):
    monkeypatch.setenv("IVDJAX_MODELS", str(tmp_path / "mine"))
    return tmp_path / "mine"


def test_a_shipped_model_is_found_by_its_name_and_a_folder_that_exists_wins(root, tmp_path, monkeypatch, capsys):
    name, folder = next(iter(known_models().items()))
    assert folder == root / "models" / name == model_folder(name) and read_model(name).channels
    assert main(["models", "path", name]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert str(model_folder(name)) == name
    with pytest.raises(UserError, match=f"{name} is not a model"):
        read_model(name)


def test_a_name_that_is_unknown_is_answered_with_the_nearest(capsys):
    name = next(iter(known_models()))
    with pytest.raises(UserError, match=rf"Did you mean {name}\?.*Known names: .*{name}"):
        model_folder(f"{name}s")


def test_without_a_name_the_model_is_one_of_a_single_channel(root):
    assert len(read_model(default_model()).channels) == 1
    assert default_model().parent == shipped_folder() == root / "models"


def test_a_model_is_added_listed_checked_and_replaced_only_when_asked(tmp_path, own_models, capsys):
    folder = shutil.copytree(default_model(), tmp_path / "run" / "model")
    assert main(["models", "import", str(folder), "--name", "mine"]) == 0
    assert model_folder("mine") == own_models / "mine"
    assert main(["models", "import", str(folder), "--name", "mine"]) == 2
    assert main(["models", "import", str(folder), "--name", "mine", "--overwrite"]) == 0
    assert main(["models", "import", str(folder), "--name", next(iter(known_models()))]) == 2
    assert "comes with the program" in capsys.readouterr().err
    assert main(["models", "list"]) == 0
    assert str(own_models / "mine") in capsys.readouterr().out
    assert main(["models", "verify"]) == 0
    assert "mine: whole" in capsys.readouterr().out
    (own_models / "mine" / "weights.npz").write_bytes(b"damaged")
    assert main(["models", "verify", "mine"]) == 1
    assert "mine: DAMAGED" in capsys.readouterr().out


def test_what_is_no_model_is_not_added(tmp_path, own_models, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["models", "import", str(tmp_path / "empty")]) == 2
    assert main(["models", "import", str(tmp_path / "nowhere")]) == 2
    for name in ("../out", ".hidden"):
        assert main(["models", "import", str(default_model()), f"--name={name}"]) == 2
    assert "cannot be the name of a folder" in capsys.readouterr().err
    assert not own_models.exists()
