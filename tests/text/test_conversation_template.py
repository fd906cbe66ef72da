"""Prompts by MLC's conversation templates."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.conversation_template import ConversationTemplate

CHATML: dict[str, Any] = {
    "name": "chatml",
    "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
    "system_message": "Be brief.",
    "system_prefix_token_ids": None,
    "add_role_after_system_message": True,
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant", "tool": "<|im_start|>tool"},
    "role_templates": {
        "user": "{user_message}",
        "assistant": "{assistant_message}",
        "tool": "{tool_message}",
    },
    "messages": [],
    "seps": ["<|im_end|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|im_end|>"],
    "stop_token_ids": [2],
    "function_string": "",
    "use_function_calling": False,
}
INSTRUCTIONS: dict[str, Any] = {
    "system_template": "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
    "system_message": "Be kind.",
    "add_role_after_system_message": False,
    "roles": {"user": "<s>[INST]", "assistant": "[/INST]", "tool": "[INST]"},
    "seps": [" ", " </s>"],
    "role_content_sep": " ",
    "role_empty_sep": " ",
}
FUNCTIONS = CHATML | {
    "role_templates": {"user": "<<question>> {user_message} <<functions>> {function_string}"},
    "system_template": "",
    "function_string": "[]",
}
USER = {"role": "user", "content": "Hi"}
TALK = [USER, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def render(config: dict[str, Any], *args: Any, **kwargs: Any) -> str:
    """The prompt that a configuration makes."""
    return ConversationTemplate.from_config(config).render(*args, **kwargs)


def test_roles_separators_and_the_systems_text() -> None:
    """Each message stands between its role and a separator, after the template's own system text."""
    assert render(CHATML, TALK) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_first_role_can_be_left_out_after_a_system_text() -> None:
    """Llama 2's form: the system's text stands inside the first message; answers have a separator of their
    own.
    """
    assert render(INSTRUCTIONS, TALK) == (
        "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST] "
    )
    assert render(INSTRUCTIONS | {"system_template": ""}, [USER]) == "<s>[INST] Hi [/INST] "


def test_the_clients_system_text_replaces_the_templates() -> None:
    """System and developer messages are the system's text, wherever they stand."""
    messages = [{"role": "system", "content": "A"}, USER, {"role": "developer", "content": "B"}]

    assert render(CHATML, messages).startswith(
        "<|im_start|>system\nA\nB<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>a"
    )


def test_places_in_a_clients_text_are_not_filled() -> None:
    """Once a user's "{function_string}" was replaced by the functions, so that text changed under way."""
    text = "{user_message} {function_string} {system_message} {assistant_message}"
    prompt = render(
        FUNCTIONS, [{"role": "system", "content": text}, {"role": "user", "content": text}], TOOLS
    )

    assert f'<<question>> {text} <<functions>> [{{"name": "f"}}]' in prompt
    assert text in render(CHATML, [{"role": "system", "content": text}, USER])


def test_functions_go_to_the_last_place_alone() -> None:
    """Earlier places stay empty; without tools the template's own text stands there."""
    prompt = render(FUNCTIONS, TALK, TOOLS)

    assert "<<question>> Hi <<functions>> <|im_end|>" in prompt
    assert '<<question>> Bye <<functions>> [{"name": "f"}]<|im_end|>' in prompt
    assert "<<question>> Bye <<functions>> []<|im_end|>" in render(FUNCTIONS, TALK)


def test_tools_without_a_place_are_refused() -> None:
    """A template without {function_string} would drop them silently."""
    with pytest.raises(InvalidRequestError, match="no place for tools"):
        render(CHATML, TALK, TOOLS)


def test_calls_of_an_earlier_turn_are_written_as_the_model_writes_them() -> None:
    """Whether their arguments are JSON text, as clients send them, or an object."""
    call = '<tool_call>\n{"name": "f", "arguments": {"x": "ä"}}\n</tool_call>'
    for arguments in ('{"x": "ä"}', {"x": "ä"}):
        calls = [{"type": "function", "function": {"name": "f", "arguments": arguments}}]
        messages = [
            USER,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "content": "1"},
        ]

        assert f"<|im_start|>assistant\n{call}<|im_end|>\n<|im_start|>tool\n1<|im_end|>\n" in render(
            CHATML, messages
        )


def test_reasoning_of_earlier_turns_is_dropped_where_the_template_says_so() -> None:
    """Only answers before the last question lose it."""
    answer = {"role": "assistant", "content": "<think>hm</think>Yes"}
    config = CHATML | {"strip_reasoning_in_history": True}
    prompt = render(config, [USER, answer, USER, answer], add_generation_prompt=False)

    assert prompt.count("hm") == 1
    assert prompt.endswith("<think>hm</think>Yes<|im_end|>\n")


def test_preset_messages_and_prefix_come_first() -> None:
    """A template's own examples stand before the client's messages, and the prefix before everything."""
    config = CHATML | {"messages": [["user", "1+1?"], ["assistant", "2"]], "system_template": ""}
    prompt = ConversationTemplate.from_config(config, prefix="<s>").render(
        [USER], add_generation_prompt=False
    )

    assert (
        prompt == "<s><|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
    )


def test_text_parts_are_joined() -> None:
    """Content may come as parts, as OpenAI's clients send it."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert "<|im_start|>user\nab<|im_end|>" in render(CHATML, [{"role": "user", "content": parts}])


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "narrator", "content": "x"}, "messages.0.role"),
        ({"content": "x"}, "messages.0.role"),
        ({"role": "user", "content": 5}, "messages.0.content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages.0.content"),
    ],
)
def test_what_has_no_place_is_refused(message: dict[str, Any], param: str) -> None:
    """The field at fault is named."""
    with pytest.raises(InvalidRequestError) as refusal:
        render(CHATML, [message])

    assert param == refusal.value.param


def test_variables_are_refused() -> None:
    """There is nothing in such a template that they could set."""
    with pytest.raises(InvalidRequestError, match="'enable_thinking'"):
        render(CHATML, TALK, enable_thinking=True)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, "conv_template.roles: .*required"),
        ({"roles": {"user": "U"}}, "conv_template.roles: there is no assistant"),
        (CHATML | {"seps": []}, "conv_template.seps: 1 or 2 are needed, there are 0"),
        (CHATML | {"seps": "x"}, "conv_template.seps"),
        (CHATML | {"roles": {"assistant": 4}}, "conv_template.roles.assistant"),
        (CHATML | {"messages": [["user"]]}, "conv_template.messages.0"),
        (CHATML | {"messages": [["bard", "x"]]}, "conv_template.messages: there is no role 'bard'"),
    ],
)
def test_a_malformed_template_is_refused_at_start(config: dict[str, Any], fault: str) -> None:
    """The error names the field."""
    with pytest.raises(CheckpointError, match=fault):
        ConversationTemplate.from_config(config)
