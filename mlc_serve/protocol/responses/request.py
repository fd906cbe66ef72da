"""The wire type of POST /v1/responses.

The checks here need neither a model nor stored responses. Fields that a chat completion has as well are
checked again when the request is turned into one.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, FailFast, Field, model_validator

from mlc_serve.protocol.fields import AsInteger, JsonObject, Penalty, Share, Text
from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.openai import MAX_TOP_LOGPROBS, MIN_REPETITION_PENALTY, GenerationRequest
from mlc_serve.protocol.refusals import refuse_invalid
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.responses.items import Items
from mlc_serve.protocol.responses.tools import AllowedTools, FunctionTool, ToolChoice

MAX_METADATA = 16
LONGEST_METADATA_KEY = 64
LONGEST_METADATA_VALUE = 512
LOGPROBS = "message.output_text.logprobs"

_NOT_SUMMARIZED = WithoutEffect("reasoning is returned as it is, not as a summary")
_OF_CHAT = GenerationRequest.WITHOUT_EFFECT


class TextFormat(RequestPart):
    """The form of the output's text."""

    PLACE: ClassVar = "text.format"

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="As `response_format` of a chat, which says what is supported."
    )
    name: str | None = Field(default=None, description="The name of the schema.")
    description: str | None = Field(default=None, description="A description of the schema.")
    schema_: JsonObject | None = Field(
        default=None, alias="schema", description="The JSON schema, with type `json_schema`."
    )
    strict: bool | None = Field(default=None, description="As in `response_format`.")

    @model_validator(mode="after")
    def _a_schema_is_complete(self) -> TextFormat:
        if self.type == "json_schema" and (self.name is None or self.schema_ is None):
            refuse_invalid("is missing", "name" if self.name is None else "schema")
        return self


class TextConfig(RequestPart):
    """What the output's text is like."""

    PLACE: ClassVar = "text"
    WITHOUT_EFFECT: ClassVar = {"verbosity": WithoutEffect("instructions can ask for short or long answers")}

    format: TextFormat | None = Field(default=None, description="See below.")


class ReasoningConfig(RequestPart):
    """How the model reasons."""

    PLACE: ClassVar = "reasoning"
    WITHOUT_EFFECT: ClassVar = {
        "summary": _NOT_SUMMARIZED,
        "generate_summary": _NOT_SUMMARIZED,
        "context": WithoutEffect("the chat template decides which reasoning it shows", only=("auto",)),
        "mode": WithoutEffect("there is one mode", only=("standard",)),
    }

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="As `reasoning_effort` of a chat."
    )


class ResponseStreamOptions(RequestPart):
    """How a stream is written."""

    PLACE: ClassVar = "stream_options"
    WITHOUT_EFFECT: ClassVar = {"include_obfuscation": WithoutEffect("events are not padded")}


def _small(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > MAX_METADATA:
        refuse_invalid(f"may have at most {MAX_METADATA} entries")
    for key, value in metadata.items():
        if len(key) > LONGEST_METADATA_KEY or len(value) > LONGEST_METADATA_VALUE:
            refuse_invalid(
                f"keys may have {LONGEST_METADATA_KEY} characters, and values {LONGEST_METADATA_VALUE}"
            )
    return metadata


Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
]


class ResponseRequest(RequestPart):
    """POST /v1/responses."""

    WITHOUT_EFFECT: ClassVar = {
        "user": _OF_CHAT["user"],
        "safety_identifier": _OF_CHAT["safety_identifier"],
        "moderation": _OF_CHAT["moderation"],
        "service_tier": _OF_CHAT["service_tier"],
        "prompt_cache_key": _OF_CHAT["prompt_cache_key"],
        "prompt_cache_options": _OF_CHAT["prompt_cache_options"],
        "prompt_cache_retention": _OF_CHAT["prompt_cache_retention"],
        "max_tool_calls": WithoutEffect("it limits built-in tools, and there are none"),
        "truncation": WithoutEffect("conversations are never shortened", only=("disabled",)),
        "context_management": WithoutEffect("conversations are never shortened", only=([],)),
        "background": WithoutEffect("responses are made while the client waits", only=(False,)),
        "background_options": WithoutEffect("responses are made while the client waits", only=({},)),
        "conversation": WithoutEffect("previous_response_id continues a conversation", only=()),
        "prompt": WithoutEffect("there are no stored prompts; send the text as instructions", only=()),
    }

    model: Text | None = Field(
        default=None, description="The name of a served model; not needed if there is only one."
    )
    input: Items = Field(description="The user's text, or the items of a conversation; see below.")
    instructions: Text | None = Field(
        default=None,
        description="A system message before the conversation. It is not part of what is stored as the "
        "conversation.",
    )
    previous_response_id: Text | None = Field(
        default=None, description="The stored response whose conversation `input` continues."
    )
    max_output_tokens: Annotated[int, Field(ge=1), AsInteger] | None = Field(
        default=None, description="The most tokens of the output, with its reasoning."
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0 is greedy. By default the model's own, else 1."
    )
    top_p: Share | None = Field(
        default=None, description="0 keeps only the likeliest token. By default the model's own, else 1."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), AsInteger] | None = Field(
        default=None,
        description="Return each token's logprob, and the logprobs of this many of the likeliest tokens. 0 "
        "returns logprobs only with the `include` for them.",
    )
    tools: Annotated[list[FunctionTool], FailFast(), FIRST_FAULTS] = Field(
        default_factory=list, description="The functions that the model may call; see below."
    )
    tool_choice: ToolChoice = Field(
        default="auto",
        description="`none`, `auto`, `required`, a function, or `allowed_tools`; see below. What can be "
        "forced is what `tool_choice` of a chat can force.",
    )
    parallel_tool_calls: bool = Field(
        default=True, description="If false, a reply ends after its first tool call."
    )
    text: TextConfig | None = Field(default=None, description="See below.")
    reasoning: ReasoningConfig | None = Field(default=None, description="See below.")
    include: Annotated[list[Includable], FailFast(), FIRST_FAULTS] = Field(
        default_factory=list,
        description=f"`{LOGPROBS}` returns logprobs. The other values have no effect: reasoning is never "
        "encrypted, and there are no built-in tools.",
    )
    metadata: Annotated[dict[Text, Text], AfterValidator(_small)] | None = Field(
        default=None, description=f"Up to {MAX_METADATA} texts by name, which the reply repeats."
    )
    store: bool = Field(default=True, description="Keep the response so that later requests may name it.")
    stream: bool = Field(
        default=False, description="Send the reply while it is generated, as server-sent events."
    )
    stream_options: ResponseStreamOptions | None = Field(default=None, description="See below.")
    top_k: Annotated[int, Field(ge=-1), AsInteger] | None = Field(default=None, description="As in a chat.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="As in a chat.")
    repetition_penalty: float | None = Field(
        default=None, ge=MIN_REPETITION_PENALTY, le=2, description="As in a chat."
    )
    presence_penalty: Penalty | None = Field(default=None, description="As in a chat.")
    frequency_penalty: Penalty | None = Field(default=None, description="As in a chat.")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), AsInteger] | None = Field(
        default=None, description="As in a chat."
    )
    cache_salt: Text | None = Field(default=None, description="As in a chat.")
    chat_template_kwargs: JsonObject = Field(default_factory=dict, description="As in a chat.")

    @property
    def num_choices(self) -> int:
        """The number of places that the request takes."""
        return 1

    @property
    def wants_logprobs(self) -> bool:
        """Whether the reply has logprobs."""
        return LOGPROBS in self.include or bool(self.top_logprobs)

    @model_validator(mode="after")
    def _chosen_tools_are_offered(self) -> ResponseRequest:
        names = {tool.name for tool in self.tools}
        choice = self.tool_choice
        for chosen in choice.tools if isinstance(choice, AllowedTools) else ():
            if chosen.name not in names:
                refuse_invalid(f"{chosen.name[:40]!r} is not one of the tools", "tool_choice")
        return self
