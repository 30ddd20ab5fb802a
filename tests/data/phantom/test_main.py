from __future__ import annotations

import json
from pathlib import Path

import pytest

from ivdjax.data.phantom import __main__ as command

SMALL = ["--shape", "12,80,56", "--spacing", "5,4,3.5"]


def test_a_set_is_made_and_its_path_and_time_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "set"
    given = ["--output", str(output), "--cases", "1", "--seed", "3", "--channels", "t2", "--binary-labels"]
    assert command.main([*given, "--hard", "s1s2", *SMALL]) == 0
    out = capsys.readouterr().out
    assert str(output) in out and "1 case in" in out
    assert (output / "S01" / "S01_t2.nii.gz").is_file()
    assert json.loads((output / "truth.json").read_text())["cases"]["S01"]["hard"] == "s1s2"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--channels", "fat,wtr"], "unknown channel 'wtr'"),
        (["--hard", "nothing"], "unknown hard kind 'nothing'"),
        (["--field", "slap"], "did you mean 'slab'"),
        (["--shape", "12,80"], "--shape takes three numbers as D,H,W, not '12,80'"),
        (["--spacing", "a,b,c"], "--spacing takes three numbers"),
        (["--visits", "0"], "must be at least 1"),
    ],
)
def test_options_that_make_no_sense_exit_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert command.main(["--output", str(tmp_path / "set"), "--cases", "1", "--seed", "1", *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_an_output_in_use_exits_with_2_and_names_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("mine")
    assert command.main(["--output", str(tmp_path), "--cases", "1", "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_disk_that_refuses_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    given = ["--output", str(tmp_path / "file" / "set"), "--cases", "1", "--seed", "1", *SMALL]
    assert command.main(given) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interruption_ends_with_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    def stop(*_: object) -> None:
        raise raised

    monkeypatch.setattr(command, "write_phantoms", stop)
    given = ["--output", str(tmp_path / "set"), "--cases", "1", "--seed", "1"]
    try:
        result = command.main(given)
    except SystemExit as end:
        result = int(str(end.code))
    assert result == code


def test_a_subject_that_lacks_a_visit_is_noted(tmp_path, capsys):
    given = ["--seed", "1", "--visits", "2", "--channels", "t2", *SMALL]
    assert command.main(["--output", str(tmp_path / "odd"), "--cases", "1", *given]) == 0
    told = capsys.readouterr()
    assert "note: 1 case is no multiple of 2 visits: the last subject lacks 1" in told.err and "1 case in" in told.out
