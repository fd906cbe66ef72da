"""Wire types of the replies of Anthropic's API, and of the events of a streamed one.

As in mlc_serve.protocol.replies, a field is sent if and only if it was set.
"""

from __future__ import annotations

from typing import Any, Literal

from mlc_serve.protocol.replies import Reply

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class OutputTokensDetails(Reply):
    """How many of the output tokens were thinking."""

    thinking_tokens: int


class MessageUsage(Reply):
    """The tokens of one request. `input_tokens` are those that were not found in the prefix cache."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokensDetails


class ThinkingContent(Reply):
    """What the model thought. Signatures are empty."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class TextContent(Reply):
    """A text."""

    type: Literal["text"]
    text: str


class ToolUseContent(Reply):
    """A tool that the model wants called, with its arguments."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


Content = ThinkingContent | TextContent | ToolUseContent


class MessageReply(Reply):
    """The reply to POST /v1/messages."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Content]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(Reply):
    """The reply to POST /v1/messages/count_tokens: all tokens of the prompt."""

    input_tokens: int


class MessageStart(Reply):
    """The first event of a stream: the message without content, and the usage so far."""

    type: Literal["message_start"]
    message: MessageReply


class Ping(Reply):
    """An event that says nothing."""

    type: Literal["ping"]


class ContentBlockStart(Reply):
    """The beginning of a block: what is known of it, without its text or input."""

    type: Literal["content_block_start"]
    index: int
    content_block: Content


class TextDelta(Reply):
    """More of a text block."""

    type: Literal["text_delta"]
    text: str


class ThinkingDelta(Reply):
    """More of a thinking block."""

    type: Literal["thinking_delta"]
    thinking: str


class SignatureDelta(Reply):
    """The signature of a thinking block, at its end."""

    type: Literal["signature_delta"]
    signature: str


class InputJsonDelta(Reply):
    """More of the JSON text of a tool's input."""

    type: Literal["input_json_delta"]
    partial_json: str


BlockDelta = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class ContentBlockDelta(Reply):
    """More of a block."""

    type: Literal["content_block_delta"]
    index: int
    delta: BlockDelta


class ContentBlockStop(Reply):
    """The end of a block."""

    type: Literal["content_block_stop"]
    index: int


class MessageEnd(Reply):
    """Why the message has ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Reply):
    """The end of the message, and its usage."""

    type: Literal["message_delta"]
    delta: MessageEnd
    usage: MessageUsage


class MessageStop(Reply):
    """The last event of a stream."""

    type: Literal["message_stop"]


MessageEvent = (
    MessageStart
    | Ping
    | ContentBlockStart
    | ContentBlockDelta
    | ContentBlockStop
    | MessageDelta
    | MessageStop
)
