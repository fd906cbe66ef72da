"""Calls that are JSON, in all forms that models write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.calls.hermes import START_TAG, Hermes
from tests.answers import Written, read_in_portions

F = Written("f", '{"a": 1}')


def read(text: str) -> list[object]:
    """The calls in a text, which make no difference if they arrive in portions."""
    calls = read_in_portions(AnswerForm(Hermes()), [START_TAG + text])
    assert read_in_portions(AnswerForm(Hermes()), [START_TAG, *text]) == calls
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
        '{"type": "x", "name": "g", "name": "f", "arguments": {"a": 2}, "arguments": {"a": 1}}',
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
    assert read(written) == [Written("f", "{}")]


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
        '[{"a": 1}, {"name": "f", "arguments": {"a": 1}}]',
        '["f"]',
        "[]",
        "{} and more",
        "f({a: 1}) and more",
        "[" * 100_000,
    ],
)
def test_what_is_no_call(written: str) -> None:
    """A call needs a name, and an object of arguments in its place; otherwise the text is no call."""
    assert read_in_portions(AnswerForm(Hermes()), [START_TAG + written]) == [START_TAG + written]


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
    assert isinstance(call, Written)
    call.arguments.encode()
    assert json.loads(call.arguments, parse_constant=pytest.fail) == {"a": expected}


def test_deep_arguments_are_passed_on() -> None:
    """Arguments may be nested as deep as JSON parsers allow."""
    deep = "[" * 500 + "]" * 500
    (call,) = read(f'{{"name": "f", "arguments": {{"a": {deep}}}}}')
    assert isinstance(call, Written)
    assert json.loads(call.arguments) == {"a": json.loads(deep)}


@pytest.mark.parametrize(
    "written",
    [
        "{}",
        '{"a": [true, false, null, -0.5, 0], "b": {"c": []}}',
        ' { "a" :[ 1 ,2 ] , "é\\u00e9\\n\\/" : "\\ud83d\\ude00 \\" \\\\" }',
    ],
)
def test_the_layout_is_that_of_json_dumps(written: str) -> None:
    """However a model spaces its JSON, the arguments look as a template shows them in the history."""
    expected = json.dumps(json.loads(written), ensure_ascii=False)
    assert read(f'{{"name": "f", "arguments": {written}}}') == [Written("f", expected)]


@pytest.mark.parametrize(
    "broken",
    [
        '{"a": 01}',
        '{"a": 1,}',
        '{"a"}',
        "{1: 2}",
        '{"a": tru}',
        '{"a": "\\x"}',
        '{"a": [1}',
        '{"a": 1 2}',
        "{,}",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 5000,
    ],
)
def test_what_is_not_json_is_no_whole_call(broken: str) -> None:
    """The copier accepts JSON alone, of bounded depth and with numbers of bounded length."""
    (call,) = read(f'{{"name": "f", "arguments": {broken}')
    assert isinstance(call, Written)
    assert not call.is_whole
