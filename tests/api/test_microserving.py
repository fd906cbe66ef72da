"""Microserving: prompts that are computed on one engine and continued on another."""

from __future__ import annotations

import asyncio
import socket
import zlib
from dataclasses import replace
from typing import Any

import pytest

from mlc_serve.api.parked_requests import ParkedState
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.errors import (
    InvalidRequestError,
    KVCacheFullError,
    KVTransferError,
    ParkedRequestConflictError,
    ParkedRequestGoneError,
    ParkedRequestNotFoundError,
    QueueFullError,
    RequestError,
    ShuttingDownError,
    UnsupportedFieldError,
)
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.kv_transfer.address import Address
from mlc_serve.kv_transfer.channel import Channel
from mlc_serve.kv_transfer.hello import accepted, hello
from mlc_serve.kv_transfer.kv_port import ALL_TRANSPORTS
from mlc_serve.testing import FakeBackend, FakeKVCache, FakeWindowedState, fake_model
from tests.api.microservers import LIMITS, Microserver, disaggregated, microservers
from tests.patience import PATIENCE

PROMPT = list(b"The quick brown fox jumps over the lazy dog, twice")  # 50 tokens, pages of 4
N = len(PROMPT)

each_transport = pytest.mark.parametrize("transport", ALL_TRANSPORTS)


async def until(parked_state: ParkedState, server: Microserver, user: str = "u") -> None:
    """Wait until a parked request is in a state."""
    async with asyncio.timeout(PATIENCE):
        while server.calls.parked.get(("", user)).state is not parked_state:
            await server.num_free_pages()  # a turn of the engine's thread


@each_transport
@pytest.mark.parametrize("streams", [False, True])
async def test_every_split_gives_the_text_of_one_server(transport: str, streams: bool) -> None:
    """Wherever the prompt is split, the text is that of an ordinary completion, and every token of the prompt
    was matched, transferred or computed once.
    """
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
    async with microservers(fake_model(), fake_model(), transports=[transport]) as (prefill, decode):
        text = await decode.plain(PROMPT)
        for end in range(N):
            await prefill.engine.reset()
            await decode.engine.reset()
            reply = await disaggregated(prefill, decode, PROMPT, end, **fields)
            num_moved = end - end % 4
            assert reply.choices[0].text == text, end
            assert reply.usage is not None
            assert reply.usage.extra is not None
            assert reply.usage.extra.model_dump(exclude_none=True) == {
                "matched_tokens": 0,
                "transferred_tokens": num_moved,
                "recomputed_tokens": N - num_moved,
            }
        num_moved = sum(end - end % 4 for end in range(N))
        assert decode.sample("kv_received_tokens_total") == num_moved
        assert prefill.sample("kv_sent_tokens_total") == num_moved
        counted = [
            decode.sample("microserving_prompt_tokens_total", source=source)
            for source in ("matched", "transferred", "recomputed")
        ]
        assert counted == [0, num_moved, N * N - num_moved]


@pytest.mark.parametrize("n", [1, 2])
async def test_a_prefix_that_is_there_is_not_moved(n: int) -> None:
    """The receiver reports what it has; only the rest is computed elsewhere and moved, also for choices."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        text = await prefill.plain(PROMPT, n=n)
        await decode.plain([*PROMPT[:21], 1, 2, 3])
        prepared = await decode.prepare(PROMPT, -1)
        assert prepared.prefix_matched_length == 20
        await prefill.send(PROMPT, 20, -1, prepared.kv_append_metadata)
        reply = await decode.start(PROMPT, -1, n=n)
        assert "".join(choice.text for choice in reply.choices) == text
        assert decode.sample("kv_received_tokens_total") == 28
        assert decode.sample("microserving_prompt_tokens_total", source="matched") == 20


async def test_a_prefix_that_is_all_there_is_started_at_once() -> None:
    """If all whole pages are there, nothing is sent: matched == end needs no second call, and a window within
    a page moves nothing.
    """
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        await decode.plain(PROMPT)
        assert (await decode.prepare(PROMPT, 48)).prefix_matched_length == 48
        await decode.start(PROMPT, 48)
        prepared = await decode.prepare(PROMPT, 49, "other")
        assert prepared.prefix_matched_length == 48
        await prefill.send(PROMPT, 48, 49, prepared.kv_append_metadata)
        await decode.start(PROMPT, 49, "other")
        assert prefill.backend.batches == []  # type: ignore[attr-defined]


async def test_any_request_finds_a_prefix_that_was_received() -> None:
    """A prefix is for whoever asks: also without start_generate, it is found by an ordinary request."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, -1)
        await prefill.send(PROMPT, 0, -1, prepared.kv_append_metadata)
        reply = await decode.engine.completions.create(prompt=PROMPT, max_tokens=4, temperature=0)
        assert reply.usage is not None
        assert reply.usage.prompt_tokens_details.cached_tokens == 48
        assert decode.abort().aborted
        reply = await decode.engine.completions.create(prompt=PROMPT, max_tokens=4, temperature=0)
        assert reply.usage is not None
        assert reply.usage.prompt_tokens_details.cached_tokens == 48


async def test_a_match_tells_what_is_cached_for_the_caller() -> None:
    """Whole pages count, of the prompts of the same salt, and asking takes no place and no page."""
    async with microservers(fake_model(max_num_sequence=2)) as (server,):
        assert await server.num_matched(PROMPT) == 0
        await server.plain(PROMPT[:21], max_tokens=1)
        free = await server.num_free_pages()
        assert await server.num_matched(PROMPT) == 20
        assert await server.num_matched(PROMPT[:6]) == 4
        assert await server.num_matched(PROMPT, cache_salt="s") == 0
        assert await server.num_free_pages() == free
        assert server.engine.num_open == 0


async def test_start_alone_is_an_ordinary_completion() -> None:
    """A generation that begins at 0 needs no other call."""
    async with microservers(fake_model()) as (server,):
        reply = await server.start(PROMPT, 0)
        assert reply.choices[0].text == await server.plain(PROMPT)
        assert reply.usage is not None
        assert reply.usage.extra is None


async def test_repeated_calls_change_nothing() -> None:
    """prep_recv and remote_send can be repeated; what they return stays the same."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        first = await decode.prepare(PROMPT, 40)
        assert await decode.prepare(PROMPT, 40) == first
        await prefill.send(PROMPT, 0, 40, first.kv_append_metadata)
        await prefill.send(PROMPT, 0, 40, first.kv_append_metadata)
        assert await decode.prepare(PROMPT, 40) == first
        await decode.start(PROMPT, 40)
        assert decode.sample("kv_received_tokens_total") == 40


async def test_calls_in_the_wrong_order() -> None:
    """Each is refused by what is wrong with it, and the right call still succeeds afterwards."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        with pytest.raises(ParkedRequestNotFoundError):
            await decode.start(PROMPT, 40)
        prepared = await decode.prepare(PROMPT, 40)
        with pytest.raises(ParkedRequestConflictError, match="another prompt or end"):
            await decode.prepare(PROMPT, 41)
        with pytest.raises(ParkedRequestConflictError, match="call remote_send first"):
            await decode.start(PROMPT, 40)
        with pytest.raises(InvalidRequestError, match=r"position 40, not 41"):
            await decode.start(PROMPT, 41)
        await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        with pytest.raises(ParkedRequestConflictError, match="not the prompt of prep_recv"):
            await decode.start([*PROMPT[:-1], 1], 40)
        await decode.start(PROMPT, 40)
        with pytest.raises(ParkedRequestConflictError, match="already been started"):
            await decode.start(PROMPT, 40)
        with pytest.raises(ParkedRequestGoneError):
            await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        await disaggregated(prefill, decode, PROMPT, 40)  # the same user again


@pytest.mark.parametrize(
    ("begin", "end"), [(4, 40), (0, 41), (0, 39), (1, 40), (40, 40), (-1, 40), (0, N), (0, N + 1)]
)
async def test_another_window_than_the_receivers_is_refused(begin: int, end: int) -> None:
    """The sender says so before it computes anything."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, 40)
        with pytest.raises(InvalidRequestError, match=r"begin|end"):
            await prefill.send(PROMPT, begin, end, prepared.kv_append_metadata)
        assert prefill.backend.batches == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (fake_model("other"), "model"),
        (replace(fake_model(), quantization="q8f32"), "model"),
        (replace(fake_model(), weights="1" * 64), "model"),
        (fake_model(backend=FakeBackend(state=FakeKVCache(8, 128))), "layout"),
    ],
    ids=["name", "quantization", "weights", "page size"],
)
async def test_another_model_is_refused(other: Any, difference: str) -> None:
    """Servers that differ in model, weights or layout move nothing, and compute nothing for it."""
    async with microservers(other, fake_model()) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, 40)
        with pytest.raises(InvalidRequestError, match=f"{difference} is"):
            await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        assert other.backend.batches == []


async def test_another_prompt_is_refused() -> None:
    """A prefix is not taken for one of other tokens."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, 40)
        with pytest.raises(InvalidRequestError, match="prompt is"):
            await prefill.send([1, *PROMPT[1:]], 0, 40, prepared.kv_append_metadata)


@pytest.mark.parametrize(
    "model",
    [
        fake_model(prefix_cache_mode="disable"),
        fake_model(max_recycling_sequences=0),
        fake_model(backend=FakeBackend(state=FakeWindowedState(4, 1024, 64))),
    ],
    ids=["disabled", "keeps nothing", "window"],
)
async def test_models_without_prefixes_say_so(model: Any) -> None:
    """Both calls are refused with the reason, and a start that moves nothing works."""
    async with microservers(model) as (server,):
        for call in (server.prepare(PROMPT, 40), server.send(PROMPT, 0, 40, "x")):
            with pytest.raises(UnsupportedFieldError, match="can't be moved between servers: "):
                await call
        await server.start(PROMPT, 0)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("goes_away", [True, False])
async def test_a_sender_that_does_not_finish(share: float, goes_away: bool) -> None:
    """If it goes away or stops, the request ends within the time-out, and all its pages are free."""
    limits = LIMITS if goes_away else replace(LIMITS, portion=0.5)
    async with microservers(fake_model(), limits=limits, transports=["tcp"]) as (decode,):
        prepared = await decode.prepare(PROMPT, 40)
        address = Address.decoded(prepared.kv_append_metadata)
        channel = await sends_a_part(address, share)
        if goes_away:
            channel.close()
        await until(ParkedState.ABORTED, decode)
        with pytest.raises(ParkedRequestGoneError, match="its prefix has not arrived"):
            await decode.start(PROMPT, 40)
        channel.close()
        assert await decode.num_free_pages() == 1024
        assert decode.engine.num_open == 0
        await decode.plain(PROMPT)


async def sends_a_part(address: Address, share: float) -> Channel:
    """Send this share of a prefix as a sender would, whole portions and a part of one."""
    sock = socket.create_connection((address.host, address.port))
    sock.setblocking(False)
    channel = Channel(sock, PATIENCE)
    await channel.send(hello(address, address.terms))
    portion = int((await accepted(channel))["portion_bytes"])
    num_bytes = int(share * address.terms.num_bytes)
    for start in range(0, num_bytes, portion):
        length = min(portion, address.terms.num_bytes - start)
        await channel.send({"num_bytes": length, "crc32": zlib.crc32(bytes(length))})
        await channel.send_bytes(bytes(min(length, num_bytes - start)))
    return channel


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_receiver_that_does_not_answer(is_silent: bool) -> None:
    """If it is gone or silent, the sender's call ends within the time-out, and its pages can be evicted."""
    limits = replace(LIMITS, portion=0.5)
    async with microservers(fake_model(), fake_model(), limits=limits, transports=["tcp"]) as (
        prefill,
        decode,
    ):
        prepared = await decode.prepare(PROMPT, 40)
        address = Address.decoded(prepared.kv_append_metadata)
        if is_silent:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                address = replace(address, port=listener.getsockname()[1])
                with pytest.raises(KVTransferError, match=r"within 0\.5 s"):
                    await prefill.send(PROMPT, 0, 40, address.encoded())
        else:
            await decode.port.close()
            with pytest.raises(KVTransferError, match="can't be reached"):
                await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        await prefill.engine.reset()
        assert await prefill.num_free_pages() == 1024
        assert prefill.engine.num_open == 0


async def test_a_lease_ends() -> None:
    """Without a call the request expires: what is whole stays in the prefix cache, and its place is free."""
    limits = replace(LIMITS, lease=0.05)
    async with microservers(fake_model(), fake_model(), limits=limits) as (prefill, decode):
        await decode.prepare(PROMPT, 40, "never sent")
        assert decode.engine.num_open == 1
        await until(ParkedState.EXPIRED, decode, "never sent")
        with pytest.raises(ParkedRequestGoneError, match=r"expired: no call has come for 0\.05 s"):
            await decode.start(PROMPT, 40, "never sent")
        assert await decode.num_free_pages() == 1024
        assert decode.engine.num_open == 0
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, 40)
        await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        decode.calls.parked.get(("", "u"))._expire()
        assert await decode.num_free_pages() == 1014
        with pytest.raises(ParkedRequestGoneError, match="is expired"):
            await decode.start(PROMPT, 40)
        assert (await decode.prepare(PROMPT, 40)).prefix_matched_length == 40


async def test_abort() -> None:
    """It ends what is parked, once; a call that comes later is told, and nothing is left over."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        assert not decode.abort().aborted
        prepared = await decode.prepare(PROMPT, 40)
        assert decode.abort().aborted
        assert not decode.abort().aborted
        with pytest.raises(ParkedRequestGoneError, match="it was aborted"):
            await decode.start(PROMPT, 40)
        with pytest.raises(ParkedRequestGoneError):
            await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        assert await decode.num_free_pages() == 1024
        assert (decode.engine.num_open, prefill.engine.num_open) == (0, 0)


async def test_a_send_is_aborted() -> None:
    """While the prefix is computed, abort ends the call and the computation."""
    backend = FakeBackend()
    async with microservers(fake_model(backend=backend), fake_model()) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, 40)
        backend.gate.clear()
        sending = asyncio.ensure_future(prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata))
        await asyncio.to_thread(backend.entered.wait)
        with pytest.raises(ParkedRequestConflictError, match="in progress"):
            await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        assert prefill.abort().aborted
        with pytest.raises(ParkedRequestGoneError, match="was aborted"):
            await sending
        backend.gate.set()
        assert prefill.engine.num_open == 0


async def test_a_generation_is_aborted() -> None:
    """After the start, abort ends the generation, whose reply then says so."""
    backend = FakeBackend()
    async with microservers(fake_model(), fake_model(backend=backend)) as (prefill, decode):
        prepared = await decode.prepare(PROMPT, 40)
        await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        backend.gate.clear()
        starting = asyncio.ensure_future(decode.start(PROMPT, 40))
        await asyncio.to_thread(backend.entered.wait)
        assert decode.abort().aborted
        backend.gate.set()
        assert (await starting).choices[0].finish_reason == "abort"


async def test_a_caller_that_is_cancelled_leaves_nothing() -> None:
    """If the client goes away during prep_recv or remote_send, neither place nor page is kept."""
    backend = FakeBackend()
    async with microservers(fake_model(), fake_model(backend=backend)) as (prefill, decode):
        backend.gate.clear()
        running = asyncio.ensure_future(decode.plain(PROMPT))
        await asyncio.to_thread(backend.entered.wait)
        preparing = asyncio.ensure_future(decode.prepare(PROMPT, 40))
        await asyncio.sleep(0)
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        backend.gate.set()
        await running
        await decode.engine.reset()
        assert await decode.num_free_pages() == 1024
        assert (decode.engine.num_open, prefill.engine.num_open) == (0, 0)


async def test_a_full_cache_refuses() -> None:
    """If the pages of the request can't be promised, prep_recv says so, and holds nothing."""
    backend = FakeBackend(num_pages=30)
    model = fake_model(backend=backend, max_single_sequence_length=100)
    async with microservers(model) as (decode,):
        await decode.prepare(PROMPT, 40, "first")
        await decode.prepare(list(reversed(PROMPT)), 40, "second")
        with pytest.raises(KVCacheFullError, match="try again later") as refusal:
            await decode.prepare(PROMPT[1:], 40, "third")
        assert refusal.value.status == 503
        assert decode.engine.num_open == 2
        decode.abort("first")
        await decode.prepare(PROMPT[1:], 40, "third")


async def test_parked_requests_take_places() -> None:
    """As many requests can be parked as may be open, and a place is free again when one ends."""
    async with microservers(fake_model(max_num_sequence=1, max_queued_requests=1)) as (decode,):
        await decode.prepare(PROMPT, 4, "first")
        await decode.prepare(PROMPT, 4, "second")
        with pytest.raises(QueueFullError):
            await decode.prepare(PROMPT, 4, "third")
        decode.abort("first")
        await decode.prepare(PROMPT, 4, "third")


async def test_a_reset_and_a_drain_end_what_is_parked() -> None:
    """Both end parked requests at once, with their places and pages."""
    for end in ("reset", "drain"):
        async with microservers(fake_model()) as (decode,):
            await decode.prepare(PROMPT, 40)
            await (decode.engine.reset() if end == "reset" else decode.engine.drain(PATIENCE))
            with pytest.raises(RequestError):
                await decode.start(PROMPT, 40)
            assert decode.engine.num_open == 0


async def test_a_drain_leaves_time_to_send_what_is_cached() -> None:
    """While other requests end, a prefix that is cached can be looked up and sent, and no other one."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        await prefill.plain(PROMPT[:41], max_tokens=1)
        stream = prefill.engine.generate([1, 2, 3], GenerationParams(SamplingParams(max_tokens=9)))
        await anext(stream)
        draining = asyncio.ensure_future(prefill.engine.drain(PATIENCE))
        await prefill.num_free_pages()  # lets the drain begin
        with pytest.raises(ShuttingDownError):
            prefill.engine.streams.require_open()
        assert await prefill.num_matched(PROMPT) == 40
        prepared = await decode.prepare(PROMPT, 40)
        await prefill.send(PROMPT, 0, 40, prepared.kv_append_metadata)
        assert await decode.num_matched(PROMPT) == 40
        prepared = await decode.prepare(PROMPT[::-1], 40, "v")
        with pytest.raises(ShuttingDownError):
            await prefill.send(PROMPT[::-1], 0, 40, prepared.kv_append_metadata, "v")
        assert not draining.done()
        await stream.aclose()
        await draining


async def test_others_decode_while_a_prefix_arrives() -> None:
    """A stream goes on while a prefix arrives between its steps, and neither changes the other's text."""
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        text = await decode.plain([1, 2, 3], max_tokens=300, ignore_eos=True)
        streaming = asyncio.ensure_future(decode.plain([1, 2, 3], max_tokens=300, ignore_eos=True))
        reply = await disaggregated(prefill, decode, PROMPT, -1)
        assert reply.choices[0].text == await prefill.plain(PROMPT)
        assert await streaming == text


async def test_many_at_once() -> None:
    """Requests of many users at once get their own texts, and leave no place behind."""
    prompts = [[number, *PROMPT] for number in range(8)]
    async with microservers(fake_model(), fake_model()) as (prefill, decode):
        replies = await asyncio.gather(
            *(
                disaggregated(prefill, decode, prompt, -1, f"user {number}")
                for number, prompt in enumerate(prompts)
            )
        )
        texts = [await prefill.plain(prompt) for prompt in prompts]
        assert [reply.choices[0].text for reply in replies] == texts
        assert (decode.engine.num_open, prefill.engine.num_open) == (0, 0)
