"""Turns a request of Anthropic's API into the chat completion that answers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlc_serve.errors import RequestError
from mlc_serve.frontend.anthropic.chat_messages import chat_messages, is_continued
from mlc_serve.protocol.anthropic.request import (
    CountTokensRequest,
    MessagesPrompt,
    MessagesRequest,
    MessagesTool,
    MessagesToolChoice,
    OutputFormat,
    Thinking,
)
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.openai import ChatCompletionRequest

_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
# The name of a JSON schema, which Anthropic's requests don't have.
_SCHEMA_NAME = "output"
# Fields of chat completions, and what Anthropic's clients call them.
_NAMES = (
    ("response_format.json_schema", "output_config.format"),
    ("response_format", "output_config.format"),
    (".function.parameters", ".input_schema"),
)


def chat_request(request: MessagesRequest) -> ChatCompletionRequest:
    """Return the chat completion. Raises InvalidRequestError or UnsupportedFieldError."""
    given = {
        "max_tokens": request.max_tokens,
        "stop": request.stop_sequences,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stream": request.stream,
    }
    return validated(ChatCompletionRequest, _prompt_fields(request) | given)


def counted_request(request: CountTokensRequest) -> ChatCompletionRequest:
    """Return a chat completion with the same prompt as that of a request whose tokens are counted."""
    return validated(ChatCompletionRequest, _prompt_fields(request))


@contextmanager
def anthropics_names() -> Iterator[None]:
    """Change errors that name a field of the chat completion so that they name the field that was sent."""
    try:
        yield
    except RequestError as error:
        for name, own in _NAMES:
            if error.param is not None and name in error.param:
                param, message = (text.replace(name, own) for text in (error.param, error.message))
                raise type(error)(message, param) from error
        raise


def _prompt_fields(request: MessagesPrompt) -> dict[str, Any]:
    """Return the fields of the chat completion that its prompt depends on; None means absent."""
    config = request.output_config
    output_format = (None if config is None else config.format) or request.output_format
    return {
        "model": request.model,
        "messages": chat_messages(request),
        "continue_final_message": is_continued(request),
        "tools": [_tool(tool) for tool in request.tools],
        "reasoning_effort": None if config is None else config.effort,
        "response_format": None if output_format is None else _response_format(output_format),
        **({} if request.tool_choice is None else _tool_choice(request.tool_choice)),
        **({} if request.thinking is None else _thinking(request.thinking)),
    }


def _tool(tool: MessagesTool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _tool_choice(choice: MessagesToolChoice) -> dict[str, Any]:
    named = {"type": "function", "function": {"name": choice.name}}
    return {
        "tool_choice": named if choice.type == "tool" else _TOOL_CHOICES[choice.type],
        "parallel_tool_calls": not choice.disable_parallel_tool_use,
    }


def _thinking(thinking: Thinking) -> dict[str, Any]:
    """Return the fields that turn thinking on or off, and limit it."""
    return {
        "chat_template_kwargs": {"enable_thinking": thinking.type != "disabled"},
        "max_reasoning_tokens": thinking.budget_tokens,
    }


def _response_format(output_format: OutputFormat) -> dict[str, Any]:
    schema = {"name": _SCHEMA_NAME, "schema": output_format.schema_, "strict": True}
    return {"type": "json_schema", "json_schema": schema}
