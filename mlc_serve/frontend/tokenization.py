"""Answers questions about tokens and prompts, which need a tokenizer and a template but no model. Pure
functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlc_serve.frontend.chat_prompt import chat_prompt, chat_tokens
from mlc_serve.frontend.params import check_text, check_token_ids
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import ChatCompletionRequest
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


def _detokenized(request: DetokenizeRequest, model: LoadedModel) -> PromptReply:
    check_token_ids(request.tokens, model.info.vocab_size, "tokens")
    return PromptReply(prompt=model.tokenizer.decode(request.tokens, shows_special=True))


def _reply(tokens: Sequence[int], model: LoadedModel, *, with_strings: bool) -> TokenizeReply:
    strings = [model.tokenizer.entry(token_id) for token_id in tokens] if with_strings else None
    return TokenizeReply(
        count=len(tokens),
        max_model_len=model.limits.max_single_sequence_length,
        tokens=list(tokens),
        token_strs=strings,
    )
