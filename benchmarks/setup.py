"""What benchmarks share: options of the command line, the model, and the configuration of the engine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.random_model import write_model
from benchmarks.shapes import SHAPES
from mlc_serve import AsyncMLCEngine, EngineConfig
from mlc_serve.config import Workload
from mlc_serve.config.option import command_line

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
        """Limits that let the largest concurrency run at once, without a prefix cache: no prompt repeats."""
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

    def caching_config(self, num_tokens: int) -> EngineConfig:
        """A KV cache that holds so many tokens, and keeps prefixes as long as there is room."""
        return replace(
            self.engine_config(),
            max_total_sequence_length=num_tokens,
            prefix_cache_mode="radix",
            prefix_cache_max_num_recycling_seqs=-1,
        )

    def serve_command(self, config: EngineConfig) -> list[str]:
        """The command that serves the model in this way, at no particular address."""
        command = [sys.executable, "-m", "mlc_serve", "serve", self.model, "--device", self.device]
        return [*command, *command_line(config)]

    @property
    def workload(self) -> Workload:
        """The requests that are sent in each run."""
        return Workload(self.prompt_tokens, self.max_tokens, self.runs)

    def listing(self) -> dict[str, object]:
        """The settings as a report shows them."""
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
    """The settings from a command line. Makes the random model if it is missing."""
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
