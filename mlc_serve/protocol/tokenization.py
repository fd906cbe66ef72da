"""Wire types of the requests and replies about tokens and prompts, as vLLM and llama.cpp have them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from mlc_serve.protocol.anthropic.request import CountTokensRequest
from mlc_serve.protocol.fields import Text, TokenIds
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.refusals import refuse_invalid
from mlc_serve.protocol.replies import Reply
from mlc_serve.protocol.request_part import RequestPart, WithoutEffect
from mlc_serve.protocol.responses.request import ResponseRequest

_MODEL = "The name of a served model; not needed if there is only one."
_STRINGS = "Also return each token as the tokenizer's vocabulary writes it."


class TokenizeTextRequest(RequestPart):
    """POST /tokenize for a text."""

    WITHOUT_EFFECT: ClassVar = {
        "parse_special": WithoutEffect("names of special tokens are always read as such", only=(True,)),
        "with_pieces": WithoutEffect("`return_token_strs` returns the tokens' texts", only=(False,)),
    }

    model: Text | None = Field(default=None, description=_MODEL)
    prompt: Text | None = Field(default=None, description="The text. Either this or `content` is needed.")
    content: Text | None = Field(
        default=None, description="The text in llama.cpp's form: special tokens are added only if asked for."
    )
    add_special_tokens: bool | None = Field(
        default=None, description="Add what the tokenizer puts around every text; by default for a `prompt`."
    )
    add_special: bool | None = Field(default=None, description="Another name for `add_special_tokens`.")
    return_token_strs: bool = Field(default=False, description=_STRINGS)

    @property
    def text(self) -> str:
        """The text to tokenize."""
        return self.content or "" if self.prompt is None else self.prompt

    @property
    def adds_special_tokens(self) -> bool:
        """Whether to add what the tokenizer puts around every text."""
        asked = self.add_special if self.add_special_tokens is None else self.add_special_tokens
        return self.prompt is not None if asked is None else asked

    @model_validator(mode="after")
    def _has_one_text(self) -> TokenizeTextRequest:
        if self.prompt is None and self.content is None:
            refuse_invalid("is missing; send a text, or messages", "prompt")
        if self.prompt is not None and self.content is not None:
            refuse_invalid("can't be combined with prompt", "content")
        if len({self.add_special, self.add_special_tokens} - {None}) > 1:
            refuse_invalid("differs from add_special_tokens; send one of them", "add_special")
        return self


class TokenizeChatRequest(ChatCompletionRequest):
    """POST /tokenize for a conversation: a chat request, of which only the prompt counts."""

    return_token_strs: bool = Field(default=False, description=_STRINGS)


class DetokenizeRequest(RequestPart):
    """POST /detokenize."""

    model: Text | None = Field(default=None, description=_MODEL)
    tokens: TokenIds = Field(description="The token ids.")


# A chat request that isn't to be tokenized asks for its prompt as text, one of another API for its tokens.
TokenizationRequest = (
    TokenizeTextRequest
    | TokenizeChatRequest
    | CountTokensRequest
    | ResponseRequest
    | DetokenizeRequest
    | ChatCompletionRequest
)


def tokenize_kind(fields: object) -> type[TokenizeTextRequest | TokenizeChatRequest]:
    """Return the kind of a request to tokenize something, by its fields."""
    has_messages = isinstance(fields, dict) and fields.get("messages") is not None
    return TokenizeChatRequest if has_messages else TokenizeTextRequest


class TokenizeReply(Reply):
    """The tokens of a text. `max_model_len` is the most tokens that prompt and output may have together."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class PromptReply(Reply):
    """A prompt as text, in which special tokens appear by name."""

    prompt: str


# The reply to GET /tokenizer_info has what the tokenizer's own files say, so that its fields vary.
TokenizerInfo = dict[str, Any]
