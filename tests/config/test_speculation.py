"""Settings of speculative decoding that contradict each other are refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.errors import ConfigError


@pytest.mark.parametrize(
    "values",
    [
        {"speculative_mode": "ngram"},
        {"speculative_mode": "ngram", "spec_draft_length": 0},
        {"speculative_mode": "ngram", "additional_models": ["further", "models"]},
        {"speculative_mode": "small_draft", "additional_models": ["draft"], "spec_draft_length": 4},
        {"speculative_mode": "eagle", "additional_models": [("draft", "draft.so")], "spec_tree_width": 1},
        {"speculative_mode": "medusa", "additional_models": ["draft"]},
        {"spec_draft_length": 0, "spec_tree_width": 1},
    ],
    ids=str,
)
def test_settings_that_agree_are_accepted(values: dict[str, Any]) -> None:
    """Each mode, with a draft model where it needs one, and with or without a length."""
    config = EngineConfig(**values)
    assert {name: getattr(config, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"speculative_mode": "suffix"}, "speculative_mode is 'suffix'"),
        (
            {"speculative_mode": "small_draft", "model": "m"},
            "small_draft takes exactly one of additional_models",
        ),
        ({"speculative_mode": "eagle", "additional_models": ["a", "b"]}, "and there are 2"),
        ({"speculative_mode": "medusa", "model": "m"}, "and there are 0"),
        ({"spec_draft_length": 4}, "spec_draft_length = 4 needs a speculative_mode, such as ngram"),
        ({"speculative_mode": "ngram", "spec_draft_length": -1}, "spec_draft_length"),
        ({"speculative_mode": "ngram", "spec_tree_width": 2}, "spec_tree_width = 2 is not supported: drafts"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], fault: str) -> None:
    """The error is one line that names the setting, whichever part of the configuration is wrong."""
    with pytest.raises(ConfigError, match=fault) as raised:
        EngineConfig(**values)
    assert "\n" not in str(raised.value)


def test_overrides_are_checked_together() -> None:
    """A draft length in --overrides needs a mode, too, and agrees with one that is set."""
    with pytest.raises(ConfigError, match="needs a speculative_mode"):
        EngineConfig().overridden("spec_draft_length=3")
    assert EngineConfig(speculative_mode="ngram").overridden("spec_draft_length=3").spec_draft_length == 3
