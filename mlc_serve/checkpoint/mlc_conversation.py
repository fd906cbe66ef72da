"""The conversation template that mlc-chat-config.json declares, in all forms that MLC has written.

`conv_template` is an object, or, in directories from before March 2024, the name of one of MLC's templates.
There a `conv_config` may replace some of its fields, which had other names then.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from mlc_serve.errors import CheckpointError
from mlc_serve.text.templates.named_conversations import named_conversation

Fields = dict[str, Any]

_CUSTOM = "custom"  # the older name for a template that conv_config describes completely
_DEFAULT_BOS = 1  # MLC's, for a configuration that has none


def read_conversation(chat_config: Mapping[str, Any]) -> Fields:
    """The fields of the template, under their present names; empty if there is none.

    Raises CheckpointError, which names the key, for a template that is unknown or malformed.
    """
    fields = _declared(chat_config.get("conv_template"))
    replaced = chat_config.get("conv_config")
    if replaced is None:
        return fields
    if not isinstance(replaced, Mapping):
        raise CheckpointError(f"conv_config is {reprlib.repr(replaced)}, but must be an object")
    return _replaced(fields, replaced, chat_config.get("bos_token_id"))


def _declared(template: Any) -> Fields:
    if template is None or template == _CUSTOM:
        return {}
    if isinstance(template, str):
        return named_conversation(template)
    if not isinstance(template, dict):
        raise CheckpointError(
            f"conv_template is {reprlib.repr(template)}, but must be an object or the name of a template"
        )
    return template


def _replaced(fields: Fields, older: Mapping[str, Any], bos_token_id: Any) -> Fields:
    """The fields with those that a `conv_config` replaces."""
    given = {key: value for key, value in older.items() if value is not None}
    unknown = sorted(given.keys() - _RENAMED.keys() - _CONVERTED.keys() - {"name", "offset"})
    if unknown:
        raise CheckpointError(f"conv_config.{unknown[0]} is not supported")
    replaced = fields | {_RENAMED[key]: value for key, value in given.items() if key in _RENAMED}
    for key, convert in _CONVERTED.items():
        if key in given:
            try:
                convert(replaced, given[key], bos_token_id)
            except (TypeError, ValueError, LookupError) as error:
                shown = reprlib.repr(given[key])
                raise CheckpointError(f"conv_config.{key} is {shown}, which is not supported") from error
    return replaced


def _check_style(_fields: Fields, style: Any, _bos: Any) -> None:
    """Other styles send a message without its role. The template LM does that, too."""
    if style != 0:
        raise ValueError


def _set_roles(fields: Fields, roles: Any, _bos: Any) -> None:
    if not isinstance(roles, list):
        raise TypeError
    user, assistant = roles
    fields["roles"] = {**fields.get("roles", {}), "user": user, "assistant": assistant}


def _set_messages(fields: Fields, messages: Any, _bos: Any) -> None:
    """The older messages have the texts of roles, where the present ones have their names."""
    names = {text: name for name, text in fields["roles"].items() if name in ("user", "assistant")}
    fields["messages"] = [[names[role], content] for role, content in messages]


def _set_system(fields: Fields, system: Any, _bos: Any) -> None:
    """The older text is the whole beginning of a prompt. If there is any, the first separator ends it."""
    if not isinstance(system, str):
        raise TypeError
    fields["system_message"] = system
    fields["system_template"] = "{system_message}" + (fields["seps"][0] if system else "")


def _set_begin(fields: Fields, adds_begin: Any, bos_token_id: Any) -> None:
    prefix = fields.get("system_prefix_token_ids") or []
    begin = [_DEFAULT_BOS if bos_token_id is None else bos_token_id]
    own = prefix[1:] if prefix[:1] == begin else prefix
    fields["system_prefix_token_ids"] = begin + own if adds_begin else own


_RENAMED = {
    "seps": "seps",
    "role_msg_sep": "role_content_sep",
    "role_empty_sep": "role_empty_sep",
    "stop_str": "stop_str",
    "stop_tokens": "stop_token_ids",
    "prefix_tokens": "system_prefix_token_ids",
}
# In the order in which they depend on one another.
_CONVERTED: dict[str, Callable[[Fields, Any, Any], None]] = {
    "separator_style": _check_style,
    "roles": _set_roles,
    "messages": _set_messages,
    "system": _set_system,
    "add_bos": _set_begin,
}
