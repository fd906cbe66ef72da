"""/tokenize, /detokenize, /apply-template and /tokenizer_info, in vLLM's and llama.cpp's forms, and /tokenize
for requests of other APIs.

Each path exists with and without /v1 before it.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlc_serve.protocol.anthropic.request import CountTokensRequest
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.responses.request import ResponseRequest
from mlc_serve.protocol.tokenization import (
    DetokenizeRequest,
    PromptReply,
    TokenizationRequest,
    TokenizeReply,
    TokenizerInfo,
    TokenizeTextRequest,
    tokenize_kind,
)
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.documentation import refuses_with, takes
from mlc_serve.server.middleware.request_log import record_of
from mlc_serve.server.serving import serving_of

router = APIRouter(tags=["tokenization"], responses=refuses_with(404))


@router.post("/tokenize", openapi_extra=takes(TokenizeTextRequest), responses={200: {"model": TokenizeReply}})
async def tokenize(request: Request) -> Response:
    """Return the tokens of a text, or of the prompt for a conversation if the body has `messages`."""
    return await _answered(request, await serving_of(request).bodies.read_one_of(request, tokenize_kind))


@router.post(
    "/tokenize/messages", openapi_extra=takes(CountTokensRequest), responses={200: {"model": TokenizeReply}}
)
async def tokenize_messages(request: Request) -> Response:
    """Return the tokens of the prompt of a request of Anthropic's API, /v1/messages."""
    return await _answered(request, await serving_of(request).bodies.read(request, CountTokensRequest))


@router.post(
    "/tokenize/responses", openapi_extra=takes(ResponseRequest), responses={200: {"model": TokenizeReply}}
)
async def tokenize_response(request: Request) -> Response:
    """Return the tokens of the prompt of a request of /v1/responses that continues no stored response."""
    return await _answered(request, await serving_of(request).bodies.read(request, ResponseRequest))


@router.post("/detokenize", openapi_extra=takes(DetokenizeRequest), responses={200: {"model": PromptReply}})
async def detokenize(request: Request) -> Response:
    """Return the text of tokens, with special tokens by name."""
    return await _answered(request, await serving_of(request).bodies.read(request, DetokenizeRequest))


@router.post(
    "/apply-template", openapi_extra=takes(ChatCompletionRequest), responses={200: {"model": PromptReply}}
)
async def apply_template(request: Request) -> Response:
    """Return the prompt for a conversation as text."""
    return await _answered(request, await serving_of(request).bodies.read(request, ChatCompletionRequest))


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> TokenizerInfo:
    """Return what is known about a model's tokenizer, and its chat template."""
    return serving_of(request).context.get_for(ChatCompletionRequest, model).tokenizer_info()


async def _answered(request: Request, body: TokenizationRequest) -> Response:
    served = serving_of(request).context.get_for(ChatCompletionRequest, body.model)
    record_of(request).model = served.name
    reply = await unless_disconnected(request.receive, served.tokenization(body))
    return Response(reply, media_type="application/json")
