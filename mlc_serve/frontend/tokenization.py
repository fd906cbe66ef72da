"""Answers questions about tokens and prompts, which need a tokenizer and a template but no model. Pure
functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.anthropic.chat_request import anthropics_names, counted_request
from mlc_serve.frontend.chat_prompt import chat_prompt, chat_tokens
from mlc_serve.frontend.params import check_text, check_token_ids
from mlc_serve.frontend.responses.chat_request import chat_request, naming_fields_of_responses
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.anthropic.request import CountTokensRequest
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.responses.items import ItemReference
from mlc_serve.protocol.responses.request import ResponseRequest
from mlc_serve.protocol.tokenization import (
    DetokenizeRequest,
    PromptReply,
    TokenizationRequest,
    TokenizeChatRequest,
    TokenizeReply,
    TokenizerInfo,
    TokenizeTextRequest,
)
from mlc_serve.text.templates.meter import Meter


def answer(request: TokenizationRequest, model: LoadedModel, meter: Meter) -> TokenizeReply | PromptReply:
    """Answer a request. The meter bounds the work of a template, and another thread can cancel it.

    Raises InvalidRequestError for tokens, texts or conversations that the model can't read, and
    ContextLengthError for a text that is far too long for a prompt.
    """
    if isinstance(request, TokenizeTextRequest):
        return _tokenized_text(request, model)
    if isinstance(request, TokenizeChatRequest):
        return _reply(chat_tokens(request, model, meter), model, with_strings=request.return_token_strs)
    if isinstance(request, CountTokensRequest):
        with anthropics_names():
            return _reply(chat_tokens(counted_request(request), model, meter), model)
    if isinstance(request, ResponseRequest):
        chat = _chat_of_response(request)
        with naming_fields_of_responses():
            return _reply(chat_tokens(chat, model, meter), model)
    if isinstance(request, ChatCompletionRequest):
        return PromptReply(prompt=chat_prompt(request, model, meter))
    return _detokenized(request, model)


def tokenizer_info(model: LoadedModel) -> TokenizerInfo:
    """Return what a client needs to prepare prompts by itself: what the tokenizer's files say, and the chat
    template, if it is Jinja2.
    """
    template = model.chat_template
    return {
        **model.tokenizer.description,
        "chat_template": None if template is None else template.jinja_source,
    }


def _tokenized_text(request: TokenizeTextRequest, model: LoadedModel) -> TokenizeReply:
    check_text(len(request.text), model, "prompt" if request.content is None else "content")
    tokens = model.tokenizer.encode(request.text, add_special_tokens=request.adds_special_tokens)
    return _reply(tokens, model, with_strings=request.return_token_strs)


def _chat_of_response(request: ResponseRequest) -> ChatCompletionRequest:
    """Return the chat request that answers a request for a response. Raises InvalidRequestError if it refers
    to what is stored.
    """
    items = [item for item in request.input if not isinstance(item, ItemReference)]
    if request.previous_response_id is not None or len(items) < len(request.input):
        raise InvalidRequestError(
            "input: goes on from what is stored; its tokens are told only of a whole conversation.", "input"
        )
    return chat_request(request, items)


def _detokenized(request: DetokenizeRequest, model: LoadedModel) -> PromptReply:
    check_token_ids(request.tokens, model.info.vocab_size, "tokens")
    return PromptReply(prompt=model.tokenizer.decode(request.tokens, shows_special=True))


def _reply(tokens: Sequence[int], model: LoadedModel, *, with_strings: bool = False) -> TokenizeReply:
    strings = [model.tokenizer.entry(token_id) for token_id in tokens] if with_strings else None
    return TokenizeReply(
        count=len(tokens),
        max_model_len=model.limits.max_single_sequence_length,
        tokens=list(tokens),
        token_strs=strings,
    )
