"""Writes tools, calls and their results as plain text, for chat templates that have no place for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlc_serve.text.calls.hermes import END_TAG, START_TAG
from mlc_serve.text.conversation import Conversation, Message, PromptTemplate, Tool

_INSTRUCTIONS = """\
You can call functions. Each line between these tags describes one, with a JSON schema of its parameters:
<tools>
{tools}
</tools>
To call a function, write a JSON object with its name and its arguments between these tags, and stop after it:
{start}
{{"name": "<the function's name>", "arguments": {{<its arguments>}}}}
{end}
You get the result in the next message. If no function helps, answer without calling one."""


def in_words(conversation: Conversation, template: PromptTemplate) -> Conversation:
    """Return the conversation with tools in the system message, and calls and results as text, as far as the
    template has no place for them.
    """
    tools = None if template.takes_tools else conversation.tools
    if not tools and (template.takes_calls or not any(map(_is_about_calls, conversation.messages))):
        return conversation
    messages = _with_calls_in_text(conversation.messages)
    if not tools:
        return replace(conversation, messages=messages)
    described = _described(tools)
    return replace(
        conversation, messages=_instructed(messages, described, as_system=template.takes_system), tools=None
    )


def _described(tools: Sequence[Tool]) -> str:
    lines = [json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools]
    return _INSTRUCTIONS.format(tools="\n".join(lines), start=START_TAG, end=END_TAG)


def _instructed(messages: Sequence[Message], instructions: str, *, as_system: bool) -> list[Message]:
    """Return the messages with instructions in the system message or, if there can't be one, in the first of
    the user.
    """
    role = "system" if as_system else "user"
    for position, message in enumerate(messages):
        if message.get("role") == role:
            parts = [_text(message), instructions] if as_system else [instructions, _text(message)]
            instructed = {**message, "content": "\n\n".join(filter(None, parts))}
            return [*messages[:position], instructed, *messages[position + 1 :]]
    return [{"role": role, "content": instructions}, *messages]


def _with_calls_in_text(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with calls as the assistant's text and results as the user's. Results and the
    user's message after them become one message, because many templates want the roles to take turns.
    """
    written: list[Message] = []
    is_after_result = False
    for message in messages:
        is_result = message.get("role") == "tool"
        is_users = is_result or message.get("role") == "user"
        text = _result_text(message) if is_result else _text(message)
        if is_after_result and is_users:
            written[-1] = {"role": "user", "content": f"{written[-1]['content']}\n{text}"}
        else:
            written.append({"role": "user", "content": text} if is_result else _without_calls(message))
        is_after_result = is_result
    return written


def _without_calls(message: Message) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    texts = [_text(message), *(_call_text(call["function"]) for call in calls)]
    return {**rest, "content": "\n".join(filter(None, texts))}


def _call_text(function: Mapping[str, Any]) -> str:
    call = {"name": function["name"], "arguments": function["parsed_arguments"]}
    return f"{START_TAG}\n{json.dumps(call, ensure_ascii=False)}\n{END_TAG}"


def _result_text(message: Message) -> str:
    return f"<tool_response>\n{_text(message)}\n</tool_response>"


def _text(message: Message) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(content)


def _is_about_calls(message: Message) -> bool:
    return message.get("role") == "tool" or bool(message.get("tool_calls"))
