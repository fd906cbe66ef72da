"""Renders conversations with the `conv_template` of an MLC model directory: roles, separators, placeholders.

Placeholders are filled only in the template's own strings, never in a client's text. Reads no files, and
knows nothing about token ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from mlc_serve.errors import CheckpointError, InvalidRequestError
from mlc_serve.text.calls.hermes import END_TAG, START_TAG
from mlc_serve.text.conversation import CheckLength, Conversation, Message, PromptTemplate, Tool
from mlc_serve.text.pieces import Piece, text_of
from mlc_serve.text.templates.meter import Meter
from mlc_serve.text.text_search import TextSearch

_PLACE = re.compile(r"\{([a-z]+_message|function_string)\}")
_END_OF_REASONING = "</think>"


class _Part(NamedTuple):
    """A part of a prompt: the template's own text or a client's; None is where functions can be described."""

    text: str | None
    is_own: bool = True


@dataclass(frozen=True)
class ConversationTemplate(PromptTemplate):
    """The fields of a `conv_template` that determine the prompt, under their own names; `prefix`, which
    begins every prompt; and `control_texts`, the names of the tokenizer's control tokens.

    The last of `seps` ends the assistant's messages, the first one all others. `messages` (role, content)
    precede the client's. Functions are described in the last place that the template has for them.
    """

    roles: Mapping[str, str]
    prefix: str = ""
    control_texts: frozenset[str] = frozenset()
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
    def from_config(
        cls, config: Mapping[str, Any], *, prefix: str = "", control_texts: Collection[str] = ()
    ) -> ConversationTemplate:
        """Return the template of mlc-chat-config.json. Raises CheckpointError if a field is missing or
        malformed.
        """
        given = {name: value for name, value in config.items() if value is not None}
        try:
            template = TypeAdapter(cls).validate_python(
                given | {"prefix": prefix, "control_texts": frozenset(control_texts)}
            )
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, ("conv_template", *first["loc"])))
            raise CheckpointError(f"{path}: {first['msg']}") from error
        if (fault := template._fault()) is not None:
            raise CheckpointError(f"conv_template.{fault}")
        return template

    @property
    def jinja_source(self) -> None:
        """None, since the template is not written in Jinja2."""

    @property
    def source(self) -> str:
        """See PromptTemplate. Reasoning that is stripped from earlier messages shows that there is some."""
        marks = _END_OF_REASONING if self.strip_reasoning_in_history else ""
        return "\n".join([self.system_template, self.role_empty_sep, *self.role_templates.values(), marks])

    @property
    def takes_tools(self) -> bool:
        """See PromptTemplate."""
        places = [self.system_template, *self.role_templates.values()]
        return any("{function_string}" in place for place in places)

    @property
    def takes_calls(self) -> bool:
        """See PromptTemplate."""
        return "tool" in self.roles

    @property
    def takes_system(self) -> bool:
        """See PromptTemplate."""
        return "{system_message}" in self.system_template

    def _fault(self) -> str | None:
        """Return what is wrong with the template although its types are right, or None if nothing is."""
        if "assistant" not in self.roles:
            return "roles: there is no assistant"
        if len(self.seps) not in (1, 2):
            return f"seps: expected 1 or 2 separators, not {len(self.seps)}"
        unknown = sorted({role for role, _ in self.messages} - self.roles.keys())
        return f"messages: there is no role {unknown[0]!r}" if unknown else None

    def render(
        self,
        conversation: Conversation,
        meter: Meter | None = None,  # noqa: ARG002
        check_length: CheckLength = lambda _num_characters: None,
    ) -> list[Piece]:
        """See PromptTemplate. The conversation's variables and the meter are not used.

        Raises InvalidRequestError for roles and tools that the template has no place for.
        """
        parts = [_Part(self.prefix), *self._system_parts(conversation.messages)]
        has_system_text = any(part.text != "" for part in parts[1:])
        turns = [*self.messages, *self._turns(conversation.messages)]
        for i, (role, content) in enumerate(turns):
            if i or self.add_role_after_system_message or not has_system_text:
                parts.append(_Part(self.roles[role] + self.role_content_sep))
            parts += _filled(self.role_templates.get(role, f"{{{role}_message}}"), f"{role}_message", content)
            parts.append(_Part(self.seps[-1 if role == "assistant" else 0]))
        if conversation.continues_last:
            _drop_what_follows_the_client(parts)
        elif conversation.add_generation_prompt:
            parts.append(_Part(self.roles["assistant"] + self.role_empty_sep))
        pieces = list(self._pieces(self._with_functions(parts, conversation.tools)))
        check_length(len(text_of(pieces)))
        return pieces

    def _system_parts(self, messages: Sequence[Message]) -> list[_Part]:
        """Return the system message: the client's if there is one, the template's own otherwise."""
        given = [_text(message) for message in messages if _is_system(message)]
        if given:
            return list(_filled(self.system_template, "system_message", "\n".join(given)))
        return list(_filled(self.system_template.replace("{system_message}", self.system_message)))

    def _turns(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        """Yield the role and the text of each message that is not a system message."""
        last_user = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=0)
        for i, message in enumerate(messages):
            if _is_system(message):
                continue
            role = message.get("role")
            if not isinstance(role, str) or role not in self.roles:
                raise InvalidRequestError(
                    f"the model's conversation template has no role {role!r}", f"messages.{i}.role"
                )
            text = _text(message)
            if role == "assistant" and self.strip_reasoning_in_history and i < last_user:
                text = _without_reasoning(text)
            yield role, text

    def _with_functions(self, parts: Sequence[_Part], tools: Sequence[Tool] | None) -> Iterator[_Part]:
        """Yield the parts, with the functions in the last place for them, and without the other places."""
        places = [i for i, part in enumerate(parts) if part.text is None]
        if tools and not places:
            raise InvalidRequestError(
                "the model's conversation template has no place for tools", param="tools"
            )
        functions = _Part(_functions_text(tools), is_own=False) if tools else _Part(self.function_string)
        for i, part in enumerate(parts):
            if part.text is not None:
                yield part
            elif i == places[-1]:
                yield functions

    def _pieces(self, parts: Iterable[_Part]) -> Iterator[Piece]:
        """Cut the parts at control names. A name may span several parts of the template's own text."""
        names = TextSearch(self.control_texts)
        filled = (part for part in parts if part.text)
        for is_own, group in groupby(filled, key=lambda part: part.is_own):
            text = "".join(part.text or "" for part in group)
            for position, piece in enumerate(names.split(text) if is_own else [text]):
                if piece:
                    yield Piece(piece, is_control=position % 2 == 1)


def _without_reasoning(text: str) -> str:
    """Return what follows the reasoning and the line breaks after it; all of the text if there is none."""
    _, end, answer = text.rpartition(_END_OF_REASONING)
    return answer.lstrip("\n") if end else text


def _is_system(message: Message) -> bool:
    return message.get("role") in ("system", "developer")


def _filled(template: str, place: str | None = None, content: str = "") -> Iterator[_Part]:
    """Yield a template's text with `content` at `place`, cut where functions can be described."""
    end = 0
    for found in _PLACE.finditer(template):
        if found[1] == "function_string":
            yield _Part(template[end : found.start()])
            yield _Part(None)
        elif found[1] == place:
            yield _Part(template[end : found.start()])
            yield _Part(content, is_own=False)
        else:
            continue
        end = found.end()
    yield _Part(template[end:])


def _drop_what_follows_the_client(parts: list[_Part]) -> None:
    while parts and parts[-1].is_own:
        parts.pop()


def _functions_text(tools: Sequence[Tool]) -> str:
    return json.dumps([tool.get("function", tool) for tool in tools], ensure_ascii=False)


def _text(message: Message) -> str:
    """Return the text of a message, with its tool calls as the model would write them."""
    content = message.get("content") or ""
    text = content if isinstance(content, str) else "\n".join(content)
    calls = [_call_text(call["function"]) for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [text, *calls]))


def _call_text(function: Mapping[str, Any]) -> str:
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'{START_TAG}\n{{"name": {name}, "arguments": {function["arguments"] or "{}"}}}\n{END_TAG}'
