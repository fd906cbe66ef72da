"""Answers completion requests with a whole reply or a stream of chunks. Runs on the event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from mlc_serve.api.generation import Generation
from mlc_serve.api.long_texts import LongTexts, is_long
from mlc_serve.api.output_forms import OutputForms
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.completion_choice import (
    CompletionOptions,
    CompletionWriter,
    WholeCompletionWriter,
)
from mlc_serve.frontend.completion_prompt import Prompt, completion_prompts
from mlc_serve.frontend.output_grammar import jumps_forward, output_grammar
from mlc_serve.frontend.params import (
    GenerationParams,
    cache_namespace,
    check_text,
    sampling_params,
    seed,
)
from mlc_serve.frontend.prompt_logprobs import PromptScores
from mlc_serve.frontend.reply_fields import reply_fields
from mlc_serve.frontend.reply_size import bounded, checked_size, num_per_token
from mlc_serve.frontend.usage import UsageCount
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import CompletionRequest
from mlc_serve.protocol.replies import Completion, CompletionChoice
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart
from mlc_serve.protocol.whole_reply import WholeReply


class Completions:
    """Answers requests for raw completions. Implements api.endpoint.Responder."""

    def __init__(
        self, model: LoadedModel, generation: Generation, long_texts: LongTexts, output_forms: OutputForms
    ) -> None:
        self._model = model
        self._generation = generation
        self._long_texts = long_texts
        self._output_forms = output_forms

    async def respond(
        self, request: CompletionRequest, request_id: str, owner: str
    ) -> WholeReply[Completion] | ReplyStream[Completion]:
        """See Endpoint.respond."""
        arrival = time.monotonic()
        return await self.answer(request, await self.prompts(request), request_id, owner, arrival)

    async def prompts(self, request: CompletionRequest) -> list[Prompt]:
        """Return the tokenized prompts. Raises InvalidRequestError or ContextLengthError for a bad one."""
        for prompt in request.prompt:
            if isinstance(prompt, str):
                check_text(len(prompt), self._model, "prompt")
        read = partial(completion_prompts, request, self._model)
        return await self._long_texts.read(read) if is_long(request.prompt) else read()

    async def answer(
        self, request: CompletionRequest, prompts: list[Prompt], request_id: str, owner: str, arrival: float
    ) -> WholeReply[Completion] | ReplyStream[Completion]:
        """Answer a request that came at `arrival` (time.monotonic() seconds), whose prompts are these."""
        grammar = await self._output_forms.template(output_grammar(request))
        params = _generation_params(request, prompts, self._model, owner)
        params = replace(params, arrival=arrival, grammar=grammar)
        if request.stream:
            return self._stream(request, prompts, params, request_id)
        return await self._collect(request, prompts, params, request_id)

    async def _collect(
        self, request: CompletionRequest, prompts: list[Prompt], params: GenerationParams, reply_id: str
    ) -> WholeReply[Completion]:
        usage = self._usage(prompts, params)
        writers = self._whole_writers(request, prompts)
        async with aclosing(self._deltas(prompts, params, reply_id)) as batches:
            async for deltas in batches:
                for delta in deltas:
                    usage.add(delta)
                    writers[delta.index].add(delta)
        outline = Completion(
            object="text_completion",
            choices=[writer.choice() for writer in writers],
            usage=usage.usage,
            **reply_fields(request, self._model, reply_id),
        )
        return WholeReply(
            outline,
            [] if request.logprobs is None else [writer.logprobs.pieces for writer in writers],
            [] if request.prompt_logprobs is None else [writer.prompt_logprobs for writer in writers],
        )

    def _stream(
        self, request: CompletionRequest, prompts: list[Prompt], params: GenerationParams, reply_id: str
    ) -> ReplyStream[Completion]:
        fields = reply_fields(request, self._model, reply_id)
        chunk = partial(Completion, object="text_completion", **fields)
        usage = self._usage(prompts, params)
        writers = self._writers(request, prompts)

        def chunk_of(part: CompletionChoice) -> Completion:
            return chunk(choices=[part], **usage.of_chunk(request.stream_options))

        counts_always = request.wants_usage_in_every_chunk

        def parts_of(delta: TextDelta) -> Sequence[Completion | TextPart]:
            usage.add(delta)
            writer = writers[delta.index]
            if writer.writes_text_alone(delta) and not counts_always:
                return (TextPart(delta.index, delta.text),)
            part = writer.write(delta)
            return () if part is None else (chunk_of(part),)

        async def parts() -> AsyncGenerator[list[Completion | TextPart], None]:
            async with aclosing(self._deltas(prompts, params, reply_id)) as batches:
                async for deltas in batches:
                    yield [part for delta in deltas for part in parts_of(delta)]
            if request.wants_usage:
                yield [chunk(choices=[], usage=usage.usage)]

        return ReplyStream(parts(), lambda part: chunk_of(_text_choice(part)), lambda: usage.usage)

    def _writers(self, request: CompletionRequest, prompts: list[Prompt]) -> list[CompletionWriter]:
        """Return a writer for each choice. The first choice of each prompt has its prompt_logprobs."""
        options, tokenizer = _options(request), self._model.tokenizer
        others = replace(options, num_prompt_top=None)
        owners = [(prompt, choice) for prompt in prompts for choice in range(request.n)]
        return [
            CompletionWriter(i, prompt, tokenizer, others if choice else options)
            for i, (prompt, choice) in enumerate(owners)
        ]

    def _whole_writers(
        self, request: CompletionRequest, prompts: list[Prompt]
    ) -> list[WholeCompletionWriter]:
        options, tokenizer = _options(request), self._model.tokenizer
        scored = [(prompt, PromptScores()) for prompt in prompts]
        owners = [owner for owner in scored for _ in range(request.n)]
        return [
            WholeCompletionWriter(i, prompt, scores, tokenizer, options)
            for i, (prompt, scores) in enumerate(owners)
        ]

    def _usage(self, prompts: list[Prompt], params: GenerationParams) -> UsageCount:
        token_ids = [prompt.token_ids for prompt in prompts]
        return UsageCount(token_ids, params.n, tells_drafts=self._model.speculation.is_on)

    def _deltas(
        self, prompts: list[Prompt], params: GenerationParams, reply_id: str
    ) -> AsyncGenerator[list[TextDelta], None]:
        return self._generation.run([prompt.token_ids for prompt in prompts], params, reply_id)


def _options(request: CompletionRequest) -> CompletionOptions:
    return CompletionOptions(request.echo, request.suffix or "", request.logprobs, request.prompt_logprobs)


def _text_choice(part: TextPart) -> CompletionChoice:
    return CompletionChoice(index=part.choice, text=part.text, logprobs=None, finish_reason=None)


def _generation_params(
    request: CompletionRequest, prompts: list[Prompt], model: LoadedModel, owner: str
) -> GenerationParams:
    sampling = replace(
        sampling_params(request, model),
        num_top_logprobs=request.logprobs,
        num_prompt_logprobs=_num_prompt_logprobs(request),
    )
    if not request.stream:
        sampling = bounded(sampling, len(prompts) * request.n, _num_kept(request, prompts))
    return GenerationParams(
        sampling=sampling,
        stop=tuple(request.stop),
        shows_stop=request.include_stop_str_in_output,
        lists_stop_token=request.echoes_logprobs,
        scores_every_choice=request.stream and request.echoes_logprobs,
        seed=seed(request),
        n=request.n,
        continues_text=True,
        cache_namespace=cache_namespace(request, owner),
        jumps_forward=jumps_forward(request),
    )


def _num_prompt_logprobs(request: CompletionRequest) -> int | None:
    """Return how many alternatives to the prompt's tokens the reply needs, in either format."""
    asked = [request.prompt_logprobs, request.logprobs if request.echo else None]
    return max((number for number in asked if number is not None), default=None)


def _num_kept(request: CompletionRequest, prompts: list[Prompt]) -> int:
    """Return the number of the prompts' logprobs in a whole reply. Raises InvalidRequestError if it is too
    large.
    """
    per_token = num_per_token(request.logprobs) if request.echo else 0
    per_token += num_per_token(request.prompt_logprobs)
    param = "logprobs" if request.prompt_logprobs is None else "prompt_logprobs"
    return checked_size(per_token * request.n * sum(len(prompt.token_ids) for prompt in prompts), param)
