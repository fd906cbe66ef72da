"""mlc_serve in this process, one engine without drafts and one that looks them up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.lookup.answers import PLAIN, Answer
from benchmarks.lookup.tasks import Task
from benchmarks.peers.rounds import say
from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.config.engine import SpeculativeMode
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.frontend.chat_prompt import chat_prompt_ids
from mlc_serve.frontend.params import GenerationParams
from mlc_serve.loaded_model import LoadedModel
from mlc_serve.loading import load_model
from mlc_serve.protocol.openai import ChatCompletionRequest

MODES: Sequence[SpeculativeMode] = ("disable", "ngram")


class OurEngine:
    """Implements Side."""

    engine = "mlc_serve"

    def __init__(self, model: LoadedModel, mode: SpeculativeMode) -> None:
        self.drafts = PLAIN if mode == "disable" else mode
        self._model = model
        self._engine = AsyncMLCEngine.from_loaded(model)

    def prompt(self, task: Task) -> list[int]:
        """The tokens of a conversation that begins with a task."""
        fields = {"messages": [{"role": "user", "content": task.text}]}
        return chat_prompt_ids(ChatCompletionRequest.model_validate(fields), self._model)

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        """See Side."""
        arrivals = asyncio.run(self._arrivals(prompt, max_tokens))
        (first, _), (last, _) = arrivals[0], arrivals[-1]
        token_ids = tuple(token_id for _, arrived in arrivals for token_id in arrived)
        return Answer(token_ids, last - first, len(arrivals) - 1)

    def end(self) -> None:
        """Give back what the engine holds."""
        self._engine.terminate()

    async def _arrivals(self, prompt: Sequence[int], max_tokens: int) -> list[tuple[float, tuple[int, ...]]]:
        """When the tokens of each forward pass arrived, and these tokens."""
        ends = self._model.defaults.eos_token_ids
        sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, stop_token_ids=ends)
        return [
            (time.perf_counter(), delta.token_ids)
            async for delta in self._engine.generate(prompt, GenerationParams(sampling))
        ]


@contextmanager
def our_engines(model: str, quantization: str | None, max_length: int) -> Iterator[Sequence[OurEngine]]:
    """The engines without and with drafts, which run while the context is open. `max_length` is the most
    tokens of a prompt and its answer.
    """
    engines = [OurEngine(_load(model, quantization, max_length, mode), mode) for mode in MODES]
    try:
        yield engines
    finally:
        for engine in engines:
            engine.end()


def _load(model: str, quantization: str | None, max_length: int, mode: SpeculativeMode) -> LoadedModel:
    config = EngineConfig(
        model=model,
        quantization=quantization,
        max_single_sequence_length=max_length,
        max_total_sequence_length=max_length,
        prefix_cache_mode="disable",  # every prompt is computed
        speculative_mode=mode,
        verbose=False,
    )
    return load_model(config, "cpu", say)
