from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import repeatability
from benchmarks.repeatability import Scan, command_line, facts, figures, level_is_right, phantom_set, table, told
from ivdjax.config import parse_config
from ivdjax.data.phantom import PhantomOptions, PhantomSet
from ivdjax.discs.change import detectable_changes
from ivdjax.discs.measures import measure_discs
from ivdjax.imaging.files import read_labels
from ivdjax.model.model import Model, read_model, write_model
from ivdjax.reports.tables import CaseSummary, disc_json
from ivdjax.volume import UserError


def disc(height, x=0.0, **columns):
    place = {"centroid_x_mm": x, "centroid_y_mm": 0.0, "centroid_z_mm": 0.0}
    return {"level": 1, "middle_height_mm": height, "wat_mean": 7.0, "cut_at": ""} | place | columns


def scan(subject, visit, found, truth=None):
    return Scan(subject, f"{subject}_{visit}", found, truth or {level: disc(8.0) for level in found}, "ok")


TWO = [
    scan("S1", 1, {1: disc(8.1)}), scan("S1", 2, {1: disc(8.5)}),
    scan("S2", 1, {1: disc(6.0)}), scan("S2", 2, {1: disc(6.0)}),
]  # fmt: skip


def options(**changes):
    given = {"model": "models/m", "subjects": 2, "visits": 2, "seed": 9, "field": "full", "channels": "t2"} | changes
    return argparse.Namespace(**given)


def test_figures_by_hand():
    own = figures(TWO)["middle_height_mm"]
    # Variances 0.08 (of 8.1, 8.5) and 0; true heights are all 8.
    assert own["within_sd"] == pytest.approx(0.2) and own["n"] == 2
    assert own["smallest_detectable_change"] == pytest.approx(1.96 * 2**0.5 * 0.2)
    assert own["bias"] == pytest.approx((0.1 + 0.5 - 2 - 2) / 4) and own["truth_within_sd"] == 0
    assert own["icc"] == pytest.approx(0.98, abs=0.02)
    assert list(figures(TWO)) == ["middle_height_mm"]


def test_discs_of_a_wrong_level_take_no_part():
    wrong = scan("S2", 2, {1: disc(99.0, x=10.1)})
    assert not level_is_right(wrong.found[1], wrong.truth[1]) and not level_is_right(wrong.found[1], None)
    assert level_is_right(disc(1.0, x=9.9), disc(1.0))
    own = figures([*TWO[:3], wrong])["middle_height_mm"]
    assert own["n"] == 1 and own["within_sd"] == pytest.approx(0.08**0.5) and own["icc"] is None
    assert "3 discs of the right level, 1 of a wrong one (left out), 0 missed" in told([*TWO[:3], wrong])


def test_measures_that_no_disc_has_twice_are_left_out():
    once = [scan("S1", 1, {1: disc(8.0, rare_mm=1.0)}), *TWO[1:]]
    assert "rare_mm" not in figures(once)
    assert figures([]) == {}


def test_facts_are_what_a_comparison_reads():
    made = facts(figures(TWO), PhantomSet(4, 9, 2, PhantomOptions(channels=("t2",))), "python x")
    assert detectable_changes(made) == {"middle_height_mm": pytest.approx(0.5544, abs=1e-4)}
    assert "2 synthetic phantoms scanned 2 times each" in made["made_of"] and "seed 9" in made["made_of"]
    assert "voxels of 2 x 1.25 x 1.25 mm" in made["made_of"] and made["command"] == "python x"
    assert json.loads(json.dumps(made)) == made
    assert "truth_within_sd" not in made["middle_height_mm"]


def test_the_table_has_a_row_a_measure():
    lines = table(figures(TWO)).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| middle_height_mm | 0.2 | 0.554 |")
    assert {line.count("|") for line in lines} == {8}


def test_a_slab_has_the_same_slices_at_every_visit():
    assert phantom_set(options(field="slab")).options.shape == (20, 320, 256)
    assert phantom_set(options()).options.shape is None
    assert phantom_set(options(subjects=3, visits=4)).cases == 12


@pytest.mark.parametrize("few", [{"subjects": 1}, {"visits": 1}])
def test_one_subject_or_visit_is_refused(few):
    with pytest.raises(UserError, match="two subjects and visits at least"):
        phantom_set(options(**few))


def test_the_command_names_every_option_that_the_figures_depend_on():
    assert command_line(options(channels="")) == (
        "python benchmarks/repeatability.py --model models/m --subjects 2 --visits 2 --seed 9 --field full"
    )
    assert command_line(options()).endswith("--channels t2")


def _perfect(request):
    """Stands in for inference: the phantoms' own discs."""
    rows = []
    for folder in sorted(Path(request.inputs[0]).glob("S*")):
        labels = read_labels(folder / f"{folder.name}_Labels.nii.gz", folder.name)
        found = measure_discs(labels, None, dict.fromkeys(range(1, 8), 1.0))
        out = request.output / folder.name
        out.mkdir(parents=True)
        model = {"name": "m", "weights_sha256": "w", "sha256": "s"}
        text = disc_json(folder.name, "ok", [], found, input={}, model=model)
        (out / f"{folder.name}_discs.json").write_text(text)
        rows.append(CaseSummary(folder.name, "done", "ok", (), len(found)))
    return rows


def test_a_perfect_outline_repeats_as_well_as_the_truth_and_is_stored(tmp_path, monkeypatch, capsys):
    model = Model(parse_config({"name": "m", "data": {"channels": ["t2"]}}), {"disc": {"w": np.zeros(2, np.float32)}})
    write_model(tmp_path / "m", model)
    small = {"field": "full", "channels": ("t2",), "shape": (9, 130, 90), "spacing_mm": (8.0, 2.0, 2.0)}
    monkeypatch.setattr(repeatability, "phantom_set", lambda _: PhantomSet(4, 9, 2, PhantomOptions(**small)))
    monkeypatch.setattr(repeatability, "infer", _perfect)
    arguments = ["repeatability.py", "--model", str(tmp_path / "m"), "--keep", str(tmp_path / "kept"), "--store"]
    monkeypatch.setattr("sys.argv", arguments)
    assert repeatability.main() == 0
    printed = capsys.readouterr().out
    assert "4 scans of 2 phantoms; 28 discs of the right level, 0 of a wrong one" in printed
    stored = read_model(tmp_path / "m").meta["repeatability"]
    assert stored["volume_mm3"]["n"] == 14 and stored["volume_mm3"]["bias"] == 0
    assert "fat_fraction" not in stored and stored["made_of"].startswith("2 synthetic phantoms")
    assert "## Repeatability" in (tmp_path / "m" / "README.md").read_text()
    with (tmp_path / "kept" / "details.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["of"] for row in rows} == {"found", "truth"} and len(rows) == 56


def test_a_failed_case_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(repeatability, "holds_phantoms", lambda *_: True)
    monkeypatch.setattr(repeatability, "infer", lambda _: [CaseSummary("S1_1", "failed", reasons=("no disk",))])
    with pytest.raises(UserError, match=r"1 failed: S1_1 \(no disk\)"):
        repeatability.scan("m", PhantomSet(4, 9, 2), tmp_path)
