"""The conversation that a prompt is made from, and the interface of prompt templates. Independent of template
languages and wire formats.
"""

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
    """The messages, tools and options that a template turns into a prompt.

    A message's `content` is a text, a list of texts (its parts), or None. The function of a tool call has its
    arguments twice: as JSON text in `arguments` and as an object in `parsed_arguments`; templates see one of
    them, as `arguments`. `variables` are further values that templates may read.

    With `continues_last` the prompt ends with the last message's text, exactly as it was sent, and the model
    continues it; otherwise `add_generation_prompt` opens the assistant's turn.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continues_last: bool = False


# Takes a number of characters, and raises if that is too many.
CheckLength = Callable[[int], object]


class PromptTemplate(Protocol):
    """Writes a conversation as the text that a model continues."""

    @property
    def jinja_source(self) -> str | None:
        """The template in Jinja2, or None if it is written in another form."""

    @property
    def source(self) -> str:
        """The template's own text, which shows in which form the model writes calls and reasoning."""

    @property
    def takes_tools(self) -> bool:
        """Whether the template has a place for tools."""

    @property
    def takes_calls(self) -> bool:
        """Whether the template writes the calls of earlier messages."""

    @property
    def takes_system(self) -> bool:
        """Whether the template has a place for a system message."""

    def render(
        self,
        conversation: Conversation,
        meter: Meter | None = None,
        check_length: CheckLength = lambda _num_characters: None,
    ) -> list[Piece]:
        """Return the prompt. Only the template's own text can be a control piece, never a client's.

        The meter bounds the work, and another thread can cancel it; by default it is a new one.
        `check_length` may refuse a prompt that is too long before it is processed further. Raises
        InvalidRequestError for a conversation that the template can't write.
        """
