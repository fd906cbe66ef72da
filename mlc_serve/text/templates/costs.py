"""Upper limits, in bytes, on what each filter, test, function and method that a template can call costs.

Each cost is a function of a meter and of the call's arguments, the filtered value or the method's owner
first. It returns, before the work is done, how many bytes will be built or read; quadratic copying counts
each copy. The docstring of a cost says what the call does or returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import TemplateRuntimeError

from mlc_serve.text.templates.meter import ELEMENT, Meter, text_size

Cost = Callable[..., int]

# The length of the longest escape of one character: `\ud83d\ude42` in JSON.
_ESCAPED = 12
_DIGITS = re.compile(r"\d+")
_NESTED_FIELD = re.compile(r"\{[^{}]*:[^{}]*\{")
_FIELDS = re.compile(r"[%{]")


def nothing(_meter: Meter, *_args: Any, **_named: Any) -> int:
    """A call that only passes its value on."""
    return 0


def whole(meter: Meter, *args: Any, **named: Any) -> int:
    """The size of all arguments, including what they contain."""
    return sum(map(meter.weigh, (*args, *named.values())))


def times(factor: int) -> Cost:
    """`factor` times the size of all arguments."""
    return lambda meter, *args, **named: factor * whole(meter, *args, **named)


def elements(_meter: Meter, value: Any = (), *_args: Any, **_named: Any) -> int:
    """The elements of the first argument, without what they contain."""
    return ELEMENT * _length(value)


def squared(meter: Meter, *args: Any, **named: Any) -> int:
    """Work that reads a text again for each of its parts."""
    size = whole(meter, *args, **named)
    return size + size * size // 16


def searched(meter: Meter, text: Any, *args: Any, **named: Any) -> int:
    """A search in a text, which at worst compares many letters at each position."""
    return whole(meter, text) * (1 + min(whole(meter, *args, **named), 1024) // 16)


def searched_backwards(meter: Meter, text: Any, *args: Any, **named: Any) -> int:
    """A search from the end, or for a set of letters: all of them may be compared at each position."""
    return whole(meter, text) * (1 + whole(meter, *args, **named) // 16)


def padded(meter: Meter, text: Any, width: Any = 80, *args: Any, **named: Any) -> int:
    """A text that is padded to a width."""
    return whole(meter, text, *args, **named) + 4 * _count(width)


def tabs(meter: Meter, text: Any, tabsize: Any = 8) -> int:
    """A text in which each tab becomes `tabsize` spaces."""
    return whole(meter, text) + 4 * _text(text).count("\t") * _count(tabsize)


def indented(meter: Meter, text: Any, width: Any = 4, *args: Any, **named: Any) -> int:
    """A text in which each line is indented."""
    indent = whole(meter, width) if isinstance(width, str) else 4 * _count(width)
    return whole(meter, text, *args, **named) + (2 + len(_text(text))) * indent


def replaced(meter: Meter, text: Any, old: Any = "", new: Any = "", *args: Any, **named: Any) -> int:
    """A text in which each `old` becomes a `new`."""
    size = searched(meter, text, old)
    return size + (1 + _text(text).count(_text(old))) * whole(meter, new, *args, **named)


def joined(meter: Meter, values: Any, d: Any = "", attribute: Any = None) -> int:
    """The values as one text, with `d` between them."""
    return _ESCAPED * whole(meter, values, attribute) + _length(values) * whole(meter, d)


def joined_by(meter: Meter, separator: Any, values: Any = ()) -> int:
    """The values as one text, joined by a method of the separator."""
    return joined(meter, values, separator)


def split(meter: Meter, text: Any, separator: Any = None, *args: Any, **named: Any) -> int:
    """The parts of a text between separators, or between white space."""
    parts = len(_text(text)) // 2 if separator is None else _text(text).count(_text(separator) or "\0")
    return searched_backwards(meter, text, separator, *args, **named) + 2 * ELEMENT * (1 + parts)


def translated(meter: Meter, text: Any, table: Any = None) -> int:
    """A text in which each letter is replaced by its entry in the table."""
    values = table.values() if isinstance(table, Mapping) else ()
    longest = max((text_size(value) for value in values if isinstance(value, str)), default=4)
    return whole(meter, text, table) + len(_text(text)) * max(longest, 4)


def formatted(meter: Meter, form: Any, *args: Any, **named: Any) -> int:
    """A format string: each field is at most as long as all arguments together, or as the width in the
    string.

    Raises TemplateRuntimeError if the arguments give the widths.
    """
    text = _text(form)
    if _NESTED_FIELD.search(text) or "*" in text:
        raise TemplateRuntimeError("it formats to a width that is an argument")
    widths = sum(map(int, _DIGITS.findall(text)))
    places = 1 + len(_FIELDS.findall(text))
    return whole(meter, form) + 4 * widths + places * _ESCAPED * whole(meter, *args, **named)


def modulo(meter: Meter, value: Any, *args: Any) -> int:
    """`%`, which formats if the left side is a text."""
    if isinstance(value, bytes):
        raise TemplateRuntimeError("it formats bytes")
    return formatted(meter, value, *args) if isinstance(value, str) else 0


def sorted_(meter: Meter, *args: Any, **named: Any) -> int:
    """Values that are compared with each other, each about twenty times."""
    return 20 * whole(meter, *args, **named)


def summed(meter: Meter, values: Any, attribute: Any = None, start: Any = 0) -> int:
    """A sum, which copies the sum so far at each step if the values are lists."""
    parts = 0 if isinstance(start, int | float) else whole(meter, values, start)
    return _extent(values) + _length(values) * parts + whole(meter, attribute)


def batched(_meter: Meter, values: Any, linecount: Any = 1, fill_with: Any = None) -> int:  # noqa: ARG001
    """Lists of `linecount` values each, the last of which may be filled up."""
    return 2 * ELEMENT * _length(values) + ELEMENT * _count(linecount)


def parted(_meter: Meter, values: Any, slices: Any = 1, fill_with: Any = None) -> int:  # noqa: ARG001
    """`slices` lists of values."""
    return 2 * ELEMENT * _length(values) + 2 * ELEMENT * _count(slices)


def rounded(meter: Meter, value: Any, precision: Any = 0, *_args: Any, **_named: Any) -> int:
    """A number that is multiplied by a power of ten."""
    if not isinstance(value, int | float) or _count(precision) > 300:
        raise TemplateRuntimeError("it rounds something that is not a number, or to too many digits")
    return whole(meter, value)


def as_json(
    meter: Meter,
    value: Any,
    ensure_ascii: Any = False,  # noqa: ARG001
    indent: Any = None,
    separators: Any = None,
    sort_keys: Any = False,  # noqa: ARG001
) -> int:
    """JSON with escapes. If indented, each element has its own line; the depth is at most their number."""
    size = whole(meter, value)
    lines = 1 + size // ELEMENT
    width = whole(meter, indent) if isinstance(indent, str) else _count(indent)
    return _ESCAPED * size + lines * (width * min(lines, 1000) + whole(meter, separators))


def wrapped(meter: Meter, text: Any, *args: Any, **named: Any) -> int:
    """A text in lines of any width with any separator between them."""
    return squared(meter, text) + len(_text(text)) * whole(meter, *args, **named)


def filler(meter: Meter, n: Any = 5, html: Any = True, min: Any = 20, max: Any = 100) -> int:
    """Paragraphs of meaningless words."""
    return whole(meter, html, min) + 2 * ELEMENT * (1 + _count(n)) * (1 + _count(max))


def dated(meter: Meter, pattern: Any = "") -> int:
    """A date in the form of a pattern, which may contain widths."""
    if any(len(digits) > 3 for digits in _DIGITS.findall(_text(pattern))):
        raise TemplateRuntimeError("it writes a date that is too wide")
    return 256 * whole(meter, pattern)


# All filters except those that only pick something out of their value.
FILTERS: Mapping[str, Cost] = {
    **dict.fromkeys(("map", "select", "reject", "selectattr", "rejectattr"), elements),
    **dict.fromkeys(("list", "reverse"), elements),
    **dict.fromkeys(("capitalize", "lower", "title", "upper", "safe"), times(6)),
    **dict.fromkeys(("int", "float", "truncate", "wordcount", "filesizeformat"), whole),
    **dict.fromkeys(("e", "escape", "forceescape", "string", "urlencode", "xmlattr"), times(_ESCAPED)),
    **dict.fromkeys(("dictsort", "groupby", "max", "min", "sort", "unique"), sorted_),
    **dict.fromkeys(("striptags", "urlize"), squared),
    "batch": batched,
    "center": padded,
    "format": formatted,
    "indent": indented,
    "join": joined,
    "pprint": times(200),
    "replace": replaced,
    "round": rounded,
    "slice": parted,
    "sum": summed,
    "tojson": as_json,
    "trim": searched_backwards,
    "wordwrap": wrapped,
}

# Tests that look at more than a value's type.
TESTS: Mapping[str, Cost] = {
    **dict.fromkeys(("==", "eq", "equalto", "!=", "ne", "lower", "upper"), whole),
    **dict.fromkeys((">", "gt", "greaterthan", ">=", "ge", "<", "lt", "lessthan", "<=", "le"), whole),
    **dict.fromkeys(("divisibleby", "even", "odd"), modulo),
    "in": whole,
}

_TEXT_METHODS: Mapping[str, Cost] = {
    **dict.fromkeys(("capitalize", "casefold", "lower", "swapcase", "title", "upper"), times(6)),
    **dict.fromkeys(("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier"), whole),
    **dict.fromkeys(("islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper"), whole),
    **dict.fromkeys(("startswith", "endswith", "removeprefix", "removesuffix"), whole),
    **dict.fromkeys(("count", "find", "index", "partition"), searched),
    **dict.fromkeys(("rfind", "rindex", "rpartition", "strip", "lstrip", "rstrip"), searched_backwards),
    **dict.fromkeys(("split", "rsplit", "splitlines"), split),
    **dict.fromkeys(("center", "ljust", "rjust"), padded),
    **dict.fromkeys(("format", "format_map"), formatted),
    "encode": times(4),
    "expandtabs": tabs,
    "join": joined_by,
    "maketrans": times(4),
    "replace": replaced,
    "translate": translated,
    "zfill": padded,
}

_METHODS: Mapping[type, Mapping[str, Cost]] = {
    str: _TEXT_METHODS,
    bytes: {"decode": times(4)},
    list: {"copy": elements, "count": whole, "index": whole},
    tuple: {"count": whole, "index": whole},
    dict: {
        **dict.fromkeys(("items", "keys", "values"), nothing),
        "copy": elements,
        "get": lambda meter, _owner, *args: whole(meter, *args[:1]),
        "fromkeys": lambda meter, _owner, *args: times(2)(meter, *args),
    },
    int: dict.fromkeys(("bit_length", "is_integer"), nothing),
    float: dict.fromkeys(("as_integer_ratio", "hex", "is_integer"), nothing),
    range: dict.fromkeys(("count", "index"), whole),
}


def method_cost(owner: Any, name: str) -> Cost | None:
    """Return the cost of a built-in method, which takes the owner first, or None if it may not be called."""
    kind = owner if isinstance(owner, type) else type(owner)
    methods = next((_METHODS[base] for base in kind.__mro__ if base in _METHODS), {})
    return methods.get(name)


def as_text(meter: Meter, values: Any) -> int:
    """The values as texts, as Python writes them."""
    return sum(text_size(value) if type(value) is str else _ESCAPED * meter.weigh(value) for value in values)


def sum_of(left: Any, right: Any) -> int:
    """Two texts or lists, concatenated."""
    return _extent(left) + _extent(right)


def product_of(left: Any, right: Any) -> int:
    """A text or a list, repeated."""
    if isinstance(left, int) and isinstance(right, int):
        return 0
    many, count = (right, left) if isinstance(left, int) else (left, right)
    return _extent(many) * (_count(count) if isinstance(count, int) else 1)


def extent(_meter: Meter, value: Any, *_args: Any) -> int:
    """A text or a list, without what its elements contain."""
    return _extent(value)


def _extent(value: Any) -> int:
    """Return the bytes of a text, or of a list without what its elements contain."""
    if isinstance(value, str):
        return _ESCAPED * len(value) if hasattr(value, "__html__") else text_size(value)
    return ELEMENT * _length(value)


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 0


def _count(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
