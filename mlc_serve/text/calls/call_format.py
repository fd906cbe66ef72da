"""CallFormat: how a family of models writes calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

from mlc_serve.text.calls.lark import Lark
from mlc_serve.text.calls.source import Reading, Source

# The functions that may be called: the JSON schema of each one's arguments, by name.
Functions = Mapping[str, Mapping[str, Any]]


class CallFormat(Protocol):
    """The form in which a family of models writes calls."""

    # The texts of special tokens that the reader needs, although special tokens are not part of an answer.
    special_texts: ClassVar[Collection[str]]
    # The text with which all calls begin, or None if they begin like other answers.
    begin: ClassVar[str | None]

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        """Yield the content and the calls of an answer, in their order, up to its end. What looks like a call
        but isn't is content.
        """

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """Return rules in Lark, of which `calls` is the first: one call in this form, or one or more if
        `parallel`, with the arguments that the function's schema allows.

        `lead` is the expression of `begin` and of what may come before it.
        """
