"""Tools for templates that have no place for them."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.text.calls.described import in_words
from mlc_serve.text.conversation import Conversation
from mlc_serve.text.templates.chat_template import ChatTemplate

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% endfor %}<assistant>"
TURNS = """\
{%- for m in messages %}{% set is_users_turn = loop.index0 % 2 == 0 %}
{%- if m.role not in ['user', 'assistant'] or (m.role == 'user') != is_users_turn %}
{{- raise_exception('no') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"""
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": {}}}
CALL = {"name": "weather", "arguments": '{"a":1}', "parsed_arguments": {"a": 1}}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": ["Hot?", "Cold?"]},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": CALL}, {"function": CALL}]},
    {"role": "tool", "content": "3 degrees", "tool_call_id": "1"},
    {"role": "tool", "content": "4 degrees", "tool_call_id": "2"},
    {"role": "user", "content": "Well?"},
]
CALL_TEXT = '<tool_call>\n{"name": "weather", "arguments": {"a": 1}}\n</tool_call>'
HISTORY_TEXT = (
    f"<assistant>Let me see.\n{CALL_TEXT}\n{CALL_TEXT}<user><tool_response>\n3 degrees\n</tool_response>\n"
    "<tool_response>\n4 degrees\n</tool_response>\nWell?<assistant>"
)


def prompt(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
    """The prompt of a template that has no place for tools."""
    template = ChatTemplate(source)
    written = in_words(Conversation(messages, tools), template)
    return "".join(piece.text for piece in template.render(written))


@pytest.mark.parametrize(("source", "role"), [(CHATML, "system"), (TURNS, "user")])
def test_tools_and_calls_are_written_as_text(source: str, role: str) -> None:
    """Tools are in the system message, or in the user's first message if the template takes no other, and the
    roles take turns.
    """
    text = prompt(source, HISTORY, [TOOL])
    assert text.startswith(f"<{role}>You can call functions.")
    assert '\n{"name": "weather", "description": "Weather", "parameters": {}}\n</tools>' in text
    assert text.endswith(HISTORY_TEXT)
    assert "Hot?\nCold?<assistant>" in text


def test_instructions_follow_the_clients_own() -> None:
    """The client's system message comes first."""
    text = prompt(CHATML, [{"role": "system", "content": "Be kind."}, *HISTORY], [TOOL])
    assert text.startswith("<system>Be kind.\n\nYou can call functions.")


def test_a_history_of_calls_is_kept_without_tools() -> None:
    """A template that would leave calls out gets them as text."""
    assert prompt(CHATML, HISTORY, None) == f"<user>Hot?\nCold?{HISTORY_TEXT}"


@pytest.mark.parametrize("source", ["{{ tools }}{{ messages }}", "{{ messages | tojson }}"])
def test_templates_with_a_place_get_what_was_sent(source: str) -> None:
    """Nothing is written in words for them."""
    tools = [TOOL] if "tools" in source else None
    conversation = Conversation(HISTORY, tools)
    assert in_words(conversation, ChatTemplate(source)) is conversation
