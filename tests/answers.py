"""Reads answers in portions, and joins what came out, so that it can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlc_serve.text.answer_form import AnswerForm
from mlc_serve.text.calls.parts import CallArguments, CallEnd, CallStart, Part, Reasoning


@dataclass
class Written:
    """A call with all of its arguments."""

    name: str
    arguments: str
    is_whole: bool = True


def read_in_portions(
    form: AnswerForm,
    portions: Iterable[str],
    functions: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    reasoning_is_open: bool = False,
) -> list[object]:
    """The content, calls and reasoning of an answer; pieces of the same kind are joined."""
    parser = form.parser({} if functions is None else functions, reasoning_is_open=reasoning_is_open)
    parts = [part for portion in portions for part in parser.push(portion)] + parser.finish()
    joined: list[object] = []
    for part in parts:
        _join(joined, part)
    return joined


def _join(joined: list[object], part: Part) -> None:
    last = joined[-1] if joined else None
    if isinstance(part, CallStart):
        joined.append(Written(part.name, "", is_whole=False))
    elif isinstance(part, CallArguments | CallEnd):
        assert isinstance(last, Written)
        assert not last.is_whole
        if isinstance(part, CallEnd):
            last.is_whole = True
        else:
            last.arguments += part.text
    elif isinstance(part, str) and isinstance(last, str):
        joined[-1] = last + part
    elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
        joined[-1] = Reasoning(last.text + part.text)
    else:
        joined.append(part)
