"""Generates text: opens a stream for a request, and decodes the tokens of each choice to text.

The text is made inside the generator that the request's own reader iterates, so that an error there ends only
this request.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence

from mlc_serve.api.portions import portions
from mlc_serve.api.prefix_return import PrefixReturn
from mlc_serve.api.streams import Streams
from mlc_serve.engine.request import EngineRequest, RequestDelta
from mlc_serve.errors import RequestError
from mlc_serve.frontend.choice import Choice, TextDelta, choices
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.text.tokenization.tokenizer import Tokenizer


class Generation:
    """Answers prompts, and decodes the output with one tokenizer."""

    def __init__(self, streams: Streams, tokenizer: Tokenizer, prefixes: PrefixReturn) -> None:
        self._streams = streams
        self._prefixes = prefixes
        self._tokenizer = tokenizer

    async def run(
        self, prompts: Sequence[Sequence[int]], params: GenerationParams, request_id: str | None
    ) -> AsyncGenerator[list[TextDelta], None]:
        """Yield the deltas of all choices as they arrive, in one list if they arrived together.

        Choice i of prompt p has index p * n + i. The request is submitted when the first deltas are asked
        for; closing the generator ends it. Raises RequestFailedError, EngineDeadError, ShuttingDownError or
        ReaderTooSlowError.
        """
        requests = _engine_requests(prompts, params, request_id)
        scores_prompts = params.sampling.num_prompt_logprobs is not None
        in_order = choices(len(requests), params, self._tokenizer)
        running = {request.request_id: choice for request, choice in zip(requests, in_order, strict=True)}
        reused = () if scores_prompts else prompts
        async with self._prefixes.around(reused, params.cache_namespace) as ahead:
            with self._streams.open(requests, request_id) as stream:
                while running:
                    texts, failure = self._push(await stream.take(), running)
                    ahead.release()
                    if texts and not scores_prompts:
                        yield texts
                    for portion in portions(texts if scores_prompts else ()):
                        yield portion
                        await asyncio.sleep(0)  # so that others get their turns
                    if failure is not None:
                        raise failure

    def _push(
        self, deltas: list[RequestDelta], running: dict[str, Choice]
    ) -> tuple[list[TextDelta], RequestError | None]:
        """Return the text of deltas up to the first failed one, and that failure or None."""
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
    """Return one engine request for each choice, prompt by prompt. Ids are unique and begin with
    `request_id`.
    """
    arrival = time.monotonic() if params.arrival is None else params.arrival
    beginning = "" if request_id is None else f"{request_id}-"
    return [
        EngineRequest(
            f"{beginning}{uuid.uuid4().hex}",
            prompt_ids,
            params.sampling_of(choice),
            params.seed_of(choice),
            arrival,
            params.cache_namespace,
            params.constraint(),
        )
        for prompt_ids in map(tuple, prompts)
        for choice in range(params.n)
    ]
