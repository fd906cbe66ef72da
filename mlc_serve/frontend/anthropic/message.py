"""Turns a chat completion into Anthropic's reply."""

from __future__ import annotations

from collections.abc import Iterator

from mlc_serve.errors import RequestFailedError
from mlc_serve.protocol.anthropic.reply import (
    Content,
    MessageEnd,
    MessageReply,
    MessageUsage,
    OutputTokensDetails,
    StopReason,
    TextContent,
    ThinkingContent,
    ToolUseContent,
)
from mlc_serve.protocol.anthropic.request import MessagesRequest
from mlc_serve.protocol.messages import CalledFunction
from mlc_serve.protocol.replies import AssistantMessage, ChatCompletion, ChoiceEnd, ToolCall, Usage


def message_reply(completion: ChatCompletion, request: MessagesRequest) -> MessageReply:
    """Return the reply. Raises RequestFailedError if the generation was aborted."""
    (choice,) = completion.choices
    end = message_end(choice.finish_reason, choice.stop_reason, completion.usage, request)
    return MessageReply(
        id=completion.id,
        type="message",
        role="assistant",
        model=completion.model,
        content=list(_content(choice.message, shows_thinking=shows_thinking(request))),
        stop_reason=end.stop_reason,
        stop_sequence=end.stop_sequence,
        usage=message_usage(completion.usage),
    )


def message_end(
    finish_reason: ChoiceEnd | None, stop_string: str | None, usage: Usage, request: MessagesRequest
) -> MessageEnd:
    """Return why a choice has ended. Raises RequestFailedError if it was aborted."""
    if finish_reason == "abort":
        raise RequestFailedError("The request was ended before its reply was complete.")
    if finish_reason == "stop" and stop_string in request.stop_sequences:
        return MessageEnd(stop_reason="stop_sequence", stop_sequence=stop_string)
    reasons: dict[str | None, StopReason] = {"tool_calls": "tool_use", "length": "max_tokens"}
    reason = reasons.get(finish_reason, "end_turn")
    if reason == "max_tokens" and usage.completion_tokens < request.max_tokens:
        reason = "model_context_window_exceeded"
    return MessageEnd(stop_reason=reason, stop_sequence=None)


def message_usage(usage: Usage) -> MessageUsage:
    """Return the usage with the tokens that were found in the prefix cache counted separately."""
    num_cached = usage.prompt_tokens_details.cached_tokens
    num_thinking = usage.completion_tokens_details.reasoning_tokens
    return MessageUsage(
        input_tokens=usage.prompt_tokens - num_cached,
        cache_creation_input_tokens=0,
        cache_read_input_tokens=num_cached,
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(thinking_tokens=num_thinking),
    )


def shows_thinking(request: MessagesRequest) -> bool:
    """Return whether the reply contains the text of the model's thinking."""
    return request.thinking is None or request.thinking.display != "omitted"


def tool_use_id(call_id: str) -> str:
    """Return the id of a call in Anthropic's form."""
    return f"toolu_{call_id.removeprefix('call_')}"


def _content(message: AssistantMessage, *, shows_thinking: bool) -> Iterator[Content]:
    if message.reasoning_content:
        thinking = message.reasoning_content if shows_thinking else ""
        yield ThinkingContent(type="thinking", thinking=thinking, signature="")
    if message.content:
        yield TextContent(type="text", text=message.content)
    yield from map(_tool_use, message.tool_calls or ())


def _tool_use(call: ToolCall) -> ToolUseContent:
    """Return a call. Arguments that a client could not send back become a text in an object."""
    function = CalledFunction(name=call.function.name, arguments=call.function.arguments)
    return ToolUseContent(
        type="tool_use",
        id=tool_use_id(call.id),
        name=function.name,
        input=function.parsed_arguments(),
    )
