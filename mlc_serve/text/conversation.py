"""A conversation as a prompt is made from it, and who makes it. Knows no template language, no wire form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlc_serve.text.pieces import Piece
from mlc_serve.text.templates.meter import Meter

Message = Mapping[str, Any]
Tool = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """`content` of a message is a text, a list of texts (its parts), or None. The function of a call has its
    `arguments` as JSON text and its `parsed_arguments` as an object; templates are given one of them, as
    `arguments`. `variables` are values that templates may read besides.

    With `continues_last` the prompt ends with the last message's text, just as it was sent, and the model
    goes on from there; otherwise `add_generation_prompt` opens an answer.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continues_last: bool = False


# Takes a number of characters, and raises if they are too many.
CheckLength = Callable[[int], object]


class PromptTemplate(Protocol):
    """Writes a conversation as the text that a model continues."""

    def render(
        self,
        conversation: Conversation,
        meter: Meter | None = None,
        check_length: CheckLength = lambda _num_characters: None,
    ) -> list[Piece]:
        """The prompt. Control pieces are what the template wrote itself, never what a client sent.

        The meter bounds the work, and can end it from another thread; by default it's a fresh one.
        `check_length` may refuse a prompt for its length before it is read once more.
        InvalidRequestError for what can't be written.
        """
