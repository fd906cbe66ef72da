"""Writes the items of a response's output, and its usage, from what a chat's reply contains."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from mlc_serve.protocol.replies import AssistantMessage, ChoiceEnd, Usage
from mlc_serve.protocol.responses.replies import (
    IncompleteDetails,
    InputTokensDetails,
    ItemStatus,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputReasoningText,
    OutputText,
    OutputTokensDetails,
    ResponseFailure,
    ResponseProgress,
    ResponseUsage,
)

_ABORTED = ResponseFailure(code="server_error", message="The request was aborted.")


def new_id(prefix: str) -> str:
    """Return a new id that can't be guessed. It is part of paths, and gives access without API keys."""
    return f"{prefix}_{secrets.token_hex(24)}"


def begun(response_id: str, created_at: int) -> ResponseProgress:
    """Return the progress of a response that has no output yet."""
    return ResponseProgress(
        id=response_id,
        object="response",
        created_at=created_at,
        completed_at=None,
        status="in_progress",
        error=None,
        incomplete_details=None,
        output=[],
        usage=None,
    )


def ended(
    start: ResponseProgress, output: list[OutputItem], end: ChoiceEnd | None, usage: Usage | None, at: int
) -> ResponseProgress:
    """Return the progress of a response that has ended at a time in seconds since the Unix epoch."""
    changes = {"output": output, "usage": usage and response_usage(usage)}
    if end == "length":
        more = {"status": "incomplete", "incomplete_details": IncompleteDetails(reason="max_output_tokens")}
    elif end in ("stop", "tool_calls"):
        more = {"status": "completed", "completed_at": at}
    else:
        more = {"status": "failed", "error": _ABORTED}
    return start.model_copy(update={**changes, **more})


def last_status(end: ChoiceEnd | None) -> ItemStatus:
    """Return the status of the last item of an output."""
    return "completed" if end in ("stop", "tool_calls") else "incomplete"


def output_items(message: AssistantMessage, end: ChoiceEnd | None, *, logprobs: bool) -> list[OutputItem]:
    """Return a whole message as items. With `logprobs` those of its text are null, else empty."""
    kinds = list(_items(message, logprobs=logprobs))
    last = kinds[-1].model_copy(update={"status": last_status(end)})
    return [*kinds[:-1], last]


def _items(message: AssistantMessage, *, logprobs: bool) -> Iterator[OutputItem]:
    reasoning, content, calls = message.reasoning_content, message.content, message.tool_calls or []
    if reasoning:
        yield reasoning_item(new_id("rs"), reasoning, "completed")
    if content or not (reasoning or calls):
        part = output_text(content or "")
        message_part = part.model_copy(update={"logprobs": None}) if logprobs else part
        yield message_item(new_id("msg"), [message_part], "completed")
    for call in calls:
        function = call.function
        yield call_item(new_id("fc"), call.id, function.name, function.arguments, "completed")


def output_text(text: str) -> OutputText:
    """Return the only part of a message."""
    return OutputText(type="output_text", text=text, annotations=[], logprobs=[])


def reasoning_text(text: str) -> OutputReasoningText:
    """Return the only part of a reasoning item."""
    return OutputReasoningText(type="reasoning_text", text=text)


def message_item(item_id: str, content: list[OutputText], status: ItemStatus) -> OutputMessage:
    """Return a message."""
    return OutputMessage(id=item_id, type="message", role="assistant", status=status, content=content)


def reasoning_item(item_id: str, text: str | None, status: ItemStatus) -> OutputReasoning:
    """Return a reasoning item; without a text it has just begun."""
    content = [] if text is None else [reasoning_text(text)]
    return OutputReasoning(id=item_id, type="reasoning", summary=[], content=content, status=status)


def call_item(item_id: str, call_id: str, name: str, arguments: str, status: ItemStatus) -> OutputCall:
    """Return a call."""
    return OutputCall(
        id=item_id, type="function_call", call_id=call_id, name=name, arguments=arguments, status=status
    )


def response_usage(usage: Usage) -> ResponseUsage:
    """Return the usage of a chat's reply under the names that a response has for it."""
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(
            cached_tokens=usage.prompt_tokens_details.cached_tokens, cache_write_tokens=0
        ),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(
            reasoning_tokens=usage.completion_tokens_details.reasoning_tokens
        ),
        total_tokens=usage.total_tokens,
    )
