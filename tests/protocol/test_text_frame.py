"""JSON around a text."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mlc_serve.protocol.replies import CompletionChoice
from mlc_serve.protocol.text_frame import TextFrame


def choice_json(text: str) -> str:
    """A part of a reply with a text in the middle."""
    return CompletionChoice(index=3, text=text, logprobs=None, finish_reason="stop").to_json()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_frame_around_a_text_is_what_rendering_it_gives(text: str) -> None:
    """The bytes are equal whatever the text is, even if it is the mark that the frame was cut at."""
    frame = TextFrame(choice_json)
    assert frame.around(text) == choice_json(text)
    assert frame.around(f"\ue000text\ue000{text}") == choice_json(f"\ue000text\ue000{text}")


def test_it_renders_once() -> None:
    """Further texts are not rendered."""
    rendered: list[str] = []

    def render(text: str) -> str:
        rendered.append(text)
        return json.dumps({"a": text}, ensure_ascii=False)

    frame = TextFrame(render)
    assert [json.loads(frame.around(text))["a"] for text in ("x", "y")] == ["x", "y"]
    assert len(rendered) == 1
