"""What the benchmarks share: options, the model, the engine's configuration, and both ways to ask."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.event_client import EventClient
from benchmarks.load import Ask, Prompt
from benchmarks.random_model import write_model
from benchmarks.shapes import SHAPES
from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.engine.sampling import SamplingParams
from mlc_serve.frontend.params import GenerationParams

MODELS = Path("models")
PAGE = 16
# The KV cache is at least this long, whatever the concurrency.
LONGEST_PREFILL = 4096


@dataclass(frozen=True)
class Settings:
    """What is measured. Lengths in tokens."""

    model: str
    device: str
    quantization: str | None
    concurrency: Sequence[int]
    prompt_tokens: int
    max_tokens: int
    runs: int

    def engine_config(self) -> EngineConfig:
        """Limits with which the largest concurrency runs at once. Prompts never repeat: no prefix cache."""
        most = max(self.concurrency)
        return EngineConfig(
            quantization=self.quantization,
            max_num_sequence=most,
            max_total_sequence_length=max(
                most * (self.prompt_tokens + 2 * self.max_tokens + PAGE), LONGEST_PREFILL
            ),
            prefix_cache_mode="disable",
            verbose=False,
        )

    def listing(self) -> dict[str, object]:
        """What a report says of the settings."""
        return {
            "model": Path(self.model).name,
            "quantization": self.quantization or "default",
            "prompt": self.prompt_tokens,
            "output": self.max_tokens,
            "runs": self.runs,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of all benchmarks."""
    parser.add_argument("--model", help="model directory; without it, one with random weights is made")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="shape of the random model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quantization")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that a command line stands for; makes the random model if it is missing."""
    return Settings(
        model=options.model or str(random_model(options.shape)),
        device=options.device,
        quantization=options.quantization,
        concurrency=options.concurrency,
        prompt_tokens=options.prompt_tokens,
        max_tokens=options.max_tokens,
        runs=options.runs,
    )


def random_model(shape: str) -> Path:
    """The directory of a random model, which is written if it isn't there."""
    directory = MODELS / shape
    if not (directory / "model.safetensors").exists():
        write_model(SHAPES[shape], directory)
    return directory


def start_engine(settings: Settings) -> AsyncMLCEngine:
    """An engine in this process."""
    return AsyncMLCEngine(settings.model, settings.device, engine_config=settings.engine_config())


def ask_engine(engine: AsyncMLCEngine, max_tokens: int) -> Ask:
    """Ask an engine in this process for exactly `max_tokens` greedy tokens."""
    params = GenerationParams(SamplingParams(temperature=0.0, max_tokens=max_tokens))

    async def ask(prompt: Prompt) -> AsyncIterator[int]:
        async for delta in engine.generate(prompt, params):
            yield len(delta.token_ids)

    return ask


def ask_server(client: EventClient, max_tokens: int) -> Ask:
    """Ask an OpenAI-compatible server for exactly `max_tokens` greedy tokens that continue a prompt."""

    def ask(prompt: Prompt) -> AsyncIterator[int]:
        return _asked(client, "/v1/completions", {**_streamed(max_tokens), "prompt": list(prompt)})

    return ask


def ask_chat(client: EventClient, max_tokens: int) -> Ask:
    """As `ask_server`, in a conversation. The prompt is written out as numbers: its length is another."""

    def ask(prompt: Prompt) -> AsyncIterator[int]:
        messages = [{"role": "user", "content": " ".join(map(str, prompt))}]
        return _asked(client, "/v1/chat/completions", {**_streamed(max_tokens), "messages": messages})

    return ask


def _streamed(max_tokens: int) -> dict[str, object]:
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    return {"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **streaming}


async def _asked(client: EventClient, path: str, body: dict[str, object]) -> AsyncIterator[int]:
    """A chunk with text counts as a token, and what `usage` has beyond these arrives with it."""
    counted = 0
    async for line in client.post(path, body):
        new = tokens_in(line, counted)
        if new:
            counted += new
            yield new


def tokens_in(line: str, counted: int) -> int:
    """The tokens that a line of an event stream adds to those counted. Raises RuntimeError for an error."""
    if not line.startswith("data: {"):
        return 0
    event = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise RuntimeError(f"the stream ended with an error: {event['error']}")
    if event.get("usage"):
        return int(event["usage"]["completion_tokens"]) - counted
    return sum(1 for choice in event["choices"] if choice.get("text") or _content(choice))


def _content(choice: dict[str, Any]) -> object:
    """What a chunk of a chat adds, if it is one."""
    return choice.get("delta", {}).get("content")
