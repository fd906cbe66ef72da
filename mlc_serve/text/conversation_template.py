"""Messages to prompt text by the `conv_template` of an MLC model directory: roles, separators and places to
fill.

Places are filled in the template's own strings alone, never in what a client wrote. Knows no files and no
token ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.chat_template import Message, Tool
from mlc_serve.text.tool_calls import END_TAG, START_TAG

_PLACE = re.compile(r"\{([a-z]+_message|function_string)\}")
_END_OF_REASONING = "</think>"

# A piece of a prompt; None is a place where functions can be described.
_Piece = str | None


@dataclass(frozen=True)
class ConversationTemplate:
    """The fields of a `conv_template` that make the prompt, under their own names, and `prefix`, which every
    prompt begins with.

    `seps` end messages: the last one those of the assistant, the first one all others. `messages` (role,
    content) precede the client's. Functions are described in the last place that the template has for them.
    """

    roles: Mapping[str, str]
    prefix: str = ""
    system_template: str = "{system_message}"
    system_message: str = ""
    add_role_after_system_message: bool = True
    role_templates: Mapping[str, str] = field(default_factory=dict)
    messages: Sequence[tuple[str, str]] = ()
    seps: Sequence[str] = ("",)
    role_content_sep: str = ""
    role_empty_sep: str = ""
    strip_reasoning_in_history: bool = False
    function_string: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, prefix: str = "") -> ConversationTemplate:
        """The template of a mlc-chat-config.json; CheckpointError if a field is missing or malformed."""
        given = {name: value for name, value in config.items() if value is not None}
        try:
            template = TypeAdapter(cls).validate_python(given | {"prefix": prefix})
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, ("conv_template", *first["loc"])))
            raise CheckpointError(f"{path}: {first['msg']}") from error
        if (fault := template._fault()) is not None:
            raise CheckpointError(f"conv_template.{fault}")
        return template

    def _fault(self) -> str | None:
        """What types alone do not say."""
        if "assistant" not in self.roles:
            return "roles: there is no assistant"
        if len(self.seps) not in (1, 2):
            return f"seps: 1 or 2 are needed, there are {len(self.seps)}"
        unknown = sorted({role for role, _ in self.messages} - self.roles.keys())
        return f"messages: there is no role {unknown[0]!r}" if unknown else None

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        *,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt. InvalidRequestError for roles, content, tools or variables that it has no place for."""
        if variables:
            raise InvalidRequestError(
                f"the model's conversation template takes no {min(variables)!r}", "messages"
            )
        pieces = self._system_pieces(messages)
        has_system_text = any(piece != "" for piece in pieces)
        for i, (role, content) in enumerate([*self.messages, *self._turns(messages)]):
            if i or self.add_role_after_system_message or not has_system_text:
                pieces.append(self.roles[role] + self.role_content_sep)
            pieces += _filled(
                self.role_templates.get(role, f"{{{role}_message}}"), f"{role}_message", content
            )
            pieces.append(self.seps[-1 if role == "assistant" else 0])
        if add_generation_prompt:
            pieces.append(self.roles["assistant"] + self.role_empty_sep)
        return self.prefix + self._with_functions(pieces, tools)

    def _system_pieces(self, messages: Sequence[Message]) -> list[_Piece]:
        """The system's text: the client's if it gave any, the template's own otherwise."""
        given = [_text(i, message) for i, message in enumerate(messages) if _is_system(message)]
        if given:
            return list(_filled(self.system_template, "system_message", "\n".join(given)))
        return list(_filled(self.system_template.replace("{system_message}", self.system_message)))

    def _turns(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        """Role and text of each message that is not the system's."""
        last_user = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=0)
        for i, message in enumerate(messages):
            if _is_system(message):
                continue
            role = message.get("role")
            if not isinstance(role, str) or role not in self.roles:
                raise InvalidRequestError(
                    f"the model's conversation template has no role {role!r}", f"messages.{i}.role"
                )
            text = _text(i, message)
            if role == "assistant" and self.strip_reasoning_in_history and i < last_user:
                text = text.rpartition(_END_OF_REASONING)[2]
            yield role, text

    def _with_functions(self, pieces: Sequence[_Piece], tools: Sequence[Tool] | None) -> str:
        """The pieces joined, with the functions in the last place for them, and nothing in other ones."""
        places = [i for i, piece in enumerate(pieces) if piece is None]
        if tools and not places:
            raise InvalidRequestError(
                "the model's conversation template has no place for tools", param="tools"
            )
        functions = _functions_text(tools) if tools else self.function_string
        texts = {i: functions if i == places[-1] else "" for i in places}
        return "".join(texts[i] if piece is None else piece for i, piece in enumerate(pieces))


def _is_system(message: Message) -> bool:
    return message.get("role") in ("system", "developer")


def _filled(template: str, place: str | None = None, content: str = "") -> Iterator[_Piece]:
    """A template's text with `content` in its one place, cut where functions can be described."""
    end = 0
    for found in _PLACE.finditer(template):
        if found[1] == "function_string":
            yield template[end : found.start()]
            yield None
        elif found[1] == place:
            yield template[end : found.start()]
            yield content
        else:
            continue
        end = found.end()
    yield template[end:]


def _functions_text(tools: Sequence[Tool]) -> str:
    return json.dumps([tool.get("function", tool) for tool in tools], ensure_ascii=False)


def _text(index: int, message: Message) -> str:
    """The text of a message, with the calls that it made as the model would write them."""
    calls = [_call_text(call.get("function", call)) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [_content_text(index, message.get("content")), *calls]))


def _content_text(index: int, content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    if isinstance(content, Sequence) and all(
        isinstance(part, Mapping) and "text" in part for part in content
    ):
        return "".join(str(part["text"]) for part in content)
    raise InvalidRequestError("the model takes text alone", param=f"messages.{index}.content")


def _call_text(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments", {})
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    name = json.dumps(function.get("name"), ensure_ascii=False)
    return f'{START_TAG}\n{{"name": {name}, "arguments": {written}}}\n{END_TAG}'
