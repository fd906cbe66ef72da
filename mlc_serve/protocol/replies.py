"""Wire types of the replies of OpenAI's API.

A field is sent if and only if it was set, even to null: replies are written with `exclude_unset`. So fields
that every reply has are declared without a default, and fields that may be left out default to None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

ChoiceEnd = Literal["stop", "length", "tool_calls", "abort"]
# Fields that are left out of a JSON text: `True` for a whole field, or the names of fields within it.
Without = Mapping[str, bool | set[str]]


class Reply(BaseModel):
    """A reply or a part of one."""

    model_config = ConfigDict(frozen=True)

    def to_json(self, without: Without | None = None) -> str:
        """Return the JSON text of the reply, without the fields in `without`."""
        return self.model_dump_json(exclude_unset=True, exclude=without)


class PromptTokensDetails(Reply):
    """`cached_tokens` is how many tokens of the prompt were found in the prefix cache."""

    cached_tokens: int


class CompletionTokensDetails(Reply):
    """What the output tokens were used for. `reasoning_tokens` include the marks around the reasoning."""

    reasoning_tokens: int


class UsageExtra(Reply):
    """What drafts did for all choices of a request, if the engine drafts: in how many passes there were some,
    how many there were, and how many were kept. A pass with drafts gave `mean_acceptance_length` tokens on
    average, and the share `draft_acceptance_rate` of drafts was kept; both are null if nothing was drafted.

    Of a request that microserving calls have prepared, how many tokens of the prompt were found on this
    server before, how many another server has sent, and how many were computed here.
    """

    num_spec_steps: int | None = None
    num_draft_tokens: int | None = None
    num_accepted_draft_tokens: int | None = None
    mean_acceptance_length: float | None = None
    draft_acceptance_rate: float | None = None
    matched_tokens: int | None = None
    transferred_tokens: int | None = None
    recomputed_tokens: int | None = None


class Usage(Reply):
    """The tokens of one request: each prompt counted once, and the output of all choices. `extra` is there if
    the engine drafts tokens or another server has prepared the request; a server shows it only with
    --enable-debug.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    extra: UsageExtra | None = None


class TopLogprob(Reply):
    """A token that could have been sampled. `bytes` are its own bytes, which may be parts of characters."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token that was sampled, and the likeliest tokens at its position."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Reply):
    """Logprobs of a chat reply's tokens, in order."""

    content: list[TokenLogprob]
    refusal: None


class ToolCallFunction(Reply):
    """`arguments` is a string that holds a JSON object, unless the call was cut off or is broken."""

    name: str
    arguments: str


class ToolCall(Reply):
    """A function that the model wants called."""

    id: str
    type: Literal["function"]
    function: ToolCallFunction


class AssistantMessage(Reply):
    """The message of a whole chat reply. The reasoning is there under both names that are in use."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class PromptLogprob(Reply):
    """A token that could stand at a position of a prompt. `rank` is 1 for the likeliest of all tokens."""

    logprob: float
    rank: int
    decoded_token: str


# For each token of a prompt, itself and the likeliest tokens at its place, by token id. The first token has
# none, because nothing precedes it.
PromptLogprobs = list[dict[int, PromptLogprob] | None]


class ChatChoice(Reply):
    """One of the `n` choices of a chat reply. `stop_reason` is the stop string that ended it, if one did."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChoiceEnd | None
    stop_reason: str | None = None


class ChatCompletion(Reply):
    """The reply to POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_logprobs: PromptLogprobs | None = None


class FunctionDelta(Reply):
    """A piece of a called function: its name once, its arguments in fragments."""

    name: str | None = None
    arguments: str


class ToolCallDelta(Reply):
    """A piece of a tool call. The first of each `index` carries id, type and the function's name."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChatDelta(Reply):
    """What a chunk adds to the message. A piece of reasoning is there under both names that are in use."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(Reply):
    """What a chunk adds to one choice. `stop_reason` is as in whole replies."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: ChoiceEnd | None
    stop_reason: str | None = None


class ChatCompletionChunk(Reply):
    """A part of a streamed chat reply. `usage` is sent if asked for; it may be null before the last chunk."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    prompt_logprobs: PromptLogprobs | None = None


class CompletionLogprobs(Reply):
    """Parallel lists with one entry per token. `text_offset` counts characters. The first token of a prompt
    has no logprob.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Reply):
    """One raw completion, or a part of a streamed one. `stop_reason` is as in chat replies."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: ChoiceEnd | None
    prompt_logprobs: PromptLogprobs | None = None
    stop_reason: str | None = None


class Completion(Reply):
    """The reply to POST /v1/completions, or a part of a streamed one, with `usage` as in chat chunks."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
