"""What is measured. This module knows no engine, and imports only what the peers' interpreter has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """Sequences that run at once, and the length in tokens of each one's prompt and answer."""

    name: str
    batch: int
    prompt: int
    answer: int

    @property
    def is_prefill(self) -> bool:
        """Whether the prompt is measured. The answer is a single token, which shows that it is done."""
        return self.answer == 1


@dataclass(frozen=True)
class Load:
    """Requests that clients send. Each client sends the next one as soon as its last one is answered."""

    prompt: int
    answer: int
    requests: int


CELLS = (
    Cell("b1", 1, 128, 64),
    Cell("b8", 8, 128, 64),
    Cell("b32", 32, 128, 64),
    Cell("prefill", 1, 512, 1),
)
# Twelve for each of eight clients, so that the start and the end, when not all are busy, are a small part.
LOAD = Load(prompt=128, answer=64, requests=96)
# Numbers of clients that a server has at once.
CONCURRENCY = (8, 32)
