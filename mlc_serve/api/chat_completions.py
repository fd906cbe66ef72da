"""Answers chat completion requests with a whole reply or a stream of chunks. Runs on the event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from mlc_serve.api.generation import Generation
from mlc_serve.api.long_texts import LongTexts, is_long
from mlc_serve.api.output_forms import OutputForms
from mlc_serve.errors import InvalidRequestError
from mlc_serve.frontend.called_functions import called_functions
from mlc_serve.frontend.chat_choice import ChatChunkWriter, ChatMessageWriter, ChatOptions
from mlc_serve.frontend.chat_grammar import chat_grammar
from mlc_serve.frontend.chat_logprobs import ChatLogprobsWriter
from mlc_serve.frontend.chat_prompt import ChatPrompt, offers_tools, read_chat
from mlc_serve.frontend.choice import TextDelta
from mlc_serve.frontend.output_grammar import jumps_forward
from mlc_serve.frontend.params import (
    GenerationParams,
    cache_namespace,
    reasoning_limit,
    sampling_params,
    seed,
)
from mlc_serve.frontend.prompt_logprobs import (
    PromptLogprobsParts,
    PromptLogprobsWriter,
    PromptScores,
)
from mlc_serve.frontend.reply_fields import reply_fields
from mlc_serve.frontend.reply_size import bounded, checked_size, num_per_token
from mlc_serve.frontend.usage import UsageCount
from mlc_serve.grammar import Grammar
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.protocol.openai import ChatCompletionRequest
from mlc_serve.protocol.replies import ChatChunkChoice, ChatCompletion, ChatCompletionChunk, ChatDelta
from mlc_serve.protocol.reply_stream import ReplyStream, TextPart
from mlc_serve.protocol.whole_reply import WholeReply
from mlc_serve.text.answer_parser import AnswerParser
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
        prompt = await self._prompt(request)
        grammar = await self._output_forms.template(await self._grammar(request, prompt))
        params = _generation_params(request, prompt, self._model, owner)
        params = replace(params, arrival=arrival, grammar=grammar)
        if request.stream:
            return self._stream(request, prompt, params, request_id)
        return await self._collect(request, prompt, params, request_id)

    async def _grammar(self, request: ChatCompletionRequest, prompt: ChatPrompt) -> Grammar | None:
        write = partial(chat_grammar, request, self._model, reasoning_is_open=prompt.reasoning_is_open)
        forms = (request.tools, request.response_format, request.structured_outputs)
        return await self._long_texts.read(write) if is_long(*forms) else write()

    async def prompt_ids(self, request: ChatCompletionRequest) -> list[int]:
        """Return the prompt's tokens; see frontend.chat_prompt.read_chat."""
        return (await self._prompt(request)).token_ids

    async def _prompt(self, request: ChatCompletionRequest) -> ChatPrompt:
        """Return the prompt. If the text is long, or the template turns out to take many steps, it is made on
        another thread.
        """
        if not is_long(request.messages, request.tools, request.chat_template_kwargs):
            quick = Meter(_QUICK_STEPS)
            try:
                return read_chat(request, self._model, quick)
            except InvalidRequestError:
                if not quick.is_spent:
                    raise
        meter = Meter()
        read = partial(read_chat, request, self._model, meter)
        return await self._long_texts.read(read, meter.cancel)

    async def _collect(
        self, request: ChatCompletionRequest, prompt: ChatPrompt, params: GenerationParams, reply_id: str
    ) -> WholeReply[ChatCompletion]:
        options = _options(request, prompt, self._model)
        scores = PromptScores()
        writers = [ChatMessageWriter(i, options) for i in range(params.n)]
        usage = self._usage(prompt, params, writers)
        async with aclosing(self._generation.run([prompt.token_ids], params, reply_id)) as batches:
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
        self, request: ChatCompletionRequest, prompt: ChatPrompt, params: GenerationParams, reply_id: str
    ) -> ReplyStream[ChatCompletionChunk]:
        fields = reply_fields(request, self._model, reply_id)
        chunk = partial(ChatCompletionChunk, object="chat.completion.chunk", **fields)
        options = _options(request, prompt, self._model)
        logprobs = ChatLogprobsWriter(self._model.tokenizer)
        of_prompt = PromptLogprobsParts(self._model.tokenizer, request.prompt_logprobs)
        writers = [ChatChunkWriter(i, options, logprobs) for i in range(params.n)]
        usage = self._usage(prompt, params, writers)

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
            async with aclosing(self._generation.run([prompt.token_ids], params, reply_id)) as batches:
                async for deltas in batches:
                    yield [part for delta in deltas for part in parts_of(delta)]
                    if options.ends_after_call and all(writer.has_ended for writer in writers):
                        break
            if request.wants_usage:
                yield [chunk(choices=[], usage=usage.usage)]

        return ReplyStream(parts(), lambda part: chunk_of(_text_choice(part)), lambda: usage.usage)

    def _usage(
        self,
        prompt: ChatPrompt,
        params: GenerationParams,
        writers: Sequence[ChatMessageWriter | ChatChunkWriter],
    ) -> UsageCount:
        num_reasoning_tokens = partial(_num_reasoning_tokens, writers)
        tells_drafts = self._model.speculation.is_on
        return UsageCount([prompt.token_ids], params.n, num_reasoning_tokens, tells_drafts=tells_drafts)


def _text_choice(part: TextPart) -> ChatChunkChoice:
    delta = ChatDelta(content=part.text)
    return ChatChunkChoice(index=part.choice, delta=delta, logprobs=None, finish_reason=None)


def _num_reasoning_tokens(writers: Sequence[ChatMessageWriter | ChatChunkWriter]) -> int:
    return sum(writer.num_reasoning_tokens for writer in writers)


def _generation_params(
    request: ChatCompletionRequest, prompt: ChatPrompt, model: LoadedModel, owner: str
) -> GenerationParams:
    num_top_logprobs = (request.top_logprobs or 0) if request.logprobs else None
    sampling = replace(
        sampling_params(request, model),
        num_top_logprobs=num_top_logprobs,
        num_prompt_logprobs=request.prompt_logprobs,
    )
    if not request.stream:
        num_kept = checked_size(
            num_per_token(request.prompt_logprobs) * len(prompt.token_ids), "prompt_logprobs"
        )
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
        shown_special=model.answers.special_texts(with_calls=offers_tools(request)),
        reasoning_limit=reasoning_limit(request, model, is_open=prompt.reasoning_is_open),
    )


def _options(request: ChatCompletionRequest, prompt: ChatPrompt, model: LoadedModel) -> ChatOptions:
    return ChatOptions(
        logprobs=request.logprobs,
        new_parser=_new_parser(request, prompt, model),
        ends_after_call=not request.parallel_tool_calls,
        shows_reasoning=request.include_reasoning,
    )


def _new_parser(
    request: ChatCompletionRequest, prompt: ChatPrompt, model: LoadedModel
) -> Callable[[], AnswerParser] | None:
    """Return what makes a parser for each choice, or None if all of the answer is content."""
    functions = called_functions(request) if offers_tools(request) else None
    if functions is None and model.answers.reasoning is None:
        return None
    return partial(model.answers.parser, functions, reasoning_is_open=prompt.reasoning_is_open)
