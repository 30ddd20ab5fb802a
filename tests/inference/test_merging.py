from __future__ import annotations

import csv
import errno
import json

import pytest

from ivdjax.cli.program import main
from ivdjax.imaging.folders import alone
from ivdjax.inference import merging
from ivdjax.inference.cohort import write_summary
from ivdjax.inference.results import OutputOptions
from ivdjax.reports.tables import CaseSummary
from tests.inference.visits.stored_visits import disc, document


def part(folder, *cases, failed=()):
    """An output folder with results, as far as a summary reads them."""
    for case in cases:
        (folder / case).mkdir(parents=True)
        (folder / case / f"{case}_discs.json").write_text(json.dumps(document(case, disc(1), disc(2))))
    rows = [CaseSummary(case, "done", "ok", (), 2, 3.5) for case in cases]
    folder.mkdir(exist_ok=True)
    write_summary(folder, [*rows, *(CaseSummary(case, "failed", reasons=("no image",)) for case in failed)],
                  OutputOptions())  # fmt: skip
    return folder


def table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_parts_become_one_folder_and_stay_as_they_are(tmp_path, capsys):
    parts = [part(tmp_path / "part_0", "a", "b"), part(tmp_path / "part_1", "c", failed=["d"])]
    out, words = tmp_path / "all", [str(folder) for folder in [*parts, "--output", tmp_path / "all"]]
    assert main(["merge", *words]) == 1, "a case failed"
    assert [(row["case"], row["status"], row["seconds"]) for row in table(out / "summary.csv")] == [
        ("a", "done", "3.5"), ("b", "done", "3.5"), ("c", "done", "3.5"), ("d", "failed", "")
    ]  # fmt: skip
    assert [row["case"] for row in table(out / "discs.csv")] == ["a", "a", "b", "b", "c", "c"]
    assert "d" in (out / "index.html").read_text()
    assert (out / "a" / "a_discs.json").samefile(parts[0] / "a" / "a_discs.json"), "no second copy"
    # A result that was corrected in the merged folder outlives the next merge; a failed case is replaced.
    (out / "a" / "a_discs.json").unlink()
    (out / "a" / "a_discs.json").write_text(json.dumps(document("a", disc(3))))
    part(tmp_path / "part_2", "d")
    (tmp_path / "part_1" / "summary.csv").write_text("case,status\nc,done\n")
    assert main(["merge", *words[:2], str(tmp_path / "part_2"), *words[2:]]) == 0
    assert [row["level"] for row in table(out / "discs.csv") if row["case"] in "ad"] == ["3", "1", "2"]
    assert "4 cases, 3 of them there already, 0 failed" in capsys.readouterr().out


def test_what_cannot_be_merged_is_refused(tmp_path, capsys):
    first, second = part(tmp_path / "one", "a"), part(tmp_path / "two", "a")
    bids = part(tmp_path / "three", "b")
    (bids / "dataset_description.json").write_text("{}")
    for parts, words in (
        ([first, second], "case a is in"), ([first, tmp_path / "none"], "holds no summary.csv"),
        ([first, tmp_path / "all"], "is one of the parts"), ([first, bids], "infer all with --bids"),
    ):  # fmt: skip
        (tmp_path / "all").mkdir(exist_ok=True)
        assert main(["merge", *map(str, parts), "--output", str(tmp_path / "all")]) == 2
        assert words in capsys.readouterr().err
    with alone(first):
        assert main(["merge", str(first), "--output", str(tmp_path / "all")]) == 2
    assert "a run or a review is at work in" in capsys.readouterr().err
    assert list((tmp_path / "all").iterdir()) == []
    with pytest.raises(SystemExit, match="2"):
        main(["merge", "--output", str(tmp_path / "all")])


def test_a_full_disk_is_said_in_one_sentence(tmp_path, capsys, monkeypatch):
    first = part(tmp_path / "one", "a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merging.os, "link", full)
    monkeypatch.setattr(merging.shutil, "copyfile", full)
    assert main(["merge", str(first), "--output", str(tmp_path / "all")]) == 1
    assert "error: the disk is full; free some space, then give the same command again" in capsys.readouterr().err
