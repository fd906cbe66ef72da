"""The interface of the model that a chat talks to, wherever that runs."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = Mapping[str, str]


@dataclass(frozen=True)
class ReplyPart:
    """A piece of a reply's text, or of the reasoning before it. `num_tokens` is the number of the whole
    reply's tokens, and `share_kept` the share of its drafts that were kept, if this part has them.
    """

    text: str = ""
    reasoning: str = ""
    num_tokens: int | None = None
    share_kept: float | None = None


class ChatSource(Protocol):
    """Answers conversations, one at a time."""

    @property
    def name(self) -> str:
        """The model's name."""

    def reply(
        self, messages: Sequence[Message], sampling: Mapping[str, Any]
    ) -> Generator[ReplyPart, None, None]:
        """Yield the next message, part by part; `sampling` holds fields of OpenAI's request. Closing the
        generator ends the request. Raises RequestError or RemoteServerError.
        """

    def close(self) -> None:
        """Free the source's resources."""
