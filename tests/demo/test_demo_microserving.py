"""The demo model on two servers: what one computes, the other goes on with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from mlc_serve.config import EngineConfig
from mlc_serve.demo import demo_model_path
from mlc_serve.kv_transfer.address import Transport
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS
from mlc_serve.kv_transfer.limits import TransferLimits
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.protocol.errors import validated
from mlc_serve.protocol.tokenization import TokenizeChatRequest
from tests.api.microservers import Microserver, disaggregated, microservers

QUESTIONS = "What is the capital of France? And what is 2 plus 3? Spell the word house."
CONFIG = EngineConfig(
    model=str(demo_model_path()), max_num_sequence=16, max_total_sequence_length=16384, verbose=False
)
# A page of the demo model has more bytes, so that each is a portion of its own.
LIMITS = TransferLimits(portion_bytes=1000)


@pytest.fixture(scope="module")
def models() -> Sequence[LoadedModel]:
    """The model twice, each with a KV cache of its own."""
    return [load_model(CONFIG, "cpu", lambda line: None) for _ in range(2)]


@pytest.fixture(params=ALL_TRANSPORTS)
async def servers(
    models: Sequence[LoadedModel], request: pytest.FixtureRequest
) -> AsyncIterator[list[Microserver]]:
    """A server that computes prompts, and one that generates."""
    transport: Transport = request.param
    for model in models:
        model.backend.state.clear()
    async with microservers(*models, limits=LIMITS, transports=[transport]) as running:
        yield running


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_is_that_of_one_server(servers: list[Microserver], streams: bool) -> None:
    """Split at the borders of pages, beside them, and at both ends of the prompt, the text is the same."""
    prefill, decode = servers
    request = validated(TokenizeChatRequest, {"messages": [{"role": "user", "content": QUESTIONS}]})
    prompt = json.loads(await decode.engine.tokenization(request))["tokens"]
    text = await decode.plain(prompt, max_tokens=24)
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
    for end in (0, 1, 15, 16, 17, 32, len(prompt) // 2, -1):
        for server in servers:
            await server.engine.reset()
        reply = await disaggregated(prefill, decode, prompt, end, max_tokens=24, **fields)
        assert reply.choices[0].text == text, end
        assert reply.usage is not None
        stop = end + len(prompt) if end < 0 else end
        assert reply.usage.prompt_tokens_details.cached_tokens == stop - stop % 16
