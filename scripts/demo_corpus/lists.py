"""Sorting and reversing short lists of numbers or words. A set of elements is held out in every order."""

from __future__ import annotations

from random import Random

from demo_corpus.phrasing import vary
from demo_corpus.sample import Sample, single_turn
from demo_corpus.words import NOUNS

_SORT_NUMBERS = (
    "Sort these numbers: {}", "Sort {}.", "Sort the list {}", "Put these numbers in order: {}",
    "Sort these numbers from smallest to largest: {}", "Order these numbers: {}", "Can you sort {}?",
)  # fmt: skip
_SORT_DOWN = (
    "Sort these numbers from largest to smallest: {}", "Sort these numbers in descending order: {}",
    "Sort {} in descending order.",
)  # fmt: skip
_SORT_WORDS = (
    "Sort these words: {}", "Sort {}.", "Put these words in alphabetical order: {}",
    "Sort {} alphabetically.",
    "Order these words alphabetically: {}", "Sort the list {}",
)  # fmt: skip
_REVERSE = (
    "Reverse this list: {}", "Reverse {}.", "Reverse the list {}", "Write this list backwards: {}",
    "Put this list in reverse order: {}", "Say these in reverse order: {}",
)  # fmt: skip


def _numbers(rng: Random) -> list[int]:
    top = rng.choice((9, 20, 99, 99))
    return rng.sample(range(top + 1), rng.randint(3, 5))


def _shown(rng: Random, items: list[str]) -> str:
    return rng.choice(
        (", ".join(items), ", ".join(items), ", ".join(items), " ".join(items), f"[{', '.join(items)}]")
    )


def _key(task: str, items: list[str]) -> str:
    return f"{task} {' '.join(sorted(items))}"


def sorting_numbers(rng: Random) -> Sample:
    """Three to five different numbers of up to two digits, in ascending or sometimes descending order."""
    numbers = _numbers(rng)
    down = rng.random() < 0.2
    items = [str(number) for number in numbers]
    question = rng.choice(_SORT_DOWN if down else _SORT_NUMBERS).format(_shown(rng, items))
    answer = ", ".join(map(str, sorted(numbers, reverse=down)))
    return single_turn("sorting_numbers", _key("sort", items), vary(rng, question), answer)


def sorting_words(rng: Random) -> Sample:
    """Three or four different common nouns, in alphabetical order."""
    items = rng.sample(NOUNS, rng.randint(3, 4))
    question = rng.choice(_SORT_WORDS).format(_shown(rng, items))
    return single_turn("sorting_words", _key("sort", items), vary(rng, question), ", ".join(sorted(items)))


def reversing(rng: Random) -> Sample:
    """Three to five numbers or words, last one first."""
    if rng.random() < 0.5:
        items = [str(number) for number in _numbers(rng)]
    else:
        items = rng.sample(NOUNS, rng.randint(3, 5))
    question = rng.choice(_REVERSE).format(_shown(rng, items))
    return single_turn("reversing", _key("reverse", items), vary(rng, question), ", ".join(reversed(items)))
