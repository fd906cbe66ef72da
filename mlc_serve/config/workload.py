"""The load that a benchmark generates."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.config.option import Kind, check_options, option


@dataclass(frozen=True)
class Workload:
    """The load that a benchmark generates: lengths in tokens, and the number of runs. Raises ConfigError."""

    prompt_tokens: int = option(
        128, "Length of prompts.", kind=Kind.INTEGER, minimum=1, flags=("--prompt-tokens",)
    )
    max_tokens: int = option(64, "Length of replies.", kind=Kind.INTEGER, minimum=1, flags=("--max-tokens",))
    runs: int = option(
        3, "Number of runs; each figure is their median.", kind=Kind.INTEGER, minimum=1, flags=("--runs",)
    )

    def __post_init__(self) -> None:
        check_options(self)
