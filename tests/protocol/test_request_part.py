"""Fields that are honoured, without effect, refused or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from mlc_serve.errors import InvalidRequestError, UnsupportedFieldError
from mlc_serve.protocol.debug import DebugConfig
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.messages import (
    CalledFunction,
    CalledTool,
    ContentPart,
    FunctionDefinition,
    Message,
    Tool,
)
from mlc_serve.protocol.openai import ChatCompletionRequest, CompletionRequest, StreamOptions
from mlc_serve.protocol.output_form import ResponseFormat
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.unknown_fields import MAX_NAMES, UnknownFields

CALL: dict[str, Any] = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
# Each type with its smallest value, and what stands in its place in a request.
SMALLEST: dict[type[RequestPart], dict[str, Any]] = {
    ChatCompletionRequest: {"messages": [{"role": "user", "content": "hi"}]},
    CompletionRequest: {"prompt": "a"},
    Message: {"role": "assistant", "content": "hi"},
    CalledTool: CALL,
    CalledFunction: CALL["function"],
    Tool: TOOL,
    FunctionDefinition: TOOL["function"],
    StreamOptions: {},
    ResponseFormat: {"type": "text"},
    DebugConfig: {},
}
ODD_VALUES: list[Any] = [5, "odd", {"a": [1]}, True]


def entries() -> list[Any]:
    """All fields without effect of all types."""
    return [
        pytest.param(kind, name, entry, id=f"{kind.__name__}.{name}")
        for kind in SMALLEST
        for name, entry in kind.WITHOUT_EFFECT.items()
    ]


@pytest.mark.parametrize(("kind", "name", "entry"), entries())
def test_a_field_without_effect_is_accepted_as_far_as_it_has_none(
    kind: type[RequestPart], name: str, entry: WithoutEffect
) -> None:
    """Values that change nothing are accepted; any other is refused by name, with the reason."""
    smallest = SMALLEST[kind]
    for value in ODD_VALUES if entry.only is None else entry.only:
        assert validated(kind, {**smallest, name: value}) == validated(kind, smallest)
    if entry.only is not None:
        with pytest.raises(UnsupportedFieldError) as caught:
            validated(kind, {**smallest, name: "odd"})
        assert caught.value.param == name
        assert entry.reason in caught.value.message


@pytest.mark.parametrize("kind", SMALLEST)
def test_no_field_is_both_honoured_and_without_effect(kind: type[RequestPart]) -> None:
    """Each field is declared once."""
    assert not kind.WITHOUT_EFFECT.keys() & kind.model_fields.keys()


@pytest.mark.parametrize("kind", SMALLEST)
def test_an_unknown_field_is_ignored_and_noted(kind: type[RequestPart]) -> None:
    """If unknown fields are recorded, the field is treated as absent."""
    unknown = UnknownFields()
    assert validated(kind, {**SMALLEST[kind], "mood": "good"}, unknown) == validated(kind, SMALLEST[kind])
    assert unknown.names == (f"{kind.PLACE}.mood" if kind.PLACE else "mood",)


@pytest.mark.parametrize("kind", SMALLEST)
def test_an_unknown_field_is_refused_if_nobody_takes_note(kind: type[RequestPart]) -> None:
    """Programs that call the engine learn of their mistakes."""
    with pytest.raises(InvalidRequestError, match="mood is not a field that this server knows") as caught:
        validated(kind, {**SMALLEST[kind], "mood": "good"})
    assert caught.value.param == "mood"


def test_an_unknown_field_of_a_part_is_refused_with_its_path() -> None:
    """The error has the field's path."""
    messages = [{"role": "user", "content": "hi", "mood": "good"}]
    with pytest.raises(InvalidRequestError) as caught:
        validated(ChatCompletionRequest, {"messages": messages})
    assert caught.value.param == "messages.0.mood"


def test_unknown_fields_everywhere_are_noted_once_each() -> None:
    """They are recorded anywhere in a request, under the path of their object."""
    odd = {"mood": "good"}
    call = {**CALL, **odd, "function": {"name": "f", **odd}}
    request = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", **odd}], **odd},
            {"role": "assistant", "tool_calls": [call, call], **odd},
        ],
        "tools": [{**TOOL, **odd, "function": {"name": "f", **odd}}],
        "stream": True,
        "stream_options": odd,
        "response_format": {"type": "text", **odd},
        "debug_config": odd,
        **odd,
    }
    unknown = UnknownFields()
    validated(ChatCompletionRequest, request, unknown)
    kinds: list[type[RequestPart]] = [*SMALLEST, ContentPart]
    places = {kind.PLACE for kind in kinds}
    assert set(unknown.names) == {f"{place}.mood" if place else "mood" for place in places}


def test_few_names_of_unknown_fields_are_kept() -> None:
    """A body full of unknown fields takes no lasting memory."""
    unknown = UnknownFields()
    validated(CompletionRequest, {"prompt": "a"} | {f"field{i}": i for i in range(1000)}, unknown)
    assert unknown.names == tuple(f"field{i}" for i in range(MAX_NAMES))


def test_null_asks_for_nothing() -> None:
    """Null is treated as absent, whether a field is known or not."""
    nulls = {"n": None, "stop": None, "guided_json": None, "mood": None}
    plain = validated(CompletionRequest, {"prompt": "a"})
    assert validated(CompletionRequest, {"prompt": "a", **nulls}) == plain
