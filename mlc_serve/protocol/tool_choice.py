"""Whether a model may, must or must not call tools, and which: the forms of `tool_choice`.

"none", "auto", "required"
{"type": "function", "function": {"name": "f"}}
{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", …}]}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from mlc_serve.protocol.fields import JsonObject
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported

Mode = Literal["none", "auto", "required"]
_FORMS = (
    'must be "none", "auto", "required", {"type": "function", "function": {"name": …}} or '
    '{"type": "allowed_tools", "allowed_tools": {"mode": …, "tools": […]}}'
)


@dataclass(frozen=True)
class ChosenTools:
    """Only these functions may be called; with `must_call` one of them must be."""

    names: tuple[str, ...]
    must_call: bool


def _as_choice(value: object) -> object:
    if value in ("none", "auto", "required") or isinstance(value, ChosenTools):
        return value
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(kind, str):
        refuse_invalid(_FORMS)
    if kind not in ("function", "allowed_tools"):
        refuse_unsupported(f"only functions are supported, not {kind[:40]!r}")
    if kind == "allowed_tools":
        return _allowed(value)
    return ChosenTools((_name_in(value),), must_call=True)


def _allowed(value: Mapping[str, Any]) -> ChosenTools:
    """Read the allowed tools, which may be inside `allowed_tools`, as in OpenAI's chat API, or not."""
    inner = value.get("allowed_tools", value)
    tools = inner.get("tools") if isinstance(inner, Mapping) else None
    if not isinstance(tools, list | tuple) or not tools or inner.get("mode") not in ("auto", "required"):
        refuse_invalid(_FORMS)
    names = tuple(_name_in(tool) for tool in tools)
    return ChosenTools(names, must_call=inner["mode"] == "required")


def _name_in(value: object) -> str:
    """Return the function's name, which may be beside the type, as in OpenAI's newer API."""
    function = value.get("function", value) if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        refuse_invalid(_FORMS)
    return name


ToolChoice = Annotated[
    Mode | ChosenTools, BeforeValidator(_as_choice, json_schema_input_type=Mode | JsonObject)
]
