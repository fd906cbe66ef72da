"""Writes grammars in llguidance's variant of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

# Weak models repeat a call without end if they must call and may call again.
MAX_FURTHER_CALLS = 15
# The layout of json.dumps, in which models see calls in their prompts. What can't be enforced becomes a
# warning, and grammar.Grammars decides whether to refuse it.
_LAYOUT = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False, "lenient": True}


class Lark:
    """Writes expressions. `special_ids` are the special tokens of the tokenizer by their text."""

    def __init__(self, special_ids: Mapping[str, int]) -> None:
        self._special_ids = special_ids

    def text(self, text: str) -> str:
        """Return an expression for a text, in which names of special tokens are no tokens."""
        return json.dumps(text)

    def mark(self, text: str) -> str:
        """Return an expression for a special token, or for its text if the tokenizer has no such token."""
        token_id = self._special_ids.get(text)
        return self.text(text) if token_id is None else f"<[{token_id}]>"

    def rule_of_text(self, rule: str, end: str) -> str:
        """Return a rule: any text up to and including `end`, which may be a special token."""
        if end in self._special_ids:
            return f"{rule}: /(.|\\n)*/ {self.mark(end)}"
        return f"{rule}[suffix={self.text(end)}]: /(.|\\n)*/"

    def text_without(self, mark: str) -> str:
        """Return an expression of any text in which a mark, which may be a special token, does not occur.

        An expression of text never contains special tokens.
        """
        if mark in self._special_ids:
            return "/(.|\\n)*/"
        return f"/(.|\\n)*/ & ~/(.|\\n)*{re.escape(mark)}(.|\\n)*/"

    def json(self, schema: Mapping[str, Any]) -> str:
        """Return an expression for a JSON value that a schema allows."""
        return f"%json {json.dumps({**schema, 'x-guidance': _LAYOUT})}"


def rules_of_calls(
    functions: Mapping[str, Mapping[str, Any]],
    call: Callable[[str, str], str],
    lark: Lark,
    *,
    lead: str,
    between: str | None,
    closing: str = "",
) -> str:
    """Return rules for calls: `lead`, one call, further ones after `between` unless it is None, `closing`.

    `call` gets a function's name and the rule of its arguments, and returns the expression of a call.
    """
    further = "" if between is None else f"({between} call){{0,{MAX_FURTHER_CALLS}}}"
    names = [f"call_{number}" for number in range(len(functions))]
    lines = [f"calls: {' '.join(filter(None, [lead, 'call', further, closing]))}"]
    lines.append(f"call: {' | '.join(names)}")
    for number, (name, schema) in enumerate(functions.items()):
        lines.append(f"call_{number}: {call(name, f'arguments_{number}')}")
        lines.append(f"arguments_{number}: {lark.json({'type': 'object', **schema})}")
    return "\n".join(lines) + "\n"
