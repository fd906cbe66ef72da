"""The grammar of a chat reply: forced calls, strict arguments, forms of the content, reasoning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.chat_grammar import chat_grammar
from mlc_serve.grammar import Grammar, Grammars
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.testing import fake_model
from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.reasoning import REASONING
from mlc_serve.text.tokenization.tokenizer import Tokenizer
from tests.small_tokenizers import byte_level_bpe

TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {}}}}},
    {"type": "function", "function": {"name": "now"}},
]
MODEL = replace(
    fake_model(), tokenizer=Tokenizer(byte_level_bpe()), answers=AnswerForm(reasoning=REASONING["think"])
)


def request(**fields: Any) -> ChatCompletionRequest:
    """A request with two tools."""
    messages = [{"role": "user", "content": "hi"}]
    return ChatCompletionRequest.model_validate({"messages": messages, "tools": TOOLS, **fields})


def call(name: str, arguments: str = "{}") -> str:
    """A call in the generic form."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


GRAMMARS = Grammars(MODEL.tokenizer, MODEL.tokenizer.vocab_size)


def accepts(grammar: Grammar | None, answer: str) -> bool:
    """Whether the grammar allows exactly this answer."""
    assert grammar is not None
    tokenizer = MODEL.tokenizer
    end_id = tokenizer.special_ids["</s>"]
    follower = GRAMMARS.compile(grammar).constraint(frozenset({end_id}), jumps=False)
    for token_id in [*tokenizer.encode(answer, add_special_tokens=False), end_id]:
        words = np.zeros(-(-tokenizer.vocab_size // 32), np.int32)
        if follower.is_complete:
            return token_id == end_id
        follower.mask(words)
        if not words.view(np.uint32)[token_id // 32] >> np.uint32(token_id % 32) & 1:
            return False
        follower.accept([token_id])
    return True


def test_a_reply_that_may_be_text_has_no_grammar() -> None:
    """Only forced calls are constrained."""
    assert chat_grammar(request(), MODEL) is None
    assert chat_grammar(request(tool_choice="none"), MODEL) is None


@pytest.mark.parametrize(
    ("fields", "answer", "is_allowed"),
    [
        ({}, call("weather", '{"city": "Oslo"}'), True),
        ({}, call("now"), True),
        ({}, call("now", '{"a": 1}'), False),
        ({}, call("later"), False),
        ({}, call("now") + "\n" + call("now"), True),
        ({}, "\n".join([call("now")] * 16), True),
        ({}, "\n".join([call("now")] * 17), False),
        ({"tool_choice": TOOLS[1]}, call("now") + "\n" + call("now"), False),
        ({"parallel_tool_calls": False}, call("now") + "\n" + call("now"), False),
        ({"tool_choice": TOOLS[0]}, call("now"), False),
        ({"tool_choice": TOOLS[0]}, call("weather"), True),
        ({}, "<think>Well, <tool> it is.</think>\n\n" + call("now"), True),
        ({}, "<think>" + call("now"), False),
        ({}, "Well." + call("now"), False),
    ],
)
def test_the_grammar_allows_calls_of_the_chosen_tools(
    fields: dict[str, Any], answer: str, is_allowed: bool
) -> None:
    """One or several, after some reasoning or not."""
    grammar = chat_grammar(request(**{"tool_choice": "required", **fields}), MODEL)
    assert accepts(grammar, answer) == is_allowed


def test_reasoning_that_the_prompt_has_opened_must_end() -> None:
    """There is no call within it."""
    grammar = chat_grammar(request(tool_choice="required"), MODEL, reasoning_is_open=True)
    assert accepts(grammar, "Hm.</think>" + call("now"))
    assert not accepts(grammar, call("now"))


STRICT = {
    "name": "add",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "answer", "is_allowed"),
    [
        ({}, "Hello!", True),
        ({}, "Well: " + call("add", '{"a": 1}'), True),
        ({}, call("add", '{"a": "1"}'), False),
        ({}, "Well: " + call("sub", "{}"), False),
        ({}, call("weather", '{"anything": [1]}'), True),
        ({}, "<think>Add.</think>" + call("add", '{"a": 1}'), True),
        ({"response_format": FORM}, "12", True),
        ({"response_format": FORM}, "<think>A number.</think>12", True),
        ({"response_format": FORM}, "twelve", False),
        ({"response_format": FORM}, call("add", '{"a": 1}'), True),
        ({"response_format": FORM, "tool_choice": "none"}, call("add", '{"a": 1}'), False),
        ({"response_format": FORM, "tool_choice": "required"}, "12", False),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes", True),
        ({"structured_outputs": {"grammar": 'start: "a" b\nb: "c"+'}}, "acc", True),
    ],
)
def test_text_calls_and_forms_together(fields: dict[str, Any], answer: str, is_allowed: bool) -> None:
    """Strict arguments follow their schema after any text; content has the form that was asked for."""
    tools = [*TOOLS, {"type": "function", "function": STRICT}]
    assert accepts(chat_grammar(request(**{"tools": tools, **fields}), MODEL), answer) == is_allowed


UNIQUE = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}


def with_arguments(schema: dict[str, Any], **function: Any) -> Grammar:
    """The grammar of a forced call, where the third function has an argument with a schema."""
    third = {"name": "f", "parameters": {"properties": {"a": schema}}, **function}
    tools = [*TOOLS, {"type": "function", "function": third}]
    grammar = chat_grammar(request(tools=tools, tool_choice="required"), MODEL)
    assert grammar is not None
    return grammar


@pytest.mark.parametrize("is_strict", [True, False])
def test_a_fault_in_a_functions_schema_is_named_by_its_field(is_strict: bool) -> None:
    """Even though it is found in the grammar of all functions."""
    faults: list[dict[str, Any]] = [{"type": "strin"}, {"pattern": "(?=a)b"}]
    for fault in [*faults, UNIQUE] if is_strict else faults:
        with pytest.raises(InvalidRequestError) as caught:
            GRAMMARS.compile(with_arguments(fault, strict=is_strict))
        assert caught.value.param == "tools.2.function.parameters.properties.a"


def test_a_forced_call_that_is_not_strict_is_best_effort() -> None:
    """Keywords that can't be enforced are ignored, and those that can be are enforced."""
    grammar = with_arguments(UNIQUE)
    assert accepts(grammar, call("f", '{"a": [1, 1]}'))
    assert not accepts(grammar, call("f", '{"a": ["1"]}'))
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        GRAMMARS.compile(with_arguments(UNIQUE, strict=True))


def test_the_content_beside_a_forced_call_is_not_best_effort() -> None:
    """A form of the content that can't be enforced is refused by its own field."""
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": UNIQUE}}
    third = {"name": "f", "parameters": {"properties": {"a": UNIQUE}}}
    fields = {"tools": [{"type": "function", "function": third}], "response_format": form}
    grammar = chat_grammar(request(tool_choice="required", **fields), MODEL)
    assert grammar is not None
    with pytest.raises(InvalidRequestError) as caught:
        GRAMMARS.compile(grammar)
    assert caught.value.param == "response_format.json_schema.schema"


def test_forced_and_strict_calls_have_only_named_arguments() -> None:
    """A model can't invent arguments, unless the function's schema allows it."""
    grammar = with_arguments({"type": "integer"})
    assert accepts(grammar, call("f", '{"a": 1}'))
    assert not accepts(grammar, call("f", '{"a": 1, "b": 2}'))
    anything = {"properties": {"a": {}}, "additionalProperties": True}
    assert accepts(with_arguments({}, parameters=anything), call("f", '{"a": 1, "b": 2}'))
