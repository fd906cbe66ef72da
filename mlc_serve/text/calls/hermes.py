"""Calls of the Hermes and Qwen2.5 models, which many others write, too.

<tool_call>
{"name": "get_weather", "arguments": {"city": "Oslo"}}
</tool_call>
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import ClassVar

from mlc_serve.text.calls.call_format import Functions
from mlc_serve.text.calls.json_calls import json_calls
from mlc_serve.text.calls.lark import Lark, rules_of_calls
from mlc_serve.text.calls.marked_calls import marked_calls
from mlc_serve.text.calls.source import Reading, Source, skip, skip_space

START_TAG = "<tool_call>"
END_TAG = "</tool_call>"


class Hermes:
    """A CallFormat. White space after a call belongs to the call."""

    special_texts: ClassVar[Collection[str]] = (START_TAG, END_TAG)
    begin: ClassVar[str | None] = START_TAG

    def read(self, source: Source, functions: Functions) -> Reading[None]:  # noqa: ARG002
        """See CallFormat."""
        return marked_calls(source, START_TAG, lambda: _calls(source, lambda _name: True))

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""

        def call(name: str, arguments: str) -> str:
            begin = lark.text(f'\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": ')
            return f"{begin} {arguments} {lark.text('}' + chr(10))} {lark.mark(END_TAG)}"

        between = f"{lark.text(chr(10))} {lark.mark(START_TAG)}" if parallel else None
        return rules_of_calls(functions, call, lark, lead=lead, between=between)


class Generic:
    """Calls of models that were not trained on a form, and are told Hermes' form in the prompt.

    Such models may forget the tags: an answer that begins with a call of an offered function is also read.
    """

    special_texts: ClassVar[Collection[str]] = Hermes.special_texts
    begin: ClassVar[str | None] = START_TAG

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        """See CallFormat."""
        if (yield from _calls(source, functions.__contains__)):
            yield from skip_space(source)
        yield from Hermes().read(source, functions)

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""
        return Hermes().rules(functions, lark, lead=lead, parallel=parallel)


def _calls(source: Source, accepts: Callable[[str], bool]) -> Reading[bool]:
    """Yield the calls with which the text begins, and skip an end tag. Return whether there are any."""
    if not (yield from json_calls(source, (END_TAG, START_TAG), accepts)):
        return False
    yield from skip_space(source)
    yield from skip(source, END_TAG)
    return True
