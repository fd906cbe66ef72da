"""Wire types of the requests of OpenAI's API, with the extensions that vLLM's clients use.

The checks here need no model: types, ranges, fields that contradict each other. What depends on a model
(token ids, lengths) is checked by mlc_serve.frontend. If a field is None, it was not sent, and the model's
default applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field, model_validator

from mlc_serve.protocol.debug import DebugConfig
from mlc_serve.protocol.fields import (
    AsInteger,
    Integer,
    JsonObject,
    LogitBias,
    Penalty,
    Share,
    StopStrings,
    Text,
    TokenIds,
    TokenLimit,
    are_token_ids,
)
from mlc_serve.protocol.first_faults import FIRST_FAULTS
from mlc_serve.protocol.messages import Message, Tool
from mlc_serve.protocol.output_form import ResponseFormat, StructuredOutputs, with_structured_outputs
from mlc_serve.protocol.refusals import refuse_invalid, refuse_unsupported
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.tool_choice import ChosenTools, ToolChoice
from mlc_serve.protocol.unknown_fields import UnknownFields

MAX_TOP_LOGPROBS = 20
MAX_COMPLETION_LOGPROBS = 5
# A smaller penalty would multiply logits beyond a float32's range.
MIN_REPETITION_PENALTY = 0.01

_NAMES_THE_END_USER = WithoutEffect(
    "the server does not distinguish end users; it identifies requests by its own ids"
)
_NOTHING_IS_STORED = WithoutEffect("nothing is stored")
_PREFIX_CACHE_DECIDES = WithoutEffect(
    "there is one prefix cache; it is always used, and keeps what was used most recently"
)
_NO_BEAM_SEARCH = WithoutEffect("beam search is not supported")
_ONE_GRAMMAR_LIBRARY = WithoutEffect("there is one library for grammars")
_ONLY_TOKEN_TEXTS = WithoutEffect("logprobs name tokens by their text", only=(False,))
_NO_MEDIA = WithoutEffect("text is the only input")


class StreamOptions(RequestPart):
    """What a stream contains besides the reply. Without `stream` it has no effect."""

    PLACE: ClassVar = "stream_options"
    WITHOUT_EFFECT: ClassVar = {"include_obfuscation": WithoutEffect("chunks are not padded")}

    include_usage: bool = Field(default=False, description="Add a last chunk with the usage.")
    continuous_usage_stats: bool = Field(
        default=False, description="Put the usage so far into every chunk, and add a last chunk with it."
    )

    @property
    def wants_usage(self) -> bool:
        """Whether a last chunk has the usage."""
        return self.include_usage or self.continuous_usage_stats


class GenerationRequest(RequestPart):
    """The fields that chat and raw completions share.

    A request may ask for more tokens than fit into the context: the reply then ends where the context does,
    with finish reason `length`, as without a limit.
    """

    WITHOUT_EFFECT: ClassVar = {
        "user": _NAMES_THE_END_USER,
        "safety_identifier": _NAMES_THE_END_USER,
        "request_id": WithoutEffect("a request's id is sent in the header X-Request-Id"),
        "metadata": _NOTHING_IS_STORED,
        "store": _NOTHING_IS_STORED,
        "moderation": WithoutEffect("there is no moderation"),
        "service_tier": WithoutEffect("there are no price lists to choose from"),
        "priority": WithoutEffect("clients can't choose the order in which requests are served"),
        "prompt_cache_key": _PREFIX_CACHE_DECIDES,
        "prompt_cache_options": _PREFIX_CACHE_DECIDES,
        "prompt_cache_retention": _PREFIX_CACHE_DECIDES,
        "cache_prompt": _PREFIX_CACHE_DECIDES,
        "use_beam_search": WithoutEffect("beam search is not supported", only=(False,)),
        "length_penalty": _NO_BEAM_SEARCH,
        "early_stopping": _NO_BEAM_SEARCH,
        "skip_special_tokens": WithoutEffect("special tokens are never part of the text", only=(True,)),
        "spaces_between_special_tokens": WithoutEffect("special tokens are never part of the text"),
        "detokenize": WithoutEffect("replies always contain text", only=(True,)),
        "return_token_ids": WithoutEffect("replies contain text, not token ids", only=(False,)),
        "return_tokens_as_token_ids": _ONLY_TOKEN_TEXTS,
        "truncate_prompt_tokens": WithoutEffect("prompts are never shortened", only=()),
        "allowed_token_ids": WithoutEffect("logit_bias and structured_outputs restrict the output", only=()),
        "bad_words": WithoutEffect("words can't be forbidden; logit_bias forbids tokens", only=([],)),
        "logits_processors": WithoutEffect("the server does not run clients' code", only=([],)),
        "guided_decoding_backend": _ONE_GRAMMAR_LIBRARY,
        "guided_whitespace_pattern": WithoutEffect("send `structured_outputs.whitespace_pattern`", only=()),
        "mm_processor_kwargs": _NO_MEDIA,
        "media_io_kwargs": _NO_MEDIA,
    }

    model: Text | None = Field(
        default=None, description="The name of a served model; not needed if there is only one."
    )
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0 is greedy. By default the model's own, else 1."
    )
    top_p: Share | None = Field(
        default=None, description="0 keeps only the likeliest token. By default the model's own, else 1."
    )
    top_k: Annotated[int, Field(ge=-1), AsInteger] | None = Field(
        default=None, description="0 and -1 keep all tokens. By default the model's own, else all."
    )
    min_p: float | None = Field(default=None, ge=0, le=1, description="By default the model's own, else 0.")
    repetition_penalty: float | None = Field(
        default=None, ge=MIN_REPETITION_PENALTY, le=2, description="By default the model's own, else 1."
    )
    presence_penalty: Penalty | None = Field(default=None, description="By default the model's own, else 0.")
    frequency_penalty: Penalty | None = Field(default=None, description="By default the model's own, else 0.")
    logit_bias: LogitBias = Field(
        default_factory=dict,
        description="Maps token ids to values from -100 to 100 that are added to their logits.",
    )
    max_tokens: TokenLimit = Field(
        default=None,
        description="The most tokens that a choice may have; -1 means no limit. The context's length is a "
        "limit, too. At least 1, or 0 for completions with `echo` or "
        "`prompt_logprobs`.",
    )
    max_completion_tokens: TokenLimit = Field(default=None, description="Another name for `max_tokens`.")
    min_tokens: Integer = Field(
        default=0, ge=0, description="The fewest tokens that a choice may have; not more than `max_tokens`."
    )
    stop: StopStrings = Field(
        default_factory=list, description="Texts that end the output, in addition to the template's own."
    )
    include_stop_str_in_output: bool = Field(
        default=False, description="Whether the output includes the text that ended it."
    )
    stop_token_ids: TokenIds = Field(
        default_factory=list, description="Tokens that end the output, in addition to the model's own."
    )
    ignore_eos: bool = Field(default=False, description="Ignore the model's own end tokens.")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), AsInteger] | None = Field(
        default=None, description="Choice i is sampled with `seed` + i. Random by default."
    )
    n: Integer = Field(default=1, ge=1, description="The number of choices, for each prompt.")
    stream: bool = Field(
        default=False, description="Send the reply while it is generated, as server-sent events."
    )
    stream_options: StreamOptions | None = Field(default=None, description="See below.")
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), AsInteger] | None = Field(
        default=None,
        description="Return the logprob and rank of each token of the prompt, and this many of the likeliest "
        "tokens at its place.",
    )
    response_format: ResponseFormat | None = Field(default=None, description="See below.")
    structured_outputs: StructuredOutputs | None = Field(
        default=None,
        description="See below. Its fields may also be sent as `guided_json`, `guided_regex`, "
        "`guided_choice`, `guided_grammar`, `json_schema`, `regex`, `grammar` or `ebnf`.",
    )
    debug_config: DebugConfig | None = Field(
        default=None, description="See below; accepted by servers started with `--enable-debug`."
    )
    cache_salt: Text | None = Field(
        default=None, description="Only requests with the same salt share cached prefixes."
    )

    @classmethod
    def honoured(cls, data: Mapping[str, Any], unknown: UnknownFields | None) -> dict[str, Any]:
        """See RequestPart.honoured."""
        return super().honoured(with_structured_outputs(data), unknown)

    @property
    def token_limit(self) -> int | None:
        """The most tokens that one choice may have, under whichever name the limit was sent."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_choices(self) -> int:
        """The number of choices in the whole reply."""
        return self.n

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that has the usage."""
        return self.stream_options is not None and self.stream_options.wants_usage

    @property
    def wants_usage_in_every_chunk(self) -> bool:
        """Whether every chunk of a stream has the usage so far."""
        return self.stream_options is not None and self.stream_options.continuous_usage_stats

    @model_validator(mode="after")
    def _one_form(self) -> GenerationRequest:
        is_free = self.response_format is None or self.response_format.type == "text"
        if self.structured_outputs is not None and not is_free:
            refuse_invalid("can't be combined with response_format", "structured_outputs")
        return self

    @model_validator(mode="after")
    def _lengths_agree(self) -> GenerationRequest:
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            refuse_invalid("differs from max_completion_tokens; send one of them", "max_tokens")
        if self.token_limit is not None and self.min_tokens > self.token_limit:
            refuse_invalid(f"{self.min_tokens} is larger than max_tokens, {self.token_limit}", "min_tokens")
        return self


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    WITHOUT_EFFECT: ClassVar = {
        **GenerationRequest.WITHOUT_EFFECT,
        "modalities": WithoutEffect("the only output is text", only=(["text"],)),
        "audio": WithoutEffect("the only output is text"),
        "verbosity": WithoutEffect("the system message can ask for short or long answers"),
        "prediction": WithoutEffect("a prediction could only save time; it does not change the output"),
        "web_search_options": WithoutEffect("the server does not search; the client can offer a search tool"),
        "functions": WithoutEffect("functions must be sent as `tools`", only=([],)),
        "function_call": WithoutEffect(
            "`tool_choice` says whether the model may call tools", only=("none", "auto")
        ),
        "add_special_tokens": WithoutEffect("the chat template adds special tokens", only=(False,)),
        "echo": WithoutEffect("a conversation is not repeated in the reply", only=(False,)),
        "best_of": WithoutEffect("all choices are returned", only=(1,)),
        "chat_template": WithoutEffect("the model's own chat template is used", only=()),
        "documents": WithoutEffect("documents must be sent within messages", only=([],)),
    }

    messages: Annotated[list[Message], Field(min_length=1), FailFast(), FIRST_FAULTS] = Field(
        description="The conversation; see below."
    )
    tools: Annotated[list[Tool], FailFast(), FIRST_FAULTS] = Field(
        default_factory=list, description="The tools that the model may call; see below."
    )
    tool_choice: ToolChoice = Field(
        default="auto",
        description="Whether the model may call tools (`auto`), must call one (`required`), or gets none. An "
        "object names the function that it must call, or the `allowed_tools`.",
    )
    parallel_tool_calls: bool = Field(
        default=True, description="If false, a reply ends after its first tool call."
    )
    logprobs: bool = Field(default=False, description="Return each token's logprob.")
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), AsInteger] | None = Field(
        default=None,
        description="With `logprobs`, also return the logprobs of this many of the likeliest tokens.",
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="Passed to the model's chat template."
    )
    include_reasoning: bool = Field(
        default=True, description="Whether the reply contains the model's reasoning."
    )
    max_reasoning_tokens: TokenLimit = Field(
        default=None, description="The most tokens that the model's reasoning may have; -1 means no limit."
    )
    thinking_token_budget: TokenLimit = Field(
        default=None, description="Another name for `max_reasoning_tokens`."
    )
    add_generation_prompt: bool | None = Field(
        default=None, description="Whether the template begins the assistant's turn; true by default."
    )
    continue_final_message: bool = Field(
        default=False, description="Continue the last message, which must be the assistant's."
    )
    chat_template_kwargs: JsonObject = Field(
        default_factory=dict, description="Further variables for the model's chat template."
    )

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the model may call, and is told of."""
        if isinstance(self.tool_choice, ChosenTools):
            return [tool for tool in self.tools if tool.function.name in self.tool_choice.names]
        return [] if self.tool_choice == "none" else self.tools

    @property
    def forces_call(self) -> bool:
        """Whether the model must call a tool."""
        if isinstance(self.tool_choice, ChosenTools):
            return self.tool_choice.must_call
        return self.tool_choice == "required"

    @property
    def names_function(self) -> bool:
        """Whether the model must call one certain function, which it then does once."""
        choice = self.tool_choice
        return isinstance(choice, ChosenTools) and choice.must_call and len(choice.names) == 1

    @property
    def reasoning_limit(self) -> int | None:
        """The most tokens of reasoning, under whichever name the limit was sent."""
        if self.max_reasoning_tokens is None:
            return self.thinking_token_budget
        return self.max_reasoning_tokens

    @model_validator(mode="after")
    def _chosen_tools_exist(self) -> ChatCompletionRequest:
        chosen = self.tool_choice.names if isinstance(self.tool_choice, ChosenTools) else ()
        if not self.tools and (self.forces_call or chosen):
            refuse_invalid("needs tools, and there are none", "tool_choice")
        unknown = set(chosen) - {tool.function.name for tool in self.tools}
        if unknown:
            refuse_invalid(f"there is no tool {min(unknown)[:80]!r}", "tool_choice")
        return self

    @model_validator(mode="after")
    def _reasoning_limits_agree(self) -> ChatCompletionRequest:
        if len({self.max_reasoning_tokens, self.thinking_token_budget} - {None}) > 1:
            refuse_invalid("differs from thinking_token_budget; send one of them", "max_reasoning_tokens")
        return self

    @model_validator(mode="after")
    def _some_output_is_asked_for(self) -> ChatCompletionRequest:
        if self.token_limit == 0:
            refuse_invalid("must be at least 1", "max_tokens")
        return self

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatCompletionRequest:
        if self.top_logprobs and not self.logprobs:
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
    """Convert one prompt or several, each text or token ids, to a list of prompts."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple) or not value:
        refuse_invalid("must be a string, token ids, or a list of either, and not empty")
    if are_token_ids(value):
        return [list(value)]
    for position, prompt in enumerate(value):
        if not isinstance(prompt, str) and not (isinstance(prompt, list | tuple) and are_token_ids(prompt)):
            refuse_invalid(f"prompt {position} is neither a string nor a list of token ids")
    return [prompt if isinstance(prompt, str) else list(prompt) for prompt in value]


Prompts = Annotated[
    list[str | list[int]],
    BeforeValidator(_as_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]


def _as_number_of_logprobs(value: object) -> object:
    """Accept False, which asks for no logprobs, as null does."""
    return None if value is False else value


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    WITHOUT_EFFECT: ClassVar = {
        **GenerationRequest.WITHOUT_EFFECT,
        "add_special_tokens": WithoutEffect(
            "the model's special tokens are always added to a text prompt", only=(True,)
        ),
        "prompt_embeds": WithoutEffect("a prompt must be text or token ids", only=()),
    }

    prompt: Prompts = Field(
        description="A text, token ids, or a list of either. Choices are numbered prompt by prompt.",
    )
    best_of: Integer | None = Field(default=None, description="Must equal `n`.")
    echo: bool = Field(
        default=False, description="Repeat the prompt, with its logprobs if `logprobs` is set."
    )
    logprobs: Annotated[
        Annotated[int, Field(ge=0, le=MAX_COMPLETION_LOGPROBS), AsInteger] | None,
        BeforeValidator(_as_number_of_logprobs),
    ] = Field(
        default=None,
        description="Return each token's logprob, and the logprobs of this many of the likeliest tokens.",
    )
    suffix: Text | None = Field(default=None, description="Text that is appended to the completion.")

    @property
    def num_choices(self) -> int:
        """The number of choices in the whole reply: `n` for each prompt."""
        return len(self.prompt) * self.n

    @property
    def echoes_logprobs(self) -> bool:
        """Whether the prompt's logprobs come before those of the output."""
        return self.echo and self.logprobs is not None

    @model_validator(mode="after")
    def _all_choices_are_returned(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != self.n:
            refuse_unsupported("values other than n are not supported", "best_of")
        return self

    @model_validator(mode="after")
    def _some_reply_is_asked_for(self) -> CompletionRequest:
        if self.token_limit == 0 and not self.echo and self.prompt_logprobs is None:
            refuse_invalid("0 is allowed only with echo or prompt_logprobs", "max_tokens")
        return self
