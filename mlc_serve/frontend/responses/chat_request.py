"""Turns a request for a response into the request for a chat completion that answers it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mlc_serve.errors import InvalidRequestError, RequestError
from mlc_serve.frontend.responses.chat_messages import chat_messages
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.responses.items import Item
from mlc_serve.protocol.responses.request import ResponseRequest, TextFormat
from mlc_serve.protocol.responses.tools import AllowedTools, FunctionTool, NamedFunction

# Fields that both requests have, under the same name and with the same meaning.
_SAME = (
    "model",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "cache_salt",
    "chat_template_kwargs",
    "parallel_tool_calls",
    "stream",
)
# The names of a chat's fields in a request for a response, where they are not the same.
_NAMES = {
    "response_format": "text.format",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
}


def chat_request(request: ResponseRequest, conversation: Iterable[Item]) -> ChatCompletionRequest:
    """Return the chat request for a conversation, the last part of which is the request's input.

    Raises a RequestError, which names the fields of the request for a response.
    """
    messages = chat_messages(conversation)
    if request.instructions is not None:
        messages.insert(0, {"role": "system", "content": request.instructions})
    if not messages:
        raise InvalidRequestError("input: is empty; send a text or at least one item.", "input")
    with naming_fields_of_responses():
        return validated(ChatCompletionRequest, {"messages": messages, **_settings(request)})


@contextmanager
def naming_fields_of_responses() -> Iterator[None]:
    """Let a RequestError that names a field of the chat request name the field that it was made from."""
    try:
        yield
    except RequestError as error:
        if error.param is not None:
            own = _own_name(error.param)
            error.message = error.message.replace(f"{error.param}:", f"{own}:", 1)
            error.param = own
        raise


def _own_name(param: str) -> str:
    """Return the path of a field in the request for a response. Functions and schemas are not nested there,
    and the positions of messages are not those of items.
    """
    first, *rest = param.split(".")
    if first == "messages":
        return "input"
    steps = [step for step in rest if step not in ("function", "json_schema")]
    return ".".join([_NAMES.get(first, first), *steps])


def _settings(request: ResponseRequest) -> dict[str, Any]:
    same = {name: getattr(request, name) for name in _SAME}
    return {
        **same,
        **_tools(request),
        "max_completion_tokens": request.max_output_tokens,
        "logprobs": request.wants_logprobs,
        "top_logprobs": request.top_logprobs,
        "reasoning_effort": request.reasoning and request.reasoning.effort,
        "response_format": _response_format(request.text.format if request.text else None),
        "stream_options": {"include_usage": True} if request.stream else None,
    }


def _tools(request: ResponseRequest) -> dict[str, Any]:
    """Return the tools and the choice. Tools that may not be called are left out."""
    choice = request.tool_choice
    if isinstance(choice, NamedFunction):
        named = {"type": "function", "function": {"name": choice.name}}
        return {"tools": _functions(request.tools), "tool_choice": named}
    if isinstance(choice, AllowedTools):
        names = {allowed.name for allowed in choice.tools}
        allowed = [tool for tool in request.tools if tool.name in names]
        return {"tools": _functions(allowed), "tool_choice": choice.mode}
    return {"tools": _functions(request.tools), "tool_choice": choice}


def _functions(tools: Iterable[FunctionTool]) -> list[dict[str, Any]]:
    fields = ("name", "description", "parameters", "strict")
    return [{"function": {name: getattr(tool, name) for name in fields}} for tool in tools]


def _response_format(form: TextFormat | None) -> dict[str, Any] | None:
    if form is None or form.type != "json_schema":
        return None if form is None else {"type": form.type}
    schema = {"name": form.name, "description": form.description, "schema": form.schema_}
    return {"type": form.type, "json_schema": {**schema, "strict": form.strict}}
