"""How people type: variations of casing, punctuation and politeness, for any question."""

from __future__ import annotations

from random import Random

_OPENINGS = (
    "Please",
    "Hey,",
    "Hi,",
    "OK,",
    "So,",
    "Now",
    "Can you help me?",
    "Quick question:",
    "Tell me:",
    "Hello!",
)
_CLOSINGS = ("please", "thanks", "thank you")


def vary(rng: Random, text: str) -> str:
    """`text` as one of many people would type it. Words inside it keep their case."""
    if rng.random() < 0.15:
        text = f"{rng.choice(_OPENINGS)} {text[0].lower() + text[1:] if rng.random() < 0.5 else text}"
    elif rng.random() < 0.1:
        text = f"{text.rstrip('.?!')}, {rng.choice(_CLOSINGS)}{text[-1] if text[-1] in '.?!' else ''}"
    if rng.random() < 0.25:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.25:
        text = text.rstrip(".?!")
    return text


def vary_case(rng: Random, text: str) -> str:
    """Like `vary`, but sometimes all in lower case or, rarely, all in capitals."""
    text = vary(rng, text)
    roll = rng.random()
    if roll < 0.2:
        return text.lower()
    return text.upper() if roll < 0.23 else text


def sentence(text: str) -> str:
    """`text` with its first letter capitalized."""
    return text[0].upper() + text[1:]
