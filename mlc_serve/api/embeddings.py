"""Answers requests for embeddings, rankings and scores. Runs on the event loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from mlc_serve.api.long_texts import LongTexts, is_long
from mlc_serve.engine.embedder import TokenIds, Vectors
from mlc_serve.frontend.embedding_inputs import check_total, input_ids
from mlc_serve.frontend.similarity import check_dimensions, cosines, with_dimensions
from mlc_serve.loaded_model import LoadedEmbeddingModel
from mlc_serve.protocol.embedding_reply import EmbeddingReply
from mlc_serve.protocol.embeddings import (
    EmbeddingInput,
    EmbeddingRequest,
    EmbeddingUsage,
    RankedDocument,
    RankedResult,
    Ranking,
    RerankRequest,
    Score,
    ScoreList,
    ScoreRequest,
)

Embed = Callable[[Sequence[TokenIds]], Awaitable[Vectors]]
Typed = TypeVar("Typed", Ranking, ScoreList)


@dataclass(frozen=True)
class TypedAnswer(Generic[Typed]):
    """Implements api.operation.Answer for a short reply."""

    reply: Typed

    @property
    def usage(self) -> EmbeddingUsage:
        """See Answer."""
        return self.reply.usage

    def json(self) -> Iterator[str]:
        """See Answer."""
        yield self.reply.to_json()

    def typed(self) -> Typed:
        """See Answer."""
        return self.reply


@dataclass(frozen=True)
class Embeddings:
    """Implements api.operation.Operator for embeddings."""

    model: LoadedEmbeddingModel
    long_texts: LongTexts
    embed: Embed

    async def respond(self, request: EmbeddingRequest, request_id: str) -> EmbeddingReply:  # noqa: ARG002
        """See Operator.respond. The reply has no id, as OpenAI's has none."""
        check_dimensions(request.dimensions, self.model.embedder.width)
        ids = await _tokenized(self, request.input, request.truncates_to, "input")
        vectors = with_dimensions(await self.embed(ids), request.dimensions)
        return EmbeddingReply(self.model.name, vectors, request.encoding_format, _usage(ids))


@dataclass(frozen=True)
class Rerank:
    """Implements api.operation.Operator for rankings, by the cosine similarity of embeddings."""

    model: LoadedEmbeddingModel
    long_texts: LongTexts
    embed: Embed

    async def respond(self, request: RerankRequest, request_id: str) -> TypedAnswer[Ranking]:
        """See Operator.respond."""
        query = await _tokenized(self, [request.query], request.truncates_to, "query")
        documents = await _tokenized(self, request.documents, request.truncates_to, "documents")
        ids = [*query, *documents]
        check_total(ids, "documents")
        vectors = await self.embed(ids)
        scores = cosines(vectors[1:], vectors[:1])
        best = sorted(range(len(scores)), key=lambda i: -scores[i])[: request.top_n]
        results = [_result(request, i, scores[i]) for i in best]
        return TypedAnswer(Ranking(id=request_id, model=self.model.name, usage=_usage(ids), results=results))


@dataclass(frozen=True)
class Scores:
    """Implements api.operation.Operator for the cosine similarities of pairs of texts."""

    model: LoadedEmbeddingModel
    long_texts: LongTexts
    embed: Embed

    async def respond(self, request: ScoreRequest, request_id: str) -> TypedAnswer[ScoreList]:
        """See Operator.respond."""
        first = await _tokenized(self, request.text_1, request.truncates_to, "text_1")
        second = await _tokenized(self, request.text_2, request.truncates_to, "text_2")
        ids = [*first, *second]
        check_total(ids, "text_2")
        vectors = await self.embed(ids)
        scores = cosines(vectors[: len(first)], vectors[len(first) :])
        reply = ScoreList(
            id=request_id,
            object="list",
            created=int(time.time()),
            model=self.model.name,
            data=[Score(index=i, object="score", score=score) for i, score in enumerate(scores)],
            usage=_usage(ids),
        )
        return TypedAnswer(reply)


async def _tokenized(
    operator: Embeddings | Rerank | Scores,
    inputs: Sequence[EmbeddingInput],
    truncates_to: int | None,
    param: str,
) -> list[TokenIds]:
    """Return the token ids of inputs. Those of long ones are made on another thread."""
    read = partial(input_ids, inputs, operator.model, truncates_to, param)
    return await operator.long_texts.read(read) if is_long(inputs) else read()


def _result(request: RerankRequest, index: int, score: float) -> RankedResult:
    if not request.return_documents:
        return RankedResult(index=index, relevance_score=score)
    document = RankedDocument(text=request.documents[index])
    return RankedResult(index=index, relevance_score=score, document=document)


def _usage(ids: Sequence[TokenIds]) -> EmbeddingUsage:
    num_tokens = sum(map(len, ids))
    return EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens)
