"""What a measurement asks."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_serve.config.option import Kind, check_options, option


@dataclass(frozen=True)
class Workload:
    """What a measurement asks: lengths in tokens, and how many runs a figure is the median of.

    Raises ConfigError.
    """

    prompt_tokens: int = option(
        128, "Length of prompts.", kind=Kind.INTEGER, minimum=1, flags=("--prompt-tokens",)
    )
    max_tokens: int = option(64, "Length of replies.", kind=Kind.INTEGER, minimum=1, flags=("--max-tokens",))
    runs: int = option(
        3, "Runs that a figure is the median of.", kind=Kind.INTEGER, minimum=1, flags=("--runs",)
    )

    def __post_init__(self) -> None:
        check_options(self)
