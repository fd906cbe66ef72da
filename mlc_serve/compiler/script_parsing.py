"""Shorter ways through TVM 0.27's parser of scripts, which took three quarters of a model's compile time.

They change how long it takes, and nothing that it returns.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import SimpleNamespace
from typing import Any

from tvm.script.parser.core import doc, evaluator
from tvm.script.parser.core.diagnostics import Source
from tvm.script.parser.core.parser import ScriptMacro
from tvm.tirx.script.parser import entry

_evaluate_any = evaluator._eval_expr


def take_shorter_ways() -> None:
    """Have all scripts of this process parsed so."""
    entry.inspect = SimpleNamespace(**{**vars(inspect), "stack": _callers})
    ScriptMacro._find_parser_def = _parser_of_caller
    Source.as_ast = _tree_of
    evaluator._eval_expr = _evaluated


def _callers() -> list[SimpleNamespace]:
    """The frames that inspect.stack() lists, without the source lines, which only scripts in classes need."""
    frames, frame = [], inspect.currentframe()
    while frame is not None:
        frames.append(SimpleNamespace(frame=frame, code_context=None))
        frame = frame.f_back
    return frames


def _parser_of_caller(_macro: Any) -> Any:
    """As the method does that asks `inspect` for the source lines of all callers, at each call of a macro."""
    frame = inspect.currentframe()
    while frame is not None:
        parser = frame.f_globals.get(ScriptMacro.parser_object_name)
        if parser is not None:
            return parser
        frame = frame.f_back
    raise RuntimeError("a macro was called outside of a TVM script")


def _tree_of(source: Source) -> Any:
    """As the method does that parses a macro's source at each of its calls."""
    return _parsed(source.source)


@cache
def _parsed(source: str) -> Any:
    return doc.parse(source)


def _evaluated(node: Any, values: dict[str, Any] | None) -> Any:
    """As the function does that compiles an expression in order to evaluate it, be it a bare name."""
    if isinstance(node, doc.Constant):
        return node.value
    if isinstance(node, doc.Name) and values is not None and node.id in values:
        return values[node.id]
    return _evaluate_any(node, values)
