"""Marks in clients' texts."""

from __future__ import annotations

import pytest

from mlc_serve.text.templates.client_marks import ClientMarks

NAMES = ("<|user|>", "<|end|>", "</s>")
MARKS = ClientMarks(NAMES, ["</think>", "user", "<", "|>\n"], {"name", "role", "n"})


@pytest.mark.parametrize("before", ["", "<", "<|", "<|u", "</"])
@pytest.mark.parametrize(
    "text", [*NAMES, "user", " user\n", "user|>", "|user|", "s>", "end", "<|end", "x</s>x", "|"]
)
@pytest.mark.parametrize("after", ["", ">", "|>", "r|>", "s>"])
def test_no_name_is_whole_where_a_client_has_a_part_in_it(before: str, text: str, after: str) -> None:
    """Marks interrupt every name of which a client's text has a part, whatever the template writes around the
    text; without marks the text is the original.
    """
    marked = MARKS.put_into({"name": text}, "\ue000")["name"]
    assert marked.replace("\ue000", "") == text
    for written in (before + marked + after, before + marked.strip() + after):
        assert not any(name in written for name in NAMES)


def test_what_a_template_may_look_for_stays_as_it_is() -> None:
    """The template's literals, ordinary words and fixed values are not marked."""
    written = {"role": "user", "content": ["a</think>b", {"type": "text", "text": "hello"}], "n": 3}
    assert MARKS.put_into(written, "\ue000") == written
