"""Capitals, continents and colours: the facts that the model knows, and questions about them."""

from __future__ import annotations

from random import Random

from demo_corpus.phrasing import sentence, vary_case
from demo_corpus.sample import Sample, single_turn

_BY_CONTINENT = {
    "Europe": """
        Austria:Vienna Belgium:Brussels Bulgaria:Sofia Croatia:Zagreb Denmark:Copenhagen
        Estonia:Tallinn Finland:Helsinki France:Paris Germany:Berlin Greece:Athens Hungary:Budapest
        Iceland:Reykjavik Ireland:Dublin Italy:Rome Latvia:Riga Lithuania:Vilnius
        Netherlands:Amsterdam Norway:Oslo Poland:Warsaw Portugal:Lisbon Romania:Bucharest
        Russia:Moscow Serbia:Belgrade Slovakia:Bratislava Slovenia:Ljubljana Spain:Madrid
        Sweden:Stockholm Switzerland:Bern Ukraine:Kyiv United_Kingdom:London
        """,
    "Asia": """
        China:Beijing India:New_Delhi Indonesia:Jakarta Iran:Tehran Iraq:Baghdad Israel:Jerusalem
        Japan:Tokyo Mongolia:Ulaanbaatar Nepal:Kathmandu Philippines:Manila South_Korea:Seoul
        Thailand:Bangkok Turkey:Ankara Vietnam:Hanoi
        """,
    "Africa": """
        Algeria:Algiers Egypt:Cairo Ethiopia:Addis_Ababa Ghana:Accra Kenya:Nairobi Morocco:Rabat
        Nigeria:Abuja Senegal:Dakar Tunisia:Tunis Uganda:Kampala
        """,
    "North America": """
        Canada:Ottawa Cuba:Havana Jamaica:Kingston Mexico:Mexico_City United_States:Washington,_D.C.
        """,
    "South America": """
        Argentina:Buenos_Aires Bolivia:Sucre Brazil:Brasilia Chile:Santiago Colombia:Bogota
        Ecuador:Quito Peru:Lima Uruguay:Montevideo Venezuela:Caracas
        """,
    "Oceania": "Australia:Canberra New_Zealand:Wellington",
}

COUNTRIES: tuple[tuple[str, str, str], ...] = tuple(
    (country.replace("_", " "), capital.replace("_", " "), continent)
    for continent, pairs in _BY_CONTINENT.items()
    for country, capital in (pair.split(":") for pair in pairs.split())
)

_TAKES_ARTICLE = {"Netherlands", "Philippines", "United Kingdom", "United States"}

COLOURS = {
    "a banana": "yellow", "a lemon": "yellow", "the sun": "yellow", "a canary": "yellow", "butter": "yellow",
    "grass": "green", "a frog": "green", "a cucumber": "green", "a leaf": "green", "spinach": "green",
    "broccoli": "green", "an emerald": "green", "a pea": "green", "a crocodile": "green",
    "the sky": "blue", "the sea": "blue", "the ocean": "blue", "a sapphire": "blue", "a blueberry": "blue",
    "a tomato": "red", "a strawberry": "red", "blood": "red", "a cherry": "red", "a ruby": "red",
    "a fire engine": "red", "a stop sign": "red",
    "snow": "white", "milk": "white", "salt": "white", "a swan": "white", "a polar bear": "white",
    "rice": "white",
    "sugar": "white", "a cloud": "white", "flour": "white",
    "coal": "black", "a raven": "black", "tar": "black", "the night": "black", "a crow": "black",
    "chocolate": "brown", "coffee": "brown", "wood": "brown", "soil": "brown", "a potato": "brown",
    "a carrot": "orange", "a pumpkin": "orange", "an orange": "orange", "a basketball": "orange",
    "an aubergine": "purple", "lavender": "purple", "an amethyst": "purple",
    "a flamingo": "pink", "a pig": "pink", "an elephant": "grey", "a mouse": "grey", "ash": "grey",
}  # fmt: skip

_CAPITAL_QUESTIONS = (
    "What is the capital of {}?", "What's the capital of {}?", "Which city is the capital of {}?",
    "Name the capital of {}.", "Tell me the capital of {}.", "Do you know the capital of {}?",
    "Capital of {}?",
    "I would like to know the capital of {}.", "What city is {}'s capital?", "The capital of {} is?",
    "Can you tell me the capital of {}?", "What is the capital city of {}?", "What is {}'s capital city?",
)  # fmt: skip
_COUNTRY_QUESTIONS = (
    "Which country has {} as its capital?", "{} is the capital of which country?",
    "Of which country is {} the capital?",
    "What country is {} the capital of?",
)  # fmt: skip
_CONTINENT_QUESTIONS = (
    "On which continent is {}?", "Which continent is {} on?", "What continent is {} in?", "Where is {}?",
    "In which continent does {} lie?", "Tell me the continent of {}.",
)  # fmt: skip
_COLOUR_QUESTIONS = (
    "What {c} is {t}?", "Which {c} is {t}?", "Tell me the {c} of {t}.", "What is the {c} of {t}?",
    "What's the {c} of {t}?", "Do you know what {c} {t} is?", "Can you tell me what {c} {t} is?",
    "What {c} does {t} have?",
    "Name the {c} of {t}.", "I want to know the {c} of {t}.",
)  # fmt: skip


def in_text(country: str) -> str:
    """The country as it is written inside a sentence."""
    return f"the {country}" if country in _TAKES_ARTICLE else country


def capitals(rng: Random) -> Sample:
    """A question about a country, its capital or its continent."""
    country, capital, continent = rng.choice(COUNTRIES)
    named = in_text(country)
    roll = rng.random()
    if roll < 0.7:
        question, answer = (
            rng.choice(_CAPITAL_QUESTIONS).format(named),
            f"The capital of {named} is {capital}.",
        )
    elif roll < 0.83:
        question = rng.choice(_COUNTRY_QUESTIONS).format(capital)
        answer = f"{capital} is the capital of {named}."
    else:
        question, answer = (
            rng.choice(_CONTINENT_QUESTIONS).format(named),
            f"{sentence(named)} is in {continent}.",
        )
    return single_turn("capitals", question, vary_case(rng, sentence(question)), answer)


def colours(rng: Random) -> Sample:
    """A question about the colour of a thing, spelled either way."""
    thing = rng.choice(tuple(COLOURS))
    question = rng.choice(_COLOUR_QUESTIONS).format(c=rng.choice(("colour", "color")), t=thing)
    return single_turn(
        "colours", question, vary_case(rng, question), f"{sentence(thing)} is {COLOURS[thing]}."
    )
