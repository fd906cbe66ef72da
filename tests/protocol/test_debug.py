"""debug_config."""

from __future__ import annotations

import pytest

from mlc_serve.errors import UnsupportedFieldError
from mlc_serve.protocol.debug import DebugConfig, check_debug_allowed
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import CompletionRequest


def test_debug_config_is_refused_by_name_unless_enabled() -> None:
    """It is never silently ignored."""
    config = DebugConfig(ignore_eos=True)
    check_debug_allowed(config, enabled=True)
    check_debug_allowed(None, enabled=False)
    with pytest.raises(UnsupportedFieldError, match="--enable-debug"):
        check_debug_allowed(config, enabled=False)


@pytest.mark.parametrize("name", sorted(DebugConfig.WITHOUT_EFFECT))
def test_switches_that_are_not_served_are_refused_by_name(name: str) -> None:
    """The error for each one has its reason."""
    with pytest.raises(UnsupportedFieldError) as caught:
        validated(CompletionRequest, {"prompt": "a", "debug_config": {name: "on"}})
    assert caught.value.param == f"debug_config.{name}"


def test_switches_that_are_off_ask_for_nothing() -> None:
    """The defaults that MLC's clients send are accepted."""
    sent = {
        "ignore_eos": True,
        "pinned_system_prompt": False,
        "special_request": None,
        "grammar_execution_mode": "jump_forward",
    }
    request = validated(CompletionRequest, {"prompt": "a", "debug_config": sent})
    assert request.debug_config == DebugConfig(ignore_eos=True)
