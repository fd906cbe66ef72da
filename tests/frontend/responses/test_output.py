"""The output of a whole response, made from a chat's message."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.frontend.responses.output import new_id, output_items
from mlc_serve.protocol.replies import AssistantMessage, ToolCall, ToolCallFunction

CALL = ToolCall(id="call_1", type="function", function=ToolCallFunction(name="f", arguments="{}"))


def message(**fields: Any) -> AssistantMessage:
    """A message with these fields."""
    return AssistantMessage(role="assistant", refusal=None, **{"content": None, **fields})


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"content": "Hi", "reasoning_content": "Hm."}, ["reasoning", "message"]),
        ({"content": "Hi", "tool_calls": [CALL, CALL]}, ["message", "function_call", "function_call"]),
        ({"reasoning_content": "Hm.", "tool_calls": [CALL]}, ["reasoning", "function_call"]),
        ({"reasoning_content": "Hm", "content": ""}, ["reasoning"]),
        ({"content": ""}, ["message"]),
    ],
)
def test_each_kind_of_output_is_an_item(fields: dict[str, Any], kinds: list[str]) -> None:
    """Reasoning, text and calls are items in this order. Only an output without any is an empty message."""
    assert [item.type for item in output_items(message(**fields), "stop", logprobs=False)] == kinds


def test_only_the_last_item_is_cut_off() -> None:
    """At the limit, what came before the last item is complete."""
    items = output_items(message(reasoning_content="Hm.", content="So"), "length", logprobs=False)
    assert [item.status for item in items] == ["completed", "incomplete"]


def test_ids_are_safe_in_paths_and_unlike() -> None:
    """Ids have only letters, digits and an underscore, and no two are equal."""
    ids = {new_id("resp") for _ in range(100)}
    assert len(ids) == 100
    assert all(each.startswith("resp_") and each.removeprefix("resp_").isalnum() for each in ids)
