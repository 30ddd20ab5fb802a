"""The options of `ivdjax infer` become what inference is asked for."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

import ivdjax.inference.infer
from ivdjax.cli.infer import add_options, run


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ([], ()),
        (["--no-grades"], ("inference.grades=false",)),
        (["--contrast", "t2"], ("inference.contrast=t2",)),
        (["--set", "inference.discs=5", "--no-grades"], ("inference.discs=5", "inference.grades=false")),
    ],
)
def test_what_grades_and_signal_rest_on_is_a_setting_of_the_run(given, asked, tmp_path, monkeypatch):
    requests = []
    monkeypatch.setattr(ivdjax.inference.infer, "infer", lambda request: requests.append(request) or [])
    parser = ArgumentParser()
    add_options(parser)
    assert run(parser.parse_args(["--model", str(tmp_path), "--output", str(tmp_path / "out"), "IMAGE", *given])) == 0
    assert requests[0].overrides == asked
