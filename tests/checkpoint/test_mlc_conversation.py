"""Conversation templates in the forms that older versions of MLC wrote."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.checkpoint.mlc_conversation import read_conversation
from mlc_serve.errors import CheckpointError
from mlc_serve.text.templates.conversation_template import ConversationTemplate
from mlc_serve.text.templates.named_conversations import named_conversation
from tests.prompts import prompt_of

VICUNA: dict[str, Any] = {
    "name": "vicuna",
    "system": "Be polite.",
    "roles": ["USER", "ASSISTANT"],
    "messages": [["USER", "2?"], ["ASSISTANT", "Two."]],
    "offset": 2,
    "separator_style": 0,
    "seps": [" ", "</s>"],
    "role_msg_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": "</s>",
    "stop_tokens": [2],
    "add_bos": True,
}


def test_a_name_stands_for_the_template_of_that_name() -> None:
    """Directories from before March 2024 have a name where later ones have an object."""
    assert read_conversation({"conv_template": "llama-2"}) == named_conversation("llama-2")
    assert read_conversation({"conv_template": {"roles": {}}}) == {"roles": {}}
    assert read_conversation({}) == {}


def test_a_custom_template_is_described_completely() -> None:
    """The older keys have the same meaning as the present ones."""
    fields = read_conversation({"conv_template": "custom", "conv_config": VICUNA, "bos_token_id": 7})
    prompt = prompt_of(ConversationTemplate.from_config(fields), [{"role": "user", "content": "Hi"}])

    assert prompt == "Be polite. USER: 2? ASSISTANT: Two.</s>USER: Hi ASSISTANT:"
    assert (fields["stop_str"], fields["stop_token_ids"]) == ("</s>", [2])
    assert fields["system_prefix_token_ids"] == [7]


def test_a_conv_config_replaces_some_fields() -> None:
    """All others are those of the named template, and the begin token is not doubled."""
    changes = {"system": "Be brief.", "add_bos": True, "stop_tokens": None}
    fields = read_conversation({"conv_template": "wizardlm_7b", "conv_config": changes})
    prompt = prompt_of(ConversationTemplate.from_config(fields), [{"role": "user", "content": "Hi"}])

    assert prompt == "Be brief.###User: Hi###Response:"
    assert (fields["system_prefix_token_ids"], fields["stop_token_ids"]) == ([1], [2])
    without = read_conversation({"conv_template": "wizardlm_7b", "conv_config": {"add_bos": False}})
    assert without["system_prefix_token_ids"] == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"separator_style": 1}, "conv_config.separator_style is 1, which is not supported"),
        ({"roles": ["USER"]}, r"conv_config.roles is \['USER'\], which is not supported"),
        ({"messages": [["BARD", "Hi"]]}, "conv_config.messages is "),
        ({"system": 3}, "conv_config.system is 3, which is not supported"),
        ({"pixels": True}, "conv_config.pixels is not supported"),
    ],
)
def test_what_can_not_be_followed_is_named(change: dict[str, Any], fault: str) -> None:
    """The error names the key, since ignoring it would change the answers."""
    with pytest.raises(CheckpointError, match=fault):
        read_conversation({"conv_template": "custom", "conv_config": VICUNA | change})


@pytest.mark.parametrize("key", ["conv_template", "conv_config"])
def test_a_template_of_another_type_is_refused(key: str) -> None:
    """Lists are neither an object nor a name."""
    with pytest.raises(CheckpointError, match=rf"{key} is \[1\], but must be an object"):
        read_conversation({key: [1]})
