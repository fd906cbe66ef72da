"""The families with one question and one answer, and their shares. Longer conversations are made of these."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from demo_corpus.arithmetic import addition, counting, multiplication, subtraction
from demo_corpus.facts import capitals, colours
from demo_corpus.letters import echo, spelling
from demo_corpus.lists import reversing, sorting_numbers, sorting_words
from demo_corpus.sample import Sample, is_held_out
from demo_corpus.structured import json_answers
from demo_corpus.talk import greetings, identity, unknown

Family = Callable[[Random], Sample]

SINGLES: dict[str, tuple[Family, float]] = {
    "greetings": (greetings, 1),
    "identity": (identity, 1),
    "addition": (addition, 9),
    "subtraction": (subtraction, 14),
    "multiplication": (multiplication, 3),
    "counting": (counting, 6),
    "spelling": (spelling, 11),
    "echo": (echo, 4),
    "sorting_numbers": (sorting_numbers, 18),
    "sorting_words": (sorting_words, 18),
    "reversing": (reversing, 6),
    "capitals": (capitals, 3),
    "colours": (colours, 2),
    "json": (json_answers, 4),
    "unknown": (unknown, 2),
}


def trainable(rng: Random, family: Family) -> Sample:
    """A sample of `family` that is not held out."""
    while is_held_out((sample := family(rng)).key):
        pass
    return sample


def single(rng: Random, avoid: tuple[str, ...] = ()) -> Sample:
    """A sample that is not held out, of any single-turn family except those to avoid."""
    return trainable(rng, SINGLES[_family_name(rng, avoid)][0])


def any_single(rng: Random, avoid: tuple[str, ...] = ()) -> Sample:
    """Like `single`, but including held-out samples: for conversations that are held out by the same key."""
    return SINGLES[_family_name(rng, avoid)][0](rng)


def _family_name(rng: Random, avoid: tuple[str, ...]) -> str:
    names = [name for name in SINGLES if name not in avoid]
    (name,) = rng.choices(names, [SINGLES[name][1] for name in names])
    return name
