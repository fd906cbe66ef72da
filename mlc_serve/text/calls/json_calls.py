"""Reads calls that are JSON objects, in all forms of written_calls, and passes on their arguments as they are
generated if the name comes before them.

A call is complete when its JSON is: an end mark may be missing, or may occur inside a string. What looks like
a call but isn't (no JSON, no name, arguments that are not an object) stays in the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from mlc_serve.text.calls.json_copier import JsonCopier
from mlc_serve.text.calls.parts import CallArguments, CallEnd, CallStart
from mlc_serve.text.calls.scan import MismatchError, Scan
from mlc_serve.text.calls.source import Reading, Source, attempt, peek, skip, skip_space, text_until
from mlc_serve.text.calls.written_calls import calls_in

_FENCE = "```"
_LANGUAGE = re.compile(r"\w*")
_BETWEEN = re.compile(r"[\s,;]*")
_ARGUMENTS = ('"arguments"', '"parameters"')
# The keys with which an object that is a call may begin.
_KEYS = ('"name"', *_ARGUMENTS, '"function"', '"type"', '"id"', '"index"')


class _Head(NamedTuple):
    """What stands before the arguments of a call."""

    name: str
    is_listed: bool = False


def json_calls(
    source: Source, ends: Collection[str], accepts: Callable[[str], bool] = lambda _name: True
) -> Reading[bool]:
    """Yield the calls with which the text begins, and return whether there are any.

    `ends` are the marks that end arguments that turn out not to be JSON. Calls of functions that aren't
    accepted are no calls.
    """
    fence = yield from peek(source, _fence)
    if fence is None:
        return False
    head = yield from attempt(source, lambda scan: _first_head(scan, accepts))
    if head is None:
        is_whole = yield from _whole_calls(source, _first_value, accepts)
    else:
        is_whole = yield from _object(source, head.name, ends)
    if is_whole:
        yield from _further_calls(source, ends, accepts)
        yield from _closing(source, (head is not None and head.is_listed, "]"), (fence[0], _FENCE))
    return is_whole or head is not None


def arguments(source: Source, name: str, ends: Collection[str]) -> Reading[bool]:
    """Yield a call whose arguments begin the text, and return whether they are whole.

    If they turn out not to be JSON, the rest up to an end mark is passed on as it is: what was already sent
    can't be taken back, and clients report the mistake to the model.
    """
    yield CallStart(name)
    copier = JsonCopier()
    while True:
        copied, end = copier.copy(source.text, 0, is_last=source.is_last)
        source.drop(end)
        if copied:
            yield CallArguments(copied)
        if copier.is_whole:
            yield CallEnd()
            return True
        if copier.is_broken or source.is_last:
            yield from text_until(source, ends, CallArguments)
            return False
        yield None


def _object(source: Source, name: str, ends: Collection[str]) -> Reading[bool]:
    """Yield a call whose arguments begin the text, and skip the rest of the object around them."""
    is_whole = yield from arguments(source, name, ends)
    rest = JsonCopier(in_object=True)
    while is_whole:
        _, end = rest.copy(source.text, 0, is_last=source.is_last)
        source.drop(end)
        if rest.is_whole or rest.is_broken or source.is_last:
            break
        yield None
    return is_whole


def _further_calls(source: Source, ends: Collection[str], accepts: Callable[[str], bool]) -> Reading[None]:
    """Yield the calls that follow another one, up to one that is not whole."""
    is_whole = True
    while is_whole:
        head = yield from attempt(source, lambda scan: _further_head(scan, accepts))
        if head is None:
            is_whole = yield from _whole_calls(source, _further_value, accepts)
        else:
            is_whole = yield from _object(source, head.name, ends)


def _whole_calls(
    source: Source, value: Callable[[Scan], None], accepts: Callable[[str], bool]
) -> Reading[bool]:
    """Yield the calls in the value with which the text begins, once it is complete; return whether there are
    any.
    """
    found = yield from peek(source, value)
    if found is None:
        return False
    _, end = found
    copier, copies = JsonCopier(), []
    while True:
        copied, end = copier.copy(source.text, end, is_last=source.is_last)
        copies.append(copied)
        if copier.is_whole or copier.is_broken or source.is_last:
            break
        yield None
    calls = calls_in("".join(copies)) if copier.is_whole else []
    if not all(accepts(call.name) for call in calls):
        return False
    if calls:
        source.drop(end)
    for call in calls:
        yield from (CallStart(call.name), CallArguments(call.arguments), CallEnd())
    return bool(calls)


def _closing(source: Source, *opened: tuple[bool, str]) -> Reading[None]:
    """Skip the end of the list and of the code fence if they were opened before the first call."""
    for is_open, word in opened:
        if is_open:
            yield from skip_space(source)
            yield from skip(source, word)


def _fence(scan: Scan) -> bool:
    scan.space()
    is_fenced = scan.option(_FENCE)
    if is_fenced:
        scan.space(_LANGUAGE)
        scan.space()
    return is_fenced


def _first_head(scan: Scan, accepts: Callable[[str], bool]) -> _Head:
    _fence(scan)
    is_listed = scan.option("[")
    scan.space()
    return _Head(_name(scan, accepts), is_listed)


def _further_head(scan: Scan, accepts: Callable[[str], bool]) -> _Head:
    scan.space(_BETWEEN)
    return _Head(_name(scan, accepts))


def _name(scan: Scan, accepts: Callable[[str], bool]) -> str:
    """Return the name in `{"name": "f", "arguments": {`, and stop before the last brace."""
    scan.word("{")
    scan.space()
    scan.word('"name"')
    _separator(scan, ":")
    name = scan.json_string()
    _separator(scan, ",")
    scan.word(scan.ahead(*_ARGUMENTS))
    _separator(scan, ":")
    scan.ahead("{")
    if not (name and accepts(name)):
        raise MismatchError
    return name


def _separator(scan: Scan, word: str) -> None:
    scan.space()
    scan.word(word)
    scan.space()


def _first_value(scan: Scan) -> None:
    _fence(scan)
    _stay_before_call(scan)


def _further_value(scan: Scan) -> None:
    scan.space(_BETWEEN)
    _stay_before_call(scan)


def _stay_before_call(scan: Scan) -> None:
    """Stop before a list of objects, or before an object that may be a call."""
    start = scan.position
    if scan.option("["):
        scan.space()
    scan.word("{")
    scan.space()
    scan.ahead(*_KEYS)
    scan.position = start
