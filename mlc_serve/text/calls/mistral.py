"""Calls of Mistral's models, in their older and their newer form.

[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}}]
[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import ClassVar

from mlc_serve.text.calls.call_format import Functions
from mlc_serve.text.calls.json_calls import arguments, json_calls
from mlc_serve.text.calls.lark import Lark, rules_of_calls
from mlc_serve.text.calls.marked_calls import marked_calls
from mlc_serve.text.calls.scan import Scan
from mlc_serve.text.calls.source import Reading, Source, attempt

CALLS, ARGS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"

_NAME = re.compile(r"[^\s\[\]{}]*")


class MistralList:
    """A CallFormat. It reads both forms, and forces the older one, a list."""

    special_texts: ClassVar[Collection[str]] = (CALLS, ARGS, CALL_ID)
    begin: ClassVar[str | None] = CALLS

    def read(self, source: Source, functions: Functions) -> Reading[None]:  # noqa: ARG002
        """See CallFormat."""
        return marked_calls(source, CALLS, lambda: _calls(source))

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""

        def call(name: str, arguments: str) -> str:
            begin = lark.text(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": ')
            return f"{begin} {arguments} {lark.text('}')}"

        between = lark.text(", ") if parallel else None
        lead = f'{lead} " "? {lark.text("[")}'
        return rules_of_calls(functions, call, lark, lead=lead, between=between, closing=lark.text("]"))


class MistralNamed:
    """A CallFormat. It reads both forms, and forces the newer one."""

    special_texts: ClassVar[Collection[str]] = MistralList.special_texts
    begin: ClassVar[str | None] = CALLS

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        """See CallFormat."""
        return MistralList().read(source, functions)

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""

        def call(name: str, arguments: str) -> str:
            return f"{lark.text(name)} {lark.mark(ARGS)} {arguments}"

        between = lark.mark(CALLS) if parallel else None
        return rules_of_calls(functions, call, lark, lead=lead, between=between)


def _calls(source: Source) -> Reading[bool]:
    name = yield from attempt(source, _head)
    if name is None:
        return (yield from json_calls(source, (CALLS,)))
    yield from arguments(source, name, (CALLS,))
    return True


def _head(scan: Scan) -> str:
    """Return the name in `f[CALL_ID]123456789[ARGS]{`, of which the marks may be missing."""
    scan.space()
    name = scan.name(_NAME)
    if scan.option(CALL_ID):
        scan.name(_NAME)
    scan.option(ARGS)
    scan.space()
    scan.ahead("{")
    return name
