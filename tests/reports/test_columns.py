from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import ivdjax.reports.columns
from ivdjax.discs.degeneration import LEVEL_MEASURES as wear_of_levels
from ivdjax.discs.grades import GRADE_MEASURES
from ivdjax.discs.measures import SHAPE_MEASURES, SIGNAL_STATISTICS, measure_discs
from ivdjax.reports.columns import (
    CHANNEL_COLUMNS,
    COLUMNS,
    SCHEMA_FILE,
    SCHEMA_VERSION,
    WEAR_COLUMNS,
    dictionary_table,
    disc_schema,
)
from ivdjax.reports.tables import disc_json, disc_rows
from ivdjax.volume import LabelMap, Volume

AFFINE = np.array([[-2.0, 0, 0, 0], [0, 0, -1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
NUMBERS = {"integer": int, "number": (int, float), "text": str}


def found():
    """A whole disc, and one that the field of view cuts at its sides."""
    labels = np.zeros((20, 40, 40), np.uint8)
    labels[3:17, 22:30, 5:30], labels[0:20, 5:12, 5:30] = 1, 2
    array = np.random.default_rng(0).uniform(1, 100, (2, *labels.shape)).astype(np.float32)
    return measure_discs(LabelMap(labels, AFFINE), Volume(array, AFFINE, ("fat", "wat")), {1: 0.9}, {1: 0.85})


def document(**context):
    return json.loads(disc_json("a", "review", ("one",), found(), **context))


def check(value):
    jsonschema.Draft202012Validator(disc_schema()).validate(value)


def test_the_published_schema_is_the_one_that_the_columns_give():
    stored = json.loads((Path(ivdjax.reports.columns.__file__).parent / SCHEMA_FILE).read_text(encoding="utf-8"))
    assert stored == disc_schema()
    jsonschema.Draft202012Validator.check_schema(stored)
    assert stored["$id"].endswith(f":{SCHEMA_VERSION}")


def test_real_results_follow_the_schema_with_the_context_of_a_result_and_without():
    check(document())
    check(document(
        input={"fat": {"file": "a.nii.gz", "sha256": "0"}}, model={"name": "m"}, overrides=["inference.discs=5"],
        anchor={"level": 2, "point_mm": [0, 1, 2]}, ivdjax_version="0.1.0", warnings=["odd"], repeatability=None,
        something_later=3,
    ))  # fmt: skip
    check(json.loads(disc_json("a", "ok", (), [])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"volume_in_view_mm3": None}, "None is not of type 'number'"),
        ({"level": 0}, "less than the minimum"),
        ({"level_confidence": 1.5}, "greater than the maximum"),
        ({"cut_at": None}, "not of type 'string'"),
        ({"pfirrmann": 3}, "'pfirrmann' does not match"),
        ({"fat_mean": "many"}, "not of type 'number', 'null'"),
    ],
)
def test_the_schema_refuses_what_no_disc_holds(change, words):
    wrong = document()
    wrong["discs"][0] |= change
    with pytest.raises(jsonschema.ValidationError, match=words):
        check(wrong)


def test_the_schema_refuses_an_older_version_and_a_disc_without_its_columns():
    with pytest.raises(jsonschema.ValidationError, match=f"{SCHEMA_VERSION} was expected"):
        check(document() | {"schema_version": 1})
    short = document()
    del short["discs"][1]["cut_at"]
    with pytest.raises(jsonschema.ValidationError, match="'cut_at' is a required property"):
        check(short)


def test_columns_are_those_of_the_table_and_say_truly_where_a_value_may_lack():
    whole, cut = disc_rows(found())
    names = [column.name for column in COLUMNS]
    signals = [column.name.replace("<channel>", channel) for channel in ("fat", "wat") for column in CHANNEL_COLUMNS]
    assert list(whole) == [*names, *signals]
    assert set(SHAPE_MEASURES) < set(names)
    assert [column.name.rpartition("_")[2] for column in CHANNEL_COLUMNS] == list(SIGNAL_STATISTICS)
    wear = {column.name for column in WEAR_COLUMNS}
    assert list(wear_of_levels) == [column.name for column in WEAR_COLUMNS]
    for column in COLUMNS:
        given = isinstance(whole[column.name], NUMBERS[column.kind])
        assert given or column.name in (*wear, *GRADE_MEASURES), column.name
        assert cut[column.name] is not None or column.empty_when, column.name
    assert {name for name, value in cut.items() if value is None} - wear - set(GRADE_MEASURES) == {
        "volume_mm3", "lateral_width_mm", "outline_confidence"
    }  # fmt: skip
    assert (whole["cut_at"], cut["cut_at"]) == ("", "left right")


def test_units_stand_in_the_names():
    suffix = {"mm": "_mm", "mm²": "_mm2", "mm³": "_mm3", "°": "_deg", "%": "_percent"}
    for column in COLUMNS:
        assert column.name.endswith(suffix.get(column.unit, "")), column.name
        assert column.unit or not column.name.endswith(tuple(suffix.values())), column.name


def test_the_data_dictionary_in_the_docs_is_this_table(root):
    text = (root / "docs" / "measures.md").read_text(encoding="utf-8")
    assert dictionary_table() in text
    assert f"| {SCHEMA_VERSION} |" in text  # the history of versions
