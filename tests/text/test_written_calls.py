"""Reading function calls from JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlc_serve.text.written_calls import ToolCall, UnfinishedCallError, read_calls

F = ToolCall("f", '{"a": 1}')


def read(text: str) -> list[ToolCall]:
    """The calls in a text, which must contain nothing else."""
    calls, end = read_calls(text)
    assert text[end:].strip("`\n") == ""
    return calls


@pytest.mark.parametrize(
    "written",
    [
        '{"name": "f", "arguments": {"a": 1}}',
        '{"arguments": {"a": 1}, "name": "f"}',
        '{"name": "f", "parameters": {"a": 1}}',
        '{"name": "f", "arguments": null, "parameters": {"a": 1}}',
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
        '{"name": "f", "arguments": {"a": 1}, "id": "call_1", "thought": "it helps"}',
        '{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}',
        '{"type": "function", "function": {"name": "f", "parameters": "{\\"a\\": 1}"}}',
        '{"function": "f", "arguments": {"a": 1}}',
        '{"name": "g", "name": "f", "arguments": {"a": 2}, "arguments": {"a": 1}}',
        '```json\n{"name": "f", "arguments": {"a": 1}}\n```',
        ' \n\t{"name":"f","arguments":{"a":1}}',
    ],
)
def test_forms_of_one_call(written: str) -> None:
    """A call is read in all forms of models and frameworks, with unknown keys ignored."""
    assert read(written) == [F]


@pytest.mark.parametrize(
    "written",
    [
        '[{"name": "f", "arguments": {"a": 1}}, {"name": "f", "parameters": {"a": 1}}]',
        '{"name": "f", "arguments": {"a": 1}}\n{"name": "f", "arguments": {"a": 1}}',
        '{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": 1}}',
    ],
)
def test_several_calls(written: str) -> None:
    """Several calls are read from a list, or one after another."""
    assert read(written) == [F, F]


@pytest.mark.parametrize(
    "written",
    [
        '{"name": "f"}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": ""}',
        '{"name": "f", "parameters": {}, "type": "function"}',
    ],
)
def test_a_call_without_arguments_has_an_empty_object(written: str) -> None:
    """A call without arguments gets an empty object, because clients parse the arguments."""
    assert read(written) == [ToolCall("f", "{}")]


@pytest.mark.parametrize(
    "written",
    [
        '{"name": "f", "city": "Oslo"}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": 1}',
        '{"name": "f", "arguments": "no object"}',
        '{"name": "f", "arguments": "\\"no end"}',
        '{"name": "", "arguments": {}}',
        '{"name": ["f"], "arguments": {}}',
        '{"arguments": {"a": 1}}',
        '[{"name": "f", "arguments": {"a": 1}}, {"a": 1}]',
        '["f"]',
        "[]",
        "{} and more",
        "f({a: 1}) and more",
        "[" * 100_000,
        '{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}",
    ],
)
def test_what_is_no_call(written: str) -> None:
    """A call needs a name, and an object of arguments in its place; otherwise the text is no call."""
    assert read_calls(written) == ([], 0)


@pytest.mark.parametrize("written", ["", "\n", "```json", '{"name": "f", "arguments": {"a": "x'])
def test_more_text_could_make_it_a_call(written: str) -> None:
    """A text that ends before its JSON does is an unfinished call."""
    with pytest.raises(UnfinishedCallError):
        read_calls(written)


def test_each_beginning_of_a_call_is_unfinished() -> None:
    """Wherever a text is cut off, nothing is decided too early."""
    written = '{"name": "f", "arguments": {"a": [true, -1.5e3, "\\u00e9\\n", -Infinity, {}]}}'
    for length in range(len(written)):
        with pytest.raises(UnfinishedCallError):
            read_calls(written[:length])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("NaN", None),
        ("-Infinity", None),
        ("1e400", None),
        ("1e3", 1000.0),
        ('"\\ud83d"', "\ufffd"),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"\\udc00": "x\\ud83dy"}', {"\ufffd": "x\ufffdy"}),
        ('"two\nlines"', "two\nlines"),
        ('"\\u0000"', "\0"),
        ("12345678901234567890", 12345678901234567890),
    ],
)
def test_arguments_are_json_that_any_client_parses(value: str, expected: Any) -> None:
    """Numbers that JSON can't express are null, as in JavaScript, and halves of characters are U+FFFD."""
    (call,) = read(f'{{"name": "f", "arguments": {{"a": {value}}}}}')

    call.arguments.encode()
    assert json.loads(call.arguments, parse_constant=pytest.fail) == {"a": expected}


def test_deep_arguments_are_passed_on() -> None:
    """Arguments may be nested as deep as JSON parsers allow."""
    deep = "[" * 500 + "]" * 500
    (call,) = read(f'{{"name": "f", "arguments": {{"a": {deep}}}}}')

    assert json.loads(call.arguments) == {"a": json.loads(deep)}
