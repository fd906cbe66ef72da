"""Prompts made by MLC's conversation templates."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.conversation import Conversation
from mlc_serve.text.templates.conversation_template import ConversationTemplate
from tests.prompts import prompt_of

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
    return prompt_of(ConversationTemplate.from_config(config), *args, **kwargs)


def test_roles_separators_and_the_systems_text() -> None:
    """Each message is between its role and a separator, after the template's own system message."""
    assert render(CHATML, TALK) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_first_role_can_be_left_out_after_a_system_text() -> None:
    """In Llama 2's format the system message is inside the first message, and answers have their own
    separator.
    """
    assert render(INSTRUCTIONS, TALK) == (
        "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST] "
    )
    assert render(INSTRUCTIONS | {"system_template": ""}, [USER]) == "<s>[INST] Hi [/INST] "


def test_the_clients_system_text_replaces_the_templates() -> None:
    """System and developer messages form the system message, wherever they are in the conversation."""
    messages = [{"role": "system", "content": "A"}, USER, {"role": "developer", "content": "B"}]

    assert render(CHATML, messages).startswith(
        "<|im_start|>system\nA\nB<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>a"
    )


def test_places_in_a_clients_text_are_not_filled() -> None:
    """Placeholders in a client's text, such as "{function_string}", stay as they are."""
    text = "{user_message} {function_string} {system_message} {assistant_message}"
    prompt = render(
        FUNCTIONS, [{"role": "system", "content": text}, {"role": "user", "content": text}], TOOLS
    )

    assert f'<<question>> {text} <<functions>> [{{"name": "f"}}]' in prompt
    assert text in render(CHATML, [{"role": "system", "content": text}, USER])


def test_functions_go_to_the_last_place_alone() -> None:
    """Earlier places stay empty; without tools the template's own text is used."""
    prompt = render(FUNCTIONS, TALK, TOOLS)

    assert "<<question>> Hi <<functions>> <|im_end|>" in prompt
    assert '<<question>> Bye <<functions>> [{"name": "f"}]<|im_end|>' in prompt
    assert "<<question>> Bye <<functions>> []<|im_end|>" in render(FUNCTIONS, TALK)


def test_tools_without_a_place_are_refused() -> None:
    """Tools are refused if the template has no {function_string}, as it would drop them silently."""
    with pytest.raises(InvalidRequestError, match="no place for tools"):
        render(CHATML, TALK, TOOLS)


def test_calls_of_an_earlier_turn_are_written_as_the_model_writes_them() -> None:
    """Calls that clients send, with arguments as JSON text, are written in the model's own form."""
    call = '<tool_call>\n{"name": "f", "arguments": {"x": "ä"}}\n</tool_call>'
    calls = [{"type": "function", "function": {"name": "f", "arguments": '{"x": "ä"}'}}]
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1"},
    ]

    assert f"<|im_start|>assistant\n{call}<|im_end|>\n<|im_start|>tool\n1<|im_end|>\n" in render(
        CHATML, messages
    )


def test_reasoning_of_earlier_turns_is_dropped_where_the_template_says_so() -> None:
    """Only answers before the last question lose their reasoning."""
    answer = {"role": "assistant", "content": "<think>hm</think>\n\nYes"}
    config = CHATML | {"strip_reasoning_in_history": True}
    prompt = render(config, [USER, answer, USER, answer], add_generation_prompt=False)

    assert prompt.count("hm") == 1
    assert "assistant\nYes<|im_end|>" in prompt
    assert prompt.endswith("<think>hm</think>\n\nYes<|im_end|>\n")


def test_preset_messages_and_prefix_come_first() -> None:
    """A template's own examples come before the client's messages, and the prefix before everything."""
    config = CHATML | {"messages": [["user", "1+1?"], ["assistant", "2"]], "system_template": ""}
    prompt = prompt_of(
        ConversationTemplate.from_config(config, prefix="<s>"), [USER], add_generation_prompt=False
    )

    assert (
        prompt == "<s><|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
    )


def test_text_parts_are_joined() -> None:
    """Content may be sent as parts, as OpenAI's clients do; each part becomes a line."""
    assert "user\nA\nB<|im_end|>" in render(CHATML, [{"role": "user", "content": ["A", "B"]}])


def test_a_role_without_a_place_is_refused() -> None:
    """The error names the field."""
    with pytest.raises(InvalidRequestError) as refusal:
        render(CHATML, [{"role": "bard", "content": "Sing"}])

    assert refusal.value.param == "messages.0.role"


def test_variables_are_passed_over() -> None:
    """Variables are accepted and have no effect, as a conversation template reads none."""
    assert render(CHATML, TALK, enable_thinking=True) == render(CHATML, TALK)


def test_only_the_templates_names_are_control_pieces() -> None:
    """A client's name or half of one stays text; halves from a separator and a role make one name."""
    config = CHATML | {"seps": ["<|im_"], "roles": {"user": "end|><|im_start|>user", "assistant": "A"}}
    template = ConversationTemplate.from_config(config, control_texts={"<|im_start|>", "<|im_end|>"})
    messages = [{"role": "user", "content": "<|im_end|>"}, {"role": "user", "content": "<|im_start"}]
    pieces = template.render(Conversation(messages))

    controls = [piece.text for piece in pieces if piece.is_control]
    assert controls == ["<|im_start|>", "<|im_end|>"] * 2 + ["<|im_start|>"]
    assert sum("<|im_end|>" in piece.text for piece in pieces if not piece.is_control) == 1


@pytest.mark.parametrize("content", ["Once ", "", "<", "A<|im_end|>", "Hi"])
def test_the_last_message_is_continued(content: str) -> None:
    """The prompt ends with exactly the text of the last message."""
    messages = [USER, {"role": "assistant", "content": content}]

    assert render(CHATML, messages, continues_last=True).endswith(f"<|im_start|>assistant\n{content}")


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, "conv_template.roles: .*required"),
        ({"roles": {"user": "U"}}, "conv_template.roles: there is no assistant"),
        (CHATML | {"seps": []}, "conv_template.seps: expected 1 or 2 separators, not 0"),
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
