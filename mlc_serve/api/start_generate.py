"""Answers start_generate: an ordinary completion, whose prompt finds the prefix that was received for it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from mlc_serve.api.completions import Completions
from mlc_serve.api.parked_requests import ParkedRequest, ParkedRequests
from mlc_serve.engine.transfer_metrics import PromptSources, TransferMetrics
from mlc_serve.frontend.completion_prompt import Prompt
from mlc_serve.frontend.kv_window import started_begin
from mlc_serve.protocol.microserving import StartGenerateRequest
from mlc_serve.protocol.replies import Completion, Usage, UsageExtra
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart
from mlc_serve.protocol.whole_reply import WholeReply

Answer = WholeReply[Completion] | ReplyStream[Completion]


class StartGenerate:
    """Starts requests that were prepared. Implements api.endpoint.Responder."""

    def __init__(self, completions: Completions, parked: ParkedRequests, metrics: TransferMetrics) -> None:
        self._completions = completions
        self._parked = parked
        self._metrics = metrics

    async def respond(self, request: StartGenerateRequest, request_id: str, owner: str) -> Answer:
        """See Endpoint.respond."""
        arrival = time.monotonic()
        prompts = await self._completions.prompts(request)
        parked = self._started(request, prompts[0], request_id, owner)
        if parked is None:
            return await self._completions.answer(request, prompts, request_id, owner, arrival)
        try:
            reply = await self._completions.answer(request, prompts, request_id, owner, arrival)
        except BaseException:
            parked.finish()
            raise
        if isinstance(reply, WholeReply):
            return self._whole(reply, parked)
        return ReplyStream(self._parts(reply, parked), reply.chunk_of, reply.usage)

    def _started(
        self, request: StartGenerateRequest, prompt: Prompt, request_id: str, owner: str
    ) -> ParkedRequest | None:
        """Start the parked request of this user, or return None if all is left to this server."""
        begin, key = started_begin(request.begin, len(prompt.token_ids)), (owner, request.user)
        if begin == 0 and key not in self._parked:
            return None
        parked = self._parked.get(key)
        parked.start(prompt.token_ids, begin, request_id)
        return parked

    def _whole(self, reply: WholeReply[Completion], parked: ParkedRequest) -> WholeReply[Completion]:
        parked.finish()
        if reply.outline.usage is not None:
            self._metrics.started(_sources(reply.outline.usage, parked))
        return replace(reply, outline=_told(reply.outline, parked))

    async def _parts(
        self, reply: ReplyStream[Completion], parked: ParkedRequest
    ) -> AsyncGenerator[list[Completion | TextPart], None]:
        has_begun = False
        try:
            async with aclosing(reply.parts) as batches:
                async for batch in batches:
                    has_begun = True
                    yield [_told(part, parked) if isinstance(part, Completion) else part for part in batch]
        finally:
            parked.finish()
            if has_begun:
                self._metrics.started(_sources(reply.usage(), parked))


def _told(part: Completion, parked: ParkedRequest) -> Completion:
    """Return a reply or a part of one whose usage, if it has one, says where the prompt came from."""
    if part.usage is None:
        return part
    extra = (part.usage.extra or UsageExtra()).model_copy(
        update={
            f"{source}_tokens": number for source, number in _sources(part.usage, parked)._asdict().items()
        }
    )
    return part.model_copy(update={"usage": part.usage.model_copy(update={"extra": extra})})


def _sources(usage: Usage, parked: ParkedRequest) -> PromptSources:
    """Return where the tokens of a prompt came from: of those that were cached, the ones behind the matched
    prefix, up to where the transfer ended, had been transferred.
    """
    num_cached = usage.prompt_tokens_details.cached_tokens
    transferred = max(0, min(num_cached, parked.num_expected) - parked.num_matched)
    return PromptSources(num_cached - transferred, transferred, usage.prompt_tokens - num_cached)
