"""Answers completion requests with a whole reply or a stream of chunks. Runs on the event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from mlc_serve.api.generation import Generation
from mlc_serve.api.long_texts import LongTexts, is_long
from mlc_serve.engine.request import FinishReason
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.completion_choice import (
    CompletionOptions,
    CompletionWriter,
    Prompt,
    WholeCompletionWriter,
)
from mlc_serve.frontend.params import (
    GenerationParams,
    cache_namespace,
    check_prompt,
    check_text,
    sampling_params,
    seed,
)
from mlc_serve.frontend.reply_fields import reply_fields
from mlc_serve.frontend.reply_size import bounded, prompt_logprobs
from mlc_serve.frontend.usage import UsageCount
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import CompletionRequest
from mlc_serve.protocol.replies import Completion, CompletionChoice
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart
from mlc_serve.protocol.whole_reply import WholeReply

Writer = TypeVar("Writer", CompletionWriter, WholeCompletionWriter)


class Completions:
    """Answers requests for raw completions. Implements api.endpoint.Responder."""

    def __init__(self, model: LoadedModel, generation: Generation, long_texts: LongTexts) -> None:
        self._model = model
        self._generation = generation
        self._long_texts = long_texts

    async def respond(
        self, request: CompletionRequest, request_id: str, owner: str
    ) -> WholeReply[Completion] | ReplyStream[Completion]:
        """See Endpoint.respond."""
        for prompt in request.prompt:
            if isinstance(prompt, str):
                check_text(len(prompt), self._model, "prompt")
        read = partial(_prompts, request, self._model)
        prompts = await self._long_texts.read(read) if is_long(request.prompt) else read()
        params = _generation_params(request, prompts, self._model, owner)
        if request.stream:
            return self._stream(request, prompts, params, request_id)
        return await self._collect(request, prompts, params, request_id)

    async def _collect(
        self, request: CompletionRequest, prompts: list[Prompt], params: GenerationParams, reply_id: str
    ) -> WholeReply[Completion]:
        usage = UsageCount([prompt.token_ids for prompt in prompts], params.n)
        writers = self._writers(WholeCompletionWriter, request, prompts)
        async with aclosing(self._deltas(request, prompts, params, reply_id)) as batches:
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
        if request.logprobs is None:
            return WholeReply(outline)
        return WholeReply(outline, [writer.logprobs.pieces for writer in writers])

    def _stream(
        self, request: CompletionRequest, prompts: list[Prompt], params: GenerationParams, reply_id: str
    ) -> ReplyStream[Completion]:
        fields = reply_fields(request, self._model, reply_id)
        chunk = partial(Completion, object="text_completion", **fields)
        usage = UsageCount([prompt.token_ids for prompt in prompts], params.n)
        writers = self._writers(CompletionWriter, request, prompts)

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
            async with aclosing(self._deltas(request, prompts, params, reply_id)) as batches:
                async for deltas in batches:
                    yield [part for delta in deltas for part in parts_of(delta)]
            if request.wants_usage:
                yield [chunk(choices=[], usage=usage.usage)]

        return ReplyStream(parts(), lambda part: chunk_of(_text_choice(part)), lambda: usage.usage)

    def _writers(self, kind: type[Writer], request: CompletionRequest, prompts: list[Prompt]) -> list[Writer]:
        options = CompletionOptions(request.echo, request.suffix or "", request.logprobs is not None)
        owners = [prompt for prompt in prompts for _ in range(request.n)]
        return [kind(i, owner, self._model.tokenizer, options) for i, owner in enumerate(owners)]

    def _deltas(
        self, request: CompletionRequest, prompts: list[Prompt], params: GenerationParams, reply_id: str
    ) -> AsyncGenerator[list[TextDelta], None]:
        batches = self._generation.run([prompt.token_ids for prompt in prompts], params, reply_id)
        return _without_output(batches) if request.token_limit == 0 else batches


def _text_choice(part: TextPart) -> CompletionChoice:
    return CompletionChoice(index=part.choice, text=part.text, logprobs=None, finish_reason=None)


async def _without_output(
    batches: AsyncGenerator[list[TextDelta], None],
) -> AsyncGenerator[list[TextDelta], None]:
    """Remove the output from deltas. A request for no tokens draws one, which must not be shown."""
    async with aclosing(batches):
        async for deltas in batches:
            yield [_of_prompt_alone(delta) for delta in deltas]


def _of_prompt_alone(delta: TextDelta) -> TextDelta:
    ended = None if delta.finish_reason is None else FinishReason.LENGTH
    return replace(delta, text="", token_ids=(), logprobs=(), finish_reason=ended)


def _prompts(request: CompletionRequest, model: LoadedModel) -> list[Prompt]:
    """Return the tokenized prompts. Raises InvalidRequestError or ContextLengthError for a bad one."""
    return [_prompt(prompt, model, request.echo) for prompt in request.prompt]


def _prompt(given: str | Sequence[int], model: LoadedModel, echo: bool) -> Prompt:
    if isinstance(given, str):
        prompt = Prompt(tuple(model.tokenizer.encode(given, add_special_tokens=True)), given)
        check_prompt(prompt.token_ids, model, "prompt")
        return prompt
    check_prompt(given, model, "prompt")
    return Prompt(tuple(given), model.tokenizer.decode(given) if echo else "")


def _generation_params(
    request: CompletionRequest, prompts: list[Prompt], model: LoadedModel, owner: str
) -> GenerationParams:
    sampling = replace(
        sampling_params(request, model),
        max_tokens=1 if request.token_limit == 0 else request.token_limit,
        num_top_logprobs=request.logprobs,
        prompt_logprobs=request.echo and request.logprobs is not None,
    )
    if not request.stream:
        num_kept = prompt_logprobs(sampling, [prompt.token_ids for prompt in prompts], request.n)
        sampling = bounded(sampling, len(prompts) * request.n, num_kept)
    return GenerationParams(
        sampling=sampling,
        stop=tuple(request.stop),
        shows_stop=request.include_stop_str_in_output,
        seed=seed(request),
        n=request.n,
        continues_text=True,
        cache_namespace=cache_namespace(request, owner),
    )
