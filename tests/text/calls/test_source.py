"""The steps of which readers of answers are composed."""

from __future__ import annotations

import pytest

from mlc_serve.text.calls.json_calls import arguments
from mlc_serve.text.calls.parts import CallArguments, CallEnd
from mlc_serve.text.calls.source import Reading, Source, text_until


def read_on(source: Source, reading: Reading[object], text: str) -> list[object]:
    """What the reader yields until it needs more than this text."""
    source.text += text
    return list(iter(lambda: next(reading, None), None))


@pytest.mark.parametrize("space", [" ", "\n"])
def test_white_space_is_read_once(space: str) -> None:
    """However much white space arrives, none of it stays in the source, where it would be searched again."""
    thought, call = Source(), Source()
    thinking = text_until(thought, ("</think>",), strips=True)
    calling = arguments(call, "f", ())
    assert read_on(thought, thinking, "so") == ["so"]
    read_on(call, calling, '{"a":')
    for _ in range(3):
        assert read_on(thought, thinking, space * 5) == read_on(call, calling, space * 5) == []
        assert thought.text == call.text == ""
    assert read_on(thought, thinking, "it is </th") == [space * 15 + "it is"]
    assert read_on(thought, thinking, "en </think>") == [" </then"]
    assert read_on(call, calling, "null}") == [CallArguments("null}"), CallEnd()]
