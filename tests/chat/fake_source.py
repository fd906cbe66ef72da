"""A ChatSource that says what a test has written down."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from mlc_serve.chat.source import Message, ReplyPart
from mlc_serve.errors import RemoteServerError


class FakeSource:
    """Answers with the next of `replies`, a word at a time; `!` in one makes it fail. `asked` holds the
    messages and the sampling of each question, `ended` the number of closed replies.
    """

    name = "fake"

    def __init__(self, *replies: str) -> None:
        self._replies = list(replies)
        self.asked: list[tuple[list[Message], dict[str, Any]]] = []
        self.ended = 0
        self.closed = False

    def reply(
        self, messages: Sequence[Message], sampling: Mapping[str, Any]
    ) -> Generator[ReplyPart, None, None]:
        self.asked.append((list(messages), dict(sampling)))
        words = self._replies.pop(0).split(" ")
        try:
            for word in words:
                if word == "!":
                    raise RemoteServerError("it broke")
                yield ReplyPart(word)
            yield ReplyPart(num_tokens=10 * len(words))
        finally:
            self.ended += 1

    def close(self) -> None:
        self.closed = True
