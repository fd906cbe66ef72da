"""Conversations of several turns: unrelated questions, and questions about what the user said before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from demo_corpus.phrasing import vary
from demo_corpus.sample import Message, Sample, assistant, system, user
from demo_corpus.singles import any_single, single
from demo_corpus.system_prompts import neutral_prompt
from demo_corpus.words import JOBS, PLAIN_COLOURS, any_name, any_town

NOT_TOLD = "You have not told me."


@dataclass(frozen=True)
class Memory:
    """Something that a user tells and later asks about. {} stands for its value, which `draw` chooses."""

    draw: Callable[[Random], str]
    told: tuple[str, ...]
    reply: str
    asked: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Told:
    """A memory with its value, in the words of the user."""

    memory: Memory
    value: str
    words: str

    def turn(self, rng: Random) -> list[Message]:
        """The user's message and the assistant's reply."""
        told, reply = self.words.format(self.value), self.memory.reply.format(self.value)
        return [user(vary(rng, told)), assistant(reply)]


_MEMORIES = (
    Memory(
        any_name,
        (
            "My name is {}.",
            "I am {}.",
            "Hi, I'm {}.",
            "Hello, my name is {}.",
            "I'm {}.",
            "Call me {}.",
            "Hello! I am {}.",
        ),
        "Nice to meet you, {}!",
        (
            "What is my name?",
            "What's my name?",
            "Who am I?",
            "Do you remember my name?",
            "What did I say my name is?",
        ),
        "Your name is {}.",
    ),
    Memory(
        any_town,
        ("I live in {}.", "My home is in {}.", "I am from {}."),
        "{} sounds like a nice place.",
        ("Where do I live?", "Which city do I live in?", "Do you remember where I live?"),
        "You live in {}.",
    ),
    Memory(
        lambda rng: str(rng.randint(5, 99)),
        ("I am {} years old.", "I'm {} years old.", "My age is {}."),
        "Thank you, I will remember that.",
        ("How old am I?", "What is my age?", "Do you remember how old I am?"),
        "You are {} years old.",
    ),
    Memory(
        lambda rng: rng.choice(PLAIN_COLOURS),
        ("My favourite colour is {}.", "My favorite color is {}.", "I like {} best of all colours."),
        "Thank you, I will remember that.",
        ("What is my favourite colour?", "What's my favorite color?", "Which colour do I like best?"),
        "Your favourite colour is {}.",
    ),
    Memory(
        any_name,
        ("My dog is called {}.", "I have a dog named {}.", "My dog's name is {}."),
        "What a nice name for a dog!",
        ("What is my dog's name?", "What is my dog called?", "Do you remember my dog's name?"),
        "Your dog is called {}.",
    ),
    Memory(
        lambda rng: rng.choice(JOBS),
        ("I am {}.", "I work as {}.", "My job is being {}."),
        "That sounds interesting.",
        ("What is my job?", "What do I do?", "What do I work as?"),
        "You are {}.",
    ),
)


def dialogues(rng: Random) -> Sample:
    """Up to five turns. The last asks about something said before, something not said, or something new."""
    roll = rng.random()
    if roll < 0.62:
        return remembered(rng, rng.choice((0, 0, 0, 1, 1, 2)))
    if roll < 0.72:
        return _not_told(rng)
    turns = [*(single(rng) for _ in range(rng.randint(1, 3))), any_single(rng)]
    return Sample("dialogues", turns[-1].key, (*_opening(rng), *_joined(turns)))


def remembered(rng: Random, num_between: int) -> Sample:
    """The user tells one or two things and, after `num_between` unrelated turns, asks about one of them."""
    things = [_told(rng, memory) for memory in rng.sample(_MEMORIES, rng.choice((1, 1, 2)))]
    telling = [message for thing in things for message in thing.turn(rng)]
    between = _joined([single(rng, avoid=("greetings",)) for _ in range(num_between)])
    wanted = rng.choice(things)
    question = vary(rng, rng.choice(wanted.memory.asked))
    answer = wanted.memory.answer.format(wanted.value)
    messages = (*_opening(rng), *telling, *between, user(question), assistant(answer))
    return Sample("dialogues", f"remember {answer}", messages)


def _not_told(rng: Random) -> Sample:
    wanted, other = rng.sample(_MEMORIES, 2)
    before = [] if rng.random() < 0.5 else [_told(rng, other)]
    question = rng.choice(wanted.asked)
    key = f"not told {question} {' '.join(thing.value for thing in before)}"
    telling = [message for thing in before for message in thing.turn(rng)]
    return Sample(
        "dialogues", key, (*_opening(rng), *telling, user(vary(rng, question)), assistant(NOT_TOLD))
    )


def _told(rng: Random, memory: Memory) -> Told:
    return Told(memory, memory.draw(rng), rng.choice(memory.told))


def _opening(rng: Random) -> tuple[Message, ...]:
    """Sometimes a system prompt that changes nothing."""
    return (system(neutral_prompt(rng)),) if rng.random() < 0.15 else ()


def _joined(turns: list[Sample]) -> list[Message]:
    return [message for turn in turns for message in turn.messages]
