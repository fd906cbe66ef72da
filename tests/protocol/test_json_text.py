"""JSON from strangers."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.errors import InvalidRequestError
from mlc_serve.protocol import json_text
from mlc_serve.protocol.json_text import CONTAINER_WEIGHT, JsonLimits, count_elements, parse_json

UNBOUNDED = JsonLimits(10**9, 10**3)
# Strings full of what has a meaning outside of strings.
TRICKY = st.text(st.sampled_from(list('[]{},:"\\ a\n€')), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=20,
)


def counted(value: object) -> int:
    """The expected count of a value: the weight of each container, and one for each entry after its first."""
    if not isinstance(value, dict | list):
        return 0
    entries = list(value.values()) if isinstance(value, dict) else value
    return CONTAINER_WEIGHT + max(0, len(entries) - 1) + sum(map(counted, entries))


def depth(value: object) -> int:
    """How deep a value is nested."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@pytest.mark.parametrize("slice_length", [1, 2, 3, 64])
@given(value=VALUES)
def test_elements_and_levels_are_counted_outside_of_strings(slice_length: int, value: object) -> None:
    """The counts are right wherever the text is cut into slices, and whatever its strings contain."""
    text = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_SLICE", slice_length)
        assert count_elements(text, UNBOUNDED) == counted(value)
        count_elements(text, JsonLimits(10**9, depth(value)))
        if depth(value):
            with pytest.raises(InvalidRequestError, match="levels deep"):
                count_elements(text, JsonLimits(10**9, depth(value) - 1))


@pytest.mark.parametrize("at_once", [0, 10**9])
@given(value=VALUES)
def test_it_parses_as_json_does(at_once: int, value: object) -> None:
    """Both ways of parsing give the same value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_PARSED_AT_ONCE", at_once)
        assert parse_json(json.dumps(value).encode(), UNBOUNDED) == value


@pytest.mark.parametrize("text", [b"[1,1,1]", b'{"a":[]}', b"[[],[]]"])
def test_too_many_elements_are_refused(text: bytes) -> None:
    """The weight of a list or an object counts in addition to its elements."""
    num_elements = count_elements(text, UNBOUNDED)
    parse_json(text, JsonLimits(num_elements, 9))
    with pytest.raises(InvalidRequestError, match=f"more than {num_elements - 1} elements"):
        parse_json(text, JsonLimits(num_elements - 1, 9))


@pytest.mark.parametrize("text", [b"[" * 10**6, b"{" * 10**6, b'[{"a":' * 10**6, b"]" * 10**6, b'"' * 10**6])
def test_nonsense_without_end_is_refused(text: bytes) -> None:
    """It can exhaust neither the stack nor the memory."""
    with pytest.raises(InvalidRequestError):
        parse_json(text, JsonLimits())


@pytest.mark.parametrize("at_once", [0, 10**9])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"prompt": "x",}', "line 1, column 16"),
        (b'{\n "prompt": }', "line 2, column 12"),
        (b"1" * 5000, "too many digits"),
        (b"\xff", "UTF-8"),
        (b'["\\ud83d"]', "surrogate"),
        (b'{"\\uDE00": 1}', "surrogate"),
        (b"", "line 1, column 1"),
    ],
)
def test_what_is_no_json_is_told(
    text: bytes, said: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the position, if there is one."""
    monkeypatch.setattr(json_text, "_PARSED_AT_ONCE", at_once)
    with pytest.raises(InvalidRequestError, match=said):
        parse_json(text, JsonLimits())


def test_pairs_of_escapes_are_one_character() -> None:
    """Half a pair is refused; a whole pair and the escaped text of an escape are not."""
    assert parse_json(b'["\\ud83d\\ude00", "\\\\ud83d"]', JsonLimits()) == ["😀", "\\ud83d"]


def test_a_byte_order_mark_is_skipped() -> None:
    """Some systems put one before every text."""
    assert parse_json(b"\xef\xbb\xbf[]", JsonLimits()) == []


def test_other_threads_run_while_much_is_parsed() -> None:
    """An event loop runs while another thread parses many elements."""
    text = b"[" + b'"ab",' * 200_000 + b"1]"
    parsed = threading.Event()
    turns = 0

    def parse() -> None:
        parse_json(text, JsonLimits())
        parsed.set()

    parser = threading.Thread(target=parse)
    parser.start()
    while not parsed.is_set():
        turns += 1
    parser.join()
    assert turns > 1


def test_the_default_limits_leave_room_for_real_requests() -> None:
    """A bias for each token of the largest vocabularies fits, and so does a context of token ids."""
    bias = {"logit_bias": dict.fromkeys(map(str, range(262_144)), -100)}
    ids = {"prompt": list(range(131_072))}
    for request in (bias, ids):
        count_elements(json.dumps(request).encode(), JsonLimits())
