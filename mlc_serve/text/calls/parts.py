"""The parts that an answer is made of: content, reasoning, and calls in pieces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The model calls a function. Pieces of its arguments follow."""

    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the arguments of the call that was started last, as JSON text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The arguments of the call are whole. A call that was cut off has no end."""


# A string is a piece of content.
Part = str | Reasoning | CallStart | CallArguments | CallEnd
