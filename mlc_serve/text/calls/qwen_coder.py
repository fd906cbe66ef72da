"""Calls of Qwen3-Coder, whose arguments are not JSON.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

A value is a text if the function's schema says so, and JSON otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import count
from typing import Any, ClassVar

from mlc_serve.text.calls.call_format import Functions
from mlc_serve.text.calls.hermes import END_TAG, START_TAG
from mlc_serve.text.calls.json_calls import json_calls
from mlc_serve.text.calls.json_copier import JsonCopier
from mlc_serve.text.calls.lark import MAX_FURTHER_CALLS, Lark
from mlc_serve.text.calls.marked_calls import marked_calls
from mlc_serve.text.calls.parts import CallArguments, CallEnd, CallStart
from mlc_serve.text.calls.scan import Scan
from mlc_serve.text.calls.source import Reading, Source, attempt, skip, skip_space, text_until

_FUNCTION, _END_OF_FUNCTION = "<function=", "</function>"
_PARAMETER, _END_OF_PARAMETER = "<parameter=", "</parameter>"
_NAME = re.compile(r"[^\s<>]*")


class QwenCoder:
    """A CallFormat."""

    special_texts: ClassVar[Collection[str]] = (START_TAG, END_TAG)
    begin: ClassVar[str | None] = START_TAG

    def read(self, source: Source, functions: Functions) -> Reading[None]:
        """See CallFormat. JSON between the tags, as Qwen2.5 writes it, is read, too."""
        return marked_calls(source, START_TAG, lambda: _calls(source, functions))

    def rules(self, functions: Functions, lark: Lark, *, lead: str, parallel: bool) -> str:
        """See CallFormat."""
        again = f"({lark.text(chr(10))} {lark.mark(START_TAG)} call){{0,{MAX_FURTHER_CALLS}}}"
        further = again if parallel else ""
        names = [f"call_{number}" for number in range(len(functions))]
        lines = [f"calls: {lead} call {further}", f"call: {' | '.join(names)}"]
        for name, (function, schema) in zip(names, functions.items(), strict=True):
            lines += _rules_of_function(name, function, schema, lark)
        return "\n".join(lines) + "\n"


def _rules_of_function(rule: str, function: str, schema: Mapping[str, Any], lark: Lark) -> Iterator[str]:
    """Yield the rules of a call, in which each property has its own, optional or not."""
    required, numbers = schema.get("required", ()), count()
    expressions, rules = [], []
    for name, declared in _properties(schema).items():
        parameter = f"{rule}_{next(numbers)}"
        expressions.append(parameter if name in required else f"{parameter}?")
        rules.append(f"{parameter}: {_parameter(name, declared, schema, lark, rule=parameter)}")
    begin = lark.text(f"\n{_FUNCTION}{function}>\n")
    end = f"{lark.text(_END_OF_FUNCTION + chr(10))} {lark.mark(END_TAG)}"
    yield f"{rule}: {begin} {' '.join(expressions)} {end}"
    for line in rules:
        yield from line.splitlines()


def _parameter(name: str, declared: Any, schema: Mapping[str, Any], lark: Lark, *, rule: str) -> str:
    begin, end = lark.text(f"{_PARAMETER}{name}>\n"), f"\n{_END_OF_PARAMETER}\n"
    if not _is_text(declared):
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        declared = declared if isinstance(declared, Mapping) else {}
        return f"{begin} {lark.json({**shared, **declared})} {lark.text(end)}"
    values = [value for value in declared.get("enum", ()) if isinstance(value, str)]
    if values:
        return f"{begin} ({' | '.join(map(lark.text, values))}) {lark.text(end)}"
    return f"{begin} {rule}_text\n{lark.rule_of_text(f'{rule}_text', end)}"


def _calls(source: Source, functions: Functions) -> Reading[bool]:
    name = yield from attempt(source, _head)
    if name is None:
        has_called = yield from json_calls(source, (END_TAG, START_TAG))
    else:
        has_called = True
        yield from _call(source, name, _properties(functions.get(name, {})))
    if has_called:
        yield from skip_space(source)
        yield from skip(source, END_TAG)
    return has_called


def _head(scan: Scan) -> str:
    scan.space()
    scan.word(_FUNCTION)
    name = scan.name(_NAME)
    scan.word(">")
    return name


def _call(source: Source, name: str, properties: Mapping[str, Any]) -> Reading[None]:
    """Yield a call. It is whole at the function's end, or where something else than a parameter follows."""
    yield CallStart(name)
    yield CallArguments("{")
    separator = ""
    while (parameter := (yield from attempt(source, _parameter_head))) is not None:
        yield CallArguments(f"{separator}{json.dumps(parameter, ensure_ascii=False)}: ")
        separator = ", "
        value = _text if _is_text(properties.get(parameter)) else _json_or_text
        if not (yield from value(source)):
            return
    yield from skip_space(source)
    if not source.text:
        return
    yield from skip(source, _END_OF_FUNCTION)
    yield CallArguments("}")
    yield CallEnd()


def _parameter_head(scan: Scan) -> str:
    scan.space()
    scan.word(_PARAMETER)
    name = scan.name(_NAME)
    scan.word(">")
    scan.option("\n")
    return name


def _text(source: Source) -> Reading[bool]:
    """Yield a parameter's value as a JSON string, and return whether its end was reached."""
    yield CallArguments('"')
    ends = ("\n" + _END_OF_PARAMETER, _END_OF_PARAMETER)
    end = yield from text_until(source, ends, lambda text: CallArguments(_escaped(text)))
    if end is None:
        return False
    source.drop(len(end))
    yield CallArguments('"')
    return True


def _json_or_text(source: Source) -> Reading[bool]:
    """Yield a value that is JSON, or else a text, once it is complete. Return whether it is."""
    searched = 0
    while (end := source.text.find(_END_OF_PARAMETER, searched)) < 0:
        if source.is_last:
            return False
        searched = max(len(source.text) - len(_END_OF_PARAMETER) + 1, 0)
        yield None
    written = source.text[:end]
    source.drop(end + len(_END_OF_PARAMETER))
    yield CallArguments(_as_json(written.strip()))
    return True


def _as_json(written: str) -> str:
    """Return a value as valid JSON. What isn't JSON is a text."""
    listed = f"[{written}]"  # so that there are brackets around any value
    copier = JsonCopier()
    copied, end = copier.copy(listed, 0, is_last=True)
    is_one_value = copier.is_whole and end == len(listed) and _length(copied) == 1
    return copied[1:-1] if is_one_value else json.dumps(written, ensure_ascii=False)


def _length(listed: str) -> int | None:
    """Return the length of a JSON list, or None if it is nested too deep for Python."""
    try:
        return len(json.loads(listed))
    except RecursionError:
        return None


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _is_text(declared: Any) -> bool:
    return isinstance(declared, Mapping) and declared.get("type") == "string"
