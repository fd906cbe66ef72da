"""What a chat asks: a model, wherever it runs."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = Mapping[str, str]


@dataclass(frozen=True)
class ReplyPart:
    """A piece of a reply. `num_tokens` is that of the whole reply, where the part tells it."""

    text: str = ""
    num_tokens: int | None = None


class ChatSource(Protocol):
    """Answers conversations, one at a time."""

    @property
    def name(self) -> str:
        """The model's name."""

    def reply(
        self, messages: Sequence[Message], sampling: Mapping[str, Any]
    ) -> Generator[ReplyPart, None, None]:
        """The next message, part by part; `sampling` holds fields of OpenAI's request. To close it ends the
        request. Raises RequestError or RemoteServerError.
        """

    def close(self) -> None:
        """Free what it holds."""
