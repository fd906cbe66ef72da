"""Calls found in answers that come in any portions."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.text.tool_calls import END_TAG, MAX_BROKEN, START_TAG, ToolCallParser
from mlc_serve.text.written_calls import ToolCall, read_calls

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Malmö"}}\n</tool_call>'
PARSED = ToolCall("weather", '{"city": "Malmö"}')

NO_CALLS = [
    "<tool_call>not JSON</tool_call>",
    '<tool_call>["a list"]</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "no object"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "3"}</tool_call>',
    "<tool_call>" + "[" * 100_000 + "</tool_call>",
    "<tool_call></tool_call>",
    '<tool_call>{"name": "f"',
    "</tool_call>",
    "<tool_cal",
    "a < b, <tool_box>",
]


def parsed(portions: list[str]) -> list[str | ToolCall]:
    """All parts of an answer, with adjacent pieces of content joined."""
    parser = ToolCallParser()
    parts = [part for portion in portions for part in parser.push(portion)] + parser.finish()
    joined: list[str | ToolCall] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CALL, [PARSED]),
        ("Let me see.\n" + CALL, ["Let me see.\n", PARSED]),
        (CALL + "\n" + CALL + "\n", [PARSED, PARSED]),
        (CALL + "\n\nDone.", [PARSED, "Done."]),
        (CALL.removesuffix(END_TAG), [PARSED]),
        (CALL.removesuffix(END_TAG) + CALL, [PARSED, PARSED]),
        (CALL.removesuffix(END_TAG) + "Done.", [PARSED, "Done."]),
        (CALL.removesuffix(END_TAG) + "</tool_", [PARSED, "</tool_"]),
        (
            CALL.removesuffix(END_TAG)[:-2] + END_TAG + CALL,
            [CALL.removesuffix(END_TAG)[:-2] + END_TAG, PARSED],
        ),
        ("<tool_call>oh " + CALL, ["<tool_call>oh ", PARSED]),
        (
            '<tool_call>{"name": "f", "arguments": {"a": "x}}</tool_call>' + CALL,
            ['<tool_call>{"name": "f", "arguments": {"a": "x}}</tool_call>', PARSED],
        ),
        (
            f'{START_TAG}{{"name": "f", "arguments": {{"a": "{END_TAG}"}}}}{END_TAG}.',
            [ToolCall("f", f'{{"a": "{END_TAG}"}}'), "."],
        ),
        (
            f'{START_TAG}{{"name": "f", "arguments": {{"a": "{CALL[:11]}"}}}}',
            [ToolCall("f", f'{{"a": "{START_TAG}"}}')],
        ),
        ("<" + CALL, ["<", PARSED]),
        ("", []),
    ],
)
def test_content_and_calls_come_in_order(answer: str, expected: list[str | ToolCall]) -> None:
    """The parts are the same character by character or all at once; white space after a call belongs to the
    call.
    """
    assert expected == parsed([answer])
    assert expected == parsed(list(answer))


@pytest.mark.parametrize("answer", NO_CALLS, ids=range(len(NO_CALLS)))
def test_what_is_no_call_is_content(answer: str) -> None:
    """Without an end tag, JSON, a name or an object of arguments, the text is shown as it was written."""
    assert [answer] == parsed([answer])
    assert [answer[: len(answer) // 2] + answer[len(answer) // 2 :]] == parsed([answer[:20], answer[20:]])


PIECES = [
    CALL,
    CALL.removesuffix(END_TAG),
    START_TAG,
    END_TAG,
    '{"name": "f"}',
    '{"name": "f", "arguments": {"a": "',
    '"}}',
    "```",
    "text ",
    "\n",
    "<",
    "{",
]


@given(
    answer=st.lists(st.sampled_from([*PIECES, *NO_CALLS[:4], *NO_CALLS[10:]])).map("".join),
    cuts=st.lists(st.integers(0, 200)),
)
def test_portions_make_no_difference(answer: str, cuts: list[int]) -> None:
    """However an answer is cut into portions, it has the same content and calls."""
    edges = sorted({0, len(answer), *(min(cut, len(answer)) for cut in cuts)})

    assert parsed([answer]) == parsed([answer[start:stop] for start, stop in itertools.pairwise(edges)])


def test_only_the_beginning_of_a_tag_is_held_back() -> None:
    """Content is shown up to what may become a tag; a call appears with its end tag."""
    parser = ToolCallParser()

    assert parser.push("so <tool") == ["so "]
    assert parser.push("s") == ["<tools"]
    assert parser.push(CALL[:-1]) == []
    assert parser.push(">") == [PARSED]
    assert parser.finish() == []


def test_a_long_call_is_read_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is read a bounded number of times, even if it has many end tags and arrives in many portions."""
    read: list[int] = []

    def counted(text: str) -> tuple[list[ToolCall], int]:
        read.append(len(text))
        return read_calls(text)

    monkeypatch.setattr("mlc_serve.text.tool_calls.read_calls", counted)
    answer = f'{START_TAG}{{"name": "f", "arguments": {{"a": "{END_TAG * 5000}"}}}}{END_TAG}'

    assert parsed([answer[i : i + 7] for i in range(0, len(answer), 7)]) == [
        ToolCall("f", f'{{"a": "{END_TAG * 5000}"}}')
    ]
    assert sum(read) < 40 * len(answer)


def test_an_answer_of_broken_calls_is_searched_a_bounded_number_of_times() -> None:
    """After many invalid calls, the rest is content."""
    answer = f'{START_TAG}{{"' * MAX_BROKEN + CALL

    assert parsed([answer]) == [answer]
    assert parsed(list(answer)) == [answer]
    assert parsed([answer.removeprefix(START_TAG)]) != [answer.removeprefix(START_TAG)]


def test_arguments_are_json_text() -> None:
    """Arguments are valid JSON, which clients parse, with characters as the model wrote them."""
    (call,) = parsed([CALL])

    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {"city": "Malmö"}
    assert "Malmö" in call.arguments
