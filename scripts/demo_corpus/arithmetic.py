"""Sums, differences and products of small numbers, and counting."""

from __future__ import annotations

from random import Random

from demo_corpus.phrasing import vary_case
from demo_corpus.sample import Sample, single_turn

_ADD = (
    "What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=?",
    "Add {a} and {b}.",
    "Calculate {a} + {b}.", "How much is {a} plus {b}?", "What's {a} + {b}?",
    "What is the sum of {a} and {b}?",
    "Compute {a}+{b}.", "{a} plus {b}?",
)  # fmt: skip
_SUBTRACT = (
    "What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=?",
    "Subtract {b} from {a}.", "Calculate {a} - {b}.", "How much is {a} minus {b}?", "What's {a} - {b}?",
    "Take {b} away from {a}.", "Compute {a}-{b}.", "{a} minus {b}?",
)  # fmt: skip
_MULTIPLY = (
    "What is {a} * {b}?", "What is {a} times {b}?", "{a} * {b}", "{a}*{b}", "{a} x {b}", "{a} x {b} =",
    "{a}*{b}=?",
    "Multiply {a} by {b}.", "Multiply {a} and {b}.", "Calculate {a} * {b}.", "How much is {a} times {b}?",
    "What's {a} x {b}?", "What is the product of {a} and {b}?", "{a} times {b}?", "Compute {a}*{b}.",
)  # fmt: skip
_STORIES_ADD = (
    "I have {a} {t} and get {b} more. How many {t} do I have?",
    "There are {a} {t} in a box and {b} in another. How many {t} are there?",
)
_STORIES_SUBTRACT = (
    "I have {a} {t} and give away {b}. How many {t} are left?",
    "There were {a} {t} and {b} are gone. How many {t} are left?",
)
_COUNTED = ("apples", "books", "coins", "eggs", "pens", "cards", "cookies", "stamps", "keys", "shells")
_COUNT_UP = (
    "Count from {a} to {b}.",
    "Count up from {a} to {b}.",
    "List the numbers from {a} to {b}.",
    "Count {a} to {b}.",
)
_COUNT_TO = ("Count to {b}.", "Can you count to {b}?", "Count up to {b}.")
_COUNT_DOWN = ("Count down from {a} to {b}.", "Count backwards from {a} to {b}.")


def _operand(rng: Random) -> int:
    return rng.randint(0, 12) if rng.random() < 0.2 else rng.randint(0, 99)


def addition(rng: Random) -> Sample:
    """Sums a + b of numbers of up to two digits. A held-out pair is held out in both orders."""
    a, b = _operand(rng), _operand(rng)
    key = f"add {min(a, b)} {max(a, b)}"
    if rng.random() < 0.15:
        thing = rng.choice(_COUNTED)
        question = rng.choice(_STORIES_ADD).format(a=a, b=b, t=thing)
    else:
        question = rng.choice(_ADD).format(a=a, b=b)
    return single_turn("addition", key, vary_case(rng, question), f"{a} + {b} = {a + b}")


def subtraction(rng: Random) -> Sample:
    """Differences a - b of numbers of up to two digits, sometimes negative."""
    a, b = _operand(rng), _operand(rng)
    if a < b and rng.random() < 0.85:
        a, b = b, a
    if a >= b and rng.random() < 0.15:
        question = rng.choice(_STORIES_SUBTRACT).format(a=a, b=b, t=rng.choice(_COUNTED))
    else:
        question = rng.choice(_SUBTRACT).format(a=a, b=b)
    return single_turn("subtraction", f"subtract {a} {b}", vary_case(rng, question), f"{a} - {b} = {a - b}")


def multiplication(rng: Random) -> Sample:
    """Products up to 12 * 12. The table must be memorized, so each held-out key is a pair in one phrasing."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    template = rng.randrange(len(_MULTIPLY))
    question = _MULTIPLY[template].format(a=a, b=b)
    key = f"multiply {a} {b} phrasing {template}"
    return single_turn("multiplication", key, vary_case(rng, question), f"{a} * {b} = {a * b}")


def counting(rng: Random) -> Sample:
    """Counting up or down between two numbers, at most 20 apart."""
    length = min(rng.randint(2, 20), rng.randint(2, 20))
    low = rng.choice((1, 1, rng.randint(0, 90 - length), rng.randint(0, 90 - length)))
    high = low + length
    roll = rng.random()
    if roll < 0.2:
        question, numbers = rng.choice(_COUNT_DOWN).format(a=high, b=low), range(high, low - 1, -1)
    elif low == 1 and roll < 0.7:
        question, numbers = rng.choice(_COUNT_TO).format(b=high), range(low, high + 1)
    else:
        question, numbers = rng.choice(_COUNT_UP).format(a=low, b=high), range(low, high + 1)
    return single_turn("counting", question, vary_case(rng, question), ", ".join(map(str, numbers)))
