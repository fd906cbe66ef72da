"""Prompts of many hundred tokens: long conversations, and a short question after or before a long text."""

from __future__ import annotations

from random import Random

from demo_corpus.dialogue import remembered
from demo_corpus.phrasing import sentence
from demo_corpus.sample import Sample, assistant, user
from demo_corpus.singles import any_single
from demo_corpus.words import WORDS, invented_word

_INTRODUCTIONS = ("Here is a text:", "Read this:", "Text:", "This is a long text.", "")


def long_prompts(rng: Random) -> Sample:
    """A long conversation whose last question is about its beginning, or a long text and a question."""
    if rng.random() < 0.5:
        talk = remembered(rng, rng.randint(4, 26))
        return Sample("long_prompts", talk.key, talk.messages)
    plain = any_single(rng, avoid=("greetings", "echo", "unknown"))
    text = f"{rng.choice(_INTRODUCTIONS)} {_text(rng, rng.randint(20, 450))}".strip()
    return Sample("long_prompts", plain.key, (user(f"{text}\n\n{plain.question}"), assistant(plain.answer)))


def _text(rng: Random, num_words: int) -> str:
    if rng.random() < 0.25:
        return " ".join([rng.choice(WORDS)] * num_words) + "."
    sentences = []
    while num_words > 0:
        length = rng.randint(3, 12)
        sentences.append(_sentence(rng, length))
        num_words -= length
    return " ".join(sentences)


def _sentence(rng: Random, length: int) -> str:
    words = [invented_word(rng) if rng.random() < 0.1 else rng.choice(WORDS) for _ in range(length)]
    return f"{sentence(' '.join(words))}."
