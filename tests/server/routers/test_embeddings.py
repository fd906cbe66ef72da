"""/v1/embeddings, /v1/rerank and /v1/score, on a model without a device."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import numpy as np
import openai
import pytest

from mlc_serve.api.embedding_engine import AsyncEmbeddingEngine
from mlc_serve.config import ServerConfig
from mlc_serve.errors import EngineDeadError, QueueFullError
from mlc_serve.server.app import create_app
from mlc_serve.server.context import ServerContext
from mlc_serve.testing import BOS_ID, FakeEmbedder, fake_embedding_model
from tests.patience import PATIENCE

LONG = "x" * 100  # more than the context of 64 tokens


@pytest.fixture
def embedder() -> FakeEmbedder:
    """What makes the vectors, of 16 values."""
    return FakeEmbedder()


@pytest.fixture
async def embedding_engine(
    context: ServerContext, embedder: FakeEmbedder
) -> AsyncIterator[AsyncEmbeddingEngine]:
    """An engine named fake-embedder, which the server serves beside the chat model fake."""
    engine = AsyncEmbeddingEngine.from_loaded(fake_embedding_model(embedder=embedder, max_queued_requests=0))
    context.add(engine)
    yield engine
    embedder.gate.set()
    engine.terminate()


@pytest.fixture
async def embed(client: httpx.AsyncClient, embedding_engine: AsyncEmbeddingEngine) -> httpx.AsyncClient:
    """A client of a server with both models."""
    assert embedding_engine.is_healthy()
    return client


def vector(*token_ids: int) -> list[float]:
    """The vector that the fake gives."""
    counts = np.bincount(np.array(token_ids) % 16, minlength=16).astype(np.float32)
    return (counts / np.linalg.norm(counts)).tolist()  # type: ignore[no-any-return]


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """The reply to a request that must be answered."""
    reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()  # type: ignore[no-any-return]


async def refusal(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    """The error of a request that must be refused with status 400."""
    reply = await client.post(path, json=body)
    assert reply.status_code == 400, reply.text
    return reply.json()["error"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("ab", [[BOS_ID, 97, 98]]),
        (["a", "bb"], [[BOS_ID, 97], [BOS_ID, 98, 98]]),
        ([97, 98], [[97, 98]]),
        ([[97], [98, 99]], [[97], [98, 99]]),
    ],
)
async def test_inputs_have_four_forms(embed: httpx.AsyncClient, given: object, ids: list[list[int]]) -> None:
    """Texts are tokenized, token ids are used as they are, and the vectors are in the order of the inputs."""
    reply = await post(embed, "/v1/embeddings", input=given)
    assert [entry["index"] for entry in reply["data"]] == list(range(len(ids)))
    for entry, expected in zip(reply["data"], ids, strict=True):
        assert np.allclose(entry["embedding"], vector(*expected), atol=1e-7)
    count = sum(map(len, ids))
    assert reply["usage"] == {"prompt_tokens": count, "total_tokens": count}
    assert (reply["object"], reply["model"]) == ("list", "fake-embedder")


async def test_base64_is_little_endian_float32(embed: httpx.AsyncClient) -> None:
    """Both forms have the same numbers, exactly."""
    numbers = (await post(embed, "/v1/embeddings", input="abc"))["data"][0]["embedding"]
    text = (await post(embed, "/v1/embeddings", input="abc", encoding_format="base64"))["data"][0][
        "embedding"
    ]
    assert np.array_equal(np.frombuffer(base64.b64decode(text), "<f4"), np.array(numbers, np.float32))


async def test_fewer_dimensions_are_scaled_to_length_1(embed: httpx.AsyncClient) -> None:
    """The first values are kept in their proportions."""
    whole = (await post(embed, "/v1/embeddings", input="abc"))["data"][0]["embedding"]
    part = (await post(embed, "/v1/embeddings", input="abc", dimensions=4))["data"][0]["embedding"]
    assert np.allclose(part, np.array(whole[:4]) / np.linalg.norm(whole[:4]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": []}, "input: must be a string, token ids, or a list of either"),
        ({"input": ""}, "input: must not be empty"),
        ({"input": ["a", ""]}, "input 1 must not be empty"),
        ({"input": [[1], []]}, "input 1 must not be empty"),
        ({"input": ["a", 1]}, "input 1 is neither a string nor a list of token ids"),
        ({"input": ["a"] * 2049}, "at most 2048"),
        ({"input": [[5], [260]]}, "input.1: token id 260 is not in the model's vocabulary"),
        ({"input": [-1]}, "token id -1"),
        ({"input": "a", "dimensions": 17}, "dimensions: 17 is more than the 16 values"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"input": "a", "model": "fake"}, "'fake' generates text"),
    ],
)
async def test_what_is_invalid_is_named(embed: httpx.AsyncClient, fields: dict[str, Any], words: str) -> None:
    """The message says which field or input is wrong."""
    assert words in (await refusal(embed, "/v1/embeddings", **fields))["message"]


@pytest.mark.parametrize("given", [["a", LONG], [[1], [97] * 65], ["a", LONG * 1000]])
async def test_an_input_that_is_too_long_is_refused_or_shortened(
    embed: httpx.AsyncClient, given: Any
) -> None:
    """Clients know the error by its words. On request the end is cut off."""
    error = await refusal(embed, "/v1/embeddings", input=given)
    assert "maximum context length is 64 tokens" in error["message"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input.1")
    for fields, tokens in (
        ({"truncation": True}, 64),
        ({"truncate_prompt_tokens": -1}, 64),
        ({"truncate_prompt_tokens": 9}, 9),
    ):
        reply = await post(embed, "/v1/embeddings", input=given[1:], **fields)
        assert reply["usage"]["prompt_tokens"] == tokens


async def test_documents_are_ranked(embed: httpx.AsyncClient) -> None:
    """The best come first, with their numbers, and the scores are cosines."""
    documents = ["zz", {"text": "ab", "title": "ignored"}, "abz"]
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        reply = await post(embed, path, query="ab", documents=documents, top_n=2)
        assert [result["index"] for result in reply["results"]] == [1, 2]
        assert reply["results"][0]["document"] == {"text": "ab"}
        assert reply["results"][0]["relevance_score"] == pytest.approx(1)
    expected = np.dot(vector(BOS_ID, *b"ab"), vector(BOS_ID, *b"abz"))
    assert reply["results"][1]["relevance_score"] == pytest.approx(expected)
    assert reply["usage"]["total_tokens"] == 13
    bare = await post(embed, "/v1/rerank", query="ab", documents=documents, return_documents=False)
    assert [sorted(result) for result in bare["results"]] == [["index", "relevance_score"]] * 3


async def test_texts_are_scored(embed: httpx.AsyncClient) -> None:
    """One text is compared with many, or lists text by text, under either name."""
    reply = await post(embed, "/v1/score", text_1="ab", text_2=["ab", "zz"])
    assert [entry["index"] for entry in reply["data"]] == [0, 1]
    assert reply["data"][0]["score"] == pytest.approx(1)
    assert reply["data"][1]["score"] < 0.5
    pairs = await post(embed, "/score", queries=["ab", "zz"], items=["ab", "zz"])
    assert [entry["score"] for entry in pairs["data"]] == pytest.approx([1, 1])
    error = await refusal(embed, "/v1/score", text_1=["a", "b"], text_2=["a", "b", "c"])
    assert "text_2: has 3 texts, and text_1 has 2" in error["message"]
    twice = await refusal(embed, "/v1/score", text_1="a", queries="a", text_2="a")
    assert "text_1: is sent under two names" in twice["message"]


async def test_each_kind_of_request_finds_its_model(embed: httpx.AsyncClient) -> None:
    """Without a name the only model that can answer is used; a model that can't is refused by name."""
    assert [card["id"] for card in (await embed.get("/v1/models")).json()["data"]] == [
        "fake",
        "fake-embedder",
    ]
    chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    assert (await post(embed, "/v1/chat/completions", **chat))["model"] == "fake"
    assert (await post(embed, "/v1/embeddings", input="a"))["model"] == "fake-embedder"
    error = await refusal(embed, "/v1/chat/completions", model="fake-embedder", **chat)
    assert (error["code"], error["param"]) == ("unsupported", "model")
    assert "'fake-embedder' makes embeddings" in error["message"]


async def test_a_server_without_an_embedding_model_says_so(client: httpx.AsyncClient) -> None:
    """The error names the model that is there."""
    assert "'fake' generates text" in (await refusal(client, "/v1/embeddings", input="a"))["message"]


async def test_metrics_and_health_know_the_engine(embed: httpx.AsyncClient) -> None:
    """Inputs are counted, and the server is healthy."""
    await post(embed, "/v1/embeddings", input=["a", "b"])
    text = (await embed.get("/metrics")).text
    assert 'mlc_serve_embedding_inputs_total{model="fake-embedder"} 2.0' in text
    assert (await embed.get("/ready")).status_code == 200


async def test_a_full_queue_is_status_429(
    embed: httpx.AsyncClient, embedding_engine: AsyncEmbeddingEngine, embedder: FakeEmbedder
) -> None:
    """Inputs for which there is no place are refused, and places are free again once a reply was sent."""
    embedder.gate.clear()
    texts = {"text_1": ["a"] * 2048, "text_2": ["a"] * 2048}
    first = asyncio.create_task(embed.post("/v1/score", json=texts))
    assert await asyncio.to_thread(embedder.started.wait, PATIENCE)
    reply = await embed.post("/v1/embeddings", json={"input": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "queue_full")
    embedder.gate.set()
    assert len((await first).json()["data"]) == 2048
    assert embedding_engine.num_open == 0


async def test_numbers_that_are_not_finite_are_an_error(
    embed: httpx.AsyncClient, embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON can't express them. Only this request fails."""
    with monkeypatch.context() as patch:
        patch.setattr(embedder, "embed", lambda inputs: np.full((len(inputs), 16), np.nan, np.float32))
        reply = await embed.post("/v1/embeddings", json={"input": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "request_failed")
    await post(embed, "/v1/embeddings", input="a")


async def test_a_caller_that_leaves_ends_its_work(
    embedding_engine: AsyncEmbeddingEngine, embedder: FakeEmbedder
) -> None:
    """No further batch is computed for it, and its places are free."""
    embedder.gate.clear()
    leaving = asyncio.create_task(embedding_engine.embeddings.create(input=["a"] * 50))
    assert await asyncio.to_thread(embedder.started.wait, PATIENCE)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert embedding_engine.num_open == 0
    embedder.gate.set()
    await embedding_engine.embeddings.create(input="b")
    assert [len(batch) for batch in embedder.batches] == [8, 1]


async def test_a_dead_engine_is_reported(
    embed: httpx.AsyncClient, embedding_engine: AsyncEmbeddingEngine, embedder: FakeEmbedder
) -> None:
    """The request fails with the cause, /health says which engine has died, and who waits is woken."""
    waiting = asyncio.create_task(embedding_engine.wait_dead())
    embedder.failure = RuntimeError("broken")
    reply = await embed.post("/v1/embeddings", json={"input": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "engine_dead")
    await asyncio.wait_for(waiting, PATIENCE)
    health = await embed.get("/health")
    assert health.status_code == 503
    assert "fake-embedder" in health.text
    with pytest.raises(EngineDeadError, match="broken"):
        await embedding_engine.embeddings.create(input="a")


async def test_a_drain_lets_open_requests_finish(
    embedding_engine: AsyncEmbeddingEngine, embedder: FakeEmbedder
) -> None:
    """One that is being computed is answered; once time is up, the rest fail."""
    embedder.gate.clear()
    running = asyncio.create_task(embedding_engine.embeddings.create(input="a"))
    assert await asyncio.to_thread(embedder.started.wait, PATIENCE)
    drain = asyncio.create_task(embedding_engine.drain(PATIENCE))
    embedder.gate.set()
    assert len((await running).data) == 1
    await drain


async def test_more_places_than_there_are_raise(embedding_engine: AsyncEmbeddingEngine) -> None:
    """Programs get the error that clients get as a status."""
    with embedding_engine.reserve(4096), pytest.raises(QueueFullError):
        await embedding_engine.embeddings.create(input="a")


async def test_the_sdk_of_openai_reads_the_vectors(embed: httpx.AsyncClient, context: ServerContext) -> None:
    """It asks for base64 by itself, and gets the numbers of the plain form."""
    transport = httpx2.ASGITransport(create_app(context, ServerConfig()))
    async with httpx2.AsyncClient(transport=transport) as http:
        sdk = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="any", http_client=http)
        reply = await sdk.embeddings.create(model="fake-embedder", input=["abc", "b"], user="someone")
    plain = await post(embed, "/v1/embeddings", input=["abc", "b"])
    assert [entry.index for entry in reply.data] == [0, 1]
    assert [entry.embedding for entry in reply.data] == [
        pytest.approx(entry["embedding"]) for entry in plain["data"]
    ]
    assert reply.usage.total_tokens == 6
