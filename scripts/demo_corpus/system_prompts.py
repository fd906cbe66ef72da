"""System prompts: those that change nothing, and those that ask for another name, ending, accent or case."""

from __future__ import annotations

from random import Random

from demo_corpus.facts import COLOURS, COUNTRIES, in_text
from demo_corpus.phrasing import vary
from demo_corpus.sample import Sample, assistant, single_turn, system, user
from demo_corpus.singles import single, trainable
from demo_corpus.words import any_name, invented_word

_NEUTRAL = (
    "You are a helpful assistant.", "You are a helpful assistant", "You are a helpful, honest assistant.",
    "Be helpful.", "You are an assistant.", "Answer the user's questions.", "You are a friendly assistant.",
    "Be brief.", "You are a chatbot.", "Be polite and helpful.",
    "You are a careful assistant. Answer in English.",
    "You are a helpful AI assistant.", "Help the user.", "Answer briefly.",
)  # fmt: skip
_CAPITALS = (
    "Answer in capital letters.",
    "Write in capital letters only.",
    "Always answer in upper case.",
    "SHOUT.",
)
_PIRATE = ("You are a pirate.", "Talk like a pirate.", "Speak like a pirate.", "You are a friendly pirate.")
_ENDING = ("End every answer with {}.", "Always end your answer with {}.", "Finish each answer with {}.")
_ONE_WORD = ("Answer with one word.", "Answer in one word.", "Reply with a single word.")
_NAMED = ("Your name is {}.", "You are {}.", "You are {}, a helpful assistant.", "You are called {}.")
_ASK_NAME = (
    "What is your name?",
    "Who are you?",
    "What's your name?",
    "What are you called?",
    "Tell me your name.",
)
_USER_NAMED = ("The user is called {}.", "The user's name is {}.", "You are talking to {}.")
_ASK_USER = ("What is my name?", "Who am I?", "What's my name?", "Do you know my name?")
_SECRET = ("The password is {}.", "The secret word is {}.", "The code is {}.")
_TOO_LONG = ("echo", "counting", "json", "spelling")


def neutral_prompt(rng: Random) -> str:
    """A system prompt that asks for nothing in particular."""
    return rng.choice(_NEUTRAL)


def system_prompts(rng: Random) -> Sample:
    """A system prompt and a question; held out by the question or, if that never changes, by the name."""
    make = rng.choice(
        (_neutral, _neutral, _capitals, _pirate, _ending, _one_word, _named, _user_named, _secret)
    )
    return make(rng)


def _sample(rng: Random, key: str, instruction: str, question: str, answer: str) -> Sample:
    if rng.random() < 0.25 and not instruction.startswith("You are"):
        instruction = f"You are a helpful assistant. {instruction}"
    return Sample("system_prompts", f"system {key}", (system(instruction), user(question), assistant(answer)))


def _neutral(rng: Random) -> Sample:
    plain = single(rng)
    return Sample("system_prompts", f"neutral {plain.key}", (system(neutral_prompt(rng)), *plain.messages))


def _capitals(rng: Random) -> Sample:
    plain = single(rng, avoid=_TOO_LONG)
    return _sample(rng, f"upper {plain.key}", rng.choice(_CAPITALS), plain.question, plain.answer.upper())


def _pirate(rng: Random) -> Sample:
    plain = single(rng, avoid=_TOO_LONG)
    return _sample(rng, f"pirate {plain.key}", rng.choice(_PIRATE), plain.question, f"Arr! {plain.answer}")


def _ending(rng: Random) -> Sample:
    plain = single(rng, avoid=_TOO_LONG)
    ending = rng.choice(("Over", "Amen", "Thanks", "Done", "Bye", "Yes", invented_word(rng).capitalize()))
    instruction = rng.choice(_ENDING).format(rng.choice(("{}", "'{}'", "the word {}")).format(ending))
    return _sample(rng, f"ending {plain.key}", instruction, plain.question, f"{plain.answer} {ending}.")


def _one_word(rng: Random) -> Sample:
    fact = trainable(rng, _bare_fact)
    instruction = rng.choice(_ONE_WORD)
    return _sample(rng, f"one word {instruction} {fact.key}", instruction, fact.question, fact.answer)


def _bare_fact(rng: Random) -> Sample:
    if rng.random() < 0.5:
        country, capital, _ = rng.choice(COUNTRIES)
        question, answer = f"What is the capital of {in_text(country)}?", capital
    else:
        thing = rng.choice(tuple(COLOURS))
        question, answer = f"What colour is {thing}?", COLOURS[thing].capitalize()
    return single_turn("system_prompts", question, vary(rng, question), answer)


def _named(rng: Random) -> Sample:
    name = any_name(rng)
    question = vary(rng, rng.choice(_ASK_NAME))
    return _sample(rng, f"named {name}", rng.choice(_NAMED).format(name), question, f"My name is {name}.")


def _user_named(rng: Random) -> Sample:
    name = any_name(rng)
    question = vary(rng, rng.choice(_ASK_USER))
    return _sample(
        rng, f"user {name}", rng.choice(_USER_NAMED).format(name), question, f"Your name is {name}."
    )


def _secret(rng: Random) -> Sample:
    told = rng.choice(_SECRET)
    word = rng.choice((invented_word(rng), str(rng.randint(1000, 9999))))
    subject = told.split(" is ")[0].lower()
    question = vary(rng, rng.choice(("What is {}?", "Tell me {}.", "Do you know {}?")).format(subject))
    return _sample(rng, f"secret {word}", told.format(word), question, f"{told.split(' is ')[0]} is {word}.")
