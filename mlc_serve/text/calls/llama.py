"""Calls of Llama 3.1 and later: the whole answer is JSON, with the name of a special token before it or not.

<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}; {"name": …}
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import ClassVar

from mlc_serve.text.calls.call_format import Functions
from mlc_serve.text.calls.json_calls import json_calls
from mlc_serve.text.calls.lark import Lark, rules_of_calls
from mlc_serve.text.calls.marked_calls import marked_calls
from mlc_serve.text.calls.source import Reading, Source, skip_space

PYTHON_TAG = "<|python_tag|>"


class Llama:
    """A CallFormat. Without the token, an answer is a call if it begins with one of an offered function."""

    special_texts: ClassVar[Collection[str]] = (PYTHON_TAG,)
    begin: ClassVar[str | None] = None

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        """See CallFormat."""
        if (yield from json_calls(source, (PYTHON_TAG,), functions.__contains__)):
            yield from skip_space(source)
        yield from marked_calls(source, PYTHON_TAG, lambda: json_calls(source, (PYTHON_TAG,)))

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""

        def call(name: str, arguments: str) -> str:
            begin = lark.text(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "parameters": ')
            return f"{begin} {arguments} {lark.text('}')}"

        between = lark.text("; ") if parallel else None
        return rules_of_calls(functions, call, lark, lead=lead, between=between)
