"""The settings of a chat in the terminal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mlc_serve.config.option import Kind, check_options, option, parse_assignments


@dataclass(frozen=True)
class ChatConfig:
    """The settings of a chat in the terminal; None uses the model's default. Raises ConfigError.

    An option's override is its key in the chat's /set command.
    """

    system: str | None = option(None, "System message of every conversation.", flags=("--system",))
    temperature: float | None = option(
        None,
        "How random replies are; 0 always takes the likeliest token. Default: the model's own.",
        kind=Kind.NUMBER,
        minimum=0,
        maximum=2,
        flags=("--temperature",),
        override="temperature",
    )
    top_p: float | None = option(
        None,
        "Sample only from the likeliest tokens with this share of the probability. Default: the model's own.",
        kind=Kind.NUMBER,
        minimum=0.001,
        maximum=1,
        flags=("--top-p",),
        override="top_p",
    )
    max_tokens: int | None = option(
        None,
        "Longest reply in tokens. Default: as long as the context window allows.",
        kind=Kind.INTEGER,
        minimum=1,
        flags=("--max-tokens",),
        override="max_tokens",
    )
    seed: int | None = option(
        None,
        "Seed for sampling: the same seed gives the same reply.",
        kind=Kind.INTEGER,
        minimum=0,
        maximum=2**63 - 1,
        flags=("--seed",),
        override="seed",
    )

    def __post_init__(self) -> None:
        check_options(self)

    def changed(self, assignments: str) -> ChatConfig:
        """Return this configuration with `key=value;key=value` applied. Raises ConfigError."""
        return replace(self, **parse_assignments(assignments, ChatConfig, "/set"))

    def sampling(self) -> dict[str, Any]:
        """The fields of a request that are set."""
        given = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
        return {name: value for name, value in given.items() if value is not None}
