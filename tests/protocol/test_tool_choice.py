"""Which tools a request offers, and whether one must be called."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, UnsupportedFieldError
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import ChatCompletionRequest

F, G = ({"type": "function", "function": {"name": name}} for name in "fg")


def chat(**fields: Any) -> ChatCompletionRequest:
    """A chat request with two tools, unless other ones are given."""
    given = {"messages": [{"role": "user", "content": "hi"}], "tools": [F, G], **fields}
    return validated(ChatCompletionRequest, given)


def allowed(mode: str, *tools: Any) -> dict[str, Any]:
    """A choice of several tools."""
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize(
    ("choice", "offered", "forces_call"),
    [
        (None, "fg", False),
        ("auto", "fg", False),
        ("none", "", False),
        ("required", "fg", True),
        (F, "f", True),
        ({"type": "function", "name": "g"}, "g", True),
        (allowed("auto", G), "g", False),
        (allowed("required", F, G), "fg", True),
        ({"type": "allowed_tools", "mode": "required", "tools": [G]}, "g", True),
    ],
)
def test_a_choice_decides_what_is_offered(choice: Any, offered: str, forces_call: bool) -> None:
    """OpenAI's forms are read, those of its newer API, too."""
    request = chat(tool_choice=choice)
    assert [tool.function.name for tool in request.offered_tools] == list(offered)
    assert request.forces_call == forces_call


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"tool_choice": "f"}, "must be"),
        ({"tool_choice": 3}, "must be"),
        ({"tool_choice": {}}, "must be"),
        ({"tool_choice": {"type": "function"}}, "must be"),
        ({"tool_choice": {"type": "function", "function": {"name": 3}}}, "must be"),
        ({"tool_choice": allowed("none", F)}, "must be"),
        ({"tool_choice": allowed("auto")}, "must be"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": 3}}, "must be"),
        ({"tool_choice": {"type": "function", "function": {"name": "h"}}}, "no tool 'h'"),
        ({"tool_choice": allowed("auto", F, {"type": "function", "function": {"name": "h"}})}, "no tool 'h'"),
        ({"tool_choice": "required", "tools": []}, "needs tools"),
        ({"tool_choice": F, "tools": []}, "needs tools"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(fields: dict[str, Any], word: str) -> None:
    """The error names the field."""
    with pytest.raises(InvalidRequestError, match=word) as caught:
        chat(**fields)
    assert caught.value.param == "tool_choice"


def test_tools_that_are_no_functions_are_not_supported() -> None:
    """It is told apart from a mistake."""
    with pytest.raises(UnsupportedFieldError, match="only functions") as caught:
        chat(tool_choice={"type": "custom", "custom": {"name": "f"}})
    assert caught.value.param == "tool_choice"


def test_a_limit_on_reasoning_has_two_names() -> None:
    """Either may be sent, and -1 means no limit."""
    assert chat(max_reasoning_tokens=5).reasoning_limit == 5
    assert chat(thinking_token_budget=0).reasoning_limit == 0
    assert chat(max_reasoning_tokens=-1).reasoning_limit is None
    with pytest.raises(InvalidRequestError) as caught:
        chat(max_reasoning_tokens=5, thinking_token_budget=6)
    assert caught.value.param == "max_reasoning_tokens"
