"""The microserving calls: a prompt's prefix is computed on one server, moved, and continued on another.

    decode server                             prefill server
    -------------                             --------------
    prepare: park the request, return an      send: compute the prefix as for any request, connect to the
    address; KVPort takes the prefix in  <──  address, send the pages that the other server lacks
    start: an ordinary completion, whose prompt finds the prefix

The prefix is one of the prefix cache on both sides, so that no request computes in another way than after a
prefix hit. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing

from mlc_serve.api.completions import Completions
from mlc_serve.api.engine_prefixes import EnginePrefixes
from mlc_serve.api.generation import Generation
from mlc_serve.api.parked_requests import Key, ParkedRequest, ParkedRequests
from mlc_serve.api.streams import Streams
from mlc_serve.engine.core import why_no_transfer
from mlc_serve.engine.prefix_cache import ParkedPrefix
from mlc_serve.engine.prefix_store import Prefix
from mlc_serve.engine.request import FinishReason
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.engine.sequence_pages import PageLayout
from mlc_serve.errors import (
    InvalidRequestError,
    KVCacheFullError,
    ParkedRequestConflictError,
    ParkedRequestGoneError,
    RequestFailedError,
    UnsupportedFieldError,
)
from mlc_serve.frontend.kv_window import Window, received_end, sent_window
from mlc_serve.frontend.params import GenerationParams, cache_namespace
from mlc_serve.kv_transfer.address import Address
from mlc_serve.kv_transfer.kv_port import KVPort
from mlc_serve.kv_transfer.sending import send_prefix
from mlc_serve.kv_transfer.terms import Terms, prompt_hash
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.microserving import (
    AbortReply,
    AbortRequest,
    MatchReply,
    MicroservingRequest,
    PrepRecvReply,
    PrepRecvRequest,
    RemoteSendReply,
    RemoteSendRequest,
)

# How often a prefix is computed that other requests have evicted before it could be sent.
_MOST_TRIES = 3
# So much of the weights' hash tells one model from another, and is short enough for a message.
_WEIGHTS_LETTERS = 16

TokenIds = tuple[int, ...]


class Microserving:
    """The calls of one engine. `reserve` takes places, as an Endpoint's does. `reserve_place` does so for
    what computes nothing: also if no further prompt may wait, or while the engine drains.
    """

    def __init__(
        self,
        model: LoadedModel,
        completions: Completions,
        generation: Generation,
        streams: Streams,
        reserve: Callable[[int], AbstractContextManager[None]],
        reserve_place: Callable[[int], AbstractContextManager[None]],
    ) -> None:
        self.parked = ParkedRequests()
        self._model = model
        self._completions = completions
        self._generation = generation
        self._streams = streams
        self._reserve = reserve
        self._reserve_place = reserve_place
        self._prefixes = EnginePrefixes(streams.loop)
        self._preparing: set[Key] = set()
        self._sends: dict[Key, asyncio.Task[None]] = {}

    async def match(self, request: MicroservingRequest, owner: str) -> MatchReply:
        """Return how much of a prompt is cached, in whole pages. Takes nothing. Raises a RequestError."""
        self._layout()
        prefix = Prefix(cache_namespace(request, owner), await self._prompt(request))
        return MatchReply(prefix_matched_length=await self._prefixes.num_matched(prefix))

    async def prepare(self, request: PrepRecvRequest, owner: str, port: KVPort) -> PrepRecvReply:
        """Park a request, and expect its prefix on a port. Raises a RequestError.

        Repeated for the same request, it renews the lease and returns the same.
        """
        key = (owner, request.user)
        if key in self._preparing:
            raise ParkedRequestConflictError("user: prep_recv is in progress for this user.", "user")
        self._preparing.add(key)
        try:
            parked = await self._prepared(request, key, port)
        finally:
            self._preparing.discard(key)
        return PrepRecvReply(kv_append_metadata=parked.metadata, prefix_matched_length=parked.num_matched)

    async def send(self, request: RemoteSendRequest, owner: str, port: KVPort) -> RemoteSendReply:
        """Compute a prefix, and send the part of it that the receiver lacks. Raises a RequestError.

        Repeated after it has succeeded, it does nothing as long as the receiver remembers. `port` is this
        server's own; it says how long to wait, and whether keys and values may leave the machine.
        """
        key = (owner, request.user)
        if key in self._sends:
            raise ParkedRequestConflictError("user: remote_send is in progress for this user.", "user")
        sending = self._sends[key] = asyncio.ensure_future(self._send(request, owner, port))
        try:
            await asyncio.wait({sending})
        finally:
            del self._sends[key]
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if sending.cancelled():
            raise ParkedRequestGoneError("user: the remote_send of this user was aborted.", "user")
        sending.result()
        return RemoteSendReply()

    def abort(self, request: AbortRequest, owner: str) -> AbortReply:
        """End what the calls of a request have begun on this server, also its generation."""
        key = (owner, request.user)
        sending = self._sends.get(key)
        if sending is not None:
            sending.cancel()
        aborted = key in self.parked and self._abort(self.parked.get(key))
        return AbortReply(aborted=aborted or sending is not None)

    def abort_all(self) -> None:
        """End all requests that have been prepared, and all that are being sent."""
        self.parked.abort_all()
        for sending in self._sends.values():
            sending.cancel()

    def _abort(self, parked: ParkedRequest) -> bool:
        if parked.request_id is not None:
            self._streams.abort(parked.request_id)
            return True
        return parked.abort()

    # Receiving -----------------------------------------------------------------------------------------

    async def _prepared(self, request: PrepRecvRequest, key: Key, port: KVPort) -> ParkedRequest:
        layout = self._layout()
        prompt = await self._prompt(request)
        end = received_end(request.end, len(prompt))
        parked = self.parked.waiting(key)
        if parked is None:
            namespace = cache_namespace(request, key[0])
            parked = await self._newly_parked(prompt, end, namespace, layout, port)
            self.parked.add(key, parked)
        parked.require_same(prompt, end)
        parked.renew()
        return parked

    async def _newly_parked(
        self, prompt: TokenIds, end: int, namespace: str, layout: PageLayout, port: KVPort
    ) -> ParkedRequest:
        wanted = Window(0, end).whole_pages(layout.page_size)
        limit = self._model.limits.max_single_sequence_length
        with ExitStack() as claims:
            claims.enter_context(self._reserve(1))
            prefix = await self._prefixes.reserve(
                prompt[: wanted.end], namespace, min(len(prompt) + layout.page_size, limit)
            )
            claims.callback(self._prefixes.let_go, prefix)
            terms = self._terms(prompt, Window(prefix.num_matched, wanted.end), layout)
            parked = ParkedRequest(
                prompt, end, prefix, terms, layout.page_bytes, self._prefixes, port.limits.lease
            )
            address = await port.expect(parked, prefix.num_matched, end)
            claims.callback(port.forget, address.token)
            parked.open(address.encoded(), claims.pop_all())
        return parked

    # Sending ---------------------------------------------------------------------------------------------

    async def _send(self, request: RemoteSendRequest, owner: str, port: KVPort) -> None:
        layout = self._layout()
        address = Address.decoded(request.kv_addr_info)
        prompt = await self._prompt(request)
        window = sent_window(request.begin, request.end, len(prompt))
        if window != (address.start, address.stop) or window.begin % layout.page_size:
            raise InvalidRequestError(
                f"begin: the window [{window.begin}, {window.end}) is not [{address.start}, {address.stop}), "
                "which the receiver expects; begin is prep_recv's prefix_matched_length, and end its end.",
                "begin",
            )
        pages = window.whole_pages(layout.page_size)
        terms = self._terms(prompt, pages, layout)
        address.terms.require_equal(terms)
        if terms.num_bytes:
            with self._reserve_place(1):
                prefix = await self._computed(prompt[: pages.end], cache_namespace(request, owner))
                try:
                    await self._send_pages(prefix, pages.begin, address, terms, layout, port)
                finally:
                    self._prefixes.release(prefix)

    async def _send_pages(
        self,
        prefix: ParkedPrefix,
        begin: int,
        address: Address,
        terms: Terms,
        layout: PageLayout,
        port: KVPort,
    ) -> None:
        async def export(offset: int, num_bytes: int) -> memoryview | bytes:
            start = begin + layout.num_tokens_in(offset)
            return await self._prefixes.export(prefix, start, start + layout.num_tokens_in(num_bytes))

        await send_prefix(
            address, terms, layout.page_bytes, export, port.limits, leaves_machine=port.leaves_machine
        )

    async def _computed(self, token_ids: TokenIds, namespace: str) -> ParkedPrefix:
        """Return a prefix that is computed, and that is held until it is released."""
        for _ in range(_MOST_TRIES):
            prefix = await self._prefixes.hold(token_ids, namespace)
            if prefix is not None:
                return prefix
            await self._compute(token_ids, namespace)
        prefix = await self._prefixes.hold(token_ids, namespace)
        if prefix is None:
            raise KVCacheFullError("The prefix was evicted before it could be sent; try again later.")
        return prefix

    async def _compute(self, token_ids: TokenIds, namespace: str) -> None:
        """Compute a prefix as for a request that draws nothing, which leaves it in the prefix cache."""
        self._streams.require_open()
        self._streams.require_room()
        params = GenerationParams(SamplingParams(max_tokens=0), cache_namespace=namespace)
        async with aclosing(self._generation.run([token_ids], params, None)) as batches:
            async for deltas in batches:
                if any(delta.finish_reason is FinishReason.ABORT for delta in deltas):
                    raise RequestFailedError("The engine was reset while the prefix was computed.")

    # What both have in common --------------------------------------------------------------------------

    def _layout(self) -> PageLayout:
        """Return the layout of pages. Raises UnsupportedFieldError if they can't be exchanged."""
        state = self._model.backend.state
        reason = why_no_transfer(self._model.limits, state)
        if reason is not None or state.layout is None:
            raise UnsupportedFieldError(
                f"Prefixes of the model {self._model.name!r} can't be moved between servers: {reason}.",
                "model",
            )
        return state.layout

    async def _prompt(self, request: MicroservingRequest) -> TokenIds:
        (prompt,) = await self._completions.prompts(request)
        return prompt.token_ids

    def _terms(self, prompt: Sequence[int], pages: Window, layout: PageLayout) -> Terms:
        return Terms(
            f"{self._model.name} {self._model.quantization} {self._model.weights[:_WEIGHTS_LETTERS]}",
            f"{layout.digest} {layout.page_size} {layout.page_bytes}",
            prompt_hash(prompt[: pages.end]),
            layout.num_bytes_of(pages.end - pages.begin),
        )
