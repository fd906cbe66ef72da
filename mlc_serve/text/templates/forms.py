"""Finds out in which form a chat template takes messages, by rendering small conversations.

Some templates take a message's content as one text, some as a list of parts, some as either. Some write the
arguments of a call as JSON themselves, others expect them as text. Some recognize a message that calls a tool
by its null content. The prompt of a trial shows all this more reliably than the template's source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlc_serve.text.conversation import Message, Tool

# Returns what a template writes for messages in their final form, or None if it fails.
Trial = Callable[[Sequence[Message], Sequence[Tool] | None], str | None]

_ROLES = ("user", "system", "assistant", "tool")
_WORD, _NAME, _KEY = "Zebrafink", "look_up_birds", "wingspan"
_ARGUMENTS = {_KEY: "Goldammer"}
_TOOL: Tool = {
    "type": "function",
    "function": {"name": _NAME, "description": "Birds", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True)
class MessageForms:
    """The form in which one template takes messages: the roles whose content may be a text or a list of
    parts, whether arguments are text, which contents a message that only calls tools may have, and whether
    calls are written at all.
    """

    with_text: frozenset[str] = frozenset()
    with_parts: frozenset[str] = frozenset()
    arguments_are_text: bool = False
    contents_of_calls: tuple[str | None, ...] = ("",)
    writes_calls: bool = True

    @classmethod
    def found_by(cls, trial: Trial) -> MessageForms:
        """Return the forms that work in trials, or where no trial works, those of most templates."""
        questions = [
            form for form in (_text, _parts) if _is_written(trial([_message("user", form(_WORD))], None))
        ]
        question = _message("user", (questions or [_text])[0]("Which birds are there?"))
        written = [
            (as_text, content)
            for as_text in (False, True)
            for content in (None, "")
            if _call_is_written(trial([question, _calling(as_text, content), _message("tool", "")], [_TOOL]))
        ]
        calls = written or [(False, "")]
        as_text = calls[0][0]
        contents = tuple(content for is_text, content in calls if is_text == as_text)
        around = {
            "user": ([], []),
            "system": ([], [question]),
            "assistant": ([question], [question]),
            "tool": ([question, _calling(as_text, contents[0])], []),
        }

        def takes(role: str, form: Callable[[str], Any]) -> bool:
            before, after = around[role]
            tools = [_TOOL] if role == "tool" else None
            return _is_written(trial([*before, _message(role, form(_WORD)), *after], tools))

        return cls(
            with_text=frozenset(role for role in _ROLES if takes(role, _text)),
            with_parts=frozenset(role for role in _ROLES if takes(role, _parts)),
            arguments_are_text=as_text,
            contents_of_calls=contents,
            writes_calls=bool(written),
        )

    def takes(self, role: str) -> bool:
        """Return whether the template writes messages of this role."""
        return role in self.with_text or role in self.with_parts

    def fit(self, message: Message) -> dict[str, Any]:
        """Return the message in the form that the template takes."""
        calls = message.get("tool_calls")
        content = self._content(message.get("content"), message["role"], has_calls=bool(calls))
        if not calls:
            return {**message, "content": content}
        return {**message, "content": content, "tool_calls": [self._call(call) for call in calls]}

    def _content(self, content: str | Sequence[str] | None, role: str, *, has_calls: bool) -> Any:
        if has_calls and not content:
            return content if content in self.contents_of_calls else self.contents_of_calls[0]
        texts = [content or ""] if content is None or isinstance(content, str) else content
        takes_parts = role in self.with_parts
        if takes_parts and (role not in self.with_text or texts is content):
            return [part for text in texts for part in _parts(text)]
        return "\n".join(texts)

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = dict(call["function"])
        parsed = function.pop("parsed_arguments")
        if not self.arguments_are_text:
            function["arguments"] = parsed
        return {**call, "function": function}


def probes(forms: MessageForms) -> list[tuple[list[Message], list[Tool] | None]]:
    """Return short conversations in which every role occurs, in the form that the template takes."""
    question, answer = _message("user", "Which birds are there?"), _message("assistant", "Many.")
    calling = _calling(as_text=True, content=None)
    calling["tool_calls"][0]["function"]["parsed_arguments"] = _ARGUMENTS
    result = _message("tool", "Found.")
    conversations: list[tuple[list[Message], list[Tool] | None]] = [
        ([question], None),
        ([_message("system", "Be kind."), question, answer, question], None),
        ([question, calling, result, answer, question], [_TOOL]),
    ]
    return [([forms.fit(message) for message in messages], tools) for messages, tools in conversations]


def _message(role: str, content: Any) -> dict[str, Any]:
    called = {"tool_call_id": "call00001", "name": _NAME} if role == "tool" else {}
    return {"role": role, "content": content, **called}


def _calling(as_text: bool, content: str | None) -> dict[str, Any]:
    arguments = json.dumps(_ARGUMENTS) if as_text else _ARGUMENTS
    call = {"id": "call00001", "type": "function", "function": {"name": _NAME, "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def _text(text: str) -> Any:
    return text


def _parts(text: str) -> Any:
    return [{"type": "text", "text": text}]


def _is_written(prompt: str | None) -> bool:
    """Return whether the prompt contains the content, and not as a list of parts in Python or JSON."""
    return prompt is not None and _WORD in prompt and f'"text": "{_WORD}' not in prompt.replace("'", '"')


def _call_is_written(prompt: str | None) -> bool:
    """Return whether the prompt contains the call, with arguments that are neither written as Python nor
    escaped as JSON inside JSON, and without a content written as Python's None.
    """
    if prompt is None or _KEY not in prompt:
        return False
    return not any(wrong in prompt for wrong in (f"{{'{_KEY}", f'\\"{_KEY}', "None"))
