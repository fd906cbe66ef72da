"""How many drafts a target would keep: its greedy answers to questions, guessed token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from demo_corpus.chat import Encoder, Lesson
from demo_corpus.sample import Sample

from demo_training.batches import Batch, batches_of
from demo_training.evaluation import greedy_answers
from demo_training.student import Student
from demo_training.target import Target

NUM_GUESSES = 3


def answered(target: Target, samples: Sequence[Sample]) -> list[Batch]:
    """The samples' prompts with the target's greedy answers."""
    encoder = Encoder(target.tokenizer)
    lessons = []
    for answer in greedy_answers(target.model, target.tokenizer, samples):
        prompt = encoder.prompt_ids(answer.sample)
        learnt = [False] * len(prompt) + [True] * len(answer.ids)
        lessons.append(Lesson(prompt + answer.ids, learnt))
    return batches_of(lessons)


def shares_kept(student: Student, target: Target, batches: Sequence[Batch]) -> list[float]:
    """For each guess, the share of places at which it is kept: it and all guesses before it are the target's
    own tokens. At least one answer has enough tokens for all guesses.
    """
    kept, asked = [0] * NUM_GUESSES, [0] * NUM_GUESSES
    for batch in batches:
        for number, (right, places) in enumerate(_kept(student, target, batch)):
            kept[number] += int(right.sum())
            asked[number] += int(places.sum())
    return [part / whole for part, whole in zip(kept, asked, strict=True) if whole]


def _kept(student: Student, target: Target, batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each guess, whether it is kept, and whether it is asked for: bool [n, m], by place."""
    with torch.no_grad():
        observed = target.observe(batch)
        guesses = student.guesses(observed, NUM_GUESSES)
    kept, found = torch.ones_like(observed.answers), []
    for number, guess in enumerate(guesses):
        expected = observed.expected(number)
        kept = kept[:, : guess.shape[1]] & (guess == expected.ids)
        found.append((kept & expected.asked, expected.asked))
    return found
