"""Prompts to text: opens a stream for a request, and makes text of what the engine says of each choice.

Text is made in the generator that the request's own reader asks, so that what breaks there breaks one
request.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence

from mlc_serve.api.streams import Streams
from mlc_serve.engine.request import EngineRequest, RequestDelta
from mlc_serve.errors import RequestError
from mlc_serve.frontend.choice import Choice, TextDelta, choices
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.text.tokenization.tokenizer import Tokenizer


class Generation:
    """Answers prompts in the text of one tokenizer."""

    def __init__(self, streams: Streams, tokenizer: Tokenizer) -> None:
        self._streams = streams
        self._tokenizer = tokenizer

    async def run(
        self, prompts: Sequence[Sequence[int]], params: GenerationParams, request_id: str | None
    ) -> AsyncGenerator[list[TextDelta], None]:
        """Deltas of all choices as they come, those together that came together.

        Choice i of prompt p has index p * n + i. Nothing is submitted before the first deltas are asked for;
        to close the generator ends the request. Raises RequestFailedError, EngineDeadError,
        ShuttingDownError or ReaderTooSlowError.
        """
        requests = _engine_requests(prompts, params, request_id)
        in_order = choices(len(requests), params, self._tokenizer)
        running = {request.request_id: choice for request, choice in zip(requests, in_order, strict=True)}
        with self._streams.open(requests, request_id) as stream:
            while running:
                texts, failure = self._push(await stream.take(), running)
                if texts:
                    yield texts
                if failure is not None:
                    raise failure

    def _push(
        self, deltas: list[RequestDelta], running: dict[str, Choice]
    ) -> tuple[list[TextDelta], RequestError | None]:
        """The text of deltas, up to the one that tells of a failure, if one does."""
        texts: list[TextDelta] = []
        for delta in deltas:
            choice = running.get(delta.request_id)
            if choice is None:
                continue
            try:
                text = choice.push(delta)
            except RequestError as failure:
                return texts, failure
            if text.finish_reason is not None:
                del running[delta.request_id]
            if text.finish_reason is not delta.finish_reason:
                self._streams.stop(delta.request_id)
            texts.append(text)
        return texts, None


def _engine_requests(
    prompts: Sequence[Sequence[int]], params: GenerationParams, request_id: str | None
) -> list[EngineRequest]:
    """One request a choice, prompt by prompt. Their ids begin with the given one and are unique."""
    arrival = time.monotonic()
    beginning = "" if request_id is None else f"{request_id}-"
    return [
        EngineRequest(
            f"{beginning}{uuid.uuid4().hex}",
            prompt_ids,
            params.sampling,
            params.seed_of(choice),
            arrival,
            params.cache_namespace,
        )
        for prompt_ids in map(tuple, prompts)
        for choice in range(params.n)
    ]
