"""Calls between tags, in answers that come in any portions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.calls.hermes import END_TAG, START_TAG, Hermes
from mlc_serve.text.calls.json_copier import JsonCopier
from mlc_serve.text.calls.marked_calls import MAX_BROKEN
from mlc_serve.text.calls.parts import CallArguments, CallEnd, CallStart
from tests.answers import Written, read_in_portions

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Malmö"}}\n</tool_call>'
PARSED = Written("weather", '{"city": "Malmö"}')

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


def parsed(portions: list[str]) -> list[object]:
    """All parts of an answer, with pieces of the same kind joined."""
    return read_in_portions(AnswerForm(Hermes()), portions)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CALL, [PARSED]),
        ("Let me see.\n" + CALL, ["Let me see.\n", PARSED]),
        (CALL + "\n" + CALL + "\n", [PARSED, PARSED]),
        (CALL + "\n\nDone.", [PARSED, "Done."]),
        (CALL.removesuffix(END_TAG), [PARSED]),
        (CALL.removesuffix(END_TAG)[:-2] + END_TAG + CALL, [PARSED, PARSED]),
        (CALL.removesuffix(END_TAG) + CALL, [PARSED, PARSED]),
        (CALL.removesuffix(END_TAG) + "Done.", [PARSED, "Done."]),
        (CALL.removesuffix(END_TAG) + "</tool_", [PARSED, "</tool_"]),
        ("<tool_call>oh " + CALL, ["<tool_call>oh ", PARSED]),
        (
            f'{START_TAG}{{"name": "f", "arguments": {{"a": "{END_TAG}"}}}}{END_TAG}.',
            [Written("f", f'{{"a": "{END_TAG}"}}'), "."],
        ),
        (
            f'{START_TAG}{{"name": "f", "arguments": {{"a": "{CALL[:11]}"}}}}',
            [Written("f", f'{{"a": "{START_TAG}"}}')],
        ),
        ("<" + CALL, ["<", PARSED]),
        ("", []),
    ],
)
def test_content_and_calls_come_in_order(answer: str, expected: list[object]) -> None:
    """The parts are the same character by character or all at once; white space after a call belongs to the
    call, and the end tag may be missing.
    """
    assert expected == parsed([answer])
    assert expected == parsed(list(answer))


@pytest.mark.parametrize("answer", NO_CALLS, ids=range(len(NO_CALLS)))
def test_what_is_no_call_is_content(answer: str) -> None:
    """Without JSON, a name or an object of arguments, the text is shown as it was written."""
    assert [answer] == parsed([answer])
    assert [answer] == parsed([answer[:20], answer[20:]])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"name": "f", "arguments": {"a": x}}</tool_call>.', [Written("f", '{"a": x}}', False), "."]),
        ('{"name": "f", "arguments": {"a" 1}' + CALL, [Written("f", '{"a"1}', False), PARSED]),
        ('{"name": "f", "arguments": {"a": "\\', [Written("f", '{"a": "\\', False)]),
        ('{"name": "f", "arguments": {"a": 1', [Written("f", '{"a": 1', False)]),
        ('{"name": "f", "arguments": {"a": 1 \u00a0\u00a0x', [Written("f", '{"a": 1\u00a0\u00a0x', False)]),
    ],
)
def test_arguments_that_break_are_passed_on_as_they_are(answer: str, expected: list[object]) -> None:
    """What was sent can't be taken back, so the client gets the rest of a broken call up to the next tag, and
    no end of the call.
    """
    assert expected == parsed([START_TAG + answer])
    assert expected == parsed(list(START_TAG + answer))


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
    "; ",
    "[",
    "\\ud83d",
    "1e999",
]


@given(
    answer=st.lists(st.sampled_from([*PIECES, *NO_CALLS[:4], *NO_CALLS[10:]])).map("".join),
    cuts=st.lists(st.integers(0, 200)),
)
def test_portions_make_no_difference(answer: str, cuts: list[int]) -> None:
    """However an answer is cut into portions, it has the same content and calls."""
    edges = sorted({0, len(answer), *(min(cut, len(answer)) for cut in cuts)})
    assert parsed([answer]) == parsed([answer[start:stop] for start, stop in itertools.pairwise(edges)])


@pytest.mark.parametrize("length", [254, 255, 256, 270, 400])
def test_the_bound_of_a_name_is_the_same_in_all_portions(length: int) -> None:
    """A call whose name is too long and whose arguments break is content, however it arrives."""
    name = "f" * length
    answer = f'{START_TAG}{{"name": "{name}", "arguments": {{"a": x'
    expected = [Written(name, '{"a": x', False)] if length <= 254 else [answer]
    assert parsed([answer]) == expected
    assert parsed(list(answer)) == expected


def test_nothing_is_held_back_longer_than_needed() -> None:
    """Content is shown up to what may become a tag, a call from the first brace of its arguments on."""
    parser = AnswerForm(Hermes()).parser({}, reasoning_is_open=False)
    assert parser.push("so <tool") == ["so "]
    assert parser.push("s") == ["<tools"]
    assert parser.push('<tool_call>{"name": "f", "arguments":') == []
    assert parser.push(' {"a":') == [CallStart("f"), CallArguments('{"a": ')]
    assert parser.push(' "x') == [CallArguments('"x')]
    assert parser.push("y\\") == [CallArguments("y")]
    assert parser.push('""}') == [CallArguments('\\""}'), CallEnd()]
    assert parser.push("}</tool_call>") == []
    assert parser.finish() == []


def test_a_long_call_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work for a call is proportional to its length, even if it arrives in many portions and can only be
    read as a whole.
    """
    read: list[int] = []
    copy = JsonCopier.copy

    def counted(self: JsonCopier, text: str, start: int, *, is_last: bool) -> tuple[str, int]:
        copied, end = copy(self, text, start, is_last=is_last)
        read.append(end - start)
        return copied, end

    monkeypatch.setattr(JsonCopier, "copy", counted)
    value = END_TAG * 5000
    answer = f'{START_TAG}{{"arguments": {{"a": "{value}"}}, "name": "f"}}{END_TAG}'
    assert parsed([answer[i : i + 7] for i in range(0, len(answer), 7)]) == [
        Written("f", f'{{"a": "{value}"}}')
    ]
    assert sum(read) < 2 * len(answer)


def test_an_answer_of_broken_calls_is_searched_a_bounded_number_of_times() -> None:
    """After many invalid calls, the rest is content."""
    answer = f'{START_TAG}{{"' * MAX_BROKEN + CALL
    assert parsed([answer]) == [answer]
    assert parsed(list(answer)) == [answer]
    assert parsed([answer.removeprefix(START_TAG)]) != [answer.removeprefix(START_TAG)]
