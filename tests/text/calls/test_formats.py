"""Calls in the forms of several families of models."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import llguidance
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.config import ReasoningParser, ToolCallParser
from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.calls.formats import FORMATS, format_shown_by
from mlc_serve.text.calls.lark import Lark
from mlc_serve.text.reasoning import REASONING
from tests.answers import Written, read_in_portions
from tests.small_tokenizers import byte_level_bpe

FUNCTIONS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
OSLO, NOW = Written("weather", '{"city": "Os\\"lo", "days": 3}'), Written("now", "{}")

# Two calls in the form of each family, as its models write them.
FORCED = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Os\\"lo", "days": 3}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "qwen3_coder": '<tool_call>\n<function=weather>\n<parameter=city>\nOs"lo\n</parameter>\n'
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
    "<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "llama3_json": '{"name": "weather", "parameters": {"city": "Os\\"lo", "days": 3}}; '
    '{"name": "now", "parameters": {}}',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Os\\"lo", "days": 3}}, '
    '{"name": "now", "arguments": {}}]',
    "mistral_args": '[TOOL_CALLS]weather[ARGS]{"city": "Os\\"lo", "days": 3}[TOOL_CALLS]now[ARGS]{}',
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
    '{"city": "Os\\"lo", "days": 3}\n```<｜tool▁call▁end｜>\n'
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek_v31": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
    '{"city": "Os\\"lo", "days": 3}<｜tool▁call▁end｜>'
    "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
}
JUNK = [
    "{",
    "}",
    '"',
    "\\",
    "[",
    "]",
    ",",
    "; ",
    " ",
    "\n",
    "```",
    "NaN",
    "1e",
    "\\ud83d",
    "a < b",
    "\u00a0",
    "</",
    "<",
]
MIXED = (
    "<tool_call><function=f><parameter=a>[1, NaN]</parameter><parameter=b>x</parameter>\n<parameter=c>\n"
    "1], [2\n</parameter></function></tool_call>"
)
FORCED["generic"] = FORCED["hermes"]


@pytest.mark.parametrize("name", FORMATS)
def test_calls_of_each_family_are_read(name: str) -> None:
    """Content and calls are the same wherever the answer is cut."""
    form = AnswerForm(FORMATS[name])
    before = "" if name == "llama3_json" else "See: "
    answer = before + FORCED[name]
    expected = [*filter(None, [before]), OSLO, NOW]
    for cut in range(len(answer)):
        assert read_in_portions(form, [answer[:cut], answer[cut:]], FUNCTIONS) == expected
    assert read_in_portions(form, answer, FUNCTIONS) == expected


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_portions_make_no_difference(name: str, data: st.DataObject) -> None:
    """Whatever a model makes of its form, the parts are the same however they arrive."""
    written = FORCED[name]
    edges = st.integers(0, len(written))
    slices = st.tuples(edges, edges).map(lambda cut: written[min(cut) : max(cut)])
    pieces = st.one_of(slices, st.sampled_from([*JUNK, *FORMATS[name].special_texts]))
    answer = "".join(data.draw(st.lists(pieces, max_size=6)))
    cuts = data.draw(st.lists(st.integers(0, len(answer)), max_size=8).map(sorted))
    portions = [answer[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(answer)])]
    form = AnswerForm(FORMATS[name])
    assert read_in_portions(form, portions, FUNCTIONS) == read_in_portions(form, [answer], FUNCTIONS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_beginning_of_an_answer_is_read(name: str) -> None:
    """An answer that was cut off anywhere loses no text, and has a call as soon as its arguments begin."""
    for length in range(len(FORCED[name])):
        cut = FORCED[name][:length]
        parts = read_in_portions(AnswerForm(FORMATS[name]), [cut], FUNCTIONS)
        assert read_in_portions(AnswerForm(FORMATS[name]), cut, FUNCTIONS) == parts
        calls = [part for part in parts if isinstance(part, Written)]
        assert [call.name for call in calls] == ["weather", "now"][: len(calls)]
        assert all(call.is_whole for call in calls[:-1])
        assert calls or "".join(map(str, parts)) == cut


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("generic", '{"name": "now", "arguments": {}}', [NOW]),
        ("generic", '```json\n{"name": "now", "arguments": {}}\n```\nThere.', [NOW, "There."]),
        ("generic", '{"name": "Bob", "arguments": {}}', None),
        ("generic", '{"city": "Oslo"}', None),
        ("generic", 'So: {"name": "now", "arguments": {}}', None),
        ("llama3_json", '<|python_tag|>{"name": "now", "parameters": {}}', [NOW]),
        ("llama3_json", '{"type": "function", "name": "now", "parameters": {}}', [NOW]),
        ("llama3_json", '{"name": "Bob", "parameters": {}}', None),
        ("llama3_json", "<|python_tag|>print(1)", None),
        ("mistral", '[TOOL_CALLS] [{"name": "now", "arguments": {}, "id": "VvvODy9mT"}]', [NOW]),
        ("mistral", "[TOOL_CALLS]now{}", [NOW]),
        ("mistral", "[TOOL_CALLS]now[CALL_ID]VvvODy9mT[ARGS]{}", [NOW]),
        ("mistral", "[TOOL_CALLS]none", None),
        ("deepseek_v3", "<｜tool▁calls▁begin｜>none", None),
        ("qwen3_coder", "<tool_call>\n<function=now>\n</tool_call>", [NOW]),
        ("qwen3_coder", '<tool_call>{"name": "now", "arguments": {}}</tool_call>', [NOW]),
        ("qwen3_coder", "<tool_call>\n<function=", None),
        (
            "qwen3_coder",
            MIXED,
            [Written("f", '{"a": [1, null], "b": "x", "c": "1], [2"}')],
        ),
    ],
)
def test_variants_of_the_forms(name: str, answer: str, expected: list[object] | None) -> None:
    """Models deviate from their form. What is no call is content; without a mark, only offered functions are
    called.
    """
    for portions in ([answer], answer):
        parts = read_in_portions(AnswerForm(FORMATS[name]), portions, FUNCTIONS)
        assert parts == ([answer] if expected is None else expected)


def accepts(name: str, tokenizer: tokenizers.Tokenizer, answer: str, *, parallel: bool) -> bool:
    """Whether the grammar of forced calls allows exactly this answer."""
    special = {
        token.content: token_id
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    calls, lark = FORMATS[name], Lark(special)
    lead = "" if calls.begin is None else lark.mark(calls.begin)
    rules = calls.rules(FUNCTIONS, lark, lead=lead, parallel=parallel)
    tokens = llguidance.LLTokenizer(tokenizer.to_str(), eos_token=special["</s>"])
    matcher = llguidance.LLMatcher(tokens, "start: calls\n" + rules)
    assert not matcher.get_error()
    token_ids = tokenizer.encode(answer, add_special_tokens=False).ids
    return matcher.try_consume_tokens(token_ids) == len(token_ids) and matcher.is_accepting()


# The small tokenizer has the tags of Hermes' form in any case.
TAGGED = {"generic", "hermes", "qwen3_coder"}


@pytest.mark.parametrize(
    ("name", "are_special"),
    [*((name, True) for name in FORMATS), *((n, False) for n in FORMATS if n not in TAGGED)],
)
def test_the_grammar_allows_what_the_reader_reads(name: str, are_special: bool) -> None:
    """The grammar of forced calls allows calls in the family's form and no text, whether the marks are
    special tokens or not. Without parallel calls it allows one.
    """
    tokenizer = byte_level_bpe()
    if are_special:
        tokenizer.add_special_tokens(list(FORMATS[name].special_texts))
    assert accepts(name, tokenizer, FORCED[name], parallel=True)
    assert not accepts(name, tokenizer, FORCED[name], parallel=False)
    assert not accepts(name, tokenizer, "It is cold.", parallel=True)
    assert not accepts(name, tokenizer, FORCED[name].replace("days", "weeks"), parallel=True)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ tools }}<tool_call>", "hermes"),
        ("{{ tools }}<tool_call>\n<function=x>\n<parameter=y>", "qwen3_coder"),
        ('<|start_header_id|>{"name": x, "parameters": y}', "llama3_json"),
        ("{{ '[TOOL_CALLS] [' }}", "mistral"),
        ("[TOOL_CALLS]x[ARGS]", "mistral_args"),
        ("<｜tool▁calls▁begin｜>```json", "deepseek_v3"),
        ("<｜tool▁calls▁begin｜>", "deepseek_v31"),
        ("{{ tools | tojson }}", "generic"),
    ],
)
def test_the_template_shows_the_form(template: str, name: str) -> None:
    """What a template contains decides the form, and a template that shows none gets the generic one."""
    assert format_shown_by(template) == name


def test_the_options_name_what_there_is() -> None:
    """The command line's choices are the tables' names."""
    assert set(get_args(ToolCallParser)) == set(FORMATS)
    assert set(get_args(ReasoningParser)) == {*REASONING, "none"}
