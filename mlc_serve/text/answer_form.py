"""How one model writes its answers: its calls, and its reasoning."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlc_serve.errors import ConfigError
from mlc_serve.text.answer_parser import AnswerParser
from mlc_serve.text.calls.call_format import CallFormat, Functions
from mlc_serve.text.calls.formats import FORMATS, GENERIC, format_shown_by
from mlc_serve.text.calls.hermes import Generic
from mlc_serve.text.calls.source import Reading, Source
from mlc_serve.text.conversation import PromptTemplate
from mlc_serve.text.reasoning import REASONING, ReasoningMarks, marks_shown_by, read_reasoning


@dataclass(frozen=True)
class AnswerForm:
    """The format of a model's calls, and the marks of its reasoning; None if it doesn't reason visibly."""

    calls: CallFormat = field(default_factory=Generic)
    reasoning: ReasoningMarks | None = None

    def special_texts(self, *, with_calls: bool) -> frozenset[str]:
        """Return the names of special tokens that a parser needs to see in the text."""
        marks = () if self.reasoning is None else (self.reasoning.begin, self.reasoning.end)
        return frozenset((*marks, *(self.calls.special_texts if with_calls else ())))

    def parser(self, functions: Functions | None, *, reasoning_is_open: bool) -> AnswerParser:
        """Return a new parser. Without functions, calls are content."""
        return AnswerParser(lambda source: self._read(source, functions, reasoning_is_open))

    def _read(self, source: Source, functions: Functions | None, is_open: bool) -> Reading[None]:
        if self.reasoning is not None:
            yield from read_reasoning(source, self.reasoning, is_open=is_open)
        if functions is not None:
            yield from self.calls.read(source, functions)


def answer_form(
    template: PromptTemplate | None, calls: str | None = None, reasoning: str | None = None
) -> AnswerForm:
    """Return the form that a chat template shows, unless the names of another one are given.

    Raises ConfigError for calls in a format other than the one in which this server describes tools to a
    model whose template has no place for them.
    """
    source = "" if template is None else template.source
    takes_tools = template is not None and template.takes_tools
    if calls is not None and template is not None and not takes_tools and calls not in (GENERIC, "hermes"):
        raise ConfigError(
            f"tool_call_parser is {calls!r}, but the model's chat template has no place for tools: the "
            "server describes them to the model itself, and asks for calls in the form 'generic'"
        )
    shown = format_shown_by(source) if takes_tools else GENERIC
    marks = marks_shown_by(source) if reasoning is None else REASONING.get(reasoning)
    return AnswerForm(FORMATS[calls or shown], marks)
