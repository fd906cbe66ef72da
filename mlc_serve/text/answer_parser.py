"""Splits an answer into its parts while it is generated. There is one object for each answer, owned by the
code that streams it. Knows nothing about which functions exist or how calls get their ids.
"""

from __future__ import annotations

from collections.abc import Callable

from mlc_serve.text.calls.parts import Part
from mlc_serve.text.calls.source import Reading, Source


class AnswerParser:
    """Runs a reader over an answer that may arrive in any portions, which make no difference.

    What is left when the reader has ended is content; `is_plain` says so.
    """

    def __init__(self, reader: Callable[[Source], Reading[None]]) -> None:
        self._source = Source()
        self._reading = reader(self._source)
        self.is_plain = False

    @property
    def is_in_reasoning(self) -> bool:
        """Whether what was pushed last is within the reasoning."""
        return self._source.is_in_reasoning

    def push(self, text: str) -> list[Part]:
        """Return the parts that this text completes; none of them is empty."""
        if self.is_plain:
            return [text] if text else []
        self._source.text += text
        return self._read()

    def finish(self) -> list[Part]:
        """Return what is left at the end."""
        self._source.is_last = True
        return [] if self.is_plain else self._read()

    def _read(self) -> list[Part]:
        parts: list[Part] = []
        for part in self._reading:
            if part is None:
                return parts
            parts.append(part)
        self.is_plain = True
        if self._source.text:
            parts.append(self._source.text)
            self._source.text = ""
        return parts
