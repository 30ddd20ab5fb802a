"""Scores on disk, and the tables made of them."""

from __future__ import annotations

import json

import pytest

from benchmarks.ablation_scores import Score, read_scores, table, table_of_sets
from ivdjax.volume import UserError


def test_damaged_scores_are_named(tmp_path):
    place = tmp_path / "serial" / "seed_1"
    place.mkdir(parents=True)
    (place / "scores.json").write_text(json.dumps([{"variant": "serial"}]), encoding="utf-8")
    with pytest.raises(UserError, match=r"serial/seed_1/scores.json cannot be read .* remove its folder"):
        read_scores(tmp_path, ["paper", "serial"])


def test_the_table_shows_means_worst_cases_spread_and_paired_differences():
    scores = [
        Score("paper", 1, 1000, 2.0, 10.0, {"a": 0.5, "b": 0.7}),
        Score("paper", 2, 1000, 2.0, 20.0, {"a": 0.6, "b": 0.8}),
        Score("serial", 1, 900, 1.6, 8.0, {"a": 0.6, "b": 0.66}),
        Score("unet", 3, 1100, 0.6, 4.0, {"a": 0.5, "b": 0.5}),
    ]
    assert table(scores, "paper").splitlines() == [
        "| variant | parameters | Mflop a box | ms a step | seed 1: mean (worst) | seed 2: mean (worst) "
        "| seed 3: mean (worst) | mean of seeds | spread | against paper |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| paper | 1,000 | 2 | 15 | 0.600 (0.500) | 0.700 (0.600) | - | 0.650 | 0.100 | - |",
        "| serial | 900 | 2 | 8 | 0.630 (0.600) | - | - | 0.630 | - | +0.030, better in 1 of 2 |",
        "| unet | 1,100 | 1 | 4 | - | - | 0.500 (0.500) | 0.500 | - | - |",
    ]


def test_the_table_of_sets_shows_differences_with_the_same_seed():
    def score(variant: str, seed: int, dice: float, scans: str) -> Score:
        return Score(variant, seed, 1000, 2.0, 10.0, {"a": dice}, scans)

    scores = [
        score("all", 1, 0.8, "T2"), score("all", 1, 0.6, "T1"), score("all", 2, 0.9, "T2"), score("all", 2, 0.5, "T1"),
        score("no_bias", 1, 0.79, "T2"), score("no_bias", 1, 0.5, "T1"), score("no_bias", 2, 0.92, "T2"),
        score("no_bias", 2, 0.45, "T1"), score("no_edges", 2, 0.9, "T2"), score("no_blur", 3, 0.9, "T2"),
    ]  # fmt: skip
    assert table_of_sets(scores, "all").splitlines() == [
        "| variant | seeds | T2 | T1 | mean of sets |",
        "|---|---|---|---|---|",
        "| all | 2 | 0.850 (0.800 to 0.900) | 0.550 (0.500 to 0.600) | 0.700 (0.700 to 0.700) |",
        "| no_bias | 2 | +0.005 (-0.010 to +0.020) | -0.075 (-0.100 to -0.050) | -0.035 (-0.055 to -0.015) |",
        "| no_edges | 1 | +0.000 | - | - |",
        "| no_blur | 1 | - | - | - |",
    ]
