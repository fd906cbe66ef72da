"""Two engines on fake models that exchange prefixes, and the calls that a router makes to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mlc_serve.api.async_engine import AsyncMLCEngine
from mlc_serve.kv_transfer.address import Transport
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS, KVPort
from mlc_serve.kv_transfer.limits import TransferLimits
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.microserving import (
    AbortReply,
    AbortRequest,
    MicroservingRequest,
    PrepRecvReply,
    PrepRecvRequest,
    RemoteSendRequest,
    StartGenerateRequest,
)
from mlc_serve.protocol.replies import Completion
from mlc_serve.protocol.reply_stream import ReplyStream
from tests.patience import PATIENCE

# Portions of a few pages, so that most transfers have several.
LIMITS = TransferLimits(portion_bytes=100, portion=PATIENCE, hello=PATIENCE, connect=PATIENCE, lease=PATIENCE)

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}


class Microserver:
    """An engine and the port on which it expects prefixes."""

    def __init__(
        self,
        model: LoadedModel,
        limits: TransferLimits = LIMITS,
        transports: Sequence[Transport] = ALL_TRANSPORTS,
    ) -> None:
        self.backend = model.backend
        self.engine = AsyncMLCEngine.from_loaded(model)
        self.calls = self.engine.microserving()
        self.port = KVPort(limits=limits, transports=transports)

    async def prepare(self, prompt: list[int], end: int, user: str = "u", **fields: Any) -> PrepRecvReply:
        """Call prep_recv."""
        request = PrepRecvRequest(prompt=[prompt], end=end, user=user, **fields)
        return await self.calls.prepare(request, "", self.port)

    async def num_matched(self, prompt: list[int], **fields: Any) -> int:
        """Call match."""
        request = MicroservingRequest(prompt=[prompt], user="u", **fields)
        return (await self.calls.match(request, "")).prefix_matched_length

    async def send(
        self, prompt: list[int], begin: int, end: int, address: str, user: str = "u", **fields: Any
    ) -> None:
        """Call remote_send."""
        request = RemoteSendRequest(
            prompt=[prompt], begin=begin, end=end, kv_addr_info=address, user=user, **fields
        )
        await self.calls.send(request, "", self.port)

    async def start(self, prompt: list[int], begin: int, user: str = "u", **fields: Any) -> Completion:
        """Call start_generate, streamed or not, and return the whole reply."""
        request = StartGenerateRequest(prompt=[prompt], begin=begin, user=user, **(GREEDY | fields))
        endpoint = self.engine.endpoint(StartGenerateRequest)
        with endpoint.reserve(request):
            reply = await endpoint.respond(request, f"cmpl-{user}")
        if not isinstance(reply, ReplyStream):
            whole: Completion = reply.typed()
            return whole
        return _joined([chunk async for chunk in reply.chunks(endpoint.reserve(request))])

    async def plain(self, prompt: list[int], **fields: Any) -> str:
        """Return what an ordinary completion answers."""
        reply = await self.engine.completions.create(prompt=prompt, **(GREEDY | fields))
        return "".join(choice.text for choice in reply.choices)

    def abort(self, user: str = "u") -> AbortReply:
        """Call abort."""
        return self.calls.abort(AbortRequest(user=user), "")

    async def num_free_pages(self) -> int:
        """Return the number of free pages after all that was posted to the engine's thread has been done."""
        return await asyncio.wrap_future(
            self.engine.streams.loop.call(lambda _: self.backend.state.num_free_pages)
        )

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        labels = {"model": self.engine.name, **labels}
        value = self.engine.registry.get_sample_value(f"mlc_serve_{name}", labels)
        assert value is not None, name
        return value


def _joined(chunks: Sequence[Completion]) -> Completion:
    """Make a whole reply of one choice from its chunks, the last of which has the usage."""
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    choice = chunks[0].choices[0].model_copy(update={"text": text})
    return chunks[-1].model_copy(update={"choices": [choice]})


@asynccontextmanager
async def microservers(*models: LoadedModel, **fields: Any) -> AsyncIterator[list[Microserver]]:
    """One server for each model, which end with the context."""
    servers = [Microserver(model, **fields) for model in models]
    try:
        yield servers
    finally:
        for server in servers:
            await server.port.close()
            server.engine.terminate()


async def disaggregated(
    prefill: Microserver, decode: Microserver, prompt: list[int], end: int, user: str = "u", **fields: Any
) -> Completion:
    """Make the calls of MLC's router."""
    prepared = await decode.prepare(prompt, end, user)
    num_prompt = len(prompt)
    if prepared.prefix_matched_length < (end + num_prompt if end < 0 else end):
        await prefill.send(prompt, prepared.prefix_matched_length, end, prepared.kv_append_metadata, user)
    return await decode.start(prompt, end, user, **fields)
