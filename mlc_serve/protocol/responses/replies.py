"""Wire types of a response: how far it has come, its output, and the settings that it repeats.

A field is sent if and only if it was set, even to null, as in mlc_serve.protocol.replies.
"""

from __future__ import annotations

from typing import Any, Literal

from mlc_serve.protocol.replies import Reply, TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(Reply):
    """The text of a message. `logprobs` is null until the logprobs are written into its place."""

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenLogprob] | None


class OutputReasoningText(Reply):
    """The text of a reasoning item."""

    type: Literal["reasoning_text"]
    text: str


class OutputMessage(Reply):
    """A message that the model wrote."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputText]


class OutputReasoning(Reply):
    """What the model wrote before it answered. There is no summary."""

    id: str
    type: Literal["reasoning"]
    summary: list[OutputReasoningText]
    content: list[OutputReasoningText]
    status: ItemStatus


class OutputCall(Reply):
    """A function that the model wants called. `arguments` is a string that holds a JSON object."""

    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


OutputItem = OutputReasoning | OutputMessage | OutputCall


class InputTokensDetails(Reply):
    """`cached_tokens` were found in the prefix cache. Nothing is charged for writing into it."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Reply):
    """How many of the output's tokens were reasoning."""

    reasoning_tokens: int


class ResponseUsage(Reply):
    """The tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Reply):
    """Why a response is incomplete. The end of the context counts as a limit, too."""

    reason: Literal["max_output_tokens"]


class ResponseFailure(Reply):
    """Why a response has failed."""

    code: Literal["server_error"]
    message: str


class ResponseProgress(Reply):
    """What changes while a response is made."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    output: list[OutputItem]
    usage: ResponseUsage | None


class ResponseSettings(Reply):
    """What the request asked for. Null means the model's own default."""

    model: str
    instructions: str | None
    previous_response_id: str | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_logprobs: int
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    text: dict[str, Any]
    reasoning: dict[str, Any]
    metadata: dict[str, str]
    store: bool
    truncation: Literal["disabled"]
    background: Literal[False]
    service_tier: Literal["default"]


class Response(ResponseProgress, ResponseSettings):
    """The reply to POST /v1/responses: progress and settings in one object."""


class DeletedResponse(Reply):
    """The reply to DELETE /v1/responses/{id}."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemPage(Reply):
    """Some of the items that a request sent."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


def joined(progress: str, settings: str) -> str:
    """Return the JSON of a Response, made of the JSON of its progress and of its settings."""
    return f"{progress[:-1]},{settings[1:]}"
