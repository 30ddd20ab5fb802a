from __future__ import annotations

import pytest

from ivdjax.config import Config, InferenceConfig, TrainingConfig
from ivdjax.settings import reference_page, sections_of, settings_of


def test_the_reference_of_the_configuration_is_what_the_code_says(root):
    stored = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert stored == reference_page(), "make it anew: python -m ivdjax.settings > docs/configuration.md"


@pytest.mark.parametrize(
    ("name", "section", "made"), list(sections_of()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_key_says_what_it_does(name, section, made):
    for setting in settings_of(section, made):
        assert setting.meaning, f"{section.__name__}.{setting.key} is not explained in its docstring"


def test_defaults_are_those_that_hold_at_their_place():
    sections = {name: settings_of(section, made) for name, section, made in sections_of()}
    crop = {
        name: next(s.default for s in sections[f"{name}.training"] if s.key == "crop") for name in ("disc", "region")
    }
    assert crop["disc"] == "[192, 128]" and crop["region"] == "[128, 128]"
    assert next(s for s in settings_of(Config) if s.key == "name").default == ""
    threshold = next(s for s in settings_of(InferenceConfig) if s.key == "threshold")
    assert (threshold.kind, threshold.default) == ("number", "0.5")
    assert {s.kind for s in settings_of(TrainingConfig)} >= {"whole number", "text", "true or false"}
