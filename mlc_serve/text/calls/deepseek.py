"""Calls of DeepSeek's models. V3 and R1 name the type of a call and put its arguments into a code fence.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Oslo"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

V3.1 writes the arguments behind the name.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo"}<｜tool▁call▁end｜>…
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import ClassVar

from mlc_serve.text.calls.call_format import Functions
from mlc_serve.text.calls.json_calls import arguments
from mlc_serve.text.calls.lark import Lark, rules_of_calls
from mlc_serve.text.calls.marked_calls import marked_calls
from mlc_serve.text.calls.scan import Scan
from mlc_serve.text.calls.source import Reading, Source, attempt, skip, skip_space

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"

_NAME = re.compile(r"[^\s<]*")
_FENCE = "```"


class DeepSeekFenced:
    """A CallFormat. It reads both forms, and forces the one of V3 and R1."""

    special_texts: ClassVar[Collection[str]] = (CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, SEPARATOR)
    begin: ClassVar[str | None] = CALLS_BEGIN

    def read(self, source: Source, functions: Functions) -> Reading[None]:  # noqa: ARG002
        """See CallFormat."""
        return marked_calls(source, CALLS_BEGIN, lambda: _calls(source))

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""

        def call(name: str, arguments: str) -> str:
            begin, end = lark.text(f"{name}\n{_FENCE}json\n"), lark.text(f"\n{_FENCE}")
            opening = f"{lark.mark(CALL_BEGIN)} {lark.text('function')} {lark.mark(SEPARATOR)}"
            return f"{opening} {begin} {arguments} {end} {lark.mark(CALL_END)}"

        return rules_of_calls(
            functions,
            call,
            lark,
            lead=lead,
            between=lark.text("\n") if parallel else None,
            closing=lark.mark(CALLS_END),
        )


class DeepSeekPlain:
    """A CallFormat. It reads both forms, and forces the one of V3.1."""

    special_texts: ClassVar[Collection[str]] = DeepSeekFenced.special_texts
    begin: ClassVar[str | None] = CALLS_BEGIN

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        """See CallFormat."""
        return DeepSeekFenced().read(source, functions)

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""

        def call(name: str, arguments: str) -> str:
            opening = f"{lark.mark(CALL_BEGIN)} {lark.text(name)} {lark.mark(SEPARATOR)}"
            return f"{opening} {arguments} {lark.mark(CALL_END)}"

        return rules_of_calls(
            functions,
            call,
            lark,
            lead=lead,
            between="" if parallel else None,
            closing=lark.mark(CALLS_END),
        )


def _calls(source: Source) -> Reading[bool]:
    """Yield the calls with which the text begins, and return whether there are any."""
    has_called = False
    while (name := (yield from attempt(source, _head))) is not None:
        has_called = True
        yield from arguments(source, name, (CALL_END, CALLS_END))
        yield from skip_space(source)
        yield from skip(source, _FENCE)
        yield from skip(source, CALL_END)
        yield from skip_space(source)
    if has_called:
        yield from skip(source, CALLS_END)
    return has_called


def _head(scan: Scan) -> str:
    """Return the name in what stands before the arguments, in either form."""
    scan.space()
    scan.word(CALL_BEGIN)
    name = scan.name(_NAME)
    scan.word(SEPARATOR)
    scan.space()
    if not scan.is_before("{"):
        name = scan.name(_NAME)
        scan.space()
        if scan.option(_FENCE):
            scan.word("json")
            scan.space()
    scan.ahead("{")
    return name
