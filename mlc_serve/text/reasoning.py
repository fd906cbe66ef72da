"""Splits what a model thought from its answer, by the marks around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlc_serve.text.calls.parts import Reasoning
from mlc_serve.text.calls.scan import Scan
from mlc_serve.text.calls.source import Reading, Source, attempt, skip_space, text_until

# More characters than a mark and the white space after it have.
_NEAR_END = 100


@dataclass(frozen=True)
class ReasoningMarks:
    """The texts, often special tokens, between which a model thinks before it answers.

    `are_always_open` says that answers begin with reasoning although neither the prompt nor the answer
    contains the begin mark.
    """

    begin: str
    end: str
    are_always_open: bool = False

    def are_opened_by(self, prompt: str) -> bool:
        """Return whether a prompt has opened the reasoning, which the answer then goes on with."""
        end = prompt[-_NEAR_END:].rstrip()
        return end.endswith(self.begin) or (self.are_always_open and not end.endswith(self.end))

    def are_open_in(self, message: str) -> bool:
        """Return whether a message that is continued ends within its reasoning."""
        return message.rfind(self.begin) > message.rfind(self.end)


_THINK = ReasoningMarks("<think>", "</think>")
_BRACKETS = ReasoningMarks("[THINK]", "[/THINK]")
REASONING: Mapping[str, ReasoningMarks] = {
    "think": _THINK,
    "deepseek_r1": ReasoningMarks(_THINK.begin, _THINK.end, are_always_open=True),
    "mistral": _BRACKETS,
}


def marks_shown_by(template: str) -> ReasoningMarks | None:
    """Return the marks that occur in a template's source, or None if it knows no reasoning."""
    return next((marks for marks in (_THINK, _BRACKETS) if marks.end in template), None)


def read_reasoning(source: Source, marks: ReasoningMarks, *, is_open: bool) -> Reading[None]:
    """Yield the reasoning with which an answer begins, without the white space around it.

    It begins with a mark unless it `is_open`. If there is no end mark, all is reasoning.
    """
    begins = (yield from attempt(source, lambda scan: _begin(scan, marks))) is not None
    if not (begins or is_open):
        return
    source.is_in_reasoning = True
    yield from skip_space(source)
    if (yield from text_until(source, (marks.end,), Reasoning, strips=True)) is not None:
        source.drop(len(marks.end))
        source.is_in_reasoning = False
        yield from skip_space(source)


def _begin(scan: Scan, marks: ReasoningMarks) -> bool:
    scan.space()
    scan.word(marks.begin)
    return True
