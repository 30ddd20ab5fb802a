from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ivdjax import __version__
from ivdjax.cli.program import COMMANDS, available_commands, main


def test_every_command_has_a_line_and_a_help_of_its_own(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    for name in available_commands():
        assert f"    {name}" in told and COMMANDS[name][1] in told
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        own = capsys.readouterr().out
        assert own.startswith(f"usage: ivdjax {name}") and "--" in own, name
    assert {"infer", "train", "evaluate", "cross-validate", "compare", "convert", "phantom", "models"} <= set(
        available_commands()
    )


def test_the_help_of_infer_groups_options_and_lists_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["infer", "--help"])
    told = capsys.readouterr().out
    for words in ("input and output:", "corrections, kept for later runs:", "form of the results:", "threshold (0.5)"):
        assert words in told


def test_the_version_and_a_command_that_does_not_exist(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"ivdjax {__version__}\n"
    with pytest.raises(SystemExit, match="2"):
        main(["segment"])
    assert "invalid choice: 'segment'" in capsys.readouterr().err


def test_without_a_command_the_commands_are_listed(capsys):
    assert main([]) == 2
    told = capsys.readouterr().err
    assert all(f"    {name}" in told and COMMANDS[name][1] in told for name in available_commands())


def test_mistakes_exit_with_2_as_from_the_scripts(tmp_path, capsys):
    assert main(["infer", "--model", "nothing", "--output", str(tmp_path / "o"), str(tmp_path)]) == 2
    assert "no model at nothing" in capsys.readouterr().err
    assert main(["compare", "--output", str(tmp_path / "o")]) == 2
    assert main(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    assert not (tmp_path / "o").exists()


def completions(line: str, root) -> list[str]:
    """What a shell is offered at the end of a line."""
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "ivdjax.cli.program"], cwd=root, env=environment, capture_output=True)
    return [word.strip() for word in done.stdout.decode().replace("\x0b", "\n").split("\n") if word]


def test_shells_complete_commands_options_and_models(root):
    assert "convert" in completions("ivdjax con", root)
    assert completions("ivdjax infer --anc", root) == ["--anchor", "--anchors"]
    shipped = sorted(path.name for path in (root / "models").iterdir() if path.is_dir())
    assert completions("ivdjax infer --model ", root)[: len(shipped)] == shipped
