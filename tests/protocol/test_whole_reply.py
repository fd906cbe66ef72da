"""Whole replies."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mlc_serve.protocol.replies import Completion, CompletionChoice
from mlc_serve.protocol.whole_reply import WholeReply


def completion(*texts: str) -> Completion:
    """A reply with these choices."""
    choices = [
        CompletionChoice(index=i, text=text, logprobs=None, finish_reason="stop")
        for i, text in enumerate(texts)
    ]
    return Completion(
        id="a", object="text_completion", created=1, model="m", system_fingerprint="f", choices=choices
    )


def empty_lists() -> Iterator[str]:
    """Logprobs without tokens."""
    yield '{"tokens":[],"token_logprobs":[],'
    yield '"top_logprobs":[],"text_offset":[]}'


def test_logprobs_are_put_where_they_belong() -> None:
    """The text of the choices makes no difference."""
    texts = ['"logprobs":null', '\\"logprobs":null,"logprobs":null']
    reply = WholeReply(completion(*texts), [empty_lists, empty_lists])
    choices = json.loads("".join(reply.json()))["choices"]
    assert [choice["text"] for choice in choices] == texts
    assert all(choice["logprobs"]["tokens"] == [] for choice in choices)
    assert [choice.text for choice in reply.typed().choices] == texts
    assert all(choice.logprobs for choice in reply.typed().choices)


def test_a_reply_without_logprobs_is_its_outline() -> None:
    """It is written in one piece."""
    reply = WholeReply(completion("a"))
    assert list(reply.json()) == [reply.outline.to_json()]
    assert reply.typed() is reply.outline
