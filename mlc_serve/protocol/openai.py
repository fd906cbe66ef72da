"""Wire types of the requests of OpenAI's API, with the extensions that vLLM's clients know.

Checks here need no model: types, ranges, fields that contradict each other. What depends on a model (token
ids, lengths) is checked by mlc_serve.frontend. A field that is None was not sent: the model's default holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mlc_serve.protocol.debug import DebugConfig
from mlc_serve.protocol.fields import (
    LogitBias,
    Penalty,
    RequestBody,
    RequestPart,
    StopStrings,
    Text,
    TokenId,
    refuse_invalid,
    refuse_unsupported,
)
from mlc_serve.protocol.messages import Message, Tool

MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5


class StreamOptions(RequestPart):
    """`include_usage` adds a last chunk that carries the usage."""

    include_usage: bool = False


class GenerationRequest(RequestBody):
    """What chat and raw completions share.

    `top_k` of 0 or -1 keeps all tokens, as vLLM's clients send it. More tokens than fit into the context may
    be asked for: the reply then ends where the context does, with finish reason `length`, as without a limit.
    Computed prefixes are reused among requests of one `cache_salt` only.
    """

    model: Text | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=2)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias = Field(default_factory=dict)
    max_tokens: int | None = Field(default=None, ge=0)
    max_completion_tokens: int | None = Field(default=None, ge=0)
    min_tokens: int = Field(default=0, ge=0)
    stop: StopStrings = Field(default_factory=list)
    stop_token_ids: list[TokenId] = Field(default_factory=list)
    ignore_eos: bool = False
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    debug_config: DebugConfig | None = None
    cache_salt: Text | None = None

    @property
    def token_limit(self) -> int | None:
        """The most tokens of one choice, under whichever name it was sent."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @field_validator("response_format")
    @classmethod
    def _plain_text_only(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        kind = "text" if value is None else value.get("type")
        if kind in ("json_object", "json_schema"):
            refuse_unsupported(f"type {kind!r} is not supported yet")
        if kind != "text":
            refuse_invalid("type must be 'text'")
        return value

    @model_validator(mode="after")
    def _lengths_agree(self) -> GenerationRequest:
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            refuse_invalid("differs from max_completion_tokens; send one of them", "max_tokens")
        if self.token_limit is not None and self.min_tokens > self.token_limit:
            refuse_invalid(f"{self.min_tokens} is larger than max_tokens, {self.token_limit}", "min_tokens")
        return self

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            refuse_invalid("is allowed only with stream", "stream_options")
        return self


def _supported_choice(value: object) -> object:
    if value == "required" or isinstance(value, Mapping):
        refuse_unsupported("forcing a tool call ('required' or a named tool) is not supported yet")
    return value


ToolChoice = Annotated[Literal["none", "auto"], BeforeValidator(_supported_choice)]


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: ToolChoice = "auto"
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some_output_is_asked_for(self) -> ChatCompletionRequest:
        if self.token_limit == 0:
            refuse_invalid("must be at least 1", "max_tokens")
        return self

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatCompletionRequest:
        if self.top_logprobs is not None and not self.logprobs:
            refuse_invalid("is allowed only with logprobs", "top_logprobs")
        return self

    @model_validator(mode="after")
    def _continuation_has_a_message(self) -> ChatCompletionRequest:
        if self.continue_final_message and self.add_generation_prompt:
            refuse_invalid("can't be combined with add_generation_prompt", "continue_final_message")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            refuse_invalid("needs a last message whose role is assistant", "continue_final_message")
        return self


def _as_prompts(value: object) -> list[str | list[int]]:
    """One prompt or several, text or token ids, as a list of prompts."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple) or not value:
        refuse_invalid("must be a string, token ids, or a list of either, and not empty")
    if _are_token_ids(value):
        return [list(value)]
    for position, prompt in enumerate(value):
        if not isinstance(prompt, str) and not (isinstance(prompt, list | tuple) and _are_token_ids(prompt)):
            refuse_invalid(f"prompt {position} is neither a string nor a list of token ids")
    return [prompt if isinstance(prompt, str) else list(prompt) for prompt in value]


def _are_token_ids(items: list[Any] | tuple[Any, ...]) -> bool:
    return bool(items) and all(type(item) is int for item in items)


Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(_as_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


class CompletionRequest(GenerationRequest):
    """POST /v1/completions. `suffix` is appended to the completion."""

    prompt: Prompts = Field(max_length=MAX_CHOICES)
    best_of: int | None = None
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=MAX_COMPLETION_LOGPROBS)
    suffix: Text | None = None

    @model_validator(mode="after")
    def _all_choices_are_returned(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != self.n:
            refuse_unsupported("values other than n are not supported", "best_of")
        return self

    @model_validator(mode="after")
    def _no_output_needs_echo(self) -> CompletionRequest:
        if self.token_limit == 0 and not self.echo:
            refuse_invalid("0 is allowed only with echo", "max_tokens")
        return self
