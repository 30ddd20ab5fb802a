"""The model card: what it tells of data, licences, figures, limits and use."""

from __future__ import annotations

import pytest

from ivdjax.model.model_card import COUNTED_LIMIT, GENERAL_LIMITS, INTENDED_USE, UNSEEN_GAPS_LIMIT, model_card


def description(**changes):
    return {
        "name": "tiny", "channels": ["fat", "wat"], "networks": ["disc", "region"], "precision": "float16",
        "ivdjax_version": "0.1.0", "weights_sha256": "0123abcd", "credit": "Phantoms of ours", "licence": "Apache-2.0",
        "validation": {"mean Dice": 0.912345, "by case": {"a": 0.9, "b": "missed | lost"}},
        "training": {"cases": 22, "phantoms": 0, "held_out": ["07", "08"]}, "limits": ["No scoliosis."],
        "config": {"inference": {"numbering": "solver"}, "augmentation": {"channel_dropout": 0.3}},
    } | changes  # fmt: skip


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_card_states_networks_use_data_figures_limits_and_integrity():
    card = model_card(description())
    assert (
        card.startswith("# tiny\n") and "**fat, wat**" in card and "networks: disc, region; stored as float16" in card
    )
    assert "--model PATH/TO/tiny" in section(card, "Use")
    assert section(card, "Intended use").strip() == INTENDED_USE and "not a medical device" in INTENDED_USE
    assert "credit: Phantoms of ours" in section(card, "Training data")
    assert "Synthetic" not in card and "Beside them" not in card
    assert "| held_out | 07, 08 |" in section(card, "Training")
    figures = section(card, "Figures on held-out cases")
    assert "| mean Dice | 0.9123 |" in figures and "| by case: b | missed \\| lost |" in figures
    limits = [line.removeprefix("- ") for line in section(card, "Limits").strip().splitlines()]
    assert limits == ["No scoliosis.", *GENERAL_LIMITS]
    assert "`0123abcd`" in section(card, "Integrity") and "reference.npz" not in card


def test_what_is_missing_is_said_to_be_missing():
    facts = dict.fromkeys(("credit", "licence"), "") | dict.fromkeys(("validation", "training"), None)
    card = model_card(description(**facts))
    assert "Source and credit: not stated" in card and "Licence of the data: not stated" in card
    assert "None were recorded" in card and "## Training\n" not in card


def test_synthetic_images_and_phantoms_beside_real_ones_are_told():
    assert "**Synthetic images only.**" in section(model_card(description(synthetic=True)), "Training data")
    beside = model_card(description(training={"cases": 22, "phantoms": 30}))
    assert "Beside them: 30 synthetic phantoms" in section(beside, "Training data")


@pytest.mark.parametrize(
    ("licence", "words", "without"),
    [
        ("Apache-2.0", "Weights: Apache-2.0, as ivdjax itself.\n", "credit"),
        ("CC0-1.0", "Weights: Apache-2.0, as ivdjax itself.\n", "credit"),
        ("CC BY 4.0", "licenses/by/4.0/) asks for credit", "not stated"),
        ("CC-BY-4.0", "asks for credit", "not stated"),
        ("CC BY-NC 4.0", "Weights: not stated.", "Apache"),
        ("CC BY 4.0 for research alone", "Weights: not stated.", "Apache"),
        ("not to be redistributed; see the challenge's rules", "do not pass them on", "Apache"),
        ("", "Weights: not stated.", "Apache"),
    ],
)
def test_weights_are_licensed_within_the_licence_of_the_data(licence, words, without):
    text = section(model_card(description(licence=licence)), "Licence")
    assert words in text and without not in text
    assert "Outputs (label maps, tables, pictures, reports) belong to whoever makes them" in text


def test_a_reference_mask_stays_under_the_licence_of_the_data():
    card = model_card(description(reference_sha256="4567ef"))
    assert "`reference.npz` holds the numbered discs of one training case" in section(card, "Licence")
    assert "`4567ef`" in section(card, "Integrity")


@pytest.mark.parametrize(
    ("changes", "further"),
    [
        ({"config": {"inference": {"numbering": "line"}, "augmentation": {"channel_dropout": 0.3}}}, [COUNTED_LIMIT]),
        ({"config": {"inference": {"numbering": "solver"}, "augmentation": {"channel_dropout": 0.0}}},
         [UNSEEN_GAPS_LIMIT]),
        ({"config": None}, [UNSEEN_GAPS_LIMIT]),
        ({"config": None, "channels": ["t2"]}, []),
    ],
)  # fmt: skip
def test_limits_follow_from_how_the_model_numbers_and_was_trained(changes, further):
    limits = section(model_card(description(**changes)), "Limits")
    assert [limit for limit in (COUNTED_LIMIT, UNSEEN_GAPS_LIMIT) if limit in limits] == further


def test_a_case_that_lacks_channels_is_spoken_of_only_where_there_are_several():
    assert "lacks some of the channels" in model_card(description())
    assert "lacks some of the channels" not in model_card(description(channels=["t2"]))


def test_parameters_that_were_chosen_by_the_held_out_cases_are_told():
    card = model_card(description(training={"cases": 22, "disc_steps": 700, "disc_chosen_step": 500}))
    assert "The disc network is that of step 500, the best of several validations" in section(card, "Limits")
    assert "best of several" not in model_card(description())


def test_repeatability_has_a_table_of_its_own():
    measure = {"within_sd": 0.123456, "smallest_detectable_change": 0.34, "icc": None, "bias": -0.1, "n": 70}
    facts = {"middle_height_mm": measure, "made_of": "10 phantoms", "command": "python b.py", "ivdjax_version": "0.1.0"}
    text = section(model_card(description(repeatability=facts)), "Repeatability")
    assert "Measured on: 10 phantoms.\n" in text and "```\npython b.py\n```" in text
    assert "| middle_height_mm | 0.1235 | 0.34 | - | -0.1 | 70 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and {row.count("|") for row in rows} == {7}


@pytest.mark.parametrize("facts", [None, {}, {"made_of": "nothing"}])
def test_without_figures_there_is_no_section_about_repeatability(facts):
    assert "Repeatability" not in model_card(description(repeatability=facts))


def test_outline_confidence_tells_the_curve_and_its_figures():
    figures = {"data": "6 patients", "cases": 6, "rank_correlation": 0.71, "rank_correlation_95": [0.5, None]}
    facts = {"scale": 1.5, "power": 2.0, "fitted": {"cases": 26, "discs": 181}, "checked": figures}
    text = section(model_card(description(outline_calibration=facts)), "Outline confidence")
    assert "1 - 1.5 (1 - e)^2 with e from" in text and "not checked" not in text
    assert text.strip().splitlines()[2:] == [
        "| | fitted | checked |", "|---|---|---|", "| measured on | - | 6 patients |", "| cases | 26 | 6 |",
        "| discs | 181 | - |", "| rank correlation of predicted and measured Dice | - | 0.71 |",
        "| its 95 % interval, whole cases drawn anew | - | 0.5, None |",
    ]  # fmt: skip


def test_an_unchecked_outline_calibration_is_told_and_a_missing_one_is_not():
    facts = {"scale": 1.5, "power": 2.0, "fitted": {"cases": 26}}
    assert "It was not checked" in section(model_card(description(outline_calibration=facts)), "Outline confidence")
    bare = section(model_card(description(outline_calibration={"scale": 1, "power": 1})), "Outline confidence")
    assert "It was not checked" in bare and "|" not in bare
    assert "Outline confidence" not in model_card(description())
