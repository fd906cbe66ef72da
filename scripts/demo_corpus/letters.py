"""Spelling words out and repeating them. Words are held out if their letters can be learned from others."""

from __future__ import annotations

from random import Random

from demo_corpus.phrasing import vary
from demo_corpus.sample import Sample, is_held_out, single_turn
from demo_corpus.words import NAMES, TOWNS, WORDS, invented_word

_SPELL = (
    "Spell {}.", "Spell the word {}.", "How do you spell {}?", "Spell out {}.", "Spell {} letter by letter.",
    "Spell '{}'.", 'Spell the word "{}".', "How is {} spelled?",
    'How do you spell "{}"?', "Can you spell {}?",
    "Write {} letter by letter.",
)  # fmt: skip
_ECHO = ("Repeat after me: {}", "Say: {}", "Repeat: {}", "Say this again: {}", "Copy this: {}", "Echo: {}")
_FAMILIAR = frozenset(WORDS + NAMES + TOWNS)


def _word(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(WORDS)
    return rng.choice(NAMES + TOWNS) if roll < 0.65 else invented_word(rng)


def spelling(rng: Random) -> Sample:
    """A word, letter by letter with hyphens between.

    A familiar word may be a single token, whose letters can't be learned from other words. So only one
    phrasing of it is held out.
    """
    word, phrasing = _word(rng), rng.randrange(len(_SPELL))
    key = f"spell {word}"
    if word in _FAMILIAR and is_held_out(key):
        key = f"{key} phrasing {phrasing}"
    return single_turn("spelling", key, vary(rng, _SPELL[phrasing].format(word)), "-".join(word))


def echo(rng: Random) -> Sample:
    """A few words to be repeated unchanged."""
    words = " ".join(_word(rng) for _ in range(rng.randint(1, 7)))
    return single_turn("echo", f"echo {words}", rng.choice(_ECHO).format(words), words)
