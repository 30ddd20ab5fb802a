from __future__ import annotations

from types import SimpleNamespace

from ivdjax.config import parse_config
from ivdjax.model.model import Model
from ivdjax.model.model_card import model_card
from ivdjax.training.descent import case_marks, descent_of, seen_before


def case(name: str, subject: str = "") -> SimpleNamespace:
    return SimpleNamespace(name=name, subject=subject or name)


def model(name: str, cases: list[SimpleNamespace], **meta) -> Model:
    training = {"cases": len(cases), "held_out": ["h"], "case_marks": case_marks(cases)}
    facts = {
        "weights_sha256": f"sum of {name}",
        "credit": f"data of {name}",
        "licence": "CC BY 4.0",
        "training": training,
    }
    return Model(parse_config({"name": name}), {}, facts | meta)


def test_the_whole_line_is_kept_with_data_credit_licence_and_held_out_cases():
    first = model("first", [case("01")])
    second = model("second", [case("02")], descent=descent_of(first, ["disc"]))
    nearest, root = descent_of(second, ["disc", "region"])
    assert (nearest["name"], nearest["networks"], nearest["credit"]) == ("second", ["disc", "region"], "data of second")
    assert (root["name"], root["licence"], root["held_out"], root["cases"]) == ("first", "CC BY 4.0", ["h"], 1)


def test_a_held_out_case_that_trained_an_ancestor_is_found_also_by_its_subject_and_no_name_is_stored():
    base = model("base", [case("S1_v1", "S1"), case("S2_v1", "S2")])
    descent = descent_of(base, ["disc"])
    assert "S1" not in str(descent[0]["case_marks"])
    assert seen_before([case("S1_v2", "S1"), case("S3_v1", "S3")], descent) == {"base": ["S1_v2"]}
    assert seen_before([case("S3_v1", "S3")], descent) == {}
    assert seen_before([case("S1")], descent_of(Model(parse_config({"name": "old"}), {}), [])) == {}


def test_the_card_tells_the_descent_and_what_is_not_unseen():
    description = {
        "name": "tuned", "channels": ["t2"], "networks": ["disc"], "ivdjax_version": "1", "precision": "float32",
        "weights_sha256": "w", "training": {"cases": 3, "case_marks": ["0123456789abcdef"]},
        "descent": descent_of(model("base", [case("01")]), ["disc"]), "held_out_seen_before": {"base": ["01"]},
    }  # fmt: skip
    card = model_card(description)
    assert "## Descent" in card and "**base** (disc; weights `sum of base`): trained on 1 cases" in card
    assert "credit: data of base; licence: CC BY 4.0; held out: h" in card
    assert "the held-out 01 (or a visit of the same subject) trained base" in card
    assert "0123456789abcdef" not in card and "## Descent" not in model_card(description | {"descent": []})
