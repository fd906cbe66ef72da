"""Embeddings, as in OpenAI's API; rankings, as in Jina's and Cohere's; and scores, as in vLLM's.

Reads a request, and sends the reply that the engine's operation returns.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from mlc_serve.api.operation import Posed
from mlc_serve.protocol.embeddings import (
    EmbeddingList,
    EmbeddingRequest,
    Ranking,
    RerankRequest,
    ScoreList,
    ScoreRequest,
)
from mlc_serve.protocol.replies import Reply
from mlc_serve.server.answering import UntilSent
from mlc_serve.server.disconnect import unless_disconnected
from mlc_serve.server.documentation import refuses_with, takes
from mlc_serve.server.middleware.request_id import reply_id
from mlc_serve.server.middleware.request_log import record_of
from mlc_serve.server.serving import serving_of
from mlc_serve.server.turns import in_turns


def _makes(reply: type[Reply]) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for an operation."""
    return {200: {"model": reply}, **refuses_with(404, 429)}


router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", openapi_extra=takes(EmbeddingRequest), responses=_makes(EmbeddingList))
async def create_embeddings(request: Request, until_sent: UntilSent) -> Response:
    """Make a vector for each of one or several inputs."""
    return await _answer(request, until_sent, EmbeddingRequest)


@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
@router.post("/v1/rerank", openapi_extra=takes(RerankRequest), responses=_makes(Ranking))
async def rerank(request: Request, until_sent: UntilSent) -> Response:
    """Order documents by the similarity of their vectors with that of a query."""
    return await _answer(request, until_sent, RerankRequest)


@router.post("/score", include_in_schema=False)
@router.post("/v1/score", openapi_extra=takes(ScoreRequest), responses=_makes(ScoreList))
async def score(request: Request, until_sent: UntilSent) -> Response:
    """Compare pairs of texts by the similarity of their vectors."""
    return await _answer(request, until_sent, ScoreRequest)


async def _answer(request: Request, until_sent: AsyncExitStack, kind: type[Posed]) -> Response:
    """Answer a request. Each step refuses what it can before the next one does any work."""
    serving, record = serving_of(request), record_of(request)
    serving.context.require_room()
    body = await serving.bodies.read(request, kind)
    served = serving.context.get_for(kind, body.model)
    operation = served.operation(kind)
    record.model, record.reply_id = served.name, reply_id(operation.prefix)
    until_sent.enter_context(operation.reserve(body))
    work = operation.respond(body, record.reply_id)
    answer = await unless_disconnected(request.receive, work)
    record.prompt_tokens = answer.usage.prompt_tokens
    return StreamingResponse(in_turns(answer.json()), media_type="application/json")
