"""What is measured. Knows no engine, and imports nothing that the peers' interpreter doesn't have."""

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
        """The prompt is what counts: its answer is the one token that shows that the prompt is done."""
        return self.answer == 1


@dataclass(frozen=True)
class Load:
    """Requests that clients send, each one as soon as its last is answered."""

    prompt: int
    answer: int
    requests: int


CELLS = (
    Cell("b1", 1, 128, 64),
    Cell("b8", 8, 128, 64),
    Cell("b32", 32, 128, 64),
    Cell("prefill", 1, 512, 1),
)
# Twelve for each of eight clients: start and end, when not all are under way, are a small part of it.
LOAD = Load(prompt=128, answer=64, requests=96)
# Clients of a server at once.
CONCURRENCY = (8, 32)
