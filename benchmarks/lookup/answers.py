"""Answers of an engine with and without drafts, and what is computed from them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.lookup.tasks import Task
from benchmarks.peers.rounds import say

PLAIN = "none"


@dataclass(frozen=True)
class Answer:
    """The tokens of an answer, what it took from the first of them to the last one, and the number of forward
    passes in that time.
    """

    token_ids: tuple[int, ...]
    seconds: float
    num_passes: int


class Side(Protocol):
    """An engine that drafts in one way, or not."""

    @property
    def engine(self) -> str: ...

    @property
    def drafts(self) -> str:
        """How it drafts, by the engine's own name for it; PLAIN if it doesn't."""

    def answer(self, prompt: Sequence[int], max_tokens: int) -> Answer:
        """Continue a prompt greedily until the model ends, or for `max_tokens` tokens."""


@dataclass(frozen=True)
class Asked:
    """A task, the tokens of its prompt, and the answers of each round, by engine and drafts."""

    task: Task
    prompt: Sequence[int]
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)

    def ask(self, side: Side, max_tokens: int) -> None:
        """Let a side answer once more."""
        answer = side.answer(self.prompt, max_tokens)
        self.answers.setdefault((side.engine, side.drafts), []).append(answer)
        say(f"{self.task.name}: {side.engine}, drafts {side.drafts}: {rate([[answer]]):.1f} tokens/s")


def ask_in_turns(asked: Sequence[Asked], sides: Sequence[Side], runs: int, max_tokens: int) -> None:
    """Let the sides take turns, task by task, for some rounds. Before that each side answers one task of each
    kind, which doesn't count.
    """
    for one in {one.task.kind: one for one in asked}.values():
        for side in sides:
            side.answer(one.prompt, max_tokens)
    for number in range(1, runs + 1):
        say(f"round {number}")
        for one in asked:
            for side in sides:
                one.ask(side, max_tokens)


def rate(answers: Sequence[Sequence[Answer]]) -> float:
    """Tokens a second of several tasks, each of which takes the median of its rounds."""
    seconds = sum(statistics.median(answer.seconds for answer in rounds) for rounds in answers)
    return _num_timed(answers) / seconds


def tokens_per_pass(answers: Sequence[Sequence[Answer]]) -> float:
    """The tokens that a forward pass gives. Each task has the median of its rounds."""
    passes = sum(statistics.median(answer.num_passes for answer in rounds) for rounds in answers)
    return _num_timed(answers) / passes


def are_equal(rounds: Sequence[Answer]) -> bool:
    """Whether all answers have the same tokens."""
    return len({answer.token_ids for answer in rounds}) == 1


def _num_timed(answers: Sequence[Sequence[Answer]]) -> float:
    """The tokens after the first one of each answer."""
    return sum(statistics.median(len(answer.token_ids) - 1 for answer in rounds) for rounds in answers)
