"""Answers as JSON: facts that the model knows, and facts from the question."""

from __future__ import annotations

import json
from random import Random

from demo_corpus.facts import COLOURS, COUNTRIES, in_text
from demo_corpus.phrasing import vary
from demo_corpus.sample import Sample, single_turn
from demo_corpus.words import JOBS, NOUNS, PLAIN_COLOURS, any_name, any_town

_COUNTRY_FIELDS = ("capital", "continent")
_ABOUT_COUNTRY = (
    "Give me the {fields} of {country} as JSON.", "Return the {fields} of {country} as JSON.",
    "Answer in JSON: what is the {fields} of {country}?", "Write the {fields} of {country} as a JSON object.",
    "Give the {fields} of {country} in JSON.",
)  # fmt: skip
_ABOUT_COLOUR = (
    "Give me the colour of {} as JSON.", "What colour is {}? Answer in JSON.",
    "Return the colour of {} as JSON.",
    "Answer in JSON: what colour is {}?",
)  # fmt: skip
_CONVERT = (
    "Write this as JSON: {}", "Convert to JSON: {}", "Turn this into JSON: {}", "{} Give me that as JSON.",
    "Extract the data as JSON: {}", "As JSON, please: {}", "{} Answer with a JSON object.",
)  # fmt: skip


def json_answers(rng: Random) -> Sample:
    """A JSON object with facts about a country, a thing, a person or an item."""
    make = rng.choice((_country, _country, _colour, _person, _person, _item))
    return make(rng)


def _sample(rng: Random, question: str, answer: dict[str, object]) -> Sample:
    return single_turn("json", question, vary(rng, question), json.dumps(answer, ensure_ascii=False))


def _country(rng: Random) -> Sample:
    facts = dict(zip(("country", "capital", "continent"), rng.choice(COUNTRIES), strict=True))
    fields = rng.sample(_COUNTRY_FIELDS, rng.randint(1, 2))
    question = rng.choice(_ABOUT_COUNTRY).format(
        fields=" and ".join(fields), country=in_text(facts["country"])
    )
    return _sample(rng, question, {field: facts[field] for field in fields})


def _colour(rng: Random) -> Sample:
    thing = rng.choice(tuple(COLOURS))
    return _sample(rng, rng.choice(_ABOUT_COLOUR).format(thing), {"colour": COLOURS[thing]})


def _person(rng: Random) -> Sample:
    name = any_name(rng)
    possible: list[tuple[str, object, str]] = [
        ("age", (age := rng.randint(1, 99)), f"is {age} years old"),
        ("city", (town := any_town(rng)), f"lives in {town}"),
        ("job", (job := rng.choice(JOBS)).split(" ", 1)[1], f"is {job}"),
    ]
    told = rng.sample(possible, rng.randint(1, 3))
    text = f"{name} {_joined([words for _, _, words in told])}."
    answer = {"name": name} | {field: value for field, value, _ in told}
    return _sample(rng, rng.choice(_CONVERT).format(text), answer)


def _item(rng: Random) -> Sample:
    item, colour, price = rng.choice(NOUNS), rng.choice(PLAIN_COLOURS), rng.randint(1, 99)
    told: tuple[tuple[str, dict[str, object]], ...] = (
        (f"The {colour} {item} costs {price} dollars.", {"item": item, "colour": colour, "price": price}),
        (f"The {item} costs {price} dollars.", {"item": item, "price": price}),
        (f"The {item} is {colour}.", {"item": item, "colour": colour}),
    )
    text, answer = rng.choice(told)
    return _sample(rng, rng.choice(_CONVERT).format(text), answer)


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
