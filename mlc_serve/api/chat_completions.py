"""Answers chat completion requests with a whole reply or a stream of chunks. Runs on the event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from mlc_serve.api.generation import Generation
from mlc_serve.api.long_texts import LongTexts, is_long
from mlc_serve.api.output_forms import OutputForms
from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.chat_choice import ChatChunkWriter, ChatMessageWriter, ChatOptions
from mlc_serve.frontend.chat_logprobs import ChatLogprobsWriter
from mlc_serve.frontend.chat_prompt import chat_prompt_ids, offers_tools
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.output_grammar import jumps_forward, output_grammar
from mlc_serve.frontend.params import GenerationParams, cache_namespace, sampling_params, seed
from mlc_serve.frontend.prompt_logprobs import (
    PromptLogprobsParts,
    PromptLogprobsWriter,
    PromptScores,
)
from mlc_serve.frontend.reply_fields import reply_fields
from mlc_serve.frontend.reply_size import bounded, checked_size, num_per_token
from mlc_serve.frontend.usage import UsageCount
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.replies import ChatChunkChoice, ChatCompletion, ChatCompletionChunk, ChatDelta
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart
from mlc_serve.protocol.whole_reply import WholeReply
from mlc_serve.text.templates.meter import Meter

# A template may run this many steps on the event loop. Each takes about a microsecond.
_QUICK_STEPS = 10_000


class ChatCompletions:
    """Answers requests for chat completions. Implements api.endpoint.Responder."""

    def __init__(
        self, model: LoadedModel, generation: Generation, long_texts: LongTexts, output_forms: OutputForms
    ) -> None:
        self._model = model
        self._generation = generation
        self._long_texts = long_texts
        self._output_forms = output_forms

    async def respond(
        self, request: ChatCompletionRequest, request_id: str, owner: str
    ) -> WholeReply[ChatCompletion] | ReplyStream[ChatCompletionChunk]:
        """See Endpoint.respond."""
        arrival = time.monotonic()
        prompt_ids = await self.prompt_ids(request)
        grammar = await self._output_forms.template(output_grammar(request))
        params = _generation_params(request, len(prompt_ids), self._model, owner)
        params = replace(params, arrival=arrival, grammar=grammar)
        if request.stream:
            return self._stream(request, prompt_ids, params, request_id)
        return await self._collect(request, prompt_ids, params, request_id)

    async def prompt_ids(self, request: ChatCompletionRequest) -> list[int]:
        """Return the prompt's tokens. If the text is long, or the template turns out to take many steps, they
        are made on another thread.
        """
        if not is_long(request.messages, request.tools, request.chat_template_kwargs):
            quick = Meter(_QUICK_STEPS)
            try:
                return chat_prompt_ids(request, self._model, quick)
            except InvalidRequestError:
                if not quick.is_spent:
                    raise
        meter = Meter()
        read = partial(chat_prompt_ids, request, self._model, meter)
        return await self._long_texts.read(read, meter.cancel)

    async def _collect(
        self, request: ChatCompletionRequest, prompt_ids: list[int], params: GenerationParams, reply_id: str
    ) -> WholeReply[ChatCompletion]:
        options = _options(request)
        usage, scores = UsageCount([prompt_ids], params.n), PromptScores()
        writers = [ChatMessageWriter(i, options) for i in range(params.n)]
        async with aclosing(self._generation.run([prompt_ids], params, reply_id)) as batches:
            async for deltas in batches:
                for delta in deltas:
                    usage.add(delta)
                    if delta.prompt_logprobs:
                        scores.add(delta.prompt_logprobs)
                    writers[delta.index].add(delta)
                if options.ends_after_call and all(writer.has_ended for writer in writers):
                    break
        of_prompt: dict[str, Any] = {} if request.prompt_logprobs is None else {"prompt_logprobs": None}
        outline = ChatCompletion(
            object="chat.completion",
            choices=[writer.choice() for writer in writers],
            usage=usage.usage,
            **reply_fields(request, self._model, reply_id),
            **of_prompt,
        )
        logprobs = ChatLogprobsWriter(self._model.tokenizer)
        scored = PromptLogprobsWriter(self._model.tokenizer, request.prompt_logprobs or 0)
        return WholeReply(
            outline,
            [partial(logprobs.pieces, writer.logprobs) for writer in writers] if options.logprobs else [],
            [] if request.prompt_logprobs is None else [partial(scored.pieces, scores)],
        )

    def _stream(
        self, request: ChatCompletionRequest, prompt_ids: list[int], params: GenerationParams, reply_id: str
    ) -> ReplyStream[ChatCompletionChunk]:
        fields = reply_fields(request, self._model, reply_id)
        chunk = partial(ChatCompletionChunk, object="chat.completion.chunk", **fields)
        options, usage = _options(request), UsageCount([prompt_ids], params.n)
        logprobs = ChatLogprobsWriter(self._model.tokenizer)
        of_prompt = PromptLogprobsParts(self._model.tokenizer, request.prompt_logprobs)
        writers = [ChatChunkWriter(i, options, logprobs) for i in range(params.n)]

        def chunk_of(choice: ChatChunkChoice) -> ChatCompletionChunk:
            return chunk(choices=[choice], **usage.of_chunk(request.stream_options))

        counts_always = request.wants_usage_in_every_chunk

        def parts_of(delta: TextDelta) -> Iterable[ChatCompletionChunk | TextPart]:
            usage.add(delta)
            writer = writers[delta.index]
            if writer.writes_text_alone(delta) and not (counts_always or delta.prompt_logprobs):
                return (TextPart(delta.index, delta.text),)
            chunks = map(chunk_of, writer.write(delta))
            return chunks if delta.index else with_prompt(list(chunks), delta)

        def with_prompt(chunks: list[ChatCompletionChunk], delta: TextDelta) -> list[ChatCompletionChunk]:
            field = of_prompt.field(delta.prompt_logprobs)
            if not field:
                return chunks
            first, *others = chunks or [chunk_of(_text_choice(TextPart(delta.index, "")))]
            return [first.model_copy(update=field), *others]

        async def parts() -> AsyncGenerator[list[ChatCompletionChunk | TextPart], None]:
            async with aclosing(self._generation.run([prompt_ids], params, reply_id)) as batches:
                async for deltas in batches:
                    yield [part for delta in deltas for part in parts_of(delta)]
                    if options.ends_after_call and all(writer.has_ended for writer in writers):
                        break
            if request.wants_usage:
                yield [chunk(choices=[], usage=usage.usage)]

        return ReplyStream(parts(), lambda part: chunk_of(_text_choice(part)), lambda: usage.usage)


def _text_choice(part: TextPart) -> ChatChunkChoice:
    delta = ChatDelta(content=part.text)
    return ChatChunkChoice(index=part.choice, delta=delta, logprobs=None, finish_reason=None)


def _generation_params(
    request: ChatCompletionRequest, num_prompt: int, model: LoadedModel, owner: str
) -> GenerationParams:
    num_top_logprobs = (request.top_logprobs or 0) if request.logprobs else None
    sampling = replace(
        sampling_params(request, model),
        num_top_logprobs=num_top_logprobs,
        num_prompt_logprobs=request.prompt_logprobs,
    )
    if not request.stream:
        num_kept = checked_size(num_per_token(request.prompt_logprobs) * num_prompt, "prompt_logprobs")
        sampling = bounded(sampling, request.n, num_kept)
    return GenerationParams(
        sampling=sampling,
        stop=(*model.defaults.stop, *request.stop),
        shows_stop=request.include_stop_str_in_output,
        seed=seed(request),
        n=request.n,
        continues_text=request.continue_final_message,
        cache_namespace=cache_namespace(request, owner),
        jumps_forward=jumps_forward(request),
    )


def _options(request: ChatCompletionRequest) -> ChatOptions:
    return ChatOptions(
        parses_tools=offers_tools(request),
        logprobs=request.logprobs,
        ends_after_call=not request.parallel_tool_calls,
    )
