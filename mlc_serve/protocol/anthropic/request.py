"""Wire types of the requests of Anthropic's API.

Fields are treated as those of OpenAI's API are: see mlc_serve.protocol.request_part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field, model_validator

from mlc_serve.protocol.anthropic.blocks import NOT_CACHED_BY_MARKS, MessagesTurn, Texts
from mlc_serve.protocol.fields import AsInteger, Integer, JsonObject, Share, StopStrings, Text
from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.unknown_fields import UnknownFields

_NO_ACCOUNTS = WithoutEffect("the server does not distinguish end users or accounts")
_ONE_SERVER = WithoutEffect("there is one model and one way to serve it")
_NOTHING_IS_KEPT = WithoutEffect("the server keeps no conversations; send all messages", only=())
_NO_COMPACTION = WithoutEffect("the server does not shorten conversations", only=())


def _clients_tool(value: object) -> object:
    if isinstance(value, str) and value != "custom":
        refuse_unsupported(f"tools that the server would run are not supported: {value[:60]!r}")
    return value


class MessagesTool(RequestPart):
    """A tool that the model may call."""

    PLACE: ClassVar = "tools"
    WITHOUT_EFFECT: ClassVar = {
        "cache_control": NOT_CACHED_BY_MARKS,
        "defer_loading": WithoutEffect("the model sees all tools"),
        "eager_input_streaming": WithoutEffect("arguments are always sent while they are generated"),
        "allowed_callers": WithoutEffect("only the model calls tools", only=(["direct"],)),
        "input_examples": WithoutEffect("examples belong into the description", only=([],)),
    }

    type: Annotated[Literal["custom"], BeforeValidator(_clients_tool)] = Field(
        default="custom", description="Tools that Anthropic's servers run are not supported."
    )
    name: str = Field(min_length=1, description="The tool's name.")
    description: str | None = Field(default=None, description="A description for the model.")
    input_schema: JsonObject = Field(description="A JSON schema of the arguments.")
    strict: bool | None = Field(
        default=None, description="The same as `strict` of a function in a chat completion."
    )


class MessagesToolChoice(RequestPart):
    """Whether the model may, must or must not call tools."""

    PLACE: ClassVar = "tool_choice"

    type: Literal["auto", "any", "tool", "none"] = Field(
        description="Whether it may call tools, must call one, must call the one that is named, or sees none."
    )
    name: str | None = Field(default=None, description="The tool, with type `tool`.")
    disable_parallel_tool_use: bool = Field(
        default=False, description="If true, a reply ends after its first call."
    )

    @model_validator(mode="after")
    def _one_tool_has_a_name(self) -> MessagesToolChoice:
        if (self.type == "tool") != (self.name is not None):
            refuse_invalid("is needed with type `tool`, and only there", "name")
        return self


class Thinking(RequestPart):
    """Whether the model thinks before it answers."""

    PLACE: ClassVar = "thinking"

    type: Literal["enabled", "disabled", "adaptive"] = Field(
        description="Passed to the chat template as `enable_thinking`; by default the model decides."
    )
    budget_tokens: Annotated[int, Field(ge=1), AsInteger] | None = Field(
        default=None, description="The most tokens of thinking; then the model must go on to its answer."
    )
    display: Literal["summarized", "omitted"] = Field(
        default="summarized",
        description="`omitted` leaves the text out of the reply. There are no summaries.",
    )


class OutputFormat(RequestPart):
    """The form of the reply's text."""

    PLACE: ClassVar = "output_config.format"

    type: Literal["json_schema"] = Field(description="The kind of form.")
    # pydantic's classes have a method `schema`.
    schema_: JsonObject = Field(alias="schema", description="The JSON schema of the text.")

    @classmethod
    def _honours(cls, name: str, value: object, unknown: UnknownFields | None) -> bool:
        return value is not None if name == "schema" else super()._honours(name, value, unknown)


class OutputConfig(RequestPart):
    """How the model should answer."""

    PLACE: ClassVar = "output_config"
    WITHOUT_EFFECT: ClassVar = {
        "task_budget": WithoutEffect("only max_tokens limits the output", only=()),
    }

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="Passed to the chat template as `reasoning_effort`."
    )
    format: OutputFormat | None = Field(default=None, description="See below.")


def _harmless_edits(value: object) -> object:
    """Refuse edits other than those of earlier thinking, which chat templates leave out anyway."""
    for edit in value if isinstance(value, list) else ():
        kind = edit.get("type") if isinstance(edit, Mapping) else None
        if not str(kind).startswith("clear_thinking_"):
            refuse_unsupported(f"edits of type {str(kind)[:40]!r} are not supported; edit the messages")
    return value


class ContextManagement(RequestPart):
    """How a server should shorten the conversation."""

    PLACE: ClassVar = "context_management"

    edits: Annotated[list[JsonObject], BeforeValidator(_harmless_edits)] = Field(
        default_factory=list,
        description="Only edits of earlier thinking are accepted; the chat template decides about it.",
    )


class MessagesPrompt(RequestPart):
    """The fields from which a prompt is made."""

    WITHOUT_EFFECT: ClassVar = {
        "cache_control": NOT_CACHED_BY_MARKS,
        "metadata": _NO_ACCOUNTS,
        "user_profile_id": _NO_ACCOUNTS,
        "workspace_id": _NO_ACCOUNTS,
        "billing_policy": _NO_ACCOUNTS,
        "fallback_credit_token": _NO_ACCOUNTS,
        "service_tier": _ONE_SERVER,
        "inference_geo": _ONE_SERVER,
        "speed": _ONE_SERVER,
        "fallbacks": _ONE_SERVER,
        "diagnostics": WithoutEffect("the usage says how much of the prompt was found in the prefix cache"),
        "container": WithoutEffect("the server runs no tools", only=()),
        "mcp_servers": WithoutEffect("the server connects to no other servers", only=([],)),
        "compaction": _NO_COMPACTION,
        "thread": _NOTHING_IS_KEPT,
    }

    model: Text | None = Field(
        default=None, description="The name of a served model; not needed if there is only one."
    )
    messages: Annotated[list[MessagesTurn], Field(min_length=1), FailFast(), FIRST_FAULTS] = Field(
        description="The conversation; see below. If the last message is the assistant's, it is continued."
    )
    system: Texts = Field(
        default_factory=list,
        description="A text or text blocks. A line `x-anthropic-billing-header: …`, which differs in each "
        "request, is left out.",
    )
    tools: Annotated[list[MessagesTool], FailFast(), FIRST_FAULTS] = Field(
        default_factory=list, description="The tools that the model may call; see below."
    )
    tool_choice: MessagesToolChoice | None = Field(default=None, description="See below.")
    thinking: Thinking | None = Field(default=None, description="See below.")
    output_config: OutputConfig | None = Field(default=None, description="See below.")
    output_format: OutputFormat | None = Field(
        default=None, description="Another name for `format` in `output_config`."
    )
    context_management: ContextManagement | None = Field(default=None, description="See below.")

    @property
    def num_choices(self) -> int:
        """The number of choices in the reply."""
        return 1


class MessagesRequest(MessagesPrompt):
    """POST /v1/messages."""

    max_tokens: Integer = Field(ge=1, description="The most tokens that the reply may have.")
    stop_sequences: StopStrings = Field(default_factory=list, description="Texts that end the reply.")
    temperature: float | None = Field(
        default=None, ge=0, le=1, description="0 is greedy. By default the model's own, else 1."
    )
    top_p: Share | None = Field(
        default=None, description="0 keeps only the likeliest token. By default the model's own, else 1."
    )
    top_k: Annotated[int, Field(ge=0), AsInteger] | None = Field(
        default=None, description="0 keeps all tokens. By default the model's own, else all."
    )
    stream: bool = Field(default=False, description="Send the reply while it is generated.")


_NOT_GENERATED = WithoutEffect("nothing is generated")


class CountTokensRequest(MessagesPrompt):
    """POST /v1/messages/count_tokens, which takes the same fields as /v1/messages."""

    WITHOUT_EFFECT: ClassVar = {
        **MessagesPrompt.WITHOUT_EFFECT,
        **dict.fromkeys(
            ("max_tokens", "stop_sequences", "temperature", "top_p", "top_k", "stream"), _NOT_GENERATED
        ),
    }
