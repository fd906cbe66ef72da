"""What Anthropic's requests may contain."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, RequestError, UnsupportedFieldError
from mlc_serve.protocol.anthropic.request import CountTokensRequest, MessagesRequest
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.unknown_fields import UnknownFields

BODY: dict[str, Any] = {"max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}
# What Claude Code sends besides the conversation.
USUAL: dict[str, Any] = {
    "model": "any",
    "metadata": {"user_id": "user_1"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "service_tier": "auto",
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
    "output_config": {"effort": "medium", "format": {"type": "json_schema", "schema": {}}},
    "mcp_servers": [],
    "stop_sequences": [],
}


def content(*blocks: object) -> dict[str, Any]:
    """A body with one message of the user."""
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def test_the_usual_fields_are_known() -> None:
    """Whatever Anthropic's own clients send is a known field, also where nothing is generated."""
    for kind in (MessagesRequest, CountTokensRequest):
        unknown = UnknownFields()
        validated(kind, BODY | USUAL, unknown)
        assert unknown.names == ()


@pytest.mark.parametrize(
    ("fields", "kind", "name"),
    [
        ({"max_tokens": None}, InvalidRequestError, "max_tokens"),
        ({"max_tokens": 0}, InvalidRequestError, "max_tokens"),
        ({"temperature": 1.5}, InvalidRequestError, "temperature"),
        ({"messages": []}, InvalidRequestError, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, InvalidRequestError, "messages.0.role"),
        (content({"type": "image", "source": {}}), UnsupportedFieldError, "messages.0.content"),
        (content({"type": "document", "source": {}}), UnsupportedFieldError, "messages.0.content"),
        (content({"type": "text"}), InvalidRequestError, "messages.0.content.0.text.text"),
        (content({"text": "x"}), InvalidRequestError, "messages.0.content.0"),
        (content({"type": "thinking", "thinking": "x"}), InvalidRequestError, "messages.0.content"),
        (
            content({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image"}]}),
            UnsupportedFieldError,
            "messages.0.content.0.tool_result.content",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, UnsupportedFieldError, "tools.0.type"),
        ({"tools": [{"name": "f"}]}, InvalidRequestError, "tools.0.input_schema"),
        ({"tool_choice": {"type": "tool"}}, InvalidRequestError, "tool_choice.name"),
        ({"container": "c"}, UnsupportedFieldError, "container"),
        ({"mcp_servers": [{"name": "m"}]}, UnsupportedFieldError, "mcp_servers"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 0}},
            InvalidRequestError,
            "thinking.budget_tokens",
        ),
        ({"output_config": {"format": {"type": "json_schema"}}}, InvalidRequestError, "output_config.format"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            UnsupportedFieldError,
            "context_management.edits",
        ),
        ({"mood": "good"}, InvalidRequestError, "mood"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(
    fields: dict[str, Any], kind: type[RequestError], name: str
) -> None:
    """The refusal has the field's path, and tells what is wrong from what is not supported."""
    with pytest.raises(kind) as refused:
        validated(MessagesRequest, BODY | fields)
    assert (refused.value.param or "").startswith(name)
    assert name in refused.value.message
