"""The grammar of a reply that must call a tool."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import llguidance
import pytest

from mlc_serve.frontend.forced_call import forced_call_grammar
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


def accepts(grammar: str | None, answer: str) -> bool:
    """Whether the grammar allows exactly this answer."""
    assert grammar is not None
    tokenizer = byte_level_bpe()
    tokens = llguidance.LLTokenizer(tokenizer.to_str(), eos_token=MODEL.tokenizer.special_ids["</s>"])
    matcher = llguidance.LLMatcher(tokens, grammar)
    assert not matcher.get_error()
    token_ids = tokenizer.encode(answer, add_special_tokens=False).ids
    return matcher.try_consume_tokens(token_ids) == len(token_ids) and matcher.is_accepting()


def test_a_reply_that_may_be_text_has_no_grammar() -> None:
    """Only forced calls are constrained."""
    assert forced_call_grammar(request(), MODEL) is None
    assert forced_call_grammar(request(tool_choice="none"), MODEL) is None


@pytest.mark.parametrize(
    ("fields", "answer", "is_allowed"),
    [
        ({}, call("weather", '{"city": "Oslo"}'), True),
        ({}, call("now"), True),
        ({}, call("now", '{"a": 1}'), False),
        ({}, call("later"), False),
        ({}, call("now") + "\n" + call("now"), True),
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
    grammar = forced_call_grammar(request(**{"tool_choice": "required", **fields}), MODEL)
    assert accepts(grammar, answer) == is_allowed


def test_reasoning_that_the_prompt_has_opened_must_end() -> None:
    """There is no call within it."""
    grammar = forced_call_grammar(request(tool_choice="required"), MODEL, reasoning_is_open=True)
    assert accepts(grammar, "Hm.</think>" + call("now"))
    assert not accepts(grammar, call("now"))
