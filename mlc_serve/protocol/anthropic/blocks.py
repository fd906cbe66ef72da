"""Wire types of a conversation as Anthropic's clients send it: messages, and the blocks of their content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field, model_validator

from mlc_serve.protocol.fields import JsonObject
from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect

NOT_CACHED_BY_MARKS = WithoutEffect("the prefix cache needs no marks; it keeps what was used most recently")
_FROM_CITATIONS = WithoutEffect("the model sees the text alone")
_ONLY_CLIENTS_TOOLS = WithoutEffect("all tools are the client's")


class TextBlock(RequestPart):
    """A text."""

    PLACE: ClassVar = "messages.content"
    WITHOUT_EFFECT: ClassVar = {"cache_control": NOT_CACHED_BY_MARKS, "citations": _FROM_CITATIONS}

    type: Literal["text"] = Field(description="The kind of block.")
    text: str = Field(description="The text.")


class ThinkingBlock(RequestPart):
    """What the model thought in an earlier turn."""

    PLACE: ClassVar = "messages.content"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": NOT_CACHED_BY_MARKS,
        "signature": WithoutEffect("clients may change what the model has thought"),
    }

    type: Literal["thinking"] = Field(description="The kind of block.")
    thinking: str = Field(description="The text, for templates that show it.")


class RedactedThinkingBlock(RequestPart):
    """What another server's model thought, encrypted. The model doesn't see it."""

    PLACE: ClassVar = "messages.content"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": NOT_CACHED_BY_MARKS,
        "data": WithoutEffect("only the server that encrypted it can read it"),
    }

    type: Literal["redacted_thinking"] = Field(description="The kind of block. It is left out.")


class ToolUseBlock(RequestPart):
    """A call of a tool in an earlier turn."""

    PLACE: ClassVar = "messages.content"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": NOT_CACHED_BY_MARKS,
        "caller": _ONLY_CLIENTS_TOOLS,
        "toolset_name": _ONLY_CLIENTS_TOOLS,
    }

    type: Literal["tool_use"] = Field(description="The kind of block.")
    id: str = Field(description="The call's id, to which the tool's result refers.")
    name: str = Field(min_length=1, description="The tool's name.")
    input: JsonObject = Field(default_factory=dict, description="The arguments.")


def _as_blocks(content: object) -> object:
    """Convert a text to a list with one block, and refuse blocks of kinds that the model can't read."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for position, block in enumerate(content if isinstance(content, list) else ()):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if isinstance(kind, str) and kind not in _KINDS:
            refuse_unsupported(
                f"block {position} is of type {kind[:40]!r}, which is not supported; send text, or the "
                "client's own tools and their results"
            )
    return content


Texts = Annotated[
    list[TextBlock],
    FailFast(),
    FIRST_FAULTS,
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock]),
]


class ToolResultBlock(RequestPart):
    """What a tool returned."""

    PLACE: ClassVar = "messages.content"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": NOT_CACHED_BY_MARKS,
        "toolset_name": _ONLY_CLIENTS_TOOLS,
    }

    type: Literal["tool_result"] = Field(description="The kind of block.")
    tool_use_id: str = Field(description="The id of the call.")
    content: Texts = Field(default_factory=list, description="A text or text blocks.")
    is_error: bool = Field(default=False, description="If true, the model sees `Error:` before the content.")


Block = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock,
    Field(discriminator="type"),
]
# The roles whose messages may have a block of this kind; anyone may write texts.
_WRITERS = {
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_use": "assistant",
    "tool_result": "user",
}
_KINDS = frozenset({"text", *_WRITERS})
Blocks = Annotated[
    list[Block],
    FailFast(),
    FIRST_FAULTS,
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[Block]),
]


class MessagesTurn(RequestPart):
    """A message of the conversation."""

    PLACE: ClassVar = "messages"
    WITHOUT_EFFECT: ClassVar = {
        name: WithoutEffect("details of replies that clients send back are not used")
        for name in (
            "id",
            "type",
            "model",
            "stop_reason",
            "stop_sequence",
            "stop_details",
            "usage",
            "container",
            "diagnostics",
        )
    }

    role: Literal["user", "assistant", "system"] = Field(description="Who wrote the message.")
    content: Blocks = Field(description="A text or a list of blocks.")

    @model_validator(mode="after")
    def _blocks_fit_the_role(self) -> MessagesTurn:
        for position, block in enumerate(self.content):
            writer = _WRITERS.get(block.type)
            if writer not in (None, self.role):
                refuse_invalid(f"block {position}, a {block.type}, belongs to the {writer}", "content")
        return self
