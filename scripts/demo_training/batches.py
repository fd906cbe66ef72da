"""The training data of a step: a pure function of seed and step, so that a run resumes where it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

import torch
from demo_corpus.chat import Encoder, Lesson
from demo_corpus.mixture import training_sample

from demo_training.preset import CONTEXT_LENGTH

TOKENS_PER_BATCH = 2048  # fits into a CPU's caches: with 4096, training is a third slower


@dataclass(frozen=True)
class Batch:
    """Right-padded lessons of similar length.

    ids: int64 [num_lessons, length]; targets: int64 and weights: float32, both [num_lessons, length - 1]; the
    assistant's tokens have weight 1, all others 0. Since padding is on the right, the causal mask hides it
    from all real tokens.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def step_batches(
    encoder: Encoder, seed: int, step: int, num_samples: int, longest: int = CONTEXT_LENGTH
) -> list[Batch]:
    """The batches whose gradients make up one optimizer step, of lessons of at most `longest` tokens."""
    rng = Random(f"{seed}/{step}")
    return batches_of((encoder.lesson(training_sample(rng)) for _ in range(num_samples)), longest)


def batches_of(lessons: Iterable[Lesson], longest: int = CONTEXT_LENGTH) -> list[Batch]:
    """Batches of those lessons that have at most `longest` tokens. At least one of them has."""
    fitting = [lesson for lesson in lessons if len(lesson.ids) <= longest]
    return [_padded(group) for group in _groups(sorted(fitting, key=lambda lesson: len(lesson.ids)))]


def _groups(lessons: list[Lesson]) -> Iterator[list[Lesson]]:
    group: list[Lesson] = []
    for lesson in lessons:
        if group and (len(group) + 1) * len(lesson.ids) > TOKENS_PER_BATCH:
            yield group
            group = []
        group.append(lesson)
    yield group


def _padded(lessons: list[Lesson]) -> Batch:
    length = max(len(lesson.ids) for lesson in lessons)
    ids = torch.zeros(len(lessons), length, dtype=torch.long)
    weights = torch.zeros(len(lessons), length)
    for row, lesson in enumerate(lessons):
        used = len(lesson.ids)
        ids[row, :used] = torch.tensor(lesson.ids)
        weights[row, :used] = torch.tensor(lesson.learnt).float()
    return Batch(ids, ids[:, 1:], weights[:, 1:])
